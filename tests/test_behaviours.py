"""What commands can expect in a container, as one table for every mode; a row says which mode does otherwise."""
import ctypes
import errno
import getpass
import os
import shlex
import signal
import subprocess
import tarfile
from fnmatch import fnmatchcase

import pytest

import guests
from conftest import STOCK, UDOCKERS, need, working
from program import Program
from test_processes import PATIENCE, Terminal, running

ME, MINE = str(os.getuid()), "%d %d\n" % (os.getuid(), os.getgid())
LOADER = (os.path.basename(guests.loader())[:15] + "\n", 0)      # comm(5) of what it starts
OTHER_LOADER = ("fakechroot-ld.s\n", 0)
OWN_PATH = "has volumes at their own path only"
PROOT_K = ("shows no other kernel or host name", 125)      # Debian's PRoot 5.1, to glibc's loader since 2.33
IDS = 'sh -c "echo $(id -u) $(id -g)"'


def row(words, out="", status=0, unless={}, input=None, **environment):
    """What is run, with HIDDEN a file and VOLUME a directory of the host, and what comes of it: output and status,
    `unless` a pattern of modes has others. Of a refusal, 125, the output is a part of the message."""
    return shlex.split(words), dict({"*": (out, status)}, **unless), {"input": input, "env": environment}


def has_no_io_uring():
    """Whether this kernel lacks it: then it is nowhere."""
    descriptor = ctypes.CDLL(None, use_errno=True).syscall(425, 1, ctypes.create_string_buffer(512))
    if descriptor >= 0:
        os.close(descriptor)
    return descriptor < 0 and ctypes.get_errno() == errno.ENOSYS


BEHAVIOURS = {
    # Ids
    "root": row("lab " + IDS, "0 0\n", unless={"F*": (MINE, 0)}),
    "user by id": row("--user=4321:5432 lab " + IDS, "4321 5432\n", unless={"F*": (MINE, 0)}),
    "user by name": row("--user=green lab " + IDS, "1000 1001\n", unless={"F*": (MINE, 0)}),
    "the caller": row("--user=%s lab id -u" % getpass.getuser(), ME + "\n"),
    "root's home": row('lab sh -c "echo $HOME $USER; cd; pwd"', "/root root\n/root\n"),
    "a user's home": row('--user=green lab sh -c "echo $HOME $USER"', "/home/green green\n"),
    "change of owner": row("lab sh -c '>/tmp/own && chown 0:0 /tmp/own'", unless={"F*": ("", 1)}),
    # Environment
    "variable": row("-e 'LAB=a b' lab sh -c 'echo \"$LAB\"'", "a b\n"),
    "the caller's variables": row('lab sh -c "echo [$SECRET]"', "[]\n", SECRET="1"),
    "--hostenv": row('--hostenv lab sh -c "echo [$SECRET]"', "[1]\n", SECRET="1"),
    "PATH": row('lab sh -c "command -v cat"', "/bin/cat\n"),
    "env -i": row("lab env -i cat /etc/marker", "inside\n"),
    "env -i below": row("lab sh -c 'env -i A=1 sh -c \"echo \\$A\\$HOME; ls HIDDEN\"'", "1\n", 2),
    "env -u": row("lab env -u HOME sh -c 'echo [$HOME]; cat /etc/marker'", "[]\ninside\n"),
    "empty environment": row("lab calls bare", "inside\n"),
    # The tree
    "a file": row("lab cat /etc/marker", "inside\n"),
    "a file of the host": row("lab ls HIDDEN", "", 2),
    "a file of the host, below": row("lab sh -c 'sh -c \"ls HIDDEN || cat /etc/marker\"'", "inside\n"),
    "over the top": row("lab sh -c 'cd /; cd ..; pwd; cat ../../etc/marker'", "/\ninside\n"),
    "working directory": row("-w /srv lab pwd", "/srv\n"),
    "absolute links": row("lab cat /srv/absolute /srv/over /srv/directory/marker", "inside\n" * 3),
    "what links say": row("lab readlink /srv/absolute", "/etc/marker\n"),
    "directories through links": row("lab sh -c 'cd /srv/directory; pwd -P; cat marker'", "/etc\ninside\n"),
    "changes": row("lab sh -c 'cd /tmp; mkdir new; echo x >new/a; ln new/a new/b; ln -s /tmp/new/a new/c;"
                   " mv new/b new/d; ls new; cat new/c new/d; rm -r new'", "a\nc\nd\nx\nx\n"),
    # Programs
    "script": row("lab /bin/describe 'a b' '' c", "</bin/describe><a b><><c>\n"),
    "script below": row("lab sh -c '/bin/describe; describe a; describe a b c d'",
                        "</bin/describe>\n</bin/describe><a>\n</bin/describe><a><b><c><d>\n"),
    "script without interpreter": row("lab lost", "", 127),
    "static program": row("lab static", "", 3, unless={"F*": ("static program", 125)}),
    "name of a process": row("lab cat /proc/self/comm", "cat\n", unless={
        "F1": LOADER, "F2": OTHER_LOADER, "F1-udocker": OTHER_LOADER, "F2-udocker": LOADER}),
    "libraries": row("lab calls maps", "below the tree's path\n", unless={"[NR]*": ("elsewhere\n", 0)}),
    "threads and forks": row("lab calls thread fork", "thread\n50 children\n"),
    "a spawn, and a heap that grows": row("lab calls spawn", "grown\n"),
    # Calls that PRoot does not know, and would let through to the host's files
    "execveat": row("lab calls execveat", "as inside\n", unless={"F*": ("elsewhere\n", 0)}),
    "io_uring": row("lab calls io_uring", has_no_io_uring() * "there is none\n", unless={"P*": ("there is none\n", 0)}),
    "sockets": row("lab calls socket", "socket\n"),
    "pipeline": row("lab sh -c 'echo c b a | tr \" \" \"\\n\" | sort | head -n 2'", "a\nb\n"),
    "words": row("lab sh -c 'printf \"<%s>\" \"$@\"' sh '' 'a b' '*' '$HOME' --help -- '`id`' '\\' '\"' \"'\" 'x\ny'",
                 "<><a b><*><$HOME><--help><--><`id`><\\><\"><'><x\ny>"),
    "words of other scripts": row("lab sh -c 'printf %s \"$1\"' sh \u00e9\u20ac\U0001f600", "\u00e9\u20ac\U0001f600"),
    # Status
    "status": row("lab sh -c 'exit 7'", "", 7),
    "killed": row("lab sh -c 'kill -TERM $$'", "", 128 + signal.SIGTERM),
    "no command": row("lab no-such-command", "", 127),
    "no file": row("lab /bin/no-such-command", "", 127),
    "no file there": row("-w /bin lab ./no-such-command", "", 127),
    "empty command": row("lab ''", "", 127),
    "no program": row("lab /etc/marker", "", 126),
    "directory": row("lab /etc", "", 126),
    # Standard input
    "heredoc": row("lab sh", "inside\n7\n", input=b"cd /etc\ncat marker\necho 7\n"),
    "device": row("lab sh -c 'echo lost >/dev/null; cat /dev/null; test -c /dev/null && echo device'", "device\n"),
    # Volumes
    "volume": row("-v VOLUME lab cat VOLUME/word", "volume\n"),
    "volume elsewhere": row("-v VOLUME:/data lab cat /data/word", "volume\n", unless={"F?": (OWN_PATH, 125)}),
    "volume of a file": row("-v VOLUME/word:/etc/marker lab cat /etc/marker", "volume\n",
                            unless={"F?": (OWN_PATH, 125)}),
    "read-only volume": row("-v VOLUME:VOLUME:ro lab sh -c 'cat VOLUME/word; >VOLUME/new'", "volume\n", 2,
                            unless={"[PF]*": ("knows no read-only volumes", 125)}),
    # What not every engine has
    "--kernel": row("--kernel=6.66.6 lab uname -r", "6.66.6\n",
                    unless={"P*": PROOT_K, "[FNR]*": ("cannot emulate another kernel", 125)}),
    "--hostname": row("--hostname=lab lab uname -n", "lab\n",
                      unless={"P*": PROOT_K, "F*": ("cannot give another host name", 125)}),
    "--tmpfs": row("--tmpfs=/tmp lab sh -c '>/tmp/x; ls /tmp'", "x\n",
                   unless={"F*": ("cannot give a directory in memory", 125)}),
    "--read-only": row("--read-only lab sh -c 'cat /etc/marker; >/etc/new'", "inside\n", 2,
                       unless={"[PF]*": ("cannot make the container's tree read-only", 125)}),
    "--ephemeral": row("--ephemeral lab sh -c '>/etc/new; ls /etc/new'", "/etc/new\n",
                       unless={"[PFR]*": ("cannot keep changes away", 125)}),
}


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """A home with a container named lab, which is converted for one mode after the other."""
    need("gcc")
    directory = tmp_path_factory.mktemp("lab")
    program = Program(directory / "home")
    program.home.mkdir()
    with tarfile.open(str(directory / "tree.tar"), "w") as archive:
        archive.add(str(guests.build(directory / "tree", directory)), ".")
    program.ok("import", "--tocontainer", "--name=lab", directory / "tree.tar", "lab/lab")
    return program


@pytest.fixture(scope="module")
def every(request, lab, broken_modes):
    """The program with the container in every mode; with udocker's own library where there is one."""
    mode, _, family = request.param.partition("-")
    libraries = [UDOCKERS] if family else STOCK
    if mode not in broken_modes and not libraries:
        pytest.skip("no libfakechroot here")
    chosen = lab
    if mode in broken_modes:
        working(mode, broken_modes)
        chosen = lab.with_env(UDOCKER_USE_PROOT_EXECUTABLE=need("proot"))       # none is fetched
    else:
        chosen = lab.with_env(UDOCKER_FAKECHROOT_SO=str(libraries[0]))
    chosen.ok("setup", "--execmode=" + mode, "lab")
    chosen.mode = request.param
    return chosen


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """HIDDEN and VOLUME."""
    directory = tmp_path_factory.mktemp("places")
    (directory / "hidden").write_text("")
    (directory / "volume").mkdir()
    (directory / "volume/word").write_text("volume\n")
    return {"HIDDEN": str(directory / "hidden"), "VOLUME": str(directory / "volume")}


@pytest.mark.parametrize("name", BEHAVIOURS)
def test_a_behaviour(every, places, name):
    words, outcomes, options = BEHAVIOURS[name]
    for mark, path in places.items():
        words = [word.replace(mark, path) for word in words]
    out, status = outcomes[max((pattern for pattern in outcomes if fnmatchcase(every.mode, pattern)), key=len)]
    if status == 125:
        assert out in every.fails(125, "run", *words, **options).err
        return
    result = every("run", *words, check=status == 0, **options)
    assert result.out == out and result.status in (status, 128 - status if status > 128 else status), result


def test_descriptors_reach_the_command(every):
    """Process managers speak to their ranks over such descriptors (PMI_FD, make's job server)."""
    here, there = os.pipe()
    with every.start("run", "lab", "sh", "-c", "echo through >/proc/self/fd/%d" % there, pass_fds=[there]) as process:
        os.close(there)
        with os.fdopen(here) as reader:
            assert reader.read() == "through\n"
        assert process.wait(PATIENCE) == 0


def test_the_umask(every):
    with every.start("run", "lab", "sh", "-c", "umask", stdout=subprocess.PIPE,
                     preexec_fn=lambda: os.umask(0o027)) as process:
        assert process.stdout.read() == b"0027\n"


def test_a_conversion_below_a_running_command_is_refused(every):
    """It would take its libraries away."""
    other = "P1" if every.mode.startswith("F") else "F1"
    with running(every, "lab", "sh", "-c", "echo ready; while :; do :; done") as process:
        assert "a command runs in this container" in every.fails(1, "setup", "--execmode=" + other, "lab").err
        process.kill()
    assert every.ok("setup", "lab").out == every.mode.partition("-")[0] + "\n"


def test_a_signal_reaches_the_command(every):
    script = "trap 'echo caught; exit 5' USR1; echo ready; while :; do :; done"
    with running(every, "lab", "sh", "-c", script) as process:
        process.send_signal(signal.SIGUSR1)
        assert process.stdout.read() == b"caught\n"
        assert process.wait(PATIENCE) == 5


def test_the_command_has_the_callers_terminal(every):
    script = "test -t 0 && test -t 1 && test -t 2 && exec >/dev/tty && echo done"
    with Terminal() as terminal:
        with terminal.running(every, "-it", "lab", "sh", "-c", script) as process:
            assert process.wait(PATIENCE) == 0
        assert terminal.read_rest().endswith("done\n")


def test_many_runs_at_once(every):
    processes = [every.start("run", "lab", "sh", "-c", "echo %d; exit %d" % (number, number),
                             stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) for number in range(8)]
    for number, process in enumerate(processes):
        with process:
            assert process.stdout.read() == b"%d\n" % number
        assert process.returncode == number
