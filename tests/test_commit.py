"""diff and commit: what has changed in a container, and images of it, which umoci and skopeo read."""
import json
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

import archives
import udocker as program_under_test
from archives import archive, config_digest, docker_25, made, skopeo
from conftest import need
from layers import directory, file, hardlink, symlink, tar, whiteout
from test_end_to_end import description

LOWER = tar(directory("etc"), file("etc/motd", b"hello\n"), hardlink("etc/issue", "etc/motd"), file("etc/kept", b"k"),
            directory("srv"), directory("srv/gone"), file("srv/gone/file", b"x"), directory("srv/was"),
            file("srv/was/inside", b"x"), symlink("srv/link", "gone"), file("srv/file", b"x"))
UPPER = tar(file("etc/upper", b"upper\n"))
SETTINGS = {"Env": ["A=1", "B=2"], "Cmd": ["/bin/first"], "Labels": {"one": "1"}, "WorkingDir": "/srv"}


@pytest.fixture
def box(udocker, tmp_path):
    """The program with the image lab/made:1, of two layers, and a container of it named box."""
    image = made(LOWER, UPPER, config=dict(SETTINGS))
    udocker.ok("load", input=image_archive(image))
    udocker.ok("create", "--name=box", "lab/made:1")
    return udocker


def image_archive(image):
    """What docker save writes of an image named lab/made:1."""
    return archive(docker_25((image, ["lab/made:1"])))


def root_of(program, name="box"):
    return Path(archives.root_of(program, name))


def config_of(program, name):
    """The document of an image."""
    return json.loads(program.ok("inspect", "--type=image", name).out)


def manifest(program, name):
    return json.loads(archives.stored(program, name).decode())


def change(root):
    """Do to the tree of LOWER and UPPER all that can be done to one."""
    (root / "etc/motd").write_text("changed\n")             # and so its other name
    (root / "etc/upper").unlink()
    (root / "srv/gone/file").unlink()
    (root / "srv/gone").rmdir()
    shutil.rmtree(str(root / "srv/was"))
    (root / "srv/was").write_text("a file now")
    (root / "srv/link").unlink()
    (root / "srv/link").symlink_to("elsewhere")
    (root / "srv/file").chmod(0o700)
    (root / "new/deep").mkdir(parents=True)
    (root / "new/deep/file").write_text("new\n")
    os.link(str(root / "new/deep/file"), str(root / "new/name"))
    (root / "new/n\u00e4me with spaces").write_text("")


CHANGES = """\
C /etc
C /etc/issue
C /etc/motd
D /etc/upper
A /new
A /new/deep
A /new/deep/file
A /new/name
A /new/n\u00e4me with spaces
C /srv
C /srv/file
D /srv/gone
C /srv/link
C /srv/was
"""


def test_nothing_has_changed(box):
    assert box.ok("diff", "box").out == ""


def test_what_has_changed(box):
    change(root_of(box))
    assert box.ok("diff", "box").out == CHANGES
    assert sorted(os.listdir(str(box.store / "containers"))) == sorted(["box", root_of(box).parent.name])


def test_what_goes_while_it_is_read(tmp_path):
    """A command in the container goes on: what it removes after the comparison is passed over."""
    (tmp_path / "there").mkdir()
    (tmp_path / "there/file").write_text("")
    names = ["gone", "gone/file", "there", "there/file", "there/gone"]
    found = [name for name, _, _, _ in program_under_test.OpenTree(str(tmp_path)).named(names)]
    assert found == ["there", "there/file"]


def unpacked(program, name, directory):
    """What umoci makes of an image, as description() tells it."""
    need("umoci")
    program.ok("save", "-o", directory / "saved.tar", name)
    skopeo("oci-archive:%s" % (directory / "saved.tar"), "oci:%s:it" % (directory / "layout"))
    subprocess.run(["umoci", "--log=error", "unpack", "--rootless", "--image", "%s:it" % (directory / "layout"),
                    str(directory / "bundle")], check=True)
    return description(directory / "bundle/rootfs", withheld=0o022)


def test_an_image_of_a_container(box, tmp_path):
    """It has the layers of the one below and one more, of what has changed alone; every tool makes the same of it."""
    before = manifest(box, "lab/made:1")["layers"]
    change(root_of(box))
    printed = box.ok("commit", "-m", "why", "--author=me", "box", "lab/committed:2").out
    assert printed == config_digest(box, "lab/committed:2") + "\n"
    after = manifest(box, "lab/committed:2")["layers"]
    assert after[:-1] == before and after[-1]["size"] < 1000
    box.ok("verify", "lab/committed:2")
    box.ok("create", "--name=again", "lab/committed:2")
    assert box.ok("diff", "again").out == ""
    ours, theirs = description(root_of(box)), description(root_of(box, "again"))
    assert ours == theirs == unpacked(box, "lab/committed:2", tmp_path)
    config = config_of(box, "lab/committed:2")
    assert {key: config["config"][key] for key in SETTINGS} == SETTINGS
    step = config["history"][-1]
    assert (step["comment"], step["author"], config["author"]) == ("why", "me", "me")
    assert config["created"] == step["created"]
    assert len(config["history"]) == 1 and len(config["rootfs"]["diff_ids"]) == 3


@pytest.mark.parametrize("line,key,value", [
    ("ENV PATH=/opt/bin:$A B=${A}b", "Env", ["A=1", "PATH=/opt/bin:1", "B=1b"]),
    ("ENV A='$A' B=\\$A", "Env", ["A=$A", "B=$A"]), ("ENV A=${C:-$A}3", "Env", ["B=2", "A=13"]),
    ("ENV A=${B:-none} B=${C:-none} C=${A:+some} D=${X:+some}", "Env", ["A=2", "B=none", "C=some", "D="]),
    ("ENV A=\"it's $B\" B=\"$A's\"", "Env", ["A=it's 2", "B=1's"]),
    ("ENV A $B and more", "Env", ["B=2", "A=2 and more"]),
    ("LABEL one=$B", "Labels", {"one": "2"}), ("VOLUME [\"/v$A\"]", "Volumes", {"/v1": {}}), ("USER u$A", "User", "u1"),
    ("CMD echo $A", "Cmd", ["/bin/sh", "-c", "echo $A"]), ("CMD [\"$A\"]", "Cmd", ["$A"]),
    ("WORKDIR sub/$A", "WorkingDir", "/srv/sub/1"), ("WORKDIR ../up", "WorkingDir", "/up")])
def test_variables_of_a_dockerfile(box, line, key, value):
    box.ok("commit", "--change=" + line, "box", "lab/new:1")
    assert config_of(box, "lab/new:1")["config"][key] == value


def test_its_config_is_changed_by_lines_of_a_dockerfile(box):
    lines = ["ENV B=3 C=4", "LABEL two=2", "entrypoint [\"/bin/e\"]", "WORKDIR /", "VOLUME /data"]
    box.ok("commit", *["--change=" + line for line in lines] + ["box", "lab/new:1"])
    config = config_of(box, "lab/new:1")
    assert config["config"]["Env"] == ["A=1", "B=3", "C=4"] and config["config"]["Labels"] == {"one": "1", "two": "2"}
    assert config["config"]["Entrypoint"] == ["/bin/e"] and "Cmd" not in config["config"]
    assert manifest(box, "lab/new:1")["layers"] == manifest(box, "lab/made:1")["layers"]
    assert config["history"][-1]["empty_layer"] is True and len(config["rootfs"]["diff_ids"]) == 2
    box.ok("commit", "-c", "CMD c", "-c", "ENTRYPOINT e", "box", "lab/new:1")
    config = config_of(box, "lab/new:1")["config"]
    assert config["Cmd"] == ["/bin/sh", "-c", "c"]


@pytest.mark.parametrize("words,told", [
    (["--change=FROM x", "box", "lab/new"], "unknown instruction"),
    (["--change=ENV", "box", "lab/new"], "nothing follows"),
    (["box", "lab/UPPER"], "lab/UPPER"), (["box"], "IMAGE"), (["box", "lab/new@sha256:" + "0" * 64], "digest"),
    (["-m", "\udcff", "box", "lab/new"], "UTF-8")])
def test_what_no_image_can_be_made_with(box, words, told):
    """Nothing comes of it."""
    assert told in box.fails(2, "commit", *words).err
    assert "lab/new" not in box.ok("images").out


def test_an_image_that_is_not_here_any_more(box, tmp_path):
    """All of the tree is one layer then."""
    change(root_of(box))
    box.ok("rmi", "lab/made:1")
    assert "lab/made:1" in box.fails(1, "diff", "box").err
    assert "all of it is one layer" in box.ok("commit", "box", "lab/whole:1").err
    assert len(manifest(box, "lab/whole:1")["layers"]) == 1
    assert description(root_of(box)) == unpacked(box, "lab/whole:1", tmp_path)
    config = config_of(box, "lab/whole:1")
    assert {key: config["config"][key] for key in SETTINGS} == SETTINGS and len(config["history"]) == 1


def test_another_text_of_the_same_length(box):
    (root_of(box) / "etc/kept").write_text("x")
    assert box.ok("diff", "box").out == "C /etc\nC /etc/kept\n"


def test_an_author_stays_with_his_image(udocker):
    udocker.ok("load", input=image_archive(made(LOWER, author="Base")))
    udocker.ok("create", "--name=box", "lab/made:1")
    udocker.ok("commit", "box", "lab/new:1")
    assert "author" not in config_of(udocker, "lab/new:1")


def test_an_image_under_another_name(box):
    """Its layers tell which one it is, also below others; a tag may have moved meanwhile."""
    (root_of(box) / "etc/motd").write_text("changed\n")
    box.ok("commit", "box", "lab/other:1")
    box.ok("load", input=image_archive(made(UPPER)))
    assert box.ok("diff", "box").out == "C /etc\nC /etc/issue\nC /etc/motd\n"
    box.ok("rmi", "lab/other:1")
    box.fails(1, "diff", "box")


def test_the_image_itself_is_replaced(box):
    (root_of(box) / "etc/motd").write_text("changed\n")
    box.ok("commit", "box", "lab/made:1")
    box.ok("commit", "box", "lab/made:1")
    assert len(manifest(box, "lab/made:1")["layers"]) == 3
    box.ok("verify", "lab/made:1")


def test_names_that_would_remove_others(box):
    for name in "etc/.wh.kept", "etc/.wh..wh..opq":
        (root_of(box) / name).write_text("")
    assert "A /etc/.wh.kept" in box.ok("diff", "box").out
    (root_of(box) / "etc/.wh.directory").mkdir()
    (root_of(box) / "etc/.wh.directory/inside").write_text("")
    assert "A /etc/.wh.directory/inside" in box.ok("diff", "box").out
    result = box.ok("commit", "box", "lab/new:1")
    assert result.err.count("left out") == 4
    box.ok("create", "--name=again", "lab/new:1")
    assert not (root_of(box, "again") / "etc/.wh.directory").exists()
    assert (root_of(box, "again") / "etc/kept").exists() and (root_of(box, "again") / "etc/motd").exists()


def test_a_container_of_a_mere_tree(box, tmp_path):
    (tmp_path / "tree.tar").write_bytes(LOWER)
    box.ok("import", "--tocontainer", "--name=mere", "--change=ENV X=1", tmp_path / "tree.tar")
    box.ok("commit", "mere", "lab/mere:1")
    assert config_of(box, "lab/mere:1")["config"]["Env"] == ["X=1"]
    assert "no image here" in box.fails(1, "diff", "mere").err


@pytest.mark.parametrize("config", [
    {"Env": 5, "Labels": [1], "Volumes": "x", "ExposedPorts": None, "Cmd": None}, {}, None])
def test_odd_configs_are_changed_too(udocker, config):
    udocker.ok("load", input=image_archive(made(LOWER, config=config)))
    udocker.ok("create", "--name=box", "lab/made:1")
    words = ["ENV A=1", "LABEL a=b", "VOLUME /v", "EXPOSE 80"]
    udocker.ok("commit", *["--change=" + word for word in words] + ["box", "lab/new:1"])
    changed = config_of(udocker, "lab/new:1")["config"]
    assert changed["Env"] == ["A=1"] and changed["Labels"] == {"a": "b"} and changed["Volumes"] == {"/v": {}}


def members(program, name, number=-1):
    """{name: TarInfo} of a layer."""
    digest = manifest(program, name)["layers"][number]["digest"]
    with tarfile.open(str(program.store / "layers" / digest)) as layer:
        return {member.name: member for member in layer.getmembers()}


def test_what_the_image_had_keeps_its_owners_and_modes(udocker):
    """Also what a plain user cannot have; but what the user has changed is as he wants it."""
    lower = tar(directory("home", uid=7), directory("home/jo", 0o2775, uid=1000, gid=100), file("home/jo/file", b"x"),
                directory("home/jo/work", 0o777, uid=1000), file("sudo", b"x", mode=0o4111, uid=5), file("own", uid=6),
                file("gone", uid=7), directory("then", uid=8), file("open", uid=6), file("was", uid=9),
                directory("shared", 0o2775))
    upper = tar(directory("home", uid=0), file("gone", b"again"), whiteout("was"))
    udocker.ok("load", input=image_archive(made(lower, upper)))
    udocker.ok("create", "--name=box", "lab/made:1")
    root = root_of(udocker)
    (root / "own").chmod(0o755)
    (root / "open").chmod(0o664)
    (root / "sudo").chmod(0o711)
    (root / "then").rmdir()
    for name in "home/jo/work/new", "home/jo/file", "sudo", "own", "gone", "then", "open", "was", "shared/new":
        (root / name).write_text("changed")
    (root / "sudo").chmod(0o511)
    udocker.ok("commit", "box", "lab/new:1")
    found = {name: (oct(member.mode), member.uid, member.gid) for name, member in members(udocker, "lab/new:1").items()}
    assert found == {
        "home": ("0o755", 0, 0), "home/jo": ("0o2775", 1000, 100), "home/jo/work": ("0o777", 1000, 0),
        "home/jo/work/new": ("0o644", 0, 0), "home/jo/file": ("0o644", 0, 0), "sudo": ("0o4111", 5, 0),
        "own": ("0o755", 6, 0), "gone": ("0o644", 0, 0), "then": ("0o644", 8, 0), "open": ("0o664", 6, 0),
        "was": ("0o644", 0, 0), "shared": ("0o2775", 0, 0), "shared/new": ("0o644", 0, 0)}


def test_what_unpacking_made_is_no_change(udocker):
    """Directories that no layer names, and volumes; whatever the umask is."""
    umask = os.umask(0o002)
    try:
        udocker.ok("load", input=image_archive(made(
            tar(file("opt/app/bin/x", mode=0o775), directory("srv", 0o775)), config={"Volumes": {"/vol/data": {}}})))
        udocker.ok("create", "--name=box", "lab/made:1")
        root = root_of(udocker)
        for name in "", "opt", "opt/app", "opt/app/bin", "vol", "vol/data":
            os.utime(str(root / name), (1, 1))
        os.umask(0o022)
        assert udocker.ok("diff", "box").out == ""
    finally:
        os.umask(umask)


def test_what_udocker_leaves_in_a_tree_is_no_change(box):
    root = root_of(box)
    for name in "etc/hosts", "etc/resolv.conf":
        (root / name).write_text("")
    (root / "dev").mkdir()
    (root / "etc/apt").mkdir()
    (root / "etc/apt/udocker.conf").write_text("APT")
    assert box.ok("diff", "box").out == "C /etc\nA /etc/apt\n"
    (root / "etc/hosts").write_text("mine\n")
    assert "A /etc/hosts" in box.ok("diff", "box").out


def test_what_cannot_be_read_is_told(box):
    (root_of(box) / "etc/closed").write_text("x")
    (root_of(box) / "etc/closed").chmod(0)
    for command in ["commit", "box", "lab/new:1"], ["export", "-o", box.home / "tree.tar", "box"]:
        assert "setup --fixperm" in box.fails(1, *command).err
    box.ok("setup", "--fixperm", "box")
    box.ok("commit", "box", "lab/new:1")


def test_a_socket_in_the_place_of_a_file(box):
    """No layer has sockets: the file is removed."""
    path = root_of(box) / "srv/file"
    path.unlink()
    subprocess.check_call(["python3", "-c", "import socket; socket.socket(socket.AF_UNIX).bind('file')"],
                          cwd=str(path.parent))        # the whole path would be too long
    assert "D /srv/file" in box.ok("diff", "box").out
    box.ok("commit", "box", "lab/new:1")
    assert "srv/.wh.file" in members(box, "lab/new:1")
