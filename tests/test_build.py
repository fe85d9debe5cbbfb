"""build: images made by Dockerfiles, in each mode that RUN knows; what they hold, what later builds keep of them."""
import json
import os
import signal
import subprocess
import sys
import tarfile

import pytest

import archives
import udocker as program_under_test
from archives import config_digest, skopeo
from conftest import need, working
from layers import file, tar
from faulty_registry import Answer, FaultyRegistry, digest_of
from program import CHECKOUT, Program, in_main_thread
from test_end_to_end import description

NAME = "lab/built:1"
NATIVE = program_under_test.Host().architecture[0]


@pytest.fixture(scope="module")
def store(tmp_path_factory, images):
    """A home with the image base:1, of busybox, that tests share."""
    program = Program(tmp_path_factory.mktemp("store"))
    reference = images.host + "/lab/busybox"
    program.ok("pull", reference)
    program.ok("tag", reference, "base:1")
    return program


class Shop:
    """A program, and a directory with what it builds from."""

    def __init__(self, program, context):
        self.program = program
        self.context = context
        self.context.mkdir()

    def write(self, **files):
        """Files of the context; in names two underscores stand for a slash, _dot_ for a point."""
        for name, content in files.items():
            path = self.context / name.replace("__", "/").replace("_dot_", ".")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())

    def _words(self, text, options):
        if text is not None:
            self.write(Dockerfile=text)
        return ["build", "-t", NAME] + list(options) + [self.context]

    def build(self, text=None, *options, **more):
        return self.program.ok(*self._words(text, options), **more)

    def fails(self, text, *options, **more):
        """The last lines of what it tells, which are the error and its hint."""
        result = self.program(*self._words(text, options), **more)
        assert result.status == 1 and "udocker: error: " in result.err and not result.out, result
        return result.err[result.err.index("udocker: error: "):]

    def shown(self, *command):
        """What a command in a container of the image writes."""
        return self.program.ok("run", "--rm", "--nobanner", NAME, *command).out

    def config(self):
        """The image's document."""
        return json.loads((self.program.store / "layers" / config_digest(self.program, NAME)).read_text())

    def layers(self):
        """The members of each layer above those of the base."""
        stored = [json.loads(archives.stored(self.program, name).decode())["layers"] for name in ("base:1", NAME)]
        above = [layer for layer in stored[1] if layer not in stored[0]]
        for layer in above:
            with tarfile.open(str(self.program.store / "layers" / layer["digest"])) as archive:
                yield list(archive)

    def names(self):
        """Their names."""
        return [[member.name for member in members] for members in self.layers()]


def kept(result):
    """{an instruction's name and the letter that follows: whether a build tells that it was kept from an earlier one}
    """
    lines = [line.split(": ", 2)[2] for line in result.err.splitlines() if line.startswith("udocker: ")]
    return {line.split()[0] + line.split()[1][:1]: line.endswith("(kept from an earlier build)") for line in lines}


@pytest.fixture
def shop(store, tmp_path):
    return Shop(store, tmp_path / "context")


@pytest.fixture
def moded(store, tmp_path, mode):
    """The same in each mode, in which nothing is kept from another one."""
    store("rmi", NAME)
    return Shop(store.with_env(UDOCKER_DEFAULT_EXECUTION_MODE=mode), tmp_path / "context")


# RUN

RUNS = r"""
FROM base:1
ARG A=arg
ENV E=env LONG="two words"
RUN echo "$A $E $LONG $LAB" > /out; id -u >> /out; pwd >> /out
RUN ["sh", "-c", "echo list $0 $E >> /out", "$E"]
WORKDIR /srv/made
RUN pwd >> /out; touch here; mkdir -p deep/er; ln -s here link; rm /etc/marker; chmod 755 /etc/not-executable
USER green
RUN id -u >> /tmp/user
SHELL ["sh", "-xc"]
RUN echo shell > /tmp/shell
"""


def test_run(moded):
    result = moded.build(RUNS)
    assert result.out == config_digest(moded.program, NAME) + "\n"
    assert "+ echo shell" in result.err
    assert moded.shown("cat", "/out") == "arg env two words lab value\n0\n/\nlist $E env\n/srv/made\n"
    assert moded.shown("cat", "/tmp/user", "/tmp/shell") == "1000\nshell\n"
    assert moded.shown("readlink", "/srv/made/link") == "here\n"
    assert moded.names() == [
        ["out"], ["out"], ["srv", "srv/made"],
        ["etc", "etc/not-executable", "out", "srv", "srv/made", "srv/made/deep", "srv/made/deep/er", "srv/made/here",
         "srv/made/link", "etc/.wh.marker"], ["tmp", "tmp/user"], ["tmp", "tmp/shell"]]


def test_a_build_in_a_rank_of_a_job(shop):
    """RUN is root's there too, and so is what it makes."""
    shop.build("FROM base:1\nRUN id -u > /out\n", env={"PMIX_RANK": "0"})
    assert [(member.name, member.uid) for member in next(shop.layers())] == [("out", 0)]
    assert shop.shown("cat", "/out") == "0\n"


def test_a_run_that_fails(moded):
    told = moded.fails("FROM base:1\nRUN true\nRUN echo told; exit 3\n")
    assert told.startswith("udocker: error: Dockerfile, line 3: RUN ended with exit status 3\n")
    assert "lab/built" not in moded.program.ok("images").out
    assert kept(moded.build("FROM base:1\nRUN true\nRUN echo else\n")) == {"RUNt": True, "RUNe": False}


def test_a_run_reads_nothing_and_leaves_no_process(shop):
    result = shop.build("FROM base:1\nRUN cat; sleep 1000 & echo $! > /pid\n", input=b"text\n")
    pid = int(shop.shown("cat", "/pid"))
    assert "text" not in result.err
    try:
        with open("/proc/%d/cmdline" % pid, "rb") as file:
            assert b"sleep" not in file.read()
    except FileNotFoundError:
        pass


def test_what_run_needs_is_in_no_layer(moded):
    """The places at which something is bound, in an image that has none of them."""
    with open(need("busybox"), "rb") as file:
        moded.write(busybox=file.read(), secret="word\n")
    moded.build("FROM scratch\nCOPY --chmod=755 busybox /bin/sh\nRUN --mount=type=secret,id=one --mount=type=tmpfs,"
                "target=/t --mount=type=cache,target=/deep/cache --mount=target=/context read line < /run/secrets/one; "
                "echo $line > /line; test -e /context/busybox; echo 1 > /deep/cache/1\n",
                "--secret=id=one,src=%s" % (moded.context / "secret"))
    assert moded.names() == [["bin", "bin/sh"], ["line"]]


def test_mounts(moded):
    moded.write(data__one="1", data__two="2", _dot_dockerignore="data/two\n")
    moded.build("""FROM base:1 AS other
RUN echo from another > /said
FROM base:1
RUN --mount=type=cache,target=/c echo kept > /c/file
RUN --mount=type=cache,target=/c --mount=type=cache,id=/c,target=/d cat /c/file /d/file > /out
RUN --mount=type=bind,source=data,target=/data ls /data >> /out
RUN --mount=from=other,source=/said,target=/said cat /said >> /out
WORKDIR /work
RUN --mount=target=.,rw touch new; ls >> /out
RUN --mount=type=secret,id=token,env=TOKEN --mount=type=secret,id=absent echo "$TOKEN" >> /out
""", "--secret=id=token,env=SECRET", env={"SECRET": "hush"})
    assert moded.shown("cat", "/out") == "kept\nkept\none\nfrom another\nDockerfile\ndata\nnew\nhush\n"
    assert sorted(os.listdir(str(moded.context))) == [".dockerignore", "Dockerfile", "data"]


def test_files_that_nobody_may_read(shop):
    """As /etc/shadow of Fedora is: they are in the layer, and have their mode in it."""
    shop.build("FROM base:1\nRUN echo x > /hidden; chmod 0 /hidden; mkdir /closed; touch /closed/in; chmod 0 /closed\n"
               "RUN echo more > /more\n")
    assert shop.names() == [["closed", "closed/in", "hidden"], ["more"]]
    assert [member.mode for member in next(shop.layers())] == [0, 0o644, 0]


def test_modes_that_run_changes(shop):
    """Also those of others, which containers in the store cannot have; the caller's umask has no say."""
    program = Program(shop.program.home, ["sh", "-c", 'umask 077; exec "$@"', "sh"] + shop.program.entry)
    shop.write(Dockerfile="""FROM base:1
RUN mkdir -m 777 /pub /data; touch /f; chmod 666 /f; umask
RUN chmod 777 /data; chmod 755 /pub; chmod g-w /f
RUN chmod -R o+w /srv; mkdir /new
COPY --chmod=777 Dockerfile /copied/
RUN chmod 755 /copied/Dockerfile
WORKDIR /made
""")
    (shop.context / "Dockerfile").chmod(0o644)
    result = program.ok("build", "-t", NAME, shop.context)
    assert "\n0022\n" in result.err
    assert [[(member.name, oct(member.mode)) for member in members] for members in shop.layers()] == [
        [("data", "0o777"), ("f", "0o666"), ("pub", "0o777")], [("f", "0o646"), ("pub", "0o755")],
        [("new", "0o755"), ("srv", "0o757")], [("copied", "0o755"), ("copied/Dockerfile", "0o777")],
        [("copied", "0o755"), ("copied/Dockerfile", "0o755")], [("made", "0o755")]]


def test_whose_what_run_makes_is(shop):
    shop.build("FROM base:1\nUSER green\nRUN mkdir /tmp/d; echo 1 > /tmp/d/f; ln -s f /tmp/d/l\n"
               "RUN echo 2 >> /tmp/d/f\n")
    assert [[(member.name, member.uid, member.gid) for member in members] for members in shop.layers()] == [
        [("tmp", 0, 0), ("tmp/d", 1000, 1001), ("tmp/d/f", 1000, 1001), ("tmp/d/l", 1000, 1001)],
        [("tmp", 0, 0), ("tmp/d", 1000, 1001), ("tmp/d/f", 1000, 1001)]]


def test_places_of_mounts_behind_links(moded):
    moded.write(secret="s")
    moded.build("FROM base:1\nRUN ln -s /opt /link\nRUN --mount=type=secret,id=s,target=/link/a/b "
                "--mount=target=/link/c cat /link/a/b > /out\n", "--secret=id=s,src=%s" % (moded.context / "secret"))
    assert moded.names() == [["link"], ["out"]]


def test_what_run_gives_away(shop, broken_modes):
    """Seen by the system call alone, in the image all the same: for what earlier layers have too, under new names, by
    ids that are large; a name that is taken again is another file's."""
    working("N1", broken_modes)
    shop.write(a="a", Dockerfile="FROM base:1\nRUN mkdir -p /srv/d && touch /srv/d/a /srv/b && ln -s b /srv/link && "
               "chown -R 1000:1000 /srv && chown -h 8:9 /srv/link && chown 7 /etc/passwd && stat -c %u /srv/b\n"
               "COPY --chown=5:6 --chmod=4755 a /srv/c\n"
               "RUN chown 0:0 /srv/d/a; chown 4294967000:3000000 /srv/b; chown 5:6 /srv/c; "
               "chown 1 /etc/missing || touch /refused; touch /x; chown 1 /x; rm /x; touch /y\n"
               "RUN touch /new; chown 3 /new; mv /new /srv/moved; chmod 0 /srv/moved; ln /srv/moved /hard\n"
               "USER green\nRUN touch /tmp/own; chown 3 /tmp/own || true\n")
    result = shop.build()
    assert "RUN mkdir" in result.err and "\n0\n" in result.err
    found = [{member.name: (member.uid, member.gid) for member in layer} for layer in shop.layers()]
    assert found[0] == {"etc/passwd": (7, 0), "srv": (1000, 1000), "srv/d": (1000, 1000), "srv/d/a": (1000, 1000),
                        "srv/b": (1000, 1000), "srv/link": (8, 9)}
    assert found[2] == {"srv/d/a": (0, 0), "srv/b": (4294967000, 3000000), "refused": (0, 0), "y": (0, 0)}
    assert found[3] == {"srv": (1000, 1000), "srv/moved": (3, 0), "hard": (3, 0)}
    assert found[4]["tmp/own"] == (1000, 1001)
    assert shop.shown("cat", "/etc/passwd").startswith("root:")


GIVER = r"""
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void told(const char *what, long result) { printf("%s %s\n", what, result ? strerror(errno) : "done"); }

int main(void)
{
    setbuf(stdout, NULL);
    mkdir("/d", 0755);
    chdir("/d");
    const char *names[] = {"1", "2", "3", "4", "5", "6", "7", "8"};
    int files[8], directory = open("/d", O_RDONLY);
    for (int number = 0; number < 8; number++)
        files[number] = open(names[number], O_RDWR | O_CREAT, 0644);
    symlink("/d/1", "link");
    told("relative", syscall(SYS_chown, "1", 1, -1));
    told("keeps", syscall(SYS_chown, "link", -1, 2));
    told("link", syscall(SYS_lchown, "/d/link", 3, 3));
    told("open", syscall(SYS_fchown, files[1], 4, 4));
    told("here", syscall(SYS_fchownat, AT_FDCWD, "3", 5, 5, 0));
    told("below", syscall(SYS_fchownat, directory, "4", 6, 6, AT_SYMLINK_NOFOLLOW));
    told("itself", syscall(SYS_fchownat, files[4], "", 7, 7, AT_EMPTY_PATH));
    told("empty", syscall(SYS_fchownat, files[4], "", 8, 8, 0));
    told("missing", syscall(SYS_chown, "/d/1/none", 9, 9));
    char *pages = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    munmap(pages + 4096, 4096);
    told("edge", syscall(SYS_chown, strcpy(pages + 4096 - 5, "/d/6"), 10, 10));
    char path[40];
    sprintf(path, "/proc/self/fd/%d", files[6]);
    told("proc", syscall(SYS_chown, path, 11, 11));
    told("nowhere", syscall(SYS_chown, (char *)-1, 12, 12));
    if (fork() == 0) {
        chroot("/d");
        told("root", syscall(SYS_chown, "/8", 13, 13));
        return 0;
    }
    wait(NULL);
    return 0;
}
"""


def test_what_comes_in_the_place_of_a_file(shop, broken_modes):
    """It keeps the owner that the file has in the image, where who replaces it has seen root there, as sed -i does;
    what it is given to else counts."""
    working("N1", broken_modes)
    shop.write(a="a\n")
    shop.build("FROM base:1\nCOPY --chown=5:6 a /1\nCOPY --chown=5:6 a /2\nCOPY --chown=5:6 a /3\n"
               "COPY --chown=5:6 a /4\nCOPY --chown=5:6 a /5\n"
               "RUN sed -i s/a/b/ /1; chown 0:0 /2; echo c > /new; chown 0:7 /new; mv /new /3; "
               "echo d > /new; chown 8:8 /new; chown 0:0 /new; mv /new /4; rm /5; echo e > /5\n")
    assert {member.name: (member.uid, member.gid) for member in list(shop.layers())[-1]} == {
        "1": (5, 6), "2": (0, 0), "3": (0, 7), "4": (0, 0), "5": (0, 0)}
    assert shop.shown("cat", "/1", "/3") == "b\nc\n"


MODES = {"600": (0o600, 0o600), "u=rwX,go=rX": (0o644, 0o755), "a+x": (0o755, 0o755), "+x": (0o755, 0o755),
         "go-r,u+s": (0o4600, 0o4711), "g=u": (0o664, 0o775), "o=,u-w": (0o440, 0o550), "ug+s,+t": (0o7644, 0o7755),
         "=r": (0o444, 0o444), "o=g,g=": (0o604, 0o705), "u+x-w,go=": (0o500, 0o500)}


@pytest.mark.parametrize("change", MODES)
def test_chmod_of_a_copy(shop, change):
    """Of files and directories, that in which they lie included."""
    shop.write(d__e__f="f", d__g="g")
    shop.build("FROM base:1\nCOPY --chmod=%s d /copied/\nCOPY d/g /copied/e/h\n" % change)
    of_files, of_directories = MODES[change]
    assert {member.name: member.mode for member in next(shop.layers())} == {
        "copied": of_directories, "copied/e": of_directories, "copied/e/f": of_files, "copied/g": of_files}


def test_what_gets_another_name(moded):
    """It keeps its owner in each mode, and who is made in its place does not get it."""
    moded.write(a__b="b", a__c="c")
    moded.build("FROM base:1\nCOPY --chown=5:6 a /a\nRUN mv /a /srv/d; mv /srv/d/b /opt/e; rm /srv/d/c; "
                "for name in 1 2 3 4 5 6 7 8 9; do touch /srv/d/$name; done\nRUN mv /srv/d /d\n")
    first, second = list(moded.layers())[-2:]
    owned = {member.name: (member.uid, member.gid) for member in first}
    assert owned == {"srv": (0, 0), "opt": (0, 0), "srv/d": (5, 6), "opt/e": (5, 6), ".wh.a": (0, 0),
                     **{"srv/d/%d" % number: (0, 0) for number in range(1, 10)}}
    assert {member.name: member.uid for member in second}["d"] == 5


def test_modes_of_what_is_moved_and_replaced(moded):
    """Those that the tree on disk cannot have go with the file, and not to what comes in its place."""
    moded.write(f="f", d__g="g")
    moded.build("FROM base:1\nCOPY --chmod=4755 --chown=5 f /1\nCOPY --chmod=000 f /2\nCOPY --chmod=2775 d /3\n"
                "COPY --chmod=4755 f /4\nCOPY --chmod=4755 --chown=5 f /5\n"
                "COPY --chmod=4755 f /6\nRUN ln /6 /7\nRUN rm /6; echo x > /6; chmod 755 /6\n"
                "RUN mkdir /m; mv /1 /2 /3 /m; rm /4 /5; echo x > /4; chmod 755 /4; mkdir /5\n")
    before, found = [{member.name: oct(member.mode) for member in members if ".wh." not in member.name}
                     for members in list(moded.layers())[-2:]]
    assert before == {"6": "0o755", "7": "0o4755"}
    assert found.pop("m/2") in ("0o0", "0o600")         # PRoot lets root read it
    assert found == {"m": "0o755", "m/1": "0o4755", "m/3": "0o2775", "m/3/g": "0o2775", "4": "0o755", "5": "0o755"}


BUSYBOX = """
FROM base:1
COPY --chown=5:5 d /d
RUN chgrp -R 33 /d; touch /n /m /o; chown 7 /n; chgrp 33 /n; chown 7:8 /m; chown 9 /m
RUN chown 7:8 /o; chown :9 /o; chgrp 0 /o
RUN busybox chown 3 /d/g; find /d -name h | xargs chgrp 4
"""


def test_what_busybox_leaves_as_it_is(shop, broken_modes):
    """It passes on what it sees, which is root's."""
    working("N1", broken_modes)
    shop.write(d__g="g", d__h="h")
    shop.build(BUSYBOX)
    first, second, third = [{member.name: (member.uid, member.gid) for member in members}
                            for members in list(shop.layers())[-3:]]
    assert first == {"d": (5, 33), "d/g": (5, 33), "d/h": (5, 33), "n": (7, 33), "m": (9, 8), "o": (0, 0)}
    assert second == {"o": (7, 0)} and third == {"d/g": (3, 33), "d/h": (5, 4)}


def test_what_leads_elsewhere(shop, broken_modes):
    """Descriptors of who asks, by whatever link, and what lies outside the root that it has."""
    working("N1", broken_modes)
    shop.build("FROM base:1\nRUN mkdir /e /e/d; cd /e/d; ln -s /dev/stdout out; chown 33 out; touch x y; exec 7<x; "
               "chown 12 /dev/fd/7 && chown 13 /proc/self/fd/7 && chown 14 /proc/self/cwd/y\n"
               "RUN mkdir -p /c/bin /c/data; cp /bin/busybox /c/bin; ln -s busybox /c/bin/sh; "
               "ln -s busybox /c/bin/chown; touch /data /c/data/f /c/top /top; ln -s /data/f /c/link; "
               "chroot /c sh -c 'chown 5 /link; chown 6 /../top; cd data; chown 7 /data/../data'\n")
    first, second = [{member.name: member.uid for member in members if member.uid} for members in shop.layers()]
    assert first == {"e/d/x": 13, "e/d/y": 14} and second == {"c/data/f": 5, "c/top": 6, "c/data": 7}


FULL = """
import os, resource, sys, udocker
with udocker.OwnerNotes(sys.argv[1] + "/owners", sys.argv[1], {}) as notes, open(sys.argv[1] + "/file", "wb") as file:
    kernel = udocker.Kernel()
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
    try:
        while True:
            notes.add(kernel, file.fileno(), 5, 6)
    except OSError:
        print({owner[:2] for owner in notes._calls().values()}, "refused")
"""


def test_a_disk_that_is_full_of_owners(tmp_path):
    """What cannot be noted cannot be given away, and spoils nothing of what was noted."""
    assert in_main_thread(FULL, tmp_path) == "{(5, 6)} refused\n"


def test_run_does_not_look_into_who_notes_owners(shop, broken_modes):
    """A process of udocker's, with the environment of the host."""
    working("N1", broken_modes)
    shop.build("FROM base:1\nRUN (grep -l of-the-host /proc/[0-9]*/environ 2>/dev/null; true) > /told\n",
               env={"SECRET": "of-the-host"})
    assert shop.shown("cat", "/told") == ""


def test_run_without_network(moded, mode):
    result = moded.build("FROM base:1\nRUN --network=none grep -c : /proc/self/net/dev > /told\n")
    is_real = mode in ("N1", "R1")
    assert (moded.shown("cat", "/told") == "1\n") == ("cut off" not in result.err) == is_real
    moded.build("FROM base:1\nRUN grep -c : /proc/self/net/dev > /told\n", "--network=none")
    assert (moded.shown("cat", "/told") == "1\n") == is_real


def test_a_mount_that_has_changed(shop):
    """What it shows counts, and that of a cache does not."""
    text = ("FROM base:1\nRUN --mount=type=bind,source=a,target=/m cat /m > /out\n"
            "RUN --mount=type=cache,target=/cache touch /cache/x\n")
    shop.write(a="1", Dockerfile=text)
    shop.build()
    assert set(kept(shop.build()).values()) == {True}
    shop.write(a="2")
    assert not any(kept(shop.build()).values())
    assert shop.shown("cat", "/out") == "2"


def test_arguments_that_need_no_declaration(shop):
    """Proxies alone do not, and what they are changes nothing of what is kept."""
    text = "FROM base:1\nRUN echo $http_proxy $OTHER > /told\n"
    shop.build(text, "--no-cache", "--build-arg=http_proxy=http://one", "--build-arg=OTHER=other")
    assert shop.shown("cat", "/told") == "http://one\n"
    assert set(kept(shop.build(text, "--build-arg=http_proxy=http://two")).values()) == {True}


def test_where_a_secret_is(shop):
    """In a file of its name where nothing is said, and in a variable alone where one is named."""
    shop.write(s="hidden", Dockerfile="FROM base:1\nRUN --mount=type=secret,id=s cat /run/secrets/s > /1\n"
               "RUN --mount=type=secret,id=s,env=V echo $V > /2; ls /run/secrets >> /2; true\n"
               "RUN --mount=type=secret,id=s,env=V,target=/t echo $V > /3; cat /t >> /3\n")
    shop.build(None, "--secret=id=s,src=%s" % (shop.context / "s"))
    assert shop.shown("cat", "/1", "/2", "/3") == "hiddenhidden\nhidden\nhidden"


# What refuses unshare(2), as sandboxes do
REFUSED = """
import ctypes, os, sys, udocker
kernel = udocker.Kernel()
number = {"x86_64": 272, "aarch64": 97}[os.uname().machine]
kernel.calls.tables = [(arch, dict(numbers, unshare=number)) for arch, numbers in kernel.calls.tables[:1]]
kernel.answer_calls(("unshare",), 1)
os.execv(sys.argv[1], sys.argv[1:])
"""


def test_where_n1_is_refused(shop, broken_modes, tmp_path):
    """RUN is run in P1. In a home of its own, as what is found out is kept."""
    working("P1", broken_modes)
    if os.uname().machine not in ("x86_64", "aarch64"):
        pytest.skip("the number of unshare(2) is not known here")
    shop.write(Dockerfile="FROM base:1\nRUN grep TracerPid /proc/self/status > /told\n")
    (tmp_path / "home").mkdir()
    program = Program(tmp_path / "home", [sys.executable, "-c", REFUSED] + shop.program.entry,
                      {"PYTHONPATH": str(CHECKOUT)})
    program.ok("load", input=shop.program.ok("save", "base:1").out_bytes)
    program.ok("build", "-t", NAME, shop.context)
    assert program.ok("run", "--rm", NAME, "cat", "/told").out.split()[1] != "0"


def test_kept_owners(shop, broken_modes):
    """What another mode has made, where owners are forgotten, is made anew."""
    working("N1", broken_modes)
    text = "FROM base:1\nRUN touch /kept; chown 5:6 /kept\n"
    mode = working("P1", broken_modes)
    forgetful = Shop(shop.program.with_env(UDOCKER_DEFAULT_EXECUTION_MODE=mode), shop.context / "p")
    forgetful.build(text)
    assert next(forgetful.layers())[0].uid == 0
    shop.build(text)
    assert next(shop.layers())[0].uid == 5


def test_a_directory_in_the_place_of_another(shop, broken_modes):
    """It is root's, also where nothing else tells them apart and nothing is given away."""
    working("N1", broken_modes)
    shop.write(d__a="a")
    shop.build("FROM base:1\nCOPY --chown=5:6 d /d\nRUN chmod 755 /d\nRUN mv /d /old; mkdir /d; mv /old/a /d\n")
    assert {member.name: member.uid for member in list(shop.layers())[-1]} == {"d": 0, "d/a": 5, "old": 5}


def test_set_id_bits_go_with_the_owner(shop, broken_modes):
    """As chown(2) has it: of what the image had, and of what RUN has made."""
    working("N1", broken_modes)
    shop.write(a="a")
    shop.build("FROM base:1\nCOPY --chmod=6755 a /had\nCOPY --chmod=6755 a /kept\nCOPY --chmod=6755 a /again\n"
               "RUN touch /made /later; chmod 4755 /made; chown 5 /made /had /again /later; "
               "chmod 4755 /later /again; mkdir -m 2770 /d; chown 5 /d\n")
    assert {member.name: (oct(member.mode), member.uid) for member in list(shop.layers())[-1]} == {
        "made": ("0o755", 5), "had": ("0o755", 5), "later": ("0o4755", 5), "again": ("0o4755", 5),
        "d": ("0o2770", 5)}


def test_what_each_call_gives_away(shop, broken_modes):
    need("gcc")
    working("N1", broken_modes)
    shop.write(**{"giver_dot_c": GIVER})
    subprocess.check_call(["gcc", "-static", "-w", "-o", str(shop.context / "giver"), str(shop.context / "giver.c")])
    shop.build("FROM base:1\nCOPY giver /\nRUN /giver > /told\n")
    assert shop.shown("cat", "/told").splitlines() == [
        "relative done", "keeps done", "link done", "open done", "here done", "below done", "itself done",
        "empty No such file or directory", "missing Not a directory", "edge done", "proc done", "nowhere done",
        "root done"]
    found = {member.name: (member.uid, member.gid) for member in list(shop.layers())[-1]}
    assert found == {"told": (0, 0), "d": (0, 0), "d/1": (1, 2), "d/link": (3, 3), "d/2": (4, 4), "d/3": (5, 5),
                     "d/4": (6, 6), "d/5": (7, 7), "d/6": (10, 10), "d/7": (11, 11), "d/8": (13, 13)}


# A filter of its own that somebody listens to: Linux takes no second one
LISTENED = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
buffer = ctypes.create_string_buffer(bytes.fromhex("06000000" "0000ff7f"), 8)
words = (1).to_bytes(8, sys.byteorder) + ctypes.addressof(buffer).to_bytes(8, sys.byteorder)
assert libc.prctl(38, 1, 0, 0, 0) == 0
listener = libc.syscall(int(sys.argv[1]), 1, 8, ctypes.create_string_buffer(words, 16))
assert listener >= 0, ctypes.get_errno()
os.set_inheritable(listener, True)
os.execv(sys.argv[2], sys.argv[2:])
"""


def test_where_nobody_can_be_told(shop, broken_modes):
    """RUN goes on, and chown is forgotten."""
    working("N1", broken_modes)
    number = program_under_test.SystemCalls(program_under_test.Host().machine).number("seccomp")
    shop.write(Dockerfile="FROM base:1\nRUN touch /a; chown 5 /a && echo gone on\n")
    entry = [sys.executable, "-c", LISTENED, str(number)] + shop.program.entry
    result = Program(shop.program.home, entry).ok("-D", "build", "-t", NAME, shop.context)
    assert "owners are forgotten: seccomp: Device or resource busy" in result.err
    assert "\ngone on\n" in result.err
    assert [(member.name, member.uid) for member in next(shop.layers())] == [("a", 0)]


def test_output_goes_back_where_it_went():
    before = sorted(os.listdir("/proc/self/fd"))
    with program_under_test.StepOutput():
        pass
    assert sorted(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("command, status", [("exit 143", 143), ("kill -TERM $$", 143), ("exit 130", 130)])
def test_a_run_that_ends_as_by_a_signal(shop, command, status):
    assert "RUN ended with exit status %d" % status in shop.fails("FROM base:1\nRUN %s\n" % command)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_build_that_is_ended(moded, number):
    """Nothing of RUN goes on, and nothing is left but what the next build takes away, secrets first."""
    moded.write(secret="s", Dockerfile="FROM base:1\nRUN --mount=type=secret,id=s (sleep 1000 &); echo up >&2; "
                                       "sleep 1000\n")
    words = ["build", "-t", NAME, "--secret=id=s,src=%s" % (moded.context / "secret"), moded.context]
    with moded.program.start(*words, stderr=subprocess.PIPE, start_new_session=True) as process:
        for line in process.stderr:
            if line == b"up\n":
                break
        process.send_signal(number)
        process.stderr.read()           # until all that has it is gone
        assert process.wait(60) == (-number if number == signal.SIGKILL else 128 + number)
    moded.build("FROM base:1\nRUN true\n")
    left = os.listdir(str(moded.program.store / "containers"))
    assert not [name for name in left if not name.startswith(".new-")]      # which is swept after a minute


def test_what_run_changes_as_another_tool_sees_it(shop, tmp_path):
    need("umoci")
    shop.write(a="a", d__b="b")
    shop.build("FROM base:1\nRUN rm -r /usr; mkdir /usr; echo 1 > /usr/bin\nRUN rm /etc/group && mkdir /etc/group\n"
               "COPY . /etc/group/\nRUN ln /etc/group/a /etc/hard; chmod 700 /etc/group; mv /etc/passwd /etc/passed\n")
    shop.program.ok("save", "-o", tmp_path / "saved.tar", NAME)
    skopeo("oci-archive:%s" % (tmp_path / "saved.tar"), "oci:%s:it" % (tmp_path / "layout"))
    subprocess.run(["umoci", "--log=error", "unpack", "--rootless", "--image", "%s:it" % (tmp_path / "layout"),
                    str(tmp_path / "bundle")], check=True)
    shop.program.ok("create", "--name=box", NAME)
    try:
        ours = description(archives.root_of(shop.program, "box"))
        assert ours == description(tmp_path / "bundle/rootfs", withheld=0o022)
        assert shop.program.ok("diff", "box").out == ""
    finally:
        shop.program.ok("rm", "box")


# COPY and ADD

FILES = {"a": "a", "b_dot_txt": "b", "c_dot_txt": "c", "d__e": "e", "d__f__g": "g"}


@pytest.mark.parametrize("lines, names", [
    ("COPY a /new", "new"), ("COPY a /new/", "new, new/a"), ("COPY a /opt", "opt, opt/a"), ("COPY a new", "new"),
    ("WORKDIR /w\nCOPY a .", "w, w/a"), ("WORKDIR w\nCOPY a b.txt ./", "w, w/a, w/b.txt"),
    ("COPY d /new", "new, new/e, new/f, new/f/g"), ("COPY d /new/", "new, new/e, new/f, new/f/g"),
    ("COPY d/ /opt", "opt, opt/e, opt/f, opt/f/g"), ("COPY *.txt /new/", "new, new/b.txt, new/c.txt"),
    ("COPY [ab]* nothing* /x/", "x, x/a, x/b.txt"), ("COPY ?.txt d/f /x/", "x, x/b.txt, x/c.txt, x/g"),
    ("COPY . /", "Dockerfile, a, b.txt, c.txt, d, d/e, d/f, d/f/g, with space"),
    ("COPY d/f/../e /new/", "new, new/e"), ("COPY ../a /b", "b"), ("COPY d/*/g /new/", "new, new/g"),
    ('COPY ["with space", "a", "/a dir/"]', "a dir, a dir/a, a dir/with space"), ("COPY 'with space' /x", "x"),
    ("ENV N=a T=/new\nCOPY $N ${T}/", "new, new/a"), ("ARG N=a\nCOPY ${N:-b.txt} /x/", "x, x/a"),
    ("RUN ln -s /opt /link\nCOPY a /link/", "opt, opt/a"), ("RUN ln -s opt/b /link\nCOPY a /link", "opt, opt/b"),
    ("ADD packed.tar.gz /new", "new, new/e, new/f, new/f/g"), ("ADD a packed.tar.gz /x/", "x, x/a, x/e, x/f, x/f/g"),
    ("COPY packed.tar.gz /new/", "new, new/packed.tar.gz"), ("ADD a /new/", "new, new/a"),
    ("COPY <<one a /new/\nx\none", "new, new/a, new/one"),
])
def test_copy(shop, lines, names):
    shop.write(**FILES)
    (shop.context / "with space").write_text("s")
    if "packed" in lines:
        with tarfile.open(str(shop.context / "packed.tar.gz"), "w:gz") as archive:
            archive.add(str(shop.context / "d"), ".")
    shop.build("FROM base:1\n" + lines)
    assert shop.names()[-1] == names.split(", ")


def test_what_copies_are_like(shop):
    """Modes and times of the context, root's unless it is said otherwise."""
    shop.write(a="a", d__e="e", s="#!/bin/sh\necho probe\n")
    (shop.context / "s").chmod(0o755)
    (shop.context / "link").symlink_to("a")
    (shop.context / "d/dangling").symlink_to("/nowhere")
    os.utime(str(shop.context / "a"), (1000000000, 1000000000))
    shop.build("FROM base:1\nCOPY a s link /one/\nCOPY --chown=green:0 --chmod=2770 d /two\nCOPY --chown=7 a /three\n"
               "USER green\nWORKDIR /four/five\n")
    members = [member for members in shop.layers() for member in members]
    assert {member.name: (member.mode, member.uid, member.gid) for member in members if not member.issym()} == {
        "one": (0o755, 0, 0), "one/a": (0o644, 0, 0), "one/link": (0o644, 0, 0), "one/s": (0o755, 0, 0),
        "two": (0o2770, 1000, 0), "two/e": (0o2770, 1000, 0), "three": (0o644, 7, 7),
        "four": (0o755, 1000, 1001), "four/five": (0o755, 1000, 1001)}
    assert [(member.name, member.uid) for member in members if member.issym()] == [("two/dangling", 1000)]
    assert [member.mtime for member in members if member.name in ("one/a", "one/link")] == [1000000000] * 2
    assert shop.shown("/one/s") == "probe\n"


@pytest.mark.parametrize("rules, seen", [
    ("", "a b.txt c.txt d/e d/f/g"), ("*.txt", "a d/e d/f/g"), ("d", "a b.txt c.txt"), ("/d/", "a b.txt c.txt"),
    ("d/f", "a b.txt c.txt d/e"), ("**/g", "a b.txt c.txt d/e"), ("*/e", "a b.txt c.txt d/f/g"),
    ("# *\n\n  a  ", "b.txt c.txt d/e d/f/g"), ("*\n!a", "a"), ("*\n!d/f/g", "d/f/g"),
    ("*.txt\n!c.txt", "a c.txt d/e d/f/g"), ("d\n!d/e", "a b.txt c.txt d/e"), ("[ab]*", "c.txt d/e d/f/g"),
    ("[^a]*", "a"), ("?", "b.txt c.txt"), ("\\a", "b.txt c.txt d/e d/f/g"), ("d/**", "a b.txt c.txt"),
    ("./a", "b.txt c.txt d/e d/f/g"), ("d/../a", "b.txt c.txt d/e d/f/g"),
])
def test_what_a_dockerignore_leaves_out(shop, rules, seen):
    shop.write(**FILES)
    rules, layout = program_under_test.IgnoreRules(rules.splitlines()), program_under_test.Layout("/nowhere")
    tree = program_under_test.BuildContext(str(shop.context), rules, layout)
    names = [name for name, _, _, _ in tree.walk()]
    assert sorted(name for name in names if not (shop.context / name).is_dir()) == seen.split()
    if rules.has_exceptions:        # no directory comes of which nothing does
        assert {os.path.dirname(name) for name in names if name} >= {name for name in names
                                                                     if (shop.context / name).is_dir()}


def test_which_dockerignore(shop):
    shop.write(a="a", b="b", _dot_dockerignore="a", other="FROM base:1\nCOPY [ab] /seen/\nCOPY . /all\n")
    shop.build(None, "-f", shop.context / "other")
    assert shop.names() == [["seen", "seen/b"], ["all", "all/.dockerignore", "all/b", "all/other"]]
    (shop.context / "other.dockerignore").write_text("b\no*")
    shop.build(None, "-f", shop.context / "other")
    assert shop.names() == [["seen", "seen/a"], ["all", "all/.dockerignore", "all/a"]]
    assert "Dockerfile, line 2: a: nothing has this name in" in shop.fails("FROM base:1\nCOPY a /")


def test_an_allow_list(shop):
    """A directory that is left out, but for something in it, can be named."""
    shop.write(_dot_dockerignore="*\n!d/f/g\n", **FILES)
    shop.build("FROM base:1\nCOPY d /x\nCOPY d/ /y/\nCOPY d/f /z\nRUN --mount=source=d,target=/d ls /d > /out")
    assert shop.names() == [["x", "x/f", "x/f/g"], ["y", "y/f", "y/f/g"], ["z", "z/g"], ["out"]]
    assert shop.shown("cat", "/out") == "f\n"
    for line in "COPY a /", "COPY d/e /", "RUN --mount=source=a,target=/a true":
        assert "nothing has this name in" in shop.fails("FROM base:1\n" + line)


def test_a_store_in_the_context(store, tmp_path):
    """It is no part of it: what is copied would be copied once more."""
    program = Program(tmp_path)
    program.ok("load", input=store.ok("save", "base:1").out_bytes)
    (tmp_path / "Dockerfile").write_text("FROM base:1\nCOPY . /all\nRUN --mount=target=/c ls -A /c /all > /out\n")
    program.ok("build", "-t", NAME, ".", cwd=tmp_path)
    assert program.ok("run", "--rm", NAME, "cat", "/out").out == "/all:\nDockerfile\n\n/c:\nDockerfile\n"


def test_what_a_directory_that_copies_go_to_is_like(shop):
    shop.write(d__e="e")
    (shop.context / "d").chmod(0o775)
    shop.build("FROM base:1\nCOPY d /x\n")
    assert [oct(member.mode) for member in next(shop.layers())] == ["0o755", "0o644"]


def test_here_documents(moded):
    moded.build(r"""FROM base:1
ENV V=value
RUN <<EOF
echo "script $V" > /out
if true
then
<tab>echo two >> /out # no comment
fi
EOF
RUN cat >> /out <<EOF && cat <<'NEXT' >> /out
text $V
EOF
text $V
NEXT
RUN <<-EOF sh
<tab># the text is the input
<tab>echo "$(( 1<<3 ))" >> /out
<tab>EOF
RUN <<EOF
#!/bin/sh -e
echo "read by $0" >> /out
EOF
# Jos\xe9 needs no UTF-8 here, and this is none: RUN <<EOF
RUN echo "no <<EOF y" '<<EOF' >> /out
COPY <<EOF <<'raw' <<-tabs /copied/
a "$V" 'b' \$V \n
EOF
$V
raw
<tab><tab>x
<tab>tabs
""".replace("<tab>", "\t"))
    assert moded.shown("cat", "/out").splitlines() == [
        "script value", "two", "text value", "text $V", "8", "read by /run/udocker-build", "no <<EOF y <<EOF"]
    assert moded.shown("cat", "/copied/EOF", "/copied/raw", "/copied/tabs") == 'a "value" \'b\' $V \\n\n$V\nx\n'
    assert not any("run" in names for names in moded.names())


class Web(FaultyRegistry):
    """A server with one file."""

    CONTENT = b"content"

    def answer(self, request):
        if request.path.partition("?")[0] == "/some/file.bin":
            return Answer(200, self.CONTENT)
        return Answer(404, b"")


def test_add_from_elsewhere(shop):
    with Web() as server:
        url = server.url + "/some/file.bin"
        shop.build("FROM base:1\nADD %s?x=1 /one\nADD --checksum=%s %s /two/\n" % (
            url.replace("//", "//user:word@"), digest_of(Web.CONTENT), url))
        assert "word" not in shop.program.ok("history", "--no-trunc", NAME).out
        assert shop.shown("cat", "/one", "/two/file.bin") == "contentcontent"
        assert [member.mode for members in shop.layers() for member in members if member.isreg()] == [0o600] * 2
        assert "its digest is" in shop.fails("FROM base:1\nADD --checksum=sha256:%s %s /\n" % ("0" * 64, url))
        assert "404" in shop.fails("FROM base:1\nADD %s/absent /\n" % server.url)
    assert "repositories are not fetched" in shop.fails("FROM base:1\nADD git@host:x/y.git /\n")


# Stages

STAGES = """
ARG BASE=nothing
FROM ${BASE:-x}:1 AS first
RUN echo first > /first
FROM base:1 AS unneeded
RUN false
FROM first AS second
ENV S=second
RUN echo $S > /second
FROM base:1
COPY --from=first /first /copied/
COPY --from=2 /second /copied/
COPY --from=base:1 /etc/marker /copied/
"""


def test_stages(shop):
    result = shop.build(STAGES, "--build-arg=BASE=base")
    assert shop.shown("sh", "-c", "cd /copied; cat first second marker") == "first\nsecond\ninside\n"
    assert "RUN false" not in result.err
    shop.build(STAGES, "--build-arg=BASE=base", "--target=SECOND")
    assert shop.shown("cat", "/first", "/second") == "first\nsecond\n"
    assert "RUN ended with exit status 1" in shop.fails(STAGES, "--build-arg=BASE=base", "--target=unneeded")
    assert "has no such stage" in shop.fails(STAGES, "--target=third")
    assert "nothing:1 is not here" in shop.fails(STAGES, env={"UDOCKER_REGISTRY": "http://127.0.0.1:1"})


def test_what_is_left_of_a_build(shop):
    shop.build("FROM base:1 AS one\nRUN echo 1 > /1\nFROM base:1\nCOPY --from=one /1 /\n")
    store = shop.program.store
    assert os.listdir(str(store / "containers")) == []
    assert set(kept(shop.build()).values()) == {True}
    assert ".build-1" in shop.program.ok("prune", "--dry-run").out
    shop.program.ok("rmi", NAME)
    assert not (store / "repos/lab").exists()
    assert "sha256" not in shop.program.ok("prune", "--dry-run").out


# What is kept

def test_a_build_goes_on_where_something_is_new(shop):
    text = "FROM base:1\nARG A=1\nRUN echo one\nCOPY a /\nRUN ls; echo $A\nCOPY b /\nENV E=1\nRUN true $E\n"
    shop.write(a="a", b="b")
    first = shop.build(text)
    again = shop.build(text)
    everything = {"ARGA": False, "RUNe": True, "COPYa": True, "RUNl": True, "COPYb": True, "ENVE": False, "RUNt": True}
    assert first.out == again.out and kept(again) == everything      # ARG and ENV are done, not kept
    os.utime(str(shop.context / "a"), (1, 1))
    assert shop.build(text).out == first.out
    shop.write(b="other")
    assert kept(shop.build(text)) == dict(everything, COPYb=False, RUNt=False)
    assert kept(shop.build(text.replace("E=1", "E=2"))) == dict(everything, RUNt=False)
    assert kept(shop.build(text, "--build-arg=A=2")) == {name: False for name in everything}
    assert not any(kept(shop.build(text, "--no-cache")).values())
    (shop.context / "b").chmod(0o700)
    assert not kept(shop.build(text))["COPYb"]


def test_what_is_new_although_it_looks_the_same(shop):
    """A file that a pattern finds under another name; the owners in an archive."""
    shop.write(a_dot_txt="a", x_dot_tar=tar(file("t", b"", uid=5, gid=6)))
    text = "FROM base:1\nCOPY *.txt /\nADD x.tar /\n"
    shop.build(text)
    (shop.context / "a.txt").rename(shop.context / "b.txt")
    assert not any(kept(shop.build(text)).values()) and shop.names()[0] == ["b.txt"]
    shop.write(x_dot_tar=tar(file("t", b"", uid=7, gid=6)))
    assert kept(shop.build(text)) == {"COPY*": True, "ADDx": False}
    assert [member.uid for members in shop.layers() for member in members if member.name == "t"] == [7]


def test_what_other_builds_have_kept(shop):
    """Those of another name, of another stage; what changes nothing for RUN does not count."""
    text = "FROM base:1 AS one\nRUN echo 1 > /1\nFROM one\nRUN echo 2 > /2\n"
    shop.build(text)
    shop.build(text, "--target=one")
    assert set(kept(shop.build(text)).values()) == {True}
    shop.program.ok("build", "-t", "lab/built:other", shop.context)
    shop.program.ok("rmi", NAME)
    assert set(kept(shop.build(text)).values()) == {True}
    shop.program.ok("rmi", "lab/built:other")
    assert kept(shop.build(text.replace("RUN echo 2", "LABEL a=b\nEXPOSE 80\nCMD x\nRUN echo 2")))["RUNe"]


def test_what_is_left_of_a_first_build_that_fails(shop):
    shop.program("rmi", NAME)
    shop.fails("FROM base:1\nRUN echo 1 > /1\nRUN false\n")
    assert shop.program.ok("rmi", NAME).err == ""
    assert not (shop.program.store / "repos/lab/built").exists()


def test_what_is_kept_and_gone(shop):
    shop.build("FROM base:1\nRUN echo 1 > /1\nRUN echo 2 > /2\n")
    cache = shop.program.store / "repos/lab/built/.build-1"
    (cache / ".steps").write_text("{damaged")
    assert not any(kept(shop.build()).values())
    manifest = json.loads(archives.stored(shop.program, NAME).decode())
    (shop.program.store / "layers" / manifest["layers"][-1]["digest"]).unlink()
    assert "RUN echo 1 > /1 (kept" in shop.build().err
    assert shop.shown("cat", "/1", "/2") == "1\n2\n"
    shop.program.ok("prune")
    assert not cache.exists()
    assert not any(kept(shop.build()).values())


def test_two_builds_of_one_name_at_once(shop):
    """The slower one has the name in the end, and lacks nothing."""
    shop.write(slow="FROM base:1\nRUN echo slow > /1\nRUN sleep 1\nRUN echo slow > /2\n",
               quick="FROM base:1\nRUN echo quick > /1\nRUN echo quick > /2\n")
    running = [shop.program.start("build", "-q", "--no-cache", "-t", NAME, "-f", shop.context / name, shop.context,
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE) for name in ("slow", "quick")]
    for process in running:
        _, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
    assert shop.shown("cat", "/1", "/2") == "slow\nslow\n"
    shop.program.ok("verify", NAME)


# How the image is run

@pytest.mark.parametrize("lines, key, value", [
    ("CMD echo $HOME", "Cmd", ["/bin/sh", "-c", "echo $HOME"]), ('CMD ["a", "b c"]', "Cmd", ["a", "b c"]),
    ("ENTRYPOINT x", "Cmd", None), ("CMD y\nENTRYPOINT x", "Cmd", ["/bin/sh", "-c", "y"]), ("CMD []", "Cmd", []),
    ('SHELL ["/bin/ash", "-c"]\nENTRYPOINT x', "Entrypoint", ["/bin/ash", "-c", "x"]),
    ("USER a:b", "User", "a:b"), ("WORKDIR a\nWORKDIR b/../c", "WorkingDir", "/a/c"),
    ("STOPSIGNAL 2", "StopSignal", "2"),
    ("EXPOSE 80 443/udp", "ExposedPorts", {"80/tcp": {}, "443/udp": {}}), ("ONBUILD RUN x", "OnBuild", ["RUN x"]),
    ("VOLUME /a /b", "Volumes", {"/a": {}, "/b": {}}),
    ('VOLUME ["/a b"]', "Volumes", {"/a b": {}}), ("LABEL a=1 \\\n  b=\"2 3\"", "Labels", {"a": "1", "b": "2 3"}),
    ("LABEL a=1\nLABEL a=2", "Labels", {"a": "2"}),
    ("# escape=`\nLABEL dir=C:`\n/x", "Labels", {"dir": "C:/x"}),
])
def test_how_it_is_run(shop, lines, key, value):
    directive, _, rest = lines.rpartition("# escape=`\n")
    shop.build(("# escape=`\n" if rest != lines else "") + directive + "FROM base:1\n" + rest)
    assert shop.config()["config"].get(key) == value


@pytest.mark.parametrize("text, words", [
    ("$V", ["1"]), ("${V}2", ["12"]), ("'$V' \"$V\"", ["$V", "1"]), ("\\$V \\\\$V", ["$V", "\\1"]),
    ("$L", ["two words"]),
    ("a$L b", ["atwo words", "b"]), ("${X:-${V}s}", ["1s"]), ("${V:+a}${X:+b}", ["a"]), ("${V-a}${X-b}${E-c}", ["1b"]),
    ("${E:-d}${E:+e}${E+f}", ["df"]), ("${V:?no}${E?no}", ["1"]), ("a\\ b", ["a b"]), ("1$ $", ["1$", "$"]),
    ('"a\\"b" \'c"d\'', ['a"b', 'c"d']), ("a  \t b", ["a", "b"]), ("", []), ("''", [""]), ("$X", [""]),
    ("${V}{", ["1{"]),
    ("`a` $(b)", ["`a`", "$(b)"]), ("$V1 ${V}1", ["", "11"]), ("it's$V'", ["its$V"]), ('"a\\nb"', ["a\\nb"]),
])
def test_variables_and_quotes(text, words):
    values = {"V": "1", "L": "two words", "E": ""}
    assert program_under_test.DockerfileText(text, values).words() == words


@pytest.mark.parametrize("text", [
    "${V#v}", "${V##*.}", "${V#*.}", "${V%.*}", "${V%%.*}", "${V%%-*}", "${P##*/}", "${P%/*}", "${P/a/x}", "${V##}",
    "${V//*/X}", "${E//*/X}", "${V//*1*/X}",
    "${P//\\//_}", "${P/\\/a/}", "${V#w}", "${E#x}", "${U%x}", "${P%.???}", "${V/?/X}", "${V//./}", "${V%$N}",
    "${V/1*/Z}", "${P//b}", "${V/.2.${N}/-}", "${V//\\*/x}", "${V/v/\\*}", "${V#v}${V%-*}"])
def test_values_that_are_edited(text):
    """As bash does it."""
    values = {"V": "v1.2.3-rc.1", "P": "/a/b/c.tar.gz", "E": "", "N": "3"}
    known = subprocess.check_output(["bash", "-c", "printf %%s \"%s\"" % text], env=dict(values, PATH=os.defpath))
    assert program_under_test.DockerfileText(text, values).whole() == known.decode()


@pytest.mark.parametrize("lines, value", [
    ("ENV V=1 W=$V", ""), ("ENV V=1\nENV W=${V}2", "12"), ('ENV W="$LAB"', "lab value"),
    ("ENV W two  words", "two  words"),
    ("env W=a \\\n# comment\n\n  V=b", "a"), ("ARG A\nENV W=$A", "given"), ("ARG A=d\nENV W=$A", "given"),
    ("ARG B=d\nARG C=$B\nENV W=$C", "d"), ("ENV W=$A", ""), ("ENV A=env\nARG A\nENV W=$A", "env"),
    ("ARG G\nENV W=$G", "global"), ("ARG TARGETARCH\nENV W=$TARGETARCH", NATIVE),
])
def test_values(shop, lines, value):
    shop.build("ARG G=global\nFROM base:1 AS x\n" + lines, "--build-arg=A=given")
    assert dict(item.split("=", 1) for item in shop.config()["config"]["Env"])["W"] == value


def test_onbuild(shop):
    shop.build("FROM base:1\nONBUILD RUN echo triggered > /out\nONBUILD COPY a /\n")
    shop.program.ok("tag", NAME, "lab/trigger:1")
    shop.write(a="a")
    shop.build("FROM lab/trigger:1\nRUN cat /a >> /out\n")
    shop.program.ok("rmi", "lab/trigger:1")
    assert shop.shown("cat", "/out") == "triggered\na"
    assert "OnBuild" not in shop.config()["config"]


def test_history_and_labels(shop):
    shop.build("FROM base:1\nMAINTAINER me\nLABEL a=1\nRUN true\nRUN echo 1 > /1\nCMD x\n", "--label=b=2 3")
    document = shop.config()
    assert document["author"] == "me" and document["config"]["Labels"] == {"a": "1", "b": "2 3"}
    own = document["history"][-5:]
    assert [step["created_by"] for step in own] == [
        "MAINTAINER me", "LABEL a=1", "RUN true", "RUN echo 1 > /1", "CMD x"]
    assert [step.get("empty_layer", False) for step in own] == [True, True, True, False, True]
    assert sum(not step.get("empty_layer") for step in document["history"]) == len(document["rootfs"]["diff_ids"])


# The command line

def test_names_and_files(shop, tmp_path):
    shop.write(Containerfile="FROM base:1\nCOPY a /\n", a="a")
    out = shop.build(None, "--tag=lab/other:2", "--iidfile=%s" % (tmp_path / "id")).out
    assert (tmp_path / "id").read_text() + "\n" == out == config_digest(shop.program, "lab/other:2") + "\n"
    shop.program.ok("rmi", "lab/other:2")
    for words in (["image", "build"], ["buildx", "build", "--load"], ["builder", "build"]):
        assert shop.program.ok(*words, "-t", NAME, ".", cwd=shop.context).out == out
    assert shop.program.ok("build", "-t", NAME, "-f", "-", shop.context, input=b"FROM base:1\nCOPY a /\n").out == out
    shop.program.ok("build", "-t", NAME, "-", input=b"FROM base:1\nRUN echo 1 > /from-stdin\n")
    assert shop.shown("cat", "/from-stdin") == "1\n"


def test_quietly(shop):
    result = shop.build("FROM base:1\nRUN echo noise; echo noise >&2\n", "-q")
    assert result.err == "" and result.out.startswith("sha256:")
    told = shop.program("build", "-q", "-t", NAME, "-", input=b"FROM base:1\nRUN seq 100000; echo why; exit 1\n")
    assert "\n99999\n100000\nwhy\nudocker: error: " in told.err and len(told.err) < 100000


def test_a_build_without_a_name(shop):
    first = shop.program.ok("build", "-", input=b"FROM base:1\nRUN echo 1 > /1\n").out.strip()
    assert shop.program.ok("run", "--rm", first, "cat", "/1").out == "1\n"
    second = shop.program.ok("build", "-", input=b"FROM base:1\nRUN echo 2 > /1\n").out.strip()
    names = [name for name in archives.listed(shop.program) if name.startswith("built:")]
    assert shop.program.ok("run", "--rm", second, "cat", "/1").out == "2\n" and len(names) == 1
    for name in "one", "two":
        shop.write(**{name + "__Dockerfile": "FROM base:1\nENV A=%s\n" % name})
        shop.program.ok("build", shop.context / name)
    names = [name for name in archives.listed(shop.program) if name.startswith("built:")]
    assert len(names) == 3
    shop.program.ok("rmi", *names)


@pytest.mark.parametrize("text, told", [
    ("\n", "there is no FROM in it"), ("RUN x\nFROM base:1", "line 1: RUN: comes before FROM"),
    ("FROM base:1\nRUNN x", "line 2: RUNN: unknown instruction"),
    ("FROM base:1\n\nENV", "line 3: ENV: nothing follows"),
    ("FROM base:1\nENV A", "ENV A: cannot be understood"), ("FROM base:1\nENV A='x", "a quote has no end"),
    ("FROM base:1\nENV A=${B", "a variable that cannot be understood"), ("FROM a b", "FROM a b: cannot be understood"),
    ("FROM base:1\nENV A=${B!x}", "cannot be understood"), ("FROM base:1\nENV A=${B:?no B}", "B: no B"),
    ("FROM base:1\nCOPY a", "cannot be understood"), ("FROM base:1\nCOPY absent /", "absent: nothing has"),
    ("FROM base:1\nCOPY absent* /", "absent*: nothing has this name"), ("FROM base:1\nRUN", "RUN: nothing follows"),
    ("FROM base:1\nCOPY --from=absent a /", "absent"), ("FROM base:1\nCOPY --frm=x a /", "--frm: this flag is not"),
    ("FROM base:1\nCOPY --chmod=u+q a /b", "no mode"), ("FROM base:1\nCOPY --chown=nobody-here a /b", "no such user"),
    ("FROM base:1\nCOPY a /etc/passwd/b", "/etc/passwd"), ("FROM base:1\nCOPY . /etc/passwd", "/etc/passwd"),
    ("FROM base:1\nRUN <<b\nx", "the here-document b has no end"),
    ("FROM base:1\nRUN --mount=type=ssh true", "only bind, cache"),
    ("FROM base:1\nRUN --mount=type=cache true", "no target"),
    ("FROM base:1\nRUN --mount=target=/ true", "over the root"),
    ("FROM base:1\nRUN --mount=target=/x,source=absent true", "absent"),
    ("FROM base:1\nRUN --mount=type=secret,id=s,required=true true", "no such secret"),
    ("FROM base:1\nSHELL sh", "write a list"), ("FROM base:1\nONBUILD FOO x", "FOO: unknown instruction"),
    ("FROM base:1\nONBUILD ONBUILD RUN x", "cannot be"), ("FROM base:1\nEXPOSE x", "no port"),
    ("FROM base:1\nARG 1=2", "no name of a variable"), ("FROM base:1\nCOPY --chmod=77777 a /b", "no mode"),
    ("FROM base:1\nRUN --mount=type=cache,target=/c,from=x true", "from is not known"),
    ("FROM base:1\nADD http://127.0.0.1:1/y.git /", "repositories are not fetched"),
    ("FROM base:1\nCOPY --from=\u00b2 a /", "\u00b2"), ("FROM base:1\nRUN [\"absent\"]", "absent"),
    ("FROM base:1\nUSER absent\nRUN true", "'absent'"), (b"FROM base:1\nRUN \xff", "line 2: RUN: not in UTF-8"),
    ("FROM scratch\nRUN x", "/bin/sh"), ("FROM base:1\nCOPY [z-a] /x", "no pattern"),
])
def test_what_is_no_dockerfile(shop, text, told):
    shop.write(a="a", Dockerfile=text)
    error = shop.fails(None, env={"UDOCKER_REGISTRY": "http://127.0.0.1:1"})
    assert told in error and "this is a bug" not in error
    assert os.listdir(str(shop.program.store / "containers")) == []


@pytest.mark.parametrize("words, status, told", [
    (["-t", "a@sha256:" + "0" * 64, "."], 2, "digest"), (["-t", "A", "."], 2, "A"),
    (["-t", NAME, "absent"], 1, "absent: no such directory"), (["-t", NAME, "http://x/y.git"], 1, "no such directory"),
    (["-t", NAME, "-f", "absent", "."], 1, "absent: no such file"), (["-t", NAME, "."], 1, "Dockerfile: no such file"),
    (["-t", NAME, "--secret=id=x,src=absent", "."], 1, "absent"), (["-t", NAME, "--secret=src=x", "."], 2, "id=NAME"),
    (["-t", NAME, "--build-arg==x", "."], 2, "'=x'"),
])
def test_what_is_no_build(shop, words, status, told):
    if "-f" not in words and words != ["-t", NAME, "."]:
        shop.write(Dockerfile="FROM base:1\n")
    assert told in shop.program.fails(status, "build", *words, cwd=shop.context).err


def test_what_is_told(shop):
    result = shop.build("FROM base:1\nHEALTHCHECK CMD true\nRUN --security=insecure true\n", "--build-arg=NONE=1",
                        "--memory=1g")
    for text in "--build-arg: NONE", "HEALTHCHECK: left out", "--security=insecure", "--memory":
        assert text in result.err


# Strangers' trees

def test_no_link_leads_out_of_the_tree(shop, tmp_path, broken_modes):
    """What RUN made of a tree has links to the host where COPY, WORKDIR and mounts have their places."""
    working("N1", broken_modes)
    outside = tmp_path / "outside"
    (outside / "secrets").mkdir(parents=True)
    (outside / "secrets/one").write_text("the host's")
    shop.write(a="a", secret="s")
    shop.build("""FROM base:1
RUN ln -s {0} /out; ln -s {0} /up; mkdir -p /y/secrets
RUN --mount=type=secret,id=one,target=/y/secrets/one true
RUN mkdir /z; ln -s {0} /z/secrets; rm -r /y; ln -s {0} /y
COPY a /out/
COPY a /up/secrets/
WORKDIR /out/made
""".format(outside), "--secret=id=one,src=%s" % (shop.context / "secret"))
    assert os.listdir(str(outside)) == ["secrets"] and os.listdir(str(outside / "secrets")) == ["one"]
    assert (outside / "secrets/one").read_text() == "the host's"


def test_a_place_to_mount_at_that_became_a_link(store, tmp_path):
    """What is removed after RUN, as it was made for a mount, lies in the tree."""
    (tmp_path / "run/secrets").mkdir(parents=True)
    (tmp_path / "run/secrets/one").write_text("the host's")
    root = tmp_path / "tree"
    root.mkdir()
    (root / "run").symlink_to(tmp_path / "run")
    tree = program_under_test.StageTree.__new__(program_under_test.StageTree)
    tree.root, tree.entries = str(root), {}
    tree.remove_stubs(["/run/secrets/one", "/run/secrets"])
    assert (tmp_path / "run/secrets/one").exists()


def test_no_link_of_the_context_leads_out_of_it(shop, tmp_path):
    (tmp_path / "private").write_text("private")
    shop.write(a="a")
    (shop.context / "link").symlink_to(tmp_path / "private")
    (shop.context / "up").symlink_to("..")
    for source in "link", "up/private", "../private":
        assert "nothing has this name in" in shop.fails("FROM base:1\nCOPY %s /\n" % source)
    os.mkfifo(str(shop.context / "pipe"))
    shop.build("FROM base:1\nADD . /all/\nADD pipe /\n")
    assert shop.shown("readlink", "/all/up") == "..\n"
