"""What the benchmarks share: a place in memory, the program as it is installed, medians, and a table."""
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import namedtuple
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from images import DEBIAN_LAYOUT, MANIFEST, push     # noqa: E402  the modules of the tests, one directory up
from program import CHECKOUT, PATH, Program     # noqa: E402
from registries import DockerRegistry           # noqa: E402

ROUNDS = 5

Cost = namedtuple("Cost", "seconds peak_mib")
Row = namedtuple("Row", "work ours theirs limit")


@contextlib.contextmanager
def laboratory():
    """The program with an empty home, a real registry and a directory, all on /dev/shm."""
    with contextlib.ExitStack() as stack:
        directory = Path(tempfile.mkdtemp(prefix="udocker-benchmark-", dir="/dev/shm"))
        stack.callback(remove, directory)
        for name in "home", "registry":
            (directory / name).mkdir()
        for name in "udocker", "udocker.py":
            shutil.copy(str(CHECKOUT / name), str(directory))
        registry = stack.enter_context(DockerRegistry(directory / "registry"))
        yield Program(directory / "home", [sys.executable, directory / "udocker"]), registry, directory


def push_plain_layers(registry):
    """Push the Debian image with its first two layers alone: the small others hold what not every peer can unpack."""
    push(DEBIAN_LAYOUT, "stable", registry, "lab/debian:stable")
    repository = "lab/debian"
    manifest = registry.manifest(repository, "stable")[1]
    config = json.loads(registry.blob_path(manifest["config"]["digest"]).read_bytes())
    config["rootfs"]["diff_ids"], config["history"] = config["rootfs"]["diff_ids"][:2], config["history"][:2]
    registry.put_manifest(repository, "plain", dict(
        manifest, mediaType=MANIFEST, layers=manifest["layers"][:2],
        config=registry.put_blob(repository, manifest["config"]["mediaType"], json.dumps(config).encode())))
    return "%s/%s:plain" % (registry.host, repository)


def remove(tree):
    """Remove a tree whose directories may refuse to be written."""
    subprocess.run(["chmod", "-R", "u+rwX", str(tree)], stderr=subprocess.DEVNULL)
    shutil.rmtree(str(tree))


def run(command, **env):
    """Run a command that must succeed; its Cost. The peak is that of its largest process."""
    begin = time.perf_counter()
    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    words = [str(word) for word in command]
    with subprocess.Popen(words, env=dict({"PATH": PATH}, **env), **streams) as process:
        complaints = process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = status
    if status:
        raise SystemExit("%s: status %d\n%s" % (command, status >> 8, complaints.decode()))
    return Cost(time.perf_counter() - begin, usage.ru_maxrss / 1024)


def run_all(commands, **env):
    """The Cost of several commands one after another."""
    costs = [run(command, **env) for command in commands]
    return Cost(sum(cost.seconds for cost in costs), max((cost.peak_mib for cost in costs), default=0))


def medians(*contenders):
    """The median Cost of each contender, a function that returns one; they take turns on the same host."""
    samples = [[contender() for contender in contenders] for _ in range(ROUNDS)]
    return [Cost(*map(statistics.median, zip(*costs))) for costs in zip(*samples)]


def often(count, command, **env):
    """A contender for what is too short to be timed alone: the mean of some runs."""
    def contender():
        costs = [run(command, **env) for _ in range(count)]
        return Cost(*map(statistics.mean, zip(*costs)))
    return contender


BAR = 24            # columns of the longer of two bars


def bars(ours, theirs):
    """Two lengths as text, the longer one as wide as it can be."""
    return ["#" * max(round(BAR * value / max(ours, theirs)), 1) for value in (ours, theirs)]


def print_table(title, rows):
    """Print rows of work, our time, the other's, and the ratio to be reached, with both drawn; False where one is
    missed."""
    print("\n%s\n%-50s %9s %9s %7s %7s" % (title, "", "udocker", "other", "ratio", "limit"))
    reached = True
    for row in rows:
        ratio = row.ours / row.theirs
        reached = reached and ratio <= row.limit
        print("%-50s %9.3f %9.3f %7.2f %7.2f%s" % (
            row.work, row.ours, row.theirs, ratio, row.limit, "" if ratio <= row.limit else "  missed"))
        for name, bar in zip(("udocker", "other"), bars(row.ours, row.theirs)):
            print("%9s %s" % (name, bar))
    return reached
