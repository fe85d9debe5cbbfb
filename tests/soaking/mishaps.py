"""Kills and full disks in the middle of each command that writes."""
import collections
import errno
import os
import re
import shutil
import signal
import subprocess
import time

from soaking.laboratory import CREDENTIAL, FAKECHROOT, LATER, tree_of

# What may lie there until the next sweep: parts of blobs, for the next pull; what rm did not come to the end of; the
# mark of a container that --rm could not remove; on a disk that fails, all that belongs to containers
KEPT_BY_SIGNALS = re.compile(r"/\.part-|/\.removed-")
KEPT = {True: re.compile(r"/\.part-|/containers/\.run-"),
        False: re.compile(r"/\.part-|/containers/\.(new|removed|run)-")}

# words; those that make it possible once more when it was done; what it may say when it was done already; the
# container that it converts
Work = collections.namedtuple("Work", "words undo done converting input")


def work(*words, undo=(), done="", converting="", input=None):
    return Work(words, undo, done, converting, input)


def works(laboratory):
    """Each command that writes, on the store of a Laboratory."""
    directory, host = laboratory.directory, laboratory.host
    new = ("rm", "-f", "new")
    found = [
        work("pull", host + "/lab/app"), work("pull", host + "/lab/moved"),
        work("create", "--name=new", "lab/kept:1", undo=new),
        work("create", "--name=new", "--pull=always", host + "/lab/app", undo=new),
        work("load", "-i", directory / "app.tar"), work("load", "-i", directory / "app.tar", "lab/kept:1"),
        work("import", directory / "tree.tar", "lab/imported:1"),
        work("import", "--mv", laboratory.home / "tmp/source.tar", "lab/imported:1", done="no such file"),
        work("import", "--tocontainer", "--name=new", directory / "tree.tar", "lab/x:1", undo=new),
        work("import", "--clone", "--name=new", directory / "clone.tar", undo=new),
        work("build", "-q", "-t", "lab/built:1", directory / "context"),
        work("build", "-q", "-t", "lab/kept:1", directory / "context"),
        work("commit", "kept", "lab/committed:1"), work("commit", "-m", "all", "gone", "lab/kept:1"),
        work("clone", "--name=new", "kept", undo=new),
        work("clone", "--force", "--name=gone", "kept"),
        work("rm", "gone", done="no such container"), work("rmi", "lab/gone:1", done="no such image"),
        work("save", "-o", directory / "output/saved.tar", "lab/kept:1", "lab/gone:1"),
        work("export", "-o", directory / "output/tree.tar", "kept"),
        work("login", "-u", CREDENTIAL[0], "--password-stdin", host, input=CREDENTIAL[1].encode()),
        work("tag", "lab/kept:1", "lab/tagged:2"), work("tag", "lab/gone:1", "lab/kept:1"),
        work("protect", "kept"), work("protect", "lab/kept:1"), work("unprotect", "lab/kept:1"),
        work("rename", "gone", "other", done="no such container"),
        work("name", "gone", "other", undo=("rmname", "other")),
        work("setup", "--execmode=N1", "gone"),
        work("install", "--from=%s" % (directory / "tools.tar"), "P1"),
        work("install", "--force", "--from=%s/tools.tar" % laboratory.registry.url, "P1"),
        work("install", "--purge", "--from=%s/tools.tar" % laboratory.registry.url, "P1"),
        work("run", "--rm", "lab/kept:1", "/bin/sh", "-c", "cat etc/os-release"),
        work("run", "--rm", "--name=new", "--add-host=a:10.0.0.1", "lab/kept:1", "/bin/sh", "-c", ":"),
        work("run", "--rm", "--publish=80", "lab/kept:1", "/bin/sh", "-c", ":"),
    ]
    if laboratory.has_runc:
        found.append(work("run", "bundled", "/bin/sh", "-c", "cat etc/os-release"))
    if FAKECHROOT:
        found += [work("setup", "--execmode=F3", "gone", converting="gone"),
                  work("setup", "--execmode=P1", "converted", converting="converted"),
                  work("clone", "--name=new", "converted", undo=new),
                  work("export", "-o", directory / "output/tree.tar", "converted")]
    return found


def copies(laboratory):
    """Copies over files, from host to container, back, and between containers."""
    found = [work("cp", laboratory.directory / "tree.tar", "gone:/etc/passwd"),
             work("cp", "kept:/etc/passwd", laboratory.home / "tmp/source.tar"), work("cp", "kept:/etc", "gone:/")]
    if FAKECHROOT:
        found += [work("cp", "converted:/srv", "gone:/"), work("cp", "converted:/srv/.", laboratory.home / "tmp/srv")]
    return found


class Mishaps:
    """What kills and full disks have in common."""

    total = None

    def __init__(self, laboratory):
        self.laboratory = laboratory
        self.works = works(laboratory) + copies(laboratory)
        self.counts = {}

    def prepare(self):
        """The store and the directory of outputs as they were at the beginning."""
        self.laboratory.renew()
        shutil.copy(str(self.laboratory.directory / "tree.tar"), str(self.laboratory.home / "tmp/source.tar"))
        output = self.laboratory.directory / "output"
        output.mkdir(exist_ok=True)
        for path in output.iterdir():
            path.unlink()

    def count(self, chosen, **faults):
        """(calls, seconds) of a command to which nothing happens."""
        key = chosen.words, tuple(faults)
        if key not in self.counts:
            self.prepare()
            started = time.monotonic()
            result = self.laboratory.run(chosen.words, chosen.input, **faults)
            assert result.status == 0, result
            self.counts[key] = self.laboratory.counter.value, time.monotonic() - started
        return self.counts[key]

    def left_outputs(self):
        """Complaints about outputs that are there and not whole, or temporary."""
        found = []
        for path in (self.laboratory.directory / "output").iterdir():
            if path.name.startswith("."):
                found.append("%s is left over" % path)
            elif subprocess.call(["tar", "-tf", str(path)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL):
                found.append("%s is no whole archive" % path)
        return found

    def lost(self):
        """Complaints about what was there before and is not as it was."""
        here, found = self.laboratory, []
        if here.kept_tree != tree_of(here.root("kept")):
            found.append("the tree of the container kept is another one")
        keystore = (here.program.store / "keystore").read_bytes()
        if keystore != (here.template / ".udocker/keystore").read_bytes():
            found.append("the keystore is another one")
        if not (here.home / "tmp/source.tar").exists() and "lab/imported:1" not in here.images():
            found.append("what was to be moved is lost")
        return found

    def repeated(self, chosen):
        """Complaints about a command that cannot be done once more, to which nothing happens now."""
        here = self.laboratory
        if chosen.undo:
            here.program(*chosen.undo)
        result = here.program(*chosen.words, input=chosen.input)
        if result.status and not (chosen.done and chosen.done in result.err):
            return ["repeated: %r" % result]
        return []

    def unlike_its_mode(self, name):
        """Complaints about a container that was being converted, is used, and is neither as it was before nor has the
        new mode."""
        here = self.laboratory
        here.program.ok("cp", name + ":/etc/passwd", "-")
        modes = [path.read_text() if path.exists() else "" for path in (
            here.root(name, home).parent / "execmode" for home in (here.home, here.template))]
        is_back = tree_of(here.root(name)) == tree_of(here.root(name, here.template))
        return [] if is_back or modes[0] != modes[1] else ["the tree of the container %s is another one" % name]

    def kept_runs(self, chosen):
        """Complaints about a container that was there for one run alone, which was killed."""
        if chosen.words[:2] != ("run", "--rm"):
            return []
        self.laboratory.program.ok("prune")
        return ["a container is left: %s" % id_ for id_, names in self.laboratory.containers().items()
                if set(names) <= {"new"}]

    def left_in_trees(self):
        """Complaints about temporary names in the tree of a container, where its programs would see them."""
        return ["%s is left over" % path for name in ("kept", "gone")
                for path in self.laboratory.root(name).rglob(".new-*")]

    def aftermath(self, chosen):
        """Complaints about what is there after a mishap, in the end when all was tidied up."""
        here = self.laboratory
        found = self.kept_runs(chosen) + (self.unlike_its_mode(chosen.converting) if chosen.converting else [])
        found += here.unsound_images() + here.unsound_containers() + self.lost() + self.repeated(chosen)
        if chosen.words[0] == "cp":         # of what lies on the host only the next one knows
            found += self.left_in_trees() + [repr(result) for result in [here.run(chosen.words, later=LATER)]
                                             if result.status]
        for result in (here.run(["prune"], later=LATER), here.run(["rm", "gone"], later=LATER)):
            if result.status and b"no such container" not in result.err_bytes:
                found.append(repr(result))
        return found + here.strange_names() + here.unsound_images() + here.unsound_tools()


class Kills(Mishaps):
    """kill -9 of a command and its children, or Ctrl-C, or SIGTERM: at one of its calls, or at any moment."""

    SIGNALS = {"kill": signal.SIGKILL, "term": signal.SIGTERM, "int": signal.SIGINT}

    def round(self, number, random):
        what = random.choice(("kill", "kill", "kill", "term", "int"))
        chosen = random.choice(self.works)
        calls, seconds = self.count(chosen, all=1)
        self.prepare()
        if random.random() < 0.75:
            at = random.randint(1, calls)
            told = "%s at call %d of %d" % (what, at, calls)
            result = self.laboratory.run(chosen.words, chosen.input, all=1, at=at, do=what)
            status, err = result.status, result.err
        else:
            moment = random.uniform(0, seconds * 1.1)
            told = "%s after %.3f s" % (what, moment)
            status, err = self.end_after(moment, self.SIGNALS[what], chosen)
        found = self.after_signal(self.SIGNALS[what], status, err) if what != "kill" else []
        return ["%s, %s: %s" % (" ".join(map(str, chosen.words)), told, complaint)
                for complaint in found + self.aftermath(chosen)]

    def end_after(self, seconds, number, chosen):
        """(status, standard error) of a command that gets a signal after so many seconds."""
        program = self.laboratory.program
        with program.start(*chosen.words, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                           start_new_session=True) as process:
            process.stdin.write(chosen.input or b"")
            process.stdin.close()
            try:
                process.wait(seconds)
            except subprocess.TimeoutExpired:
                pass
            if process.returncode is None:
                os.killpg(process.pid, number)
            err = process.stderr.read().decode()
        return process.returncode, err

    def after_signal(self, number, status, err):
        """Complaints about a command that was asked to end: it says so, and leaves nothing that is temporary. While
        Python itself starts, up to the first line of the program, that alone has a say."""
        if re.match(r'Fatal Python error: init_|Traceback [^\n]*\n  File "[^"]*udocker", line 0, in <module>\n', err):
            return []
        found = [] if status in (0, -number, 128 + number) else ["status %d: %s" % (status, err)]
        if "Traceback" in err or "bug" in err:
            found.append(err)
        return found + self.left_outputs() + [
            text for text in self.laboratory.strange_names() if not KEPT_BY_SIGNALS.search(text)]


class Disk(Mishaps):
    """A disk that is full, a quota that is used up, a disk that fails: at one call that writes, or from it on; a file
    system that refuses to remove something, or to set a mode or a time: at one such call."""

    NUMBERS = (errno.ENOSPC, errno.EDQUOT, errno.EIO)

    def round(self, number, random):
        chosen, error = random.choice(self.works), random.choice(self.NUMBERS)
        faults = {"all": 1} if error == errno.EIO and random.random() < 0.7 else {}
        calls, _ = self.count(chosen, **faults)
        self.prepare()
        at = random.randint(1, max(calls, 1))
        if error != errno.EIO and random.random() < 0.5:
            faults["forever"] = 1
        result = self.laboratory.run(chosen.words, chosen.input, at=at, do=error, **faults)
        told = "%s at call %d of %d %s" % (os.strerror(error), at, calls, " ".join(faults))
        found = self.after_error(result)
        if "all" not in faults:
            found += self.left_outputs() + [text for text in self.laboratory.strange_names()
                                            if not KEPT[error != errno.EIO].search(text)]
        return ["%s, %s: %s" % (" ".join(map(str, chosen.words)), told, complaint)
                for complaint in found + self.aftermath(chosen)]

    @staticmethod
    def after_error(result):
        """Complaints about how a command told of it."""
        lines = [line for line in result.err.splitlines()
                 if not re.match("udocker: (warning: |fetching |[0-9a-f]{12}: )", line)]
        if result.status == 0:
            return []
        is_clear = 1 <= len(lines) <= 2 and lines[0].startswith("udocker: error: ") and "bug" not in result.err
        return [] if is_clear and "Traceback" not in result.err else [repr(result)]
