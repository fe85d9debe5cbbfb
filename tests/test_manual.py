"""The user manual's examples of section 3, setup's modes apart: one line a case, typed as they stand there.

Only what would leave this machine is mapped: the registry is one on the loopback, with images of those names,
host:port is a proxy there, and /tmp, the ids and the users are those of the test.
"""
import getpass
import json
import os
import shlex
import shutil
import subprocess

import pytest

from conftest import CREDENTIAL
from faulty_registry import Answer, Site
from program import Program
from proxies import Proxy

IMAGES = ["busybox", "fedora", "rhel7", "ubuntu", "indigodatacloudapps/disvis",
          "indigodatacloud/disvis:latest", "indigodatacloud/ambertools_app:latest"]
CONTAINERS = {"verybusy": "busybox", "rh7": "rhel7", "myfed": "fedora",
              "mycontainer": "indigodatacloud/disvis:latest"}
COMMANDS = ("create images import inspect load login logout mkrepo name protect ps pull rm rmi rmname run search setup "
            "unprotect verify").split()


@pytest.fixture(scope="module")
def prepared(tmp_path_factory, images):
    """A home in which all that the examples start from has been pulled and created."""
    program = Program(tmp_path_factory.mktemp("manual") / "home")
    program.home.mkdir()
    for image in IMAGES:
        program.ok("pull", "--registry=" + images.url, image)
    for name, image in CONTAINERS.items():
        program.ok("create", "--name=" + name, image)
    return program


class Manual:
    """Types lines of the manual: its words are mapped by `words`, the program is that of a test."""

    def __init__(self, program, words):
        self.program = program
        self.words = words

    def type(self, line, **options):
        for old, new in self.words.items():
            line = line.replace(old, str(new))
        arguments = shlex.split(line)
        assert arguments.pop(0) == "udocker"
        return self.program.ok(*arguments, **options)


def manual_of(program, scratch):
    """A manual that is typed in the home of program."""
    (scratch / "mydir").mkdir()
    return Manual(program, {
        "/tmp": scratch, "$HOME": program.home, "--user=green": "--user=" + getpass.getuser(),
        "d2578feb-acfc-37e0-8561-47335f85e46d": identifier(program, "myfed"),
        "7b2d4456-9ee7-3138-ad01-63d1342d8545": identifier(program, "verybusy"),
        "ubuntu:latest": "ubuntu",
    })


@pytest.fixture
def manual(tmp_path, prepared):
    """A manual for lines that leave the prepared home as it is."""
    return manual_of(prepared, tmp_path)


@pytest.fixture
def own_manual(tmp_path, prepared):
    """A manual for lines that change things: in a copy of the prepared home."""
    subprocess.run(["cp", "-a", str(prepared.home), str(tmp_path / "home")], check=True)
    (tmp_path / "scratch").mkdir()
    yield manual_of(Program(tmp_path / "home"), tmp_path / "scratch")
    shutil.rmtree(str(tmp_path / "home"), ignore_errors=True)


def identifier(program, name):
    return os.readlink(str(program.store / "containers" / name))


def names(listing):
    return [line.split()[0] for line in listing.splitlines()[1:]]


# 3.1 Syntax, 3.2 Obtaining help

@pytest.mark.parametrize("line", ["udocker --help"] + ["udocker %s --help" % name for name in COMMANDS])
def test_help(udocker, line):
    result = Manual(udocker, {}).type(line)
    assert "sage" in result.out and result.err == ""
    assert not udocker.store.exists(), "help leaves nothing behind"


# 3.3 search

@pytest.mark.parametrize("line, name", [
    ("udocker search busybox", "busybox"), ("udocker search -a busybox", "busybox"),
    ("udocker search iscampos/openqcd", "iscampos/openqcd"),
])
def test_search(udocker, line, name):
    with Site() as index:
        index.always("/v1/search", lambda request, good: Answer(200, json.dumps({"num_pages": 1, "results": [
            {"name": request.query["q"][0], "star_count": 1}]}).encode()))
        result = Manual(udocker, {}).type(line, env={"UDOCKER_INDEX": index.url})
    assert [row.split()[0] for row in result.out.splitlines()] == ["NAME", name]


# 3.4 pull

@pytest.mark.parametrize("line, image", [
    ("udocker pull busybox", "busybox:latest"),
    ("udocker --insecure pull busybox", "busybox:latest"),
    ("udocker pull fedora:latest", "fedora:latest"),
    ("udocker pull indigodatacloudapps/disvis", "indigodatacloudapps/disvis:latest"),
    ("udocker pull --registry=https://registry.example  rhel7", "rhel7:latest"),
])
def test_pull(udocker, images, line, image):
    if "--registry" not in line:
        line = line.replace("pull", "pull --registry=" + images.url)
    Manual(udocker, {"https://registry.example": images.url}).type(line)
    assert names(udocker.ok("images").out) == [image]


@pytest.mark.parametrize("line", [
    "udocker pull --httpproxy=socks4://host:port busybox",
    "udocker pull --httpproxy=socks5://host:port busybox",
    "udocker pull --httpproxy=socks4://user:pass@host:port busybox",
    "udocker pull --httpproxy=socks5://user:pass@host:port busybox",
])
def test_pull_through_a_proxy(udocker, images, line):
    with Proxy("user:pass" if "@" in line else None) as proxy:
        Manual(udocker, {"host:port": proxy.host}).type(line.replace("pull", "pull --registry=" + images.url))
    assert proxy.asked and {asked.kind for asked in proxy.asked} == {line.split("=")[1].split(":")[0]}
    assert names(udocker.ok("images").out) == ["busybox:latest"]


# 3.5 images to 3.12 rmname

@pytest.mark.parametrize("line, shown", [
    ("udocker images", "busybox:latest    .\n"),
    ("udocker images -l", "indigodatacloudapps/disvis:latest    .\n"),
    ("udocker ps", " . W ['verybusy']       busybox:latest\n"),
    ("udocker inspect ubuntu:latest", '"/bin/bash"'),
    ("udocker inspect d2578feb-acfc-37e0-8561-47335f85e46d", '"/bin/bash"'),
    ("udocker inspect -p d2578feb-acfc-37e0-8561-47335f85e46d", "/ROOT\n"),
    ("udocker verify indigodatacloud/disvis:latest", ""),
])
def test_what_is_shown(manual, line, shown):
    assert shown in manual.type(line).out


@pytest.mark.parametrize("line, name", [
    ("udocker create --name=verybusy busybox", "verybusy"),
    ("udocker create --name=rh7 rhel7", "rh7"),
    ("udocker create --name=mycontainer indigodatacloud/disvis:latest", "mycontainer"),
    ("udocker create --name=myfed  fedora", "myfed"),
])
def test_create(own_manual, line, name):
    own_manual.program.ok("rm", name)
    assert own_manual.type(line).out == identifier(own_manual.program, name) + "\n"


def test_rmi(own_manual):
    before = names(own_manual.program.ok("images").out)
    own_manual.type(r"udocker rmi -f indigodatacloud/ambertools\_app:latest")
    after = names(own_manual.program.ok("images").out)
    assert set(before) - set(after) == {"indigodatacloud/ambertools_app:latest"}


@pytest.mark.parametrize("line, name", [
    ("udocker rm 7b2d4456-9ee7-3138-ad01-63d1342d8545", "verybusy"),
    ("udocker rm mycontainer", "mycontainer"),
])
def test_rm(own_manual, line, name):
    own_manual.type(line)
    assert not os.path.lexists(str(own_manual.program.store / "containers" / name))


def test_name_and_rmname(own_manual):
    own_manual.type("udocker name d2578feb-acfc-37e0-8561-47335f85e46d BLUE")
    assert identifier(own_manual.program, "BLUE") == identifier(own_manual.program, "myfed")
    own_manual.type("udocker rmname BLUE")
    assert not os.path.lexists(str(own_manual.program.store / "containers/BLUE"))


# 3.14 import, 3.15 load

@pytest.fixture
def files(own_manual):
    """container.tar, as docker export writes it, and docker-image.tar, as docker save does, in the home."""
    own_manual.program.ok("export", "-o", "container.tar", "myfed")
    own_manual.program.ok("save", "-o", "docker-image.tar", "fedora")
    own_manual.program.ok("rmi", "fedora")
    return own_manual


@pytest.mark.parametrize("line, image, is_left", [
    ("udocker import container.tar myrepo:latest", "myrepo:latest", True),
    ("udocker import --mv container.tar myrepo:latest", "myrepo:latest", False),
    ("udocker load -i docker-image.tar", "fedora:latest", True),
])
def test_archives(files, line, image, is_left):
    files.type(line)
    assert image in names(files.program.ok("images").out)
    assert files.program.ok("run", "--rm", image, "cat", "/etc/redhat-release").out.startswith("Fedora")
    assert (files.program.home / line.split()[-1 if "load" in line else -2]).exists() == is_left


# 3.16 protect, 3.17 unprotect

@pytest.mark.parametrize("name, remove", [
    (r"indigodatacloud/ambertools\_app:latest", "udocker rmi "),
    ("3d528987-a51e-331a-94a0-d278bacf79d9", "udocker rm "),
])
def test_protect_and_unprotect(own_manual, name, remove):
    own_manual.words["3d528987-a51e-331a-94a0-d278bacf79d9"] = identifier(own_manual.program, "mycontainer")
    own_manual.type("udocker protect " + name)
    with pytest.raises(AssertionError):
        own_manual.type(remove + name)
    own_manual.type("udocker unprotect " + name)
    own_manual.type(remove + name)


# 3.18 mkrepo

def test_mkrepo(own_manual, images):
    own_manual.type("udocker mkrepo /tmp/myrepo")
    assert (own_manual.words["/tmp"] / "myrepo/layers").is_dir()
    own_manual.words["docker.io/fedora/memcached"] = images.host + "/lab/busybox"
    own_manual.type("udocker --repo=/tmp/myrepo pull docker.io/fedora/memcached")
    assert own_manual.type("udocker --repo=/tmp/myrepo images").out == "REPOSITORY\n%s/lab/busybox:latest    .\n" % (
        images.host)


# 3.21 login, 3.22 logout

def test_login_and_logout(own_manual, private_registry):
    env = {"UDOCKER_REGISTRY": private_registry.url}
    own_manual.words.update({"xxxx": CREDENTIAL[0], "yyyy": CREDENTIAL[1],
                             "https://hostname:5000": private_registry.url})
    own_manual.type("udocker login --username=xxxx --password=yyyy", env=env)
    own_manual.type("udocker logout", env=env)
    own_manual.type('udocker login --registry="https://hostname:5000" --username=xxxx --password=yyyy')
    own_manual.type('udocker logout --registry="https://hostname:5000"')
    own_manual.type("udocker logout -a")
    assert not (own_manual.program.store / "keystore").exists()


# 3.1 and 3.19 run

RUN = [
    ("udocker run -v /tmp/mydir verybusy", "", ""),
    ("udocker run verybusy /bin/ls -l /etc", "", " marker\n"),
    ("udocker run rh7", "cat /etc/redhat-release", "Fedora release"),
    ("udocker run  myfed  cat /etc/redhat-release", "", "Fedora release 25"),
    ("udocker run --volume=/tmp  myfed  /bin/bash", "ls -d /tmp/mydir", "/mydir\n"),
    ("udocker run  -v=/tmp  myfed  /bin/bash -c 'cd /tmp; ./myscript.sh'", "", "my script\n"),
    ("udocker run -v=$HOME:/home/user -w=/home/user myfed  /bin/bash", "pwd; ls -A", "/home/user\n"),
    ("udocker run  --user=root myfed  yum install -y firefox pulseaudio gnash-plugin", "",
     "yum install -y firefox pulseaudio gnash-plugin by 0\n"),
    ("udocker run --user=1000:1001  myfed  /bin/id", "", "uid=1000"),
    ("udocker run --bindhome --hostauth --hostenv "
     "-v /sys -v /proc -v /var/run -v /dev --user=green --dri myfed  firefox", "", "firefox in "),
    ("udocker run ubuntu  /bin/bash", "cd /etc\ncat motd\ncat lsb-release", "Welcome\nDISTRIB_ID=Ubuntu\n"),
]


@pytest.mark.parametrize("line, typed, shown", RUN, ids=[line for line, _, _ in RUN])
def test_run(manual, mode, line, typed, shown):
    """What the examples leave to a shell is typed on standard input."""
    script = manual.words["/tmp"] / "myscript.sh"
    script.write_text("#!/bin/sh\necho my script\n")
    script.chmod(0o755)
    typed = typed.replace("/tmp", str(manual.words["/tmp"]))
    result = manual.type(line, input=typed.encode(), env={"UDOCKER_DEFAULT_EXECUTION_MODE": mode})
    assert shown in result.out


# 3.20 Debug

@pytest.mark.parametrize("line", ["udocker -D pull busybox:latest", "udocker -D run busybox:latest"])
def test_debug(own_manual, images, line):
    result = own_manual.type(line, env={"UDOCKER_REGISTRY": images.url})
    assert result.out == "" and result.err
