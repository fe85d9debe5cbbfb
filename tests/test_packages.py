"""Root inside is emulated well enough for what installs packages and adds users; a real archive, served on loopback."""
import functools
import http.server
import subprocess
import threading

import pytest

from conftest import need

CONTROL = """Package: lab-greeter
Version: 1.0
Architecture: all
Maintainer: Lab <lab@example.org>
Depends: passwd
Description: greets
"""
AFTER_INSTALLATION = """#!/bin/sh
set -e
useradd --system --user-group --no-create-home greeter
chown greeter:greeter /var/lib/greeter
chgrp greeter /usr/bin/greet
chmod 2755 /usr/bin/greet
"""


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves files and keeps quiet about it."""

    def log_message(self, *arguments):
        pass


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """(directory, address) of an apt archive with one package, which adds a user and changes owners."""
    directory = tmp_path_factory.mktemp("archive")
    package = directory / "package"
    for name in "DEBIAN", "usr/bin", "var/lib/greeter":
        (package / name).mkdir(parents=True)
    (package / "DEBIAN/control").write_text(CONTROL)
    for name, text in ("DEBIAN/postinst", AFTER_INSTALLATION), ("usr/bin/greet", "#!/bin/sh\necho hello\n"):
        (package / name).write_text(text)
        (package / name).chmod(0o755)
    name = "lab-greeter_1.0_all.deb"
    subprocess.check_call([need("dpkg-deb"), "--root-owner-group", "--build", str(package), str(directory / name)],
                          stdout=subprocess.DEVNULL)
    size = (directory / name).stat().st_size
    digest = subprocess.check_output(["sha256sum", str(directory / name)]).decode().split()[0]
    (directory / "Packages").write_text("%sFilename: ./%s\nSize: %d\nSHA256: %s\n\n" % (CONTROL, name, size, digest))
    served = functools.partial(Handler, directory=str(directory))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), served) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield directory, "http://127.0.0.1:%d/" % server.server_address[1]
        server.shutdown()


@pytest.fixture(scope="module")
def own_container(debian_container):
    """The program with a container of Debian that these tests may change, named own."""
    debian_container.ok("clone", "--name=own", "debian")
    yield debian_container
    debian_container.ok("rm", "own")


@pytest.fixture
def as_root(own_container, mode):
    """Runs shell scripts as root in the container; the tests leave no package and no user behind."""
    if mode == "P2":
        pytest.skip("what P1 does, more slowly")
    box = own_container.with_env(UDOCKER_DEFAULT_EXECUTION_MODE=mode)
    return lambda script, *options: box.ok("run", *options, "own", "sh", "-ec", script)


def test_apt_get_install(as_root, archive):
    _, address = archive
    out = as_root("""
        echo 'deb [trusted=yes] %s ./' > /etc/apt/sources.list
        apt-get -q update
        apt-get -qy install lab-greeter
        greet
        id -un greeter
        stat -c %%a /usr/bin/greet
        apt-get -qq purge lab-greeter > /dev/null
        userdel greeter""" % address).out
    assert out.splitlines()[-3:] == ["hello", "greeter", "2755"]


def test_dpkg(as_root, archive):
    directory, _ = archive
    out = as_root("""
        dpkg --install /archive/*.deb
        greet
        dpkg --purge lab-greeter
        userdel greeter
        test ! -e /usr/bin/greet && echo gone""", "-v", "%s:/archive" % directory).out
    assert "hello" in out.splitlines() and out.splitlines()[-1] == "gone"


def test_users_are_added_and_removed(as_root):
    """passwd and group are files of the container: programs rename new ones over them."""
    out = as_root("""
        useradd --create-home --uid 54321 ivory
        groupadd grass
        usermod -aG grass ivory
        id -Gn ivory
        echo ivory:x | chpasswd
        stat -c %U /etc/shadow
        userdel ivory
        groupdel grass
        rm -r /home/ivory
        grep -c ivory /etc/passwd || true""").out
    assert out.splitlines() == ["ivory grass", "root", "0"]
