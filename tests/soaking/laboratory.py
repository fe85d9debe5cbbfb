"""The place of all soaks: a small store with one of everything, archives and a registry to fill it from, and a program
that something happens to at one of its calls."""
import hashlib
import io
import os
import re
import shutil
import signal
import stat
import struct
import subprocess
import sys
import tarfile
from pathlib import Path

from archives import archive, docker_25, made
from faulty_registry import Answer, BasicGate, FaultyRegistry, Layer
from layers import file, symlink, tar, whiteout
from program import CHECKOUT, TIMEOUT, Program, Result

SOURCE = Path(__file__).resolve().parent / "faults.c"
FAKECHROOT = sorted(Path("/usr/lib").glob("*/fakechroot/libfakechroot.so"))
CREDENTIAL = ("green", "secret:word")
LATER = 31 * 86400     # seconds after which nothing that a killed command left counts as being in use
PROGRAMS = ("/bin/sh", "/bin/cat", "/bin/chown")
DOCKERFILE = """FROM lab/kept:1 AS first
COPY Dockerfile /srv/
RUN cat /etc/os-release /srv/Dockerfile > /both; chown 5:6 /both /srv/Dockerfile 2>/dev/null
FROM lab/gone:1
COPY --from=first /both /
RUN --mount=type=cache,target=/cache cat /both > /cache/x; cat /cache/x > /srv/upper
"""
# The program, for which one more tool was released
RELEASE = """import os, sys
sys.path.insert(0, %r)
try:
    import udocker
except KeyboardInterrupt:
    os._exit(130)
tool = udocker.Tool("proot-test", "0" * 64, %r)
udocker.TOOL_KINDS["proot"].released = {udocker.Host().machine: (tool,)}
udocker.main()
"""


def compiled(directory):
    """The path of the library that makes things happen at a call."""
    path = directory / "faults.so"
    subprocess.run(["gcc", "-O2", "-shared", "-fPIC", "-o", str(path), str(SOURCE), "-ldl"], check=True)
    return path


def guest_tree(directory):
    """A tar of a shell, cat and chown of this host with all that they need, and links of all kinds."""
    found = set(PROGRAMS)
    for program in PROGRAMS:
        found.update(word for word in subprocess.check_output(["ldd", program]).decode().split() if word[0] == "/")
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as writer:
        for path in sorted(found):
            writer.add(os.path.realpath(path), path.lstrip("/"))
        for name in "dev", "proc", "tmp":
            header = tarfile.TarInfo(name)
            header.type, header.mode = tarfile.DIRTYPE, 0o755
            writer.addfile(header)
    links = [symlink("srv/absolute", "/etc/os-release"), symlink("srv/over", "../../../../etc/os-release")]
    return tar(*[target.getvalue().rstrip(b"\0") + bytes(-len(target.getvalue().rstrip(b"\0")) % 512)] + links,
               file("etc/os-release", b"ID=debian\nVERSION_ID=12\n"), file("etc/passwd", b"root:x:0:0::/:/bin/sh\n"))


class Counter:
    """How many calls a program made that the library counts; shared with its processes through a file."""

    def __init__(self, path):
        self.path = path
        self.reset()

    def reset(self):
        self.path.write_bytes(bytes(8))

    @property
    def value(self):
        return struct.unpack("=Q", self.path.read_bytes())[0]


class Laboratory:
    """A home with a store that holds one of everything, made anew for each round.

    It is always at the same path, because converted containers are bound to theirs.
    """

    def __init__(self, directory):
        self.directory = directory
        self.library = compiled(directory)
        self.counter = Counter(directory / "counter")
        self.home, self.template = directory / "home", directory / "template"
        self.base = guest_tree(directory)
        self.upper = tar(file("etc/upper", b"upper\n" * 2000), whiteout("srv/over"), file("srv/upper", b"1"))
        self.registry = FaultyRegistry()
        self.tool = Path(shutil.which("proot") or "/bin/cat").read_bytes()
        (directory / "udocker").write_text(RELEASE % (str(CHECKOUT), hashlib.sha256(self.tool).hexdigest()))
        self.program = Program(self.home, [sys.executable, directory / "udocker"], {
            "UDOCKER_DEFAULT_EXECUTION_MODE": "N1", "UDOCKER_TMPDIR": str(self.home / "tmp"), "UDOCKER_RETRIES": "0",
            **({"UDOCKER_FAKECHROOT_SO": str(FAKECHROOT[0])} if FAKECHROOT else {})})

    def __enter__(self):
        self.registry.__enter__()
        self.host = self.registry.host
        self._make_archives()
        self._make_template()
        return self

    def __exit__(self, *exception):
        self.registry.__exit__(*exception)
        self.clear()
        remove(self.template)

    def _make_archives(self):
        layers = [Layer(self.base), Layer(self.upper)]
        self.registry.add_image(layers, repository="lab/app")
        self.registry.add_image(layers[:1], repository="lab/moved")
        self.registry.add_image([layers[0], Layer(tar(file("etc/moved", b"1")))], repository="lab/moved", tag="new")
        (self.directory / "tree.tar").write_bytes(self.base)
        tools = tar(file("udocker_dir/bin/proot-test", self.tool))
        (self.directory / "tools.tar").write_bytes(tools)
        (self.directory / "context").mkdir()
        (self.directory / "context/Dockerfile").write_text(DOCKERFILE)
        self.registry.always("/tools.tar", Answer(200, tools))
        for name, tars in (("kept", [self.base]), ("app", [self.base, self.upper])):
            image = made(*tars)
            (self.directory / (name + ".tar")).write_bytes(archive(docker_25((image, ["lab/%s:1" % name]))))

    def _make_template(self):
        """Containers: kept, gone, where that can be bundled of mode R1, and converted for F3; images: lab/kept:1,
        lab/gone:1, and one of the registry that has changed there since."""
        self.home.mkdir()
        (self.home / "tmp").mkdir()
        ok = self.program.ok
        ok("load", "-i", self.directory / "kept.tar")
        ok("load", "-i", self.directory / "app.tar", "lab/gone:1")
        ok("pull", self.host + "/lab/moved")
        moved = self.registry.manifests["lab/moved", "new"]
        self.registry.manifests["lab/moved", "latest"] = moved
        for name in "kept", "gone":
            ok("create", "--name=" + name, "lab/%s:1" % name)
        ok("create", "--name=bundled", "lab/kept:1")
        ok("setup", "--execmode=R1", "bundled")
        self.has_runc = self.program("run", "bundled", "/bin/sh", "-c", ":").status == 0
        if not self.has_runc:
            ok("rm", "bundled")
        if FAKECHROOT:
            ok("create", "--name=converted", "lab/kept:1")
            ok("setup", "--execmode=F3", "converted")
        self.new_tree = tree_of(self.root("kept"))
        ok("export", "--clone", "-o", self.directory / "clone.tar", "kept")
        self.registry.gate = BasicGate(dict([CREDENTIAL]))
        ok("login", "-u", CREDENTIAL[0], "--password-stdin", self.host, input=CREDENTIAL[1].encode())
        ok("run", "kept", "/bin/sh", "-c", ":")             # the proof of the engine is there from now on
        if FAKECHROOT:
            ok("run", "converted", "/bin/sh", "-c", ":")
        shutil.copytree(str(self.home), str(self.template), symlinks=True)
        self.kept_tree = tree_of(self.root("kept"))
        self.clear()

    def unsound_tools(self):
        """Complaints about a tool that is there and not whole."""
        path = self.program.store / "bin/proot-test"
        return ["the tool is not whole"] if path.exists() and path.read_bytes() != self.tool else []

    def root(self, name, home=None):
        """The path of a container's tree, in the home, or in a copy of it."""
        return Path(os.path.realpath(str((home or self.home) / ".udocker/containers" / name))) / "ROOT"

    def clear(self):
        remove(self.home)

    def renew(self):
        """The home as it was at the beginning."""
        self.clear()
        shutil.copytree(str(self.template), str(self.home), symlinks=True)

    def faulty(self, **faults):
        """The program with FAULTS_ variables, named without that, in lower case."""
        trees = [self.home, self.directory / "output"]
        env = dict({"trees": ":".join(map(str, trees)), "counter": self.counter.path}, **faults)
        return self.program.with_env(LD_PRELOAD=str(self.library),
                                     **{"FAULTS_" + name.upper(): str(value) for name, value in env.items()})

    def run(self, words, input=None, **faults):
        """Run a command to which the faults happen, in a process group of its own; the Result."""
        self.counter.reset()
        program = self.faulty(**faults)
        with program.start(*words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                           start_new_session=True) as process:
            try:
                out, err = process.communicate(input, TIMEOUT)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                raise
        return Result(words, process.returncode, out, err)

    # What is to be so at all times

    def images(self):
        """The names of the images that are listed."""
        return [line.split()[0] for line in self.program.ok("images").out.splitlines()[1:]]

    def containers(self):
        """{id: names} of the containers that are listed."""
        rows = [line.split(None, 3) for line in self.program.ok("ps").out.splitlines()[1:]]
        return {row[0]: re.findall(r"'([^']*)'", row[3]) for row in rows}

    def unsound_images(self):
        """Complaints about images that are listed and not whole, or are missing."""
        names = self.images()
        found = ["the image lab/kept:1 is lost"] if "lab/kept:1" not in names else []
        for name in names:
            result = self.program("verify", name)
            if result.status:
                found.append(repr(result))
        return found

    def unsound_containers(self):
        """Complaints about containers that are listed and do not run, or are missing."""
        containers, found = self.containers(), []
        if "kept" not in sum(containers.values(), []):
            found.append("the container kept is lost")
        for id_, names in containers.items():
            result = self.program("run", id_, "/bin/sh", "-c", "cat etc/os-release")
            if "ID=debian" not in result.out:
                found.append(repr(result))
            found += ["a container has the name %s" % name for name in names if name[0] == "."]
        return found

    def strange_names(self):
        """Complaints about what lies in the home and belongs to nothing that is listed."""
        found = []
        for parent, directories, files in os.walk(str(self.home)):
            place = os.path.relpath(parent, str(self.home))
            known = KNOWN.get(place) or next((names for pattern, names in KNOWN_BELOW
                                              if re.match(pattern + "$", place)), None)
            for name in directories + files:
                if re.match(r"\.(new|removed|part)-|scratch$", name) or known and not re.match(known + "$", name):
                    found.append("%s/%s is left over" % (place, name))
        return found


HEX = "sha256:[0-9a-f]{64}"
ID = "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
KNOWN = {
    ".": r"\.udocker|tmp", "tmp": r"source\.tar|srv|udocker-tree-[0-9a-f]{16}",
    ".udocker": r"bin|lib|doc|repos|layers|containers|\.lock|\.use|\.proofs|keystore|\.keystore-lock",
    ".udocker/bin": "proot-test", ".udocker/layers": HEX, ".udocker/containers": ID + r"|[a-z]+",
    ".udocker/.proofs": "[0-9a-f]{8}|links-.*",
}
KNOWN_BELOW = [
    (r"\.udocker/containers/[^/]+", r"ROOT|container\.json|imagerepo\.name|execmode|lock|PROTECT|conversion-[a-z]+|"
                                    r"run\.json|root\.path|ld\.lib\.dirs|ld\.so\.path|"
                                    r"fakechroot-(env|patch|ld\.so|sh|true)"),
    (r"\.udocker/repos/.*/(1|2|latest)", HEX + "|TAG|v2|manifest|PROTECT"),
    (r"\.udocker/repos/.*/\.build-1", HEX + r"|\.steps"),
]


def remove(path):
    """Remove a tree of which parts may be closed."""
    for parent, directories, _ in os.walk(str(path)):
        for name in directories:
            inner = os.path.join(parent, name)
            if not os.path.islink(inner):
                os.chmod(inner, 0o700)
    shutil.rmtree(str(path), ignore_errors=True)


def tree_of(root):
    """{relative name: what it is, mode, time and content} of a tree."""
    found = {}
    for parent, directories, files in os.walk(str(root)):
        for path in [parent] + [os.path.join(parent, name) for name in directories + files]:
            status, content = os.lstat(path), ""
            if stat.S_ISLNK(status.st_mode):
                content = os.readlink(path)
            elif stat.S_ISREG(status.st_mode):
                with open(path, "rb") as data:
                    content = hashlib.sha256(data.read()).hexdigest()
            found[os.path.relpath(path, str(root))] = status.st_mode, status.st_mtime_ns, content
    return found
