"""Fixtures: the program as its user runs it, real registries with real images, the modes that work here."""
import glob
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

import images as laboratory
from program import PATH, Program
from registries import DockerRegistry

MODES = ("P1", "N1", "R1")          # P2 is P1 with another way of PRoot's: what `every` mode does, it does
FAKECHROOT_MODES = ("F1", "F2", "F3", "F4")
STOCK = sorted(glob.glob("/usr/lib/*/fakechroot/libfakechroot.so"))
# Built from https://github.com/jorge-lip/libfakechroot-glibc-udocker, where somebody did
UDOCKERS = Path("/var/cache/udocker-tests/libfakechroot-udocker.so")
CREDENTIAL = ("green", "secret:word")


def pytest_addoption(parser):
    parser.addoption("--examples", type=int, help="inputs that each parser gets, by chance (default: a few, the same)")
    parser.addoption("--modes", help="the modes to test, separated by commas (default: all)")
    parser.addoption("--sample", choices=["first", "last"], help="of each test with many cases this one alone")


def pytest_collection_modifyitems(config, items):
    which = {"first": 0, "last": -1}.get(config.getoption("sample"))
    if which is None:
        return
    cases = {}
    for item in items:
        cases.setdefault(item.nodeid.partition("[")[0], []).append(item)
    kept = {group[which] for group in cases.values()}
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = [item for item in items if item in kept]


def modes_to_test(config, usual):
    """Those that were asked for, else the usual ones."""
    return config.getoption("modes").split(",") if config.getoption("modes") else list(usual)


def pytest_generate_tests(metafunc):
    if "mode" in metafunc.fixturenames:         # those that need nothing in the container
        modes = modes_to_test(metafunc.config, MODES)
        metafunc.parametrize("mode", [mode for mode in modes if mode not in FAKECHROOT_MODES], indirect=True)
    if "every" in metafunc.fixturenames:
        modes = modes_to_test(metafunc.config, MODES + ("P2",) + FAKECHROOT_MODES)
        modes += [mode + "-udocker" for mode in modes if mode in FAKECHROOT_MODES and UDOCKERS.exists()]
        metafunc.parametrize("every", modes, indirect=True, scope="module")


def need(executable):
    """Skip where the machine lacks an executable; its path."""
    path = shutil.which(executable, path=PATH)
    if not path:
        pytest.skip("%s is not installed" % executable)
    return path


@pytest.fixture(scope="session", autouse=True)
def spread(tmp_path_factory):
    """Has ext4 put each test's directory elsewhere on the disk: for half a minute it steps over what was removed in the
    same place, inode by inode, which would take longer than all else that the tests do. Others know no such flag."""
    if shutil.which("chattr", path=PATH):
        subprocess.call(["chattr", "+T", str(tmp_path_factory.getbasetemp())], stdout=subprocess.DEVNULL,
                        stderr=subprocess.DEVNULL, env={"PATH": PATH})


@pytest.fixture
def udocker(tmp_path):
    """The program with an empty home: udocker("pull", name), udocker.ok(...), udocker.fails(status, ...)."""
    home = tmp_path / "home"
    home.mkdir()
    yield Program(home)
    shutil.rmtree(str(home), ignore_errors=True)        # pytest would keep the trees of its last three runs


@pytest.fixture(scope="session")
def registry(tmp_path_factory):
    """A real registry, empty at first; its host is 127.0.0.1:PORT."""
    need("docker-registry")
    with DockerRegistry(tmp_path_factory.mktemp("registry")) as server:
        yield server


@pytest.fixture(scope="session")
def layout(tmp_path_factory):
    """The OCI layout that the laboratory's images were made in."""
    for tool in laboratory.TOOLS:
        need(tool)
    return laboratory.build(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="session")
def images(registry, layout):
    """The registry with the images of images.RECIPES, lab/busybox:schema2, lab/multi and lab/nested."""
    laboratory.push_all(layout, registry)
    return registry


@pytest.fixture(scope="session")
def stock(tmp_path_factory, images):
    """stock(program) leaves in its empty home what a pull of lab/busybox leaves there, stock(program, name) a container
    of that name as well: copies of what is made once."""
    made = {}

    def copy(program, name=""):
        if name not in made:
            made[name] = Program(tmp_path_factory.mktemp("stock"))
            made[name].ok("pull", images.host + "/lab/busybox")
            if name:
                made[name].ok("create", "--name=" + name, images.host + "/lab/busybox")
        subprocess.run(["cp", "-a", str(made[name].store), str(program.home)], check=True)
    return copy


@pytest.fixture(scope="session")
def private_registry(tmp_path_factory, layout):
    """A registry that asks for a user and a password (CREDENTIAL) and holds lab/busybox."""
    need("htpasswd")
    with DockerRegistry(tmp_path_factory.mktemp("private"), CREDENTIAL) as server:
        laboratory.push(layout, "busybox", server, "lab/busybox:latest")
        yield server


@pytest.fixture(scope="session")
def debian(registry):
    """The reference of the five-layer Debian image, which tests/build-debian-image made as root."""
    if not laboratory.DEBIAN_LAYOUT.is_dir():
        pytest.skip("there is no Debian image: tests/run makes it when it is run by root")
    laboratory.push(laboratory.DEBIAN_LAYOUT, "stable", registry, "lab/debian:stable")
    return registry.host + "/lab/debian:stable"


@pytest.fixture(scope="session")
def proot():
    """The path of a PRoot that contains commands on this host."""
    path = need("proot")
    reason = why_not(["proot", "-r", "/", "-w", "/", "true"])
    if reason:
        pytest.skip("PRoot does not work here: " + reason)
    return path


def why_not(command, **env):
    """What a command that should succeed says when it does not; empty when it does."""
    process = subprocess.Popen(command, env=dict(env, PATH=PATH), stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    out = process.communicate()[0].decode(errors="replace")
    return "" if process.returncode == 0 else out.strip() or "status %d" % process.returncode


@pytest.fixture(scope="session")
def broken_modes(tmp_path_factory):
    """Why a mode cannot work on this host, by mode; found with the engines alone, without the program."""
    root = tmp_path_factory.mktemp("root")
    shutil.copy(need("busybox"), str(root))
    (root / "marker").write_text("")
    inside = ["-r", str(root), "-w", "/", "/busybox", "test", "-e", "/marker"]
    return {
        "P1": why_not([need("proot")] + inside),
        "P2": why_not([need("proot")] + inside, PROOT_NO_SECCOMP="1"),
        "N1": why_not(["unshare", "--map-root-user", "--mount", "mount", "-t", "tmpfs", "none", str(root)]),
        "R1": why_no_runc(tmp_path_factory.mktemp("bundle"), root),
    }


def why_no_runc(bundle, root):
    """Why runC cannot run the smallest container there is."""
    binds = [{"destination": path, "source": path, "type": "bind", "options": ["rbind"]} for path in ("/proc", "/dev")]
    mapping = {"containerID": 0, "size": 1}
    (bundle / "config.json").write_text(json.dumps({
        "ociVersion": "1.0.0", "root": {"path": str(root)}, "mounts": binds,
        "process": {"user": {"uid": 0, "gid": 0}, "cwd": "/", "args": ["/busybox", "test", "-e", "/marker"]},
        "linux": {"namespaces": [{"type": "user"}, {"type": "mount"}],
                  "uidMappings": [dict(mapping, hostID=os.getuid())],
                  "gidMappings": [dict(mapping, hostID=os.getgid())]}}))
    return why_not([need("runc"), "--root", str(bundle / "state"), "run", "--bundle", str(bundle), "probe"])


@pytest.fixture
def mode(request, broken_modes):
    """Each mode that works on this host."""
    return working(request.param, broken_modes)


def working(mode, broken_modes):
    """Skip where the mode cannot work; the mode."""
    if broken_modes[mode]:
        pytest.skip("%s does not work here: %s" % (mode, broken_modes[mode]))
    return mode


@pytest.fixture(scope="session")
def debian_container(tmp_path_factory, debian):
    """A home with a container of the Debian image, named debian; making it takes a while."""
    program = Program(tmp_path_factory.mktemp("debian"))
    program.ok("pull", debian)
    program.ok("create", "--name=debian", debian)
    return program


@pytest.fixture
def debian_box(debian_container, mode):
    """The program with the Debian container, in each mode."""
    return debian_container.with_env(UDOCKER_DEFAULT_EXECUTION_MODE=mode)


@pytest.fixture(scope="session")
def containers(tmp_path_factory, images):
    """A home with containers that tests share; they must leave them as they are."""
    program = Program(tmp_path_factory.mktemp("containers"))
    for image in "busybox", "entry", "user:id", "user:id-and-group":
        reference = "%s/lab/%s" % (images.host, image)
        program.ok("pull", reference)
        program.ok("create", "--name=" + image.replace(":", "-"), reference)
    return program


@pytest.fixture
def box(containers, mode):
    """The program with the shared containers, in each mode."""
    return containers.with_env(UDOCKER_DEFAULT_EXECUTION_MODE=mode)


@pytest.fixture
def namespace_box(containers, broken_modes):
    """The program with the shared containers in N1, for what PRoot cannot do."""
    return containers.with_env(UDOCKER_DEFAULT_EXECUTION_MODE=working("N1", broken_modes))
