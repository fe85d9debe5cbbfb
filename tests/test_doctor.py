"""doctor tells what works on this host and why not; install brings tools, and none but the released ones."""
import hashlib
import json
import os
import tempfile

import pytest

import udocker as program_under_test
from conftest import STOCK, need, why_not
from faulty_registry import Answer, FaultyRegistry
from program import Program
from test_engines import Toolkit, tarball

FAILING = "#!/bin/sh\necho 'no ptrace for you' >&2\nexit 1\n"


def report(box, *options, **start):
    """(the exit status, the document, its modes by code)."""
    result = box("doctor", "--json", *options, **start)
    document = json.loads(result.out)
    return result.status, document, {mode["mode"]: mode for mode in document["modes"]}


def test_it_tells_the_modes_that_work(udocker, broken_modes):
    status, document, modes = report(udocker)
    assert list(modes) == list(program_under_test.MODES)
    for code, reason in broken_modes.items():
        assert modes[code]["works"] is not bool(reason), modes[code]
    assert status == 0 and modes[document["advice"]]["works"]
    assert udocker.home.name in document["store"] and document["kernel"].startswith(os.uname().release)


def test_a_temporary_directory_that_every_container_of_runc_sees(udocker, broken_modes):
    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
        _, _, modes = report(udocker, env={"UDOCKER_TMPDIR": directory})
    assert modes["R1"]["works"] is not bool(broken_modes["R1"]), modes["R1"]


def test_a_page_for_people(udocker):
    page = udocker.ok("doctor").out
    assert "mode N1" in page and "advice" in page and "transport" in page
    assert all(len(line) <= 79 or " " not in line.strip() for line in page.splitlines())


def test_a_broken_engine_is_explained(udocker, tmp_path):
    liar = tmp_path / "proot"
    liar.write_text(FAILING)
    liar.chmod(0o755)
    env = {"UDOCKER_USE_PROOT_EXECUTABLE": str(liar)}
    _, _, modes = report(udocker, env=env)
    assert not modes["P1"]["works"] and modes["P1"]["detail"] == "no ptrace for you"
    assert "not one of those released" in udocker.ok("version", env=env).out


def test_what_is_missing_can_be_installed(udocker, tmp_path):
    _, _, modes = report(udocker, env={"PATH": str(tmp_path), "UDOCKER_USE_RUNC_EXECUTABLE": str(tmp_path)})
    assert "udocker install P1" in modes["P1"]["hint"] and "no executable file" in modes["R1"]["detail"]


def test_nothing_works(udocker, tmp_path):
    """As where neither namespaces nor ptrace are to be had; without any other engine besides."""
    switches = {"UDOCKER_USE_PROOT_EXECUTABLE": str(tmp_path), "UDOCKER_USE_RUNC_EXECUTABLE": str(tmp_path)}
    script = 'echo 0 > /proc/sys/user/max_user_namespaces && exec "$0" "$@"'
    outer = [need("unshare"), "--map-root-user", "sh", "-c", script]
    if why_not(outer + ["true"]):
        pytest.skip("no user namespace can be had to try it in")
    sandboxed = Program(udocker.home, outer + udocker.entry + ["--allow-root"], udocker.env)
    status, document, modes = report(sandboxed, env=switches)
    assert status == 1 and document["advice"] == "" and not any(mode["works"] for mode in modes.values())
    assert "user.max_user_namespaces is 0" in modes["N1"]["detail"] and "sysctl -w" in modes["N1"]["hint"]
    expected = "only the modes of Fakechroot may work" if STOCK else "no mode works"
    assert expected in " ".join(sandboxed("doctor", env=switches).out.split())


# install

def test_the_list_for_a_closed_site(udocker):
    lines = udocker.ok("install", "--list").out.splitlines()
    heads = [line.split() for line in lines if not line.startswith(" ")]
    assert heads and all(head[0].endswith(".tgz") and program_under_test.is_digest(head[1]) for head in heads)
    assert all(head[3].startswith(str(udocker.store)) for head in heads)
    assert len(lines) == 3 * len(heads)
    assert udocker.ok("install", "--list", "P2").out.splitlines()[0] == lines[0]
    assert udocker.ok("install", "--list", "N1").out == "", "which needs nothing"


def test_an_unknown_mode(udocker):
    assert "P1" in udocker.fails(2, "install", "P7").err


@pytest.mark.parametrize("member", ["proot-x86_64-4_8_0", "crun-x86_64", "runc-x86_64", "nothing"])
def test_what_was_not_released_is_not_installed(udocker, tmp_path, member):
    archive = tarball(tmp_path / "bad.tgz", member, b"\x7fELF pretended")
    result = udocker.fails(1, "install", "--from=%s" % archive)
    assert "bad.tgz" in result.err and "--list" in result.err
    assert os.listdir(str(udocker.store / "bin")) == []


def test_a_tarball_of_everything_is_downloaded_once(udocker, tmp_path):
    archive = tarball(tmp_path / "all.tgz", "proot-x86_64-4_8_0", b"\x7fELF pretended")
    with FaultyRegistry() as site:
        site.always("/all.tgz", Answer(200, archive.read_bytes()))
        result = udocker("install", "--from=%s/all.tgz" % site.url)
        assert result.status == 1 and "not the one that was released" in result.err
        assert site.paths("GET") == ["/all.tgz"]
    assert os.listdir(str(udocker.store / "bin")) == []


def test_a_source_that_is_not_there(udocker, tmp_path):
    assert "No such file" in udocker.fails(1, "install", "--from=%s/missing.tgz" % tmp_path, "P1").err


def test_install_and_purge(tmp_path):
    data = b"\x7fELF pretended"
    tool = program_under_test.Tool("proot-test", "0" * 64, hashlib.sha256(data).hexdigest())
    kit = Toolkit(tmp_path, tool, str(tarball(tmp_path / "good.tgz", "proot-test", data)))
    assert kit.box.install("proot") == [kit.layout.bin + "/proot-test"]
    assert kit.box.install("proot") == [], "it is there"
    assert kit.box.install("proot", is_forced=True) == [kit.layout.bin + "/proot-test"]


def test_a_tool_is_fetched_from_the_first_source_that_has_it(tmp_path):
    """Where none has it, the next run does not ask again at once, as install does."""
    data = b"\x7fELF pretended"
    archive = tarball(tmp_path / "good.tgz", "proot-test", data)
    tool = program_under_test.Tool("proot-test", "0" * 64, hashlib.sha256(data).hexdigest())
    kit = Toolkit(tmp_path, tool)
    kit.box.client = lambda: program_under_test.HttpClient(program_under_test.choose_transport("", 9, {}), retries=0)
    with FaultyRegistry() as site:
        tool.SOURCES = (site.url + "/first/", site.url + "/second/")
        for _ in range(2):
            with pytest.raises(program_under_test.ToolError) as caught:
                next(kit.box.executables("proot"))
            assert "proot-test cannot be had: " in caught.value.message and "404" in caught.value.message
        site.always("/second/*", Answer(200, archive.read_bytes()))
        assert kit.box.install("proot") == list(kit.box.executables("proot")) == [kit.layout.bin + "/proot-test"]
        assert site.paths("GET") == ["/first/proot-test.tgz", "/second/proot-test.tgz"] * 2


def test_purge_takes_what_was_installed_alone(udocker, tmp_path):
    places = [line.split()[-1] for line in udocker.ok("install", "--list").out.splitlines() if line[0] != " "]
    paths = [place for place in places if "/bin/" in place] + [str(udocker.store / "lib/libfakechroot-Lab-1.so")]
    for path in paths + [str(udocker.store / "bin/mine")]:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as tool:
            tool.write("pretended")
    udocker.fails(1, "install", "--purge", "--from=%s/missing.tgz" % tmp_path)
    assert all(map(os.path.exists, paths)), "what cannot be replaced stays"
    udocker.ok("install", "--purge", "N1")          # which needs none
    assert os.listdir(str(udocker.store / "bin")) == ["mine"] and os.listdir(str(udocker.store / "lib")) == []


def test_a_machine_that_nothing_was_released_for(udocker):
    if os.uname().machine != "x86_64":
        pytest.skip("no other machine can be pretended")
    other = Program(udocker.home, [need("setarch"), "i686"] + udocker.entry)
    assert "no runC or crun was released for a machine of type i686" in other.fails(1, "install", "R1").err


def test_a_tool_without_a_digest_of_its_own_is_known_by_its_tarball(tmp_path):
    archive = tarball(tmp_path / "good.tgz", "runc-test", b"\x7fELF pretended")
    with pytest.raises(program_under_test.ToolError):
        Toolkit(tmp_path, program_under_test.Tool("runc-test", "0" * 64), str(archive)).box.install("runc")
    good = program_under_test.Tool("runc-test", hashlib.sha256(archive.read_bytes()).hexdigest())
    assert Toolkit(tmp_path, good, str(archive)).box.install("runc")


def test_libraries_come_as_a_set(tmp_path):
    archive = tarball(tmp_path / "good.tgz", "../lib/libfakechroot-Lab-1.so", b"\x7fELF pretended", "../lib/VERSION",
                      "libfakechroot-Lab-2.so")
    tool = program_under_test.Tool("libfakechroot-test", hashlib.sha256(archive.read_bytes()).hexdigest(),
                                   is_library=True)
    kit = Toolkit(tmp_path, tool, str(archive))
    kit.box.install("fakechroot")
    assert sorted(os.listdir(kit.layout.lib)) == [".libfakechroot-test", "libfakechroot-Lab-1.so"]
    for name in "libother.so", "libfakechroot-Lab.txt":
        with open(kit.layout.lib + "/" + name, "w") as other:
            other.write("of somebody")
    own = [path for path in kit.box.libraries_here() if path.startswith(kit.layout.lib)]
    assert own == [kit.layout.lib + "/libfakechroot-Lab-1.so"]
    assert kit.box.install("fakechroot") == [], "all of it is there"
