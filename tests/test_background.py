"""What run --detach starts: how it is found, read, waited for and ended, in each mode."""
import json
import os
import signal
import subprocess
import time

import pytest

import udocker as program_under_test
from test_processes import PATIENCE

UNTIL_TOLD = "until [ -e /go/on ]; do sleep 0.05; done; "
UNTIL_STOPPED = "echo ready; while :; do sleep 0.05; done"


@pytest.fixture
def own_box(udocker, stock, mode):
    """The program, in each mode, with a container named own."""
    stock(udocker, "own")
    yield udocker.with_env(UDOCKER_DEFAULT_EXECUTION_MODE=mode)
    for name in udocker.ok("ps", "-q").out.split():
        udocker("kill", name)


@pytest.fixture
def gate(tmp_path):
    """A directory whose file `on` lets the script UNTIL_TOLD go on, and the option by which a container has it."""
    directory = tmp_path / "gate"
    directory.mkdir()
    return directory / "on", "--volume=%s:/go" % directory


def eventually(is_so):
    deadline = time.monotonic() + PATIENCE
    while not is_so():
        assert time.monotonic() < deadline


def state(box, name="own"):
    return json.loads(box.ok("inspect", "--format={{json .State}}", name).out)


def record(box, name="own"):
    return box.store / "containers" / name / "background.json"


def runner(box):
    """The id of the process that runs the command."""
    return json.loads(record(box).read_text().splitlines()[0])["pid"]


def test_a_command_goes_on_in_the_background(own_box, gate):
    until, volume = gate
    started = own_box.ok("run", "-d", volume, "own", "sh", "-c", "echo early; %secho late >&2; exit 7" % UNTIL_TOLD)
    assert (started.out, started.err) == (own_box.ok("inspect", "--format={{.Id}}", "own").out, "")
    assert state(own_box)["Running"] and state(own_box)["ExitCode"] == 0
    assert own_box.ok("ps", "--filter=status=running", "-q").out == started.out
    with own_box.start("logs", "-f", "own", stdout=subprocess.PIPE) as follower, own_box.start(
            "wait", "own", stdout=subprocess.PIPE) as waiter:
        assert follower.stdout.readline() == b"early\n"
        assert own_box.ok("logs", "own").out == "early\n"
        until.touch()
        assert (follower.stdout.read(), waiter.stdout.read()) == (b"late\n", b"7\n")
    assert own_box.ok("wait", "own").out == "7\n"
    assert own_box.ok("logs", "--tail=1", "own").out == "late\n"
    assert not state(own_box)["Running"] and state(own_box)["ExitCode"] == 7


def test_it_is_in_a_session_of_its_own(own_box):
    own_box.ok("run", "-d", "own", "sleep", "1000")
    udocker, command = runner(own_box), state(own_box)["Pid"]
    assert udocker == os.getsid(udocker) and os.getsid(command) in (udocker, command)
    assert {os.readlink("/proc/%d/fd/%d" % (command, number)) for number in (1, 2)} == {
        os.path.realpath(str(record(own_box).with_suffix(".log")))}


def test_one_at_a_time_and_more_with_exec(own_box, gate):
    until, volume = gate
    own_box.ok("run", "-d", volume, "own", "sh", "-c", "echo first; " + UNTIL_TOLD)
    assert "in the background" in own_box.fails(125, "run", "-d", "own", "true").err
    assert own_box.ok("exec", "own", "echo", "here").out == "here\n"
    assert own_box.ok("exec", "-d", "own", "sh", "-c", UNTIL_TOLD + "echo ready > /go/made").out == ""
    until.touch()
    assert own_box.ok("wait", "own").out == "0\n"
    eventually((until.parent / "made").exists)
    assert own_box.ok("logs", "own").out == "first\n"
    own_box.ok("run", "-d", "own", "echo", "second")
    assert own_box.ok("logs", "-f", "own").out == "second\n"


@pytest.mark.parametrize("options,command,status", [
    ([], "nosuch", 127), ([], "/etc", 126), (["--user=nobodyknows"], "true", 125)])
def test_what_keeps_it_from_starting_is_told(own_box, options, command, status):
    result = own_box.fails(status, "run", "-d", *options + ["own", command])
    assert result.err.startswith("udocker: error: ") and own_box.ok("wait", "own").out == "%d\n" % status


@pytest.mark.parametrize("trap,options,status", [
    ("", [], 143), ("trap 'exit 3' TERM; ", ["--time=100"], 3), ("trap '' TERM; ", ["-t", "0"], 137),
    ("trap 'exit 4' USR1; ", ["--signal=USR1"], 4)])
def test_stop(own_box, trap, options, status):
    started = own_box.ok("run", "-d", "own", "sh", "-c", trap + UNTIL_STOPPED)
    eventually(lambda: own_box.ok("logs", "own").out)
    assert own_box.ok("stop", *options + ["own"]).out == started.out
    assert own_box.ok("wait", "own").out == "%d\n" % status
    assert own_box.ok("stop", "own").out == started.out         # as docker has it


def test_the_image_names_the_signal_that_stops_it(own_box, tmp_path):
    own_box.ok("export", "-o", tmp_path / "tree.tar", "own")
    own_box.ok("import", "--tocontainer", "--name=usr1", "--change=STOPSIGNAL SIGUSR1", tmp_path / "tree.tar")
    own_box.ok("run", "-d", "usr1", "sh", "-c", "trap 'exit 5' USR1; " + UNTIL_STOPPED)
    eventually(lambda: own_box.ok("logs", "usr1").out)
    own_box.ok("stop", "usr1")
    assert own_box.ok("wait", "usr1").out == "5\n"


@pytest.mark.parametrize("options,goes_on", [("-d", False), ("-di", True), ("-dit", True)])
def test_its_input(own_box, options, goes_on):
    """Has ended, or nothing comes from it, as where docker keeps it open."""
    own_box.ok("run", options, "own", "sh", "-c", "echo ready; cat; echo end")
    own_box.ok("stop" if goes_on else "wait", "own")
    assert own_box.ok("logs", "own").out == "ready\n" + "end\n" * (not goes_on)


def has_open(pid, name):
    """Whether a process has a file of this name open."""
    for number in os.listdir("/proc/%d/fd" % pid):
        try:
            if os.path.basename(os.readlink("/proc/%d/fd/%s" % (pid, number))) == name:
                return True
        except FileNotFoundError:       # closed meanwhile
            pass
    return False


def test_a_container_that_goes_with_it(own_box, images, gate):
    until, volume = gate
    own_box.ok("run", "-d", "--rm", "--name=short", volume, images.host + "/lab/busybox", "sh", "-c",
               "echo early; %secho late; exit 6" % UNTIL_TOLD)
    with own_box.start("logs", "-f", "short", stdout=subprocess.PIPE) as follower, own_box.start(
            "wait", "short", stdout=subprocess.PIPE) as waiter:
        assert follower.stdout.readline() == b"early\n"
        eventually(lambda: has_open(waiter.pid, "background.json"))
        until.touch()
        assert (follower.stdout.read(), waiter.stdout.read()) == (b"late\n", b"6\n")
    eventually(lambda: own_box("inspect", "short").status)
    assert len(own_box.ok("ps", "-q").out.split()) == 1


def test_a_udocker_that_is_killed_takes_the_command_along(own_box):
    own_box.ok("run", "-d", "own", "sh", "-c", "sleep 1000; :")
    os.kill(runner(own_box), signal.SIGKILL)
    assert own_box.ok("wait", "own").out == "137\n"
    eventually(lambda: not state(own_box)["Running"])


def test_what_was_started_elsewhere_is_known_there(containers):
    """Another host wrote the record; it may be this one under the same name, started anew."""
    containers.ok("clone", "--name=moved", "busybox")
    containers.ok("run", "-d", "moved", "echo", "here")
    containers.ok("wait", "moved")
    path = record(containers, "moved")
    first = json.loads(path.read_text().splitlines()[0])
    path.write_text(json.dumps(dict(first, boot="elsewhere\n1")) + "\n")
    assert "elsewhere" in containers.fails(1, "wait", "moved").err
    result = containers("logs", "--follow", "moved")
    assert (result.status, result.out) == (1, "here\n") and "elsewhere" in result.err
    assert "elsewhere" in containers.ok("run", "-d", "moved", "true").err
    containers.ok("wait", "moved")
    path.write_text(json.dumps(dict(first, boot=os.uname().nodename + "\n1")) + "\n")
    assert containers.ok("wait", "moved").out == "137\n"
    for damage in "", "[]\n", "{", '{"boot": 1, "pid": "x"}\n', "\0\0":
        path.write_text(damage)
        assert containers.ok("wait", "moved").out == "137\n"
    containers.ok("rm", "moved")


def test_of_two_that_come_at_once_one_runs(own_box):
    crowd = [own_box.start("run", "-d", "own", "sleep", "1000", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
             for _ in range(4)]
    answers = [process.communicate() + (process.returncode,) for process in crowd]
    assert sorted(status for _, _, status in answers) == [0, 125, 125, 125]
    assert all(b"in the background" in err for _, err, status in answers if status)


def test_one_that_begins_is_stopped(own_box):
    with own_box.start("run", "-d", "own", "sleep", "1000", stdout=subprocess.PIPE) as starting:
        eventually(record(own_box).exists)
        own_box.ok("stop", "own")
        starting.communicate()
    assert own_box.ok("wait", "own").out in ("143\n", "137\n") and not state(own_box)["Running"]


def test_waiting_for_several(own_box, images):
    own_box.ok("run", "-d", "own", "sh", "-c", "sleep 1; exit 4")
    own_box.ok("run", "-d", "--rm", "--name=short", images.host + "/lab/busybox", "sh", "-c", "sleep 0.5; exit 5")
    assert own_box.ok("wait", "own", "short").out == "4\n5\n"


def test_nothing_that_has_ended_piles_up(own_box):
    script = "for one in 1 2 3 4 5 6 7 8 9; do (exec sleep 0.1 &); done; sleep 0.5; echo ready; sleep 1000"
    own_box.ok("run", "-d", "own", "sh", "-c", script)
    eventually(lambda: own_box.ok("logs", "own").out)
    pid = runner(own_box)
    states = [program_under_test.process_words(child)[0] for child in program_under_test.Host.children(pid)]
    assert states and "Z" not in states


@pytest.mark.parametrize("count", ["0", "1", "2", "5", "6", "7", "all"])
@pytest.mark.parametrize("end", ["", "\n"])
def test_the_last_lines(containers, count, end):
    """The log is read from its end, in pieces."""
    lines = ["first", "x" * 300000, "", "third", "y" * 300000, "last"]
    containers.ok("clone", "--name=lines", "busybox")
    containers.ok("run", "-d", "lines", "true")
    containers.ok("wait", "lines")
    record(containers, "lines").with_suffix(".log").write_text("\n".join(lines) + end)
    kept = lines if count == "all" else lines[max(0, len(lines) - int(count)):]
    assert containers.ok("logs", "--tail=" + count, "lines").out == "\n".join(kept) + end * bool(kept)
    containers.ok("rm", "lines")


def test_what_the_caller_has_open_is_not_kept_open(own_box):
    reader, writer = os.pipe()
    with own_box.start("run", "-d", "own", "sleep", "1000", pass_fds=[writer], stdout=subprocess.DEVNULL) as process:
        os.close(writer)
        assert process.wait(PATIENCE) == 0
    assert os.read(reader, 1) == b""
    os.close(reader)


def test_an_id_that_cannot_be_told(own_box):
    with open("/dev/full", "w") as full, own_box.start("run", "-d", "own", "true", stdout=full) as process:
        assert process.wait(PATIENCE) == 1


@pytest.mark.parametrize("command", ["logs", "wait"])
def test_where_nothing_was_started_so(containers, command):
    assert "--detach" in containers.fails(1, command, "busybox").err


@pytest.mark.parametrize("words,told", [
    (["run", "-d", "--ephemeral", "busybox", "true"], "--ephemeral"),
    (["run", "-d", "--location=/", "x"], "--location"),
    (["logs", "--tail=some", "busybox"], "--tail"), (["stop", "--time=soon", "busybox"], "--time"),
    (["stop", "--signal=NONE", "busybox"], "--signal")])
def test_what_cannot_be(containers, words, told):
    assert told in containers.fails(2, *words).err
