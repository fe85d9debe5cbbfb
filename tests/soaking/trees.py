"""Containers whose trees lay traps where the program looks: links that lead out, pipes, files without end."""
import os
import resource
import shutil
import subprocess

from soaking.hostile import memory_limit
from soaking.laboratory import FAKECHROOT, remove
from test_layers import fingerprint

PATIENCE = 60       # seconds; far above what any command here takes
FILES = ("etc/passwd", "etc/group", "etc/os-release", "usr/lib/os-release", "etc/resolv.conf", "etc/hosts",
         "etc/host.conf", "etc/ld.so.conf", "etc/ld.so.conf.d/a.conf", "etc/hostname", "bin/sh", "bin/bash", "bin/cat",
         "bin/env", "usr/bin/env", "lib64/ld-linux-x86-64.so.2", "lib/x86_64-linux-gnu/libc.so.6", "script",
         "etc/apt/apt.conf.d/udocker", "etc/ld.so.preload", "etc/ld.so.cache")
DIRECTORIES = ("etc", "dev", "proc", "sys", "tmp", "root", "home", "lib", "lib64", "usr", "usr/lib", "usr/local/lib",
               "bin", "lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu", "etc/ld.so.conf.d", "data", "work", "var/tmp")
LOADED = ("lib", "bin", "usr/lib", "etc/ld.so.")         # what the kernel and the container's own loader open
PRELOADED = ("a file without end", "etc/ld.so.preload")     # of which that loader wants all


class Trees:
    """A container with traps, and commands that look into it or change it: nothing outside is read or changed, nothing
    hangs, and it can be removed."""

    total = None

    def __init__(self, laboratory):
        self.laboratory = laboratory
        self.most_memory = memory_limit()
        self.base = laboratory.directory / "outside"
        remove(self.base)
        (self.base / "dir/etc").mkdir(parents=True)
        (self.base / "volume").mkdir()
        self.modes = ["N1", "P1"] + (["F1", "F2", "F3", "F4"] if FAKECHROOT else [])
        for name in ("canary", "dir/canary", "dir/etc/passwd", "dir/sh", "dir/libc.so.6", "dir/a.conf"):
            (self.base / name).write_text("root:x:0:0:outside:/outside:/bin/sh\n/outside\n")
            (self.base / name).chmod(0o755)
            os.utime(str(self.base / name), (1, 2))
        self.before = self.outside()

    def outside(self):
        """What lstat tells of everything outside but the volume."""
        return {path: fingerprint(path) for parent, names, files in os.walk(str(self.base))
                for path in [parent] + [os.path.join(parent, name) for name in files] if "/volume" not in path}

    def round(self, number, random):
        self.laboratory.renew()
        volume = self.base / "volume"
        remove(volume)
        volume.mkdir()
        (volume / "file").write_text("volume")
        for path in [str(self.base / "dir"), str(self.base)]:
            os.utime(path, (1, 2))
        self.before = self.outside()
        root, self.is_stuck = self.laboratory.root("gone"), False
        laid = [self.lay(root, random) for _ in range(random.randint(1, 4))]
        found, told = [], " and ".join(laid)
        chosen = [random.choice(self.commands)(self, random) for _ in range(random.randint(1, 4))] + [["rm", "gone"]]
        for words in chosen:
            found += self.carry_out(words)
        found += self.laboratory.strange_names()
        return ["%s: %s" % (told, complaint) for complaint in found]

    # Traps

    def lay(self, root, random):
        """Put a trap into the tree; what it is."""
        is_file = random.random() < 0.6
        name = random.choice(FILES if is_file else DIRECTORIES)
        path = root / name
        kind = random.choice(sorted(self.TRAPS))
        self.is_stuck |= kind == "a pipe" and name.startswith(LOADED) or (kind, name) == PRELOADED
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(str(path))
            elif os.path.lexists(str(path)):
                path.unlink()
            self.TRAPS[kind](self, path, random)
        except OSError as error:        # another trap is in its way
            return "%s not at %s: %s" % (kind, name, error.strerror)
        return "%s at %s" % (kind, name)

    def link_out(self, path, random):
        path.symlink_to(self.base / random.choice(("canary", "dir", "dir/canary", "dir/etc", "new", "dir/new")))

    def relative_link_out(self, path, random):
        place = str(self.base).lstrip("/") + random.choice(("/canary", "/dir", "/new", "/dir/new"))
        path.symlink_to("../" * 30 + place)

    def link_to_parent(self, path, random):
        path.symlink_to(random.choice(("..", "../..", "../../..", "../container.json", "../../../keystore", ".", "/")))

    def loop(self, path, _):
        path.symlink_to(path.name)

    def pipe(self, path, _):
        os.mkfifo(str(path))

    def endless(self, path, _):
        with open(str(path), "wb") as file:
            file.truncate(1 << 29)
        path.chmod(0o755)

    def endless_line(self, path, _):
        path.write_bytes(b"root:" * 4000000)

    def directory(self, path, _):
        path.mkdir()

    def file(self, path, random):
        path.write_bytes(random.choice((
            b"", b"#!/etc/passwd\n", b"#!%s/dir/sh\n" % os.fsencode(str(self.base)), b"\x7fELF" + bytes(60),
            b"include *\n" * 5000, b"include /etc/ld.so.conf\n", b"x" * 5000)))
        path.chmod(0o755)

    def closed(self, path, random):
        path.mkdir() if random.random() < 0.5 else path.write_text("")
        path.chmod(0)

    TRAPS = {"a link out": link_out, "a relative link out": relative_link_out, "a link to a parent": link_to_parent,
             "a loop": loop, "a pipe": pipe, "a file without end": endless, "a line of 20 MB": endless_line,
             "a directory": directory, "a file": file, "what is closed": closed}

    # Commands

    def run(self, random):
        options = random.sample([
            ["-v", "%s/volume:/data" % self.base], ["-v", "%s/volume/file:/etc/passwd" % self.base], ["-w", "/work"],
            ["-w", "/data/new"], ["--user=green"], ["--user=0"], ["--hostauth"], ["--add-host=a:1.2.3.4"],
            ["--read-only"], ["--ephemeral"], ["--tmpfs=/tmp"], ["--bindhome"], ["--hostname=x"], ["--nosysdirs"],
            ["-v", "%s/volume:/tmp/x/y" % self.base], ["--entrypoint=/bin/sh"],
            ["--mount=type=bind,src=%s/volume,dst=/lib/v" % self.base]],
            random.randint(0, 3))
        command = random.choice((["/bin/sh", "-c", ":"], ["sh", "-c", ":"], ["/script"], ["env", "true"], ["cat"], []))
        mode = random.choice(self.modes[:2])
        return ["run"] + sum(options, []) + ["gone"] + command, mode

    def setup(self, random):
        return ["setup", "--execmode=" + random.choice(self.modes), "gone"]

    def fix(self, _):
        return ["setup", "--fixperm", "gone"]

    def copy_out(self, random):
        source = "gone:/" + random.choice(FILES + DIRECTORIES)
        return ["cp"] + random.choice(([], ["-L"])) + [source, self.base / "volume/copy"]

    def copy_in(self, random):
        return ["cp", self.base / "volume/file", "gone:/" + random.choice(FILES + DIRECTORIES)]

    def export(self, random):
        return ["export"] + random.choice(([], ["--clone"])) + ["-o", self.base / "volume/out.tar", "gone"]

    def commit(self, random):
        return random.choice((["diff", "gone"], ["commit", "gone", "lab/committed:1"]))

    def clone(self, _):
        return ["clone", "gone"]

    def size(self, _):
        return ["ps", "-s", "-m"]

    def inspect(self, _):
        return ["inspect", "gone"]

    commands = (run, run, run, setup, setup, copy_out, copy_in, export, commit, clone, size, inspect, fix)

    def carry_out(self, words):
        """Complaints about one command."""
        words, mode = words if isinstance(words, tuple) else (words, "N1")
        if words[0] == "run" and self.is_stuck:
            return []
        program = self.laboratory.program.with_env(UDOCKER_DEFAULT_EXECUTION_MODE=mode)
        found = []
        try:
            result = program(*words, timeout=PATIENCE, input=b"")
        except subprocess.TimeoutExpired:
            return ["%s %s has no end" % (mode, words)]
        except AssertionError as error:
            return [str(error)[:2000]]
        if "this is a bug" in result.err:
            found.append(repr(result)[:1500])
        memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
        if memory > self.most_memory:
            found.append("%s %s: %d KiB of memory were needed" % (mode, words, memory))
            self.most_memory = memory
        now = self.outside()
        if now != self.before:
            changed = [path for path in set(now) | set(self.before) if now.get(path) != self.before.get(path)]
            found.append("%s %s changed or read %s: %s -> %s" % (
                mode, " ".join(map(str, words)), changed[0], self.before.get(changed[0]), now.get(changed[0])))
            self.before = now
        return found
