"""Stores on file systems that are not like a local disk."""
import os
import re
import resource
import shutil
import subprocess
import tarfile
import time
from pathlib import Path

import pytest

import guests
import udocker as program_under_test
from conftest import FAKECHROOT_MODES, STOCK, need
from program import Program, in_main_thread

PATIENCE = 20       # seconds until what is expected must have come


@pytest.fixture(scope="module")
def busybox_tar(tmp_path_factory):
    """The archive of a tree with busybox."""
    path = tmp_path_factory.mktemp("tree") / "busybox.tar"
    with tarfile.open(str(path), "w") as archive:
        for name in "busybox", "sh", "ls", "sleep":
            archive.add(need("busybox"), "bin/" + name)
    return path


@pytest.fixture
def nfs(tmp_path):
    """The program with a home where what is removed and still open keeps a name in its directory, which is not empty
    then: so NFS has it, and libfuse, with which this one is made."""
    program, stop = need("unionfs"), need("fusermount")
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        pytest.skip("/dev/fuse cannot be opened")
    below, home = tmp_path / "below", tmp_path / "home"
    for directory in below, home:
        directory.mkdir()
    subprocess.run([program, "%s=RW" % below, str(home)], check=True)
    try:
        check_lingering(home)
        yield Program(home)
        deadline = time.monotonic() + PATIENCE          # what is closed is told libfuse a moment later
        while list(below.rglob(".fuse_hidden*")) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert list(below.rglob(".fuse_hidden*")) == []
    finally:
        subprocess.run([stop, "-u", "-z", str(home)], check=True)
        shutil.rmtree(str(below))


def check_lingering(home):
    """That it is such a home."""
    (home / "directory").mkdir()
    with (home / "directory/file").open("w"):
        (home / "directory/file").unlink()
        with pytest.raises(OSError):
            (home / "directory").rmdir()
    while os.listdir(str(home / "directory")):
        time.sleep(0.01)
    (home / "directory").rmdir()


def left_in(program):
    """What is in the directory of the containers, hidden or not."""
    return os.listdir(str(program.store / "containers"))


def test_what_is_removed_is_gone(nfs, mode, busybox_tar):
    nfs.ok("import", busybox_tar, "lab/busy:1")
    box = nfs.with_env(UDOCKER_DEFAULT_EXECUTION_MODE=mode, UDOCKER_TMPDIR=str(nfs.home))
    assert box.ok("run", "--rm", "lab/busy:1", "/bin/sh", "-c", "echo hello >/file; ls /file").out == "/file\n"
    assert left_in(nfs) == []
    box.ok("create", "--name=first", "lab/busy:1")
    box.ok("clone", "--name=second", "first")
    box.ok("cp", "-", "second:/", input=busybox_tar.read_bytes())
    box.fails(125, "run", "--name=first", "lab/busy:1", "/bin/ls")
    box.ok("run", "--add-host=there:127.0.0.1", "second", "/bin/ls")
    assert len(left_in(nfs)) == 4
    for name in "first", "second":
        result = box.ok("rm", name)
        assert not result.err
    box.ok("rmi", "lab/busy:1")
    assert left_in(nfs) == [] and os.listdir(str(nfs.store / "layers")) == []
    assert [name for name in os.listdir(str(nfs.home)) if name.startswith("udocker-")] == []
    assert nfs.with_env(UDOCKER_TMPDIR=str(nfs.home)).ok("prune").out == "0 B freed\n"


def test_volumes_of_a_home_whose_flags_are_locked(nfs, mode, busybox_tar):
    """nosuid and nodev, as homes are mounted with: for who is root in a namespace they are there to stay."""
    (nfs.home / "data").mkdir()
    nfs.ok("import", "--tocontainer", "--name=made", busybox_tar)
    box = nfs.with_env(UDOCKER_DEFAULT_EXECUTION_MODE=mode)
    words = ["run", "-v", "%s:/data:ro" % (nfs.home / "data"), "made", "/bin/sh", "-c", "echo x >/data/file"]
    if mode == "P1":
        box.fails(125, *words)
    else:
        result = box(*words)
        assert result.status and "Read-only file system" in result.err, result
    words[2] = words[2][:-3]
    box.ok(*words)
    assert (nfs.home / "data/file").read_text() == "x\n"


@pytest.mark.skipif(not STOCK, reason="there is no libfakechroot")
def test_the_copy_that_a_converted_container_is_exported_from_is_gone(nfs, tmp_path):
    need("gcc")
    with tarfile.open(str(tmp_path / "tree.tar"), "w") as archive:
        archive.add(str(guests.build(tmp_path / "tree", tmp_path)), ".")
    nfs.ok("import", "--tocontainer", "--name=made", tmp_path / "tree.tar")
    nfs.ok("setup", "--execmode=" + FAKECHROOT_MODES[0], "made")
    nfs.ok("export", "-o", nfs.home / "made.tar", "made")
    assert len(left_in(nfs)) == 2
    nfs.ok("rm", "made")
    assert left_in(nfs) == []


def test_what_somebody_reads_in_a_removed_container(nfs, busybox_tar):
    """The rest of it goes when that is closed, and prune comes."""
    identity = nfs.ok("import", "--tocontainer", "--name=made", busybox_tar).out.strip()
    with (nfs.store / "containers" / identity / "ROOT/bin/sh").open("rb"):
        assert "is still open" in nfs.ok("rm", "made").err
        assert identity not in nfs.ok("ps").out


def test_the_group_of_a_projects_directory(udocker, tmp_path):
    """What is made in it belongs to its group, which is what quotas of projects count; an archive has nothing of it."""
    containers = udocker.store / "containers"
    containers.mkdir(parents=True)
    containers.chmod(0o2755)
    with tarfile.open(str(tmp_path / "tree.tar"), "w") as archive:
        for name, mode in ("./", 0o755), ("open/", 0o1777), ("open/deep/", 0o750):
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = tarfile.DIRTYPE, mode
            archive.addfile(entry)
    udocker.ok("import", "--tocontainer", "--name=made", tmp_path / "tree.tar")
    udocker.ok("clone", "--name=copy", "made")
    for name in "made", "copy":
        root = Path(udocker.ok("inspect", "-p", name).out.strip())
        modes = {path: os.stat(str(root / path)).st_mode & 0o7777 for path in (".", "open", "open/deep")}
        assert modes == {".": 0o2755, "open": 0o3777, "open/deep": 0o2750}
    udocker.ok("export", "-o", tmp_path / "out.tar", "made")
    with tarfile.open(str(tmp_path / "out.tar")) as archive:
        assert {entry.name: entry.mode for entry in archive} == {"open": 0o1777, "open/deep": 0o750}


def refusing(program, *calls):
    """The program where the file system refuses these system calls."""
    words = [need("strace"), "-f", "-qq", "-o", os.devnull, "-e", "inject=%s:error=EPERM" % ",".join(calls)]
    return Program(program.home, words + program.entry, program.env)


def test_where_modes_cannot_be_changed(udocker, tmp_path):
    """As in a fileset of GPFS that has access control lists alone: files have the modes that they were made with."""
    modes = {"./": 0o755, "bin/": 0o755, "bin/tool": 0o755, "data": 0o640}
    with tarfile.open(str(tmp_path / "tree.tar"), "w") as archive:
        for name, mode in modes.items():
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = tarfile.DIRTYPE if name.endswith("/") else tarfile.REGTYPE, mode
            archive.addfile(entry)
    box = refusing(udocker, "chmod", "fchmod", "fchmodat")
    box.ok("import", "-", "lab/tree:1", input=(tmp_path / "tree.tar").read_bytes())
    box.ok("create", "--name=made", "lab/tree:1")
    box.ok("clone", "--name=copy", "made")
    box.ok("cp", "made:/bin", "copy:/sbin")
    roots = [Path(box.ok("inspect", "-p", name).out.strip()) for name in ("made", "copy")]
    for root in roots:
        assert {name: os.stat(str(root / name)).st_mode & 0o777 for name in modes} == modes
    assert os.stat(str(roots[1] / "sbin/tool")).st_mode & 0o777 == 0o755
    box.ok("rm", "made", "copy")
    box.ok("rmi", "lab/tree:1")


def test_where_there_are_no_links(udocker, busybox_tar, tmp_path):
    box = refusing(udocker, "symlink", "symlinkat")
    refusal = box.fails(1, "import", busybox_tar, "lab/busy:1")
    assert "no symbolic link can be made" in refusal.err and "--repo=DIR" in refusal.err
    with tarfile.open(str(tmp_path / "tree.tar"), "w") as archive:
        entry = tarfile.TarInfo("link")
        entry.type, entry.linkname = tarfile.SYMTYPE, "target"
        archive.addfile(entry)
    refusal = box.fails(1, "import", "--tocontainer", tmp_path / "tree.tar")
    assert "ROOT/link: no symbolic link can be made here" in refusal.err
    assert udocker.ok("ps", "-q").out == udocker.ok("images", "-q").out == ""


@pytest.mark.parametrize("place", ["data", "deep/da ta\t\\011"])
def test_what_is_mounted_in_a_container_is_not_removed(udocker, busybox_tar, tmp_path, place):
    """By its user, with sshfs say: what is in it is no part of the tree."""
    program, stop = need("unionfs"), need("fusermount")
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        pytest.skip("/dev/fuse cannot be opened")
    udocker.ok("import", "--tocontainer", "--name=made", busybox_tar)
    point = Path(udocker.ok("inspect", "-p", "made").out.strip()) / place
    (tmp_path / "elsewhere/below").mkdir(parents=True)
    (tmp_path / "elsewhere/below/precious").touch()
    point.mkdir(parents=True)
    subprocess.run([program, "%s=RW" % (tmp_path / "elsewhere"), str(point)], check=True)
    try:
        for force in [], ["-f"]:
            assert "%s: a file system is mounted there" % point in udocker.fails(1, "rm", *force + ["made"]).err
        with pytest.raises(OSError, match="mounted here"):
            program_under_test.remove_tree(str(point))
        assert (tmp_path / "elsewhere/below/precious").exists()
    finally:
        subprocess.run([stop, "-u", "-z", str(point)], check=True)
    udocker.ok("rm", "made")


def test_what_cannot_be_removed_is_named(udocker, busybox_tar):
    """Whole, as who reads it must find it: one that the administrator made immutable, say."""
    udocker.ok("import", "--tocontainer", "--name=made", busybox_tar)
    refusal = refusing(udocker, "unlinkat").fails(1, "rm", "made")
    assert re.search(r"error: /\S+/ROOT/bin: Operation not permitted", refusal.err)
    blob = udocker.store / "layers" / ("sha256:" + "0" * 64)
    blob.write_bytes(b"of no image")
    pruned = refusing(udocker, "unlink").ok("prune")
    assert "%s: Operation not permitted" % blob in pruned.err and pruned.out == "0 B freed\n"
    assert str(blob) in udocker.ok("prune").out and not blob.exists()


def test_a_place_where_nothing_may_be_executed(udocker, mode, tmp_path):
    """A file system in memory, mounted so by who is root in a namespace."""
    script = """mount -t tmpfs -o noexec none "$1" && cp /bin/true "$1" && shift && exec "$@" """
    words = udocker.command("run", "--location=%s" % tmp_path, "none", "/true")
    process = subprocess.run(["unshare", "--map-root-user", "--mount", "sh", "-c", script, "sh", str(tmp_path)]
                             + words[:-4] + ["--allow-root"] + words[-4:], stdin=subprocess.DEVNULL,
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                             env=udocker.environment({"UDOCKER_DEFAULT_EXECUTION_MODE": mode}))
    if b"unshare:" in process.stdout or b"mount:" in process.stdout:
        pytest.skip("there are no namespaces here: %s" % process.stdout)
    told = process.stdout.decode()
    assert process.returncode == 126 and "mounted noexec" in told and "--ephemeral" in told, told


def test_a_tree_that_may_not_be_written_to_lacks_places(udocker, mode, busybox_tar):
    """Those that come by themselves are left out; the others are made in memory, or missed with a word."""
    identity = udocker.ok("import", "--tocontainer", "--name=made", busybox_tar).out.strip()
    root = udocker.store / "containers" / identity / "ROOT"
    (root / "etc").mkdir()
    for path in root / "etc", root:
        path.chmod(0o555)
    box = udocker.with_env(UDOCKER_DEFAULT_EXECUTION_MODE=mode)
    if mode != "R1" or {"proc", "dev"} <= set(os.listdir(str(root))):
        assert box.ok("run", "made", "/bin/sh", "-c", "echo here").out == "here\n"
    if mode == "R1":
        assert "there is no such place" in box.fails(125, "run", "-v", "/etc:/new", "made", "/bin/sh").err
    root.chmod(0o755)


def test_what_somebody_else_keeps_to_himself_is_left_out(udocker, busybox_tar):
    """In a store that several share; blobs that it may need stay."""
    for name in "lab/own:1", "lab/other:1":
        udocker.ok("import", busybox_tar, name)
    identity = udocker.ok("create", "lab/other:1").out.strip()
    closed = [udocker.store / "repos/lab/other", udocker.store / "containers" / identity]
    for path in closed:
        path.chmod(0)
    try:
        for words in ["images"], ["info"], ["df"], ["ps", "-m", "-p"]:
            result = udocker.ok(*words)
            assert "lab/own:1" in result.out or words[0] in ("info", "ps")
        assert "left out" in udocker.ok("images").err and identity in udocker.ok("ps").out
        result = udocker("prune")
        assert result.status == 1 and "cannot be seen" in result.err
        assert "no blob is removed" in udocker.ok("rmi", "lab/own:1").err
    finally:
        for path in closed:
            path.chmod(0o755)
    udocker.ok("run", identity, "/bin/sh", "-c", ":")


def test_directories_that_cannot_be_renamed(tmp_path):
    """As those of the lower layer of an overlay: they are emptied where they are."""
    (tmp_path / "tree/first/second/third").mkdir(parents=True)
    (tmp_path / "tree/first/second/file").write_text("")
    script = """import errno, os, sys, udocker
def rename(*_, **__):
    raise OSError(errno.EXDEV, "cross-device")
os.rename = rename
udocker.remove_tree(sys.argv[1])
"""
    in_main_thread(script, tmp_path / "tree")
    assert list(tmp_path.iterdir()) == []


def test_a_limit_is_no_finding_about_a_mode(udocker, mode, busybox_tar):
    """What cannot be tried now is tried again."""
    udocker.ok("import", "--tocontainer", "--name=made", busybox_tar)
    box = udocker.with_env(UDOCKER_DEFAULT_EXECUTION_MODE=mode)
    words = ["run", "made", "/bin/sh", "-c", ":"]
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    result = box(*words, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard)))
    assert result.status == 125 and "it cannot be tried" in result.err and "ulimit -f" in result.err
    box.ok(*words)
