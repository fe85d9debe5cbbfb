"""The commands on images and containers, from a real registry to the listings that scripts parse."""
import base64
import hashlib
import json
import os
import re
import stat
import subprocess

import pytest

import udocker as program_under_test
from images import DEBIAN_LAYOUT, FOREIGN, NATIVE

UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")
PS_HEADER = "CONTAINER ID                         P M NAMES              IMAGE"


@pytest.fixture
def busybox(images):
    """The reference of the small image, with its registry's host."""
    return images.host + "/lab/busybox"


@pytest.fixture
def pulled(udocker, stock):
    stock(udocker)
    return udocker


@pytest.fixture
def created(udocker, stock):
    """The program with a container of the small image, named busy."""
    stock(udocker, "busy")
    return udocker


def image_directory(program, reference):
    return program.store.joinpath("repos", *re.split("[/]|:(?=[^:/]+$)", reference))


def container_id(program, name):
    return os.readlink(str(program.store / "containers" / name))


def links_of(directory):
    """The digests that an image's directory links to."""
    return {path.name: os.readlink(str(path)) for path in directory.iterdir() if path.is_symlink()}


def rows(listing):
    """The words of each line below a listing's first one."""
    return [line.split() for line in listing.splitlines()[1:]]


# pull

@pytest.mark.parametrize("reference, listed", [
    ("{host}/lab/busybox", "{host}/lab/busybox:latest"),
    ("{host}/lab/busybox:latest", "{host}/lab/busybox:latest"),
    ("{host}/lab/busybox:1.0", "{host}/lab/busybox:1.0"),
    ("{host}/lab/busybox:schema2", "{host}/lab/busybox:schema2"),
    ("{host}/lab/multi", "{host}/lab/multi:latest"),
    ("{host}/lab/nested", "{host}/lab/nested:latest"),
    ("{host}/busybox", "{host}/busybox:latest"),
    ("{host}/library/busybox", "{host}/library/busybox:latest"),
])
def test_pull_by_reference(udocker, images, reference, listed):
    reference, listed = (text.format(host=images.host) for text in (reference, listed))
    assert udocker.ok("pull", reference).err.endswith(listed + " is pulled\n")
    assert udocker.ok("images").out == "REPOSITORY\n%s    .\n" % listed
    assert udocker.ok("pull", reference).err.endswith(listed + " is up to date\n")
    digest, = json.loads(udocker.ok("inspect", "--format={{json .RepoDigests}}", reference).out)
    name = re.sub("[:@][^:/]*$", "", listed.partition("@")[0])
    assert re.fullmatch("%s@sha256:[0-9a-f]{64}" % re.escape(name), digest)
    udocker.ok("verify", reference)
    identifier = udocker.ok("create", reference).out.strip()
    assert rows(udocker.ok("ps").out) == [[identifier, ".", "W", "[]", listed]]


@pytest.mark.parametrize("reference, listed", [
    ("busybox", "busybox:latest"),
    ("lab/busybox", "lab/busybox:latest"),
    ("lab/busybox:1.0", "lab/busybox:1.0"),
])
@pytest.mark.parametrize("how", ["option", "variable"])
def test_pull_from_a_registry_that_is_set(udocker, images, reference, listed, how):
    if how == "option":
        udocker.ok("pull", "--registry=" + images.url, reference)
    else:
        udocker.ok("pull", reference, env={"UDOCKER_REGISTRY": images.url})
    assert rows(udocker.ok("images").out) == [[listed, "."]]
    udocker.ok("create", reference)


def test_pull_by_digest(udocker, images, busybox):
    body, manifest = images.manifest("lab/busybox", "latest")
    digest = "sha256:" + hashlib.sha256(body).hexdigest()
    udocker.ok("pull", "%s@%s" % (busybox, digest))
    udocker.ok("create", "--name=exact", "%s@%s" % (busybox, digest))
    udocker.fails(1, "pull", "%s@sha256:%s" % (busybox, "0" * 64))


def test_pull_writes_nothing_on_standard_output(udocker, busybox):
    first = udocker.ok("pull", busybox)
    assert first.out == "" and first.err
    assert "\r" not in first.err and "\x1b" not in first.err, "a bar is for terminals"


@pytest.mark.parametrize("line", ["--quiet pull", "-q pull", "pull -q", "pull --quiet"])
def test_quiet_pull(udocker, busybox, line):
    result = udocker.ok(*line.split() + [busybox])
    assert (result.out, result.err) == ("", "")


@pytest.mark.parametrize("options, architecture", [
    ([], NATIVE), (["--platform=linux/" + NATIVE], NATIVE), (["--platform", "linux/" + FOREIGN], FOREIGN),
])
@pytest.mark.parametrize("repository", ["multi", "nested"])
def test_pull_of_a_platform(udocker, images, repository, options, architecture):
    reference = "%s/lab/%s" % (images.host, repository)
    udocker.ok("pull", *options + [reference])
    assert json.loads(udocker.ok("inspect", reference).out)["architecture"] == architecture


def test_pull_of_a_platform_that_is_not_there_tells_those_that_are(udocker, images):
    result = udocker.fails(1, "pull", "--platform=linux/s390x", images.host + "/lab/multi")
    assert "linux/" + NATIVE in result.err and "linux/" + FOREIGN in result.err
    assert "unknown" not in result.err


def test_a_second_pull_fetches_no_blob(pulled, busybox, images):
    log = images.directory / "registry.log"
    before = log.stat().st_size
    pulled.ok("pull", busybox)
    assert "/blobs/" not in log.read_bytes()[before:].decode()


def test_a_pull_mends_what_is_damaged(pulled, busybox, images):
    digest = images.manifest("lab/busybox", "latest")[1]["layers"][0]["digest"]
    layer = pulled.store / "layers" / digest
    good = layer.read_bytes()
    for bad in good[:-1], b"", good[:100] + b"x" + good[101:]:
        layer.write_bytes(bad)
        result = pulled("verify", busybox)
        assert result.status == 1 and digest in result.out + result.err
        pulled.fails(1, "create", busybox)
        pulled.ok("pull", busybox)
        assert layer.read_bytes() == good
        pulled.ok("verify", busybox)


@pytest.mark.parametrize("reference", ["lab/absent", "lab/busybox:absent"])
def test_pull_of_what_the_registry_has_not(udocker, images, reference):
    udocker.fails(1, "pull", "%s/%s" % (images.host, reference))
    assert rows(udocker.ok("images").out) == []


def test_pull_from_nobody(udocker):
    assert "127.0.0.1:1" in udocker.fails(1, "pull", "127.0.0.1:1/lab/busybox", timeout=60).err


@pytest.mark.parametrize("name", ["0" * 64, "sha256:" + "0" * 64])
def test_pull_of_an_id(udocker, name):
    assert "which no registry knows" in udocker.fails(2, "pull", name).err


@pytest.mark.parametrize("reference", [
    "", "UPPER", "a//b", "/a", "a/", "a:", "a:b:c", "a@sha256:12", "a b", "a\nb", "../a", "a/../b", "a@md5:0",
    ":tag", "-", "a:.tag", "host:port/a", "a" * 300,
])
@pytest.mark.parametrize("command", ["pull", "create", "rmi", "verify"])
def test_malformed_references(udocker, command, reference):
    assert "is not an image name" in udocker.fails(2, command, "--", reference).err
    assert not udocker.store.exists() or not any(
        files for _, _, files in os.walk(str(udocker.store / "repos"))), "nothing is stored"


def test_a_password_is_asked_for(udocker, private_registry):
    result = udocker.fails(1, "pull", private_registry.host + "/lab/busybox")
    assert "login" in result.err


def test_a_password_of_the_keystore(udocker, private_registry):
    secret = ":".join(private_registry.credential)
    udocker.store.mkdir()
    keystore = udocker.store / "keystore"
    keystore.write_text(json.dumps({private_registry.url: {
        "auth": base64.b64encode(secret.encode()).decode(), "email": ""}}))
    keystore.chmod(0o600)
    result = udocker.ok("-D", "pull", private_registry.host + "/lab/busybox")
    for word in secret, private_registry.credential[1], base64.b64encode(secret.encode()).decode():
        assert word not in result.err + result.out


# The store

def test_the_store_of_an_image(udocker, busybox, images):
    udocker.ok("pull", busybox)
    body, manifest = images.manifest("lab/busybox", "latest")
    digests = [manifest["config"]["digest"]] + [layer["digest"] for layer in manifest["layers"]]
    directory = image_directory(udocker, busybox + ":latest")
    assert (directory / "manifest").read_bytes() == body
    assert (directory / "v2").read_bytes() == b""
    assert (directory / "TAG").read_text() == "%s/repos/%s:latest" % (udocker.store, busybox)
    assert links_of(directory) == {digest: "../" * 5 + "layers/" + digest for digest in digests}
    assert {path.name for path in directory.iterdir()} == set(digests) | {"TAG", "v2", "manifest"}
    assert {path.name for path in (udocker.store / "layers").iterdir()} == set(digests)
    for digest in digests:
        data = (udocker.store / "layers" / digest).read_bytes()
        assert "sha256:" + hashlib.sha256(data).hexdigest() == digest


def test_the_store_of_a_container(created, busybox, images):
    identifier = container_id(created, "busy")
    assert UUID.match(identifier)
    directory = created.store / "containers" / identifier
    assert (directory / "imagerepo.name").read_text() == busybox + ":latest"
    digest = images.manifest("lab/busybox", "latest")[1]["config"]["digest"]
    assert json.loads((directory / "container.json").read_text()) == \
        json.loads((created.store / "layers" / digest).read_text())
    assert {path.name for path in directory.iterdir()} == {"ROOT", "container.json", "imagerepo.name"}
    assert (directory / "ROOT/etc/marker").read_text() == "inside\n"
    assert {path.name for path in (created.store / "containers").iterdir()} == {identifier, "busy"}


def test_setup_writes_the_mode(created):
    created.ok("setup", "--execmode=N1", "busy")
    directory = created.store / "containers" / container_id(created, "busy")
    assert (directory / "execmode").read_text() == "N1"
    assert "N1" in created.ok("setup", "busy").out
    created.fails(2, "setup", "--execmode=Z9", "busy")
    assert (directory / "execmode").read_text() == "N1"


def test_a_store_that_was_moved(created, busybox, tmp_path):
    """TAG holds an absolute path, names are relative links: a store goes wherever its files go."""
    moved = tmp_path / "moved"
    created.store.rename(moved)
    for program in (created.with_env(UDOCKER_DIR=str(moved)),):
        assert rows(program.ok("images").out) == [[busybox + ":latest", "."]]
        program.ok("verify", busybox)
        assert program.ok("inspect", "-p", "busy").out.startswith(str(moved))
        program.ok("create", busybox)
    assert not created.store.exists()
    assert rows(created.ok("--repo=%s" % moved, "images").out) == [[busybox + ":latest", "."]]


# images, inspect, verify, rmi

def test_images_of_an_empty_store(udocker):
    assert udocker.ok("images").out == "REPOSITORY\n"


def test_images_long(pulled, busybox, images):
    listing = pulled.ok("images", "-l").out
    assert listing.splitlines()[:2] == ["REPOSITORY", busybox + ":latest    ."]
    assert all(layer["digest"] in listing for layer in images.manifest("lab/busybox", "latest")[1]["layers"])


@pytest.mark.parametrize("text, listed", [
    ("{}/lab/busybox", ["1.0", "latest"]), ("{}/lab/busybox:1.0", ["1.0"]), ("{}/lab/busybox:2", []),
    ("lab/busybox", []),
])
def test_images_of_a_name(pulled, busybox, images, text, listed):
    pulled.ok("pull", busybox + ":1.0")
    pulled.ok("pull", images.host + "/lab/entry")
    assert pulled.ok("images", "-q", text.format(images.host)).out.split() == [busybox + ":" + tag for tag in listed]


def test_inspect_of_an_image(pulled, busybox):
    config = json.loads(pulled.ok("inspect", busybox).out)
    assert config["config"]["Cmd"] == ["sh"] and "LAB=lab value" in config["config"]["Env"]


def test_inspect_of_a_container(created):
    for name in "busy", container_id(created, "busy"):
        assert json.loads(created.ok("inspect", name).out)["config"]["Cmd"] == ["sh"]
        root = "%s/containers/%s/ROOT" % (created.store, container_id(created, "busy"))
        assert created.ok("inspect", "-p", name).out == root + "\n"


@pytest.mark.parametrize("spelling", [
    "docker.io/lab/busybox", "index.docker.io/lab/busybox", "lab/busybox:latest",
])
def test_spellings_of_a_hub_image(udocker, images, spelling):
    udocker.ok("pull", "--registry=" + images.url, "lab/busybox")
    udocker.ok("inspect", spelling)
    udocker.ok("rmi", spelling)
    assert udocker.ok("images").out == "REPOSITORY\n"


def test_rmi(pulled, busybox):
    pulled.ok("rmi", busybox)
    assert pulled.ok("images").out == "REPOSITORY\n"
    assert list((pulled.store / "layers").glob("[!.]*")) == []
    assert list((pulled.store / "repos").glob("[!.]*")) == [], "nor are the directories above it left"
    pulled.fails(1, "rmi", busybox)


def test_rmi_keeps_what_another_image_needs(pulled, busybox, images):
    pulled.ok("pull", busybox + ":1.0")
    pulled.ok("pull", images.host + "/lab/entry")
    pulled.ok("rmi", busybox)
    pulled.ok("verify", busybox + ":1.0")
    pulled.ok("rmi", busybox + ":1.0")
    pulled.ok("verify", images.host + "/lab/entry")


def test_rmi_leaves_containers(created, busybox):
    created.ok("rmi", busybox)
    assert rows(created.ok("ps").out)[0][-1] == busybox + ":latest"
    created.ok("inspect", "busy")


def test_rmi_by_force(pulled, busybox):
    """A damaged image can be got rid of."""
    (image_directory(pulled, busybox + ":latest") / "manifest").write_text("{")
    pulled.ok("rmi", "-f", busybox)
    assert pulled.ok("images").out == "REPOSITORY\n"


# create, ps, rm, name, rmname

def test_create_prints_the_id_alone(pulled, busybox):
    result = pulled.ok("create", busybox)
    assert UUID.match(result.out[:-1]) and result.out[-1] == "\n" and result.err == ""


def test_create_of_an_image_that_was_not_pulled(udocker, busybox):
    assert "pull" in udocker.fails(1, "create", busybox).err


def test_create_twice(pulled, busybox):
    first, second = (pulled.ok("create", busybox).out for _ in range(2))
    assert first != second and len(rows(pulled.ok("ps").out)) == 2


def test_create_with_a_name_that_is_taken(created, busybox):
    created.fails(1, "create", "--name=busy", busybox)
    assert len(rows(created.ok("ps").out)) == 1, "nothing is left of the second"


@pytest.mark.parametrize("name", ["", "a/b", "..", ".", "a\nb", "a b", "-a", "\u00e9", "a" * 300])
def test_names_that_cannot_be(created, busybox, name):
    for arguments in (["create", "--name=" + name, busybox], ["name", "busy", "--", name]):
        result = created(*arguments)
        assert result.status in (1, 2) and result.err.startswith("udocker: error: "), result
    assert os.listdir(str(created.store / "containers")).count(container_id(created, "busy")) == 1
    assert len(os.listdir(str(created.store / "containers"))) == 2


def test_ps(created, busybox):
    identifier = container_id(created, "busy")
    assert created.ok("ps").out == "%s\n%s . W %-18s %s:latest\n" % (
        PS_HEADER, identifier, "['busy']", busybox)
    created.ok("name", identifier, "another")
    assert created.ok("ps").out.splitlines()[1:] == [
        "%s . W ['another', 'busy'] %s:latest" % (identifier, busybox)]


def test_ps_of_an_empty_store(udocker):
    assert udocker.ok("ps").out == PS_HEADER + "\n"


def test_ps_with_mode_and_size(created):
    created.ok("setup", "--execmode=P2", "busy")
    header, row = created.ok("ps", "-m", "-s").out.splitlines()
    assert "MOD" in header.split() and "SIZE" in header.split()
    words = row.split()
    assert "P2" in words and any(1 <= int(word) <= 4 for word in words if word.isdigit()), row


@pytest.mark.skipif(os.getuid() == 0, reason="root may write anywhere")
def test_ps_tells_what_cannot_be_written(created):
    root = created.store / "containers" / container_id(created, "busy") / "ROOT"
    root.chmod(0o555)
    assert rows(created.ok("ps").out)[0][2] == "R"
    root.chmod(0o755)
    root.rename(str(root) + ".away")
    assert rows(created.ok("ps").out)[0][2] == "N"


def test_rm(created):
    created.ok("rm", "busy")
    assert created.ok("ps").out == PS_HEADER + "\n"
    assert os.listdir(str(created.store / "containers")) == []
    created.fails(1, "rm", "busy")


def test_rm_by_id_takes_the_names_along(created):
    identifier = container_id(created, "busy")
    created.ok("name", identifier, "another")
    created.ok("rm", identifier)
    assert os.listdir(str(created.store / "containers")) == []


def test_rm_of_a_tree_that_resists(created):
    root = created.store / "containers" / container_id(created, "busy") / "ROOT"
    (root / "closed/below").mkdir(parents=True)
    (root / "closed/below/file").write_text("")
    (root / "closed/below").chmod(0)
    (root / "closed").chmod(0o500)
    created.ok("rm", "busy")


def test_rm_never_leaves_the_tree(created, tmp_path):
    (tmp_path / "canary").mkdir()
    (tmp_path / "canary/file").write_text("alive\n")
    root = created.store / "containers" / container_id(created, "busy") / "ROOT"
    (root / "out").symlink_to(tmp_path / "canary")
    created.ok("rm", "busy")
    assert (tmp_path / "canary/file").read_text() == "alive\n"


@pytest.mark.parametrize("name", ["..", ".", "../layers", "busy/../busy", "/etc", "a\nb", "", "nosuch"])
@pytest.mark.parametrize("command", [["rm"], ["inspect", "-p"], ["rmname"]])
def test_container_names_that_lead_astray(created, command, name):
    result = created(*command + ["--", name])
    assert result.status in (1, 2) and result.err.startswith("udocker: error: "), result
    assert (created.store / "layers").is_dir()
    assert rows(created.ok("ps").out)[0][3] == "['busy']"


def test_name_and_rmname(created):
    created.ok("name", "busy", "BLUE")
    assert container_id(created, "BLUE") == container_id(created, "busy")
    created.ok("name", "busy", "BLUE")          # which it has
    assert "its name already" in created.fails(1, "rename", "BLUE", "BLUE").err
    created.ok("rmname", "BLUE")
    created.fails(1, "rmname", "BLUE")
    assert rows(created.ok("ps").out)[0][3] == "['busy']"


# Words that are wrong

@pytest.mark.parametrize("line, wrong, meant", [
    ("pul lab/busybox", "pul", "pull"),
    ("imags", "imags", "images"),
    ("run --volum=/tmp busy", "--volum", "--volume"),
    ("run --nam=x busy", "--nam", "--name"),
    ("create --nmae=x lab/busybox", "--nmae", "--name"),
    ("--quite images", "--quite", "--quiet"),
    ("frobnicate", "frobnicate", ""),
    ("images --frobnicate", "--frobnicate", ""),
    ("ps operand", "operand", ""),
    ("pull", "IMAGE is missing", ""),
    ("rm", "CONTAINER is missing", ""),
    ("name busy", "NAME is missing", ""),
    ("rmname a b c", "'b' is too much", ""),
    ("rnu busy", "'rnu'", "run"), ("sp", "'sp'", "ps"),
    ("create --name", "--name", ""),
    ("run --rm=maybe busy", "--rm", ""),
    ("run -itX busy", "-X in -itX", ""),
])
def test_usage_errors(udocker, line, wrong, meant):
    """They end before anything is touched, name the wrong word, and say what to write."""
    result = udocker.fails(2, *line.split())
    assert wrong in result.err
    assert "did you mean %s?" % meant in result.err if meant else re.search("--help|usage: ", result.err)
    assert not udocker.store.exists()


@pytest.mark.parametrize("words, expected", [
    (["--name=a", "x"], {"name": "a"}), (["--name", "a", "x"], {"name": "a"}), (["--name=", "x"], {"name": ""}),
    (["--name=a=b", "x"], {"name": "a=b"}), (["--name", "--rm", "x"], {"name": "--rm", "rm": None}),
    (["--name=a", "--name=b", "x"], {"name": "b"}), (["x"], {"name": None, "rm": None, "env": []}),
    (["-e=A=b", "x"], {"env": ["A=b"]}), (["-e", "A=b", "x"], {"env": ["A=b"]}), (["-eA=b", "x"], {"env": ["A=b"]}),
    (["-e=", "x"], {"env": [""]}), (["-e==", "x"], {"env": ["="]}), (["--env=a", "-e", "b", "x"], {"env": ["a", "b"]}),
    (["-it", "x"], {"interactive": True, "tty": True}), (["-itea", "x"], {"tty": True, "env": ["a"]}),
    (["-ite=a", "x"], {"env": ["a"]}), (["-ite", "a", "x"], {"env": ["a"]}), (["-ite=", "x"], {"env": [""]}),
    (["-ite==a", "x"], {"env": ["=a"]}), (["--rm", "x"], {"rm": True}), (["--rm=true", "x"], {"rm": True}),
    (["--rm", "--rm=false", "x"], {"rm": False}), (["-i=true", "x"], {"interactive": True}),
    (["x", "--rm", "-", "--", "-e"], {"rm": None, "argument": ["--rm", "-", "--", "-e"]}),
    (["--", "x", "--rm"], {"argument": ["--rm"]}), (["--rm", "--", "x", "--"], {"rm": True, "argument": ["--"]}),
])
def test_spellings_of_options(words, expected):
    arguments = vars(program_under_test.parse_command(program_under_test.find_command("run"), words))
    assert {name: arguments[name] for name in expected} == expected and arguments["container"] == "x"


@pytest.mark.parametrize("name", sorted(program_under_test.ABSENT_COMMANDS))
def test_what_docker_has_and_udocker_has_not(udocker, name):
    """The hint says in a line what to do instead, with commands and options that there are."""
    result = udocker.fails(2, *name.split() + ["x", "-f"])
    error, hint = result.err.splitlines()
    assert error == "udocker: error: udocker has no %s" % name and hint.startswith("udocker: hint: ")
    for mentioned in re.findall(r"udocker ([a-z]+(?: --?[a-z][^\s,]*)*)", hint):
        words = mentioned.split()
        program_under_test.Parser(program_under_test.find_command(words[0]).options, "").parse(words[1:], False)


def test_dockers_commands_are_all_known():
    """Those of docker's own reference, version 28, and of the plugins that come with it."""
    docker = """attach bake build builder buildx checkpoint commit compose config container context cp create diff
        events exec export history image images import info init inspect kill load login logout logs manifest network
        node pause plugin port ps pull push rename restart rm rmi run save scout search secret service stack start
        stats stop swarm system tag top trust unpause update version volume wait"""
    known = set(program_under_test.COMMANDS) | set(program_under_test.ABSENT_COMMANDS) | set(program_under_test.GROUPS)
    assert set(docker.split()) <= known
    assert not set(program_under_test.ABSENT_COMMANDS) & set(program_under_test.COMMANDS)
    for words in (words for group in program_under_test.GROUPS.values() for words in group.values()):
        assert words[0] in known, words


@pytest.mark.parametrize("line, words", [
    ("container", ["container is a group", "udocker container commit, cp, create,", " ls,"]),
    ("image fly", ["unknown command 'image fly'", "udocker image build, history, import,"]),
    ("image psh", ["'image psh'", "did you mean push?"]),
    ("container lss", ["'container lss'", "did you mean ls?"]),
    ("container pull x", ["'container pull'", "there are: "]),
    ("system events", ["udocker has no events"]),
    ("container start x", ["udocker has no start", "udocker run --detach CONTAINER"]),
    ("contaner ls", ["did you mean container?"]),
])
def test_dockers_groups(udocker, line, words):
    result = udocker.fails(2, *line.split())
    assert all(word in result.err for word in words), result


@pytest.mark.parametrize("group", sorted(program_under_test.GROUPS))
def test_help_of_a_group(udocker, group):
    text = udocker.ok(group, "--help").out
    assert text == udocker.ok(group, "-h").out == udocker.ok("help", group).out
    assert text.startswith("Usage: udocker %s COMMAND" % group)
    assert ("  inspect  " if group in ("container", "image") else "  prune  ") in text


@pytest.mark.parametrize("name, spelling, hint", [
    (name, spelling, hint) for name, row in sorted(program_under_test.ABSENT_OPTIONS.items())
    for spelling, hint in sorted(row.items())] + [
        ("create", spelling,
         "create only unpacks the image: give %s to udocker run, which takes the container" % spelling)
        for spelling in ("-v", "--rm", "--gpus")] + [
            ("pull", spelling, "it goes before the command: udocker %s pull" % spelling)
            for spelling in ("-D", "--insecure", "--repo")])
def test_dockers_options_that_udocker_has_not(udocker, name, spelling, hint):
    """The hint says what to do instead, with commands and options that there are."""
    options = program_under_test.COMMANDS[name].options if name else program_under_test.GLOBAL_OPTIONS
    assert spelling not in [word for option in options for word in option.spellings]
    for word in (spelling, spelling + "=x") if spelling.startswith("--") else (spelling, spelling + "x"):
        result = udocker.fails(2, *([name, word] if name else [word, "images"]))
        assert "unknown option " + spelling in result.err and result.err.endswith("udocker: hint: %s\n" % hint)
    for command, option in re.findall(r"udocker ([a-z]+)(?: --?([a-z-]+))?", hint):
        found = program_under_test.find_command(command).options
        assert not option or "--" + option in [word for each in found for word in each.spellings]


def test_a_command_that_docker_would_create_a_container_for(udocker):
    assert "give the command to udocker run" in udocker.fails(2, "create", "busybox", "sh").err


@pytest.mark.parametrize("line", ["help", "--help", "-h", "help pull", "pull --help", "pull -h"])
def test_help(udocker, line):
    result = udocker.ok(*line.split())
    assert "pull" in result.out and result.err == ""


@pytest.mark.parametrize("line", ["version", "--version", "-V", "-v"])
def test_version(udocker, line):
    assert re.search(r"\b\d+\.\d+\.\d+\b", udocker.ok(*line.split()).out)


def test_root_is_refused(udocker):
    """In a user namespace everybody may be root: so this is tested by all."""
    if subprocess.call(["unshare", "--map-root-user", "true"], stderr=subprocess.DEVNULL):
        pytest.skip("no user namespaces here")
    for arguments, status in (["images"], 1), (["run", "busy"], 125), (["--allow-root", "images"], 0):
        process = subprocess.run(["unshare", "--map-root-user"] + udocker.entry + arguments,
                                 env=udocker.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert process.returncode == status, process.stderr
        assert status == 0 or b"--allow-root" in process.stderr and not process.stdout


# The Debian image: whiteouts and all

@pytest.fixture(scope="module")
def debian_root(debian_container, debian):
    """The tree of a container in which nothing has been run."""
    name = debian_container.ok("create", debian).out.strip()
    return debian_container.ok("inspect", "-p", name).out.strip()


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory, debian):
    """The tree that umoci makes of the Debian image."""
    bundle = tmp_path_factory.mktemp("umoci") / "bundle"
    subprocess.run(["umoci", "--log=error", "unpack", "--rootless", "--image", "%s:stable" % DEBIAN_LAYOUT,
                    str(bundle)], check=True, stderr=subprocess.DEVNULL)
    return bundle / "rootfs"


def test_a_tree_equals_umocis(debian_root, unpacked):
    """But for what others might write to, which umoci leaves open."""
    ours, theirs = description(debian_root), description(unpacked, withheld=0o022)
    assert {path: ours[path] for path in sorted(ours) if ours[path] != theirs.get(path)} == {}
    assert {path: theirs[path] for path in sorted(theirs) if path not in ours} == {}


def description(root, withheld=0):
    """What counts of each path below root, with modes less `withheld`; of dev, where umoci writes empty files for
    devices, nothing."""
    found = {}
    for parent, directories, files in os.walk(str(root)):
        for name in directories + files:
            path = os.path.join(parent, name)
            relative = os.path.relpath(path, str(root))
            if not relative.startswith("dev/"):
                found[relative] = describe(path, withheld)
    return found


def describe(path, withheld=0):
    """Type, mode, time, number of names, and the link's target or the content's digest."""
    status = os.lstat(path)
    kind = stat.S_IFMT(status.st_mode)
    if kind == stat.S_IFLNK:
        return kind, os.readlink(path)
    mode = status.st_mode & 0o777 | (0o700 if kind == stat.S_IFDIR else 0o400)
    if not status.st_mode & stat.S_ISVTX:
        mode &= ~withheld
    if kind == stat.S_IFDIR:
        return kind, mode, int(status.st_mtime)
    with open(path, "rb") as file:
        return kind, mode, int(status.st_mtime), status.st_nlink, hashlib.sha256(file.read()).hexdigest()


def test_no_set_id_bits(debian_root):
    assert subprocess.check_output(["find", debian_root, "-perm", "/6000", "-type", "f"]) == b""


@pytest.mark.parametrize("words", [["create", "lab/absent"], ["run", "--pull=never", "lab/absent", "true"]])
def test_what_cannot_be_made_makes_no_store(udocker, words):
    assert "no such image" in udocker(*words).err
    assert not (udocker.store / "containers").exists()
