"""The contract of a transport, which pycurl and the curl executable hold alike."""
import glob
import os
import shutil
import signal
import socket
import subprocess
import time

import pytest

import udocker
from faulty_registry import CHUNKED, UNTIL_CLOSE, Answer, Site, redirect
from loopback import LoopbackServer, make_certificate
from program import in_main_thread
from proxies import Asked, Proxy

# libcurl's numbers
UNSUPPORTED_PROTOCOL, BAD_URL, UNKNOWN_HOST, NO_CONNECTION, PARTIAL_BODY = 1, 3, 6, 7, 18
TLS_FAILURE, EMPTY_ANSWER, RECEIVE_ERROR, UNTRUSTED_CERTIFICATE = 35, 52, 56, 60

SECRET = "hunter2-of-the-laboratory"


@pytest.fixture(params=["pycurl", "curl"])
def transport(request):
    """Each of the two transports."""
    if request.param == "pycurl":
        pytest.importorskip("pycurl")
        return udocker.PycurlTransport()
    executable = shutil.which("curl")
    if not executable:
        pytest.skip("curl is not installed")
    return udocker.CurlTransport(executable)


@pytest.fixture
def site():
    """A web server to talk to."""
    with Site() as server:
        yield server


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A certificate that nobody trusts."""
    return make_certificate(tmp_path_factory.mktemp("certificate"))


@pytest.fixture
def secure_site(certificate):
    """A web server with that certificate."""
    with Site(certificate) as server:
        server.always("/", Answer(200, b"secure"))
        yield server


def fetch(transport, url, **options):
    """The finished transfer."""
    transfer = udocker.Transfer(url, **options)
    transport.perform(transfer)
    return transfer


def failure(transport, url, **options):
    """The number of the error with which the transfer ends."""
    with pytest.raises(udocker.TransferError) as caught:
        fetch(transport, url, **options)
    return caught.value.code


# What comes back

def test_status_fields_and_body(transport, site):
    body = bytes(range(256)) * 1000
    fields = [("X-One", "1"), ("x-MANY", "a, b"), ("X-Many", "c"), ("X-Empty", "")]
    site.always("/thing", Answer(200, body, fields))
    transfer = fetch(transport, site.url + "/thing?q=1&r=%2F")
    assert (transfer.status, transfer.body) == (200, body)
    assert transfer.fields["x-one"] == ["1"]
    assert transfer.fields["x-many"] == ["a, b", "c"]
    assert transfer.fields["x-empty"] == [""]
    assert transfer.fields["content-length"] == [str(len(body))]
    assert site.requests[0].target == "/thing?q=1&r=%2F"


@pytest.mark.parametrize("status", [201, 204, 206, 304, 400, 401, 403, 404, 416, 429, 500, 503])
def test_any_status_is_an_answer_and_no_error(transport, site, status):
    site.always("/", Answer(status, b"" if status in (204, 304) else b"text"))
    assert fetch(transport, site.url + "/").status == status


@pytest.mark.parametrize("framing", [None, CHUNKED, UNTIL_CLOSE])
@pytest.mark.parametrize("size", [0, 1, 300000])
def test_each_framing_of_a_body(transport, site, framing, size):
    site.always("/", Answer(200, b"x" * size, framing=framing))
    assert fetch(transport, site.url + "/").body == b"x" * size


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_redirect_is_followed(transport, site, status):
    site.always("/here", redirect("/there", status))
    transfer = fetch(transport, site.url + "/here")
    assert (transfer.status, transfer.fields["location"]) == (status, ["/there"])
    assert site.paths() == ["/here"]


def test_fields_of_interim_answers_are_dropped(transport, site):
    site.always("/", Answer(raw=b"HTTP/1.1 103 Early Hints\r\nX-Early: 1\r\nX-Both: early\r\n\r\n"
                                b"HTTP/1.1 200 OK\r\nX-Both: final\r\nContent-Length: 4\r\n\r\nbody"))
    transfer = fetch(transport, site.url + "/")
    assert (transfer.status, transfer.body, transfer.fields["x-both"]) == (200, b"body", ["final"])
    assert "x-early" not in transfer.fields


def test_bare_newlines_end_header_lines_too(transport, site):
    site.always("/", Answer(raw=b"HTTP/1.1 429 Too Many\nRetry-After: 60\nContent-Length: 4\n\nwait"))
    transfer = fetch(transport, site.url + "/")
    assert (transfer.status, transfer.body, transfer.fields["retry-after"]) == (429, b"wait", ["60"])


def test_head_brings_fields_without_waiting_for_a_body(transport, site):
    site.always("/", Answer(200, b"x" * 1000, {"X-Digest": "d"}))
    transfer = fetch(transport, site.url + "/", method="HEAD")
    assert (transfer.status, transfer.body) == (200, b"")
    assert (transfer.fields["x-digest"], transfer.fields["content-length"]) == (["d"], ["1000"])
    assert site.requests[0].method == "HEAD"


def test_one_transport_serves_many_transfers(transport, site):
    site.always("/*", lambda request, good: Answer(200, request.method.encode() + request.body))
    asked = [("GET", None), ("POST", "form"), ("HEAD", None), ("GET", None)]
    bodies = [fetch(transport, site.url + "/x", method=method, body=body).body for method, body in asked]
    assert bodies == [b"GET", b"POSTform", b"", b"GET"]
    assert [len(request.body) for request in site.requests] == [0, 4, 0, 0]


# What is sent

def test_fields_arrive_as_they_are(transport, site):
    fields = (("Accept", "a/b+json, c/d;q=0.5"), ("X-Quotes", "say \"hi\" 'there' \\n \\ # @file ${HOME}"),
              ("X-Twice", "1"), ("X-Twice", "2"), ("Authorization", "Bearer " + SECRET))
    fetch(transport, site.url + "/", fields=fields)
    sent = site.requests[0].fields
    assert sent.get_all("Accept") == ["a/b+json, c/d;q=0.5"]
    assert sent["X-Quotes"] == "say \"hi\" 'there' \\n \\ # @file ${HOME}"
    assert sent.get_all("X-Twice") == ["1", "2"]
    assert sent["Authorization"] == "Bearer " + SECRET


def test_nothing_is_expanded_in_a_url(transport, site):
    target = "/a[1-3]{b,c}/%2F%41/d?x=\"y\"&z='\\'&signature=a%2Bb+c=="
    fetch(transport, site.url + target)
    assert [request.target for request in site.requests] == [target]


@pytest.mark.parametrize("body", [
    "", "a=b&c=%20d", "@/etc/passwd", "line\nline\r\n\"quoted\"\\n\t# ", "x" * 20000,
], ids=["empty", "form", "at", "lines", "long"])
def test_post_sends_the_body_as_it_is(transport, site, body):
    site.always("/", Answer(200, b"done"))
    transfer = fetch(transport, site.url + "/", method="POST", body=body,
                     fields=(("Content-Type", "application/x-www-form-urlencoded"),))
    request = site.requests[0]
    assert (transfer.body, request.method, request.body) == (b"done", "POST", body.encode())
    assert request.fields.get_all("Content-Type") == ["application/x-www-form-urlencoded"]


@pytest.mark.parametrize("field", [
    ("X-Name", "value\r\nX-Evil: 1"), ("X-Name", "value\nX-Evil: 1"), ("X-Name", "value\rX-Evil: 1"),
    ("X-Name\nX-Evil", "1"), ("X-Name", "a\0b"),
])
def test_no_field_brings_another_one_along(transport, site, field):
    with pytest.raises(udocker.Error):
        fetch(transport, site.url + "/", fields=(field,))
    assert not site.requests


@pytest.mark.parametrize("tail", [
    "/a\r\nX-Evil: 1", "/a\nheader = \"X-Evil: 1\"", "/a b", "/a\tb", "/a\0b", "/\x7f",
])
def test_no_url_brings_a_field_along(transport, site, tail):
    with pytest.raises(udocker.Error):
        fetch(transport, site.url + tail)
    assert not site.requests


def test_a_users_files_change_nothing(transport, site, tmp_path, monkeypatch):
    (tmp_path / ".curlrc").write_text('header = "X-Curlrc: read"\nlocation\nuser = "a:b"\n')
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login green password %s\n" % SECRET)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("CURL_HOME", raising=False)
    site.always("/", redirect("/there"))
    assert fetch(transport, site.url + "/").status == 307
    assert site.requests[0].authorization is None
    assert "X-Curlrc" not in site.requests[0].fields


def test_secrets_are_on_no_command_line(transport, site):
    seen = []

    def look_around(request, good):
        seen.append(command_lines())
        return Answer(200, b"done")

    site.always("/", look_around)
    with Proxy("green:" + SECRET) as proxy:
        fetch(transport, site.url + "/", method="POST", body=SECRET,
              fields=(("Authorization", "Bearer " + SECRET),),
              proxy="http://green:%s@%s" % (SECRET, proxy.host))
    assert seen and SECRET.encode() not in seen[0]


def command_lines():
    """The command lines of all processes of this machine."""
    found = b""
    for path in glob.glob("/proc/[0-9]*/cmdline"):
        try:
            with open(path, "rb") as command_line:
                found += command_line.read() + b"\n"
        except OSError:
            pass        # it has ended
    return found


# The body, as it comes

def test_deliver_hears_of_the_answer_before_the_body(transport, site):
    site.always("/", Answer(206, b"0123456789" * 1000, {"X-One": "1"}))
    heard, pieces = [], []

    def deliver(status, fields):
        heard.append((status, fields["x-one"], list(pieces)))
        return pieces.append

    transfer = fetch(transport, site.url + "/", deliver=deliver)
    assert heard == [(206, ["1"], [])]
    assert b"".join(pieces) == b"0123456789" * 1000
    assert (transfer.status, transfer.body) == (206, b"")


def test_a_body_is_delivered_while_it_comes(transport, site):
    site.always("/", Answer(200, b"x" * 200000, piece=100000, pause=0.5))
    times = []

    def write(piece):
        times.append(time.monotonic())

    fetch(transport, site.url + "/", deliver=lambda status, fields: write)
    assert times[-1] - times[0] > 0.4


class Disturbance(Exception):
    """What a caller's own function may raise."""


def test_what_comes_behind_a_body_without_end(transport, site):
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n"
    site.always("/", Answer(raw=head + b"X-Trailer: %s\r\n" % (b"y" * 1000) * 8000 + b"\r\n"))
    assert failure(transport, site.url + "/") in (27, 63), "too much, as headers or as a body"


def test_what_write_raises_ends_the_transfer_and_comes_out(transport, site):
    site.always("/", Answer(200, b"x" * 3000000))
    written = []

    def write(piece):
        written.append(piece)
        raise Disturbance("disk full")

    with pytest.raises(Disturbance, match="disk full"):
        fetch(transport, site.url + "/", deliver=lambda status, fields: write)
    assert len(written) == 1
    site.always("/", Answer(200, b"fine"))
    assert fetch(transport, site.url + "/").body == b"fine"


def test_what_deliver_raises_ends_the_transfer_and_comes_out(transport, site):
    site.always("/", Answer(200, b"x" * 3000000))

    def deliver(status, fields):
        raise Disturbance("no, thank you")

    with pytest.raises(Disturbance, match="no, thank you"):
        fetch(transport, site.url + "/", deliver=deliver)


def test_a_collected_body_has_a_limit(transport, site):
    site.always("/", Answer(200, b"x" * (80 << 20)))
    with pytest.raises(udocker.Error):
        fetch(transport, site.url + "/")


# What goes wrong has the same number everywhere

@pytest.mark.parametrize("count", [0, 10])
def test_half_a_body(transport, site, count):
    site.always("/", Answer(200, b"x" * 100000, cut=count))
    assert failure(transport, site.url + "/") == PARTIAL_BODY


def test_half_a_chunked_body(transport, site):
    site.always("/", Answer(200, b"x" * 1000, framing=CHUNKED, cut=10))
    assert failure(transport, site.url + "/") in (PARTIAL_BODY, RECEIVE_ERROR)


def test_half_a_body_is_delivered_before_the_error(transport, site):
    site.always("/", Answer(200, b"x" * 100000, cut=1000))
    pieces = []
    assert failure(transport, site.url + "/", deliver=lambda status, fields: pieces.append) == PARTIAL_BODY
    assert len(b"".join(pieces)) == 1000


def test_reset_in_the_body(transport, site):
    site.always("/", Answer(200, b"x" * 100000, cut=1000, reset=True))
    assert failure(transport, site.url + "/") in (PARTIAL_BODY, RECEIVE_ERROR)


def test_no_answer_at_all(transport, site):
    site.always("/", Answer(raw=b""))
    assert failure(transport, site.url + "/") == EMPTY_ANSWER


def test_an_answer_that_is_no_http(transport, site):
    site.always("/", Answer(raw=b"SSH-2.0-OpenSSH_9.2\r\n"))
    assert failure(transport, site.url + "/") == UNSUPPORTED_PROTOCOL


def test_nobody_listens(transport):
    with LoopbackServer() as gone:
        url = gone.url
    assert failure(transport, url + "/") == NO_CONNECTION


def test_a_host_that_cannot_exist(transport):
    assert failure(transport, "http://%s.invalid/" % ("x" * 64)) == UNKNOWN_HOST


@pytest.mark.parametrize("scheme", ["file", "ftp", "gopher", "dict", "telnet"])
def test_nothing_but_http_and_https(transport, scheme):
    assert failure(transport, scheme + "://127.0.0.1/etc/passwd") == UNSUPPORTED_PROTOCOL


@pytest.mark.parametrize("url", ["http://", "http:///v2/", "http://127.0.0.1:x/", "http://127.0.0.1:70000"])
def test_a_url_that_is_none(transport, url):
    assert failure(transport, url) in (BAD_URL, UNKNOWN_HOST)


def test_an_error_names_the_url_but_no_password_in_it(transport):
    with LoopbackServer() as gone:
        host = gone.host
    with pytest.raises(udocker.TransferError) as caught:
        fetch(transport, "http://green:%s@%s/v2/" % (SECRET, host))
    assert host in str(caught.value)
    assert SECRET not in str(caught.value)


# TLS

def test_an_unknown_certificate_is_refused(transport, secure_site):
    assert failure(transport, secure_site.url + "/") == UNTRUSTED_CERTIFICATE
    assert not secure_site.requests


def test_an_unknown_certificate_is_taken_when_insecure(transport, secure_site):
    assert fetch(transport, secure_site.url + "/", insecure=True).body == b"secure"


def test_insecure_is_forgotten_after_the_transfer(transport, secure_site):
    fetch(transport, secure_site.url + "/", insecure=True)
    assert failure(transport, secure_site.url + "/") == UNTRUSTED_CERTIFICATE


def test_tls_where_there_is_none(transport, site):
    assert failure(transport, "https://%s/" % site.host) == TLS_FAILURE
    assert not site.requests


def test_http_where_there_is_tls(transport, secure_site):
    code = failure(transport, "http://%s/" % secure_site.host)
    assert code in (UNSUPPORTED_PROTOCOL, EMPTY_ANSWER, RECEIVE_ERROR)


# Proxies

KINDS = ["http", "socks4", "socks4a", "socks5", "socks5h"]
BY_NAME = {"http": "GET", "socks4a": "socks4a", "socks5h": "socks5h"}


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_proxy(transport, site, kind):
    site.always("/", Answer(200, b"through"))
    with Proxy() as proxy:
        assert fetch(transport, site.url + "/", proxy="%s://%s" % (kind, proxy.host)).body == b"through"
    [asked] = proxy.asked
    assert (asked.host, asked.port, asked.user) == ("127.0.0.1", site.port, None)


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_proxy_with_a_user(transport, site, kind):
    site.always("/", Answer(200, b"through"))
    with Proxy("green:p w:%") as proxy:
        transfer = fetch(transport, site.url + "/", proxy="%s://green:p%%20w%%3A%%25@%s" % (kind, proxy.host))
    assert transfer.body == b"through"
    assert proxy.asked[0].user == ("green" if kind.startswith("socks4") else "green:p w:%")


@pytest.mark.parametrize("kind", sorted(BY_NAME))
def test_a_proxy_looks_names_up(transport, site, kind):
    site.always("/v2/", Answer(200, b"through"))
    with Proxy(routes={"registry.example": site.port}) as proxy:
        transfer = fetch(transport, "http://registry.example/v2/", proxy="%s://%s" % (kind, proxy.host))
    assert transfer.body == b"through"
    assert proxy.asked == [Asked(BY_NAME[kind], "registry.example", 80, None)]


@pytest.mark.parametrize("kind", KINDS)
def test_tls_goes_through_a_proxy_to_its_end(transport, secure_site, kind):
    with Proxy() as proxy:
        url = "%s://%s" % (kind, proxy.host)
        assert failure(transport, secure_site.url + "/", proxy=url) == UNTRUSTED_CERTIFICATE
        transfer = fetch(transport, secure_site.url + "/", proxy=url, insecure=True)
    assert (transfer.status, transfer.body) == (200, b"secure")
    assert "x-proxy" not in transfer.fields, "that is the proxy's own answer to CONNECT"
    expected = {"http": "CONNECT", "socks5h": "socks5"}.get(kind, kind)
    assert [asked.kind for asked in proxy.asked] == [expected, expected]


def test_deliver_never_hears_a_proxys_own_answer(transport, secure_site):
    heard = []
    with Proxy() as proxy:
        fetch(transport, secure_site.url + "/", proxy="http://" + proxy.host, insecure=True,
              deliver=lambda status, fields: heard.append(fields))
    assert len(heard) == 1 and "x-proxy" not in heard[0]


@pytest.mark.parametrize("kind", ["http", "socks5", "socks5h"])
def test_a_proxy_that_wants_another_password(transport, secure_site, kind):
    with Proxy("green:right") as proxy:
        url = "%s://green:wrong@%s" % (kind, proxy.host)
        failure(transport, secure_site.url + "/", proxy=url, insecure=True)
    assert not secure_site.requests


def test_an_http_proxy_that_wants_a_password_answers_itself(transport, site):
    with Proxy("green:right") as proxy:
        assert fetch(transport, site.url + "/", proxy="http://" + proxy.host).status == 407
    assert not site.requests


def test_a_proxy_that_does_not_listen(transport, site):
    with LoopbackServer() as gone:
        host = gone.host
    for kind in KINDS:
        assert failure(transport, site.url + "/", proxy="%s://%s" % (kind, host)) in (5, NO_CONNECTION, 97)
    assert not site.requests


def test_the_site_never_sees_the_proxys_password(transport, site):
    with Proxy("green:" + SECRET) as proxy:
        fetch(transport, site.url + "/", proxy="http://green:%s@%s" % (SECRET, proxy.host))
    assert not [name for name in site.requests[0].fields if name.lower().startswith("proxy-auth")]


def test_the_environments_proxy_is_used_where_none_is_given(transport, site, monkeypatch):
    with Proxy(routes={"registry.example": site.port}) as proxy:
        monkeypatch.setenv("http_proxy", "http://" + proxy.host)
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        assert fetch(transport, "http://registry.example/").status == 404
        assert fetch(transport, site.url + "/").status == 404
    assert [asked.host for asked in proxy.asked] == ["registry.example"]


# What is left behind

def test_nothing_is_left_open(transport, site):
    counts = []
    site.always("/body", Answer(200, b"x" * 1000))
    for _ in range(4):
        fetch(transport, site.url + "/")
        with pytest.raises(Disturbance):
            fetch(transport, site.url + "/body", deliver=raise_disturbance)
        counts.append(open_files())
    assert counts[-1] <= counts[0]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_wait_for_a_silent_server(udocker, number):
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(1)
        name = "127.0.0.1:%d/lab/busybox" % server.getsockname()[1]
        with udocker.start("pull", name, stderr=subprocess.PIPE) as process:
            connection, _ = server.accept()
            with connection:
                connection.recv(1)
                process.send_signal(number)
                assert process.wait(10) == 128 + number, "long before the time limit"
            assert b"Traceback" not in process.stderr.read()


def test_a_proxy_is_used_whatever_no_proxy_says(transport, site, monkeypatch):
    """The program has asked that variable already, where it counts."""
    monkeypatch.setenv("no_proxy", "*")
    with Proxy() as proxy:
        fetch(transport, site.url + "/", proxy="http://" + proxy.host)
        assert len(proxy.asked) == 1


@pytest.mark.parametrize("url, parts", [
    ("https://Host.org/x", ("https", "host.org", 443)), ("HTTP://[::1]/", ("http", "::1", 80)),
    ("https://h:80", ("https", "h", 80))])
def test_the_server_of_a_url(url, parts):
    """Those with the same one may see the same credentials."""
    assert udocker.split_url(url) == parts


HELD = """import os, signal, sys, udocker
number = int(sys.argv[1])
handle = lambda *_: print("handled")
signal.signal(number, handle)
with udocker.HeldSignals():
    os.kill(os.getpid(), number)
    print("within")
print("the same handler" if signal.getsignal(number) is handle else "another handler")
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_handler_runs_where_a_transfer_ended_and_not_within(number):
    assert in_main_thread(HELD, int(number)) == "within\nhandled\nthe same handler\n"


def raise_disturbance(status, fields):
    """For use as `deliver`."""
    raise Disturbance


def open_files():
    """How many descriptors this process has open that are no connection kept for later."""
    return sum(not is_socket("/proc/self/fd/" + number) for number in os.listdir("/proc/self/fd"))


def is_socket(path):
    """True for a descriptor's link in /proc that names a socket."""
    try:
        return os.readlink(path).startswith("socket:")
    except OSError:
        return True     # the listing's own descriptor


def test_as_many_attempts_as_were_asked_for():
    client, waits, attempts = udocker.HttpClient(None, retries=9), [], []
    client.sleep = waits.append

    def attempt():
        attempts.append(1)
        raise udocker.TransferError(RECEIVE_ERROR, "http://registry", "it broke off")

    with pytest.raises(udocker.TransferError):
        client.persist(attempt)
    assert len(attempts) == 10
    assert waits == sorted(waits) and waits[-1] == client.MAX_WAIT
