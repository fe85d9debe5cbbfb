"""GPUs and other devices: `run --gpus`, `--nvidia`, `--device`, `setup --nvidia`, NVIDIA's variables, CDI files.

The host that has them is made up: tiny files in the place of a driver, shown to udocker by bubblewrap at the paths
where hosts have theirs, with /dev/null and /dev/zero for device nodes.
"""
import importlib.util
import json
import os
import platform
import struct
import subprocess
import time

import pytest

from conftest import MODES, need, why_not, working
from program import Program

VERSION = "550.54.14"
ABI = {"x86_64": 0x0303, "aarch64": 0x0A03, "ppc64le": 0x0503, "s390x": 0x0403}.get(platform.machine(), 0x1003)
LIBRARIES = ("libcuda libnvidia-ml libnvidia-ptxjitcompiler libnvidia-unheard-of libnvcuvid libnvidia-opticalflow "
             "libGLX_nvidia libnvidia-ngx libGL").split()
LINKS = {"libcuda.so.1": "libcuda", "libnvidia-ml.so.1": "libnvidia-ml", "libGLX_nvidia.so.0": "libGLX_nvidia",
         "libnvidia-opticalflow.so.1": "libnvidia-opticalflow"}
OTHERS = ("libc.so.6", "libGL.so.1.7.0", "libGLdispatch.so.0.0.0", "libcuda.so.535.1.1", "libnvidia-nvvm70.so.4",
          "libnvidia-egl-gbm.so.1.1.1")
INSIDE = "/usr/local/nvidia"


def table(entries, start):
    """An ld.so.cache with its newer header, of (flags, name, path), that begins at `start` of the file."""
    strings, rows, offset = b"", b"", 48 + 24 * len(entries)
    for flags, name, path in entries:
        places = []
        for word in (name, path):
            places.append(offset + len(strings))
            strings += os.fsencode(str(word)) + b"\0"
        rows += struct.pack("=iIIIQ", flags, places[0], places[1], 0, 0)
    return b"glibc-ld.so.cache1.1" + struct.pack("=II16x4x", len(entries), len(strings)) + rows + strings


def old_table(entries):
    """The same with the older header alone."""
    strings, rows = b"", b""
    for flags, name, path in entries:
        places = []
        for word in (name, path):
            places.append(len(strings))
            strings += os.fsencode(str(word)) + b"\0"
        rows += struct.pack("=iII", flags, *places)
    return b"ld.so-1.7.0\0" + struct.pack("=I", len(entries)) + rows + strings


def combined_table(entries):
    """The newer one behind an older one with an entry of its own, as ldconfig wrote it for years."""
    head = b"ld.so-1.7.0\0" + struct.pack("=I", 1) + struct.pack("=iII", 3, 0, 0)
    return head.ljust(32, b"\0") + table(entries, 32)


class Machine:
    """A made-up host: what is in `directory` appears in its place to the programs that are run on it."""

    FIRMWARE = "/lib/firmware"

    def __init__(self, directory):
        self.directory = directory
        for name in "etc/cdi lib/vdpau lib32 sbin run firmware proc etc/OpenCL/vendors etc/vulkan/icd.d mps".split():
            (directory / name).mkdir(parents=True)
        for name in "passwd group nsswitch.conf hosts".split():
            with open("/etc/" + name, "rb") as file:
                (directory / "etc" / name).write_bytes(file.read())
        self.nodes = {"nvidiactl": "null", "nvidia-uvm": "null", "nvidia0": "null", "nvidia1": "zero"}
        self.node_directories = ["nvidia-caps", "dri"]

    def install_driver(self):
        lib = self.directory / "lib"
        for stem in LIBRARIES:
            (lib / ("%s.so.%s" % (stem, VERSION))).write_text(stem)
        (lib / "vdpau" / ("libvdpau_nvidia.so." + VERSION)).write_text("vdpau")
        for name in OTHERS:
            (lib / name).write_text("another")
        for name, stem in LINKS.items():
            (lib / name).symlink_to("%s.so.%s" % (stem, VERSION))
        (self.directory / "lib32" / ("libcuda.so." + VERSION)).write_text("small")
        (self.directory / "lib32" / "libcuda.so.1").symlink_to("libcuda.so." + VERSION)
        program = self.directory / "sbin/nvidia-smi"
        program.write_text("#!/bin/sh\necho the interface\n")
        program.chmod(0o755)
        (self.directory / "etc/OpenCL/vendors/nvidia.icd").write_text("libnvidia-opencl.so.1\n")
        (self.directory / "etc/vulkan/icd.d/nvidia_icd.json").write_text("{}")
        (self.directory / "proc/version").write_text(
            "NVRM version: NVIDIA UNIX x86_64 Kernel Module  %s  Thu Feb 22 01:44:30 UTC 2024\n" % VERSION)
        self.write_cache(table(self.entries(), 0))
        return self

    def install_gpus(self, *models):
        """Their minor numbers are not in the order of the bus."""
        for number, model in enumerate(models):
            directory = self.directory / "proc/gpus" / ("0000:%02x:00.0" % number)
            directory.mkdir(parents=True)
            (directory / "information").write_text("Model: \t\t %s\nGPU UUID: \t GPU-aa%d\nDevice Minor: \t %d\n" % (
                model, number, len(models) - 1 - number))
        return self

    def entries(self):
        lib = self.directory / "lib"
        return [(3, "libcuda.so.1", self.directory / "lib32/libcuda.so.1"), (ABI, "libother.so.6", lib / "libc.so.6"),
                (ABI, "libcuda.so.1", lib / "libcuda.so.1")]

    def write_cache(self, data):
        (self.directory / "etc/ld.so.cache").write_bytes(data)

    def write_spec(self, name, document):
        text = document if isinstance(document, str) else json.dumps(document)
        (self.directory / "etc/cdi" / name).write_text(text)

    @property
    def entry(self):
        """The words before a command that run it on this machine."""
        top = str(self.directory)
        words = ["bwrap", "--dev-bind", "/", "/", "--ro-bind", top + "/etc", "/etc", "--ro-bind", top + "/sbin",
                 "/usr/local/sbin", "--tmpfs", "/proc/driver", "--ro-bind", top + "/proc", "/proc/driver/nvidia",
                 "--tmpfs", "/run", "--ro-bind", top + "/run", "/run/nvidia-persistenced", "--tmpfs", "/dev"]
        if os.path.isdir(self.FIRMWARE):
            words += ["--tmpfs", self.FIRMWARE, "--ro-bind", top + "/firmware", self.FIRMWARE + "/nvidia/" + VERSION]
        for guest, source in dict({name: name for name in ("null", "zero", "urandom")}, **self.nodes).items():
            words += ["--dev-bind", "/dev/" + source, "/dev/" + guest]
        return words + [word for name in self.node_directories for word in ("--dir", "/dev/" + name)]

    def program(self, home):
        return Program(home, self.entry + Program(home).entry)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory, images):
    """A home with a container of busybox, named box, that only these tests use."""
    program = Program(tmp_path_factory.mktemp("gpu"))
    program.ok("pull", images.host + "/lab/busybox")
    program.ok("create", "--name=box", images.host + "/lab/busybox")
    return program


@pytest.fixture
def machine(tmp_path):
    """A machine without a driver."""
    need("bwrap")
    made = Machine(tmp_path / "machine")
    reason = why_not(made.entry + ["true"])
    if reason:
        pytest.skip("bubblewrap cannot make up a host here: " + reason)
    return made


@pytest.fixture
def gpu_machine(machine):
    """A machine with a driver and two GPUs."""
    return machine.install_driver().install_gpus("NVIDIA A100", "NVIDIA A100")


@pytest.fixture(params=MODES)
def box(request, gpu_machine, prepared, broken_modes):
    """The program on the machine with GPUs, in P1 and N1."""
    return gpu_machine.program(prepared.home).with_env(
        UDOCKER_DEFAULT_EXECUTION_MODE=working(request.param, broken_modes))


@pytest.fixture
def one_box(gpu_machine, prepared):
    """The same in the default mode, for what no mode has to do with."""
    return gpu_machine.program(prepared.home)


@pytest.fixture
def image(prepared):
    """image(NAME=value): from now on the container's image has these variables."""
    path = prepared.store / "containers/box/container.json"
    text = path.read_text()

    def set_variables(**variables):
        document = json.loads(text)
        document["config"]["Env"] += ["%s=%s" % pair for pair in variables.items()]
        path.write_text(json.dumps(document))
    yield set_variables
    path.write_text(text)


def variables(box, *arguments, **options):
    """The environment of a command in the container."""
    lines = box.ok("run", *arguments, "box", "env", **options).out.splitlines()
    return dict(line.split("=", 1) for line in lines)


def libraries(box, *arguments, directory="lib64"):
    result = box.ok("run", *arguments, "box", "sh", "-c", "ls %s/%s 2>/dev/null; true" % (INSIDE, directory))
    return set(result.out.split())


# What appears

def test_the_driver_appears(box):
    script = ("nvidia-smi; cd %s/lib64; cat libcuda.so libcuda.so.1 libvdpau_nvidia.so.*; echo;"
              " ls -l /dev/nvidia0 /dev/nvidiactl | cut -c1; cat /etc/OpenCL/vendors/nvidia.icd" % INSIDE)
    result = box.ok("run", "--gpus=all,capabilities=all", "box", "sh", "-c", script)
    assert result.out == "the interface\nlibcudalibcudavdpau\nc\nc\nlibnvidia-opencl.so.1\n"
    assert result.err == ""


@pytest.mark.parametrize("option", ["--gpus=all", "--nvidia", "--device=nvidia.com/gpu=all"])
def test_search_paths(box, option):
    found = variables(box, option, "-e", "LD_LIBRARY_PATH=/own")
    assert found["LD_LIBRARY_PATH"] == INSIDE + "/lib64:/own" and found["PATH"].endswith(":%s/bin" % INSIDE)
    assert found["NVIDIA_VISIBLE_DEVICES"] == "all" and "CUDA_VISIBLE_DEVICES" not in found


ALWAYS = {"libnvidia-unheard-of.so." + VERSION}
UTILITY = {"libnvidia-ml.so.1", "libnvidia-ml.so." + VERSION}
COMPUTE = {"libcuda.so", "libcuda.so.1", "libcuda.so." + VERSION, "libnvidia-ptxjitcompiler.so." + VERSION,
           "libnvidia-nvvm70.so.4"}
VIDEO = {"libnvcuvid.so." + VERSION, "libvdpau_nvidia.so." + VERSION, "libnvidia-opticalflow.so",
         "libnvidia-opticalflow.so.1", "libnvidia-opticalflow.so." + VERSION}
GRAPHICS = {"libGLX_nvidia.so.0", "libGLX_indirect.so.0", "libGLX_nvidia.so." + VERSION, "libnvidia-egl-gbm.so.1.1.1"}
NGX = {"libnvidia-ngx.so." + VERSION}


@pytest.mark.parametrize("option, wanted", [
    ("--gpus=all", UTILITY | COMPUTE),
    ("--gpus=all,capabilities=utility", UTILITY),
    ('--gpus=all,"capabilities=compute,video"', COMPUTE | VIDEO),
    ("--gpus=all,capabilities=display,ngx", GRAPHICS | NGX),
    ("--gpus=all,capabilities=gpu", UTILITY | COMPUTE),
    ("--gpus=all,capabilities=all", UTILITY | COMPUTE | VIDEO | GRAPHICS | NGX),
])
def test_libraries_by_capability(one_box, option, wanted):
    """Never those of another version, and never the front ends of OpenGL."""
    assert libraries(one_box, option) == wanted | ALWAYS


@pytest.mark.parametrize("value, wanted", [
    ("utility", UTILITY), ("video, utility", VIDEO | UTILITY), ("", UTILITY | COMPUTE), ("nonsense", UTILITY | COMPUTE),
])
def test_capabilities_of_the_image(one_box, image, value, wanted):
    image(NVIDIA_DRIVER_CAPABILITIES=value)
    assert libraries(one_box, "--gpus=all") == wanted | ALWAYS


def test_libraries_of_32_bits_only_when_asked_for(one_box):
    if platform.machine() != "x86_64":
        pytest.skip("only this machine has them")
    assert libraries(one_box, "--nvidia", directory="lib") == set()
    assert libraries(one_box, "--gpus=all,capabilities=compat32,compute", directory="lib") == {
        "libcuda.so", "libcuda.so.1", "libcuda.so." + VERSION}


@pytest.mark.parametrize("write", [lambda entries: table(entries, 0), combined_table, old_table],
                         ids=["new", "combined", "old"])
def test_formats_of_the_loaders_cache(one_box, gpu_machine, write):
    gpu_machine.write_cache(write(gpu_machine.entries()))
    assert "libcuda.so.1" in libraries(one_box, "--nvidia")


def damaged_caches():
    good = table([(ABI, "libcuda.so.1", "/nowhere/libcuda.so.1")], 0)
    yield b""
    yield b"libcuda.so.1\0" * 9
    yield good[:40] + b"libcuda.so.1\0"
    yield good[:20] + b"\xff" * 4 + good[24:]
    yield good[:52] + b"\xff" * 8 + good[60:]
    yield b"ld.so-1.7.0\0" + b"\xff" * 4 + b"libcuda.so.1\0"
    yield good


@pytest.mark.parametrize("data", list(damaged_caches()), ids=lambda data: str(len(data)))
def test_a_damaged_cache_is_no_driver(one_box, gpu_machine, data):
    gpu_machine.write_cache(data)
    assert "has no NVIDIA driver" in one_box.fails(125, "run", "--nvidia", "box", "true").err


def test_without_the_hosts_dev_only_the_chosen_nodes_appear(box):
    """The first GPU on the bus has the second node."""
    if box.env["UDOCKER_DEFAULT_EXECUTION_MODE"] == "R1":
        pytest.skip("runC and crun do not work without the host's /dev")
    result = box.ok("run", "--nosysdirs", "--gpus=device=0", "box", "sh", "-c",
                    'for node in /dev/nvidia*; do [ -c $node ] && echo "$node"; done; ls -d /dev/nvidia-caps')
    assert result.out.split() == ["/dev/nvidia-uvm", "/dev/nvidia1", "/dev/nvidiactl", "/dev/nvidia-caps"]


def test_numbers_of_a_batch_system_name_no_nodes(one_box):
    """They may count what its cgroup allows alone, from 0 on."""
    result = one_box.ok("run", "--nosysdirs", "--gpus=device=0", "box", "sh", "-c",
                        "for node in /dev/nvidia[0-9]; do [ -c $node ] && echo $node; done",
                        env={"CUDA_VISIBLE_DEVICES": "0"})
    assert result.out.split() == ["/dev/nvidia0", "/dev/nvidia1"]


def test_the_kernels_version_decides_among_several(one_box, gpu_machine):
    """CUDA's compatibility package may be known to the loader too."""
    compat = gpu_machine.directory / "compat"
    compat.mkdir()
    (compat / "libcuda.so.570.10").write_text("newer")
    (compat / "libcuda.so.1").symlink_to("libcuda.so.570.10")
    gpu_machine.write_cache(table([(ABI, "libcuda.so.1", compat / "libcuda.so.1")] + gpu_machine.entries(), 0))
    assert libraries(one_box, "--nvidia") == UTILITY | COMPUTE | ALWAYS


def test_what_else_the_driver_needs(box, gpu_machine):
    """The pipes of CUDA's multi-process service, and what the kernel tells where /proc does not appear; sockets."""
    (gpu_machine.directory / "run/socket").write_text("")
    pipes = gpu_machine.directory / "mps"
    (pipes / "control").write_text("a pipe")
    env = {"CUDA_MPS_PIPE_DIRECTORY": str(pipes)}
    script = "cat $CUDA_MPS_PIPE_DIRECTORY/control; ls /proc/driver/nvidia; ls /run/nvidia-persistenced"
    result = box.ok("run", "--nvidia", "--nosysdirs", "box", "sh", "-c", script, env=env)
    assert result.out == "a pipegpus\nversion\nsocket\n"


def test_firmware(one_box, gpu_machine):
    if not os.path.isdir(gpu_machine.FIRMWARE):
        pytest.skip("this host has no %s" % gpu_machine.FIRMWARE)
    (gpu_machine.directory / "firmware/gsp_ga10x.bin").write_text("firmware")
    assert one_box.ok("run", "--nvidia", "box", "ls", "/lib/firmware/nvidia/" + VERSION).out == "gsp_ga10x.bin\n"


def test_a_driver_that_hides_its_version(one_box, gpu_machine):
    lib = gpu_machine.directory / "plain"
    lib.mkdir()
    for name in "libcuda.so.1", "libnvidia-ml.so.1", "libother.so.1":
        (lib / name).write_text("")
    (gpu_machine.directory / "proc/version").unlink()
    gpu_machine.write_cache(table([(ABI, "libcuda.so.1", lib / "libcuda.so.1")], 0))
    assert libraries(one_box, "--nvidia") == {"libcuda.so", "libcuda.so.1", "libnvidia-ml.so.1"}


def test_what_the_user_does_not_want_stays_out(one_box):
    icd = "/etc/OpenCL/vendors/nvidia.icd"
    script = "[ -s %s ] && echo there" % icd
    assert one_box.ok("run", "--nvidia", "box", "sh", "-c", script).out == "there\n"
    assert one_box("run", "--nvidia", "--novol=" + icd, "box", "sh", "-c", script).status == 1


def test_links_that_cannot_be_kept(gpu_machine, prepared, image, tmp_path):
    """An order that cannot be carried out is an error, an image's wish a warning."""
    home = tmp_path / "home"
    (home / ".udocker").mkdir(parents=True)
    (home / ".udocker/.proofs").write_text("a file")
    (home / ".udocker/containers").symlink_to(prepared.store / "containers")
    program = gpu_machine.program(home)
    assert "cannot be kept" in program.fails(125, "run", "--nvidia", "box", "true").err
    image(NVIDIA_VISIBLE_DEVICES="all")
    result = program.ok("run", "box", "echo", "runs")
    assert result.out == "runs\n" and "warning: links" in result.err


def test_nothing_of_the_driver_stays_in_the_tree(box, prepared):
    tree = prepared.store / "containers/box/ROOT"
    box.ok("run", "--gpus=all", "box", "true")
    left = [path for path in tree.glob("usr/local/**/*") if not path.is_dir()]
    assert left == [] and box.fails(127, "run", "box", "nvidia-smi")


def test_many_runs_at_once_share_the_links(one_box, prepared):
    directory = prepared.store / ".proofs"
    for path in directory.glob("links-*"):
        subprocess.run(["rm", "-r", str(path)], check=True)
    processes = [one_box.start("run", "--nvidia", "box", "cat", INSIDE + "/lib64/libcuda.so.1",
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) for _ in range(6)]
    assert [process.communicate()[0] for process in processes] == [b"libcuda"] * 6
    assert len(list(directory.glob("links-*"))) == 1 and not list(directory.glob(".new-*"))


def test_links_that_nobody_uses_any_more_are_pruned(one_box, prepared):
    """Each use within the time keeps them."""
    one_box.ok("run", "--nvidia", "box", "true")
    links = max((prepared.store / ".proofs").glob("links-*"), key=lambda path: path.stat().st_mtime)
    long_ago = time.time() - 40 * 86400
    os.utime(str(links), (long_ago, long_ago))
    one_box.ok("run", "--nvidia", "box", "true")
    prepared.ok("prune")
    assert links.exists()
    os.utime(str(links), (long_ago, long_ago))
    prepared.ok("prune")
    assert not links.exists()


def test_forward_compatibility(one_box, gpu_machine, prepared):
    """The image's own CUDA library goes first where it is newer than the driver, but not on cards for games."""
    compat = prepared.store / "containers/box/ROOT/usr/local/cuda/compat"
    compat.mkdir(parents=True)
    paths = {}
    for version in "550.99.01", "570.10":
        (compat / ("libcuda.so." + version)).write_text("")
        paths[version] = variables(one_box, "--nvidia")["LD_LIBRARY_PATH"]
    for info in (gpu_machine.directory / "proc/gpus").glob("*/information"):
        info.write_text("Model: \t NVIDIA GeForce RTX 3060\n")
    paths["GeForce"] = variables(one_box, "--nvidia")["LD_LIBRARY_PATH"]
    subprocess.run(["rm", "-r", str(compat.parent)], check=True)
    own = INSIDE + "/lib64"
    assert paths == {"550.99.01": own, "570.10": "/usr/local/cuda/compat:" + own, "GeForce": own}


# Which GPUs

@pytest.mark.parametrize("arguments, host, nvidia, cuda", [
    (["--gpus=all"], None, "all", None),
    (["--gpus=-1"], None, "all", None),
    (["--gpus", "1"], None, "0", "0"),
    (["--gpus=count=2"], None, "0,1", "0,1"),
    (["--gpus=device=1"], None, "1", "1"),
    (["--gpus=device=0,1"], None, "0,1", "0,1"),
    (['--gpus="device=1,0"'], None, "1,0", "1,0"),
    (["--gpus=device=GPU-aa1"], None, "GPU-aa1", "GPU-aa1"),
    (["--gpus=device=MIG-12ab"], None, "MIG-12ab", "MIG-12ab"),
    (["--gpus=driver=nvidia,count=1,capabilities=utility"], None, "0", "0"),
    (["--device=nvidia.com/gpu=0", "--device=nvidia.com/gpu=1"], None, "0,1", "0,1"),
    (["--nvidia", "-e", "NVIDIA_VISIBLE_DEVICES=1"], None, "1", "1"),
    (["-e", "NVIDIA_VISIBLE_DEVICES=nvidia.com/gpu=1"], None, "nvidia.com/gpu=1", "1"),
    (["-e", "NVIDIA_VISIBLE_DEVICES=none"], None, "none", "-1"),
    # what the batch system gave is never exceeded
    (["--gpus=all"], "1", "1", "1"),
    (["--gpus=1"], "1,0", "1", "1"),
    (["--gpus=device=GPU-aa1"], "1", "GPU-aa1", "GPU-aa1"),
    (["--nvidia"], "", "none", "-1"),
    (["--gpus=all"], "NoDevFiles", "none", "-1"),
    (["--nvidia", "-e", "CUDA_VISIBLE_DEVICES=7"], "1", "1", "7"),
])
def test_which_gpus(one_box, arguments, host, nvidia, cuda):
    env = {} if host is None else {"CUDA_VISIBLE_DEVICES": host}
    found = variables(one_box, *arguments, env=env)
    assert (found["NVIDIA_VISIBLE_DEVICES"], found.get("CUDA_VISIBLE_DEVICES")) == (nvidia, cuda)
    assert found.get("CUDA_DEVICE_ORDER") == ("PCI_BUS_ID" if cuda is not None and host is None else None)


@pytest.mark.parametrize("arguments, host, words", [
    (["--gpus=3"], None, "there are 2"),
    (["--gpus=2"], "0", "there are 1"),
    (["--gpus=1"], "NoDevFiles", "there are 0"),
    (["--gpus=device=2"], None, "GPU 2"),
    (["--gpus=device=GPU-no"], None, "GPU-no"),
    (["--gpus=device=0"], "1", "not among those"),
    (["-e", "NVIDIA_VISIBLE_DEVICES=0"], "1", "not among those"),
])
def test_gpus_that_cannot_be_had(one_box, arguments, host, words):
    env = {} if host is None else {"CUDA_VISIBLE_DEVICES": host}
    assert words in one_box.fails(125, "run", *arguments, "box", "true", env=env).err


@pytest.mark.parametrize("option", [
    "--env=NVIDIA_VISIBLE_DEVICES=0:1", "--env=NVIDIA_VISIBLE_DEVICES=x",
    "--gpus=", "--gpus=none", "--gpus=0", "--gpus=-2", "--gpus=1.5", "--gpus=all,2", "--gpus=²", "--gpus=9999999999",
    "--gpus=all,device=0", "--gpus=device=", "--gpus=device=x", "--gpus=device=0:1", "--gpus=device=0,count=1",
    "--gpus=device=0,device=1", "--gpus=driver=amd", "--gpus=capabilities=cuda", "--gpus=options=x", '--gpus="all',
    "--gpus=all,", "--device=", "--device=x", "--device=nvidia.com/gpu", "--device=nvidia.com/gpu=x",
    "--device=nvidia.com/gpu=0:1", "--device=/dev/null:x", "--device=/dev/null:/a:rwx", "--device=/dev/null:/a:/b",
    "--device=/etc/passwd", "--device=/dev/stdin:/dev/other", "--device=/dev/null:/",
])
def test_nonsense_is_refused_before_anything_is_done(udocker, option):
    udocker.fails(2, "run", option, "absent", "true")
    assert not udocker.store.exists()


def test_one_of_gpus_and_device_is_enough(udocker):
    udocker.fails(2, "run", "--gpus=all", "--device=nvidia.com/gpu=0", "absent")


# Without a driver, and with a poor one

@pytest.mark.parametrize("option", ["--gpus=all", "--nvidia", "--device=nvidia.com/gpu=all"])
def test_a_host_without_a_driver(machine, prepared, option):
    result = machine.program(prepared.home).fails(125, "run", option, "box", "true")
    assert "this host has no NVIDIA driver" in result.err and "hint: " in result.err


@pytest.mark.parametrize("asked", [
    {"NVIDIA_VISIBLE_DEVICES": "all"}, {"NVIDIA_VISIBLE_DEVICES": "0:1"}, {"CUDA_VERSION": "8.0"},
])
def test_an_image_for_gpus(machine, prepared, image, asked):
    """Silence without a driver, the driver with one; the image's word is no order, so nothing of it is an error."""
    image(**asked)
    program = machine.program(prepared.home)
    result = program.ok("run", "box", "true")
    assert (result.out, result.err) == ("", "")
    machine.install_driver()
    assert libraries(program) == UTILITY | COMPUTE | ALWAYS


@pytest.mark.parametrize("said", [
    {}, {"NVIDIA_VISIBLE_DEVICES": "void"}, {"NVIDIA_VISIBLE_DEVICES": ""},
    {"CUDA_VERSION": "12.4", "NVIDIA_REQUIRE_CUDA": "cuda>=12.4"},
    {"CUDA_VERSION": "12.4", "NVIDIA_VISIBLE_DEVICES": "void"},
])
def test_an_image_not_for_gpus(one_box, image, said):
    image(**said)
    assert libraries(one_box) == set()


def test_an_image_gets_no_more_than_the_batch_system_gave(one_box, image):
    image(NVIDIA_VISIBLE_DEVICES="0")
    assert variables(one_box, env={"CUDA_VISIBLE_DEVICES": "1"})["CUDA_VISIBLE_DEVICES"] == "1"


@pytest.mark.parametrize("conditions, is_met", [
    ("cuda>=12.4", True), ("cuda>=12.5", False), ("cuda>=11.0 brand=tesla,driver<400", True),
    ("cuda>=12.6 driver>=600", False), ("cuda>=12.6 brand=tesla,driver>=535", True), ("driver>=550,driver<551", True),
    ("driver=550.54", False), ("driver!=550.54.14", False), ("arch>=9.9", True), ("nonsense", True), ("", True),
    pytest.param("cuda<" + "9" * 5000, True, id="many digits"),
    pytest.param("cuda>=" + "9" * 5000, False, id="too many digits"),
])
def test_requirements_of_the_image(one_box, image, conditions, is_met):
    """An order that cannot be met is an error, an image's wish a warning, and it can be overruled."""
    image(NVIDIA_REQUIRE_CUDA=conditions, NVIDIA_VISIBLE_DEVICES="all")
    if is_met:
        assert one_box.ok("run", "--nvidia", "box", "true").err == ""
        return
    assert "NVIDIA_REQUIRE_CUDA" in one_box.fails(125, "run", "--nvidia", "box", "true").err
    assert "warning: the image asks for" in one_box.ok("run", "box", "true").err
    assert one_box.ok("run", "--nvidia", "-e", "NVIDIA_DISABLE_REQUIRE=1", "box", "true").err == ""


@pytest.mark.parametrize("change, words", [
    (lambda machine: machine.nodes.pop("nvidia-uvm"), "nvidia-modprobe"),
    (lambda machine: machine.nodes.pop("nvidiactl"), "no NVIDIA GPU can be used"),
    (lambda machine: (machine.directory / "proc/version").write_text("NVRM: x Module  535.1.2  x\n"), "535.1.2"),
], ids=["uvm", "control", "module"])
def test_what_will_not_work_is_told(gpu_machine, prepared, image, change, words):
    change(gpu_machine)
    program = gpu_machine.program(prepared.home)
    assert words in program.ok("run", "--nvidia", "box", "true").err
    image(NVIDIA_VISIBLE_DEVICES="all")
    assert program.ok("run", "box", "true").err == ""


# setup --nvidia

def test_the_mark_of_setup(machine, prepared):
    program = machine.program(prepared.home)
    assert program.ok("setup", "--nvidia", "box").out == ""
    try:
        result = program.ok("run", "box", "echo", "runs")
        assert result.out == "runs\n" and "warning: this host has no NVIDIA driver" in result.err
        machine.install_driver()
        assert "libcuda.so.1" in libraries(program)
        assert libraries(program, "-e", "NVIDIA_VISIBLE_DEVICES=void") == set()
        prepared.ok("clone", "--name=copy", "box")
        prepared.ok("export", "--clone", "-o", "copy.tar", "box")
        prepared.ok("import", "--clone", "--name=again", "copy.tar")
        for name in "copy", "again":
            assert "libcuda.so.1" in program.ok("run", name, "ls", INSIDE + "/lib64").out
            prepared.ok("rm", name)
    finally:
        program.ok("setup", "--purge", "box")
    assert libraries(program) == set()
    assert prepared.ok("setup", "box").out.strip() in MODES, "the mode is another matter"


# CDI files

def spec(machine, **changes):
    """A CDI file as nvidia-ctk writes them, with one GPU."""
    lib = str(machine.directory / "lib")
    return dict({"cdiVersion": "0.5.0", "kind": "nvidia.com/gpu", "devices": [
        {"name": "0", "containerEdits": {"deviceNodes": [{"path": "/dev/nvidia0"}]}},
    ], "containerEdits": {
        "env": ["NVIDIA_VISIBLE_DEVICES=void", "LAB=from the file"],
        "deviceNodes": [{"path": "/dev/nvidiactl", "hostPath": "/dev/zero"}],
        "mounts": [
            {"hostPath": lib + "/libcuda.so." + VERSION, "containerPath": "/usr/lib64/libcuda.so." + VERSION,
             "options": ["ro", "rbind"]},
            {"hostPath": lib + "/libnvcuvid.so." + VERSION, "containerPath": "/opt/own/libnvcuvid.so.1"},
            {"hostPath": str(machine.directory / "sbin/nvidia-smi"), "containerPath": "/usr/bin/nvidia-smi"},
            {"hostPath": "/usr/bin", "containerPath": "/opt/own/programs", "options": ["ro"]},
        ],
        "hooks": [
            {"hookName": "createContainer", "path": "/usr/bin/nvidia-ctk", "args": [
                "nvidia-ctk", "hook", "create-symlinks", "--link", "libcuda.so.1::/usr/lib64/libcuda.so",
                "--link", "libcuda.so.%s::/usr/lib64/libcuda.so.1" % VERSION,
                "--link=../libcuda.so.1::/usr/lib64/gbm/nvidia-drm_gbm.so"]},
            {"hookName": "createContainer", "path": "/usr/bin/nvidia-ctk", "args": [
                "nvidia-ctk", "hook", "update-ldcache", "--folder", "/usr/lib64", "--folder=/opt/own"]},
            {"hookName": "createContainer", "path": "/usr/bin/nvidia-ctk", "args": ["nvidia-ctk", "hook", "chmod"]},
        ]}}, **changes)


@pytest.mark.parametrize("name", ["0", "all"])
def test_a_cdi_file(box, gpu_machine, name):
    gpu_machine.write_spec("nvidia.json", spec(gpu_machine))
    script = ("cd %s/lib64; ls; cat libcuda.so libcuda.so.1 /opt/own/libnvcuvid.so.1 /usr/lib64/gbm/nvidia-drm_gbm.so;"
              " echo; nvidia-smi; echo $LAB; echo $LD_LIBRARY_PATH; echo $NVIDIA_VISIBLE_DEVICES" % INSIDE)
    result = box.ok("run", "--device=nvidia.com/gpu=" + name, "box", "sh", "-c", script)
    assert result.out.split("\n") == [
        "libcuda.so", "libcuda.so.1", "libcuda.so." + VERSION, "libcudalibcudalibnvcuvidlibcuda", "the interface",
        "from the file", INSIDE + "/lib64:/opt/own", "void", ""]
    assert result.err == ""


def test_the_users_variables_win_over_a_cdi_files(one_box, gpu_machine):
    gpu_machine.write_spec("nvidia.json", spec(gpu_machine))
    found = variables(one_box, "--device=nvidia.com/gpu=0", "-e", "LAB=mine", env={"CUDA_VISIBLE_DEVICES": "0,1"})
    assert (found["LAB"], found["CUDA_VISIBLE_DEVICES"]) == ("mine", "0")


def test_devices_of_any_vendor(box, gpu_machine):
    gpu_machine.write_spec("lab.json", spec(gpu_machine, kind="lab.example/sensor", devices=[
        {"name": "one", "containerEdits": {"deviceNodes": [{"path": "/dev/sensor", "hostPath": "/dev/zero"}]}}],
        containerEdits={}))
    assert box.ok("run", "--device=lab.example/sensor=one", "box", "head", "-c2", "/dev/sensor").out == "\0\0"
    result = box.fails(125, "run", "--device=lab.example/sensor=two", "box", "true")
    assert "there are one" in result.err


def test_a_gpu_that_no_cdi_file_names_comes_from_the_drivers_files(one_box, gpu_machine):
    gpu_machine.write_spec("nvidia.json", spec(gpu_machine))
    assert "libcuda.so.1" in libraries(one_box, "--device=nvidia.com/gpu=1")
    assert variables(one_box, "--device=nvidia.com/gpu=1")["CUDA_VISIBLE_DEVICES"] == "1"


def test_a_cdi_file_that_is_older_than_the_driver(one_box, gpu_machine):
    gpu_machine.write_spec("nvidia.json", spec(gpu_machine))
    (gpu_machine.directory / "lib" / ("libcuda.so." + VERSION)).unlink()
    assert "older than the driver" in one_box.ok("run", "--device=nvidia.com/gpu=0", "box", "true").err


@pytest.mark.parametrize("text", [
    "", "{", "[]", "nonsense", '{"kind": 1}', '{"kind": "nvidia.com/gpu", "devices": {}}',
    '{"kind": "nvidia.com/gpu", "devices": [1]}', '{"kind": "nvidia.com/gpu", "devices": [{"name": ["0"]}]}',
    '{"kind": "nvidia.com/gpu", "devices": [{"name": "0", "containerEdits": 1}]}', "[" * 100000,
], ids=lambda text: text[:60])
def test_a_broken_cdi_file_is_passed_over(one_box, gpu_machine, text):
    gpu_machine.write_spec("broken.json", text)
    result = one_box.ok("run", "--device=nvidia.com/gpu=0", "box", "true")
    assert result.err.count("\n") == 1 and "/etc/cdi/broken.json: passed over" in result.err


@pytest.mark.parametrize("edits", [
    {"mounts": 1}, {"mounts": [1]}, {"mounts": [{"hostPath": "/etc"}]},
    {"mounts": [{"hostPath": "/etc", "containerPath": "/"}]}, {"mounts": [{"hostPath": 1, "containerPath": "/a"}]},
    {"deviceNodes": [{"path": "relative"}]}, {"hooks": {"a": 1}},
])
def test_a_device_that_says_nonsense(one_box, gpu_machine, edits):
    gpu_machine.write_spec("nvidia.json", spec(gpu_machine, containerEdits=edits))
    result = one_box.fails(125, "run", "--device=nvidia.com/gpu=0", "box", "true")
    assert "/etc/cdi/nvidia.json" in result.err


@pytest.mark.skipif(importlib.util.find_spec("yaml") is None, reason="this Python has no yaml module")
@pytest.mark.parametrize("text, value", [("kind: lab.example/thing\ndevices:\n- name: 1one\n  containerEdits:\n"
                                          "    env: [LAB=yaml]\n", "yaml"), ("kind: [", None), ("- list", None)])
def test_yaml_where_python_reads_it(one_box, gpu_machine, text, value):
    gpu_machine.write_spec("lab.yaml", text)
    if value:
        assert variables(one_box, "--device=lab.example/thing=1one")["LAB"] == value
    else:
        assert "/etc/cdi/lab.yaml: passed over" in one_box("run", "--device=lab.example/thing=1one", "box", "env").err


def test_yaml_where_python_does_not_read_it(gpu_machine, prepared):
    """Python without its site packages has no yaml module."""
    gpu_machine.write_spec("lab.yaml", "kind: lab.example/thing")
    entry = Program(prepared.home).entry
    program = Program(prepared.home, gpu_machine.entry + [entry[0], "-S", "-I"] + entry[1:])
    result = program("run", "--device=nvidia.com/gpu=0", "box", "echo", "runs")
    assert result.out == "runs\n" and "warning: /etc/cdi/lab.yaml: passed over, as Python's yaml" in result.err


# Plain devices

def test_a_device_under_another_name(box):
    result = box.ok("run", "--device=/dev/zero:/dev/other:r", "box", "head", "-c2", "/dev/other")
    assert result.out == "\0\0"


def test_a_device_without_the_hosts_dev(box):
    result = box.ok("run", "--nosysdirs", "--device", "/dev/zero", "--device=/dev/null:/dev/hole", "box",
                    "sh", "-c", "head -c2 /dev/zero; echo gone > /dev/hole; ls -l /dev/hole | cut -c1")
    assert result.out == "\0\0c\n"


def test_the_standard_streams_as_devices(prepared, broken_modes):
    """As cwl-utils gives them to JavaScript."""
    options = ["--device=/dev/stdin", "--device=/dev/stdout", "--device=/dev/stderr"]
    for mode in "P1", "N1":
        box = prepared.with_env(UDOCKER_DEFAULT_EXECUTION_MODE=working(mode, broken_modes))
        assert box.ok("run", *options, "box", "sh", "-c", "cat /dev/stdin > /dev/stdout", input=b"in").out == "in"
        assert box.ok("run", "--nosysdirs", *options, "box", "cat", input=b"in").out == "in"


def test_a_device_that_is_not_there(prepared):
    assert "/dev/absent" in prepared.fails(125, "run", "--device=/dev/absent", "box", "true").err


def test_gpus_of_other_makers(gpu_machine, prepared):
    gpu_machine.nodes["kfd"] = "zero"
    box = gpu_machine.program(prepared.home)
    env = {"ROCR_VISIBLE_DEVICES": "1", "HIP_VISIBLE_DEVICES": "1", "ZE_AFFINITY_MASK": "1"}
    assert set(env.items()) <= set(variables(box, "--dri", env=env).items())
    assert set(env.items()) <= set(variables(box, "--device=/dev/kfd", env=env).items())
    assert not set(env) & set(variables(box, env=env))
    result = box.ok("run", "--nosysdirs", "--dri", "box", "sh", "-c", "head -c2 /dev/kfd; ls -d /dev/dri")
    assert result.out == "\0\0/dev/dri\n"


def test_graphics_drivers_are_found_by_the_loaders_cache(one_box, gpu_machine):
    lib = gpu_machine.directory / "lib"
    (lib / "dri").mkdir()
    (lib / "dri/lab_dri.so").write_text("driver")
    (lib / "libGL.so.1").write_text("")
    gpu_machine.write_cache(table(gpu_machine.entries() + [(ABI, "libGL.so.1", lib / "libGL.so.1")], 0))
    assert one_box.ok("run", "--dri", "box", "cat", lib / "dri/lab_dri.so").out == "driver"
