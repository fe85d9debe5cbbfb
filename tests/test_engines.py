"""Engines are proved before they are used, tools are what they are said to be, and refusals give their reason."""
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

import guests
import udocker as program_under_test
from conftest import need, working
from program import Program, in_main_thread

LIAR = "#!/bin/sh\nfor word; do last=$word; done\nexec /bin/sh -c 'echo on the host'\n"
FAILING = "#!/bin/sh\necho 'no ptrace for you' >&2\nexit 1\n"


@pytest.fixture
def fake_proot(tmp_path):
    """Writes a program that poses as PRoot; its path."""
    def write(text):
        path = tmp_path / "proot"
        path.write_text(text)
        path.chmod(0o755)
        return str(path)
    return write


@pytest.mark.parametrize("text", [LIAR, FAILING, "#!/bin/sh\n", "#!/nowhere\n", "no program"],
                         ids=["on the host", "failing", "nothing", "no interpreter", "no program"])
def test_a_proot_that_does_not_contain_is_not_used(containers, fake_proot, broken_modes, text):
    """The modes that work are named."""
    box = containers.with_env(UDOCKER_USE_PROOT_EXECUTABLE=fake_proot(text))
    advice = "no mode works here" if broken_modes["N1"] and broken_modes["R1"] else "udocker setup --execmode="
    for mode in "P1", "P2":
        result = box.fails(125, "run", "busybox", "echo", "inside", env={"UDOCKER_DEFAULT_EXECUTION_MODE": mode})
        assert "mode %s does not work on this host" % mode in result.err and advice in result.err
        assert ("N1" in result.err) is not bool(broken_modes["N1"])


def test_the_default_falls_back_to_namespaces_with_one_line(namespace_box, containers, fake_proot):
    box = containers.with_env(UDOCKER_USE_PROOT_EXECUTABLE=fake_proot(FAILING))
    result = box.ok("run", "busybox", "echo", "inside")
    assert result.out == "inside\n"
    assert result.err.count("\n") == 1 and "mode N1 is used" in result.err and "no ptrace for you" in result.err
    assert box.ok("run", "busybox", "echo", "inside").err == "", "once is enough"


def test_the_default_takes_the_mode_that_can_do_what_is_asked(namespace_box, containers, proot, tmp_path):
    result = containers("run", "-v", "%s:/data:ro" % tmp_path, "busybox", "touch", "/data/x")
    assert result.status != 0 and "Read-only" in result.err and not (tmp_path / "x").exists()


@pytest.mark.parametrize("spelling, is_hit", [(b"", False), (b"GLIBC_2.3X", True)], ids=["new glibc", "old glibc"])
def test_who_goes_before_an_old_proot(udocker, broken_modes, tmp_path, spelling, is_hit):
    """Which kills what programs of some glibcs start: here one that seems to be of them."""
    need("gcc")
    tree = guests.build(tmp_path / "tree", tmp_path)
    if spelling:
        libc, = [path for path in tree.rglob("libc.so.6") if path.is_file()]
        libc.write_bytes(libc.read_bytes().replace(b"GLIBC_2.34\0", spelling + b"\0"))
    proot = Path(need("proot")).read_bytes().replace(b"can't allocate heap", b"")
    for name, data in ("old", proot), ("new", proot + b"can't allocate heap"):
        path = tmp_path / name
        path.write_bytes(data)
        path.chmod(0o755)
        command = ["run", "--location=%s" % tree, "none", "/bin/static"]
        talk = udocker("-D", *command, env={"UDOCKER_USE_PROOT_EXECUTABLE": str(path)}).err
        assert ("mode N1 is used" in talk) == (is_hit and name == "old" and not broken_modes["N1"]), talk
        if not broken_modes["P1"]:
            doctor = udocker("doctor", env={"UDOCKER_USE_PROOT_EXECUTABLE": str(path)}).out
            assert ("udocker install P1" in doctor) == (name == "old")


@pytest.mark.parametrize("version, is_old", [(b"1.1.24", True), (b"1.2.3", False)])
def test_who_goes_before_a_new_proot(udocker, broken_modes, tmp_path, version, is_old):
    """Which dies of some programs of old musls: here something that calls itself one."""
    tree = tmp_path / "tree"
    for name in "bin", "lib":
        (tree / name).mkdir(parents=True)
    shutil.copy(need("busybox"), str(tree / "bin/static"))
    shell = bytearray(Path("/bin/sh").read_bytes())
    place = shell.index(b"/lib64/ld-linux-x86-64.so.2\0") if b"/lib64/ld-linux-x86-64.so.2\0" in shell else None
    if place is None:
        pytest.skip("the loader here has another name")
    shell[place:place + 28] = b"/lib/ld-musl-x86_64.so.1".ljust(28, b"\0")
    (tree / "bin/sh").write_bytes(shell)
    (tree / "lib/ld-musl-x86_64.so.1").write_bytes(bytes(shell) + b"\0" + version + b"\0")
    for name, mark in ("old", b""), ("new", b"can't allocate heap"):
        path = tmp_path / name
        path.write_bytes(Path(need("proot")).read_bytes().replace(b"can't allocate heap", b"") + mark)
        path.chmod(0o755)
        talk = udocker("-D", "run", "--location=%s" % tree, "none", "/bin/static", "true",
                       env={"UDOCKER_USE_PROOT_EXECUTABLE": str(path)}).err
        assert ("mode N1 is used" in talk) == (is_old and name == "new" and not broken_modes["N1"]), talk


@pytest.mark.parametrize("status, is_told", [(139, True), (7, False)])
def test_what_an_old_proot_may_have_killed(containers, broken_modes, status, is_told):
    proot = Path(need("proot"))
    if b"can't allocate heap" in proot.read_bytes():
        pytest.skip("this PRoot is no old one")
    box = containers.with_env(UDOCKER_DEFAULT_EXECUTION_MODE=working("P1", broken_modes))
    result = box("run", "busybox", "sh", "-c", "exit %d" % status)
    assert result.status == status and ("udocker install P1" in result.err) == is_told


BUBBLEWRAP = """import sys, udocker
class Bubblewrap(udocker.ExecutableEngine):
    def invocation(self, spec):
        words = [self.executable, "--bind", spec.root, "/", "--chdir", spec.directory]
        for mount in spec.mounts:
            words += ["--bind", mount.source, mount.guest]
        return udocker.Invocation(self.executable, words + [spec.find_command()] + spec.argv[1:], spec.environment)
class Nothing(Bubblewrap):
    def invocation(self, spec):
        return udocker.Invocation("/bin/sh", spec.argv, spec.environment)
executable, directory = sys.argv[1:]
host = udocker.Host()
prover = udocker.Prover(udocker.Findings(udocker.Layout(directory), host, directory), directory)
for engine in Bubblewrap, Nothing:
    print(prover.refusal(engine(engine.__name__, host, executable, directory)))
"""


def test_an_engine_that_needs_no_more_than_a_program_and_its_words(tmp_path, broken_modes):
    """As bubblewrap would be one; and one that contains nothing is found out."""
    executable = need("bwrap")
    working("N1", broken_modes)
    contained, escaped = in_main_thread(BUBBLEWRAP, executable, tmp_path).splitlines()
    assert contained == "None" and "did not stay in its root" in escaped


REFUSED = """import sys, udocker
host, directory = udocker.Host(), sys.argv[1]
findings = udocker.Findings(udocker.Layout(directory), host, directory)
host.uid += 1
try:
    udocker.Prover(findings, directory).check(udocker.NamespaceEngine("N1", host, directory))
except udocker.EngineError as error:
    print(error.message, error.hint, sep="\\n")
"""


def test_refused_namespaces_are_explained(tmp_path):
    """As where a kernel lets a process unshare and then refuses the map of ids: here, as it is somebody else's id."""
    message, hint = in_main_thread(REFUSED, tmp_path).splitlines()
    assert "user namespaces are refused" in message and "uid_map" in message and hint


ON_DISK = """import os, sys, udocker
root, temporary, script = sys.argv[1:]
area = udocker.WorkArea(temporary)
with area:
    context = udocker.Context(udocker.Settings(), {"HOME": temporary})
    spec = udocker.RunSpec(root, ["/bin/sh", "-c", script], {"PATH": udocker.DEFAULT_PATH}, udocker.Account(0, 0), [])
    spec.is_ephemeral = True
    for context.host.kernel in "6.5.0-generic", "6.6.0-generic":
        print(udocker.is_changing_on_disk(context, spec))
    spec.changes = udocker.place_for_changes(context, area)
    if spec.changes:
        sys.stdout.flush()
        udocker.Supervisor(udocker.NamespaceEngine("N1", context.host, temporary).invocation(spec)).run()
        print(os.listdir(spec.changes + "/upper"))
print([name for name in os.listdir(temporary) if name != ".udocker"])
"""


def test_changes_are_kept_on_disk_where_memory_cannot_keep_them(udocker, stock, broken_modes, tmp_path):
    """As before Linux 6.6: a directory is replaced, and nothing is left of that."""
    working("N1", broken_modes)
    stock(udocker, "busy")
    root = udocker.ok("inspect", "-p", "busy").out.strip()
    (tmp_path / "area").mkdir()
    script = "rm -r /etc && mkdir /etc && ls -A /etc | wc -l"
    lines = in_main_thread(ON_DISK, root, tmp_path / "area", script).splitlines()
    if len(lines) == 3:
        pytest.skip("the directory for short-lived files has no user attributes")
    assert lines == ["True", "False", "0", "['etc']", "[]"]
    assert udocker.ok("run", "busy", "cat", "/etc/marker").out == "inside\n"


ON_NETWORK = """import os, sys, udocker
root, temporary, place, script = sys.argv[1:]
spec = udocker.RunSpec(root, ["/bin/sh", "-c", script], {"PATH": udocker.DEFAULT_PATH}, udocker.Account(0, 0), [])
spec.is_ephemeral, spec.changes = True, place + "/changes"
os.mkdir(spec.changes)
udocker.Supervisor(udocker.NamespaceEngine("N1", udocker.Host(), temporary).invocation(spec)).run()
print(os.listdir(spec.changes + "/upper"))
"""


def test_changes_are_kept_in_memory_where_the_disk_cannot_take_them(udocker, stock, broken_modes, tmp_path):
    """As on file systems of the network or, here, of user space."""
    working("N1", broken_modes)
    program, stop = need("unionfs"), need("fusermount")
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        pytest.skip("/dev/fuse cannot be opened")
    stock(udocker, "busy")
    root = udocker.ok("inspect", "-p", "busy").out.strip()
    below, place = tmp_path / "below", tmp_path / "place"
    below.mkdir()
    place.mkdir()
    subprocess.run([program, "%s=RW" % below, str(place)], check=True)
    try:
        script = "echo new >/etc/marker && cat /etc/marker"
        assert in_main_thread(ON_NETWORK, root, tmp_path, place, script) == "new\n[]\n"
    finally:
        subprocess.run([stop, "-u", "-z", str(place)], check=True)
        program_under_test.remove_tree(str(below))      # what overlays make for themselves, pytest cannot remove
    assert udocker.ok("run", "busy", "cat", "/etc/marker").out == "inside\n"


def test_a_proof_is_remembered(udocker, stock, mode):
    """The second start finds what the first one has seen, and a changed PRoot is proved anew."""
    box = udocker.with_env(UDOCKER_DEFAULT_EXECUTION_MODE=mode)
    stock(box, "busy")
    assert "proving mode " + mode in box.ok("-D", "run", "busy", "true").err
    assert "proving mode" not in box.ok("-D", "run", "busy", "true").err


def test_a_proof_needs_no_writable_home(udocker, stock, mode):
    if os.getuid() == 0:
        pytest.skip("root may write everywhere")
    stock(udocker, "busy")
    udocker.store.chmod(0o555)
    try:
        assert udocker.with_env(UDOCKER_DEFAULT_EXECUTION_MODE=mode).ok("run", "busy", "echo", "hi").out == "hi\n"
    finally:
        udocker.store.chmod(0o755)


# What an image says must not reach the engine itself

def container_with(stock, program, **config):
    """A container named odd, whose config says this."""
    stock(program, "odd")
    path = program.store / "containers" / os.readlink(str(program.store / "containers/odd")) / "container.json"
    document = json.loads(path.read_text())
    document["config"].update(config)
    path.write_text(json.dumps(document))
    return path.parent


def test_variables_of_the_image_do_not_reach_the_host(udocker, stock, mode, tmp_path):
    """The dynamic loader would write this file, or load that library, into a PRoot that ran with them."""
    trace = tmp_path / "trace"
    variables = ["LD_DEBUG=libs", "LD_DEBUG_OUTPUT=%s" % trace, "LD_PRELOAD=/lib/nothing.so", "PROOT_LOADER=/bin/echo"]
    container_with(stock, udocker, Env=variables)
    box = udocker.with_env(UDOCKER_DEFAULT_EXECUTION_MODE=mode)
    result = box.ok("run", "odd", "sh", "-c", "echo $LD_PRELOAD")
    assert result.out == "/lib/nothing.so\n" and not list(tmp_path.glob("trace*"))


def test_nothing_is_imported_in_a_containers_tree(namespace_box, tmp_path):
    """Where Python's library is out of sight, or another one's."""
    traced = ["-f", "-o", str(tmp_path / "calls"), "-e", "trace=pivot_root,open,openat,stat,newfstatat,execve"]
    box = Program(namespace_box.home, [need("strace")] + traced + namespace_box.entry, namespace_box.env)
    assert box.ok("run", "--hostname=here", "busybox", "hostname").out == "here\n"
    inside = (tmp_path / "calls").read_text().partition(" pivot_root(")[2].partition(" execve(")[0]
    assert inside and ".py" not in inside and "encodings" not in inside, inside


HOOK = """
import json, os, sys, udocker
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
print(json.dumps(udocker.RuncEngine._hook_for_processors(sys.argv[1])))
"""


def test_the_hook_that_gives_a_command_the_callers_processors(tmp_path):
    """runC hands it the state of the container, whose process has all that there are."""
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("one processor is all of them")
    taskset = tmp_path / "with a space" / "taskset"
    taskset.parent.mkdir()
    taskset.symlink_to(need("taskset"))
    hook = json.loads(in_main_thread(HOOK, taskset))
    with subprocess.Popen(["sleep", "1000"]) as process:
        state = json.dumps({"id": "1", "pid": process.pid, "bundle": "/b"}, separators=(",", ":")).encode()
        subprocess.run([hook["path"]] + hook["args"][1:], input=state, check=True, env={})
        found = os.sched_getaffinity(process.pid)
        process.kill()
    assert found == {min(os.sched_getaffinity(0))}


def test_an_old_runc_is_not_even_tried(containers, tmp_path):
    """At the end of a container without processes of its own it kills all in the caller's cgroup, a session of his."""
    runc = tmp_path / "runc"
    runc.write_text("#!/bin/sh\n# runc/libcontainer/cgroups/rootless.(*Manager).Apply\ntouch $0.tried\n")
    runc.chmod(0o755)
    box = containers.with_env(UDOCKER_USE_RUNC_EXECUTABLE=runc, UDOCKER_DEFAULT_EXECUTION_MODE="R1")
    assert "older than 1.0.0-rc5" in box.fails(125, "run", "busybox", "true").err
    assert os.listdir(str(tmp_path)) == ["runc"]


# As uutils' coreutils 0.8 know which of them they are: by what the kernel started, not by what the loader made of it
WHICH = r"""
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>
int main(int count, char **words)
{
    unsigned long values[128] = {0};
    const char *path = "";
    int file = open("/proc/self/auxv", O_RDONLY);
    if (prctl(0x41555856, values, sizeof values, 0, 0) < 0 && read(file, values, sizeof values) < 0) return 1;
    for (int place = 0; values[place]; place += 2)
        if (values[place] == 31) path = (const char *) values[place + 1];
    puts(strncmp(path, "/proc/", 6) ? path : words[0]);
    return 0;
}
"""


def test_programs_that_ask_the_kernel_for_their_name(udocker, mode, tmp_path):
    programs = tmp_path / "tree/usr/lib/cargo/bin/coreutils"
    programs.mkdir(parents=True)
    (tmp_path / "which.c").write_text(WHICH)
    subprocess.check_call([need("gcc"), "-static", "-o", str(programs / "cat"), str(tmp_path / "which.c")])
    (tmp_path / "tree/usr/bin").mkdir()
    (tmp_path / "tree/usr/bin/cat").symlink_to("../lib/cargo/bin/coreutils/cat")
    subprocess.check_call(["tar", "-C", str(tmp_path / "tree"), "-cf", str(tmp_path / "tree.tar"), "."])
    udocker.ok("import", "--tocontainer", "--name=new", tmp_path / "tree.tar")
    box = udocker.with_env(UDOCKER_DEFAULT_EXECUTION_MODE=mode, UDOCKER_TMPDIR=tmp_path)
    assert os.path.basename(box.ok("run", "new", "cat").out) == "cat\n"
    assert not list(tmp_path.glob(".new-*"))


def test_variables_of_the_loader_are_set_inside(box):
    assert box.ok("run", "-e", "LD_LIBRARY_PATH=/usr/lib", "busybox", "sh", "-c",
                  "echo $LD_LIBRARY_PATH").out == "/usr/lib\n"


@pytest.mark.parametrize("config", [
    {"Env": 5}, {"Env": ["A=\0"]}, {"Env": ["A=\ud800"]}, {"Cmd": 5}, {"WorkingDir": "a\0b"}, {"User": ["x"]},
    {"Entrypoint": {"a": 1}},
], ids=str)
def test_odd_configs_end_in_a_line(udocker, stock, mode, config):
    container_with(stock, udocker, **config)
    result = udocker.with_env(UDOCKER_DEFAULT_EXECUTION_MODE=mode)("run", "odd", "true")
    assert result.status in (0, 125, 126, 127) and "this is a bug" not in result.err


def test_read_only_volumes_hold_for_root_inside(namespace_box, tmp_path):
    result = namespace_box("run", "-v", "%s:/data:ro" % tmp_path, "busybox", "sh", "-c",
                           "mount -o remount,rw,bind /data; umount /data; touch /data/x")
    assert result.status != 0 and not (tmp_path / "x").exists()


# The tools

def tarball(path, member, data, *others):
    with tarfile.open(str(path), "w:gz") as archive:
        for name in (member,) + others:
            info = tarfile.TarInfo("udocker_dir/bin/" + name)
            info.size, info.mode = len(data), 0o755
            archive.addfile(info, io.BytesIO(data))
    return path


class Toolkit:
    """A Toolbox on an empty store, for a machine that has no PRoot in its search path."""

    def __init__(self, directory, tool, source=""):
        self.layout = program_under_test.Layout(str(directory / "store"))
        self.layout.make()
        host = program_under_test.Host()
        findings = program_under_test.Findings(self.layout, host, str(directory))
        self.box = program_under_test.Toolbox(self.layout, host, findings, {}, source, None, "")
        self.box.builds = lambda kind: [tool]


def test_a_tool_out_of_a_tarball_is_checked(tmp_path):
    data = b"\x7fELF pretended"
    tool = program_under_test.Tool("proot-test", "0" * 64, hashlib.sha256(data).hexdigest())
    good = Toolkit(tmp_path, tool, str(tarball(tmp_path / "good.tgz", "proot-test", data)))
    path = next(good.box.executables("proot"))
    assert path == good.layout.bin + "/proot-test" and os.access(path, os.X_OK)
    with open(path, "rb") as file:
        assert file.read() == data


@pytest.mark.parametrize("member,data", [("proot-test", b"something else"), ("another", b"\x7fELF pretended")])
def test_another_tool_is_refused(tmp_path, member, data):
    tool = program_under_test.Tool("proot-test", "0" * 64, hashlib.sha256(b"\x7fELF pretended").hexdigest())
    bad = Toolkit(tmp_path, tool, str(tarball(tmp_path / "bad.tgz", member, data)))
    with pytest.raises(program_under_test.ToolError) as caught:
        next(bad.box.executables("proot"))
    assert "bad.tgz" in caught.value.message
    assert os.listdir(bad.layout.bin) == []


def test_the_next_tool_serves_where_the_best_cannot_be_had(tmp_path):
    data = b"\x7fELF pretended"
    best, next_best = (program_under_test.Tool("proot-" + name, "0" * 64, hashlib.sha256(data).hexdigest())
                       for name in ("best", "next"))
    kit = Toolkit(tmp_path, best, str(tarball(tmp_path / "some.tgz", "proot-next", data)))
    kit.box.builds = lambda kind: [best, next_best]
    assert next(kit.box.executables("proot")) == kit.layout.bin + "/proot-next"


def test_what_is_larger_than_any_tool_is_refused(tmp_path):
    data = bytes((64 << 20) + 1)
    tool = program_under_test.Tool("proot-test", "0" * 64, hashlib.sha256(data).hexdigest())
    with pytest.raises(program_under_test.ToolError) as caught:
        next(Toolkit(tmp_path, tool, str(tarball(tmp_path / "large.tgz", "proot-test", data))).box.executables("proot"))
    assert "larger than any tool" in caught.value.message


def test_a_tarball_that_is_missing_or_damaged(tmp_path):
    tool = program_under_test.Tool("proot-test", "0" * 64, "0" * 64)
    (tmp_path / "damaged.tgz").write_bytes(b"\x1f\x8b" + b"x" * 100)
    for name in "missing.tgz", "damaged.tgz":
        with pytest.raises(program_under_test.ToolError):
            next(Toolkit(tmp_path, tool, str(tmp_path / name)).box.executables("proot"))


def test_pins_are_digests_of_their_own():
    tools = program_under_test.all_tools()
    digests = [tool.tarball_digest for tool in tools] + [tool.digest for tool in tools if tool.digest]
    assert all(program_under_test.is_digest(digest) for digest in digests)
    assert len(set(digests)) == len(digests) and len({tool.file_name for tool in tools}) == len(tools)


# The filter of system calls

def test_filters_jump_forward_and_end_with_a_verdict():
    """Every instruction's jumps stay within the program, as the kernel demands."""
    names = program_under_test.EMULATED_CALLS + program_under_test.PRootEngine.NEWER_CALLS
    for machine in set(program_under_test.Host.EXECUTES) - {"s390x"}:       # whose calls have numbers of their own
        program = program_under_test.SystemCalls(machine).filter(names, 0)
        count = len(program) // 8
        assert len(program) % 8 == 0 and 0 < count < 4096
        for position in range(count):
            code, _, if_true, if_false = program[8 * position:8 * position + 4]
            assert code != 0x15 or position + 1 + max(if_true, if_false) < count
        assert program[-8] == 0x06


# Executes lists of words, each as the first process of a Starter, and tells how the second ones end
ADOPTER = """import json, os, sys, udocker
udocker.Kernel().adopt_orphans()
for words in map(json.loads, sys.argv[1:]):
    starter = os.fork()
    if not starter:
        os.execv(words[0], words)
    ended = dict(os.wait() for _ in range(2))
    assert ended.pop(starter) == 0
    print(ended.popitem()[1] >> 8)
"""
ALONE = ("import os, resource, sys; resource.setrlimit(resource.RLIMIT_NPROC, (0, 0)); "
         "os.execv(sys.argv[1], sys.argv[1:])")
STARTERS = [("x86_64", "", ["--64"], None), ("i386", "", ["--32"], None),
            ("aarch64", "aarch64-linux-gnu-", [], "qemu-aarch64-static"),
            ("arm", "arm-linux-gnueabihf-", [], "qemu-arm-static")]


@pytest.mark.parametrize("name, prefix, options, emulator", STARTERS)
def test_a_starter(name, prefix, options, emulator, tmp_path):
    """Its bytes are those of its text; it gives the command to who adopts orphans, and says what cannot be started."""
    text, machine = Path(__file__).parent / "starters" / (name + ".s"), {"arm": "armv7l"}.get(name, name)
    code, path = tmp_path / "code", tmp_path / "starter"
    subprocess.run([need(prefix + "as")] + options + ["-o", str(tmp_path / "object"), str(text)], check=True)
    subprocess.run([need(prefix + "objcopy"), "-O", "binary", "-j", ".text", str(tmp_path / "object"), str(code)],
                   check=True)
    path.write_bytes(program_under_test.Starter.program(machine))
    path.chmod(0o700)
    assert path.read_bytes().endswith(code.read_bytes())
    if emulator is None and name != os.uname().machine:
        pytest.skip("the programs of %s need not run here" % name)
    start = ([need(emulator)] if emulator else []) + [str(path)]
    (tmp_path / "text").write_text("no program")
    (tmp_path / "text").chmod(0o700)
    commands = [["/bin/sh", "-c", "exit 3"], ["/nowhere"], [str(tmp_path / "text")]]
    statuses = in_main_thread(ADOPTER, *[json.dumps(start + command) for command in commands])
    assert statuses.split() == ["3", "127", "126"]
    if not emulator and os.getuid():            # there can be no more processes: root may have any number
        assert subprocess.call([sys.executable, "-c", ALONE] + start + commands[0]) == 125


def test_a_machine_without_a_starter():
    with pytest.raises(program_under_test.EngineRefusedError):
        program_under_test.Starter.program("vax")
