"""save, import, export and clone: what they write is read by skopeo, umoci, tar and Python, and read back."""
import array
import contextlib
import fcntl
import gzip
import io
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import tarfile
import termios
from pathlib import Path

import pytest

import udocker as program_under_test
from archives import (PACKERS, archive, config_digest, created, docker_25, limited, listed, listing, made,
                      refused, root_of, skopeo, stored, tool)
from faulty_registry import digest_of
from images import NATIVE
from layers import directory, file, hardlink, symlink, tar
from program import Program

LOWER = tar(directory("etc"), file("etc/motd", b"hello\n"), hardlink("etc/issue", "etc/motd"))
BOTH = made(LOWER, tar(file("etc/motd", b"changed\n"), symlink("link", "/etc")))


@pytest.fixture(scope="module")
def loaded(tmp_path_factory, layout):
    """A home that tests share: with lab/busybox:1.0, and a container of it named busy, which they leave as it is."""
    program = Program(tmp_path_factory.mktemp("loaded"))
    path = program.home / "archive"
    skopeo("oci:%s:busybox" % layout, "oci-archive:%s:lab/busybox:1.0" % path)
    program.ok("load", "-i", path)
    program.ok("create", "--name=busy", "lab/busybox:1.0")
    yield program
    shutil.rmtree(str(program.home))


# save

@pytest.fixture(scope="module")
def saved(loaded):
    """An archive of the small image under two names, and of another one."""
    loaded.ok("load", input=archive(docker_25((BOTH, ["made:1"]))))
    loaded.ok("tag", "lab/busybox:1.0", "localhost/busy:2")
    path = loaded.home / "saved"
    loaded.ok("save", "-o", path, "lab/busybox:1.0", "made:1", "localhost/busy:2")
    return path


NAMES = {"lab/busybox:1.0": "docker.io/lab/busybox:1.0", "made:1": "docker.io/library/made:1",
         "localhost/busy:2": "localhost/busy:2"}


@pytest.mark.parametrize("name", sorted(NAMES))
@pytest.mark.parametrize("transport", ["docker-archive", "oci-archive"])
def test_skopeo_reads_a_saved_archive(loaded, saved, tmp_path, transport, name):
    full = NAMES[name] if transport == "docker-archive" else name.rpartition(":")[2]
    skopeo("%s:%s:%s" % (transport, saved, full), "dir:%s" % tmp_path)
    assert (tmp_path / config_digest(loaded, name).split(":")[1]).exists()
    if transport == "oci-archive":
        assert (tmp_path / "manifest.json").read_bytes() == stored(loaded, name)


def test_umoci_unpacks_a_saved_archive(loaded, saved, tmp_path):
    tool("tar", "-xf", saved, "-C", tmp_path)
    tool("umoci", "--log=error", "unpack", "--rootless", "--image", "%s:1.0" % tmp_path, tmp_path / "bundle")
    assert listing(tmp_path / "bundle" / "rootfs") == listing(root_of(loaded, "busy"))
    shutil.rmtree(str(tmp_path))


def test_a_saved_archive_is_loaded(loaded, saved, udocker):
    udocker.ok("load", "-i", saved)
    assert listed(udocker) == sorted(NAMES)
    for name in NAMES:
        assert stored(udocker, name) == stored(loaded, name)


@pytest.mark.parametrize("words", [["-o", "FILE"], ["--output=FILE"], ["-"], [], ["-o", "-"]])
@pytest.mark.parametrize("command, name", [("save", "made:1"), ("export", "busy")])
def test_where_archives_go(loaded, saved, tmp_path, command, name, words):
    path = tmp_path / "out"
    result = loaded.ok(command, *[word.replace("FILE", str(path)) for word in words] + [name])
    data = path.read_bytes() if path.exists() else result.out_bytes
    assert data == loaded.ok(command, name).out_bytes and (not result.out_bytes) == path.exists()


def test_save_of_dockers_own_format(udocker, images, tmp_path):
    name = images.host + "/lab/busybox:schema2"
    udocker.ok("pull", name)
    udocker.ok("save", "-o", tmp_path / "a", name)
    skopeo("docker-archive:%s:%s" % (tmp_path / "a", name), "dir:%s" % (tmp_path / "dir"))
    digest, tree = config_digest(udocker, name), created(udocker, name)
    udocker.ok("rmi", name)
    udocker.ok("load", "-i", tmp_path / "a")
    assert config_digest(udocker, name) == digest and created(udocker, name) == tree


ENDS = pytest.mark.parametrize("command", [["save", "made:1"], ["save", "lab/busybox:1.0"], ["export", "busy"]])


@ENDS
def test_a_destination_that_fills_up(loaded, saved, tmp_path, command):
    (tmp_path / "out").write_text("earlier\n")
    result = limited(loaded, 2000).fails(1, command[0], "-o", tmp_path / "out", command[1])
    assert "File too large" in result.err
    assert os.listdir(str(tmp_path)) == ["out"] and (tmp_path / "out").read_text() == "earlier\n"


@ENDS
def test_a_device_that_is_full(loaded, saved, command):
    assert "No space left" in loaded.fails(1, command[0], "-o", "/dev/full", command[1]).err
    with open("/dev/full", "wb") as full, loaded.start(*command, stdout=full, stderr=subprocess.PIPE) as process:
        err = process.communicate()[1]
    assert process.returncode == 1 and err.startswith(b"udocker: error: ") and b"Traceback" not in err


@ENDS
def test_a_destination_that_is_full_is_named(loaded, saved, command):
    assert "/dev/full" in loaded.fails(1, command[0], "-o", "/dev/full", command[1]).err


def has_written(pid, directory):
    """Whether a process has an open file in a directory, and something in it."""
    for name in os.listdir("/proc/%d/fd" % pid):
        path = "/proc/%d/fd/%s" % (pid, name)
        try:
            if os.path.dirname(os.readlink(path)) == str(directory) and os.stat(path).st_size:
                return True
        except FileNotFoundError:       # closed meanwhile
            pass
    return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_writer_that_is_stopped_leaves_nothing(udocker, tmp_path, number):
    """It is stopped as soon as something is in the file that it writes, under a temporary name or without one."""
    udocker.ok("import", "--tocontainer", "--name=large", "-", input=LOWER)
    with open(root_of(udocker, "large") + "/zeros", "wb") as zeros:
        zeros.truncate(1 << 30)
    (tmp_path / "out").write_text("earlier\n")
    with udocker.start("export", "-o", tmp_path / "out", "large", stderr=subprocess.PIPE,
                       preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)) as process:
        while not has_written(process.pid, tmp_path):
            assert process.poll() is None
        process.send_signal(number)
        assert process.wait() == 128 + number and b"Traceback" not in process.stderr.read()
    assert sorted(os.listdir(str(tmp_path))) == ["home", "out"] and (tmp_path / "out").read_text() == "earlier\n"


@pytest.mark.parametrize("command", [["save", "lab/busybox:1.0"], ["export", "busy"]])
def test_a_destination_in_no_directory(loaded, tmp_path, command):
    result = loaded.fails(1, command[0], "-o", tmp_path / "absent" / "out", command[1])
    assert ".new-" not in result.err and os.listdir(str(tmp_path)) == []


@pytest.mark.parametrize("damage", [b"short", None])
def test_save_of_a_damaged_image(udocker, tmp_path, damage):
    udocker.ok("load", input=archive(docker_25((BOTH, ["made:1"]))))
    layer = udocker.store / "layers" / BOTH.layers[0].diff_id
    layer.unlink()
    if damage:
        layer.write_bytes(damage)
    assert layer.name in udocker.fails(1, "save", "-o", tmp_path / "out", "made:1").err
    assert not (tmp_path / "out").exists()


# import, export, clone

@pytest.fixture(scope="module")
def furnished(tmp_path_factory):
    """A home with a container, named full, of whatever a tree can hold; tests leave it as it is."""
    program = Program(tmp_path_factory.mktemp("furnished"))
    program.ok("import", "--tocontainer", "--name=full", "-", input=tar(file("etc/motd", b"hello\n")))
    root = root_of(program, "full")
    deep, long = root + "/" + "d" * 200 + "/" + "e" * 100, root + "/" + "n" * 255
    for path in deep, root + "/empty", root + "/sticky":
        os.makedirs(path)
    for path in long, deep + "/file", os.fsencode(root) + b"/\xff\xfe", root + "/\u00e9 \n", root + "/private":
        with open(path, "wb") as content:
            content.write(os.fsencode(path))
    os.link(long, deep + "/again")
    os.symlink("t" * 300, root + "/link")
    os.symlink(b"\xff", root + "/odd link")
    os.mkfifo(root + "/pipe")
    for name, mode in ("pipe", 0o640), ("private", 0o600), ("sticky", 0o1777), ("empty", 0o750):
        os.chmod(root + "/" + name, mode)
    for parent, directories, files in os.walk(os.fsencode(root), topdown=False):
        for name in files + directories:        # halves, which a float can tell
            os.utime(os.path.join(parent, name), ns=(0, 1234567890500000000), follow_symlinks=False)
    yield program
    shutil.rmtree(str(program.home))


@pytest.mark.parametrize("how", [
    "--tocontainer", "--clone", "image", "clone"])
def test_a_copy_of_a_container(furnished, tmp_path, how):
    root = root_of(furnished, "full")
    furnished.ok("export", "-o", tmp_path / "tar", *(["--clone"] if how == "--clone" else []) + ["full"])
    if how == "image":
        furnished.ok("import", tmp_path / "tar", "lab/full")
        assert created(furnished, "lab/full") == listing(root)
        return
    words = ["clone", "--name=other", "full"] if how == "clone" else ["import", how, "--name=other", tmp_path / "tar"]
    assert furnished.ok(*words).out.strip() in furnished.ok("ps").out
    assert listing(root_of(furnished, "other")) == listing(root)
    furnished.ok("rm", "other")


@pytest.mark.parametrize("time", [1700000000123456789, -1500000000])
def test_times_to_the_nanosecond(udocker, time):
    udocker.ok("import", "--tocontainer", "--name=a", "-", input=tar(file("x")))
    os.utime(root_of(udocker, "a") + "/x", ns=(0, time))
    udocker.ok("import", "--tocontainer", "--name=b", "-", input=udocker.ok("export", "a").out_bytes)
    assert os.stat(root_of(udocker, "b") + "/x").st_mtime_ns == time


def test_a_socket_is_left_out_of_an_export(udocker):
    udocker.ok("import", "--tocontainer", "--name=a", "-", input=LOWER)
    os.mknod(root_of(udocker, "a") + "/socket", stat.S_IFSOCK | 0o600)
    with tarfile.open(fileobj=io.BytesIO(udocker.ok("export", "a").out_bytes)) as content:
        assert sorted(content.getnames()) == ["etc", "etc/issue", "etc/motd"]


@pytest.mark.parametrize("reader", ["tarfile", "tar"])
def test_others_read_an_export(furnished, tmp_path, reader):
    path, expected = tmp_path / "a", {name: there[:1] + there[2:] for name, there in
                                      listing(root_of(furnished, "full")).items()}
    furnished.ok("export", "-o", path, "full")
    (tmp_path / "tree").mkdir()
    if reader == "tar":
        tool("tar", "-xpf", path, "-C", tmp_path / "tree")
    else:
        with tarfile.open(str(path)) as content:
            options = {"filter": "fully_trusted"} if hasattr(tarfile, "fully_trusted_filter") else {}
            content.extractall(str(tmp_path / "tree"), **options)
    assert {name: there[:1] + there[2:] for name, there in listing(tmp_path / "tree").items()} == expected
    shutil.rmtree(str(tmp_path / "tree"))


@pytest.mark.parametrize("pack", sorted(PACKERS))
@pytest.mark.parametrize("words, architecture", [
    ([], NATIVE), (["--platform=linux/arm64"], "arm64"), (["--mv"], NATIVE)])
def test_import_of_an_image(udocker, pack, words, architecture):
    source = udocker.home / "tree"
    source.write_bytes(PACKERS[pack](LOWER))
    udocker.ok("import", *words + [source, "lab/tree:1"])
    config = json.loads(udocker.ok("inspect", "lab/tree:1").out)
    assert (config["os"], config["architecture"], len(config["history"])) == ("linux", architecture, 1)
    assert config["rootfs"] == {"type": "layers", "diff_ids": [digest_of(LOWER)]}
    assert source.exists() == (words != ["--mv"])
    udocker.ok("verify", "lab/tree:1")
    udocker.ok("import", "-", "lab/tree:2", input=PACKERS[pack](LOWER))
    assert set(created(udocker, "lab/tree:2")) == {b"etc", b"etc/motd", b"etc/issue"}


@pytest.mark.parametrize("words", [
    ["lab/x"], ["--mv", "lab/x"], ["--tocontainer", "--name=x"], ["--clone", "--name=x"]])
@pytest.mark.parametrize("content", [LOWER[:700], gzip.compress(LOWER)[:-9], b"<html>" * 1000],
                         ids=["cut", "cut gzip", "garbage"])
def test_import_of_what_is_bad(udocker, words, content):
    source = udocker.home / "source"
    source.write_bytes(content)
    refused(udocker, "", "import", source, *words)
    assert source.read_bytes() == content


@pytest.mark.parametrize("words", [["lab/x"], ["--tocontainer", "--name=x"]])
def test_import_of_nothing(udocker, words):
    refused(udocker, "", "import", "-", *words, input=b"")


@pytest.mark.parametrize("source", [".", "absent"])
@pytest.mark.parametrize("words", [["lab/x"], ["--mv", "lab/x"], ["--tocontainer"], ["--clone"]])
def test_import_of_what_is_no_file(udocker, words, source):
    refused(udocker, source, "import", source, *words)


@pytest.mark.parametrize("words, told", [
    ([], "IMAGE is missing"), (["lab/x", "--name=x"], "--name="), (["--mv", "--tocontainer"], "--mv"),
    (["--mv", "--clone"], "--mv"), (["--clone", "lab/x"], "--clone"), (["--clone", "--tocontainer"], "--clone"),
    (["--clone", "--platform=linux/arm64"], "--clone")])
def test_import_of_one_thing_as_another(udocker, words, told):
    (udocker.home / "tree").write_bytes(LOWER)
    assert told in udocker.fails(2, "import", udocker.home / "tree", *words).err
    assert (udocker.home / "tree").exists() and not udocker.store.exists()


def test_import_with_changes(udocker):
    """As lines of a Dockerfile."""
    changes = ['CMD ["sh", "-c", "id"]', "entrypoint echo a b", "ENV A=1 B='2 3'", "ENV A 4 5", "USER green",
               "WORKDIR /srv", "EXPOSE 80 81/udp", 'VOLUME ["/a b"]', "LABEL k=v", "STOPSIGNAL SIGINT"]
    words = [word for change in changes for word in ("-c", change)]
    udocker.ok("import", *words, "-", "lab/changed", input=LOWER)
    config = json.loads(udocker.ok("inspect", "lab/changed").out)["config"]
    assert config == {
        "Cmd": ["sh", "-c", "id"], "Entrypoint": ["/bin/sh", "-c", "echo a b"], "Env": ["B=2 3", "A=4 5"],
        "User": "green", "WorkingDir": "/srv", "ExposedPorts": {"80/tcp": {}, "81/udp": {}}, "Volumes": {"/a b": {}},
        "Labels": {"k": "v"}, "StopSignal": "SIGINT"}
    udocker.ok("import", "--tocontainer", "--name=c", "-c", "WORKDIR /x", "-", input=LOWER)
    assert udocker.ok("inspect", "-f", "{{.Config.WorkingDir}}", "c").out == "/x\n"


@pytest.mark.parametrize("change", [
    "RUN true", "CMD", "ENV [", "ENV A", "ENV =x", "LABEL a", "ENV 'A", "", "FROM x", 'ENV A="\udce9"'])
def test_changes_that_cannot_be(udocker, change):
    assert "--change" in udocker.fails(2, "import", "--change", change, "-", "lab/x", input=LOWER).err
    assert not udocker.store.exists()


@pytest.mark.parametrize("change, expected", [
    ("CMD [ -f x ] && y", None), ("CMD []", []), ("CMD [1]", None), ("CMD echo 'a", None), (r'CMD ["a\u0000b"]', None),
    ("CMD " + "[" * 50000, None)], ids=range(6))
def test_changes_of_the_command(udocker, change, expected):
    """What is no list of JSON is for the shell."""
    udocker.ok("import", "--change", change, "-", "lab/x", input=LOWER)
    config = json.loads(udocker.ok("inspect", "lab/x").out)["config"]
    assert config["Cmd"] == (["/bin/sh", "-c", change[4:]] if expected is None else expected)


def test_volumes_of_an_image_are_there(udocker):
    udocker.ok("import", "--change", "VOLUME /data/deep /etc/motd/x ../up", "-", "lab/volumes", input=LOWER)
    result = udocker.ok("create", "--name=c", "lab/volumes")
    root = Path(udocker.ok("inspect", "-p", "c").out.strip())
    assert (root / "data/deep").is_dir() and "/etc/motd/x" in result.err and not (root.parent / "up").exists()
    out = udocker.home / "outside"
    out.mkdir()
    tree = tar(directory("etc"), symlink("srv", str(out)))
    udocker.ok("import", "--tocontainer", "--name=d", "--change", "VOLUME /srv/data", "-", input=tree)
    assert list(out.iterdir()) == [] and (Path(root_of(udocker, "d") + str(out)) / "data").is_dir()


def test_import_from_a_file_whose_name_is_no_utf8(udocker):
    source = os.fsencode(str(udocker.home)) + b"/t\xe9.tar"
    with open(source, "wb") as file:
        file.write(LOWER)
    udocker.ok("import", os.fsdecode(source), "lab/latin")
    assert "udocker import" in udocker.ok("inspect", "lab/latin").out


def test_export_of_a_file_that_becomes_shorter(capsys):
    """While it is read: the archive keeps its promise, with zeros."""
    header = tarfile.TarInfo("log")
    reader = program_under_test.FullReader(io.BytesIO(b"abc"), header)
    assert reader.read(2) + reader.read(4) + reader.read(2) == b"abc" + bytes(5)
    assert capsys.readouterr().err.count("log: became shorter") == 1
    places = [path for path in Path("/sys/kernel/mm").glob("*/*") if path.is_file() and os.access(str(path), os.R_OK)]
    if places:              # the files of the kernel's promise a page, and have a few bytes
        content = io.BytesIO()
        program_under_test.TarWriter(content).add_tree(program_under_test.OpenTree(str(places[0].parent)))
        assert "became shorter" in capsys.readouterr().err


def test_import_moves_what_a_link_leads_to(udocker):
    (udocker.home / "tree").write_bytes(LOWER)
    (udocker.home / "link").symlink_to("tree")
    udocker.ok("import", "--mv", udocker.home / "link", "lab/tree:1")
    if (udocker.home / "tree").exists():
        (udocker.home / "tree").write_bytes(b"the user's own")
    udocker.ok("verify", "lab/tree:1")


@pytest.mark.parametrize("words", [[], ["--mv"]])
def test_import_from_a_fifo(udocker, words):
    pipe = str(udocker.home / "pipe")
    os.mkfifo(pipe)
    (udocker.home / "tree").write_bytes(LOWER)
    with subprocess.Popen(["sh", "-c", 'cat "$1" >"$2"', "sh", str(udocker.home / "tree"), pipe]):
        udocker.ok("import", *words + [pipe, "lab/tree:1"], timeout=3)
    udocker.ok("verify", "lab/tree:1")


@pytest.mark.parametrize("words", [["absent"], ["--name=full", "full"], ["--name=a/b", "full"]])
def test_clones_that_cannot_be(furnished, words):
    before = furnished.ok("ps").out
    assert furnished("clone", *words).status in (1, 2)
    assert furnished.ok("ps").out == before
    assert not list((furnished.store / "containers").glob(".*"))


def test_a_clone_has_its_own_files_and_the_same_mode(udocker):
    udocker.ok("import", "--tocontainer", "--name=a", "-", input=LOWER)
    udocker.ok("setup", "--execmode=N1", "a")
    udocker.ok("clone", "--name=b", "a")
    assert udocker.ok("setup", "b").out == "N1\n" and udocker.ok("inspect", "a").out == udocker.ok("inspect", "b").out
    os.truncate(root_of(udocker, "b") + "/etc/motd", 0)
    assert listing(root_of(udocker, "a"))[b"etc/motd"][2] == b"hello\n"


def test_rm_waits_for_who_reads(udocker):
    """An archive of a container that goes meanwhile is whole."""
    udocker.ok("import", "--tocontainer", "--name=made", "-", input=tar(
        *[file("file-%d" % number, bytes(1 << 20)) for number in range(4)]))
    with udocker.start("export", "made", stdout=subprocess.PIPE) as export:
        begin = export.stdout.read(1)           # the rest does not fit into the pipe
        with udocker.start("rm", "made", stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as removal:
            assert b"waiting for another udocker" in removal.stderr.readline()
            archive = begin + export.stdout.read()
            assert export.wait() == 0 and removal.wait() == 0
    with tarfile.open(fileobj=io.BytesIO(archive)) as members:
        assert [member.size for member in members] == [1 << 20] * 4


def test_what_was_read_of_a_container_that_goes_is_not_taken_for_all_of_it(udocker):
    """Where locks do not reach, as from one machine to another."""
    udocker.ok("import", "--tocontainer", "--name=made", "-", input=tar(
        *[file("file-%d" % number, bytes(1 << 20)) for number in range(4)]))
    with udocker.start("export", "made", stdout=subprocess.PIPE, stderr=subprocess.PIPE) as export:
        export.stdout.read(1)
        Path(root_of(udocker, "made")).parent.rename(udocker.home / "elsewhere")
        export.stdout.read()
        assert b"removed this container while it was read" in export.stderr.read() and export.wait() == 1
    container = program_under_test.Container(str(udocker.home / "elsewhere"))
    with pytest.raises(program_under_test.NotFoundError):
        with program_under_test.Reading(container):
            Path(container.path).rename(udocker.home / "gone")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("words", [["load", "-i", "-"], ["import", "-", "a:1"], ["import", "--tocontainer", "-"]])
def test_a_signal_ends_the_wait_for_an_archive(udocker, words, number):
    """Whose end never comes."""
    with udocker.start(*words, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdin.write(gzip.compress(LOWER)[:20])
        process.stdin.flush()
        waiting = array.array("i", [1])
        while waiting[0]:           # until it is read
            fcntl.ioctl(process.stdin, termios.FIONREAD, waiting)
        for _ in range(2 if number == signal.SIGTERM else 1):       # timeout(1) sends it to process and group
            process.send_signal(number)
        assert process.wait(20) == 128 + number
        assert process.stderr.read() == b""
    assert os.listdir(str(udocker.store / "containers")) == []


# What a person and a script see of it

def test_a_person_sees_how_far_long_work_is(udocker):
    """A bar that goes away again, and a message that is not lost below it."""
    terminal, end = os.openpty()
    header = tarfile.TarInfo("large")
    header.size = 1 << 30           # its end is never seen
    with udocker.start("import", "--tocontainer", "-", stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
                       stderr=end) as process:
        os.close(end)
        process.stdin.write(header.tobuf())
        os.set_blocking(terminal, False)
        shown = b""
        while b"importing - " not in shown:
            process.stdin.write(bytes(1 << 16))
            with contextlib.suppress(BlockingIOError):
                shown += os.read(terminal, 1 << 16)
        process.stdin.close()
        os.set_blocking(terminal, True)
        with contextlib.suppress(OSError):          # the other end is closed
            for data in iter(lambda: os.read(terminal, 1 << 16), b""):
                shown += data
    os.close(terminal)
    assert process.returncode == 1
    last = shown.decode().rpartition("\x1b[J")[2]
    assert "importing" not in last and "udocker: error: " in last, shown


@pytest.mark.parametrize("words", [["ps"], ["ps", "--format={{.Image}}"], ["inspect", "--format={{.Config.Env}}", "a"]])
def test_what_a_stranger_wrote_does_not_steer_the_terminal(udocker, words):
    """A script gets the bytes themselves."""
    udocker.ok("import", "--tocontainer", "--name=a", "-", input=LOWER)
    container = udocker.store / "containers" / "a"
    (container / "imagerepo.name").write_bytes(b"evil\x1b[2J\x9b2J:1")
    (container / "container.json").write_text(json.dumps({"config": {"Env": ["A=\x1b[2J"]}}))
    terminal, end = os.openpty()
    with udocker.start(*words, stdout=end) as process:
        os.close(end)
        shown = os.read(terminal, 1 << 16)
    os.close(terminal)
    assert process.returncode == 0 and b"\x1b" not in shown and b"\\x1b[2J" in shown
    assert words == ["ps"] or "\x1b[2J" in udocker.ok(*words).out


@pytest.mark.parametrize("env, is_coloured", [
    ({"TERM": "xterm"}, True), ({"TERM": "xterm", "NO_COLOR": ""}, True), ({"TERM": "xterm", "NO_COLOR": "1"}, False),
    ({"TERM": "dumb"}, False)])
def test_colours_are_for_terminals_that_have_some(udocker, env, is_coloured):
    """And for who does not refuse them; a file never has them."""
    terminal, end = os.openpty()
    with udocker.with_env(**env).start("run", "nothing:here\x1b[31m", stderr=end) as process:
        os.close(end)
        shown = os.read(terminal, 1 << 16).decode()
    os.close(terminal)
    label = "\x1b[31merror:\x1b[0m" if is_coloured else "error:"
    assert process.returncode == 2 and shown.startswith("udocker: %s 'nothing:here\\x1b[31m' is not" % label)
    assert "\x1b" not in udocker.with_env(**env)("run", "nothing:here\x1b[31m").err


@pytest.mark.parametrize("command, expected", [
    (["images"], {"Repository": "lab/busybox", "Tag": "1.0", "Platform": "linux/" + NATIVE, "Protected": False}),
    (["ps"], {"Names": "busy", "Image": "lab/busybox:1.0", "Mode": "P1"}),
    (["df"], {}), (["info"], {"default_mode": "P1"}), (["inspect", "busy"], {"os": "linux"}),
])
def test_a_script_gets_json(loaded, command, expected):
    documents = [json.loads(line) for line in loaded.ok(*command + ["--format=json"]).out.splitlines()]
    assert expected in [{name: document[name] for name in expected} for document in documents]


@pytest.mark.parametrize("command, template, expected", [
    ("images", "{{.Repository}}\\t{{.Tag}}", "lab/busybox\t1.0"),
    ("ps", "{{.Names}} {{json .Protected}}", "busy false"),
    ("df", "{{json .Containers}}", '"Names":"busy"'), ("info", "{{.default_mode}}", "P1"),
    ("inspect lab/busybox:1.0", "{{.Config.Entrypoint}}{{.Config.User}}{{.Config.Labels}}", "[]map[]"),
    ("inspect busy", "{{.State.Status}} {{.State.Running}} {{.State.Pid}}", "exited false 0"),
    ("images", "{{.CreatedSince}}", "ago"), ("ps", "{{.Command}}{{.Ports}} {{.RunningFor}}", "sh "),
    ("version", "{{.Server.Version}}", program_under_test.__version__),
    ("info", "{{.ServerVersion}} {{.OSType}}", "linux")])
def test_a_script_gets_what_it_asks_for(loaded, command, template, expected):
    assert expected in loaded.ok(*command.split() + ["--format", template]).out


def test_what_a_script_asks_for_and_is_not_there(loaded):
    refusal = loaded.fails(1, "ps", "--format={{.Nothing}}")
    assert "there is no .Nothing" in refusal.err and "Names" in refusal.err


def test_how_large_a_container_is_is_told_only_when_it_is_asked_for(loaded):
    only = "--filter=name=busy"
    assert "Size" not in json.loads(loaded.ok("ps", only, "--format=json").out)
    assert json.loads(loaded.ok("ps", only, "--size", "--format=json").out)["Size"] > 0


@pytest.mark.parametrize("command", [["ps", "--filter=name=busy"], ["images", "lab/busybox"]])
def test_a_size_is_for_people_in_a_template_and_a_number_in_json(loaded, command):
    size = json.loads(loaded.ok(*command + ["--format={{json .Size}}"]).out.splitlines()[0])
    assert isinstance(size, int) and size > 1000
    shown = loaded.ok(*command + ["--format={{.Size}}"]).out.splitlines()[0]
    assert re.fullmatch(r"[\d.]+ [kM]B", shown) and float(shown.split()[0]) == pytest.approx(
        size / {"kB": 1e3, "MB": 1e6}[shown.split()[1]], rel=0.01)
