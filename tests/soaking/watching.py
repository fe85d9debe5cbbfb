"""What others could see of a program and of all that it starts, whatever that is and however short it lives."""
import os
import re
import shutil
import subprocess

from program import CHECKOUT

OPTIONS = ("-f", "-qqq", "--seccomp-bpf", "-A", "-v", "-y", "-s", str(1 << 24), "-e", "signal=none", "-e",
           "trace=execve,execveat,write,writev,pwrite64,pwritev,pwritev2")
# Writes down what can be seen of it in /proc, and becomes the program
WRAPPER = """#!/bin/sh
cat /proc/$$/cmdline /proc/$$/environ | tr '\\0' ' ' >>"%s"
echo >>"%s"
exec %s "$@"
"""


class Watch:
    """strace's record of the command lines, environments and written files of a program and its children.

    Of what itself traces, as PRoot does, strace can tell nothing: wrapper() records that.
    """

    def __init__(self, path):
        self.path = path

    def entry(self, words):
        """The words that start a program, given as words, and watch it."""
        return ["strace", "-o", str(self.path)] + list(OPTIONS) + list(map(str, words))

    def wrapper(self, path, name):
        """Make a program at `path` that records how it is started, and is the executable `name`."""
        path.write_text(WRAPPER % (self.path, self.path, shutil.which(name)))
        path.chmod(0o755)
        return path

    def leaks(self, secrets, allowed):
        """Complaints about each secret that a child was given, or that was written to a file whose path does not match
        the pattern `allowed`; pipes and sockets are the business of those at their other ends."""
        found = []
        lines = self.path.read_text(errors="replace").splitlines() if self.path.exists() else []
        for line in lines:
            if not any(secret in line for secret in secrets) or str(CHECKOUT / "udocker") + '"' in line:
                continue        # udocker itself, whom its user gave what it has
            written = re.search(r"^(?:\d+ +)?p?writev?\w*\(\d+<([^>]*)>", line)
            if written and (written.group(1)[0] != "/" or re.search(allowed, written.group(1))):
                continue
            found.append("seen: " + line[:500])
        return found


def why_no_watch():
    """Why nothing can be watched here; empty where it can."""
    if not shutil.which("strace"):
        return "strace is not installed"
    process = subprocess.run(["strace", "-f", "--seccomp-bpf", "-o", os.devnull, "true"], stdout=subprocess.PIPE,
                             stderr=subprocess.STDOUT)
    return process.stdout.decode(errors="replace") if process.returncode else ""
