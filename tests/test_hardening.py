"""What strangers, neighbours and mishaps do to a run: stores of others, parallel runs, damaged blobs, full outputs."""
import os
import shutil
import subprocess

import pytest

import udocker as program_under_test
from conftest import working
from layers import file, tar
from program import Program


@pytest.fixture
def own(udocker, stock):
    """The program with a container of its own, named mine."""
    stock(udocker, "mine")
    return udocker


@pytest.fixture
def own_box(own, mode):
    """The same, in each mode."""
    return own.with_env(UDOCKER_DEFAULT_EXECUTION_MODE=mode)


def root_of(program, name="mine"):
    return program.ok("inspect", "-p", name).out.strip()


# Volumes

@pytest.mark.parametrize("words", [["-v", "//"], ["-v", "/tmp://"], ["-v", "/tmp:/"], ["-v", "/tmp:/x/.."],
                                   ["-v", "/:/"], ["-v", "/tmp:///:ro"]])
def test_nothing_is_put_over_the_root(box, words):
    """It would be the host's tree that the command sees."""
    assert box.fails(2, "run", *words + ["busybox", "cat", "/etc/hostname"]).out == ""


@pytest.mark.parametrize("home", ["/", "//", "/.", "relative", ""])
def test_a_home_that_cannot_appear(box, home):
    env = {"HOME": home, "UDOCKER_DIR": str(box.store)}
    result = box("run", "--bindhome", "busybox", "cat", "/etc/marker", env=env)
    assert result.out == "inside\n" and result.status == 0


def test_parallel_runs_keep_the_places_of_their_volumes(own_box, tmp_path):
    """One that the image lacks, which none of them takes away from its neighbours."""
    (tmp_path / "file").write_text("content")
    for _ in range(3):
        runs = [own_box.start("run", "-v", "%s:/new/place" % tmp_path, "mine", "cat", "/new/place/file",
                              stdout=subprocess.PIPE) for _ in range(6)]
        assert [run.communicate()[0] for run in runs] == [b"content"] * 6


def test_a_read_only_volume_is_not_written_to_for_a_working_directory(namespace_box, tmp_path):
    (tmp_path / "there").mkdir()
    volume = "%s:/data:ro" % tmp_path
    namespace_box.fails(125, "run", "-v", volume, "-w", "/data/new", "busybox", "true")
    assert os.listdir(str(tmp_path)) == ["there"]
    assert namespace_box.ok("run", "-v", volume, "-w", "/data/there", "busybox", "pwd").out == "/data/there\n"


@pytest.mark.parametrize("place, is_file", [("/new/deep/place", False), ("/etc/new", True), ("/srv/x", False)])
def test_volumes_in_a_tree_that_cannot_be_written_to(own, broken_modes, tmp_path, place, is_file):
    """A store that somebody keeps for others: the places are made in memory, and the rest is as it was."""
    working("N1", broken_modes)
    if not shutil.which("bwrap"):
        pytest.skip("bubblewrap is not installed")
    source = tmp_path / "source"
    source.write_text("content") if is_file else source.mkdir()
    box = Program(own.home, ["bwrap", "--dev-bind", "/", "/", "--ro-bind", str(own.store), str(own.store)] + own.entry,
                  {"UDOCKER_DEFAULT_EXECUTION_MODE": "N1"})
    script = "test -e %s && cat /etc/marker /etc/passwd && ls -d /bin/sh /tmp" % place
    result = box("run", "-v", "%s:%s" % (source, place), "mine", "sh", "-c", script)
    assert result.status == 0 and result.out.startswith("inside\nroot:"), result
    assert not os.path.lexists(root_of(own) + place)


@pytest.mark.parametrize("option", ["rslave", "rw,rshared", "cached", "delegated", "ro,z", "Z", "nocopy"])
def test_dockers_words_about_volumes(namespace_box, tmp_path, option):
    namespace_box.ok("run", "-v", "%s:/data:%s" % (tmp_path, option), "busybox", "ls", "/data")


# Commands

def test_what_the_kernel_says_of_udocker_is_not_the_containers(own_box):
    """Looked up by udocker itself, this link leads to its own environment."""
    root = root_of(own_box)
    for name in "passwd", "group":
        if os.path.lexists(root + "/etc/" + name):
            os.unlink(root + "/etc/" + name)
        os.symlink("/proc/self/environ", root + "/etc/" + name)
    result = own_box("run", "--user=%d" % os.getuid(), "mine", "cat", "/etc/passwd", env={"SECRET": "of-the-host"})
    assert "of-the-host" not in result.out
    kept = [path for path in (own_box.store / ".proofs").iterdir() if path.name.startswith("file-")]
    assert all(path.stat().st_mode & 0o77 == 0 and b"SECRET" not in path.read_bytes() for path in kept)


def test_the_accounts_of_one_container_are_not_anothers(own, broken_modes):
    """They are in a file that what runs inside may write to, and that goes with the container."""
    box = own.with_env(UDOCKER_DEFAULT_EXECUTION_MODE=working("N1", broken_modes))
    box.ok("clone", "--name=other", "mine")
    user = "--user=%d" % os.getuid()
    box.ok("run", user, "mine", "sh", "-c", "echo evil::0:0::/: >>/etc/passwd")
    assert "evil" not in box.ok("run", user, "other", "cat", "/etc/passwd").out
    box.ok("rm", "mine", "other")
    assert not list((own.store / ".proofs").glob("file-*"))


@pytest.mark.parametrize("code", ["N1", "R1"])
def test_an_open_directory_of_the_hosts_is_not_passed_on(containers, broken_modes, code, tmp_path):
    box = containers.with_env(UDOCKER_DEFAULT_EXECUTION_MODE=working(code, broken_modes))
    marker = tmp_path / "marker"
    marker.touch()
    descriptors = [os.open(str(path), os.O_RDONLY) for path in (tmp_path, marker)]
    try:
        script = "ls /proc/self/fd/%d/; cat </proc/self/fd/%d && echo file" % tuple(descriptors)
        assert box("run", "busybox", "sh", "-c", script, pass_fds=descriptors).out == "file\n"
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def test_places_are_not_made_beyond_a_link(tmp_path):
    """Which what runs in a container may put there while the next run makes the places of its volumes."""
    (tmp_path / "tree/kept").mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    os.symlink(str(tmp_path / "outside"), str(tmp_path / "tree/link"))
    for names in ["link", "new"], ["link"]:
        with pytest.raises(OSError):
            program_under_test.make_below(str(tmp_path / "tree"), names, True)
    program_under_test.make_below(str(tmp_path / "tree"), ["kept", "new", "file"], False)
    assert (tmp_path / "tree/kept/new/file").is_file() and os.listdir(str(tmp_path / "outside")) == []


def test_a_working_directory_of_a_thousand_and_more_names(own_box):
    deep = "/" + "/".join("d" * 1200)
    assert own_box.ok("run", "-w", deep, "mine", "pwd").out == deep + "\n"
    own_box.ok("rm", "mine")        # which others cannot: pytest, for one


def test_a_program_whose_loader_is_missing(own_box):
    """The host's own, in a container that has no C library."""
    shutil.copy("/bin/cat", root_of(own_box) + "/bin/foreign")
    for command in "foreign", "/bin/foreign":
        result = own_box.fails(127, "run", "mine", command)
        assert "interpreter" in result.err and "ld-linux" in result.err


def test_an_interpreter_in_a_circle(own_box):
    root = root_of(own_box)
    os.symlink("circle", root + "/circle")
    with open(root + "/script", "w") as script:
        script.write("#!/circle\n")
    os.chmod(root + "/script", 0o755)
    own_box.fails(127, "run", "mine", "/script")


def test_a_command_that_env_would_take_for_a_variable(own_box, mode):
    root = root_of(own_box)
    os.mkdir(root + "/a")
    os.symlink("/bin/busybox", root + "/a/x=y")
    result = own_box("run", "-e", "LD_LIBRARY_PATH=/q", "mine", "/a/x=y", "echo")
    assert "LAB=" not in result.out and result.status == (125 if mode.startswith("P") else 127)


@pytest.mark.parametrize("text, expected", [
    ("A=x\u2028y\n", "x\u2028y"), ("A=1\x0cTWO=2\n", "1\x0cTWO=2"), ("A=z\r\n", "z"), ("A=1\x852", "1\x852"),
])
def test_lines_of_a_file_of_variables(box, tmp_path, text, expected):
    (tmp_path / "env").write_bytes(text.encode())
    out = box.ok("run", "--env-file=%s" % (tmp_path / "env"), "busybox", "sh", "-c", 'printf %s "$A"').out
    assert out == expected


# Stores and outputs

@pytest.mark.parametrize("closed", [0, 0o100, 0o400])
def test_notes_that_cannot_be_read(own_box, closed):
    """As those of another user in a store that is shared."""
    own_box.ok("run", "mine", "true")
    proofs = own_box.store / ".proofs"
    proofs.chmod(closed)
    own_box.ok("run", "mine", "true")
    proofs.chmod(0o700)


def test_what_was_found_out_in_a_sandbox_is_not_believed_outside(own, broken_modes):
    working("N1", broken_modes)
    if not shutil.which("bwrap"):
        pytest.skip("bubblewrap is not installed")
    box = own.with_env(UDOCKER_DEFAULT_EXECUTION_MODE="N1")
    sandbox = Program(own.home, ["bwrap", "--unshare-user", "--disable-userns", "--dev-bind", "/", "/"] + own.entry,
                      box.env)
    assert sandbox("run", "mine", "true").status == 125
    box.ok("run", "mine", "true")
    assert sandbox("run", "mine", "true").status == 125


@pytest.mark.parametrize("which", ["config", "layer"])
def test_a_damaged_blob_is_named_and_the_next_pull_mends_it(own, images, which):
    """One of the right size, so that only its digest tells."""
    reference = images.host + "/lab/busybox"
    manifest = images.manifest("lab/busybox", "latest")[1]
    digest = manifest["config"]["digest"] if which == "config" else manifest["layers"][0]["digest"]
    path = own.store / "layers" / digest
    good = path.read_bytes()
    path.write_bytes(good[:50] + bytes([good[50] ^ 1]) + good[51:])
    result = own.fails(1, "create", reference)
    assert digest in result.err and "pull" in result.err
    own.ok("pull", reference)
    assert path.read_bytes() == good
    own.ok("create", reference)


@pytest.mark.parametrize("line", ["images", "--help", "ps", "version", "showconf"])
def test_a_full_standard_output(own, line):
    with open("/dev/full", "wb") as full:
        process = own.start(*line.split(), stdout=full, stderr=subprocess.PIPE)
        err = process.communicate()[1].decode()
    assert process.returncode == 1
    assert err == "udocker: error: standard output: No space left on device\n"


@pytest.mark.parametrize("line, status", [
    ("nosuch", 2), ("images --nosuch", 2), ("inspect nosuch", 1), ("-D inspect nosuch", 1), ("exec nosuch true", 125),
    ("exec mine nosuch", 127), ("exec --privileged mine true", 0),
])
def test_a_full_standard_error(own, line, status):
    """What cannot be told changes nothing; nor does it where nobody listens."""
    with open("/dev/full", "wb") as full:
        assert own.start(*line.split(), stdout=subprocess.DEVNULL, stderr=full).wait(60) == status
    with own.start(*line.split(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        process.stderr.close()
        assert process.wait(60) == status


def test_a_limit_of_the_size_of_files(own):
    limited = Program(own.home, ["prlimit", "--fsize=4096"] + own.entry, own.env)
    refusal = limited.fails(1, "save", "-o", "archive.tar", own.ok("images", "-q").out.strip())
    assert "File too large" in refusal.err and "ulimit -f" in refusal.err and not (own.home / "archive.tar").exists()


def test_removals_of_one_container_at_the_same_time(own):
    runs = [own.start("rm", "mine", stderr=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(5)]
    talk = [run.communicate()[1].decode() for run in runs]
    assert sorted(run.returncode for run in runs) == [0, 1, 1, 1, 1]
    assert all("no such container" in text for run, text in zip(runs, talk) if run.returncode)


def test_little_memory_is_no_bug(own):
    small = Program(own.home, ["prlimit", "--as=%d" % (150 << 20)] + own.entry, own.env)
    result = small("create", own.ok("images", "-q").out.strip())
    assert result.status in (0, 1) and "bug" not in result.err


def test_settings_without_end(own):
    assert own("--config=/dev/zero", "images", timeout=20).status == 1


@pytest.mark.parametrize("line, told", [
    (b"dir = /tmp/a\0b", "without a NUL"), (b"colour = red", "unknown setting 'colour'"), (b"dir", "key = value"),
    (b"downloads = nan", "a number"), (b"timeout = 1e400", "a number"), (b"insecure = perhaps", "true or false"),
    (b"dir = \xff", "not a text file"), (b"loglevel = 9", "a number from 0 to 5"),
])
def test_settings_that_cannot_be(udocker, tmp_path, line, told):
    (tmp_path / "settings").write_bytes(b"# good\nretries = 1\n" + line + b"\n")
    err = udocker.fails(1, "--config=%s" % (tmp_path / "settings"), "images").err
    assert told in err and str(tmp_path / "settings") in err
    assert ":3: " in err or "text file" in err


@pytest.mark.parametrize("line, told", [
    ("create --pull=often busybox", "--pull=often: there are missing, never, always"),
    ("create --pull= busybox", "--pull=: there are missing, never, always"),
    ("search --registry=a.example b.example/c", "b.example/c already names its registry"),
    ("import --mv - a:1", "standard input cannot be moved")])
def test_words_that_do_not_go_together(udocker, line, told):
    assert told in udocker.fails(2, *line.split()).err


def test_what_cannot_be_run_at_all(own):
    """A tree without anything, one that is gone, and a mode that is none."""
    own.ok("import", "--tocontainer", "--name=hollow", "-", input=tar(file("etc/motd", b"hello")))
    assert "no command was given, and the image names none" in own.fails(127, "run", "hollow").err
    own.fails(2, "run", "--rm", "--location=" + root_of(own, "hollow"), "hollow", "true")
    refusal = own.fails(125, "run", "mine", "true", env={"UDOCKER_DEFAULT_EXECUTION_MODE": "X9"})
    assert "'X9' is no execution mode" in refusal.err and "F1, F2" in refusal.err
    shutil.rmtree(root_of(own))
    assert "the container has no tree" in own.fails(125, "run", "mine", "true").err


def test_a_name_with_a_file_of_another_image_in_its_way(own, images):
    """lab/busybox/latest:v2 would lie where lab:busybox... has its marks."""
    own.ok("tag", images.host + "/lab/busybox", "lab/busybox:latest")
    result = own.fails(1, "tag", "lab/busybox:latest", "lab/busybox/latest:v2")
    assert "in the way" in result.err
    own.ok("verify", "lab/busybox")
    own.ok("rmi", "lab/busybox")
    own.ok("tag", images.host + "/lab/busybox", "lab/busybox/latest:v2")
    assert "in the way" in own.fails(1, "tag", images.host + "/lab/busybox", "lab/busybox:latest").err
    own.ok("verify", "lab/busybox/latest:v2")


def test_what_r1_does_where_namespaces_are_refused_to_others(own, broken_modes):
    """As Ubuntu 24.04 has it, whose AppArmor lets crun have some. Of N1 a refusal is noted, and so believed."""
    for code in "N1", "R1", "P1":
        own.ok("run", "mine", "true", env={"UDOCKER_DEFAULT_EXECUTION_MODE": working(code, broken_modes)})
    files = [path for path in (own.store / ".proofs").iterdir() if path.is_file()]
    note, = [path for path in files if path.read_bytes().startswith(b"N1\n")]
    with note.open("ab") as file:
        file.write(b"unshare: Permission denied")
    words = ["run", "--read-only", "mine", "sh", "-c", "touch /new 2>/dev/null || echo read-only"]
    result = own.ok(*words)
    assert result.out == "read-only\n" and "mode R1 is used" in result.err
    refusal = own.fails(125, *words, env={"UDOCKER_USE_RUNC_EXECUTABLE": "/nowhere/runc"})
    assert "neither mode P1 nor mode N1" in refusal.err


def test_what_no_mode_can_do(own, broken_modes, tmp_path):
    """The default looks for a mode that can, and says what each of them lacks."""
    working("N1", broken_modes)
    result = own.fails(125, "run", "--kernel=5.5.5", "-v", "%s:/data:ro" % tmp_path, "mine", "true")
    assert "P1: " in result.err and "N1: " in result.err
