"""cp, and the commands that keep a store in order: tag, rename, protect, rm, rmi, verify, mkrepo."""
import io
import json
import os
import shutil
import stat
import tarfile
import subprocess

import pytest

from archives import (archive, config_digest, created, docker_25, files_of, listed, listing, made, root_of,
                      stored)
from layers import directory, file, hardlink, symlink, tar
from program import Program

LOWER = tar(directory("etc"), file("etc/motd", b"hello\n"), file("etc/issue", b"issue\n", mode=0o640))
IMAGE, OTHER = made(LOWER), made(LOWER, tar(symlink("link", "etc")))
TREE = tar(file("file", b"content", mode=0o600), file("other", b"other"), directory("dir", mode=0o750),
           file("dir/inner", b"inner"), directory("dir/deep"), directory("there"), file("there/kept", b"kept"),
           symlink("link", "file"), symlink("to dir", "dir"), hardlink("dir/second", "dir/inner"))
FILE, KEPT, INNER = {"": "content"}, {"kept": "kept"}, {"inner": "inner", "second": "inner", "deep": None}


def below(prefix, tree):
    """The same tree in a directory of another one."""
    return dict({prefix: None}, **{prefix + "/" + name: text for name, text in tree.items()})


def texts(path):
    """{relative name: text, None for a directory, -> target for a link} of what is at a path; "" is the path itself."""
    if os.path.islink(path):
        return {"": "-> " + os.readlink(path)}
    if os.path.isfile(path):
        with open(path) as content:
            return {"": content.read()}
    found = {}
    for name in os.listdir(path):
        for inner, text in texts(os.path.join(path, name)).items():
            found[name + "/" + inner if inner else name] = text
        if os.path.isdir(os.path.join(path, name)) and not os.path.islink(os.path.join(path, name)):
            found[name] = None
    return found


@pytest.fixture
def store(udocker):
    """The program with the images made:1 and other:1 and the containers one and two, of equal trees."""
    udocker.ok("load", input=archive(docker_25((IMAGE, ["made:1"]), (OTHER, ["other:1"]))))
    for name in "one", "two":
        udocker.ok("import", "--tocontainer", "--name=" + name, "-", input=TREE)
    return udocker


@pytest.fixture(scope="module")
def pattern(tmp_path_factory):
    """A home whose container, named a, has the tree to copy from and to; it is made anew from itself for each test."""
    program = Program(tmp_path_factory.mktemp("pattern"))
    program.ok("import", "--tocontainer", "--name=a", "-", input=TREE)
    yield program
    shutil.rmtree(str(program.home))


@pytest.fixture
def trees(pattern, tmp_path):
    """The program and three equal trees: {letter: path}, a and b of containers and h of the host."""
    paths = {"a": root_of(pattern, "a"), "h": str(tmp_path / "h")}
    pristine = str(tmp_path / "pristine")
    shutil.copytree(paths["a"], pristine, symlinks=True)
    shutil.copytree(paths["a"], paths["h"], symlinks=True)
    pattern.ok("clone", "--name=b", "a")
    paths["b"] = root_of(pattern, "b")
    yield pattern, paths
    pattern.ok("rm", "b")
    shutil.rmtree(paths["a"])
    shutil.move(pristine, paths["a"])


# cp

# source, target (both below the top of a tree), what is at the place given then; None: it is refused.
# https://docs.docker.com/reference/cli/docker/container/cp/
RULES = [
    ("file", "new", "new", FILE),
    ("file", "other", "other", FILE),
    ("file", "there", "there", dict(KEPT, file="content")),
    ("file", "there/", "there", dict(KEPT, file="content")),
    ("file", "there/new", "there/new", FILE),
    ("file", "new/", "", None),
    ("file", "new/deep", "", None),
    ("file", "to dir", "dir", dict(INNER, file="content")),
    ("file", "link/", "", None),
    ("file/", "new", "", None),
    ("file/.", "new", "", None),
    ("dir", "new", "new", INNER),
    ("dir", "new/", "new", INNER),
    ("dir/", "new", "new", INNER),
    ("dir", "new/deep", "", None),
    ("dir", "there", "there", dict(KEPT, **below("dir", INNER))),
    ("dir/", "there/", "there", dict(KEPT, **below("dir", INNER))),
    ("dir/.", "there", "there", dict(KEPT, **INNER)),
    ("dir/.", "new", "new", INNER),
    ("dir", "other", "", None),
    ("dir/.", "other", "", None),
    ("link", "new", "new", {"": "-> file"}),
    ("-L link", "new", "new", FILE),
    ("to dir", "new", "new", {"": "-> dir"}),
    ("to dir/", "new", "new", INNER),
    ("to dir/.", "there", "there", dict(KEPT, **INNER)),
    ("-L to dir", "new", "new", INNER),
    ("to dir/inner", "new", "new", {"": "inner"}),
    ("absent", "new", "", None),
    ("dir/absent", "there", "", None),
]


@pytest.mark.parametrize("source, target, place, expected", RULES)
def test_cp_in_out_and_across(trees, source, target, place, expected):
    program, paths = trees
    options, source = (["-L"], source[3:]) if source.startswith("-L ") else ([], source)
    words = {"a": "a:/", "b": "b:/", "h": paths["h"] + "/"}
    for start, end in "ah", "ha", "ba":
        before = listing(paths[start]), listing(paths[end])
        arguments = ["cp"] + options + [words[start] + source, words[end] + target]
        if expected is None:
            program.fails(1, *arguments)
            assert (listing(paths[start]), listing(paths[end])) == before
        else:
            program.ok(*arguments)
            assert texts(os.path.join(paths[end], place)) == expected
            assert listing(paths[start]) == before[0]
        shutil.rmtree(paths[end])
        shutil.copytree(paths["b"], paths[end], symlinks=True)


def test_cp_keeps_what_a_file_is(store):
    store.ok("cp", "one:/.", "two:/new")
    before, after = listing(root_of(store, "one")), listing(root_of(store, "two") + "/new")
    assert after == before and after[b"dir/second"][3] == b"dir/inner", "hard links stay hard links"


def test_cp_as_docker_has_it(store):
    store.ok("cp", "-a", "-q", "one:/dir/.", "two:/new")
    store.ok("cp", "--archive", "--quiet", "one:/dir/.", "two:/newer")
    one, two = (listing(root_of(store, "two") + name) for name in ("/new", "/newer"))
    assert one == two == listing(root_of(store, "one") + "/dir")


@pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")
def test_cp_names_the_file_that_it_cannot_write(trees, tmp_path):
    program, paths = trees
    os.chmod(paths["h"] + "/dir", 0o555)
    try:
        assert "/h/dir/inner: " in program.fails(1, "cp", "a:/.", paths["h"]).err
    finally:
        os.chmod(paths["h"] + "/dir", 0o755)


@pytest.mark.skipif(os.getuid() == 0, reason="root may read everything")
def test_cp_names_the_file_that_it_cannot_read(trees):
    program, paths = trees
    os.chmod(paths["h"] + "/dir/inner", 0)
    assert "error: %s/dir/inner: " % paths["h"] in program.fails(1, "cp", paths["h"] + "/dir", "a:/new").err


def test_cp_into_a_directory_that_only_root_may_write_to(trees):
    """As docker's, which is root's; on the host it is the user's."""
    program, paths = trees
    for tree in "ah":
        os.chmod(paths[tree] + "/dir", 0o555)
    before = listing(paths["h"])
    program.ok("cp", paths["h"] + "/file", "a:/dir/inner")
    program.ok("cp", paths["h"] + "/file", "a:/dir/fresh")
    program.ok("cp", paths["h"] + "/there", "a:/dir")
    assert texts(paths["a"] + "/dir")["fresh"] == "content"
    assert stat.S_IMODE(os.stat(paths["a"] + "/dir").st_mode) == 0o555
    for source in "a:/file", "a:/link", "a:/there":
        if os.getuid():
            assert "%s/dir/%s: " % (paths["h"], source[3:]) in program.fails(1, "cp", source, paths["h"] + "/dir").err
            assert listing(paths["h"]) == before
    for tree in "ah":
        os.chmod(paths[tree] + "/dir", 0o755)


def test_cp_relative_to_where_it_is_called(trees, tmp_path):
    program, paths = trees
    (tmp_path / "x:y").write_text("colon")
    for words in ["a:file", "."], ["a:/file", "./copy"], ["./x:y", "a:there"]:
        program.ok("cp", *words, cwd=tmp_path)
    assert (tmp_path / "file").read_text() == (tmp_path / "copy").read_text() == "content"
    assert texts(paths["a"] + "/there") == {"kept": "kept", "x:y": "colon"}


@pytest.mark.parametrize("words", [["/etc/hostname", "copy"], ["absent:/etc", "copy"], ["/etc/hostname", "absent:/x"],
                                   ["a:/file"], ["a:/file", "b", "c"]])
def test_cp_of_what_cannot_be(pattern, tmp_path, words):
    result = pattern("cp", *words, cwd=tmp_path)
    assert result.status in (1, 2) and result.err.startswith("udocker: error: "), result
    assert not (tmp_path / "copy").exists()


@pytest.mark.parametrize("words", [["a:/file", "/tmp"], ["/mnt", "a:/new"]])
def test_cp_of_directories_right_below_the_root(trees, words):
    """Into a directory that is there, so that the file is removed when it came."""
    program, paths = trees
    os.rename(paths["a"] + "/file", paths["a"] + "/udocker-test-%d" % os.getpid())
    words = [word.replace("a:/file", "a:/udocker-test-%d" % os.getpid()) for word in words]
    try:
        program.ok("cp", *words)
        assert os.path.isdir(paths["a"] + "/new") or os.path.exists("/tmp/udocker-test-%d" % os.getpid())
    finally:
        if os.path.exists("/tmp/udocker-test-%d" % os.getpid()):
            os.unlink("/tmp/udocker-test-%d" % os.getpid())


@pytest.mark.parametrize("target", ["a:/file", "a:/", "a:/dir/../file"])
def test_cp_of_a_file_onto_itself(trees, target):
    program, paths = trees
    program("cp", "a:/file", target)
    assert texts(paths["a"] + "/file") == FILE


@pytest.mark.parametrize("target", ["one:/dir", "one:/dir/deep", "one:/dir/new"])
def test_cp_of_a_directory_into_itself(store, target):
    store("cp", "one:/dir", target)
    found = subprocess.check_output(["find", root_of(store, "one") + "/dir"])
    store.ok("rm", "one")       # pytest could not, where it is too deep
    assert len(found.splitlines()) < 20


def test_cp_of_a_fifo_over_another(trees):
    program, paths = trees
    os.mkfifo(paths["a"] + "/dir/pipe")
    program.ok("cp", "a:/dir/.", "b:/new")
    program.ok("cp", "a:/dir/.", "b:/new")
    assert stat.S_ISFIFO(os.lstat(paths["b"] + "/new/pipe").st_mode)


@pytest.mark.parametrize("source, names", [
    ("a:/file", ["file"]), ("a:/dir", ["dir", "dir/deep", "dir/inner", "dir/second"]),
    ("a:/dir/.", ["deep", "inner", "second"]), ("a:/link", ["link"]),
    ("a:/to dir/", ["dir", "dir/deep", "dir/inner", "dir/second"]),
])
def test_cp_to_standard_output(pattern, source, names):
    with tarfile.open(fileobj=io.BytesIO(pattern.ok("cp", source, "-").out_bytes)) as content:
        assert sorted(content.getnames()) == names


def test_cp_from_standard_input(trees):
    program, paths = trees
    content = program.ok("cp", "a:/dir", "-").out_bytes
    kept = os.listdir(paths["b"] + "/there")
    program.ok("cp", "-", "b:/there", input=content)
    assert kept and sorted(os.listdir(paths["b"] + "/there")) == sorted(kept + ["dir"])
    assert sorted(os.listdir(paths["b"] + "/there/dir")) == ["deep", "inner", "second"]
    assert not list((program.store / "containers").glob("udocker-*"))
    assert "b:/absent" in program.fails(1, "cp", "-", "b:/absent", input=content).err
    program.fails(1, "cp", "-", "b:/there", input=b"no archive")


@pytest.mark.parametrize("source", ["h", "a:/dir"])
def test_cp_onto_a_root_stays_below_it(trees, tmp_path, source):
    """What is copied has directories that the host has too."""
    program, paths = trees
    below = str(tmp_path).lstrip("/")
    from_tree = os.path.join(paths["h"] if source == "h" else paths["a"] + "/dir", below)
    os.makedirs(from_tree)
    with open(from_tree + "/new", "w") as file:
        file.write("copied")
    os.chmod(paths["b"], 0o750)
    program.ok("cp", (paths["h"] if source == "h" else source) + "/.", "b:/")
    assert not (tmp_path / "new").exists()
    with open("%s/%s/new" % (paths["b"], below)) as file:
        assert file.read() == "copied"
    assert stat.S_IMODE(os.stat(paths["b"]).st_mode) == 0o750


def test_cp_of_names_that_mean_something_in_layers(trees):
    program, paths = trees
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        for name in "file", ".wh.file", ".wh..wh..opq":
            archive.addfile(tarfile.TarInfo(name))
    program.ok("cp", "-", "b:/there", input=content.getvalue())
    assert {"file", ".wh.file", ".wh..wh..opq"} <= set(os.listdir(paths["b"] + "/there"))


def test_cp_tells_paths_of_containers_as_they_were_given(pattern):
    assert "a:/dir/absent" in pattern.fails(1, "cp", "/etc/hostname", "a:/dir/absent/x").err


@pytest.mark.parametrize("words", [["-", "a:/dir"], ["-", "/tmp"], ["/etc/hostname", "-"], ["a:/absent", "-"]])
def test_streams_that_cp_does_not_know(pattern, words):
    assert pattern("cp", *words).status in (1, 2)


# cp in trees that lead out of themselves

@pytest.fixture
def outside(trees, tmp_path):
    """The program, its trees, and a directory of the host that links in container a lead to."""
    program, paths = trees
    place = tmp_path / "outside"
    place.mkdir()
    (place / "secret").write_text("secret")
    for name, target in (("abs", str(place)), ("up", "../" * 40 + str(place)), ("abs file", str(place / "secret")),
                         ("chain", "up"), ("there/link", str(place))):
        os.symlink(target, paths["a"] + "/" + name)
    yield program, paths, place
    assert texts(str(place)) == {"secret": "secret"}


@pytest.mark.parametrize("link", ["abs", "up", "chain"])
@pytest.mark.parametrize("exists", [False, True])
def test_links_are_followed_inside_the_tree(outside, tmp_path, link, exists):
    """They lead to the same path below the container's root, whether that is there or not."""
    program, paths, place = outside
    inside = paths["a"] + str(place)
    if exists:
        os.makedirs(inside)
        with open(inside + "/secret", "w") as content:
            content.write("inside")
        program.ok("cp", "a:/%s/secret" % link, tmp_path / "copy")
        assert (tmp_path / "copy").read_text() == "inside"
        for target in "a:/%s/new" % link, "a:/%s" % link, "a:/%s/" % link:
            program.ok("cp", "b:/file", target)
        program.ok("cp", "b:/dir/.", "a:/" + link)
        assert texts(inside) == dict(INNER, secret="inside", new="content", file="content")
        return
    for words in (["a:/%s/secret" % link, "copy"], ["-L", "a:/" + link, "copy"], ["a:/%s/." % link, "copy"],
                  ["b:/file", "a:/%s/new" % link], ["b:/dir", "a:/%s/" % link], ["-L", "a:/abs file", "copy"],
                  ["b:/file", "a:/abs file"], ["a:/../../../..%s/secret" % place, "copy"]):
        program.fails(1, "cp", *words, cwd=tmp_path)
        assert not (tmp_path / "copy").exists()


@pytest.mark.parametrize("source", ["a:/.", "a:/there"])
def test_links_in_a_tree_are_copied_as_links(outside, tmp_path, source):
    program, _, place = outside
    program.ok("cp", source, tmp_path / "copy")
    link = tmp_path / "copy" / ("abs" if source == "a:/." else "link")
    assert os.readlink(str(link)) == str(place)


@pytest.mark.parametrize("link", ["link", "dir"])
def test_a_link_where_a_directory_would_go(outside, link):
    """Neither what is at the target nor anything below it is written to over a link."""
    program, paths, place = outside
    os.makedirs(paths["h"] + "/new/" + link)
    os.rename(paths["h"] + "/file", paths["h"] + "/new/" + link + "/file")
    if link == "dir":
        os.symlink(str(place), paths["a"] + "/there/dir")
    program.fails(1, "cp", paths["h"] + "/new/.", "a:/there")
    assert texts(paths["a"] + "/there/" + link) == {"": "-> " + str(place)}


def test_links_in_a_circle(outside, tmp_path):
    program, paths, _ = outside
    os.symlink("circle", paths["a"] + "/circle")
    for words in ["a:/circle/x", tmp_path / "copy"], ["-L", "a:/circle", tmp_path / "copy"], ["b:/file", "a:/circle/x"]:
        program.fails(1, "cp", *words)


# tag, rename, protect

def test_tag(store):
    store.ok("tag", "made:1", "lab/new:2")
    assert listed(store) == ["lab/new:2", "made:1", "other:1"] and stored(store, "lab/new:2") == IMAGE.manifest
    store.ok("rmi", "made:1")
    store.ok("verify", "lab/new:2")
    assert set(created(store, "lab/new:2")) == {b"etc", b"etc/motd", b"etc/issue"}
    store.ok("tag", "lab/new:2", "lab/new:2")
    store.ok("tag", "other:1", "lab/new:2")
    assert stored(store, "lab/new:2") == OTHER.manifest
    store.ok("rmi", "lab/new:2", "other:1")
    assert os.listdir(str(store.store / "layers")) == []


@pytest.mark.parametrize("words, status", [
    (["absent", "new"], 1), (["made:1", "UPPER"], 2), (["made:1", "../x"], 2), (["made:1", "x@sha256:" + "0" * 64], 2),
    (["made:1"], 2),
])
def test_tags_that_cannot_be(store, words, status):
    store.fails(status, "tag", *words)
    assert listed(store) == ["made:1", "other:1"]


def names_of(program):
    return [line.partition("[")[2].partition("]")[0] for line in program.ok("ps").out.splitlines()[1:]]


def test_rename(store):
    store.ok("rename", "one", "three")
    assert sorted(names_of(store)) == ["'three'", "'two'"]
    store.ok("name", "three", "four")
    store.ok("rename", "four", "five")
    assert sorted(names_of(store)) == ["'five', 'three'", "'two'"]
    identifier = os.path.basename(os.path.dirname(root_of(store, "two")))
    store.ok("rename", identifier, "six")
    assert "'six'" in names_of(store)


@pytest.mark.parametrize("words, status", [
    (["one", "two"], 1), (["one", "one"], 1), (["absent", "new"], 1), (["one", "a/b"], 2), (["one", ""], 2),
    (["one"], 2),
])
def test_names_that_cannot_be(store, words, status):
    store.fails(status, "rename", *words)
    assert sorted(names_of(store)) == ["'one'", "'two'"]


def test_rm_and_rmi_know_each_other(store):
    refusal = store.fails(1, "rm", "made:1")
    assert "no such container" in refusal.err and "udocker rmi made:1" in refusal.err
    for word in "one", store.ok("ps", "-q", "-f", "name=one").out.strip():
        refusal = store.fails(1, "rmi", word)
        assert "no such image" in refusal.err and "udocker rm %s removes it" % word in refusal.err
    for line in "rm absent", "rm UPPER", "rmi absent":
        assert "removes it" not in store.fails(1, *line.split()).err
    assert sorted(names_of(store)) == ["'one'", "'two'"] and listed(store) == ["made:1", "other:1"]


def test_a_protected_image(store):
    store.ok("protect", "made:1")
    assert "made:1    P" in store.ok("images").out and "other:1    ." in store.ok("images").out
    for words in ["rmi", "made:1"], ["rmi", "-f", "made:1"]:
        assert "unprotect" in store.fails(1, *words).err
        assert listed(store) == ["made:1", "other:1"]
    store.ok("verify", "made:1")
    store.ok("unprotect", "made:1")
    assert store.ok("rmi", "made:1").out == "made:1\n" and listed(store) == ["other:1"]


def test_a_protected_container(store):
    store.ok("protect", "one", "two")
    assert [line.split()[1] for line in store.ok("ps").out.splitlines()[1:]] == ["P", "P"]
    assert "unprotect" in store.fails(1, "rm", "one").err
    store.ok("unprotect", "two")
    assert "unprotect" in store("rm", "two", "one").err and len(names_of(store)) == 2, "none is removed"
    store.ok("rm", "-f", "one")
    store.ok("rm", "two")
    assert names_of(store) == []


@pytest.mark.parametrize("words, status", [(["absent"], 1), (["UPPER"], 2), ([], 2), (["../x"], 2)])
@pytest.mark.parametrize("command", ["protect", "unprotect"])
def test_what_cannot_be_protected(store, command, words, status):
    store.fails(status, command, *words)


# rm, rmi, verify, mkrepo

def test_rm_and_rmi_of_several(store):
    assert len(store.ok("rm", "one", "two", "one").out.splitlines()) == 3
    assert names_of(store) == []
    store.fails(1, "rmi", "made:1", "absent", "other:1")
    assert listed(store) == ["made:1", "other:1"], "when one is not there, none is removed"
    assert store.ok("rmi", "made:1", "other:1").out == "made:1\nother:1\n"
    assert listed(store) == [] and os.listdir(str(store.store / "layers")) == []


def test_rm_of_several_when_one_is_missing(store):
    store.fails(1, "rm", "one", "absent", "two")
    assert sorted(names_of(store)) == ["'one'", "'two'"]


def test_what_is_not_there_is_no_error_by_force(store):
    result = store.ok("rm", "-f", "one", "absent")
    assert result.out.count("\n") == 1 and "absent" in result.err and names_of(store) == ["'two'"]
    result = store.ok("rmi", "-f", "absent", "other:1")
    assert result.out == "other:1\n" and "absent:latest" in result.err and listed(store) == ["made:1"]


def test_ids_of_images(store):
    """As docker prints them: whole, or the first twelve digits and more of them."""
    whole = store.ok("inspect", "-f", "{{.Id}}", "made:1").out.strip()
    for word in whole, whole[7:], whole[7:19]:
        assert store.ok("inspect", "--type=image", "-f", "{{.Id}}", word).out.strip() == whole
        store.ok("history", word)
        store.ok("tag", word, "lab/tagged")
        store.ok("save", "-o", "/dev/null", word)
    absent = "0123456789abcdef" * 4
    for words in ["rmi", absent], ["run", "sha256:" + absent, "true"], ["create", absent]:
        assert "no image here has this id" in store(*words).err
    assert "no registry knows" in store.fails(2, "pull", absent).err
    assert "no registry knows" in store.fails(2, "pull", "sha256:" + absent).err
    assert "lab/tagged:latest" in store.fails(1, "rmi", whole[7:19]).err, "it has several names"
    store.ok("rmi", "-f", whole[7:19])
    assert "lab/tagged:latest" not in listed(store) and "made:1" not in listed(store)


def test_rmi_of_one_image_twice(store):
    store("rmi", "made:1", "made:1")
    assert listed(store) == ["other:1"]
    store.ok("verify", "other:1")


@pytest.mark.parametrize("which", ["config", "layer"])
@pytest.mark.parametrize("content", [None, b"", b"x" * 5120], ids=["missing", "empty", "other"])
def test_verify(store, which, content):
    assert "intact" in store.ok("verify", "made:1").out
    digest = config_digest(store, "made:1") if which == "config" else IMAGE.layers[0].diff_id
    path = store.store / "layers" / digest
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    assert digest in store.fails(1, "verify", "made:1").err
    store.fails(1, "create", "made:1")


def test_verify_of_a_layer_that_is_not_the_one_that_the_config_names(store):
    """Blobs have their digests, and yet the image is wrong: a registry may serve such a one."""
    other = made(tar(file("etc/motd", b"something else\n"))).layers[0]
    document = json.loads(IMAGE.manifest.decode())
    document["layers"] = [other.descriptor]
    (store.store / "layers" / other.diff_id).write_bytes(other.blob)
    (store.store / "repos" / "made" / "1" / "manifest").write_text(json.dumps(document))
    assert IMAGE.layers[0].diff_id in store.fails(1, "verify", "made:1").err


@pytest.mark.parametrize("reference, status", [("absent", 1), ("UPPER", 2)])
def test_verify_of_what_is_not_there(store, reference, status):
    store.fails(status, "verify", reference)


@pytest.mark.parametrize("reference, hint", [("made", "there is made:1"), ("absent", "udocker images lists")])
def test_other_tags_of_an_image_are_named(store, reference, hint):
    assert hint in store.fails(1, "history", reference).err


def test_mkrepo(udocker, tmp_path):
    for _ in range(2):
        udocker.ok("mkrepo", tmp_path / "a" / "new store")
    data = archive(docker_25((IMAGE, ["made:1"])))
    udocker.ok("--repo=%s" % (tmp_path / "a" / "new store"), "load", input=data)
    assert "made:1" in udocker.ok("images", env={"UDOCKER_DIR": str(tmp_path / "a" / "new store")}).out
    assert listed(udocker) == [] and files_of(udocker) == []


@pytest.mark.parametrize("place", ["file", "file/below", "/proc/new", "/dev/null"])
def test_places_where_no_store_can_be(udocker, place):
    (udocker.home / "file").write_text("")
    assert place.split("/")[-1] in udocker.fails(1, "mkrepo", place).err or "/proc" in place
    assert (udocker.home / "file").is_file()


@pytest.mark.parametrize("command", ["ps", "images"])
def test_a_store_that_is_not_there_is_no_empty_one(udocker, tmp_path, command):
    for options, env, origin in (["--repo=%s/typo" % tmp_path], {}, "command line"), (
            [], {"UDOCKER_DIR": str(tmp_path / "typo")}, "environment UDOCKER_DIR"):
        result = udocker.ok(*options + [command], env=env)
        assert result.err == "udocker: warning: %s: there is no store at %s/typo\n" % (origin, tmp_path)
    assert udocker.ok(command).err == "" and os.listdir(str(udocker.home)) == []


def test_a_store_that_is_made_where_there_was_none_is_told(udocker, tmp_path):
    for said in "udocker: making a store at %s/new\n" % tmp_path, "":
        result = udocker.ok("--repo=%s/new" % tmp_path, "import", "-", "lab/tree", input=TREE)
        assert result.err == said + "udocker: lab/tree:latest is imported\n"


@pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")
def test_what_may_not_be_written_to(store, tmp_path):
    """That of the store is told with what one may do with it all the same."""
    for name in "containers", "repos", "":
        (store.store / name).chmod(0o555)
    try:
        assert "--repo= chooses another" in store.fails(1, "create", "made:1").err
        assert "hint" not in store.fails(1, "save", "-o", tmp_path / "none/x.tar", "made:1").err
        tmp_path.chmod(0o555)
        assert "hint" not in store.fails(1, "save", "-o", tmp_path / "x.tar", "made:1").err
    finally:
        for place in store.store, store.store / "containers", store.store / "repos", tmp_path:
            place.chmod(0o755)
