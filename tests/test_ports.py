"""--publish: ports of a command that are others of the host's; what is told of them, and where that cannot be."""
import errno
import signal
import socket
import subprocess
import sys
import time

import pytest

import udocker as program_under_test
from cluster import free_ports
from conftest import need, working
from program import Program
from test_build import LISTENED
from test_processes import PATIENCE, assert_all_ended

SERVER = ["sh", "-c", "mkdir -p /tmp/www; echo hello > /tmp/www/index.html; httpd -f -p 80 -h /tmp/www"]
FETCH = "wget -q -O - http://127.0.0.1:%d/"


@pytest.fixture
def port():
    return free_ports(1)[0]


def fetched(port, address="127.0.0.1"):
    """What a server at a port of the host's sends, once it listens."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            with socket.create_connection((address, port), timeout=PATIENCE) as connection:
                connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
                return b"".join(iter(lambda: connection.recv(4096), b"")).split(b"\r\n\r\n")[1]
        except ConnectionRefusedError:
            assert time.monotonic() < deadline
            time.sleep(0.02)


@pytest.fixture
def serving(namespace_box, port):
    """Starts a server in the background: a function of options, in which the port of the host's is put."""
    def start(*options):
        namespace_box.ok("run", "-d", *[option.replace("HOST", str(port)) for option in options], "busybox", *SERVER)
    yield start
    namespace_box.ok("stop", "-t", "1", "busybox")
    namespace_box.ok("wait", "busybox")
    assert_all_ended("/tmp/www")


def test_a_server_at_another_port(namespace_box, serving, port):
    """And at a low one, which no plain user has. A client beside it finds it where it thinks it is."""
    serving("--publish=HOST:80")
    assert fetched(port) == b"hello\n"
    assert namespace_box.ok("exec", "busybox", "sh", "-c", FETCH % 80).out == "hello\n"
    assert namespace_box.ok("exec", "busybox", "sh", "-c", FETCH % port).out == "hello\n"
    assert namespace_box.ok("port", "busybox").out == "80/tcp -> 0.0.0.0:%d\n" % port
    assert namespace_box.ok("port", "busybox", "80").out == "0.0.0.0:%d\n" % port
    shown = namespace_box.ok("ps", "--format", "{{.Names}} {{.Ports}}").out.splitlines()
    assert "busybox 0.0.0.0:%d->80/tcp" % port in shown
    for word in "81", "80/udp", "eighty", "":
        assert namespace_box("port", "busybox", word).status == 1


def test_a_server_at_one_address_alone(namespace_box, serving, port):
    serving("-p", "127.0.0.1:HOST:80", "--user=1000")
    assert fetched(port) == b"hello\n"
    with socket.socket() as elsewhere:
        assert elsewhere.connect_ex(("127.0.0.2", port)) == errno.ECONNREFUSED
    assert namespace_box.ok("exec", "busybox", "sh", "-c", FETCH % 80).out == "hello\n"
    assert namespace_box.ok("port", "busybox", "80").out == "127.0.0.1:%d\n" % port


def test_ports_that_are_to_be_found(namespace_box):
    """The same one where that can be had, else another, and it is told which."""
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        taken.listen(1)
        number = taken.getsockname()[1]
        told = namespace_box.ok("run", "-p", "%d" % number, "busybox", "true").err
    words = told.split()
    assert words[:2] == ["udocker:", "port"] and words[2] == "%d/tcp" % number and int(words[-1]) not in (0, number)
    told = namespace_box.ok("run", "-p", "%d" % number, "busybox", "true").err
    assert told == "udocker: port %d/tcp is the host's %d\n" % (number, number)


def test_all_ports_of_an_image(namespace_box, tmp_path, port):
    program = Program(tmp_path)
    namespace_box.ok("export", "-o", tmp_path / "tree.tar", "busybox")
    program.ok("import", "-c", "EXPOSE 80 53/udp 9/sctp %d" % port, tmp_path / "tree.tar", "exposing:1")
    result = program.with_env(UDOCKER_DEFAULT_EXECUTION_MODE="N1").ok(
        "run", "--rm", "-P", "--expose=54/udp", "-p", "%d:80" % port, "exposing:1", "sh", "-c",
        "httpd -p 80 -h /etc; wget -q -O - http://127.0.0.1/passwd | grep -c root")
    told = result.err.splitlines()
    found = {line.split()[2]: line.split()[-1] for line in told if " is the host's " in line}
    assert set(found) == {"%d/tcp" % port, "53/udp", "54/udp"} and found["%d/tcp" % port] != str(port), told
    assert "9/sctp: is exposed, and cannot be published" in result.err and result.out == "1\n"


def test_a_port_that_another_program_has(box, port):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen(1)
        result = box("run", "-p", "%d:80" % port, "busybox", "true")
    assert result.status == 125 and "port %d of the host: Address already in use" % port in result.err


def test_a_port_that_is_roots(box):
    if program_under_test.Host.sysctl("net.ipv4.ip_unprivileged_port_start") not in ("", "1024"):
        pytest.skip("here others are root's")
    result = box.ok("run", "-p", "80:80", "busybox", "echo", "runs")
    assert result.out == "runs\n"
    assert "a plain user has the host's ports from 1024 on, as in --publish=8080:80\n" in result.err


def test_the_same_port_needs_nothing(box, port):
    result = box.ok("run", "-p", "%d:%d" % (port, port), "busybox", "echo", "here")
    assert (result.out, result.err) == ("here\n", "")


def test_modes_that_map_none(containers, mode, port):
    """It is told, and the command is run. Where nobody chose a mode it is run in one that can."""
    result = containers.with_env(UDOCKER_DEFAULT_EXECUTION_MODE=mode).ok("run", "-p", "%d:80" % port, "busybox", "true")
    proot = program_under_test.read_file(need("proot"), 1 << 28) if mode == "P1" else b""
    assert ("mode %s maps no ports here" % mode in result.err) == (mode != "N1" and b"--netcoop" not in proot)
    assert (result.err == "") == (mode == "N1")


def test_where_nobody_chose_a_mode(containers, broken_modes, port):
    working("N1", broken_modes)
    result = containers.ok("run", "-p", "127.0.0.1:%d:80" % port, "busybox", "sh", "-c",
                           "httpd -p 80 -h /etc && wget -q -O - http://127.0.0.1/passwd | grep -c root")
    assert (result.out, result.err) == ("1\n", "")


def test_where_nobody_can_listen_to_calls(namespace_box, port):
    number = program_under_test.SystemCalls(program_under_test.Host().machine).number("seccomp")
    entry = [sys.executable, "-c", LISTENED, str(number)] + namespace_box.entry
    result = Program(namespace_box.home, entry, namespace_box.env).ok(
        "run", "-p", "%d:80" % port, "busybox", "echo", "a")
    assert result.out == "a\n" and "no port is mapped: seccomp: Device or resource busy" in result.err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_of_a_server(namespace_box, port, number):
    token = "/tmp/of-%d" % port
    command = ["sh", "-c", "mkdir -p {0}; echo hello > {0}/index.html; httpd -f -p 80 -h {0}".format(token)]
    with namespace_box.start("run", "-p", "%d:80" % port, "busybox", *command) as process:
        assert fetched(port) == b"hello\n"
        process.send_signal(number)
        process.wait(PATIENCE)
    assert_all_ended(token)
    assert_all_ended("%d:80" % port)        # udocker's own


LOOK = "grep -l of-the-host /proc/[0-9]*/environ 2>/dev/null; ls /proc/[0-9]*/fd >/dev/null 2>&1; echo looked"


def test_nobody_looks_into_who_maps_ports(namespace_box, port):
    """A process of udocker's, with the environment of the host."""
    result = namespace_box.ok("run", "-p", "%d:80" % port, "busybox", "sh", "-c", LOOK, env={"SECRET": "of-the-host"})
    assert result.out == "looked\n"


CALLER = r"""
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static int only;

union name { struct sockaddr any; struct sockaddr_in four; struct sockaddr_in6 six; };

static socklen_t named(union name *name, const char *address, int port)
{
    memset(name, 0, sizeof *name);
    name->any.sa_family = strchr(address, ':') ? AF_INET6 : AF_INET;
    name->four.sin_port = htons(port);      /* at the same place in both */
    inet_pton(name->any.sa_family, address,
              strchr(address, ':') ? (void *)&name->six.sin6_addr : (void *)&name->four.sin_addr);
    return strchr(address, ':') ? sizeof name->six : sizeof name->four;
}

static int tell(int kind, const char *what, const char *address, int port)
{
    union name name;
    char text[64];
    int result, number = errno = 0;
    socklen_t size = named(&name, address, port), room = sizeof name;
    int file = socket(name.any.sa_family, kind, 0);
    setsockopt(file, IPPROTO_IPV6, IPV6_V6ONLY, &only, sizeof only);
    result = *what == 'b' ? bind(file, &name.any, size) : connect(file, &name.any, size);
    number = result ? errno : 0;
    if (ntohs(name.four.sin_port) != port)
        printf("changed ");
    if (!number)
        *what == 'b' ? getsockname(file, &name.any, &room) : getpeername(file, &name.any, &room);
    inet_ntop(name.any.sa_family, name.any.sa_family == AF_INET6 ? (void *)&name.six.sin6_addr
              : (void *)&name.four.sin_addr, text, sizeof text);
    if (number)
        printf("%s %s: %s\n", what, address, strerror(number));
    else
        printf("%s %s: %s %d\n", what, address, text, ntohs(name.four.sin_port));
    return file;
}

static void *as_a_thread(void *unused)
{
    only = 1;
    close(tell(SOCK_DGRAM, "bind", "::", 80));
    only = 0;
    return unused;
}

int main(void)
{
    const char *addresses[] = {"0.0.0.0", "127.0.0.1", "::", "::1", "::ffff:127.0.0.1", "127.9.9.9"};
    pthread_t thread;
    prctl(PR_SET_DUMPABLE, 0);
    setbuf(stdout, NULL);
    for (int number = 0; number < 6; number++) {
        close(tell(SOCK_DGRAM, "bind", addresses[number], 80));
        close(tell(SOCK_DGRAM, "connect", addresses[number], 80));
    }
    close(tell(SOCK_DGRAM, "bind", "192.0.2.77", 80));
    pthread_create(&thread, NULL, as_a_thread, NULL);
    pthread_join(thread, NULL);
    close(tell(SOCK_STREAM, "bind", "0.0.0.0", 80));
    int server = tell(SOCK_STREAM, "bind", "0.0.0.0", 81);
    listen(server, 5);
    close(tell(SOCK_STREAM, "connect", "127.0.0.1", 81));
    int file = tell(SOCK_STREAM | SOCK_NONBLOCK, "connect", "127.0.0.1", 81), error = -1;
    struct pollfd wanted = {.fd = file, .events = POLLOUT};
    socklen_t size = sizeof error;
    poll(&wanted, 1, 10000);
    getsockopt(file, SOL_SOCKET, SO_ERROR, &error, &size);
    printf("later %d\n", error);
    close(tell(SOCK_STREAM, "connect", "127.0.0.1", 82));
    struct sockaddr_un local = {.sun_family = AF_UNIX, .sun_path = "/tmp/PP"};
    unlink(local.sun_path);
    printf("local %d\n", bind(socket(AF_UNIX, SOCK_STREAM, 0), (void *)&local, sizeof local));
    printf("nowhere %d\n", bind(socket(AF_INET, SOCK_STREAM, 0), (void *)8, 16) && errno == EFAULT);
    printf("short %d\n", bind(socket(AF_INET, SOCK_STREAM, 0), (void *)&local, 2) && errno == EINVAL);
    return 0;
}
"""


@pytest.mark.parametrize("user", ["0", "1000"])
@pytest.mark.parametrize("address", ["", "127.0.0.2"])
def test_addresses_of_calls(namespace_box, tmp_path, address, user):
    """As the sockets have them afterwards, and not the memory of who called, which nobody else may look into."""
    need("gcc")
    (tmp_path / "caller.c").write_text(CALLER)
    subprocess.check_call(["gcc", "-static", "-pthread", "-o", str(tmp_path / "caller"), str(tmp_path / "caller.c")])
    udp, tcp, unused = free_ports(3)
    ports = ["-p%s%d:%s" % (address and address + ":", *pair) for pair in (
        (udp, "80/udp"), (tcp, "81"), (unused, "82"))]
    out = namespace_box.ok("run", "--user=" + user, *ports, "-v", "%s:/here" % tmp_path, "busybox", "/here/caller").out
    six = "::ffff:" + address if address else ""
    expected = [
        ("bind 0.0.0.0", address or "0.0.0.0"), ("connect 0.0.0.0", address or "127.0.0.1"),
        ("bind 127.0.0.1", "127.0.0.1"), ("connect 127.0.0.1", "127.0.0.1"),
        ("bind ::", six or "::"), ("connect ::", six or "::1"), ("bind ::1", "::1"), ("connect ::1", "::1"),
        ("bind ::ffff:127.0.0.1", "::ffff:127.0.0.1"), ("connect ::ffff:127.0.0.1", "::ffff:127.0.0.1"),
        ("bind 127.9.9.9", "127.9.9.9"), ("connect 127.9.9.9", "127.9.9.9")]
    lines = ["%s: %s %d" % (call, name, udp) for call, name in expected]
    lines.append("bind 192.0.2.77: " + ("%s %d" % (address, udp) if address else "Cannot assign requested address"))
    lines.append("bind ::: %s %d" % ("::1" if address else "::", udp))
    lines.append("bind 0.0.0.0: Permission denied")             # the other protocol
    lines.append("bind 0.0.0.0: %s %d" % (address or "0.0.0.0", tcp))
    lines.append("connect 127.0.0.1: %s %d" % (address or "127.0.0.1", tcp))
    lines += ["connect 127.0.0.1: Operation now in progress", "later 0", "connect 127.0.0.1: Connection refused",
              "local 0", "nowhere 1", "short 1"]
    assert out.splitlines() == lines


def test_numbers_that_others_have_too(namespace_box):
    """A port of the host's may have the number of another one of the command's."""
    first, second, third = sorted(free_ports(3))
    script = ("httpd -p {0} -h /etc; httpd -p {1} -h /tmp; "
              "for n in 1 2 3; do wget -q -O - http://127.0.0.1:{0}/passwd; done; netstat -ltn").format(first, second)
    result = namespace_box.ok("run", "--init", "-p", "%d:%d" % (second, first), "-p", "%d:%d" % (third, second),
                              "busybox", "sh", "-c", script)
    assert result.out.count("root:x:0:0") == 3
    assert ":%d " % second in result.out and ":%d " % third in result.out and ":%d " % first not in result.out


def test_a_server_for_itself_alone(namespace_box, port):
    """A client beside it finds what listens at 127.0.0.1, wherever the port is published."""
    out = namespace_box.ok("run", "--init", "-p", "127.0.0.2:%d:80" % port, "busybox", "sh", "-c",
                           "httpd -p 127.0.0.1:80 -h /etc; wget -q -O - http://127.0.0.1/passwd | head -n 1").out
    assert out == "root:x:0:0:root:/root:/bin/sh\n"


def test_without_the_hosts_directories(namespace_box, port):
    result = namespace_box.ok("run", "--init", "--nosysdirs", "-p", "%d:80" % port, "busybox", "sh", "-c",
                              "httpd -p 80 -h /etc; wget -q -O - http://127.0.0.1/passwd | head -n 1")
    assert (result.out, result.err) == ("root:x:0:0:root:/root:/bin/sh\n", "")


def test_what_is_told_of_ports_that_are_not_mapped(containers, broken_modes, port):
    """port knows those that are, alone."""
    box = containers.with_env(UDOCKER_DEFAULT_EXECUTION_MODE=working("P1", broken_modes))
    if b"--netcoop" in program_under_test.read_file(need("proot"), 1 << 28):
        pytest.skip("this PRoot maps ports")
    other = free_ports(1)[0]
    box.ok("run", "-d", "-p", "%d:80" % port, "-p", "%d:%d" % (other, other), "busybox", "sleep", "60")
    try:
        assert box.ok("port", "busybox").out == "%d/tcp -> 0.0.0.0:%d\n" % (other, other)
    finally:
        box.ok("kill", "busybox")
        box.ok("wait", "busybox")
    assert box.ok("port", "busybox").out == ""


def test_no_network_has_no_ports(namespace_box):
    result = namespace_box.ok("run", "--net=none", "-p", "80", "busybox", "echo", "here")
    assert result.out == "here\n"
    assert result.err == "udocker: warning: --publish: nobody comes to a command without network\n"


@pytest.mark.parametrize("text, ports", [
    ("80", [(80, 0, "", "tcp")]), ("8080:80", [(80, 8080, "", "tcp")]), ("53:53/udp", [(53, 53, "", "udp")]),
    ("127.0.0.1:8080:80", [(80, 8080, "127.0.0.1", "tcp")]), ("127.0.0.1::80", [(80, 0, "127.0.0.1", "tcp")]),
    ("8080:80/TCP", [(80, 8080, "", "tcp")]), ("0:80", [(80, 0, "", "tcp")]),
    ("0.0.0.0:1:2", [(2, 1, "", "tcp")]), ("[::]:1:2", [(2, 1, "", "tcp")]),
    ("8000-8002:80-82", [(80, 8000, "", "tcp"), (81, 8001, "", "tcp"), (82, 8002, "", "tcp")]),
    ("7-8/tcp", [(7, 0, "", "tcp"), (8, 0, "", "tcp")]),
])
def test_what_is_written(text, ports):
    found = program_under_test.PublishedPort.parse_all(text)
    assert [(port.guest, port.host, port.address, port.protocol) for port in found] == ports
    again = [program_under_test.PublishedPort.parse_all(str(port))[0] for port in found]
    assert list(map(vars, again)) == list(map(vars, found))
