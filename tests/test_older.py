"""One store with the older udocker 1.3.17, the real program: what either of them made, the other one uses."""
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from program import Program
from pulling import encoded

OLDER = Path("/opt/udocker-tests/older/bin/udocker")
TOOLS_VERSION = "1.2.11"        # of the tarball that it would otherwise want to fetch


def older_at(home):
    """The older program with this home."""
    if not OLDER.exists():
        pytest.skip("the older udocker is not installed: tests/run does it when it is run by root")
    library = home / ".udocker" / "lib"
    library.mkdir(parents=True)
    (library / "VERSION").write_text(TOOLS_VERSION + "\n")
    proot = shutil.which("proot") or "/nonexistent"
    return Program(home, [OLDER], {"UDOCKER_USE_PROOT_EXECUTABLE": proot})


@pytest.fixture
def older(udocker):
    """The older program, with the same home."""
    return older_at(udocker.home)


@pytest.fixture(scope="module")
def archive(tmp_path_factory, layout):
    """What docker save wrote before version 25: lab/archived:1. It is skopeo's without the links, which the older one
    moves as they are where archive and store are on one file system, and so breaks them."""
    directory = tmp_path_factory.mktemp("archive")
    subprocess.run(["skopeo", "--insecure-policy", "copy", "--quiet", "oci:%s:busybox" % layout,
                    "docker-archive:%s:lab/archived:1" % (directory / "image.tar")], check=True)
    subprocess.run('mkdir linked && tar -xf image.tar -C linked && cp -rL linked plain && chmod -R u+w linked plain && '
                   'tar -cf image.tar -C plain .', shell=True, check=True, cwd=str(directory))
    return directory / "image.tar"


@pytest.fixture(scope="module")
def tree(tmp_path_factory, images):
    """A container's tree in a tar archive; beside it is the same, compressed."""
    path, reference = tmp_path_factory.mktemp("tree") / "tree.tar", images.host + "/lab/busybox"
    program = Program(tmp_path_factory.mktemp("other"))
    program.ok("pull", reference)
    program.ok("export", "-o", path, program.ok("create", reference).out.strip())
    subprocess.run(["gzip", "--keep", str(path)], check=True)
    return path


def filled(program, store):
    """The program, its store replaced by a copy of another one."""
    shutil.rmtree(str(program.store))
    shutil.copytree(str(store), str(program.store), symlinks=True)
    return program


def names(program):
    return sorted(line.split()[0] for line in program.ok("images").out.splitlines() if ":" in line)


def marker(program, name, mode="P1"):
    """What a command in a new container of an image shows; the older one's banner comes behind it."""
    return program.ok("run", "--rm", name, "/bin/cat", "/etc/marker", env={"UDOCKER_DEFAULT_EXECUTION_MODE": mode}).out


# What the older one made

@pytest.fixture(scope="module")
def older_store(tmp_path_factory, images, archive, tree):
    """A store in which the older one pulled, loaded, imported and named."""
    older = older_at(tmp_path_factory.mktemp("older"))
    older.ok("--insecure", "pull", "--registry=" + images.url, "lab/busybox")
    older.ok("load", "-i", archive)
    older.ok("import", tree, "lab/imported:plain")
    older.ok("import", str(tree) + ".gz", "lab/imported:gz")
    older.ok("create", "--name=mine", "lab/busybox")
    return older.store


@pytest.fixture
def made_by_older(older, older_store, udocker):
    """The program, with that store."""
    return filled(udocker, older_store)


OLDER_IMAGES = ["lab/busybox:latest", "docker.io/lab/archived:1", "lab/imported:plain", "lab/imported:gz"]


def test_what_the_older_one_made_is_listed(made_by_older, older):
    assert names(made_by_older) == sorted(OLDER_IMAGES) == names(older)
    ours, theirs = (program.ok("ps").out.splitlines() for program in (made_by_older, older))
    assert ours[0] == theirs[0].rstrip() and [line.split() for line in ours] == [line.split() for line in theirs]


@pytest.mark.parametrize("image", OLDER_IMAGES)
def test_images_of_the_older_one_are_used(made_by_older, image, mode):
    made_by_older.ok("verify", image)
    made_by_older.ok("history", image)
    assert json.loads(made_by_older.ok("inspect", image).out)["architecture"]
    assert marker(made_by_older, image, mode) == "inside\n"


def test_its_container_runs_and_goes(made_by_older, older, mode):
    assert made_by_older.ok("run", "mine", "cat", "/etc/marker",
                            env={"UDOCKER_DEFAULT_EXECUTION_MODE": mode}).out == "inside\n"
    older.ok("protect", "mine")
    made_by_older.fails(1, "rm", "mine")
    made_by_older.ok("unprotect", "mine")
    made_by_older.ok("rename", "mine", "ours")
    assert "['ours']" in older.ok("ps").out
    made_by_older.ok("rm", "ours")
    assert len(older.ok("ps").out.splitlines()) == 1


def test_its_images_are_removed_to_the_last_file(made_by_older, older):
    older.ok("protect", "lab/busybox:latest")
    made_by_older.fails(1, "rmi", "lab/busybox")
    made_by_older.ok("unprotect", "lab/busybox")
    made_by_older.ok("rmi", *OLDER_IMAGES)
    assert names(older) == [] and os.listdir(str(made_by_older.store / "layers")) == []
    assert os.listdir(str(made_by_older.store / "repos")) == []


@pytest.mark.parametrize("image", OLDER_IMAGES)
def test_containers_of_its_images_become_images(made_by_older, image, mode):
    made_by_older.ok("create", "--name=box", image)
    made_by_older.ok("run", "box", "sh", "-c", "echo new > /srv/new", env={"UDOCKER_DEFAULT_EXECUTION_MODE": mode})
    made_by_older.ok("commit", "box", "lab/made:1")
    assert made_by_older.ok("run", "--rm", "lab/made:1", "cat", "/etc/marker", "/srv/new").out == "inside\nnew\n"


@pytest.mark.parametrize("image", OLDER_IMAGES)
def test_its_images_are_saved_tagged_and_pulled_over(made_by_older, older, images, tmp_path, image):
    made_by_older.ok("save", "-o", tmp_path / "saved.tar", image)
    made_by_older.ok("tag", image, "lab/other:tag")
    made_by_older.ok("rmi", image)
    assert marker(older, "lab/other:tag").startswith("inside\n")
    made_by_older.ok("load", "-i", tmp_path / "saved.tar", "lab/again:1")
    assert marker(made_by_older, "lab/again:1") == "inside\n"
    made_by_older.ok("pull", "--registry=" + images.url, "lab/busybox")
    made_by_older.ok("verify", "lab/busybox")


def test_an_image_of_version_1_that_is_pulled_anew(older, udocker, images, tree):
    """The new one takes the old one's place, whole."""
    older.ok("import", tree, "lab/busybox:latest")
    udocker.ok("pull", "--registry=" + images.url, "lab/busybox")
    udocker.ok("verify", "lab/busybox")
    assert [name for name in os.listdir(str(udocker.store / "layers")) if not name.startswith("sha256:")] == []
    assert marker(older, "lab/busybox").startswith("inside\n")


@pytest.mark.parametrize("damage", [
    lambda image: (image / "ancestry").write_text("no json"), lambda image: (image / "ancestry").write_text("[]"),
    lambda image: (image / "ancestry").write_text('["../../../../etc/passwd"]'),
    lambda image: (image / "ancestry").unlink(),
    lambda image: [path.unlink() for path in image.glob("*.layer")], lambda image: (image / "v1").rename(image / "v2"),
])
def test_a_damaged_image_of_version_1(older, udocker, tree, damage):
    older.ok("import", tree, "lab/imported:1")
    damage(udocker.store / "repos/lab/imported/1")
    for command in ["verify"], ["create"], ["save", "-o", "out.tar"]:
        udocker.fails(1, *command + ["lab/imported:1"])
    assert names(udocker) == ["lab/imported:1"]
    udocker.ok("images", "-l", "-p")
    udocker.ok("rmi", "lab/imported:1")


def test_its_login_is_used(older, udocker, private_registry):
    older.ok("--insecure", "login", "--username=green", "--password=secret:word", "--registry=" + private_registry.url)
    udocker.ok("pull", private_registry.host + "/lab/busybox")
    udocker.ok("logout", private_registry.host)
    assert json.loads((udocker.store / "keystore").read_text()) == {}


# What ours made

@pytest.fixture(scope="module")
def our_store(tmp_path_factory, images, archive, tree):
    """A store in which ours pulled, loaded, imported and named."""
    home = tmp_path_factory.mktemp("ours")
    older_at(home)
    ours = Program(home)
    ours.ok("pull", "--registry=" + images.url, "lab/busybox")
    ours.ok("pull", "--registry=" + images.url, "lab/busybox:schema2")
    ours.ok("load", "-i", archive)
    ours.ok("import", tree, "lab/imported:plain")
    ours.ok("create", "--name=mine", "lab/busybox")
    return ours.store


@pytest.fixture
def made_by_ours(older, our_store):
    """The older program, with that store."""
    return filled(older, our_store)


OUR_IMAGES = ["lab/busybox:latest", "lab/busybox:schema2", "lab/archived:1", "lab/imported:plain"]


@pytest.mark.parametrize("image", OUR_IMAGES)
def test_our_images_are_used_by_the_older_one(made_by_ours, image):
    assert image in names(made_by_ours)
    made_by_ours.ok("verify", image)
    assert json.loads(made_by_ours.ok("inspect", image).out)["architecture"]
    assert marker(made_by_ours, image).startswith("inside\n")


def test_our_containers_and_marks_are_seen_by_the_older_one(made_by_ours, udocker):
    assert "['mine']" in made_by_ours.ok("ps").out
    assert made_by_ours.ok("run", "mine", "/bin/cat", "/etc/marker").out.startswith("inside\n")
    udocker.ok("protect", "mine", "lab/busybox")
    assert made_by_ours("rm", "mine").status and made_by_ours("rmi", "lab/busybox:latest").status
    udocker.ok("unprotect", "mine", "lab/busybox")
    made_by_ours.ok("rm", "mine")
    for image in OUR_IMAGES:
        made_by_ours.ok("rmi", image)
    assert udocker.ok("images").out == "REPOSITORY\n" and os.listdir(str(udocker.store / "layers")) == []


@pytest.mark.parametrize("words", [["--clone"], []])
def test_exports_of_either_are_imported_by_the_other(made_by_ours, udocker, tmp_path, words):
    udocker.ok("export", *words + ["-o", tmp_path / "ours.tar", "mine"])
    made_by_ours.ok("export", *words + ["-o", tmp_path / "theirs.tar", "mine"])
    kind = words or ["--tocontainer"]
    for importer, file in (made_by_ours, "ours.tar"), (udocker, "theirs.tar"):
        container = importer.ok("import", *kind + ["--name=" + file[0], tmp_path / file]).out.split()[-1]
        for runner in made_by_ours, udocker:
            assert runner.ok("run", container, "/bin/cat", "/etc/marker").out.startswith("inside\n")


@pytest.mark.parametrize("image", OUR_IMAGES)
def test_our_archives_are_loaded_by_the_older_one(made_by_ours, udocker, tmp_path, image):
    udocker.ok("save", "-o", tmp_path / "saved.tar", image)
    made_by_ours.ok("load", "-i", tmp_path / "saved.tar", "lab/loaded")
    assert marker(made_by_ours, "lab/loaded:" + image.rpartition(":")[2]).startswith("inside\n")


def test_our_login_is_used_by_the_older_one(udocker, older, private_registry):
    udocker.ok("login", "-u", "green", "--password-stdin", private_registry.host, input=b"secret:word")
    older.ok("--insecure", "pull", "--registry=" + private_registry.url, "lab/busybox")
    udocker.ok("login", "-u", "green", "--password-stdin", private_registry.host, input=b"secret:word")
    assert json.loads((udocker.store / "keystore").read_text()) == {
        private_registry.host: {"auth": encoded("green", "secret:word"), "email": ""}}
