"""The program under test, run as its user runs it: a process and a home of its own, a bare environment."""
import os
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parent.parent
PATH = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin"
TIMEOUT = 120       # seconds; far above what any command here takes, so that a hang is an error
# As it is installed, with each warning an error: also that a file is read by the encoding of the locale, which Pythons
# before 3.10 do not know and let pass.
STRICT = ("-W", "error", "-X", "warn_default_encoding")
# Or with what tests/coverage wants to know
COVERAGE = os.environ.get("UDOCKER_TESTS_COVERAGE")
ENTRY = (sys.executable,) + (("-m", "coverage", "run", "--rcfile=" + COVERAGE) if COVERAGE else STRICT) + (
    CHECKOUT / "udocker",)


def in_main_thread(script, *arguments):
    """Runs Python code, which may import udocker, in a process of its own: the threads in which pytest-xdist runs tests
    may set no signal handlers. What it wrote."""
    return subprocess.check_output([sys.executable] + list(STRICT) + ["-c", script] + [str(word) for word in arguments],
                                   env=dict(os.environ, PYTHONPATH=str(CHECKOUT))).decode()


class Result:
    """What a finished command left: its exit status as subprocess tells it, and both outputs."""

    def __init__(self, arguments, status, out_bytes, err_bytes):
        self.arguments = arguments
        self.status = status
        self.out_bytes = out_bytes
        self.err_bytes = err_bytes

    @property
    def out(self):
        return self.out_bytes.decode("utf-8", "surrogateescape")

    @property
    def err(self):
        return self.err_bytes.decode("utf-8", "surrogateescape")

    def __repr__(self):
        text = "udocker %s\nstatus: %s\nstdout: %s\nstderr: %s" % (
            " ".join(map(str, self.arguments)), self.status, self.out, self.err)
        return text.encode("utf-8", "backslashreplace").decode()        # pytest-xdist cannot take half a surrogate pair


class Process(subprocess.Popen):
    """A command in a `with` block that does not wait for its end where the block has failed: then nothing else ends it.
    """

    def __exit__(self, kind, *rest):
        if kind:
            self.kill()
        super().__exit__(kind, *rest)


class Program:
    """Callable: udocker("pull", reference) gives a Result. The store is the default one, ~/.udocker."""

    def __init__(self, home, entry=ENTRY, env=None):
        self.home = Path(str(home))
        self.entry = [str(word) for word in entry]
        self.env = env or {}

    @property
    def store(self):
        return self.home / ".udocker"

    def with_env(self, **env):
        """The same program and home with more variables in its environment."""
        return Program(self.home, self.entry, dict(self.env, **env))

    def command(self, *arguments):
        """The words of a whole command line."""
        allow_root = ["--allow-root"] if os.getuid() == 0 else []
        return self.entry + allow_root + [str(argument) for argument in arguments]

    def environment(self, env=None):
        """All variables that the program gets, with those of env."""
        return dict({"HOME": str(self.home), "PATH": PATH, "LANG": "C.UTF-8", "TERM": "dumb"},
                    **dict(self.env, **(env or {})))

    def start(self, *arguments, env=None, cwd=None, **popen):
        """Start without waiting: for tests of signals, terminals and crowds."""
        return Process(self.command(*arguments), env=self.environment(env), cwd=str(cwd or self.home), **popen)

    def __call__(self, *arguments, input=None, check=False, timeout=TIMEOUT, **start):
        streams = {"stdin": subprocess.DEVNULL if input is None else subprocess.PIPE,
                   "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        with self.start(*arguments, **streams, **start) as process:
            out, err = process.communicate(input, timeout)
        result = Result(arguments, process.returncode, out, err)
        assert "Traceback" not in result.err, result
        if check and "runC can only run commands as root inside" in result.err:
            pytest.skip("crun does not work here, and runC finds no unshare in the container")
        assert not check or result.status == 0, result
        return result

    def ok(self, *arguments, **options):
        """Run what must succeed."""
        return self(*arguments, check=True, **options)

    def fails(self, status, *arguments, **options):
        """Run what must fail: this status, a line of error and at most two more, nothing on stdout."""
        result = self(*arguments, **options)
        lines = result.err.splitlines()
        assert result.status == status, result
        assert 1 <= len(lines) <= 3 and lines[0].startswith("udocker: error: "), result
        assert all(line.startswith("udocker: ") for line in lines) and not result.out, result
        return result
