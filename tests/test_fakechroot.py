"""Modes F1 to F4: programs stay in the container and find their way in it, with each family of library; and setup gives
every byte, link and time back, whatever became of the container, of the program or of a setup before."""
import hashlib
import io
import json
import os
import shutil
import signal
import stat
import subprocess
import tarfile
import time
from pathlib import Path

import pytest

import archives
import guests
import udocker as program_under_test
from conftest import FAKECHROOT_MODES, STOCK, UDOCKERS, need
from images import DEBIAN_LAYOUT
from program import Program
from test_processes import PATIENCE, assert_all_ended, running

STEPS = {"P1": set(), "F1": {"links"}, "F2": {"links", "loader"}, "F3": {"links", "loader", "elf"},
         "F4": {"links", "loader", "elf"}}


def library(family):
    """The path of a library of that family; skips where there is none."""
    if family == "stock" and STOCK:
        return STOCK[0]
    if family == "udocker" and UDOCKERS.exists():
        return str(UDOCKERS)
    pytest.skip("no libfakechroot of the %s family here" % family)


def listing(root):
    """{relative name: all that setup must give back} of a tree."""
    found = {}
    for directory, directories, files in os.walk(str(root)):
        for path in [directory] + [os.path.join(directory, name) for name in directories + files]:
            status = os.lstat(path)
            facts = [status.st_mode, status.st_nlink, status.st_mtime_ns]
            if stat.S_ISLNK(status.st_mode):
                facts.append(os.readlink(path))
            elif stat.S_ISREG(status.st_mode):
                with open(path, "rb") as file:
                    facts += [status.st_ino, hashlib.sha256(file.read()).hexdigest()]
            found[os.path.relpath(path, str(root))] = facts
    return found


def place(program, name):
    """The directory of a container."""
    return Path(os.path.realpath(str(program.store / "containers" / name)))


# The Debian container

@pytest.fixture(scope="module")
def debian(tmp_path_factory):
    """A home with a container of the Debian image, named deb."""
    if not DEBIAN_LAYOUT.is_dir():
        pytest.skip("there is no Debian image: tests/run makes it when it is run by root")
    program = Program(tmp_path_factory.mktemp("fakechroot"))
    program.ok("load", "-i", DEBIAN_LAYOUT, "lab/debian:stable")
    program.ok("create", "--name=deb", "lab/debian:stable")
    yield program
    shutil.rmtree(str(program.home), ignore_errors=True)


@pytest.fixture(scope="module", params=[mode + "-stock" for mode in FAKECHROOT_MODES] + [
    "F1-udocker", "F2-udocker", "F4-udocker"])
def box(request, debian):
    """The program with the container in each mode, with each family."""
    mode, family = request.param.split("-")
    chosen = debian.with_env(UDOCKER_FAKECHROOT_SO=library(family))
    chosen.ok("setup", "--execmode=" + mode, "deb")
    chosen.family, chosen.mode = family, mode
    return chosen


CASES = {       # what a real system's programs do: (words, standard output, exit status)
    "through a link": (["awk", "BEGIN { print 7 }"], "7\n", 0),
    "a script": (["/usr/bin/which", "ls"], "/usr/bin/ls\n", 0),
    "a script of an argument": (["/tmp/script", "a b"], "script a b\n", 0),
    "empty environment": (["python3", "-c",
                           "import subprocess; print(subprocess.call(['/bin/ls', 'HIDDEN'], env={}), "
                           "subprocess.check_output(['cat', '/srv/kept/upper'], env={}))"], "2 b'upper\\n'\n", 0),
    "perl": (["perl", "-e", "print `cat /srv/kept/upper`"], "upper\n", 0),
    "python": (["python3", "-c", "import sys; print(sys.executable)"], "/usr/bin/python3\n", 0),
    "a pipeline": (["bash", "-c", "cat /srv/kept/upper | tr a-z A-Z | rev | gzip -c | gunzip -c"], "REPPU\n", 0),
    "ldconfig": (["sh", "-c", "ldconfig; echo $?"], "0\n", 0),
    "dpkg": (["dpkg-query", "--show", "--showformat=${Package}\n", "dpkg"], "dpkg\n", 0),
}


@pytest.fixture
def volume(tmp_path):
    (tmp_path / "volume").mkdir()
    (tmp_path / "volume/word").write_text("volume\n")
    return tmp_path / "volume"


@pytest.mark.parametrize("name", sorted(CASES))
def test_a_command_in_the_container(box, name, volume):
    hidden = volume.parent / "hidden"
    hidden.write_text("")
    script = place(box, "deb") / "ROOT/tmp/script"
    script.write_text("#!/usr/bin/perl -w\nprint \"script @ARGV\\n\";\n")
    script.chmod(0o755)
    words, out, status = CASES[name]
    result = box("run", "deb", *(word.replace("HIDDEN", str(hidden)) for word in words))
    assert (result.out, result.status) == (out, status), result


def test_volumes_at_other_paths(box, volume):
    options = ["-v", "%s:/data" % volume, "deb", "sh", "-c",
               "cat /data/word; cd /data && pwd && ls && echo made >new && mv new moved && ls -d /data"]
    if box.family == "stock":
        result = box.fails(125, "run", *options)
        assert str(volume) in result.err and STOCK[0] in result.err
        return
    assert box.ok("run", *options).out == "volume\n/data\nword\n/data\n"
    assert (volume / "moved").read_text() == "made\n"


def test_a_volume_below_a_volume_at_its_own_path(box, volume, tmp_path):
    if box.family == "stock":
        pytest.skip("the stock library has no such volumes")
    (tmp_path / "other").mkdir()
    (tmp_path / "other/word").write_text("other\n")
    result = box.ok("run", "-v", volume, "-v", "%s:%s/sub" % (tmp_path / "other", volume), "deb", "cat",
                    "%s/word" % volume, "%s/sub/word" % volume)
    assert result.out == "volume\nother\n"


def test_kill_finds_what_runs(box, tmp_path):
    script = "trap '' TERM; bash -c 'echo ready; sleep 1000; :' %s | cat" % tmp_path
    with running(box, "deb", "bash", "-c", script) as process:
        box.ok("kill", "deb")
        assert process.wait(PATIENCE) == -signal.SIGKILL
        assert_all_ended(str(tmp_path))


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """A program that tells where its libraries are."""
    need("gcc")
    return guests.compile_calls(tmp_path_factory.mktemp("compiled"))


def test_a_program_that_is_added(box, compiled):
    """In F4 it is converted before the next run, and once only; udocker's library does so while a run goes on."""
    root = place(box, "deb") / "ROOT"
    shutil.copy(str(compiled), str(root / "tmp/added"))
    result = box("run", "deb", "/tmp/added", "maps")
    assert box.mode == "F1" or result.out == "below the tree's path\n", result
    assert ((root / "tmp/added").read_bytes() != compiled.read_bytes()) == (box.mode == "F4")
    if box.mode == "F4" and box.family == "udocker":
        result = box("run", "-v", compiled.parent, "deb", "sh", "-c", "cp %s /tmp/late; /tmp/late maps" % compiled)
        assert result.out == "below the tree's path\n", result
    for name in "added", "late":
        if (root / "tmp" / name).exists():
            (root / "tmp" / name).unlink()


def test_ids_are_the_callers(box):
    assert "cannot change ids" in box.ok("run", "--user=4321", "deb", "true").err
    assert box.ok("run", "--user=root", "deb", "true").err == ""


def test_a_proof_is_remembered_and_a_library_that_does_nothing_is_not_used(debian, tmp_path):
    source = library("stock")
    debian.ok("setup", "--execmode=F1", "deb")
    (tmp_path / "empty.c").write_text("")
    own = tmp_path / "libfakechroot.so"
    shutil.copy(source, str(own))
    chosen = debian.with_env(UDOCKER_FAKECHROOT_SO=str(own))
    assert "proving mode F1" in chosen.ok("-D", "run", "deb", "true").err
    assert "proving mode F1" not in chosen.ok("-D", "run", "deb", "true").err
    subprocess.check_call([need("gcc"), "-shared", "-o", str(own), str(tmp_path / "empty.c")])
    result = chosen.fails(125, "run", "deb", "true")
    assert "does not work on this host" in result.err and str(own) in result.err and "P1" in result.err


def test_the_whole_image_goes_back(debian):
    """Every mode from the last one, with the time that is allowed on a busy machine, ten times that of a quiet one."""
    root = place(debian, "deb") / "ROOT"
    debian.ok("setup", "--execmode=P1", "deb")
    before = listing(root)
    started = time.time()
    debian.ok("setup", "--execmode=F3", "deb")
    converted = time.time()
    assert converted - started < 30
    assert len(set(map(str, listing(root).items())) - set(map(str, before.items()))) > 500
    debian.ok("setup", "--execmode=P1", "deb")
    assert listing(root) == before


def test_a_setup_that_is_killed(debian):
    """Wherever that was, setup in either direction mends it."""
    directory = place(debian, "deb")
    expected = {}
    for mode in "P1", "F3":
        debian.ok("setup", "--execmode=" + mode, "deb")
        expected[mode] = listing(directory / "ROOT")
    for start, target, step, goal in (
            ("P1", "F3", "links", "P1"), ("P1", "F3", "elf", "F3"), ("F3", "P1", "elf", "P1")):
        debian.ok("setup", "--execmode=" + start, "deb")
        journal = directory / ("conversion-" + step)
        size = journal.stat().st_size if journal.exists() else 0
        process = debian.start("setup", "--execmode=" + target, "deb")
        while process.poll() is None and (journal.stat().st_size if journal.exists() else 0) <= size:
            pass
        process.kill()
        process.wait()
        debian.ok("setup", "--execmode=" + goal, "deb")
        assert listing(directory / "ROOT") == expected[goal]


# A small container, made of the host's own programs

@pytest.fixture
def small(tmp_path):
    """A home with a container named small: a shell and ls, with what they need, and links of all kinds."""
    tree = tmp_path / "tree"
    guests.install(tree, ["/bin/sh", "/bin/ls", "/bin/cat"])
    for name in "etc", "srv/closed", "outside":
        (tree / name).mkdir(parents=True)
    (tree / "etc/os-release").write_text("ID=debian\nVERSION_ID=12\n")
    (tree / "srv/absolute").symlink_to("/etc/os-release")
    (tree / "srv/closed/absolute").symlink_to("/bin")
    (tree / "srv/over").symlink_to("../../../../../../../../../../etc/os-release")
    (tree / "srv/over-too").symlink_to("/srv/../../etc/os-release")
    (tree / "srv/relative").symlink_to("../etc/os-release")
    (tree / "srv/device").symlink_to("/dev/null")
    os.link(str(tree / "bin/ls"), str(tree / "srv/ls"))
    (tree / "bin/cat").chmod(0o555)
    (tree / "srv/closed").chmod(0o555)
    with tarfile.open(str(tmp_path / "tree.tar"), "w") as archive:
        archive.add(str(tree), ".")
    (tree / "srv/closed").chmod(0o755)
    program = Program(tmp_path / "home")
    program.home.mkdir()
    program.ok("import", "--tocontainer", "--name=small", tmp_path / "tree.tar", "lab/small")
    root = place(program, "small") / "ROOT"
    os.link(str(root / "srv/absolute"), str(root / "srv/absolute-too"), follow_symlinks=False)
    (root / "srv/closed").chmod(0o555)
    (root / "bin/cat").chmod(0o555)
    yield program
    subprocess.call(["chmod", "-R", "u+rwX", str(tmp_path)])
    shutil.rmtree(str(tmp_path), ignore_errors=True)


@pytest.fixture
def root(small):
    return place(small, "small") / "ROOT"


def journals(root):
    return {path.name.split("-")[1] for path in root.parent.glob("conversion-*")}


def test_every_mode_from_every_other(small, root):
    states = {}
    order = ["P1", "F1", "P1", "F2", "P1", "F3", "P1", "F4", "F1", "F2", "F3", "F4", "F2", "F4", "F3", "F2", "F1", "F3",
             "F1", "F4", "P1"]
    states["P1"] = listing(root)
    for mode in order:
        small.ok("setup", "--execmode=" + mode, "small")
        assert small.ok("setup", "small").out == mode + "\n"
        assert journals(root) == STEPS[mode]
        assert states.setdefault(mode, listing(root)) == listing(root), mode
    assert states["F1"] != states["P1"] and states["F3"] == states["F4"]
    assert not list(root.parent.glob("fakechroot-*")) and not list(root.parent.glob("ld*"))


def test_links_point_into_the_tree(small, root):
    small.ok("setup", "--execmode=F1", "small")
    links = {name: os.readlink(str(root / "srv" / name)) for name in (
        "absolute", "absolute-too", "over", "over-too", "relative", "device", "closed/absolute")}
    inside = str(root / "etc/os-release")
    assert links == {"absolute": inside, "absolute-too": inside, "over": inside, "over-too": inside,
                     "relative": "../etc/os-release", "device": "/dev/null", "closed/absolute": str(root / "bin")}
    assert (root / "srv/absolute").lstat().st_ino == (root / "srv/absolute-too").lstat().st_ino


def test_an_image_of_a_converted_container(small):
    """It has nothing of the conversion."""
    small.ok("commit", "small", "lab/made:1")
    small.ok("create", "--name=made", "lab/made:1")
    root = place(small, "made") / "ROOT"
    before = archives.listing(root)
    small.ok("setup", "--execmode=F3", "made")
    assert small.ok("diff", "made").out == ""
    (root / "srv/new").symlink_to("/etc/new")
    assert small.ok("diff", "made").out == "C /srv\nA /srv/new\n"
    small.ok("commit", "made", "lab/made:2")
    small.ok("create", "--name=again", "lab/made:2")
    after = archives.listing(place(small, "again") / "ROOT")
    assert after.pop(b"srv/new")[2] == b"/etc/new"
    assert set(before) == set(after) and {name for name in before if after[name] != before[name]} == {b"srv"}


def test_a_conversion_that_stopped_at_any_change(small, root):
    """The tree and the journal as they are after each record, with and without what follows it on disk."""
    before = listing(root)
    copy = root.parent.parent / "before"
    subprocess.check_call(["cp", "-a", str(root), str(copy)])
    small.ok("setup", "--execmode=F3", "small")
    after = listing(root)
    for step in "links", "elf":
        lines = (root.parent / ("conversion-" + step)).read_bytes().splitlines(True)
        records = [number for number, line in enumerate(lines) if b'"path"' in line]
        for number in records[::max(len(records) // 4, 1)]:
            for goal, expected in ("P1", before), ("F3", after):
                small.ok("setup", "--execmode=" + ("F2" if step == "elf" else "P1"), "small")
                begin(root, step, lines, number, after)
                small.ok("setup", "--execmode=" + goal, "small")
                assert listing(root) == expected, (step, number, goal)


def begin(root, step, lines, number, after):
    """Leave a journal of so many lines, a torn one behind them, and the last file or link half changed."""
    (root.parent / ("conversion-" + step)).write_bytes(b"".join(lines[:number + 1]) + lines[-1][:7])
    record = json.loads(lines[number].decode())
    path = root / record["path"]
    if step == "links":
        mode = path.parent.stat().st_mode
        path.parent.chmod(0o755)
        path.unlink()
        path.symlink_to(record["new"])
        path.parent.chmod(mode)
        path.parent.parent.joinpath(path.parent.name).touch() if mode & 0o200 else None
    elif "edits" in record and "shared" not in record:
        path.chmod(0o700)
        with open(str(path), "r+b") as file:
            offset, _, new = record["edits"][0]
            file.seek(record["size"])
            file.write(b"x" * (record["tail"] // 2))
            file.seek(offset)
            file.write(bytes.fromhex(new))


def test_what_was_changed_afterwards(small, root):
    """A link of one's own stays; a copy of a program, and a program that grew, no longer point into the tree."""
    library("stock")
    small.ok("setup", "--execmode=F3", "small")
    (root / "srv/relative").unlink()
    (root / "srv/own").symlink_to("/somewhere")
    (root / "srv/pointing").symlink_to(str(root / "etc"))
    shutil.copy(str(root / "bin/cat"), str(root / "srv/copy"))
    with open(str(root / "bin/sh"), "ab") as file:
        file.write(b"appended")
    os.utime(str(root / "etc/os-release"), ns=(5, 5))
    result = small.ok("setup", "--execmode=P1", "small")
    assert "bin/sh" in result.err and "srv/copy" in result.err
    assert os.readlink(str(root / "srv/own")) == "/somewhere" and os.readlink(str(root / "srv/pointing")) == "/etc"
    assert not os.path.lexists(str(root / "srv/relative"))
    assert (root / "bin/sh").read_bytes().endswith(b"appended")
    assert (root / "etc/os-release").stat().st_mtime_ns == 5
    for name in "srv/copy", "bin/sh":
        output = subprocess.check_output(["readelf", "-ld", str(root / name)]).decode()
        assert "interpreter: /usr/lib/loader/" in output and str(root) not in output


def test_force_converts_what_was_added(small, root, compiled):
    library("stock")
    small.ok("setup", "--execmode=F3", "small")
    shutil.copy(str(compiled), str(root / "bin/added"))
    small.ok("setup", "--execmode=F3", "small")
    assert (root / "bin/added").read_bytes() == compiled.read_bytes()
    small.ok("setup", "--force", "small")
    assert str(root).encode() in (root / "bin/added").read_bytes()
    assert small.ok("run", "small", "/bin/sh", "-c", "/bin/added maps").out == "below the tree's path\n"
    small.ok("setup", "--execmode=P1", "small")
    assert (root / "bin/added").read_bytes() == compiled.read_bytes()


def test_converted_libraries_are_linked_against(small, root, compiled, tmp_path):
    small.ok("setup", "--execmode=F3", "small")
    libc = next(root.glob("**/libc.so.6"))
    (tmp_path / "main.c").write_text("int main(void) { return 0; }\n")
    subprocess.check_call([need("gcc"), "-nodefaultlibs", "-o", str(tmp_path / "main"), str(tmp_path / "main.c"),
                           str(libc)])
    output = subprocess.run(["readelf", "-aW", str(libc)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT).stdout
    assert b"Warning" not in output and b"Error" not in output


def with_notes_first(data):
    """A 64-bit ELF file with its notes before what is loaded, as Go's linker and others put them."""
    import struct
    table, = struct.unpack_from("<Q", data, 32)
    size, count = struct.unpack_from("<HH", data, 54)
    entries = [data[table + size * place:table + size * (place + 1)] for place in range(count)]
    entries.sort(key=lambda entry: entry[:4] != b"\4\0\0\0")
    return data[:table] + b"".join(entries) + data[table + size * count:]


def without_notes(data):
    """A 64-bit ELF file whose notes are said to be something that nobody reads."""
    import struct
    table, = struct.unpack_from("<Q", data, 32)
    size, count = struct.unpack_from("<HH", data, 54)
    for place in range(table, table + size * count, size):
        if data[place:place + 4] == b"\4\0\0\0":
            data = data[:place] + b"\0\0\0\x60" + data[place + 4:]
    return data


@pytest.mark.parametrize("change", [bytes, with_notes_first, without_notes], ids=lambda change: change.__name__)
@pytest.mark.parametrize("is_shared", [True, False], ids=["DT_RPATH", "DT_RUNPATH"])
def test_libraries_in_a_directory_of_their_own(small, root, tmp_path, change, is_shared):
    """A program's DT_RPATH finds the libraries of its libraries as well, which a DT_RUNPATH does not."""
    library("stock")
    path = ["-L.", "-Wl,-rpath,/opt/lab", "-Wl,-rpath-link,.",
            "-Wl,--disable-new-dtags" if is_shared else "-Wl,--enable-new-dtags"]
    sources = {"libsecond.so": "int second(void) { return 7; }",
               "libfirst.so": "int second(void); int first(void) { return second(); }",
               "main": "int first(void); int main(void) { return first(); }"}
    for name, options in ("libsecond.so", ["-shared"]), (
            "libfirst.so", ["-shared", "-lsecond"] + ([] if is_shared else path)), ("main", ["-lfirst"] + path):
        (tmp_path / "code.c").write_text(sources[name] + "\n")
        subprocess.check_call([need("gcc"), "-o", name, "code.c", "-L."] + options, cwd=str(tmp_path))
    (root / "opt/lab").mkdir(parents=True)
    for name in "libfirst.so", "libsecond.so":
        (root / "opt/lab" / name).write_bytes(change((tmp_path / name).read_bytes()))
    shutil.copy(str(tmp_path / "main"), str(root / "opt/lab/main"))
    before = listing(root)
    small.ok("setup", "--execmode=F3", "small")
    assert small("run", "small", "/opt/lab/main").status == 7
    small.ok("setup", "--execmode=P1", "small")
    assert listing(root) == before


def elf(**fields):
    """The head of a 64-bit file with these fields, and nothing where they point."""
    head = bytearray(Path("/bin/sh").read_bytes()[:200])
    for offset, size, value in fields.values():
        head[offset:offset + size] = value.to_bytes(size, "little")
    return bytes(head)


MALFORMED = {
    "truncated": elf()[:70], "only a mark": b"\x7fELF" + b"\0" * 100,
    "a table far away": elf(table=(32, 8, (1 << 64) - 1)), "a huge table": elf(count=(56, 2, 0xFFFF)),
    "odd entries": elf(size=(54, 2, 1)), "sections far away": elf(table=(40, 8, 1 << 62), count=(60, 2, 0xFFFF)),
}


def test_a_hostile_tree(small, root, tmp_path):
    """Nothing outside is touched, and what is no honest ELF file is left alone."""
    outside = tmp_path / "outside"
    outside.mkdir()
    shutil.copy("/bin/ls", str(outside / "program"))
    (outside / "link").symlink_to("/etc")
    held = listing(outside)
    (root / "srv/out").symlink_to(outside)
    (root / "srv/program").symlink_to(outside / "program")
    (root / "lib64").rename(root / "real64")
    (root / "lib64").symlink_to(outside)
    os.mkfifo(str(root / "srv/fifo"))
    good = Path("/bin/sh").read_bytes()
    for name, data in MALFORMED.items():
        (root / "srv" / name).write_bytes(data)
    for place_ in range(0, 64 * 20, 7):         # each a program with something wrong in its tables
        data = bytearray(good)
        data[place_] ^= 0xFF
        (root / "srv" / ("damaged-%d" % place_)).write_bytes(bytes(data))
    before = listing(root)
    for mode in "F3", "P1":
        result = small.ok("setup", "--execmode=" + mode, "small")
        assert "Traceback" not in result.err
        assert listing(outside) == held
    assert listing(root) == before


def test_a_loop_of_links_and_a_journal_that_is_not_one(small, root):
    (root / "srv/loop").symlink_to("/srv/loop")
    small.ok("setup", "--execmode=F1", "small")
    (root.parent / "conversion-links").write_text("what is this\n")
    assert "damaged" in small.fails(1, "setup", "--execmode=P1", "small").err


def test_a_journal_that_tells_of_half_a_change(small, root, tmp_path):
    """Whatever reads it says so."""
    library("stock")
    small.ok("setup", "--execmode=F3", "small")
    for journal in root.parent.glob("conversion-*"):
        records = [json.loads(line) for line in journal.read_text().splitlines()]
        journal.write_text("".join(json.dumps({key: value for key, value in record.items() if key not in (
            "edits", "old")}) + "\n" for record in records))
    for command in (["cp", "small:/bin", tmp_path / "bin"], ["export", "-o", tmp_path / "x.tar", "small"],
                    ["clone", "small"], ["setup", "--execmode=P1", "small"]):
        refusal = small.fails(1, *command)
        assert "damaged, so what was done cannot be undone" in refusal.err and "bug" not in refusal.err, command


def test_a_container_that_was_moved(small, root, tmp_path):
    library("stock")
    before = listing(root)
    small.ok("setup", "--execmode=F3", "small")
    assert small.ok("run", "small", "/bin/cat", "/srv/absolute").out.startswith("ID=debian")
    (tmp_path / "elsewhere").mkdir()
    small.store.rename(tmp_path / "elsewhere/.udocker")
    moved = Program(tmp_path / "elsewhere")
    new_root = place(moved, "small") / "ROOT"
    result = moved.fails(125, "run", "small", "/bin/cat", "/srv/absolute")
    assert "another path" in result.err and "setup --execmode" in result.err
    moved.ok("setup", "--execmode=F3", "small")
    assert moved.ok("run", "small", "/bin/cat", "/srv/absolute").out.startswith("ID=debian")
    moved.ok("setup", "--execmode=P1", "small")
    assert listing(new_root) == before


def comparable(root):
    """A listing of what a copy has in common with its source: set-id bits and numbers of files are its own."""
    return {name: [facts[0] & 0o170777] + [fact for fact in facts[1:] if not isinstance(fact, int) or fact > 1 << 40]
            for name, facts in listing(root).items()}


def test_copies_are_converted_for_their_own_place(small, root, tmp_path):
    library("stock")
    before = comparable(root)
    small.ok("setup", "--execmode=F3", "small")
    small.ok("clone", "--name=second", "small")
    small.ok("export", "--clone", "-o", tmp_path / "clone.tar", "small")
    small.ok("import", "--clone", "--name=third", tmp_path / "clone.tar")
    small.ok("export", "-o", tmp_path / "small.tar", "small")
    with tarfile.open(str(tmp_path / "small.tar")) as archive:
        assert not any(str(root) in member.linkname for member in archive.getmembers())
        assert str(root).encode() not in archive.extractfile("bin/sh").read()
    for name in "second", "third":
        assert small.ok("setup", name).out == "F3\n"
        assert small.ok("run", name, "/bin/sh", "-c", "/bin/cat /srv/absolute").out.startswith("ID=debian")
        own = place(small, name) / "ROOT"
        assert (own.parent / "fakechroot-env").exists()
        assert os.readlink(str(own / "srv/absolute")) == str(own / "etc/os-release")
        small.ok("setup", "--execmode=P1", name)
        if name == "second":
            assert comparable(own) == before
    assert listing(root) != before and small.ok("run", "small", "/bin/cat", "/srv/absolute").status == 0


def test_cp_gives_what_was_before_the_conversion(small, root, tmp_path):
    before = listing(root)
    small.ok("setup", "--execmode=F3", "small")
    small.ok("cp", "small:/bin/sh", tmp_path / "sh")
    small.ok("cp", "small:/srv", tmp_path / "srv")
    assert hashlib.sha256((tmp_path / "sh").read_bytes()).hexdigest() == before["bin/sh"][-1]
    copied = listing(tmp_path / "srv")
    for name in "ls", "absolute", "absolute-too", "over", "device", "closed", "closed/absolute":
        assert (copied[name][0], copied[name][2], copied[name][-1]) == (
            before["srv/" + name][0], before["srv/" + name][2], before["srv/" + name][-1])
    small.ok("setup", "--execmode=P1", "small")
    assert listing(root) == before


def test_a_default_mode_converts_what_is_made(small, tmp_path):
    library("stock")
    chosen = small.with_env(UDOCKER_DEFAULT_EXECUTION_MODE="F3")
    chosen.ok("import", "--tocontainer", "--name=second", tmp_path / "tree.tar", "lab/second")
    assert small.ok("setup", "second").out == "F3\n"
    assert small.ok("run", "second", "/bin/sh", "-c", "/bin/cat /srv/absolute").out.startswith("ID=debian")


LOADER = os.fsencode(guests.loader())


def to_musl(data):
    """A program as it would say that it wants musl's loader."""
    assert LOADER in data
    return data.replace(LOADER, b"/lib/ld-musl.so.1".ljust(len(LOADER), b"\0"))


def test_a_container_with_musl(small, root):
    library("stock")
    (root / "bin/sh").write_bytes(to_musl((root / "bin/sh").read_bytes()))
    (root / "lib").mkdir(exist_ok=True)
    shutil.copy(guests.loader(), str(root / "lib/ld-musl.so.1"))
    small.ok("setup", "--execmode=F1", "small")
    assert "which is musl" in small.fails(125, "run", "small", "/bin/cat").err


@pytest.mark.parametrize("code", ["F1", "F3"])
@pytest.mark.parametrize("change, reason", [
    (to_musl, "another C library"), (lambda data: data.replace(b"GNU\0", b"Go\0\0"), "made by Go"),
    (lambda data: data[:18] + b"\x99\x00" + data[20:], "another machine"),
])
def test_a_program_that_the_library_has_no_hold_on(small, root, code, change, reason):
    library("stock")
    (root / "lib").mkdir(exist_ok=True)
    shutil.copy(guests.loader(), str(root / "lib/ld-musl.so.1"))
    (root / "srv/program").write_bytes(change(Path("/bin/true").read_bytes()))
    (root / "srv/program").chmod(0o755)
    small.ok("setup", "--execmode=" + code, "small")
    assert reason in small.fails(125, "run", "small", "/srv/program").err


def test_a_set_id_program(small):
    program = next((path for path in ("/usr/bin/passwd", "/bin/su") if os.path.exists(path)), "")
    if not program or not os.stat(program).st_mode & stat.S_ISUID:
        pytest.skip("there is no set-id program here")
    library("stock")
    small.ok("setup", "--execmode=F1", "small")
    assert "set-id" in small.fails(125, "run", "-v", program, "small", program).err


def test_a_link_to_the_tree_that_is_not_ours(small, root, tmp_path):
    """Sockets of containers whose path is long are named by it."""
    library("stock")
    (tmp_path / "short").mkdir()
    small.ok("setup", "--execmode=F1", "small")
    own = small.with_env(UDOCKER_TMPDIR=str(tmp_path / "short"))
    own.ok("run", "small", "/bin/cat", "/etc/os-release")
    links = list((tmp_path / "short").glob("udocker-tree-*"))
    if not links:
        pytest.skip("the path of this container is short")
    assert os.path.samefile(str(links[0]), str(root))
    links[0].unlink()
    links[0].symlink_to("/tmp")
    assert str(links[0]) in own.fails(125, "run", "small", "/bin/cat", "/etc/os-release").err
    assert str(links[0]) not in own.ok("prune").out
    links[0].unlink()
    links[0].symlink_to(str(tmp_path / "gone"))
    assert str(links[0]) in own.ok("prune").out and not os.path.islink(str(links[0]))


def test_what_is_not_converted_is_not_run(small, root):
    library("stock")
    words = ["run", "small", "/bin/cat", "/etc/os-release"]
    assert "not converted" in small.fails(125, *words, env={"UDOCKER_DEFAULT_EXECUTION_MODE": "F1"}).err
    small.ok("setup", "--execmode=F3", "small")
    (root.parent / "execmode").write_text("N1")
    assert "is undone" in small(*words).err and not journals(root)


def test_a_container_that_the_older_program_converted(small, root):
    (root.parent / "execmode").write_text("F3")
    (root.parent / "root.path").write_text(str(root))
    for words in (["setup", "--execmode=P1", "small"], ["run", "small", "/bin/cat"]):
        assert "the udocker that did it" in small(*words).err
    assert small.ok("setup", "small").out == "F3\n"


# The choice of library

NAMES = ["libfakechroot-%s.so" % name for name in (
    "CentOS-7-x86_64", "CentOS-8-x86_64", "Fedora-38-x86_64", "Ubuntu-16-x86_64", "Ubuntu-20-x86_64",
    "Ubuntu-22-x86_64", "Ubuntu-x86_64", "Debian-10-x86_64", "Debian-11-x86_64", "Alpine-3.8-x86_64",
    "x86_64")] + ["libfakechroot.so"]


@pytest.mark.parametrize("system, version, expected", [
    ("ubuntu", "22.04", "Ubuntu-22"), ("ubuntu", "21.10", "Ubuntu-20"), ("ubuntu", "14.04", "Ubuntu-x86_64"),
    ("debian", "12", "Debian-11"), ("debian", "10", "Debian-10"), ("linuxmint", "21", "Ubuntu-20"),
    ("rocky", "8.9", "CentOS-8"), ("rhel", "7.9", "CentOS-7"), ("fedora", "38", "Fedora-38"),
    ("alpine", "3.19", "Alpine"), ("arch", "", "libfakechroot"),
])
def test_the_library_for_a_guest(system, version, expected):
    numbers = program_under_test.version_numbers(version)
    ranks = {name: program_under_test.FakechrootLibrary.rank(name, system, numbers) for name in NAMES}
    best = min((name for name in NAMES if ranks[name] is not None), key=ranks.get)
    assert expected in best


@pytest.mark.parametrize("change, reason", [
    (lambda data: data + b"\0GLIBC_9.9\0", "glibc 9.9"), (lambda data: data + b"libc.musl-x86_64", "C library"),
    (lambda data: data[:18] + b"\x99\x00" + data[20:], "machine"), (lambda data: b"text", "no library"),
])
def test_a_library_that_does_not_suit(small, change, reason, tmp_path):
    own = tmp_path / "own.so"
    own.write_bytes(change(Path(library("stock")).read_bytes()))
    small.ok("setup", "--execmode=F1", "small")
    result = small.fails(125, "run", "small", "/bin/cat", env={"UDOCKER_FAKECHROOT_SO": str(own)})
    assert reason in result.err and str(own) in result.err


def test_the_stores_own_library_comes_first(small, root):
    source = library("stock")
    for name in "Debian-9", "Debian-13", "CentOS-7":
        shutil.copy(source, str(small.store / "lib" / ("libfakechroot-%s-x86_64.so" % name)))
    small.ok("setup", "--execmode=F1", "small")
    result = small.ok("run", "small", "/bin/cat", "/proc/self/maps")
    assert "libfakechroot-Debian-9-x86_64.so" in result.out and "Debian-13" not in result.out


def test_a_container_without_a_c_library(udocker):
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as writer:
        info = tarfile.TarInfo("etc")
        info.type, info.mode = tarfile.DIRTYPE, 0o755
        writer.addfile(info)
    udocker.ok("import", "--tocontainer", "--name=bare", "-", "lab/bare", input=archive.getvalue())
    udocker.ok("setup", "--execmode=F2", "bare")
    assert "P1" in udocker.fails(125, "run", "--entrypoint=", "bare", "/etc/x").err
