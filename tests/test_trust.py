"""Kills, full disks and strangers' input, each a few times; tests/soak does the same for as long as there is time."""
import errno
import fcntl
import os
import random
import shutil
import signal
import subprocess
import time
from functools import partial

import pytest

from archives import archive, blob, docker_25, made, without
from conftest import need, working
from layers import END
from program import CHECKOUT, Program
from soaking.credentials import Secrets
from soaking.crowds import Crowds
from soaking.hostile import Layers
from soaking.laboratory import CREDENTIAL, FAKECHROOT, LATER, Laboratory, remove, tree_of
from soaking.mishaps import Disk, Kills
from soaking.trees import Trees
from soaking.watching import why_no_watch


@pytest.fixture(scope="module")
def laboratory(tmp_path_factory):
    need("gcc")
    with Laboratory(tmp_path_factory.mktemp("laboratory")) as made:
        yield made


@pytest.fixture
def stocked(laboratory):
    """The laboratory with its store as it was at the beginning."""
    laboratory.renew()
    (laboratory.directory / "output").mkdir(exist_ok=True)
    return laboratory


@pytest.mark.parametrize("kind, numbers", [
    (Kills, range(4)), (Disk, range(3)), (Layers, range(10)), (Secrets, range(4)), (Trees, range(2)),
    (partial(Crowds, size=4), (0, 3, 5, 8)),
], ids=["kills", "disk", "layers", "secrets", "trees", "crowds"])
def test_soak(laboratory, kind, numbers):
    if kind is Secrets and why_no_watch():
        pytest.skip(why_no_watch())
    soak = kind(laboratory)
    for number in numbers:
        assert soak.round(number, random.Random("suite/%d" % number)) == [], number


# Kills and signals

def test_prune_removes_what_kills_left_in_the_place_of_files(stocked):
    """After a minute: a command that is at work renames its files at once."""
    store, program = stocked.program.store, stocked.program
    places = [store, store / "bin", store / "lib", store / "doc", store / "repos/lab/kept/1",
              stocked.root("kept").parent]
    paths = [place / ".new-0123456789abcdef" for place in places]
    for path in paths:
        path.write_text("secret")
    program.ok("prune")
    assert all(path.exists() for path in paths)
    assert stocked.run(["prune"], later=LATER).status == 0
    assert not any(path.exists() for path in paths)


def test_credentials_that_a_kill_left_go_also_where_the_store_is_elsewhere(stocked):
    path = stocked.program.store / ".new-0123456789abcdef"
    path.write_text("secret")
    assert stocked.run(["--repo=%s" % (stocked.home / "tmp/other"), "mkrepo", stocked.home / "tmp/other"]).status == 0
    assert stocked.run(["--repo=%s" % (stocked.home / "tmp/other"), "prune"], later=LATER).status == 0
    assert not path.exists()


@pytest.fixture
def killed_run(stocked):
    """(path of the mark, path of the container) of run --rm --name=new, which was killed with all that guards it, as a
    batch system does; prune left it before."""
    words = ["run", "--rm", "--name=new", "lab/kept:1", "/bin/sh", "-c", "echo ready; cat"]
    with stocked.program.start(*words, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                               start_new_session=True) as process:
        assert process.stdout.readline() == b"ready\n"
        stocked.program.ok("prune")
        container = stocked.root("new").parent
        assert container.is_dir()
        os.killpg(process.pid, signal.SIGKILL)
    return container.with_name(".run-" + container.name), container


@pytest.mark.parametrize("words", [
    ["prune"], ["create", "lab/kept:1"], ["rm", "gone"], ["run", "--name=new", "lab/kept:1", "/bin/sh", "-c", ":"]
], ids=lambda words: words[0])
def test_the_container_of_a_run_that_was_killed_goes(stocked, killed_run, words):
    """With its name; --rm had said so."""
    stocked.program.ok(*words)
    assert not any(map(os.path.lexists, map(str, killed_run)))


@pytest.mark.parametrize("keep", [
    lambda program, mark, container: program.ok("protect", "new"),
    lambda program, mark, container: program.ok("run", "new", "/bin/sh", "-c", ":"),
    lambda program, mark, container: mark.write_text("another machine")], ids=["protected", "used", "elsewhere"])
def test_the_container_of_a_run_that_was_killed_may_stay(stocked, killed_run, keep):
    keep(stocked.program, *killed_run)
    assert stocked.run(["prune"], later=LATER).status == 0
    assert "new" in sum(stocked.containers().values(), [])


def test_the_container_of_a_run_that_was_killed_waits_for_what_is_mounted_in_it(stocked, killed_run, tmp_path):
    """And nothing else waits for that."""
    program, stop, (mark, container) = need("unionfs"), need("fusermount"), killed_run
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        pytest.skip("/dev/fuse cannot be opened")
    (tmp_path / "precious").touch()
    (container / "ROOT/mnt").mkdir()
    subprocess.run([program, "%s=RW" % tmp_path, str(container / "ROOT/mnt")], check=True)
    try:
        stocked.program.ok("rm", stocked.program.ok("create", "lab/kept:1").out.strip())
        assert stocked.program.ok("prune").out == "0 B freed\n"
        assert mark.exists() and container.is_dir() and (tmp_path / "precious").exists()
    finally:
        subprocess.run([stop, "-u", "-z", str(container / "ROOT/mnt")], check=True)
    stocked.program.ok("prune")
    assert not mark.exists() and not container.exists()


@pytest.mark.parametrize("forever", [False, True])
def test_the_container_of_a_run_that_a_failing_disk_keeps_goes_with_the_next_prune(stocked, forever):
    """With its mark, and its name; how the command ended is told."""
    containers, before, kept = stocked.program.store / "containers", set(stocked.containers()), 0
    words = ["run", "--rm", "--name=new", "lab/kept:1", "/bin/sh", "-c", "exit 7"]
    assert stocked.run(words, all=1).status == 7
    calls = stocked.counter.value
    stocked.program.ok("create", "--name=same", "lab/kept:1")
    assert stocked.run(["rm", "same"], all=1).status == 0
    removal = calls - stocked.counter.value         # of the container; the mark of the run is another thing
    for at in list(range(removal - 6, removal)) + list(range(calls - 4, calls + 1)):
        stocked.renew()         # else it is known already that the mode works, which takes calls to find out
        result = stocked.run(words, all=1, at=at, do=errno.EIO, **{"forever": 1} if forever else {})
        assert result.status == 7, result
        if set(stocked.containers()) != before:
            kept += 1
            assert "udocker prune tries it again" in result.err
        assert stocked.run(["prune"], later=LATER).status == 0
        assert set(stocked.containers()) == before
        assert not [name for name in os.listdir(str(containers)) if name.startswith(".") or name == "new"]
    assert kept


def test_a_copy_where_there_are_no_hard_links(stocked):
    """Each call that writes is refused in turn, as file systems refuse links: without that one alone it goes on."""
    source = stocked.home / "tmp" / "source"
    source.mkdir()
    (source / "first").write_text("content")
    os.link(str(source / "first"), str(source / "second"))
    assert stocked.run(["cp", source, "gone:/with"]).status == 0
    without = [at for at in range(2, stocked.counter.value + 1)         # the first one is for a lock
               if stocked.run(["cp", source, "gone:/without-%d" % at], at=at, do=errno.EPERM).status == 0]
    assert len(without) == 1
    for name, is_same in ("with", True), ("without-%d" % without[0], False):
        first, second = [stocked.root("gone") / name / base for base in ("first", "second")]
        assert first.read_text() == second.read_text() == "content" and first.samefile(second) == is_same


@pytest.mark.parametrize("name, has_lock, is_taken", [
    ("udocker-0123456789abcdef", True, True), ("udocker-0123456789abcdef", False, False),
    ("udocker-0123456789abcdef-new", True, False), ("udocker-0123456789abcdef-new", False, False)])
def test_the_directory_of_a_run_that_is_being_made_or_removed(stocked, name, has_lock, is_taken):
    """It is not locked yet, or no more: prune leaves it for a minute."""
    path = stocked.home / "tmp" / name
    path.mkdir()
    if has_lock:
        (path / "lock").touch()
    stocked.program.ok("prune")
    assert path.exists() is not is_taken
    assert stocked.run(["prune"], later=LATER).status == 0
    assert not path.exists()


def test_a_name_that_was_being_taken_over(stocked):
    containers = stocked.program.store / "containers"
    (containers / ".new-0123456789abcdef").symlink_to(os.readlink(str(containers / "kept")))
    assert ".new-" not in stocked.program.ok("ps").out
    assert stocked.run(["clone", "kept"], later=LATER).status == 0
    assert not os.path.lexists(str(containers / ".new-0123456789abcdef"))


def test_a_rename_that_was_killed_can_be_repeated(stocked):
    assert stocked.run(["rename", "gone", "other"], all=1, at=2, do="kill").status == -signal.SIGKILL
    stocked.program.ok("rename", "gone", "other")
    assert set(sum(stocked.containers().values(), [])) - {"bundled", "converted"} == {"kept", "other"}
    stocked.program.fails(1, "rename", "other", "other")


def cut_short(stocked, name, mode):
    """Kill a setup of a container half way; its files and links as they were before."""
    words, before = ["setup", "--execmode=" + mode, name], files_of(stocked.root(name))
    assert stocked.run(words, all=1).status == 0
    half = stocked.counter.value // 2
    stocked.renew()
    assert stocked.run(words, all=1, at=half, do="kill").status == -signal.SIGKILL
    assert files_of(stocked.root(name)) != before
    return before


def files_of(root):
    return {name: facts for name, facts in tree_of(root).items() if facts[2]}


@pytest.mark.skipif(not FAKECHROOT, reason="there is no libfakechroot")
@pytest.mark.parametrize("name, new", [("gone", "F3"), ("converted", "P1")])
@pytest.mark.parametrize("words", [
    ["run", "NAME", "/bin/sh", "-c", ":"], ["exec", "NAME", "/bin/sh", "-c", ":"], ["cp", "NAME:/etc/passwd", "tmp"],
    ["export", "-o", "/dev/null", "NAME"], ["clone", "NAME"]], ids=lambda words: words[0])
def test_who_uses_a_container_undoes_a_setup_that_was_killed(stocked, words, name, new):
    before = cut_short(stocked, name, new)
    words = [word.replace("NAME", name) for word in words]
    told = stocked.program.ok(*words).err.splitlines()
    assert len(told) == 1 and "was cut short" in told[0]
    after = files_of(stocked.root(name))
    assert {path: after.get(path) for path in before} == before
    assert stocked.program.ok(*words).err == ""


@pytest.mark.skipif(not FAKECHROOT, reason="there is no libfakechroot")
@pytest.mark.parametrize("name, new", [("gone", "F3"), ("converted", "P1")])
def test_undoing_a_setup_that_was_killed_may_be_killed(stocked, name, new):
    before, at, status = cut_short(stocked, name, new), 0, -signal.SIGKILL
    while status:
        at += 1
        status = stocked.run(["cp", name + ":/etc/passwd", "-"], all=1, at=3 * at, do="kill").status
        assert status in (0, -signal.SIGKILL) and at < 100
    assert files_of(stocked.root(name)) == before and at > 2


@pytest.mark.skipif(not FAKECHROOT, reason="there is no libfakechroot")
def test_a_setup_that_was_killed_in_a_store_that_is_read_only(stocked):
    before = cut_short(stocked, "gone", "F3")
    container = stocked.root("gone").parent
    (container / "lock").chmod(0o444)
    words = ["run", "gone", "/bin/sh", "-c", ":"]
    assert "was cut short, and you may not undo it" in stocked.program.fails(125, *words).err
    (container / "lock").chmod(0o600)
    stocked.program.ok(*words)
    after = files_of(stocked.root("gone"))
    assert {path: after.get(path) for path in before} == before


@pytest.mark.skipif(not FAKECHROOT, reason="there is no libfakechroot")
def test_a_setup_that_is_at_work_is_waited_for(stocked):
    cut_short(stocked, "gone", "F3")
    words = ["cp", "gone:/etc/passwd", "-"]
    with (stocked.root("gone").parent / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with stocked.program.start("-D", *words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as copy:
            line = b"..."
            while line and b"waiting for the lock" not in line:
                line = copy.stderr.readline()
            assert line and copy.poll() is None
            fcntl.flock(lock, fcntl.LOCK_UN)
            assert b"was cut short" in copy.communicate()[1]
    assert copy.returncode == 0


@pytest.mark.parametrize("words, input", [
    (["login", "-u", CREDENTIAL[0], "--password-stdin", "HOST"], CREDENTIAL[1].encode()),
    (["tag", "lab/kept:1", "lab/tagged:2"], None), (["protect", "kept"], None),
    (["setup", "--execmode=P1", "kept"], None),
], ids=lambda value: value[0] if isinstance(value, list) else None)
def test_a_signal_leaves_no_temporary_file(stocked, words, input):
    """At whichever call it comes."""
    words = [word.replace("HOST", stocked.host) for word in words]
    at, status = 0, 143
    while status:
        at += 1
        result = stocked.run(words, input, all=1, at=at, do="term")
        status = result.status
        assert status in (0, 143, -signal.SIGTERM) and not result.err.startswith("Traceback"), result
        assert [path for path in stocked.program.store.rglob(".new-*")] == []
    assert at > 1


def test_ctrl_c_while_the_program_is_read(tmp_path):
    shutil.copy(str(CHECKOUT / "udocker"), str(tmp_path))
    (tmp_path / "udocker.py").write_text("raise KeyboardInterrupt\n")
    result = Program(tmp_path, [tmp_path / "udocker"])("ps")
    assert (result.status, result.out, result.err) == (130, "", "")


def test_a_load_that_meets_an_rmi_of_the_same_image(stocked):
    """It reads the archive while the blobs that were here already go."""
    image = made(stocked.base, stocked.upper)
    members = docker_25((image, ["lab/app:1"]))
    last = {name: members[name] for name in ("manifest.json", "index.json")}
    first = dict(without(members, *last), **{blob(b"of no image"): b"of no image"})
    with stocked.program.start("load", stdin=subprocess.PIPE, stderr=subprocess.PIPE) as load:
        load.stdin.write(archive(first)[:-len(END)])
        load.stdin.flush()
        end = time.monotonic() + 20
        while not list((stocked.program.store / "layers").glob(".new-*")):
            assert time.monotonic() < end
            time.sleep(0.02)
        stocked.program.ok("rmi", "lab/gone:1")
        err = load.communicate(archive(last))[1].decode()
    assert load.returncode == 1 and "was removed while it was brought" in err, err
    assert stocked.unsound_images() + stocked.strange_names() == []


# Files

@pytest.mark.parametrize("umask", ["000", "002", "027", "077"])
def test_what_others_may_do_in_a_store(stocked, umask):
    """Nothing to what udocker makes, whatever the umask allows; and nothing at all where it allows nothing."""
    store, words = stocked.home / "tmp/deep/store", ["sh", "-c", 'umask "$0"; exec "$@"', umask]
    program = Program(stocked.home, words + stocked.program.entry, dict(
        stocked.program.env, UDOCKER_DIR=str(store), UDOCKER_KEYSTORE=str(store / "own/keystore")))
    program.ok("load", "-i", stocked.directory / "kept.tar")
    program.ok("login", "-u", CREDENTIAL[0], "--password-stdin", stocked.host, input=CREDENTIAL[1].encode())
    program.ok("pull", stocked.host + "/lab/app")
    program.ok("create", "--name=new", "lab/kept:1")
    program.ok("setup", "--execmode=F3" if FAKECHROOT else "--execmode=N1", "new")
    program.ok("clone", "--name=copy", "new")
    program.ok("import", "--tocontainer", "--name=third", stocked.directory / "tree.tar", "x:1")
    program.ok("run", "-v", "%s:/a/new/place" % stocked.directory, "-w", "/an/other", "third", "/bin/sh", "-c", ":")
    paths = [path for path in [store.parent] + sorted(store.parent.rglob("*")) if not path.is_symlink()]
    assert [str(path) for path in paths if path.stat().st_mode & 0o002] == []
    if umask == "077":
        assert [path for path in (store.parent, store) if path.stat().st_mode & 0o077] == []
    assert (store / "own").stat().st_mode & 0o777 == 0o700
    assert (store / "own/keystore").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("bits, is_told", [(0o777, True), (0o1777, False), (0o755, False)])
def test_a_store_that_others_can_get_at_is_told_once(stocked, tmp_path, bits, is_told):
    above = tmp_path / "above"
    above.mkdir()
    above.chmod(bits)
    program = stocked.program.with_env(UDOCKER_DIR=str(above / "store"))
    shown = [program.ok("load", "-i", stocked.directory / "kept.tar").err for _ in range(2)]
    assert ("%s can be written to by others" % above in shown[0]) is is_told and shown[1] == ""


def test_a_user_database_without_line_ends_costs_no_memory(stocked):
    (stocked.root("kept") / "etc/passwd").write_bytes(b"root:" * 3000000)
    program = stocked.program
    limited = Program(program.home, ["prlimit", "--as=%d" % (140 << 20)] + program.entry, program.env)
    assert "no such user" in limited.fails(125, "run", "--user=green", "kept", "/bin/sh", "-c", ":").err


# Disks

def test_a_container_in_the_making_finds_no_room(stocked):
    """For a file beside the tree: nothing stays behind."""
    at, err = 0, ""
    while "/ROOT" not in err:
        at += 1
        err = stocked.run(["create", "lab/kept:1"], at=at, do=errno.EDQUOT).err
        assert [name for name in os.listdir(str(stocked.program.store / "containers")) if name[0] == "."] == []
        assert at < 30


def test_an_export_that_is_killed_leaves_nothing_beside_its_archive(stocked):
    """Before the last step the archive has no name."""
    output = stocked.directory / "output/export"
    output.mkdir(parents=True)
    words = ["export", "-o", output / "tree.tar", "kept"]
    assert stocked.run(words).status == 0 and stocked.counter.value
    (output / "tree.tar").unlink()
    for at in range(1, stocked.counter.value + 1):
        result = stocked.run(words, all=1, at=at, do="kill")
        assert result.status == -signal.SIGKILL and list(output.iterdir()) == [], at
    output.rmdir()


@pytest.mark.parametrize("has_old", [True, False])
@pytest.mark.parametrize("words", [["HOST", "kept:/etc/passwd"], ["kept:/bin/sh", "HOST"]])
def test_what_a_copy_that_is_killed_leaves_goes_with_the_next(stocked, words, has_old):
    """A tree has nothing of it, and the file is the old one or the new one; what else the user has stays."""
    path, own = stocked.home / "tmp/copied", stocked.home / "tmp/.new-0123456789abcdef-mine"
    own.write_text("mine")
    source, target = [path if word == "HOST" else stocked.root("kept") / word[6:] for word in words]
    words = ["cp"] + [word.replace("HOST", str(path)) for word in words]
    if source == path:
        path.write_text("new")
    at, status, left = 0, -signal.SIGKILL, set()
    contents = {b"old" if has_old else None, source.read_bytes()}
    while status:
        at += 1
        if has_old:
            target.write_text("old")
        elif target.exists():
            target.unlink()
        status = stocked.run(words, all=1, at=at, do="kill").status
        assert status in (0, -signal.SIGKILL)
        assert (target.read_bytes() if target.exists() else None) in contents
        assert not list(stocked.root("kept").rglob(".new-*"))
        left.update(stocked.home.rglob(".new-*"))
    assert at > 3 and left > {own}
    for command in words, ["prune"]:
        assert stocked.run(command, later=LATER).status == 0
    assert list(stocked.home.rglob(".new-*")) == [own]


@pytest.mark.skipif(not FAKECHROOT, reason="there is no libfakechroot")
def test_a_copy_from_a_converted_container_that_is_killed_leaves_nothing_converted(stocked):
    """Each file and link is as it was before the conversion, or not there."""
    stocked.program.ok("setup", "--execmode=P1", "converted")
    target, before = stocked.home / "tmp/copied", files_of(stocked.root("converted"))
    stocked.renew()
    words = ["cp", "converted:/.", target]
    assert stocked.run(words, all=1).status == 0 and files_of(target) == before
    for at in range(1, stocked.counter.value + 1, stocked.counter.value // 20):
        remove(target)
        assert stocked.run(words, all=1, at=at, do="kill").status == -signal.SIGKILL
        copied = {name: facts for name, facts in files_of(target).items() if "/.new-" not in "/" + name}
        assert copied.items() <= before.items(), at


@pytest.mark.parametrize("number", range(2, 8))
def test_a_copy_that_finds_no_room_leaves_nothing(stocked, number):
    """In the place of a file that is there. The first call is for a lock, which can be done without."""
    result = stocked.run(["cp", stocked.directory / "tree.tar", "kept:/etc/passwd"], at=number, do=errno.ENOSPC)
    assert result.status == 1 and ".new-" not in result.err and result.err.count("\n") == 2, result
    assert stocked.strange_names() == []
    assert "root:x:0" in (stocked.root("kept") / "etc/passwd").read_text()


def test_directories_that_cannot_be_listed(stocked):
    result = stocked.run(["rm", "gone"], closed=1)
    assert result.status == 1 and result.err.count("\n") == 1 and "Input/output error" in result.err, result


FULL = """
mount -t tmpfs -o nr_inodes=$((150 + $(find "$2" | wc -l))),size=30m none "$1" && cp -a "$2/." "$1" || exit 99
number=0
while true >"$1/tmp/$number"; do number=$((number + 1)); done 2>/dev/null
dd if=/dev/zero of="$1/tmp/0" bs=4k status=none 2>/dev/null
shift 2
exec "$@"
"""


@pytest.mark.parametrize("words", [["rm", "gone"], ["rmi", "lab/gone:1"], ["prune"]], ids=lambda words: words[0])
def test_a_full_disk_is_no_obstacle_to_removing(stocked, broken_modes, words):
    """It has no room for one more file, nor for one more byte."""
    working("N1", broken_modes)
    rubbish = stocked.program.store / "layers" / ("sha256:" + 64 * "1")
    rubbish.write_text("rubbish")
    os.utime(str(rubbish), (1, 1))
    for name in ".use", ".lock":        # an older udocker has made none
        (stocked.program.store / name).unlink()
    filled = stocked.directory / "filled"
    remove(filled)
    stocked.home.rename(filled)
    stocked.home.mkdir()
    program = stocked.program.with_env()
    program.entry = ["unshare", "--map-root-user", "--mount", "sh", "-c", FULL, "sh", str(stocked.home), str(filled)
                     ] + program.entry + ["--allow-root"]
    program.ok(*words)
    program.fails(1, "clone", "kept")


def test_without_locks(stocked):
    for words in (["pull", stocked.host + "/lab/app"], ["create", "--name=new", "lab/kept:1"], ["rm", "gone"],
                  ["rmi", "lab/gone:1"], ["load", "-i", stocked.directory / "app.tar"],
                  ["setup", "--execmode=N1", "new"], ["tag", "lab/kept:1", "lab/tagged:2"], ["prune"]):
        result = stocked.run(words, no_locks=1)
        assert result.status == 0 and not result.err.startswith("udocker: error"), result
    assert stocked.unsound_images() + stocked.unsound_containers() + stocked.strange_names() == []
