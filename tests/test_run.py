"""`udocker run` in each mode that works on this host, on containers that the tests share; what commands can expect in
every mode is the table of test_behaviours.py."""
import errno
import os
import subprocess
import textwrap
import time

import pytest

import udocker as program_under_test
from conftest import working


def output(box, *arguments, **options):
    """What the run wrote on standard output, without its last line's end."""
    return box.ok("run", *arguments, **options).out.rstrip("\n")


# Outputs and exit status

def test_nothing_but_the_commands_own_output(box):
    result = box("run", "busybox", "sh", "-c", "echo out; echo err >&2; exit 125")
    assert (result.out, result.err, result.status) == ("out\n", "err\n", 125)


@pytest.mark.parametrize("status, name", [
    (125, "absent"), (125, "0123"), (2, "a/b/../c"), (2, "busybox\n"), (2, "-"), (2, ""),
])
def test_what_is_to_be_run_cannot_be_found(box, registry, status, name):
    box.fails(status, "run", "--", name, "true", env={"UDOCKER_REGISTRY": registry.url})


def test_commands_are_looked_up_in_the_container_alone(box):
    box.fails(127, "run", "busybox", "python3", "-c", "pass")
    assert output(box, "busybox", "cat", "/etc/marker") == "inside"
    assert box.ok("run", "-e", "PATH=/nowhere", "busybox", "/bin/echo", "found").out == "found\n"


@pytest.mark.parametrize("word, hint", [
    ("./mine", "--volume={0} --workdir={0} brings it in"), ("{0}/mine", "--volume={0} brings it in"),
    ("./other", ""), ("/usr/bin/env", "")])
def test_a_program_of_the_hosts(containers, tmp_path, word, hint):
    """What the container may have and has not is not looked for on the host."""
    (tmp_path / "mine").write_text("#!/bin/sh\necho mine\n")
    (tmp_path / "mine").chmod(0o755)
    result = containers.fails(127, "run", "busybox", word.format(tmp_path), cwd=tmp_path)
    assert ("hint: it is the host's: " + hint).format(tmp_path) in result.err if hint else "hint" not in result.err
    options = [option for option in hint.format(tmp_path).split() if option.startswith("--")]
    assert not options or containers.ok("run", *options, "busybox", word.format(tmp_path)).out == "mine\n"


def test_a_program_of_the_hosts_where_the_container_has_links_in_a_circle(namespace_box, tmp_path):
    (tmp_path / "mine").touch()
    tree = tmp_path / "tree"
    (tree / str(tmp_path)[1:]).parent.mkdir(parents=True)
    (tree / str(tmp_path)[1:]).symlink_to(tmp_path)
    result = namespace_box.fails(127, "run", "--location=%s" % tree, "busybox", tmp_path / "mine")
    assert "too many levels of symbolic links" in result.err


def test_what_is_not_here_and_cannot_be_pulled(containers):
    result = containers.fails(125, "run", "lab/typo", env={"UDOCKER_REGISTRY": "http://127.0.0.1:1"})
    assert "lab/typo:latest is not here, and cannot be pulled: http://127.0.0.1:1" in result.err


@pytest.mark.parametrize("word, meant", [("busybux", "busybox"), ("other:tga", "other:tag")])
def test_what_may_be_meant(udocker, stock, images, word, meant):
    """The name of a container, or of an image with its tag."""
    stock(udocker, "busybox")
    udocker.ok("tag", images.host + "/lab/busybox", "other:tag")
    result = udocker.fails(125, "run", word, env={"UDOCKER_REGISTRY": "http://127.0.0.1:1"})
    assert "hint: did you mean %s? " % meant in result.err


def test_a_run_leaves_no_trace_in_the_store(box):
    box.ok("run", "busybox", "true")
    before = listing(box.store)
    box.ok("run", "busybox", "ls", "/")
    assert listing(box.store) == before


def listing(directory):
    """Path, type with mode, size and time of everything below directory."""
    found = {}
    for parent, directories, files in os.walk(str(directory)):
        for name in directories + files:
            path = os.path.join(parent, name)
            status = os.lstat(path)
            found[path] = status.st_mode, status.st_size, status.st_mtime_ns
    return found


# Standard streams

def test_a_pipe_on_standard_input(box):
    data = bytes(range(256)) * 4096
    assert box.ok("run", "busybox", "cat", input=data).out_bytes == data


def test_udocker_itself_leaves_standard_input_alone(box, tmp_path):
    """Else `while read line; do udocker run ...; done` would lose its lines."""
    lines = tmp_path / "lines"
    lines.write_text("first\nsecond\n")
    with lines.open() as stdin:
        with box.start("run", "busybox", "true", stdin=stdin) as process:
            process.wait()
        assert os.lseek(stdin.fileno(), 0, os.SEEK_CUR) == 0


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_standard_streams(box, closed):
    script = '"$@" ' + closed
    result = subprocess.run(["sh", "-c", script, "sh"] + box.command("run", "busybox", "sh", "-c", "exit 5"),
                            env=box.environment(), stderr=subprocess.PIPE)
    assert result.returncode == 5, result.stderr


# The command's words

def test_options_after_the_container_belong_to_the_command(box):
    assert output(box, "busybox", "echo", "--rm", "-v", "/x") == "--rm -v /x"


def test_the_images_metadata(box):
    assert output(box, "entry") == textwrap.dedent("""\
        <first><two words>
        1000
        1001
        /srv
        /home/green lab value""")


def test_a_command_replaces_cmd_but_not_the_entrypoint(box):
    assert output(box, "entry", "own").startswith("<own>\n1000\n")


@pytest.mark.parametrize("entrypoint, words", [("sh -c", ["echo said"]), ("sh -c 'echo \"$@\"' first", ["said"])])
def test_an_entrypoint_of_several_words(box, entrypoint, words):
    """As the older udocker has it."""
    assert output(box, "--entrypoint=" + entrypoint, "busybox", *words) == "said"


def test_an_entrypoint_whose_quotes_do_not_end(box):
    assert "--entrypoint" in box.fails(2, "run", "--entrypoint=sh 'x", "busybox").err


@pytest.mark.parametrize("option", ["--entrypoint=/bin/echo", "--entrypoint=echo"])
def test_entrypoint(box, option):
    assert output(box, option, "entry", "own") == "own"
    assert output(box, option, "entry") == "", "an --entrypoint drops the image's Cmd"


def test_nometa(box):
    result = output(box, "--nometa", "entry", "/bin/sh", "-c", "pwd; id -u; echo [$LAB]")
    assert result.splitlines()[1:] == ["0", "[]"]
    assert result.splitlines()[0] != "/srv"


# Environment

@pytest.mark.parametrize("options, expected", [
    (["-e", "K=V"], "V"), (["-e=K=V"], "V"), (["-eK=V"], "V"), (["--env=K=V"], "V"), (["--env", "K=V"], "V"),
    (["-e", "K="], ""), (["-e", "K=a=b c"], "a=b c"), (["-e", "K=new\nline"], "new\nline"),
    (["-e", "K=1", "-e", "K=2"], "2"), (["-e", 'K="quoted"'], '"quoted"'),
])
def test_env(box, options, expected):
    assert output(box, *options + ["busybox", "sh", "-c", 'printf %s "$K"']) == expected


def test_env_of_a_bare_name_passes_the_callers_value(box):
    assert output(box, "-e", "K", "busybox", "sh", "-c", "echo $K", env={"K": "mine"}) == "mine"
    assert output(box, "-e", "K", "busybox", "sh", "-c", "echo ${K-unset}") == "unset"


def test_env_overrides_the_image(box):
    assert output(box, "-e", "LAB=other", "busybox", "sh", "-c", "echo $LAB") == "other"


def test_env_file_that_begins_with_a_byte_order_mark(box, tmp_path):
    """As editors of Windows write it."""
    (tmp_path / "variables").write_bytes(b"\xef\xbb\xbfONE=1\r\nTWO=2\r\n")
    assert output(box, "--env-file=%s" % (tmp_path / "variables"), "busybox", "sh", "-c", "echo $ONE,$TWO") == "1,2"


def test_env_file(box, tmp_path):
    variables = tmp_path / "variables"
    variables.write_text("# comment\n\nONE=1\nTWO=a b=c\nHOSTS\n")
    assert output(box, "--env-file=%s" % variables, "busybox", "sh", "-c", "echo $ONE,$TWO,$HOSTS",
                  env={"HOSTS": "mine"}) == "1,a b=c,mine"


def test_the_callers_environment_stays_out(box):
    callers = {"SECRET_OF_HOST": "1", "LD_PRELOAD": "", "PYTHONPATH": "/x"}
    names = [line.split("=")[0] for line in output(box, "busybox", "env", env=callers).splitlines()]
    assert "SECRET_OF_HOST" not in names and "PYTHONPATH" not in names
    assert {"PATH", "HOME", "LAB"} <= set(names)
    assert {name for name in names if name.startswith(("UDOCKER", "PROOT"))} <= {"PROOT_NO_SECCOMP"}


def test_hostenv_passes_the_callers_environment(box):
    wanted = {"SLURM_PROCID": "3", "PMI_FD": "7", "OMPI_X": "a b", "OWN": "1"}
    lines = output(box, "--hostenv", "busybox", "env", env=wanted).splitlines()
    assert {"%s=%s" % item for item in wanted.items()} <= set(lines)
    assert "LAB=lab value" in lines, "the image's variables are there as well"


@pytest.mark.parametrize("options, expected", [
    ([], ["TMP=/tmp"]), (["--volume={scratch}"], ["TMP=/tmp", "TMPDIR={scratch}"]),
    (["-e", "TMPDIR"], ["TMP=/tmp", "TMPDIR={scratch}"])], ids=" ".join)
def test_hostenv_names_directories_that_are_inside(box, tmp_path, options, expected):
    """Else mktemp and its like fail there."""
    callers = {"TMPDIR": str(tmp_path), "TMP": "/tmp", "XDG_RUNTIME_DIR": "/run/user/nobody"}
    lines = output(box, "--hostenv", *[word.format(scratch=tmp_path) for word in options] + ["busybox", "env"],
                   env=callers).splitlines()
    assert [line for line in sorted(lines) if line.partition("=")[0] in callers] == [
        line.format(scratch=tmp_path) for line in expected]


# User

@pytest.mark.parametrize("options, expected", [
    ([], "0 0"),
    (["--user=root"], "0 0"),
    (["--user=0"], "0 0"),
    (["--user=green"], "1000 1001"),
    (["-u", "green"], "1000 1001"),
    (["--user=1000"], "1000 1001"),
    (["--user=1000:1001"], "1000 1001"),
    (["--user=green:greens"], "1000 1001"),
    (["--user=4321"], "4321 0"),
    (["--user=4321:5432"], "4321 5432"),
])
def test_user(box, options, expected):
    assert output(box, *options + ["busybox", "sh", "-c", "echo $(id -u) $(id -g)"]) == expected


@pytest.mark.parametrize("container, expected", [
    ("user-id", "1000 1001"), ("user-id-and-group", "4321 1001"),
])
def test_the_images_user(box, container, expected):
    assert output(box, container, "sh", "-c", "echo $(id -u) $(id -g)") == expected


@pytest.mark.parametrize("user", ["nobody-knows", "green:nobody-knows", "1:2:3", "-1", ":"])
def test_a_user_that_cannot_be(box, user):
    box.fails(125, "run", "--user=" + user, "busybox", "true")


def test_the_users_name_is_known_inside(box):
    assert output(box, "--user=green", "busybox", "whoami") == "green"


def test_hostauth(box):
    """The host's users are those of the container, and may be asked for by name."""
    name = subprocess.check_output(["id", "-un"]).decode().strip()
    script = "id -un; grep -c . /etc/passwd"
    mine, count = output(box, "--hostauth", "--user=" + name, "busybox", "sh", "-c", script).splitlines()
    assert mine == name
    with open("/etc/passwd") as passwd:
        assert int(count) == len(passwd.readlines())
    assert "green" in output(box, "busybox", "cat", "/etc/passwd"), "the container's own file is as it was"


def test_files_made_inside_belong_to_the_caller(box, tmp_path):
    for user in "root", "green", "4321:5432":
        output(box, "--user=" + user, "-v", "%s:/out" % tmp_path, "busybox", "touch", "/out/" + user)
        status = (tmp_path / user).stat()
        assert (status.st_uid, status.st_gid) == (os.getuid(), os.getgid())


# Directories and volumes

@pytest.mark.parametrize("options", [["-w", "/tmp"], ["-w=/tmp"], ["--workdir=/tmp"], ["--workdir", "/tmp"]])
def test_workdir(box, options):
    assert output(box, *options + ["busybox", "pwd"]) == "/tmp"


def test_a_workdir_that_is_missing(box):
    box.fails(125, "run", "-w", "/etc/marker", "busybox", "pwd")


def test_the_callers_directory_is_of_no_meaning(box, tmp_path):
    assert output(box, "busybox", "pwd", cwd=tmp_path) == "/"


@pytest.fixture
def volume(tmp_path):
    """A directory of the host with a file and a directory of one file."""
    directory = tmp_path / "volume"
    (directory / "below").mkdir(parents=True)
    (directory / "file").write_text("of host\n")
    (directory / "below" / "file").write_text("below\n")
    return directory


@pytest.mark.parametrize("form", ["-v=%s:%s", "-v %s:%s", "-v%s:%s", "--volume=%s:%s", "--volume %s:%s"])
@pytest.mark.parametrize("target", ["/opt", "/made/for/it", "/home/green/"])
def test_volume_of_a_directory(box, volume, form, target):
    options = (form % (volume, target)).split()
    script = "cat %s/file %s/below/file; echo written > %s/new" % (target, target, target)
    assert output(box, *options + ["busybox", "sh", "-c", script]) == "of host\nbelow"
    assert (volume / "new").read_text() == "written\n"


@pytest.mark.parametrize("target", ["/etc/marker", "/etc/new-file", "/made/for/a/file"])
def test_volume_of_a_file(box, volume, target):
    assert output(box, "-v", "%s:%s" % (volume / "file", target), "busybox", "cat", target) == "of host"


def test_volumes_leave_what_they_cover_as_it_was(box, volume):
    output(box, "-v", "%s:/etc/marker" % (volume / "file"), "-v", "%s:/etc" % volume, "busybox", "true")
    assert output(box, "busybox", "cat", "/etc/marker") == "inside"


def test_a_read_only_volume(namespace_box, volume):
    script = "cat /ro/below/file; echo no > /ro/below/file"
    result = namespace_box("run", "-v", "%s:/ro:ro" % volume, "busybox", "sh", "-c", script)
    assert result.out == "below\n" and result.status != 0
    assert "Read-only file system" in result.err
    assert (volume / "below" / "file").read_text() == "below\n"
    assert output(namespace_box, "-v", "%s:/rw:rw" % volume, "busybox", "touch", "/rw/new") == ""


def test_a_read_only_file(namespace_box, volume):
    result = namespace_box("run", "-v", "%s:/etc/marker:ro" % (volume / "file"), "busybox",
                           "sh", "-c", "cat /etc/marker; echo no > /etc/marker")
    assert result.out == "of host\n" and result.status != 0


def test_nested_volumes_in_any_order(box, volume, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "file").write_text("of other\n")
    options = ["-v", "%s:/data/below" % other, "-v", "%s:/data" % volume]
    command = ["busybox", "cat", "/data/file", "/data/below/file"]
    for order in options, options[2:] + options[:2]:
        assert output(box, *order + command) == "of host\nof other"


def test_a_file_within_a_volume(box, volume, tmp_path):
    single = tmp_path / "single"
    single.write_text("single\n")
    assert output(box, "-v", "%s:/data" % volume, "-v", "%s:/data/file" % single, "busybox",
                  "cat", "/data/file", "/data/below/file") == "single\nbelow"


def test_a_source_below_tmp_while_tmp_is_a_volume(box, tmp_path):
    """cwltool does so at each step: the outer one is named for /tmp, the sources of others lie below it."""
    outer, inner = tmp_path / "outer", tmp_path / "inner"
    outer.mkdir()
    inner.mkdir()
    (inner / "file").write_text("of inner\n")
    assert output(box, "-v", "%s:/tmp" % outer, "-v", "%s:/tmp/below" % inner, "-v", "/tmp:/host", "busybox",
                  "cat", "/tmp/below/file") == "of inner"


def test_volume_names_with_spaces_and_commas(box, tmp_path):
    odd = tmp_path / "a b,c"
    odd.mkdir()
    (odd / "file").write_text("odd\n")
    assert output(box, "-v", "%s:/x y,z" % odd, "busybox", "cat", "/x y,z/file") == "odd"


@pytest.mark.parametrize("volume", [
    "relative", "relative:/x", "/tmp:relative", "", ":", ":/x", "/tmp:", "/tmp:/", "/tmp:/x:bad",
    "/tmp:/x:ro:rw",
])
def test_a_malformed_volume(box, volume):
    assert repr(volume) in box.fails(2, "run", "-v", volume, "busybox", "true").err


@pytest.mark.parametrize("volume", ["/no/such/thing", "/no/such/thing:/x", "/no/such/thing:/x:ro"])
def test_a_volume_that_the_host_has_not(box, volume):
    assert "/no/such/thing" in box.fails(125, "run", "-v", volume, "busybox", "true").err


def test_system_directories(box):
    script = "cat /proc/self/comm; ls -d /sys/class /dev/null; echo x > /dev/null"
    assert output(box, "busybox", "sh", "-c", script) == "cat\n/dev/null\n/sys/class"


def test_nosysdirs(box, mode):
    """runC and crun do not work without /proc and /dev."""
    shown = ["/sys"] if mode == "R1" else ["/dev", "/proc", "/sys"]
    result = box.ok("run", "--nosysdirs", "busybox", "sh", "-c", 'ls -A "$@" /', "sh", *shown)
    assert ("mode R1 shows /dev and /proc all the same" in result.err) == (mode == "R1")
    listing = result.out.split()
    assert [part for part in listing if part.endswith(":")] == ["/:"] + [path + ":" for path in shown]
    assert listing[-len(shown):] == [path + ":" for path in shown], "nothing is in them"


def test_novol(box):
    assert output(box, "--novol=/sys", "busybox", "ls", "-A", "/sys") == ""
    assert output(box, "--novol=/sys", "busybox", "cat", "/proc/self/comm") == "cat"


def test_bindhome(box, containers):
    (containers.home / "letter").write_text("from home\n")
    assert output(box, "--bindhome", "busybox", "cat", containers.home / "letter") == "from home"
    assert box("run", "busybox", "cat", containers.home / "letter").status == 1


def test_location(box, containers, tmp_path):
    """A directory tree that is no container of the store is run as if it were one."""
    tree = tmp_path / "tree"
    root = containers.ok("inspect", "-p", "busybox").out.strip()
    subprocess.run(["cp", "-a", root, str(tree)], check=True)
    (tree / "etc" / "marker").write_text("another\n")
    assert output(box, "--location=%s" % tree, "busybox", "cat", "/etc/marker") == "another"


def test_kernel(box, mode):
    if mode not in ("P1", "P2"):
        refusal = box.fails(125, "run", "--kernel=6.66.6", "busybox", "uname", "-r")
        assert "mode %s cannot emulate another kernel" % mode in refusal.err
        return
    assert output(box, "--kernel=6.66.6", "busybox", "uname", "-r") == "6.66.6"


@pytest.mark.parametrize("options", [
    ["--dri"], ["--nobanner"], ["--quiet"], ["-q"], ["-i"], ["-t"], ["-it"], ["-ti"], ["-i", "-t"],
])
def test_options_that_change_nothing_here(box, options):
    result = box.ok("run", *options + ["busybox", "echo", "here"])
    assert (result.out, result.err) == ("here\n", "")


# Containers that run makes and removes

@pytest.fixture
def empty(udocker, mode):
    """The program with an empty store, in each mode."""
    return udocker.with_env(UDOCKER_DEFAULT_EXECUTION_MODE=mode)


def container_ids(program):
    """The ids of all container directories, published or not."""
    return sorted(path.name for path in (program.store / "containers").glob("*") if not path.is_symlink())


def test_the_first_run_into_an_empty_store(empty, images):
    """Pulls and creates, and still writes not a byte of its own on standard output."""
    result = empty.ok("run", images.host + "/lab/busybox", "echo", "first")
    assert result.out == "first\n"
    assert len(container_ids(empty)) == 1


def test_many_first_runs_at_once(empty, images):
    """The ranks of a job that names an image that nobody has pulled yet."""
    processes = [empty.start("run", "--rm", images.host + "/lab/busybox", "echo", number,
                             stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) for number in range(4)]
    for number, process in enumerate(processes):
        with process:
            assert process.stdout.read() == b"%d\n" % number
        assert process.returncode == 0
    assert container_ids(empty) == []
    empty.ok("verify", images.host + "/lab/busybox")


def test_quiet_at_the_first_run(empty, images):
    result = empty.ok("--quiet", "run", "--rm", images.host + "/lab/busybox", "echo", "first")
    assert (result.out, result.err) == ("first\n", "")


def test_run_of_an_image_with_name(empty, images):
    empty.ok("run", "--name=first", images.host + "/lab/busybox", "touch", "/trace")
    assert output(empty, "first", "ls", "/trace") == "/trace"
    assert len(container_ids(empty)) == 1


@pytest.mark.parametrize("command, status", [(["true"], 0), (["sh", "-c", "exit 4"], 4), (["missing"], 127)])
def test_rm(empty, images, command, status):
    assert empty("run", "--rm", images.host + "/lab/busybox", *command).status == status
    assert container_ids(empty) == []
    assert (empty.store / "repos" / images.host / "lab/busybox/latest/manifest").is_file(), "the image stays"


# Trees that the runs of an image share

@pytest.fixture
def keeping(udocker, stock, broken_modes):
    """The program that keeps trees, with an image here."""
    working("N1", broken_modes)
    stock(udocker)
    return udocker.with_env(UDOCKER_KEEP_TREES="true")


def kept(program):
    """The trees in the store, by what the file system has them for."""
    return {path.name: path.stat().st_ino for path in (program.store / "containers").glob(".tree-*")}


def test_runs_of_an_image_share_a_tree(keeping, images):
    """It is unpacked once; what one changes no other sees, and nothing of it is listed."""
    words = ["run", "--rm", images.host + "/lab/busybox"]
    script = "test ! -e /new && echo new > /new && rm /etc/marker && cat /new"
    assert keeping.ok(*words + ["sh", "-c", script]).out == "new\n"
    trees = kept(keeping)
    assert len(trees) == 1 and keeping.ok("ps", "-q").out == ""
    result = keeping.ok(*words + ["sh", "-c", script + "; exit 0"])
    assert (result.out, result.err) == ("new\n", "") and kept(keeping) == trees
    assert keeping("run", "--rm", images.host + "/lab/busybox", "sh", "-c", "exit 4").status == 4
    assert (keeping.store / "containers" / list(trees)[0] / "ROOT/etc/marker").exists()
    assert container_ids(keeping) == list(trees)


def test_many_first_runs_unpack_one_tree(keeping, images):
    processes = [keeping.start("run", "--rm", images.host + "/lab/busybox", "echo", number, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE) for number in range(6)]
    assert [process.communicate()[0] for process in processes] == [b"%d\n" % number for number in range(6)]
    assert len(kept(keeping)) == 1 and container_ids(keeping) == list(kept(keeping))


def test_a_tree_that_is_used_stays(keeping, images):
    """prune and rmi take it away afterwards."""
    words = ["run", "--rm", images.host + "/lab/busybox", "sh", "-c", "echo ready; read word; cat /etc/marker"]
    for command in ["prune"], ["rmi", images.host + "/lab/busybox"]:
        with keeping.start(*words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdout.readline() == b"ready\n"
            keeping.ok(*command)
            assert len(kept(keeping)) == 1
            assert process.communicate(b"go on\n")[0] == b"inside\n" and process.returncode == 0
    assert ".tree-" in keeping.ok("prune", "--dry-run").out and len(kept(keeping)) == 1
    keeping.ok("prune")
    assert container_ids(keeping) == []


def test_a_tree_goes_with_its_image(keeping, images):
    keeping.ok("run", "--rm", images.host + "/lab/busybox", "true")
    keeping.ok("rmi", images.host + "/lab/busybox")
    assert container_ids(keeping) == []


def test_the_tree_of_an_older_image_goes(keeping, images):
    """Of one that another has taken the name of."""
    keeping.ok("run", "--rm", images.host + "/lab/busybox", "true")
    old = kept(keeping)
    keeping.ok("pull", images.host + "/lab/entry")
    keeping.ok("rmi", images.host + "/lab/busybox", env={"UDOCKER_CONTAINERS": str(keeping.store / "elsewhere")})
    keeping.ok("tag", images.host + "/lab/entry", images.host + "/lab/busybox")
    assert kept(keeping) == old
    for name in old:            # not used for two days
        os.utime(str(keeping.store / "containers" / name / "lock"), (time.time() - 172800,) * 2)
    keeping.ok("run", "--rm", "--entrypoint=", images.host + "/lab/busybox", "true")
    assert len(kept(keeping)) == 1 and kept(keeping) != old


@pytest.mark.parametrize("options", [["--name=mine"], ["--cidfile={}/id"], ["--rm=false"]])
def test_who_asks_for_a_container_has_one_of_his_own(keeping, images, tmp_path, options):
    words = ["run", "--rm"] + [option.format(tmp_path) for option in options]
    keeping.ok(*words + [images.host + "/lab/busybox", "touch", "/new"])
    assert kept(keeping) == {}


@pytest.mark.parametrize("options", [
    {"rm": None}, {"name": "mine"}, {"cidfile": "id"}, {"kernel": "5.5.0"}, {"ephemeral": False}])
def test_what_a_tree_of_its_own_is_needed_for(keeping, options):
    settings = program_under_test.Settings()
    settings.set("keep_trees", "true", "test")
    arguments = program_under_test.Arguments(program_under_test.COMMANDS["run"].options)
    vars(arguments).update({"rm": True}, **options)
    context = program_under_test.Context(settings, keeping.environment())
    assert not program_under_test.is_sharing_trees(context, arguments)


def test_a_mode_that_was_chosen_stays(keeping, images, mode):
    keeping.ok("run", "--rm", images.host + "/lab/busybox", "true", env={"UDOCKER_DEFAULT_EXECUTION_MODE": mode})
    assert len(kept(keeping)) == (mode == "N1")


def test_a_tree_of_others_is_neither_used_nor_removed(keeping, images, tmp_path):
    """As they could put one there where they may write."""
    containers = keeping.store / "containers"
    keeping.ok("run", "--rm", images.host + "/lab/busybox", "true")
    name, = kept(keeping)
    (tmp_path / "own/ROOT").mkdir(parents=True)
    (tmp_path / "own/precious").touch()
    keeping.ok("prune")
    for place in name, ".tree-other", "11111111-1111-1111-1111-111111111111":
        (containers / place).symlink_to(tmp_path / "own")
    assert keeping.ok("run", "--rm", images.host + "/lab/busybox", "cat", "/etc/marker").out == "inside\n"
    keeping.ok("prune")
    keeping.ok("rmi", images.host + "/lab/busybox")
    assert "a link" in keeping.fails(1, "rm", "11111111-1111-1111-1111-111111111111").err
    assert sorted(os.listdir(str(tmp_path / "own"))) == ["ROOT", "precious"]


def test_an_image_without_a_manifest_is_in_nobodys_way(keeping, images):
    """Neither one that is damaged nor those of version 1, which share no tree, as nothing tells them apart."""
    keeping.ok("tag", images.host + "/lab/busybox", "lab/damaged:1")
    manifest = keeping.store / "repos/lab/damaged/1/manifest"
    damaged = program_under_test.Image("lab/damaged", "1", str(manifest.parent), None)
    manifest.unlink()
    manifest.symlink_to("manifest")
    assert program_under_test.kept_tree_id(damaged) == ""
    assert keeping.ok("run", "--rm", images.host + "/lab/busybox", "cat", "/etc/marker").out == "inside\n"
    assert len(kept(keeping)) == 1
    keeping.ok("rmi", "lab/damaged:1")
    manifest.parent.mkdir(parents=True)
    (manifest.parent / "v1").touch()
    assert program_under_test.kept_tree_id(damaged) == ""


def test_trees_are_not_kept_where_changes_cannot_be(keeping, images):
    """It is told once."""
    layout = program_under_test.Layout(str(keeping.store))
    layout.make()
    findings = program_under_test.Findings(layout, program_under_test.Host(), str(keeping.home))
    findings.remember("N1 ephemeral", "overlay: refused here")
    words = ["run", "--rm", images.host + "/lab/busybox", "echo", "own"]
    first, second = keeping.ok(*words), keeping.ok(*words)
    assert "overlay: refused here" in first.err and second.err == "" and first.out == second.out == "own\n"
    assert container_ids(keeping) == []


@pytest.fixture
def own(empty, stock):
    """The program with one container, named own, of which the test may do what it likes."""
    stock(empty, "own")
    return empty


def test_rm_of_a_container_by_name(own):
    assert own("run", "--rm", "own", "sh", "-c", "mkdir /x; chmod 0 /x; exit 6").status == 6
    assert container_ids(own) == [] and not os.path.lexists(str(own.store / "containers/own"))


def test_changes_stay_in_a_container(own):
    output(own, "own", "sh", "-c", "echo mine > /etc/new; rm /etc/marker")
    assert output(own, "own", "sh", "-c", "cat /etc/new; ls /etc/marker 2>&1 | wc -l") == "mine\n1"


def test_a_volume_at_a_link_stays_in_the_container(own, volume, tmp_path):
    """A link of the container that leads to a host's path must not have a mount point made there."""
    outside = tmp_path / "outside"
    output(own, "own", "ln", "-s", str(outside), "/var/out")
    output(own, "-v", "%s:/var/out/data" % volume, "own", "true")
    assert not outside.exists()


def test_by_full_id_and_short_id(box):
    identifier = os.path.basename(os.readlink(str(box.store / "containers" / "busybox")))
    for name in identifier, identifier[:12]:
        assert output(box, name, "cat", "/etc/marker") == "inside"


# Root emulation

@pytest.mark.parametrize("script", [
    "touch /tmp/file && chown 1000:1001 /tmp/file",
    "mkdir -p /tmp/tree/below && chown -R green:greens /tmp/tree",
    "rm -f /tmp/null && mknod /tmp/null c 1 3",
    "rm -f /tmp/disk && mknod /tmp/disk b 7 0",
    "rm -f /tmp/fifo && mknod /tmp/fifo p && test -p /tmp/fifo",
    "chroot / true || true; su green -c true",
])
def test_root_in_namespaces_is_obeyed(namespace_box, script):
    assert output(namespace_box, "--user=root", "busybox", "sh", "-c", script + " && echo done") == "done"


def test_only_root_is_emulated(namespace_box):
    script = "touch /tmp/own; chown 0:0 /tmp/own"
    assert namespace_box("run", "--user=green", "busybox", "sh", "-c", script).status != 0


# The real thing: glibc, dynamic linking, a shell and tools that make each kind of system call

SYSTEM_CALLS = """
import os, socket, subprocess, sys, threading
os.setgroups([1001]); os.setgid(1001); os.setuid(1000)
thread = threading.Thread(target=print, args=["thread"]); thread.start(); thread.join()
left, right = socket.socketpair(); left.send(b"socket"); print(right.recv(9).decode())
print(subprocess.check_output(["echo", "fork"], universal_newlines=True).strip())
with open("/tmp/own", "w"): os.chown("/tmp/own", 1000, 1001); os.remove("/tmp/own"); print("file")
print(os.path.realpath("/proc/self/exe"))
"""


def test_what_lets_nobody_look_into_it_opens_files(debian_box):
    """ssh-agent and sudo begin so; a tracer could no longer read their names of files."""
    number = program_under_test.SystemCalls(os.uname().machine).tables[0][1]["prctl"]
    script = 'syscall(%d, 4, 0, 0, 0, 0) and die; open(FILE, "/etc/debian_version") or die $!; print "open\\n"' % number
    assert debian_box.ok("run", "debian", "perl", "-e", script).out == "open\n"


def test_a_debian_python(debian_box):
    lines = output(debian_box, "debian", "python3", "-c", SYSTEM_CALLS).splitlines()
    assert lines[:-1] == ["thread", "socket", "fork", "file"] and lines[-1].startswith("/usr/bin/python3.")


TYPE = "import fcntl\ntry:\n    fcntl.ioctl(0, %d, b'x' * 8)\nexcept OSError as error:\n    print(error.errno)"


@pytest.mark.parametrize("request_number", [0x5412, 0x541C])
def test_nothing_types_for_the_users_shell(debian_box, request_number):
    """TIOCSTI and TIOCLINUX: refused before the kernel asks whether there is a terminal."""
    assert output(debian_box, "debian", "python3", "-c", TYPE % request_number) == str(errno.EPERM)
    assert output(debian_box, "debian", "python3", "-c", TYPE % 0x5413) == str(errno.ENOTTY)


def test_a_debian_shell(debian_box):
    script = "set -o pipefail; dpkg --print-architecture | tee /dev/null; cat <(echo $LANG); cat <<<here"
    assert output(debian_box, "debian", "bash", "-c", script).splitlines()[1:] == ["C.UTF-8", "here"]


def test_a_debian_systems_users(debian_box):
    command = ["bash", "-c", "id -un; cd; pwd"]
    assert output(debian_box, "--user=green", "debian", *command) == "green\n/home/green"


def test_a_package_is_installed_by_root(debian_box, tmp_path):
    """dpkg unpacks, changes owners, moves into place and runs as if it were root."""
    tree = tmp_path / "package"
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "opt").mkdir()
    (tree / "opt" / "packaged").write_text("packaged\n")
    (tree / "DEBIAN" / "control").write_text(
        "Package: packaged\nVersion: 1\nArchitecture: all\nMaintainer: x <x@x>\nDescription: x\n")
    subprocess.run(["chmod", "-R", "g-s", str(tree)], check=True)
    subprocess.run(["dpkg-deb", "--build", str(tree)], check=True, stdout=subprocess.DEVNULL)
    script = "dpkg -i /mnt/package.deb >/dev/null && cat /opt/packaged && dpkg -r packaged >/dev/null"
    assert output(debian_box, "-v", "%s:/mnt" % tmp_path, "debian", "bash", "-c", script) == "packaged"
