"""What becomes of signals, pipes and terminals between the caller, udocker and the command, in each mode."""
import errno
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import threading
import time
import uuid
from contextlib import contextmanager
from pathlib import Path

import pytest

from conftest import need, working
from program import Program
ENDING = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP]
PATIENCE = 20       # seconds until what is expected must have come


@pytest.fixture
def token():
    """A word that stands on the command lines of one test's processes alone."""
    return uuid.uuid4().hex


def processes_with(token):
    """The ids of all processes that have the token on their command line."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open("/proc/%s/cmdline" % name, "rb") as words:
                if token.encode() in words.read():
                    found.append(int(name))
        except OSError:     # it has ended meanwhile
            pass
    return found


def assert_all_ended(token):
    deadline = time.monotonic() + PATIENCE
    while processes_with(token):
        assert time.monotonic() < deadline, "still running: %s" % processes_with(token)
        time.sleep(0.02)


@contextmanager
def running(program, *arguments):
    """A run whose command has said that it is ready."""
    with program.start("run", *arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
        end = threading.Timer(2 * PATIENCE, process.kill)       # whoever reads from it shall not wait for ever
        end.start()
        try:
            assert process.stdout.readline() == b"ready\n"
            yield process
        finally:
            end.cancel()
            process.kill()


def ended_by(number):
    """The statuses that a shell tells as 128 + number, as subprocess gives them."""
    return -number, 128 + number


def test_what_a_killed_udocker_leaves_is_known_from_what_is_used(box, token, tmp_path):
    """prune takes the directory of a run that was killed, and not that of one that goes on."""
    own = box.with_env(UDOCKER_TMPDIR=str(tmp_path))
    words = ["--add-host=a:10.0.0.1", "busybox", "sh", "-c", "echo ready; exec sleep 1000", token]
    with running(own, *words) as process:
        left = list(tmp_path.iterdir())
        assert left and str(tmp_path) not in own.ok("prune").out
        process.kill()
        process.wait(PATIENCE)
        assert_all_ended(token)
        shown = own.ok("prune").out
        assert all(str(path) in shown for path in left) and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("runtime", ["crun", "runc"])
def test_a_command_ends_with_a_udocker_that_is_killed(containers, broken_modes, token, runtime):
    """Also one that ignores what can be ignored, with what it started."""
    working("R1", broken_modes)
    box = containers.with_env(UDOCKER_DEFAULT_EXECUTION_MODE="R1", UDOCKER_USE_RUNC_EXECUTABLE=need(runtime))
    result = box("run", "busybox", "true")
    if "does not work on this host" in result.err:
        pytest.skip(result.err)
    command = "trap '' TERM QUIT HUP INT; sh -c 'sleep 1000; :' $0 & echo ready; sleep 1000; :"
    with running(box, "busybox", "sh", "-c", command, token) as process:
        assert len(processes_with(token)) > 1
        process.kill()
        process.wait(PATIENCE)
        assert_all_ended(token)


# kill

@pytest.fixture
def own_box(udocker, stock, mode):
    """The program, in each mode, with a container named own."""
    stock(udocker, "own")
    return udocker.with_env(UDOCKER_DEFAULT_EXECUTION_MODE=mode)


def test_kill_ends_all_that_runs_in_a_container(own_box, token):
    """What heeds no signal, what is in the background, and nothing that runs in another one."""
    script = "trap '' TERM; sh -c 'echo ready; sleep 1000; :' %s | cat" % token
    own_box.ok("clone", "--name=other", "own")
    with running(own_box, "other", "sh", "-c", "echo ready; exec sleep 1000") as other:
        with running(own_box, "own", "sh", "-c", script) as process, running(own_box, "own", "sh", "-c", script):
            assert own_box.ok("kill", "own").out == own_box.ok("ps", "-q", "--filter=name=own").out
            assert process.wait(PATIENCE) != 0
            assert_all_ended(token)
        assert other.poll() is None
    refusal = own_box.fails(1, "kill", "own")
    assert "nothing runs" in refusal.err and "another host" in refusal.err


def test_kill_goes_on_where_nothing_runs(own_box, token):
    """It tells so at the end."""
    own_box.ok("clone", "--name=other", "own")
    with running(own_box, "other", "sh", "-c", "echo ready; sleep 1000; :", token) as process:
        result = own_box("kill", "own", "other", "own")
        assert result.status == 1 and result.out == own_box.ok("ps", "-q", "--filter=name=other").out
        assert result.err.count("nothing runs") == 2 and result.err.count("\n") == 2
        process.wait(PATIENCE)
        assert_all_ended(token)


@pytest.mark.parametrize("text", ["USR1", "sigusr1", "%d" % signal.SIGUSR1, "%010d" % signal.SIGUSR1])
def test_kill_sends_the_commands_a_signal(own_box, text):
    script = "trap 'echo handled; exit 7' USR1; echo ready; while :; do :; done"
    with running(own_box, "own", "sh", "-c", script) as process:
        own_box.ok("kill", "--signal=" + text, "own")
        assert process.stdout.read() == b"handled\n" and process.wait(PATIENCE) == 7


def test_kill_by_the_id_of_a_cidfile(udocker, images, mode, token, tmp_path):
    program = udocker.with_env(UDOCKER_DEFAULT_EXECUTION_MODE=mode)
    words = ["--rm", "--cidfile=%s" % (tmp_path / "id"), images.host + "/lab/busybox"]
    with running(program, *words + ["sh", "-c", "echo ready; sleep 1000; :", token]) as process:
        program.ok("kill", (tmp_path / "id").read_text())
        assert process.wait(PATIENCE) == 128 + 9
        assert_all_ended(token)
    assert program.ok("ps", "-q").out == ""


@pytest.mark.parametrize("is_run_over_the_link", [False, True])
def test_kill_knows_a_store_by_any_path(own_box, token, tmp_path, is_run_over_the_link):
    link = tmp_path / "link"
    link.symlink_to(own_box.store)
    over_link = own_box.with_env(UDOCKER_DIR=link)
    runner, killer = (over_link, own_box) if is_run_over_the_link else (own_box, over_link)
    with running(runner, "own", "sh", "-c", "echo ready; sleep 1000; :", token):
        killer.ok("kill", "own")
        assert_all_ended(token)


def test_rm_of_what_runs(own_box, token):
    """Not without --force, which ends it."""
    with running(own_box, "own", "sh", "-c", "echo ready; sleep 1000; :", token) as process:
        assert own_box.ok("inspect", "-f", "{{.State.Running}} {{.State.Status}}", "own").out == "true running\n"
        assert own_box.ok("ps", "--format={{.State}}", "--filter=status=running").out == "running\n"
        assert "udocker kill" in own_box.fails(1, "rm", "own").err and processes_with(token)
        own_box.ok("rm", "-f", "own")
        assert process.wait(PATIENCE) != 0
        assert_all_ended(token)
    assert own_box.ok("ps", "-q").out == ""


def test_kill_leaves_alone_who_only_names_the_tree(own_box):
    """As cp -r does, which PRoot's words resemble."""
    root = own_box.ok("inspect", "-p", "own").out.strip()
    with subprocess.Popen(["sh", "-c", "read word", "cp", "-r", root, "there"], stdin=subprocess.PIPE) as process:
        with running(own_box, "own", "sh", "-c", "echo ready; exec sleep 1000"):
            own_box.ok("kill", "own")
        process.communicate(b"word\n")
    assert process.returncode == 0


def test_kill_holds_commands_and_lets_them_go_on(own_box, mode):
    """docker's pause and unpause; PRoot makes what stops go on."""
    script = "echo ready; while read line; do echo $line; done"
    with own_box.start("run", "own", "sh", "-c", script, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        end = threading.Timer(2 * PATIENCE, process.kill)
        end.start()
        assert process.stdout.readline() == b"ready\n"
        own_box.ok("kill", "--signal=STOP", "own")
        process.stdin.write(b"typed\n")
        process.stdin.flush()
        assert bool(select.select([process.stdout], [], [], PATIENCE if mode in ("P1", "P2") else 0.5)[0]) == (
            mode in ("P1", "P2"))
        own_box.ok("kill", "--signal=CONT", "own")
        assert process.stdout.readline() == b"typed\n"
        process.stdin.close()
        assert process.wait(PATIENCE) == 0
        end.cancel()


@pytest.mark.parametrize("text", ["", "0", "65", "-1", "SIG_IGN", "_IGN", "9" * 5000, "\u00b2", "NONSENSE",
                                  "0" * 5000, "\u0661\u0665", "+15", "15.0", "0x0f", " 15", "TERM ", "SIGSIGTERM"])
def test_signals_that_are_none(udocker, text):
    assert "no signal" in udocker.fails(2, "kill", "--signal=" + text, "own").err


# Signals

@pytest.mark.parametrize("number", ENDING)
def test_a_signal_to_udocker_ends_the_command(box, token, number):
    with running(box, "busybox", "sh", "-c", "echo ready; exec sleep 1000", token) as process:
        process.send_signal(number)
        assert process.wait(PATIENCE) in ended_by(number)
    assert_all_ended(token)


@pytest.mark.parametrize("number", ENDING + [signal.SIGUSR1, signal.SIGUSR2])
def test_the_commands_own_handler_decides(box, number):
    # The shell waits by itself: PRoot loses signals that come while a program is being started
    script = "trap 'echo handled; exit 7' %d; echo ready; while :; do :; done" % number
    with running(box, "busybox", "sh", "-c", script) as process:
        process.send_signal(number)
        assert process.stdout.read() == b"handled\n"
        assert process.wait(PATIENCE) == 7


@pytest.mark.parametrize("number", ENDING)
def test_rm_keeps_its_word_on_a_signal(udocker, images, stock, mode, token, number):
    program = udocker.with_env(UDOCKER_DEFAULT_EXECUTION_MODE=mode)
    stock(program)
    arguments = ["--rm", images.host + "/lab/busybox", "sh", "-c", "echo ready; exec sleep 1000", token]
    with running(program, *arguments) as process:
        process.send_signal(number)
        assert process.wait(PATIENCE) in ended_by(number)
    assert os.listdir(str(program.store / "containers")) == []
    assert_all_ended(token)


@pytest.mark.parametrize("options", [["--rm"], ["--init"]])
def test_what_runs_ends_with_a_udocker_that_is_killed(udocker, images, stock, mode, token, options):
    """What it left in the background too, and what heeds no signal; and --rm keeps its word."""
    program = udocker.with_env(UDOCKER_DEFAULT_EXECUTION_MODE=mode)
    stock(program)
    script = "trap '' TERM; sh -c 'echo ready; sleep 1000; :' %s | cat" % token
    with running(program, *options + [images.host + "/lab/busybox", "sh", "-c", script]) as process:
        process.kill()
        assert_all_ended(token)
    assert len(program.ok("ps", "-q").out.split()) == (options == ["--init"])


@pytest.mark.parametrize("script,status", [
    ("/bin/sh -c :; kill -TERM $$", signal.SIGTERM), ("/bin/sh -c :; kill -SEGV $$", signal.SIGSEGV),
    ("sleep 0.1 & kill -KILL $$; sleep 9", signal.SIGKILL), ("/bin/sh -c 'exit 5'; kill -TERM $$", signal.SIGTERM)])
def test_the_signal_that_ended_the_command_is_known(box, script, status):
    """Whatever others in the container said before and afterwards."""
    assert box("run", "busybox", "sh", "-c", script).status in ended_by(status)


def test_the_status_is_that_of_the_command(box):
    for script in "sleep 0.1 & exit 3", "(sleep 0.1; exit 4) & exit 3":
        assert box("run", "busybox", "sh", "-c", script).status == 3


def test_what_a_shell_left_is_not_taken_for_the_command(box):
    """A shell that becomes udocker hands its orphans over."""
    words = box.command("run", "busybox", "sh", "-c", "trap 'exit 8' TERM; kill -TERM $$")
    shell = ["bash", "-c", '(sleep 30 & sleep 0.2) & sleep 0.1; exec "$@"', "bash"]
    assert subprocess.call(shell + words, env=box.environment(), stdout=subprocess.DEVNULL) == 8


def test_a_crowd_ends_with_its_command(box):
    """However many are just being started."""
    script = "for one in 1 2 3 4; do (while :; do /bin/true; done) & done; usleep 100000; exit 3"
    for _ in range(4):
        assert box("run", "--init", "busybox", "sh", "-c", script).status == 3


def test_a_reader_that_leaves_ends_the_writer(box):
    """Python ignores SIGPIPE; the command must not inherit that."""
    assert box.ok("run", "busybox", "sh", "-c", "(yes; echo $? >&2) | head -n 1").err == "%d\n" % (128 + 13)


def test_nobody_reads_udockers_output(box):
    with box.start("images", stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b""


# Terminals

ROWS, COLUMNS = 33, 77


class Terminal:
    """A pseudo-terminal that a run has as its controlling one, and what a user sees and types there."""

    def __init__(self):
        self.user, self._program = pty.openpty()
        fcntl.ioctl(self._program, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        self.settings = termios.tcgetattr(self._program)
        self._received = b""

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        os.close(self.user)
        os.close(self._program)

    @property
    def seen(self):
        """All that has come so far, with plain line ends.

        runC begins to copy the container's terminal before it makes the user's raw: what comes in between gets a second
        carriage return.
        """
        return re.sub("\r+\n", "\n", self._received.decode())

    @contextmanager
    def running(self, program, *arguments):
        """A run with this terminal in a session of its own."""
        with program.start("run", *arguments, stdin=self._program, stdout=self._program, stderr=self._program,
                           start_new_session=True, preexec_fn=self._take_control) as process:
            try:
                yield process
            finally:
                process.kill()

    @contextmanager
    def reading(self, program, output, *command):
        """The same for a command in busybox that reads from the terminal alone, once it has written to its output."""
        with output.open("wb") as file, program.start(
                "run", "busybox", *command, stdin=self._program, stdout=file, stderr=file, start_new_session=True,
                preexec_fn=self._take_control) as process:
            try:
                while not output.stat().st_size:
                    time.sleep(0.01)
                yield process
            finally:
                process.kill()

    def _take_control(self):
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        signal.signal(signal.SIGQUIT, signal.SIG_DFL)       # shells ignore it for what they start in the background

    def type(self, text):
        os.write(self.user, text.encode())

    def wait_for(self, text):
        deadline = time.monotonic() + PATIENCE
        while text not in self.seen:
            assert self._read(deadline - time.monotonic()), "no %r in %r" % (text, self.seen)

    def read_rest(self):
        """All that is still to be seen once the run has ended."""
        while self._read(0.1):
            pass
        return self.seen

    def _read(self, seconds):
        if not select.select([self.user], [], [], max(seconds, 0))[0]:
            return False
        try:
            data = os.read(self.user, 65536)
        except OSError as error:
            if error.errno != errno.EIO:    # what Linux answers when nobody has the other end open
                raise
            data = b""
        self._received += data
        return bool(data)

    def settings_now(self):
        return termios.tcgetattr(self._program)


@pytest.fixture
def terminal():
    with Terminal() as opened:
        yield opened


@pytest.mark.parametrize("options", [["--nobanner"], ["--nobanner", "-it"], ["-q", "-t", "-i"]])
def test_the_command_has_the_callers_terminal(box, terminal, options):
    script = "test -t 0 && test -t 1 && test -t 2 && stty size && echo -n > /dev/tty && echo done"
    with terminal.running(box, *options + ["busybox", "sh", "-c", script]) as process:
        assert process.wait(PATIENCE) == 0
    assert terminal.read_rest() == "%d %d\ndone\n" % (ROWS, COLUMNS)


def test_ctrl_c_ends_a_pipeline_whose_output_goes_elsewhere(box, terminal, tmp_path):
    """Then runC has no terminal for it."""
    with terminal.reading(box, tmp_path / "output", "sh", "-c", "echo ready; sleep 1000; echo lost") as process:
        terminal.type("\x03")
        assert process.wait(PATIENCE) in (128 + signal.SIGINT, -signal.SIGINT)
    assert (tmp_path / "output").read_bytes() == b"ready\n"


def state_of(marker):
    """The state of the process that sleeps for so long, t being T where it is traced; "" where there is none. proc(5)
    """
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            words = Path("/proc", pid, "cmdline").read_bytes().split(b"\0")
            if words[:2] == [b"sleep", marker.encode()]:
                return Path("/proc", pid, "stat").read_text().rpartition(")")[2].split()[0].upper()
        except OSError:
            pass
    return ""


def test_ctrl_z_stops_the_command_until_it_goes_on(box, terminal):
    """The shell has another group for each job, and says when one has stopped."""
    marker = "1000.%d" % os.getpid()
    script = 'set -m; "$@" >/dev/null; read answer; fg >/dev/null'
    shell = Program(box.home, [need("bash"), "-c", script, "bash"] + box.entry, box.env)
    with terminal.running(shell, "busybox", "sh", "-c", "sleep %s; :" % marker) as process:
        for state, typed in ("S", "\x1a"), ("T", "on\r"), ("S", "\x03"):
            deadline = time.monotonic() + PATIENCE
            while state_of(marker) != state:
                assert time.monotonic() < deadline, terminal.seen
                time.sleep(0.01)
            terminal.type(typed)
        assert process.wait(PATIENCE) in (128 + signal.SIGINT, -signal.SIGINT)
    assert state_of(marker) == ""


def test_ctrl_z_where_nobody_could_let_it_go_on(box, terminal, tmp_path):
    """A session without a shell in it: there the kernel stops nobody."""
    with terminal.reading(box, tmp_path / "output", "sh", "-c", "echo ready; sleep 0.5; echo done") as process:
        terminal.type("\x1a")
        assert process.wait(PATIENCE) == 0
    assert (tmp_path / "output").read_bytes() == b"ready\ndone\n"


def test_a_shell_at_the_terminal(box, terminal):
    with terminal.running(box, "-it", "busybox", "sh") as process:
        terminal.wait_for("# ")
        terminal.type("echo $((40 + 2))\r")
        terminal.wait_for("\n42\n")
        terminal.type("exit 9\r")
        assert process.wait(PATIENCE) == 9
    assert terminal.settings_now() == terminal.settings


@pytest.mark.parametrize("options", [["-it"], ["-it", "--init"]])
def test_ctrl_c_reaches_the_command_once(box, terminal, options):
    """The shell waits by itself: PRoot loses signals that come while a program is being started."""
    script = "trap 'echo interrupted; over=1' INT; echo ready; " \
             "while test -z $over; do read -t 1 line; done; sleep 0.3; echo end"
    with terminal.running(box, *options + ["busybox", "sh", "-c", script]) as process:
        terminal.wait_for("ready\n")
        terminal.type("\x03")
        assert process.wait(PATIENCE) == 0
    assert terminal.read_rest().count("interrupted") == 1
    assert terminal.seen.endswith("end\n")
    assert terminal.settings_now() == terminal.settings


@pytest.mark.parametrize("options", [["-it"], ["-it", "--init"]])
def test_ctrl_c_ends_what_does_not_handle_it(box, terminal, token, options):
    command = ["sh", "-c", "echo ready; exec sleep 1000", token]
    with terminal.running(box, *options + ["busybox"] + command) as process:
        terminal.wait_for("ready\n")
        terminal.type("\x03")
        assert process.wait(PATIENCE) in ended_by(signal.SIGINT)
    assert_all_ended(token)


def test_a_quit_that_proot_hears_too_is_told_as_such(box, mode, terminal):
    if not mode.startswith("P"):
        pytest.skip("there is no PRoot in mode " + mode)
    with terminal.running(box, "-it", "busybox", "sh", "-c", "echo ready; exec sleep 1000") as process:
        terminal.wait_for("ready\n")
        terminal.type("\x1c")
        assert process.wait(PATIENCE) == 128 + signal.SIGQUIT


def test_ctrl_d_is_the_end_of_input(box, terminal):
    with terminal.running(box, "-i", "busybox", "sh", "-c", "echo ready; cat; echo end") as process:
        terminal.wait_for("ready\n")
        terminal.type("line\r")
        terminal.wait_for("line\nline\n")
        terminal.type("\x04")
        assert process.wait(PATIENCE) == 0
    assert terminal.read_rest().endswith("end\n")
