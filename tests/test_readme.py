"""Every command line of README.md: blocks are typed into a shell as they stand, those within the text are parsed."""
import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile

import pytest

import udocker as program_under_test
from cluster import free_ports
from conftest import CREDENTIAL, need
from program import CHECKOUT, ENTRY, PATH, Program

README = (CHECKOUT / "README.md").read_text(encoding="utf-8")
CHAPTERS = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", README, re.DOTALL | re.MULTILINE))
# Chapters whose blocks other tests run, and what is generated
ELSEWHERE = {"MPI jobs": "test_mpi.py", "GPUs and other devices": "test_gpu.py",
             "Workflow engines": "test_workflows.py", "Command reference": "test_structure.py"}
TYPED = [block for title, text in CHAPTERS.items() if title not in ELSEWHERE
         for block in re.findall(r"^```\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)]
WITHIN_TEXT = sorted(set(re.findall(r"`(?:\./)?(udocker [^`]+)`", README.replace("\n", " "))))


def test_all_blocks_are_known():
    assert set(ELSEWHERE) < set(CHAPTERS) and len(TYPED) > 4


class Desk:
    """A shell, and what a user who reads the README has around: a home, images in a registry, files of that name."""

    def __init__(self, directory, images):
        self.directory = directory
        self.program = Program(directory / "home", env={"UDOCKER_REGISTRY": images.url})
        self.commands = directory / "bin"
        for path in self.program.home, self.commands, directory / "elsewhere", directory / "here":
            path.mkdir(exist_ok=True)
        self._command("udocker", 'exec %s "$@"' % " ".join(shlex.quote(str(word)) for word in ENTRY))
        self._command("docker", 'exec udocker "$@"')
        self._command("ssh", 'shift; HOME=%s exec sh -c "$*"' % (directory / "elsewhere"))

    def _command(self, name, script):
        (self.commands / name).write_text("#!/bin/sh\n%s\n" % script)
        (self.commands / name).chmod(0o755)

    def lay_out(self, layout):
        """The files, images and containers that the blocks begin with."""
        here, ok = self.directory / "here", self.program.ok
        for image in "busybox", "ubuntu":
            ok("pull", image)
        ok("tag", "busybox", "app")
        ok("save", "-o", here / "image.tar", "busybox")
        ok("create", "--name=pattern", "busybox")
        root = ok("inspect", "-p", "pattern").out.strip()
        os.makedirs(root + "/etc", exist_ok=True)
        with open(root + "/etc/os-release", "w") as file:
            file.write("ID=pattern\n")
        ok("export", "-o", here / "tree.tar", "pattern")
        shutil.copytree(root, str(self.directory / "scratch" / "tree"), symlinks=True)
        ok("rm", "pattern")
        with tarfile.open(str(here / "tree.tar.xz"), "w:xz") as archive:
            archive.add(str(here / "image.tar"), "image.tar")
        shutil.copytree(str(layout), str(here / "layout"))
        (here / "password-file").write_text(CREDENTIAL[1])
        for name in "udocker", "udocker.py":
            shutil.copy(str(CHECKOUT / name), str(here))

    def type(self, block, words):
        for old, new in words.items():
            block = block.replace(old, str(new))
        environment = self.program.environment({"PATH": "%s:%s" % (self.commands, PATH)})
        return subprocess.run(["bash", "-e", "-o", "pipefail", "-c", block], cwd=str(self.directory / "here"),
                              env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, timeout=120)


@pytest.fixture(scope="module")
def laid_out(tmp_path_factory, images, layout):
    """A directory of a desk as each block finds it."""
    desk = Desk(tmp_path_factory.mktemp("desk"), images)
    desk.lay_out(layout)
    return desk.directory


@pytest.fixture
def desk(tmp_path, images, laid_out):
    subprocess.run(["cp", "-a", "%s/." % laid_out, str(tmp_path)], check=True)
    return Desk(tmp_path, images)


@pytest.mark.parametrize("block", TYPED, ids=[block.split("\n")[0][:40] for block in TYPED])
def test_a_block(desk, images, private_registry, block):
    if block.startswith("udocker export"):
        desk.program.ok("create", "--name=app", "busybox")
    words = {"quay.io": private_registry.url, "-u USER": "-u " + CREDENTIAL[0], "/work/me": desk.directory / "work",
             "/scratch": desk.directory / "scratch", "registry.example.org": images.host,
             "8080": free_ports(1)[0]}
    (desk.directory / "work").mkdir()
    result = desk.type(block, words)
    assert result.returncode == 0, result.stdout.decode()


@pytest.mark.parametrize("line", WITHIN_TEXT)
def test_a_command_line_within_the_text(line):
    words = shlex.split(line.replace("...", ""))[1:]
    given, rest = program_under_test.Parser(program_under_test.GLOBAL_OPTIONS, "").parse(words, True)
    if rest and rest[0] != "COMMAND":
        chosen = program_under_test.find_command(program_under_test.ungrouped(rest)[0])
        program_under_test.Parser(chosen.options, "").parse(rest[1:], chosen.is_raw)
    else:
        assert rest or given


def test_the_manual_page():
    """Every command is in it, and groff has nothing to complain of."""
    page = subprocess.run([sys.executable, str(CHECKOUT / "tests" / "make-man")], stdout=subprocess.PIPE, check=True)
    rendered = subprocess.run([need("groff"), "-man", "-Tutf8", "-ww"], input=page.stdout, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, check=True)
    assert rendered.stderr == b""
    assert all(name.encode() in rendered.stdout for name in program_under_test.COMMANDS)
