"""Workflow engines as their users run them: cwltool and miniwdl with the workflows of tests/workflows, and the command
lines that others type."""
import json
import os
import re
import shutil
import signal
import socket
import subprocess
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from conftest import MODES, modes_to_test, working
from program import CHECKOUT, PATH, Program
from test_processes import PATIENCE, assert_all_ended, processes_with

ENGINES = Path("/opt/udocker-tests/workflows/bin")
WORKFLOWS = CHECKOUT / "tests" / "workflows"
COUNTS = [3, 2, 1]      # of the words in texts/
README = (CHECKOUT / "README.md").read_text(encoding="utf-8")


@pytest.fixture(params=["P1", "N1"])
def engine_mode(request, broken_modes):
    if request.param not in modes_to_test(request.config, MODES):
        pytest.skip("not among the modes that are asked for")
    return working(request.param, broken_modes)


class Desk:
    """A home with nothing in it but commands in bin/, on a machine that pulls from the registry of the laboratory."""

    def __init__(self, home, mode, registry):
        self.home = home
        self.commands = home / "bin"
        self.commands.mkdir()
        self.temporary = home / "tmp"
        self.temporary.mkdir()
        self.env = {"PATH": "%s:%s" % (self.commands, PATH), "UDOCKER_DEFAULT_EXECUTION_MODE": mode,
                    "UDOCKER_REGISTRY": registry.url, "TMPDIR": str(self.temporary)}
        self.udocker = self.command("udocker", CHECKOUT / "udocker")
        self.work = home / "work"
        shutil.copytree(str(WORKFLOWS), str(self.work))
        self.shell = Program(home, ["/bin/sh", "-c"], self.env)

    def command(self, name, target):
        """A program that is found by this name from now on."""
        (self.commands / name).symlink_to(target)
        return Program(self.home, [self.commands / name], self.env)

    def type(self, line, **options):
        """Run a line of a shell, in a copy of the workflows."""
        return self.shell(line, cwd=self.work, **options)


@pytest.fixture
def desk(tmp_path, engine_mode, images):
    return make_desk(tmp_path, engine_mode, images)


@pytest.fixture
def namespace_desk(tmp_path, broken_modes, images):
    """For what docker is asked for by itself: trees that cannot be written to."""
    return make_desk(tmp_path, working("N1", broken_modes), images)


def make_desk(tmp_path, mode, registry):
    (tmp_path / "home").mkdir(parents=True)
    return Desk(tmp_path / "home", mode, registry)


def with_engines(desk):
    """The same desk, at which cwltool and miniwdl are found too."""
    for name in "cwltool", "miniwdl":
        if not (ENGINES / name).exists():
            pytest.skip("%s is not installed: tests/run does it when it is run by root" % name)
        desk.command(name, ENGINES / name)
    return desk


@pytest.fixture
def engines(desk):
    return with_engines(desk)


@pytest.fixture
def docker(namespace_desk):
    """A desk with the engines, where udocker is docker."""
    namespace_desk.command("docker", CHECKOUT / "udocker")
    return with_engines(namespace_desk)


class Waiting:
    """An engine whose workflow has connected with us and waits, with `token` on the command lines of all it started."""

    def __init__(self, desk, process, connection, token):
        self.desk = desk
        self.process = process
        self.connection = connection
        self.token = token

    @classmethod
    @contextmanager
    def at(cls, desk, line):
        """The line of a shell is told where to connect and how long to wait."""
        with socket.socket() as server:
            server.bind(("127.0.0.1", 0))
            server.listen()
            server.settimeout(PATIENCE)
            port = server.getsockname()[1]
            token = "31%05d" % port
            with desk.shell.start("exec " + line, cwd=desk.work, env={"port": str(port), "seconds": token},
                                  stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                  stderr=subprocess.PIPE) as process:
                try:
                    with server.accept()[0] as connection:
                        connection.settimeout(PATIENCE)
                        yield cls(desk, process, connection, token)
                finally:
                    process.kill()
                    for pid in processes_with(token):
                        os.kill(pid, signal.SIGKILL)

    def assert_ends(self):
        """Nothing of it runs any more, and no container is left; what the engine said."""
        assert self.connection.recv(1) == b""
        said = self.process.stderr.read().decode()
        assert self.process.wait(PATIENCE) != 0, said
        assert_all_ended(self.token)
        assert self.desk.udocker.ok("ps", "-q").out == ""
        return said


# cwltool

WORDS = "cwltool --udocker --parallel --relax-path-checks words.cwl texts.yml"
DOCKER_WORDS = WORDS.replace(" --udocker", "")
SURROUNDINGS = ("cwltool --udocker --relax-path-checks surroundings.cwl --name='Ann, Bob' "
                "--text='texts/first, with a comma' --texts=texts --url=$url")
WAIT = "cwltool --udocker wait.cwl --port=$port --seconds=$seconds"


def counts_of(result):
    """What words.cwl wrote, as cwltool tells it."""
    assert result.status == 0, result
    lines = Path(json.loads(result.out)["all"]["path"]).read_text().splitlines()
    return [int(line.split()[0]) for line in lines]


def test_cwltool(engines):
    """The image is absent, and three steps that start at the same time want it."""
    assert counts_of(engines.type(WORDS)) == COUNTS


def test_what_a_step_of_cwltool_finds_around_it(engines, images):
    result = engines.type(SURROUNDINGS, env={"url": images.url + "/v2/"})
    assert result.status == 0, result
    assert (engines.work / "shown").read_text().splitlines() == [
        "hello = Ann, Bob", "one two three", "of Ann, Bob", "one two three", "more",
        "first, with a comma", "second one", "third", "{}"]
    assert (engines.work / "copy").read_text() == "one two three\nmore\n"
    assert (engines.work / "texts/first, with a comma").read_text() == "one two three\n"


@pytest.mark.parametrize("engine_mode", ["P1"], indirect=True)
def test_a_step_of_cwltool_that_fails(engines):
    result = engines.type("cwltool --udocker failure.cwl")
    assert result.status == 1 and "exited with status: 42" in result.err and "permanentFail" in result.err
    assert "in vain\n" in result.err


def test_cwltools_that_end_their_steps(tmp_path, broken_modes, images):
    """At a time limit they send SIGTERM. When they are interrupted they give their steps ten seconds, of which they
    tell them nothing, and kill them."""
    cases = [("P1", 6, None), ("N1", 6, None), ("P1", 0, signal.SIGTERM), ("N1", 0, signal.SIGINT)]
    with ExitStack() as stack:
        all_waiting = []
        for mode, limit, ending in cases:
            desk = with_engines(make_desk(tmp_path / ("%s-%d" % (mode, limit)), working(mode, broken_modes), images))
            waiting = stack.enter_context(Waiting.at(desk, "%s --limit=%d" % (WAIT, limit)))
            if ending:
                waiting.process.send_signal(ending)
            all_waiting.append(waiting)
        for waiting, (_, limit, _) in zip(all_waiting, cases):
            assert ("exceeded time limit" in waiting.assert_ends()) == bool(limit)


# cwltool, for which udocker is docker

def test_docker_of_cwltool(docker):
    result = docker.type(DOCKER_WORDS)
    assert counts_of(result) == COUNTS and "'docker', 'pull', 'busybox'" in result.err


def test_an_image_that_cwltool_builds(docker):
    result = docker.type("cwltool built.cwl")
    assert result.status == 0, result.err[-1500:]
    assert (docker.work / "answer").read_text() == "built by 0\n"


def test_a_docker_of_cwltool_that_is_interrupted(docker):
    """It asks docker to kill the container, by the id that it was to write down."""
    with Waiting.at(docker, WAIT.replace(" --udocker", "")) as waiting:
        waiting.process.send_signal(signal.SIGTERM)
        assert "unknown command" not in waiting.assert_ends()


# miniwdl

COUNT = "miniwdl run --cfg miniwdl.cfg words.wdl texts='texts/first, with a comma' texts='texts/second one' " \
        "texts=texts/third"


def test_miniwdl(engines):
    result = engines.type(COUNT)
    assert result.status == 0 and json.loads(result.out)["outputs"] == {"words.counts": COUNTS}, result


@pytest.mark.parametrize("engine_mode", ["N1"], indirect=True)
def test_a_task_of_miniwdl_that_fails(engines):
    result = engines.type("miniwdl run --cfg miniwdl.cfg failure.wdl")
    assert result.status == 42, result
    assert [path.read_text() for path in engines.work.glob("*_failure/stderr.txt")] == ["in vain\n"]


def test_a_miniwdl_that_is_cancelled(engines):
    with Waiting.at(engines, "miniwdl run --cfg miniwdl.cfg wait.wdl port=$port seconds=$seconds") as waiting:
        waiting.process.send_signal(signal.SIGTERM)
        waiting.assert_ends()


# What others type, in a directory with a script

CROMWELL = "udocker run --rm -v ${cwd}:${docker_cwd} ${docker} ${job_shell} ${docker_script}"
RUNNER = ["udocker pull busybox", "udocker create --name=job-7 busybox",
          "udocker run -v $PWD:/builds -w /builds job-7 /bin/sh < script", "udocker rm job-7"]
STEPS = ["export UDOCKER_KEEP_TREES=true", "udocker run --rm busybox sort /etc/passwd",
         "udocker run --rm busybox wc -l /etc/group"]
NEXTFLOW = "docker run -i --cpu-shares 1024 --memory 2g -e NXF_TASK_WORKDIR -v $PWD:$PWD -w $PWD --name nxf-1 " \
           "busybox /bin/sh -ue script"
LINES = {
    "Cromwell": (CROMWELL, "script in /\n"),
    "Cromwell, docker": (
        "docker run --cidfile id -i --user 0 --entrypoint ${job_shell} -v ${cwd}:${docker_cwd}:delegated ${docker} "
        "${docker_script} && docker rm -f $(cat id) >&2", "script in /\n"),
    "Nextflow": (NEXTFLOW + " && docker rm nxf-1 >&2", "script in {work}\n"),
    "Nextflow, udocker": (
        "((udocker images | grep -E -o '^busybox:latest\\s') || udocker pull busybox:latest) >/dev/null; "
        "[ $? = 0 ] && udocker run --rm -v $PWD:$PWD -w $PWD --bindhome $(udocker create busybox:latest) "
        "/bin/sh -ue script",
        "script in {work}\n"),
    "Toil": ("udocker --quiet run --nobanner --volume=$PWD:/out --volume=$TMPDIR:/tmp --workdir=/out --rm "
             "--env=TMPDIR=/tmp --env=HOME=/out --shm-size=64m busybox sh script", "script in /out\n"),
    "Stimela": ("udocker run --rm -ti -v $PWD:/input:rw -e HOME=/input -w /input busybox sh script",
                "script in /input\n"),
    "GitLab runner": (" && ".join(RUNNER) + " >&2", "script in /builds\n"),
    "cwl-utils": ("docker images -q busybox; docker pull busybox; docker images -q busybox; echo typed | docker run "
                  "--attach=STDIN --attach=STDOUT --attach=STDERR --sig-proxy=true --interactive --rm busybox cat",
                  "busybox:latest\ntyped\n"),
    "cwl-docker-extract": ("docker pull busybox:latest && docker save -o busyboxlatest.tar busybox:latest && "
                           "docker rmi busybox >&2 && udocker load -i busyboxlatest.tar", "busybox:latest\n"),
}


@pytest.mark.parametrize("who", LINES)
def test_what_others_type(desk, who):
    line, expected = LINES[who]
    desk.command("docker", CHECKOUT / "udocker")
    (desk.work / "script").write_text("echo script in $(pwd)\n")
    result = desk.type(line, env={"cwd": str(desk.work), "docker_cwd": "/cromwell", "docker": "busybox",
                                  "job_shell": "/bin/sh", "docker_script": "/cromwell/script"})
    shown = expected.format(work=desk.work)
    assert result.status == 0 and result.out.endswith(shown), result
    assert desk.udocker.ok("ps", "-q").out == "", "no container is left"


def test_the_readme_shows_lines_that_were_run():
    chapter = re.search(r"## Workflow engines\n(.*?)\n## ", README, re.DOTALL).group(1)
    shown = [line for block in re.findall(r"```\n(.*?)```", chapter, re.DOTALL) for line in block.splitlines()]
    settings = (WORKFLOWS / "miniwdl.cfg").read_text().splitlines()
    assert shown == [WORDS, DOCKER_WORDS] + settings + [COUNT, CROMWELL, NEXTFLOW] + RUNNER + STEPS


def test_many_short_steps_of_one_image(namespace_desk):
    """They share a tree."""
    result = namespace_desk.type("\n".join(STEPS))
    assert result.status == 0 and result.out.splitlines()[0].startswith("green:") and "/etc/group" in result.out, result
    assert [path.name[:6] for path in (namespace_desk.udocker.store / "containers").iterdir()] == [".tree-"]
