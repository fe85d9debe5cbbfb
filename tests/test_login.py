"""Credentials: login checks and keeps them, logout forgets them, what docker and podman keep is read."""
import fcntl
import json
import os
import pty
import select
import signal
import stat
import struct
import subprocess
import sys
import termios
import time

import pytest

from conftest import CREDENTIAL
from faulty_registry import Answer, BasicGate, BearerGate, FaultyRegistry, TokenDesk, basic, denied, text_layer
from program import CHECKOUT, STRICT, TIMEOUT, Program
from pulling import encoded, write_private

USER, PASSWORD = CREDENTIAL


@pytest.fixture
def faulty():
    """A registry with one image, lab/app, for which a password is needed."""
    with FaultyRegistry() as registry:
        registry.image = registry.add_image([text_layer()])
        registry.gate = BasicGate({USER: PASSWORD})
        yield registry


def keystore(program):
    """What the keystore holds; it must be readable for nobody else."""
    path = program.store / "keystore"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    return json.loads(path.read_text())


def log_in(program, host, user=USER, password=PASSWORD, **start):
    return program.ok("login", "--username=" + user, "--password-stdin", "--registry=http://" + host,
                      input=password.encode() + b"\n", **start)


@pytest.mark.parametrize("words", [
    ["--username=USER", "--password=PASSWORD", "--registry=http://HOST"], ["-u", "USER", "-pPASSWORD", "HOST"],
    ["-u=USER", "-p=PASSWORD", "http://HOST/"], ["HOST", "--username", "USER", "--password", "PASSWORD"],
])
def test_login_and_pull(udocker, private_registry, words):
    reference = private_registry.host + "/lab/busybox"
    udocker.fails(1, "pull", reference)
    mapped = [word.replace("USER", USER).replace("PASSWORD", PASSWORD).replace("HOST", private_registry.host)
              for word in words]
    result = udocker.ok("login", *mapped)
    assert result.out == "" and "--password-stdin" in result.err and PASSWORD not in result.err
    assert keystore(udocker) == {private_registry.host: {"auth": encoded(USER, PASSWORD), "email": ""}}
    udocker.ok("pull", reference)
    udocker.ok("logout", private_registry.host)
    assert keystore(udocker) == {}
    udocker.ok("rmi", reference)
    udocker.fails(1, "pull", reference)


@pytest.mark.parametrize("typed", [b"secret:word", b"secret:word\n", b"secret:word\r\n"])
def test_the_password_on_standard_input(udocker, private_registry, typed):
    result = udocker.ok("login", "-u", USER, "--password-stdin", private_registry.host, input=typed)
    assert "warning" not in result.err
    assert keystore(udocker)[private_registry.host]["auth"] == encoded(USER, PASSWORD)


def test_a_wrong_password_is_not_kept(udocker, private_registry):
    log_in(udocker, private_registry.host)
    before = keystore(udocker)
    udocker.fails(1, "login", "-u", USER, "--password-stdin", private_registry.host, input=b"wrong")
    assert keystore(udocker) == before


def test_debugging_tells_no_password(udocker, private_registry):
    result = udocker.ok("-D", "login", "-u", USER, "--password-stdin", private_registry.host, input=b"secret:word")
    assert PASSWORD not in result.err and encoded(USER, PASSWORD) not in result.err


@pytest.mark.parametrize("words", [
    [], ["--username=x"], ["--password=x"], ["--password-stdin"], ["-u", "x", "--password-stdin", "--password=y"],
    ["a:1", "--registry=b:1", "-u", "x", "-p", "y"], ["-u", "x:y", "-p", "z", "127.0.0.1:1"], ["-u", "", "-p", "z"],
    ["-u", "x", "-p", "y", "http://["],
])
def test_words_that_do_not_fit(udocker, words):
    result = udocker("login", *words)
    assert result.status == 2 and len([line for line in result.err.splitlines() if "error" in line]) == 1
    assert not (udocker.store / "keystore").exists()


def test_a_registry_that_is_down(udocker):
    udocker.fails(1, "login", "-u", "x", "--password-stdin", "127.0.0.1:1", input=b"y")
    assert not (udocker.store / "keystore").exists()


def test_login_with_a_token_server(udocker, faulty):
    desk = TokenDesk(users={USER: PASSWORD})
    faulty.always("/token", desk)
    faulty.gate = BearerGate(desk, 'Bearer realm="%s/token",service="registry.test"' % faulty.url)
    log_in(udocker, faulty.host)
    assert {request.authorization for request in desk.requests} == {basic(USER, PASSWORD)}
    assert [request.query.get("scope") for request in desk.requests] == [None]
    udocker.fails(1, "login", "-u", USER, "--password-stdin", faulty.host, input=b"wrong")
    udocker.ok("pull", faulty.image.reference)


def test_an_anonymous_token_is_no_login(udocker, faulty):
    """A token server that gives everybody a token is not believed: the registry has the last word."""
    faulty.always("/token", Answer(200, b'{"token": "for everybody"}'))
    faulty.gate = BearerGate(TokenDesk(), 'Bearer realm="%s/token"' % faulty.url)
    udocker.fails(1, "login", "-u", USER, "--password-stdin", faulty.host, input=b"x")


def test_a_token_server_elsewhere_without_tls_sees_no_password(udocker, faulty):
    faulty.always("/token", Answer(200, b'{"token": "for everybody"}'))
    faulty.gate = BearerGate(TokenDesk(), 'Bearer realm="http://localhost:%d/token"' % faulty.port)
    result = udocker.fails(1, "-q", "login", "-u", USER, "--password-stdin", faulty.host, input=b"x")
    assert "not on https" in result.err and faulty.paths("GET") == ["/v2/"]


@pytest.mark.parametrize("answer", [denied(), denied(status=403), Answer(404), Answer(500),
                                    Answer(200, b"half an answer", cut=3)])
def test_a_registry_that_refuses(udocker, faulty, answer):
    faulty.always("/v2/", answer)
    program = udocker.with_env(UDOCKER_RETRY_DELAY="0.01", UDOCKER_RETRIES="1")
    result = program("login", "-u", USER, "--password-stdin", faulty.host, input=b"x")
    assert result.status == 1 and not (udocker.store / "keystore").exists()


def test_an_open_registry_says_so(udocker, images):
    assert "no credentials" in log_in(udocker, images.host).err


def test_other_credentials_stay(udocker, private_registry):
    others = {"https://registry-1.docker.io": {"auth": encoded("a", "b"), "email": ""},
              "https://" + private_registry.host: {"auth": encoded("old", "one"), "email": ""}}
    write_private(udocker.store / "keystore", others)
    log_in(udocker, private_registry.host)
    assert sorted(keystore(udocker)) == [private_registry.host, "https://registry-1.docker.io"]
    udocker.ok("logout")
    assert list(keystore(udocker)) == [private_registry.host]


@pytest.mark.parametrize("words, kept", [
    ([], ["https://quay.io"]), (["docker.io"], ["https://quay.io"]), (["--registry=https://index.docker.io/v1/"],
                                                                      ["https://quay.io"]),
    (["quay.io"], ["https://registry-1.docker.io"]), (["--registry=https://quay.io"], ["https://registry-1.docker.io"]),
])
def test_logout(udocker, words, kept):
    entry = {"auth": encoded("a", "b"), "email": ""}
    write_private(udocker.store / "keystore", {"https://registry-1.docker.io": entry, "https://quay.io": entry})
    udocker.ok("logout", *words)
    assert list(keystore(udocker)) == kept
    udocker.fails(1, "logout", *words)


@pytest.mark.parametrize("content", ["{}", "no json", "[1]", '{"https://quay.io": {"auth": "YTpi"}}'])
def test_logout_of_all(udocker, content):
    udocker.store.mkdir()
    (udocker.store / "keystore").write_text(content)
    udocker.ok("logout", "-a")
    assert not (udocker.store / "keystore").exists()
    udocker.ok("logout", "--all")


@pytest.mark.parametrize("content", ["no json", "[1]", "{\"a\": ", "\0"])
@pytest.mark.parametrize("line", ["login -u x -p y", "logout", "pull"])
def test_a_damaged_keystore(udocker, faulty, line, content):
    udocker.store.mkdir()
    (udocker.store / "keystore").write_text(content)
    (udocker.store / "keystore").chmod(0o600)
    name = faulty.image.reference if line == "pull" else faulty.host
    result = udocker("-q", *line.split(), name) if line != "login -u x -p y" else udocker(
        "login", "-u", USER, "--password-stdin", name, input=PASSWORD.encode())
    assert result.status == 1 and "keystore" in result.err
    assert (udocker.store / "keystore").read_text() == content


@pytest.mark.parametrize("permissions", [0o644, 0o640, 0o604])
def test_a_keystore_that_others_can_read_is_refused(udocker, faulty, permissions):
    write_private(udocker.store / "keystore", {faulty.host: {"auth": encoded(USER, PASSWORD), "email": ""}})
    (udocker.store / "keystore").chmod(permissions)
    result = udocker.fails(1, "pull", faulty.image.reference)
    command = [line for line in result.err.splitlines() if "chmod" in line][0].split("hint: ")[1]
    subprocess.check_call(command, shell=True)
    udocker.ok("pull", faulty.image.reference)


def test_a_keystore_elsewhere(udocker, private_registry, tmp_path):
    """With the store anywhere, too: credentials are a user's, stores may be shared."""
    program = udocker.with_env(UDOCKER_KEYSTORE=str(tmp_path / "new/place/keys"), UDOCKER_DIR=str(tmp_path / "store"))
    log_in(program, private_registry.host)
    assert stat.S_IMODE((tmp_path / "new/place/keys").stat().st_mode) == 0o600
    program.ok("pull", private_registry.host + "/lab/busybox")
    assert not udocker.store.exists()


def test_logins_at_the_same_time_keep_both(udocker, private_registry, images):
    hosts = [private_registry.host, images.host] * 4
    running = [udocker.start("login", "-u", USER, "-p", PASSWORD, host, stderr=subprocess.PIPE) for host in hosts]
    for process in running:
        assert process.communicate() and process.returncode == 0
    assert sorted(keystore(udocker)) == sorted([private_registry.host, images.host])


def test_docker_users_need_not_log_in(udocker, faulty):
    path = udocker.home / ".docker/config.json"
    write_private(path, {"auths": {faulty.host: {"auth": encoded(USER, PASSWORD)}}})
    before = path.read_bytes()
    udocker.ok("pull", faulty.image.reference)
    udocker.fails(1, "logout", faulty.host)
    assert path.read_bytes() == before


def converse(program, *arguments, answers=(), columns=80):
    """Run on a terminal and type the answers, each when the program waits; returns (status, what the screen shows)."""
    pid, terminal = pty.fork()
    if pid == 0:
        signal.signal(signal.SIGINT, signal.SIG_DFL)        # who runs the tests may ignore it
        fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        os.chdir(str(program.home))
        os.execve(program.entry[0], program.command(*arguments), program.environment())
    screen, answers = b"", list(answers)
    while True:
        if not select.select([terminal], [], [], TIMEOUT)[0]:
            os.kill(pid, signal.SIGKILL)
        try:
            data = os.read(terminal, 4096)
        except OSError:         # the other end is closed
            data = b""
        if not data:
            break
        screen += data
        if answers and answers[0][0] in screen:
            time.sleep(0.2)     # the echo is switched off by now
            os.write(terminal, answers.pop(0)[1])
    status = os.waitpid(pid, 0)[1]
    os.close(terminal)
    return os.WEXITSTATUS(status), screen.decode()


def test_login_where_nobody_asks(udocker, images):
    """One sentence, and a true one: the credential is kept, and nobody has looked at it."""
    result = udocker.ok("login", "-u", USER, "--password-stdin", images.host, input=PASSWORD.encode())
    assert result.err == "udocker: %s asks for no credentials: those of %s are kept, unchecked, for when it does\n" % (
        images.host, USER)
    assert keystore(udocker)[images.host]["auth"] == encoded(USER, PASSWORD)


def test_login_at_a_terminal_does_not_show_the_password(udocker, private_registry):
    # Of all that the locale's encoding is used for, by getpass of Python's own library alone it may be
    words = (sys.executable,) + STRICT + ("-W", "ignore:'encoding' argument not specified::getpass")
    program = Program(udocker.home, words + (CHECKOUT / "udocker",), udocker.env)
    status, screen = converse(program, "login", private_registry.host, answers=[
        (b"username: ", USER.encode() + b"\n"), (b"password: ", PASSWORD.encode() + b"\n")])
    assert status == 0 and PASSWORD not in screen and "logged in" in screen
    assert keystore(udocker)[private_registry.host]["auth"] == encoded(USER, PASSWORD)


def test_login_is_given_up_at_a_terminal(udocker, private_registry):
    status, screen = converse(udocker, "login", private_registry.host, answers=[(b"username: ", b"\x03")])
    assert status == 130 and "Traceback" not in screen and not (udocker.store / "keystore").exists()
