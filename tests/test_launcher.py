"""The ways in which the program gets onto a machine: the two files, one file alone, a link, pip."""
import ast
import importlib.util
import os
import shutil
import subprocess
import sys

import pytest

from program import CHECKOUT, Program

LAUNCHER = CHECKOUT / "udocker"
PROGRAM = CHECKOUT / "udocker.py"


def program(home, *entry):
    directory = home / "home"
    directory.mkdir()
    return Program(directory, entry)


@pytest.fixture
def two_files(tmp_path):
    """Both files in a directory of their own, as a user downloads them."""
    directory = tmp_path / "downloaded"
    directory.mkdir()
    for file in LAUNCHER, PROGRAM:
        shutil.copy(str(file), str(directory))
    return directory


def assert_works(udocker):
    assert "udocker" in udocker.ok("--help").out
    assert udocker.ok("images").out == "REPOSITORY\n"
    assert udocker("no-such-command").status == 2


def test_the_launcher(tmp_path, two_files):
    """It takes the python3 of PATH."""
    assert_works(program(tmp_path, two_files / "udocker"))


def test_the_launcher_through_links(tmp_path, two_files):
    (tmp_path / "bin").mkdir()
    (tmp_path / "absolute").symlink_to(two_files / "udocker")
    (tmp_path / "bin" / "relative").symlink_to("../absolute")
    assert_works(program(tmp_path, tmp_path / "bin" / "relative"))


@pytest.mark.parametrize("entry", ["udocker", "udocker.py"])
def test_modules_beside_the_program_are_not_taken_for_pythons(tmp_path, two_files, entry):
    """Who keeps it in a home directory has files of any name beside it."""
    for name in "random", "json", "struct", "tarfile", "zlib", "hashlib", "csv", "ctypes", "subprocess", "threading":
        (two_files / (name + ".py")).write_text("raise SystemExit('mine')\n")
    udocker = program(tmp_path, sys.executable, two_files / entry)
    (tmp_path / "tree.tar").write_bytes(bytes(1024))
    udocker.ok("import", tmp_path / "tree.tar", "lab/empty")
    assert "lab/empty" in udocker.ok("images").out
    assert "pulled" in udocker.fails(125, "run", "--add-host=a:1.2.3.4", "--mount=type=bind,source=/,target=/x",
                                     "127.0.0.1:1/absent").err


def test_the_launcher_keeps_bytecode(tmp_path, two_files):
    program(tmp_path, sys.executable, two_files / "udocker").ok("--help")
    assert list((two_files / "__pycache__").glob("udocker.*.pyc"))


def test_the_launcher_in_a_directory_that_is_read_only(tmp_path, two_files):
    two_files.chmod(0o555)
    try:
        assert_works(program(tmp_path, sys.executable, two_files / "udocker"))
    finally:
        two_files.chmod(0o755)


def test_the_launcher_is_not_fooled_by_the_current_directory(tmp_path, two_files):
    udocker = program(tmp_path, sys.executable, two_files / "udocker")
    (udocker.home / "udocker.py").write_text("raise SystemExit('the wrong file')\n")
    (udocker.home / "json.py").write_text("raise SystemExit('the wrong file')\n")
    assert_works(udocker)


def test_one_file_under_another_name(tmp_path):
    """udocker.py, copied as udocker and made executable, is the whole program."""
    shutil.copy(str(PROGRAM), str(tmp_path / "udocker"))
    (tmp_path / "udocker").chmod(0o755)
    assert_works(program(tmp_path, tmp_path / "udocker"))


def test_one_file_that_is_run_by_name(tmp_path):
    assert_works(program(tmp_path, sys.executable, PROGRAM))


def test_an_old_python_is_refused_in_one_line(tmp_path):
    """Only the version differs, as seen by the launcher: its text must be one that any Python can parse."""
    old = tmp_path / "old.py"
    old.write_text("import runpy, sys\nsys.version_info = (2, 7, 18)\nsys.argv = sys.argv[1:]\n"
                   "runpy.run_path(sys.argv[0], run_name='__main__')\n")
    result = program(tmp_path, sys.executable, old, LAUNCHER)("--help")
    assert result.status not in (0, None) and result.out == ""
    assert len(result.err.splitlines()) == 1 and "3.6" in result.err


def test_the_launchers_grammar_is_that_of_any_python():
    tree = ast.parse(LAUNCHER.read_text())
    newer = [name for name in ("JoinedStr", "AnnAssign", "NamedExpr", "AsyncFunctionDef", "Nonlocal")
             if any(type(node).__name__ == name for node in ast.walk(tree))]
    assert newer == []
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    assert all(getattr(call.func, "id", "") != "print" for call in calls), "print is a statement in Python 2"


@pytest.mark.parametrize("where", ["target", "venv"])
def test_pip_install(tmp_path, where):
    """Without the network: what builds the package is what this Python has."""
    if not all(importlib.util.find_spec(module) for module in ("pip", "setuptools", "wheel")):
        pytest.skip("pip, setuptools or wheel is not installed")
    source = tmp_path / "source"        # pip builds in the tree
    source.mkdir()
    for path in filter(os.path.isfile, map(str, CHECKOUT.iterdir())):       # temporary directories may be in it too
        shutil.copy(path, str(source))
    if where == "venv":
        prefix = tmp_path / "venv"
        subprocess.run([sys.executable, "-m", "venv", "--system-site-packages", "--without-pip", str(prefix)],
                       check=True)
        interpreter, options, env = prefix / "bin" / "python3", [], {}
    else:
        prefix = tmp_path / "target"
        interpreter, options, env = sys.executable, ["--target", str(prefix)], {"PYTHONPATH": str(prefix)}
    subprocess.run([str(interpreter), "-m", "pip", "install", "--no-build-isolation", "--no-index",
                    "--disable-pip-version-check", "--no-warn-script-location", *options, str(source)],
                   check=True, stdout=subprocess.PIPE, env=dict(os.environ, HOME=str(tmp_path)))
    assert_works(program(tmp_path, prefix / "bin" / "udocker").with_env(**env))


@pytest.mark.parametrize("content", ["x = = 1\n", "", "raise OSError('for another machine')\n"])
def test_modules_that_are_for_another_python(udocker, images, tmp_path, content):
    """An environment's PYTHONPATH: what udocker can do without, it does without."""
    for name in "isal", "zlib_ng", "pycurl", "zstandard":
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(content)
    other = udocker.with_env(PYTHONPATH=str(tmp_path))
    reference = images.host + "/lab/busybox"
    other.ok("pull", reference)
    other.ok("create", "--name=made", reference)
    assert "inflating" in other("doctor").out and "transport: " in other.ok("version").out
