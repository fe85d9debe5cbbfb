"""Squashfs and SIF files as containers: export --squashfs writes them, run runs them, mounted or unpacked."""
import json
import os
import shutil
import signal
import subprocess
import time

import pytest

import udocker as program_under_test
from archives import limited, listing, root_of, tool
from conftest import need
from images import NATIVE
from layers import directory, file, hardlink, symlink, tar
from program import PATH, Program
from soaking.laboratory import guest_tree
from test_processes import PATIENCE

NOTE = "is unpacked for each run"
PRIMARY, SQUASHFS, EXT3, OVERLAY = 2, 1, 2, 4       # as siftool takes them: types of partitions and of file systems
ARCHITECTURES = {"386": 1, "amd64": 2, "arm": 3, "arm64": 4, "ppc64le": 6, "s390x": 11, "riscv64": 12}
RUNSCRIPT = '#!/bin/sh\necho "the runscript likes $FLAVOUR"\n'


@pytest.fixture(scope="module")
def squashed(containers, tmp_path_factory):
    """A directory with busybox.sqfs and entry.sqfs, which export wrote."""
    need("mksquashfs")
    place = tmp_path_factory.mktemp("squashed")
    for name in "busybox", "entry":
        containers.ok("export", "--squashfs", "-o", place / (name + ".sqfs"), name)
    return place


def add_partition(sif, squashfs, kind=PRIMARY, system=SQUASHFS):
    """Adds a squashfs to a SIF."""
    tool(need("siftool"), "add", sif, squashfs, "--datatype", 4, "--parttype", kind, "--partfs", system,
         "--partarch", ARCHITECTURES[NATIVE])


@pytest.fixture(scope="module")
def sif(containers, tmp_path_factory):
    """A SIF of a tree with a runscript and an environment, which has a definition and an overlay before it."""
    place = tmp_path_factory.mktemp("sif")
    tree, squashfs, path = place / "tree", place / "tree.sqfs", place / "tree.sif"
    tool("cp", "-a", root_of(containers, "busybox"), tree)          # whatever other tests left there
    (tree / ".singularity.d/env").mkdir(parents=True)
    (tree / ".singularity.d/env/90-environment.sh").write_text("export FLAVOUR='strawberry ice'\n")
    (tree / ".singularity.d/runscript").write_text(RUNSCRIPT)
    (tree / ".singularity.d/runscript").chmod(0o755)
    tool(need("mksquashfs"), tree, squashfs, "-all-root", "-quiet", "-no-progress")
    tool(need("siftool"), "new", path)
    (place / "definition").write_text("Bootstrap: docker\n")
    tool("siftool", "add", path, place / "definition", "--datatype", 1)
    (place / "data").write_bytes(b"hsqs" * 999)
    add_partition(path, place / "data", OVERLAY)
    add_partition(path, squashfs)
    shutil.rmtree(str(tree))
    return path


@pytest.fixture
def mounting(containers, broken_modes):
    """The program where it can mount such files."""
    need("squashfuse")
    try:
        os.close(os.open("/dev/fuse", os.O_RDWR))
    except OSError as error:
        pytest.skip("/dev/fuse: %s: tests/run opens it when it is run by root" % error.strerror)
    if broken_modes["N1"]:
        pytest.skip("N1 does not work here: " + broken_modes["N1"])
    return containers.with_env(UDOCKER_DEFAULT_EXECUTION_MODE="N1")


def servers_of(path):
    """The processes that have a file open: squashfuse; what has ended has nothing open."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            names = [os.readlink("/proc/%s/fd/%s" % (pid, number)) for number in os.listdir("/proc/%s/fd" % pid)]
        except OSError:         # another user's, or it ended meanwhile
            continue
        if str(path) in names:
            found.append(int(pid))
    return found


def assert_nothing_is_left(program, path):
    """No process has the file, and the store has what it had."""
    deadline = time.monotonic() + PATIENCE
    while servers_of(path) and time.monotonic() < deadline:
        pass
    assert servers_of(path) == []
    names = {name for name in os.listdir(str(program.store / "containers")) if not name.startswith(".")}
    assert names == set(program.ok("ps", "-q").out.split()) | {"busybox", "entry", "user-id", "user-id-and-group"}


# What is written

def test_the_whole_tree_is_in_it(containers, squashed, tmp_path):
    tool(need("unsquashfs"), "-quiet", "-no-progress", "-dest", tmp_path / "tree", squashed / "entry.sqfs")
    config = json.loads((tmp_path / "tree/.udocker/container.json").read_text())
    assert config["config"]["Entrypoint"] == ["/usr/bin/describe"]
    shutil.rmtree(str(tmp_path / "tree/.udocker"))
    written, own = listing(tmp_path / "tree"), listing(root_of(containers, "entry"))
    assert set(written) == set(own)
    # A squashfs knows whole seconds
    for name, (mode, mtime, *content) in own.items():
        assert written[name] == (mode, mtime // 10 ** 9 * 10 ** 9, *content), name


def test_links_and_names_of_all_kinds(udocker, tmp_path):
    need("mksquashfs")
    data = tar(directory("d"), file("d/two words\n", b"1"), file("d/\u00fc", b"2"), hardlink("other", "d/two words\n"),
               symlink("link", "/nowhere"), directory(".udocker"), file(".udocker/container.json", b"of another"))
    udocker.ok("import", "--tocontainer", "--name=strange", "-", input=data)
    deep = os.path.join(root_of(udocker, "strange"), "long" * 60, "longer" * 40)
    os.makedirs(deep)
    with open(os.fsencode(deep) + b"/\xff", "w") as unreadable:
        unreadable.write("no UTF-8")
    udocker.ok("export", "--squashfs", "-o", tmp_path / "strange.sqfs", "strange")
    tool(need("unsquashfs"), "-quiet", "-no-progress", "-dest", tmp_path / "tree", tmp_path / "strange.sqfs")
    assert json.loads((tmp_path / "tree/.udocker/container.json").read_text())["os"] == "linux"
    for tree in tmp_path / "tree", root_of(udocker, "strange"):
        shutil.rmtree(os.path.join(str(tree), ".udocker"))
    written, own = listing(tmp_path / "tree"), listing(root_of(udocker, "strange"))
    assert {name: entry[2:] for name, entry in written.items()} == {name: entry[2:] for name, entry in own.items()}


@pytest.mark.parametrize("in_the_way", [
    symlink(".udocker", "/etc"), file(".udocker", b"of another"),
    directory(".udocker") + file(".udocker/nvidia", b"of another"), directory(".udocker/container.json")],
                         ids=["link", "file", "mark", "directory"])
def test_what_a_tree_has_in_the_place_of_the_notes_is_left_out(udocker, tmp_path, in_the_way):
    need("mksquashfs")
    udocker.ok("import", "--tocontainer", "--name=app", "-", input=tar(file("motd", b"1"), in_the_way))
    udocker.ok("export", "--squashfs", "-o", tmp_path / "app.sqfs", "app")
    tool(need("unsquashfs"), "-quiet", "-no-progress", "-dest", tmp_path / "tree", tmp_path / "app.sqfs")
    assert sorted(os.listdir(str(tmp_path / "tree"))) == [".udocker", "motd"]
    assert sorted(os.listdir(str(tmp_path / "tree/.udocker"))) == ["container.json", "imagerepo.name"]
    assert json.loads((tmp_path / "tree/.udocker/container.json").read_text())["os"] == "linux"


def test_everybody_may_look_into_it(squashed):
    listed = subprocess.check_output([need("unsquashfs"), "-lln", "-max-depth", "0", str(squashed / "entry.sqfs")])
    assert listed.decode().split()[:2] == ["drwxr-xr-x", "0/0"]


def test_what_was_converted_is_as_it_was(udocker, tmp_path):
    """A Fakechroot mode changes links and programs; a file of the container has none of that, and runs in any mode."""
    need("mksquashfs")
    path = tmp_path / "shell.sqfs"
    udocker.ok("import", "--tocontainer", "--name=shell", "-", input=guest_tree(tmp_path))
    before = listing(root_of(udocker, "shell"))
    if udocker("setup", "--execmode=F1", "shell").status:
        pytest.skip("F1 does not work here")
    assert listing(root_of(udocker, "shell")) != before
    udocker.ok("export", "--squashfs", "-o", path, "shell")
    tool(need("unsquashfs"), "-quiet", "-no-progress", "-dest", tmp_path / "tree", path)
    written = listing(tmp_path / "tree")
    links = {name: entry[2] for name, entry in before.items() if entry[0].startswith("0o12")}
    assert links and {name: written[name][2] for name in links} == links
    result = udocker.with_env(UDOCKER_DEFAULT_EXECUTION_MODE="F1")("run", path, "/bin/cat", "/etc/os-release")
    if "there is no libfakechroot" not in result.err:
        assert "ID=debian" in result.out and result.status == 0, result


def test_a_file_of_that_name_stays_until_the_new_one_is_whole(containers, tmp_path):
    need("mksquashfs")
    path = tmp_path / "app.sqfs"
    path.write_text("old")
    limited(containers, 65536).fails(1, "export", "--squashfs", "-o", path, "busybox")
    assert path.read_text() == "old" and os.listdir(str(tmp_path)) == ["app.sqfs"]
    containers.ok("export", "--squashfs", "-o", path, "busybox")
    assert path.read_bytes()[:4] == b"hsqs" and os.listdir(str(tmp_path)) == ["app.sqfs"]


@pytest.mark.parametrize("words", [[], ["-o", "-"], ["-"], ["-o", "/dev/full"], ["-o", "."]])
def test_it_needs_a_file(containers, words):
    assert "-o" in containers.fails(2, "export", "--squashfs", *words + ["busybox"]).err


def test_nothing_makes_one(containers, tmp_path):
    result = containers.fails(1, "export", "--squashfs", "-o", "app.sqfs", "busybox", env={"PATH": str(tmp_path)})
    assert "no mksquashfs" in result.err and "squashfs-tools" in result.err
    assert not (containers.home / "app.sqfs").exists()


def test_an_older_mksquashfs_reads_no_tar(containers, tmp_path):
    (tmp_path / "mksquashfs").write_text("#!/bin/sh\necho 'mksquashfs: -tar invalid option' >&2\nexit 1\n")
    (tmp_path / "mksquashfs").chmod(0o755)
    result = containers.fails(1, "export", "--squashfs", "-o", tmp_path / "app.sqfs", "busybox",
                              env={"PATH": "%s:%s" % (tmp_path, PATH)})
    assert "invalid option" in result.err and "4.5 or newer" in result.err
    assert os.listdir(str(tmp_path)) == ["mksquashfs"]


# What is run, in each mode

def test_it_runs_as_its_container_does(box, squashed):
    """Entrypoint, command, user, directory and variables are those of the container."""
    need("unsquashfs")
    file, own = (box.ok("run", what, *words).out for what, words in (
        (squashed / "entry.sqfs", []), ("entry", [])))
    assert file == own and "<first><two words>" in file
    assert_nothing_is_left(box, squashed / "entry.sqfs")


def test_changes_are_gone_afterwards(box, squashed):
    need("unsquashfs")
    path, script = squashed / "busybox.sqfs", "cat /etc/marker; echo changed > /etc/marker; rm /bin/vi; cat /etc/marker"
    for options in [], ["--ephemeral"]:
        assert box.ok("run", *options + [path, "sh", "-c", script]).out == "inside\nchanged\n"
    assert box("run", path, "sh", "-c", "exit 7").status == 7
    assert_nothing_is_left(box, path)


def test_it_has_volumes_a_directory_and_a_user(box, squashed, tmp_path):
    need("unsquashfs")
    (tmp_path / "word").write_text("outside\n")
    out = box.ok("run", "-v", "%s:/new/place" % tmp_path, "-w", "/work/here", "-u", "green", "-e", "A=b", "--rm",
                 squashed / "busybox.sqfs", "sh", "-c", "cat /new/place/word; pwd; id -u; echo $A").out
    assert out == "outside\n/work/here\n1000\nb\n"


def test_an_older_unsquashfs_unpacks_it_too(containers, squashed, proot, tmp_path):
    """Before 4.5 it knew neither -quiet nor -no-exit-code."""
    old = tmp_path / "unsquashfs"
    old.write_text('#!/bin/sh\ncase " $* " in *" -quiet "*) echo "SYNTAX: $0 [options]" >&2; exit 1;; esac\n'
                   'exec %s "$@"\n' % need("unsquashfs"))
    old.chmod(0o755)
    box = containers.with_env(UDOCKER_DEFAULT_EXECUTION_MODE="P1", PATH="%s:%s" % (tmp_path, PATH))
    assert box.ok("run", squashed / "busybox.sqfs", "cat", "/etc/marker").out == "inside\n"


def test_a_relative_path_and_a_location(box, squashed):
    need("unsquashfs")
    words = ["cat", "/etc/marker"]
    assert box.ok("run", "./busybox.sqfs", *words, cwd=squashed).out == "inside\n"
    assert "run ./busybox.sqfs runs" in box.fails(125, "run", "busybox.sqfs", *words, cwd=squashed).err
    assert box.ok("run", "--location=busybox.sqfs", "busybox", *words, cwd=squashed).out == "inside\n"


def test_a_sif_runs_its_runscript(box, sif):
    need("unsquashfs")
    assert box.ok("run", sif).out == "the runscript likes strawberry ice\n"
    result = box("run", sif, "sh", "-c", "echo $FLAVOUR; exit 3")
    assert result.out == "strawberry ice\n" and result.status == 3
    assert box("run", sif, "no-such-command").status == 127
    assert box.ok("run", "-e", "FLAVOUR=a b $c", "-e", "odd.name=1", sif).out == "the runscript likes a b $c\n"
    assert box.ok("run", "--entrypoint=cat", sif, "/etc/marker").out == "inside\n"
    assert_nothing_is_left(box, sif)


def test_a_tree_that_says_nothing_runs_as_the_store_says(box, containers, tmp_path):
    """As --location= has it for a directory."""
    need("unsquashfs")
    tool(need("mksquashfs"), root_of(containers, "entry"), tmp_path / "tree.sqfs", "-quiet", "-no-progress")
    assert "<first><two words>" in box.ok("run", "--location=%s" % (tmp_path / "tree.sqfs"), "entry").out
    assert box.ok("run", tmp_path / "tree.sqfs", "/bin/cat", "/etc/marker").out == "inside\n"


@pytest.mark.parametrize("options", [["--name=new"], ["--cidfile=id"]])
def test_it_is_no_container_of_the_store(containers, squashed, options):
    assert "no container of the store" in containers.fails(2, "run", *options + [squashed / "busybox.sqfs"]).err


def test_links_do_not_lead_out_of_it(containers, mode, tmp_path):
    need("unsquashfs")
    tree, outside = tmp_path / "tree", tmp_path / "outside"
    for place in tree / "bin", outside:
        place.mkdir(parents=True)
    shutil.copy(need("busybox"), str(tree / "bin/busybox"))
    (outside / "container.json").write_text('{"config": {"Cmd": ["/bin/busybox", "echo", "of the host"]}}')
    (tree / "bin/sh").symlink_to("busybox")
    (tree / ".udocker").symlink_to(outside)
    tool(need("mksquashfs"), tree, tmp_path / "tree.sqfs", "-quiet", "-no-progress")
    program = containers.with_env(UDOCKER_DEFAULT_EXECUTION_MODE=mode)
    assert program.ok("run", tmp_path / "tree.sqfs").out == ""


def test_a_program_with_set_id_bits_gets_none(containers, tmp_path):
    """Unpacked, it would be set-id to the caller for everybody on this machine."""
    need("unsquashfs")
    tree, squashfs = tmp_path / "tree", tmp_path / "tree.sqfs"
    (tree / "bin").mkdir(parents=True)
    shutil.copy(need("busybox"), str(tree / "bin/busybox"))
    (tree / "bin/busybox").chmod(0o6755)
    tool(need("mksquashfs"), tree, squashfs, "-quiet", "-no-progress")
    program = containers.with_env(UDOCKER_DEFAULT_EXECUTION_MODE="P1")
    words = ["run", squashfs, "/bin/busybox", "stat", "-c", "%a", "/bin/busybox"]
    result = program(*words)
    if "mode P1 does not work" in result.err or "no PRoot" in result.err:
        pytest.skip("P1 does not work here")
    assert result.out == "755\n", result


# Mounted

def test_it_is_mounted(mounting, squashed):
    path = squashed / "busybox.sqfs"
    result = mounting.ok("run", path, "sh", "-c", "head -n 1 /proc/self/mountinfo; id -u; ls -ld /etc /bin/busybox")
    first, user, *listed = result.out.splitlines()
    assert NOTE not in result.err and " - overlay " in first and user == "0"
    assert all(line.split()[2:4] == ["0", "0"] or "root" in line for line in listed)
    assert_nothing_is_left(mounting, path)


def test_the_default_mode_mounts_it(mounting, squashed):
    default = Program(mounting.home, mounting.entry)
    result = default.ok("run", squashed / "busybox.sqfs", "head", "-n", "1", "/proc/self/mountinfo")
    assert NOTE not in result.err and " - overlay " in result.out


@pytest.mark.parametrize("options", [[], ["--init"], ["--add-host=a:10.0.0.1"]])
def test_nothing_outlives_a_udocker_that_is_killed(mounting, squashed, tmp_path, options):
    path = tmp_path / "own.sqfs"
    shutil.copy(str(squashed / "busybox.sqfs"), str(path))
    with mounting.start("run", *options + [path, "sh", "-c", "echo ready; exec sleep 1000"],
                        stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"ready\n" and servers_of(path)
        os.kill(process.pid, signal.SIGKILL)
    assert_nothing_is_left(mounting, path)


def test_what_goes_on_in_the_background_keeps_its_files(mounting, squashed, tmp_path):
    path, pipe = tmp_path / "own.sqfs", tmp_path / "pipe"
    shutil.copy(str(squashed / "busybox.sqfs"), str(path))
    os.mkfifo(str(pipe))
    script = "(read word < /place/pipe; cat /etc/marker > /place/told) > /dev/null 2>&1 &"
    mounting.ok("run", "-v", "%s:/place" % tmp_path, path, "sh", "-c", script)
    assert servers_of(path)
    pipe.write_text("go\n")
    assert_nothing_is_left(mounting, path)
    assert (tmp_path / "told").read_text() == "inside\n"


def test_who_replaces_the_file_does_no_harm(mounting, squashed, tmp_path):
    path, pipe = tmp_path / "own.sqfs", tmp_path / "pipe"
    shutil.copy(str(squashed / "busybox.sqfs"), str(path))
    os.mkfifo(str(pipe))
    with mounting.start("run", "-v", "%s:/place" % tmp_path, path, "sh", "-c",
                        "echo ready; read word < /place/pipe; cat /etc/marker", stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"ready\n"
        (tmp_path / "new").write_bytes(b"hsqs" + os.urandom(9999))
        os.replace(str(tmp_path / "new"), str(path))
        pipe.write_text("go\n")
        assert process.stdout.read() == b"inside\n"
    mounting.fails(125, "run", path, "sh")


def test_several_at_once(mounting, squashed):
    script = "echo %d >> /etc/marker; cat /etc/marker"
    crowd = [mounting.start("run", squashed / "busybox.sqfs", "sh", "-c", script % number, stdout=subprocess.PIPE)
             for number in range(6)]
    for number, process in enumerate(crowd):
        assert process.communicate(timeout=PATIENCE)[0] == b"inside\n%d\n" % number


def test_the_ranks_of_a_job_share_a_mount(mounting, squashed, tmp_path):
    """Of its files too: each rank waits there for the other."""
    path = tmp_path / "own.sqfs"
    shutil.copy(str(squashed / "busybox.sqfs"), str(path))
    job = {"OMPI_COMM_WORLD_LOCAL_SIZE": "2", "PMIX_NAMESPACE": str(tmp_path)}
    script = ("echo $0 > /tmp/$0; until [ -e /tmp/0 ] && [ -e /tmp/1 ]; do usleep 9999; done; "
              "readlink /proc/self/ns/mnt; echo ready; read word")
    ranks = [mounting.start("run", path, "sh", "-c", script, str(rank), env=dict(job, PMIX_RANK=str(rank)),
                            stdin=subprocess.PIPE, stdout=subprocess.PIPE) for rank in range(2)]
    places = {rank.stdout.readline() for rank in ranks}
    assert [rank.stdout.readline() for rank in ranks] == [b"ready\n"] * 2
    assert len(places) == 1 and len(servers_of(path)) == 1
    for rank in ranks:
        rank.communicate(b"go\n", PATIENCE)
    assert_nothing_is_left(mounting, path)


def with_servers(program, directory, script):
    """The program, for which this shell script is each squashfuse, with a directory for all that is temporary."""
    for name in "squashfuse", "squashfuse_ll":
        (directory / name).write_text("#!/bin/sh\n%s\n" % script)
        (directory / name).chmod(0o755)
    return program.with_env(PATH="%s:%s" % (directory, PATH), UDOCKER_TMPDIR=str(directory))


def test_a_squashfuse_that_cannot_gives_way(mounting, squashed, tmp_path):
    """As one that was made with libfuse 2, which knows no descriptors."""
    need("unsquashfs")
    own = with_servers(mounting, tmp_path, "echo 'fusermount: bad mount point' >&2; exit 1")
    result = own.ok("run", squashed / "busybox.sqfs", "cat", "/etc/marker")
    assert result.out == "inside\n" and NOTE in result.err and "bad mount point" in result.err
    assert sorted(os.listdir(str(tmp_path))) == ["squashfuse", "squashfuse_ll"]


def test_a_file_is_unpacked_where_overlays_are_refused(udocker, mounting, squashed):
    """It could be mounted there, and nothing in it changed."""
    need("unsquashfs")
    layout = program_under_test.Layout(str(udocker.store))
    layout.make()
    findings = program_under_test.Findings(layout, program_under_test.Host(), str(udocker.home))
    findings.remember("N1 ephemeral", "overlay: refused here")
    result = udocker.ok("run", squashed / "busybox.sqfs", "cat", "/etc/marker")
    assert result.out == "inside\n" and NOTE in result.err and "overlay: refused here" in result.err


def test_a_squashfuse_that_dies_holds_nobody_up(mounting, squashed, tmp_path):
    """As one that a damaged file made crash, once it was said to be mounted."""
    need("unsquashfs")
    own = with_servers(mounting, tmp_path, "")
    with own.start("run", squashed / "busybox.sqfs", "cat", "/etc/marker", stdout=subprocess.PIPE,
                   stderr=subprocess.PIPE) as process:
        try:
            out, err = process.communicate(timeout=PATIENCE)
        finally:
            for pid in servers_of(squashed / "busybox.sqfs"):
                os.kill(pid, signal.SIGKILL)
    assert out == b"inside\n" and NOTE.encode() in err and b"Errno" not in err


@pytest.mark.skipif(os.getuid() == 0, reason="root may have any number of processes")
def test_who_may_have_no_more_processes_is_told(mounting, squashed):
    mounting.ok("run", squashed / "busybox.sqfs", "true")       # proves the mode, for which it needs processes too
    few = Program(mounting.home, ["prlimit", "--nproc=1"] + mounting.entry, mounting.env)
    result = few("run", squashed / "busybox.sqfs", "true")
    assert result.status == 125 and "namespaces: Resource temporarily unavailable" in result.err, result


def test_a_signal_ends_what_unpacks(containers, squashed, tmp_path):
    (tmp_path / "unsquashfs").write_text("#!/bin/sh\necho > %s/pipe\nexec cat %s/pipe\n" % (tmp_path, tmp_path))
    (tmp_path / "unsquashfs").chmod(0o755)
    os.mkfifo(str(tmp_path / "pipe"))
    program = containers.with_env(UDOCKER_DEFAULT_EXECUTION_MODE="P1", PATH="%s:%s" % (tmp_path, PATH))
    with program.start("run", squashed / "busybox.sqfs", "true", stderr=subprocess.PIPE) as process:
        assert (tmp_path / "pipe").read_text() == "\n"
        process.terminate()
        process.communicate(timeout=PATIENCE)
    assert process.returncode in (-signal.SIGTERM, 128 + signal.SIGTERM)
    assert_nothing_is_left(program, tmp_path / "pipe")
    assert not [name for name in os.listdir(str(program.store / "containers")) if name.startswith(".")]


# What cannot be run

def test_nothing_can_open_it(containers, squashed, tmp_path):
    result = containers.fails(125, "run", squashed / "busybox.sqfs", "sh", env={"PATH": str(tmp_path)})
    assert "squashfuse" in result.err and "unsquashfs" in result.err and "squashfs-tools" in result.err


DAMAGE = {
    "cut": lambda data: data[:len(data) // 2],
    "almost empty": lambda data: data[:40],
    "another version": lambda data: data[:28] + b"\3" + data[29:],
    "random": lambda data: data[:4] + os.urandom(99999),
    "random behind its head": lambda data: data[:40] + (9999).to_bytes(8, "little") + os.urandom(len(data)),
    "random at its end": lambda data: data[:-9000] + os.urandom(9000),
}


@pytest.mark.parametrize("damage", sorted(DAMAGE))
@pytest.mark.parametrize("number", range(3))
def test_a_damaged_file_is_told(box, squashed, tmp_path, damage, number):
    need("unsquashfs")
    (tmp_path / "bad.sqfs").write_bytes(DAMAGE[damage]((squashed / "busybox.sqfs").read_bytes()))
    result = box("run", tmp_path / "bad.sqfs", "true")
    errors = [line for line in result.err.splitlines() if line.startswith("udocker: error: ")]
    assert result.status in (125, 126, 127) and len(errors) == 1 and "bug" not in result.err, result
    assert_nothing_is_left(box, tmp_path / "bad.sqfs")


def test_a_damaged_file_is_named(mounting, squashed, tmp_path):
    """Where squashfuse ends of what it reads, and where what the file says of itself is nonsense."""
    data = (squashed / "busybox.sqfs").read_bytes()
    (tmp_path / "bad.sqfs").write_bytes(data[:12] + bytes(4) + data[16:])
    assert "bad.sqfs: " in mounting.fails(125, "run", tmp_path / "bad.sqfs", "true").err
    (tmp_path / "tree/.udocker").mkdir(parents=True)
    (tmp_path / "tree/.udocker/container.json").write_text("{")
    tool(need("mksquashfs"), tmp_path / "tree", tmp_path / "nonsense.sqfs", "-quiet", "-no-progress")
    assert "nonsense.sqfs: /.udocker/container.json: " in mounting.fails(125, "run", tmp_path / "nonsense.sqfs").err


TABLE, TREE = 4096, 4096 + 2 * 585      # descriptors in a SIF; the third one is the tree's
SIF_DAMAGE = {
    "cut": (lambda data: data[:len(data) - 9999], "the end of it is missing"),
    "only a head": (lambda data: data[:100], "the end of it is missing"),
    "no descriptors": (lambda data: data[:88] + bytes(8) + data[96:], "without the tree"),
    "descriptors elsewhere": (lambda data: data[:96] + b"\xff" * 8 + data[104:], "the end of it is missing"),
    "countless descriptors": (lambda data: data[:88] + b"\xff" * 8 + data[96:TREE] + bytes(len(data) - TREE),
                              "the end of it is missing"),
    "a partition elsewhere": (lambda data: data[:TREE + 17] + b"\xff" * 8 + data[TREE + 25:], "the end of it is"),
    "no squashfs": (lambda data: data[:TREE + 17] + b"\1" + data[TREE + 18:], "no squashfs of version 4"),
    "an encrypted tree": (lambda data: data[:TREE + 201] + b"\5" + data[TREE + 202:], "encrypted"),
    "a system of its own": (lambda data: data[:TREE + 201] + b"\x63" + data[TREE + 202:], "of an unknown kind"),
}


@pytest.mark.parametrize("damage", sorted(SIF_DAMAGE))
def test_a_sif_that_cannot_be_run_is_told(containers, sif, tmp_path, damage):
    change, told = SIF_DAMAGE[damage]
    (tmp_path / "bad.sif").write_bytes(change(sif.read_bytes()))
    assert told in containers.fails(125, "run", tmp_path / "bad.sif").err


def test_a_compression_that_is_not_known_here_is_told(containers, squashed, tmp_path):
    need("unsquashfs")
    data = (squashed / "busybox.sqfs").read_bytes()
    (tmp_path / "new.sqfs").write_bytes(data[:20] + b"\x63" + data[21:])
    assert "unsupported" in containers.fails(125, "-q", "run", tmp_path / "new.sqfs").err


def test_a_sif_of_another_file_system_is_told(containers, squashed, tmp_path):
    tool(need("siftool"), "new", tmp_path / "ext3.sif")
    add_partition(tmp_path / "ext3.sif", squashed / "busybox.sqfs", system=EXT3)
    assert "ext3" in containers.fails(125, "run", tmp_path / "ext3.sif").err


@pytest.mark.parametrize("word", ["./missing.sqfs", "/missing/too", "../text", "./text", "."])
def test_what_is_no_such_file_is_told(containers, tmp_path, word):
    (tmp_path / "text").write_text("no squashfs")
    (tmp_path / "deep").mkdir()
    result = containers("run", word, "sh", cwd=tmp_path / "deep" if word.startswith("../") else tmp_path)
    assert result.status in (125, 2) and len(result.err.splitlines()) <= 2, result


@pytest.mark.parametrize("words", [["load", "-i"], ["import", "--clone"], ["import"]])
def test_one_that_is_taken_for_an_archive(containers, squashed, words):
    result = containers.fails(1, *words + ["busybox.sqfs"] + ["lab/new"] * (words == ["import"]), cwd=squashed)
    assert "hint: udocker run %s/busybox.sqfs runs it as it is" % squashed in result.err


def test_a_location_that_is_neither(containers, tmp_path):
    (tmp_path / "text").write_text("no squashfs")
    assert "no squashfs" in containers.fails(125, "run", "--location=%s" % (tmp_path / "text"), "busybox").err


def test_a_pipe_does_not_hold_it_up(containers, tmp_path):
    os.mkfifo(str(tmp_path / "pipe"))
    assert "no squashfs" in containers.fails(125, "run", tmp_path / "pipe").err


# doctor

def test_doctor_tells_what_becomes_of_them(mounting, tmp_path):
    def told(**env):
        return json.loads(mounting("doctor", "--json", env=env).out)["squashfs"]
    assert told().startswith("mounted by /")
    assert "unpacked for each run by /" in told(UDOCKER_DEFAULT_EXECUTION_MODE="P1") or not shutil.which("unsquashfs")
    nothing = told(PATH=str(tmp_path))
    assert nothing.startswith("not run") and "install the package squashfuse" in nothing
