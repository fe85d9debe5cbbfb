"""Whatever is read, from users, registries, archives, images and hosts, makes a value or an Error, and in little time.

More of the same, by chance: pytest tests/test_parsers.py --examples=5000
"""
import json
import os
import shutil
import time
from pathlib import Path

import pytest

import udocker
from layers import FIELDS, directory, file, gnu_long_name, header, pax, sparse_files, symlink, tar

hypothesis = pytest.importorskip("hypothesis")
strategies = pytest.importorskip("hypothesis.strategies")

SECONDS = 2         # of a processor, for one input
DIGEST = "sha256:" + "0" * 64


# Inputs

def spelled(*words):
    """Text put together of these words and of anything; no NUL, as command lines and variables have it."""
    character = strategies.characters(blacklist_characters="\0", blacklist_categories=())
    piece = strategies.one_of(strategies.sampled_from(words), strategies.text(character, max_size=4))
    return strategies.lists(piece, max_size=12).map("".join)


def lines(*words):
    """The same with NULs and as bytes, as files have it."""
    return spelled("\n", "\0", *words).map(lambda text: text.encode("utf-8", "surrogatepass"))


def documents(keys, *words):
    """JSON of these keys, of these words and of anything, as bytes."""
    values = strategies.recursive(
        strategies.one_of(strategies.none(), strategies.booleans(), strategies.integers(), strategies.floats(),
                          strategies.sampled_from(words), strategies.text(max_size=5)),
        lambda inner: strategies.one_of(strategies.lists(inner, max_size=4), strategies.dictionaries(
            strategies.one_of(strategies.sampled_from(keys), strategies.text(max_size=3)), inner, max_size=6)),
        max_leaves=25)
    return strategies.one_of(values.map(lambda value: json.dumps(value).encode()), strategies.binary(max_size=40))


def damaged(*samples):
    """One of the samples with some bytes changed, and perhaps its end missing."""
    def damage(chosen):
        sample, changes, end = chosen
        data = bytearray(sample)
        for place, value in changes:
            data[place % len(data)] = value
        return bytes(data[:end])

    changes = strategies.lists(strategies.tuples(strategies.integers(0, 4095), strategies.integers(0, 255)), max_size=8)
    return strategies.tuples(strategies.sampled_from(samples), changes, strategies.one_of(
        strategies.none(), strategies.integers(0, 4096))).map(damage)


def damaged_tars():
    """Tars of one of everything, with fields of headers replaced and their checksums right."""
    entries = [file("a", b"1"), directory("d"), symlink("l", "a"), gnu_long_name("n" * 150) + file("n"),
               pax([("path", "p"), ("mtime", "1.5")]) + file("s")] + list(sparse_files("h", (1000, b"data")).values())
    field = strategies.tuples(strategies.sampled_from(sorted(set(FIELDS) - {"checksum", "name"})), strategies.one_of(
        strategies.binary(max_size=12), strategies.sampled_from([b"\xff" * 12, b"\x80" + bytes(11), b"7" * 12, b"-1"])))
    odd = field.map(lambda pair: header("x", **{pair[0]: pair[1][:FIELDS[pair[0]][1]]}))
    records = strategies.lists(strategies.tuples(strategies.sampled_from([
        "path", "linkpath", "size", "mtime", "GNU.sparse.map", "GNU.sparse.size", "GNU.sparse.major",
        "GNU.sparse.minor", "GNU.sparse.realsize", "GNU.sparse.offset", "GNU.sparse.numbytes"]), strategies.one_of(
            strategies.sampled_from(["1", "-1", "0,1", "1,0,1", "1e400", "9" * 30, "nan", "1_0", "\u00b2"]),
            strategies.text(strategies.characters(blacklist_characters="\0", blacklist_categories=("Cs",)),
                            max_size=6))), max_size=4)
    parts = strategies.one_of(strategies.sampled_from(entries), odd, records.map(pax),
                              strategies.binary(max_size=600))
    return strategies.one_of(strategies.lists(parts, max_size=5).map(lambda found: tar(*found)),
                             damaged(*[tar(entry) for entry in entries]))


# What reads them

def read_tar(data):
    reader = udocker.TarReader(udocker.ByteStream([data]))
    for entry in reader:
        repr((entry.kind, entry.name, entry.link, entry.mtime, entry.segments))


def read_manifest(data):
    udocker.manifest_digest(data)
    found = udocker.parse_manifest(data, "test")
    if isinstance(found, udocker.ImageIndex):
        found = found.choose(udocker.Platform("linux", "amd64"), "test")
        repr((found.urls, found.annotations))
    else:
        repr(found.blobs)


def read_config(data):
    config = udocker.ImageConfig.parse(data, "test")
    repr((config.environment, config.entrypoint, config.command, config.working_directory, config.user,
          str(config.platform), config.history, config.diff_ids))
    if config.platform:
        config.platform.rank(udocker.Platform("linux", "arm", "v7"))


class Place:
    """A directory that parsers of files get theirs in."""

    def __init__(self, path):
        self.path = path

    def file(self, name, data):
        path = os.path.join(self.path, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as target:
            target.write(data)
        return path

    def settings(self, data):
        udocker.Settings().read_file(self.file("udocker.conf", data))

    def variables(self, data):
        udocker.read_variables(self.file("variables", data), {"HOME": "/"})

    def credentials(self, data):
        self.file(".docker/config.json", data)
        os.chmod(self.file("keystore", data), 0o600)
        for keystore in "keystore", "none":
            udocker.Keystore(os.path.join(self.path, keystore), {}, self.path).credential("https://a.b:5", "x/y")

    def account(self, chosen):
        user, data = chosen
        for name in "passwd", "group":
            self.file("root/etc/" + name, data)
        udocker.Account.find(user, udocker.GuestTree(os.path.join(self.path, "root")), udocker.Host())

    def elf(self, data):
        with open(self.file("program", data), "rb") as program:
            try:
                elf = udocker.ElfFile(program.fileno(), len(data))
                repr([elf.string(value) for _, _, value in elf.entries(elf.NEEDED, elf.RUNPATH, elf.RPATH)])
                if elf.interpreter:
                    patcher = udocker.ElfPatcher(elf)
                    patcher.set_interpreter(b"/a/loader")
                    patcher.set_strings([(patcher.spare_entry(), elf.RPATH, b"/a:/b")])
            except ValueError:          # what its callers take for "no such file"
                pass

    def devices(self, chosen):
        class Specs(udocker.DeviceSpecs):
            DIRECTORIES = (os.path.join(self.path, "cdi"),)

        name, data = chosen
        self.file("cdi/" + name, data)
        specs = Specs()
        for kind, device in list(specs.devices):
            repr(specs.find(kind, device).links())


def parse_words(words):
    _, run = udocker.dispatch(words, {})
    assert callable(run)


def parse_run(chosen):
    option, value = chosen
    arguments = udocker.parse_command(udocker.find_command("run"), [option + "=" + value, "image"])
    udocker.RunRequest(udocker.Context(udocker.Settings(), {}), arguments)


LAYER = {"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": DIGEST, "size": 1}
KEYS = ["manifests", "layers", "config", "digest", "size", "mediaType", "platform", "os", "architecture", "variant",
        "annotations", "urls", "fsLayers", "history", "blobSum", "v1Compatibility", "signatures", "protected",
        "artifactType", "rootfs", "diff_ids", "Env", "Cmd", "Entrypoint", "User", "WorkingDir", "throwaway"]
HOST_KEYS = ["auths", "credHelpers", "credsStore", "a.b:5", "a.b:5/x", "https://a.b:5", "auth", "identitytoken",
             "registrytoken", "https://a.b:5/v1/"]
CDI_KEYS = ["kind", "devices", "name", "containerEdits", "deviceNodes", "mounts", "hooks", "env", "path", "hostPath",
            "containerPath", "options", "args", "hookName", "cdiVersion"]
RUN_OPTIONS = ["--" + name for name in (
    "volume", "mount", "tmpfs", "gpus", "device", "ulimit", "cpuset-cpus", "add-host", "env", "novol",
    "user", "workdir", "pull", "hostname", "name")]
PARSERS = {
    "references": (lambda place: udocker.Reference.parse, spelled(
        "/", ":", "@", DIGEST, "library/", "docker.io/", "a", ".", "localhost", "[::1]", "-", "__", "latest")),
    "platforms": (lambda place: udocker.Platform.parse, spelled("/", "linux", "arm64", "v8", "x86_64")),
    "challenges": (lambda place: lambda text: udocker.Challenge.parse_all([text]), spelled(
        "Bearer ", "Basic", "realm", "=", '"', ",", " ", "\\", "service", "a,b", "Negotiate abc==")),
    "long challenges": (lambda place: lambda word: udocker.Challenge.parse_all([word * 3000]), spelled(
        "a", ",", "=", '"', " ", "\\", "a=", "a,", "-")),
    "tars": (lambda place: read_tar, damaged_tars()),
    "manifests": (lambda place: read_manifest, documents(
        KEYS, DIGEST, "linux", "amd64", "eyJmb3JtYXRMZW5ndGgiOjF9", LAYER)),
    "configs": (lambda place: read_config, documents(KEYS, DIGEST, "A=b", "linux", "arm", "v6")),
    "settings": (lambda place: place.settings, lines(
        "=", "#", "[", "dir", "downloads", "insecure", "nan", "inf", "1e400", "true", "'", "loglevel", "\u00b2")),
    "files of variables": (lambda place: place.variables, lines("=", "A", "#", " ", "\r", "HOME")),
    "credentials": (lambda place: place.credentials, documents(HOST_KEYS, "YTpi", "Zzpz\n", "%", "lab", "../x")),
    "accounts": (lambda place: place.account, strategies.tuples(
        spelled("root", "0", ":", "green", "4294967296", "\u00b2"),
        lines("root:x:0:0:root:/root:/bin/sh\n", "green:x:", "99999999999", ":", "\u00b2", "-1", "root:x:0:\n"))),
    "programs": (lambda place: place.elf, damaged(*[
        Path(shutil.which(name)).read_bytes() for name in ("true", "sh")])),
    "CDI files": (lambda place: place.devices, strategies.tuples(
        strategies.sampled_from(["a.json", "a.yaml"]), documents(
            CDI_KEYS, "a.b/c", "/dev/null", "/usr/lib/libx.so.1", "x", "A=b", "--link", "x::/usr/lib/liby.so",
            "create-symlinks", "--folder", "update-ldcache", "/\0"))),
    "options of run": (lambda place: parse_run, strategies.tuples(strategies.sampled_from(RUN_OPTIONS), spelled(
        "/tmp", ":", ",", "=", "ro", "type=bind", "type=tmpfs", "source=/tmp", "target=/x", "readonly", '"', "\n", "\r",
        "tmpfs-size=", "size=", "\u00b2", "\u0663", "1", "-", "99999999999999999999", "all", "device=0", "count=",
        "nofile=", "capabilities=", "a.b/c=", "/dev/null", "rwm", "..", "127.0.0.1"))),
    "command lines": (lambda place: parse_words, strategies.lists(strategies.one_of(
        strategies.sampled_from(sorted(udocker.COMMANDS) + RUN_OPTIONS + [
            "-", "--", "-v", "-it", "-D", "--repo", "--help", "-h", "=", "image", "container", "ls"]),
        spelled("-", "=", "--")), max_size=8)),
}


@pytest.mark.parametrize("name", sorted(PARSERS))
def test_a_value_or_an_error(tmp_path, request, name):
    make, inputs = PARSERS[name]
    parse = make(Place(str(tmp_path)))
    examples = request.config.getoption("examples")

    @hypothesis.settings(max_examples=examples or 60, derandomize=not examples, deadline=None, database=None,
                         suppress_health_check=list(hypothesis.HealthCheck))
    @hypothesis.given(inputs)
    def check(value):
        started = time.process_time()
        try:
            parse(value)
        except udocker.Error as error:
            assert error.message and "\n" not in error.hint
        assert time.process_time() - started < SECONDS

    check()


@pytest.mark.parametrize("text, is_good", [
    (r'{"a": "\\u0000"}', True), (r'{"a": "\u0000"}', False), (r'{"\u0000": 1}', False),
    (r'{"a": [{"b": "\ud800"}]}', False),
    ('{"a": %s}' % ("1" * 20), True), ('{"a": %s}' % ("1" * 1000000), False)], ids=range(6))
def test_texts_and_numbers_of_documents(text, is_good):
    """A backslash and u0000 are a text as any other, a NUL is none; and int() of a million digits takes seconds."""
    if is_good:
        assert udocker.parse_json(text.encode(), "document")
    else:
        with pytest.raises(udocker.DocumentError):
            udocker.parse_json(text.encode(), "document")


@pytest.mark.parametrize("text, shown", [
    ("plain \u00e9\n\t", "plain \u00e9\n\t"), ("\x1b[31m", r"\x1b[31m"), ("\x9b31m", r"\x9b31m"),
    (os.fsdecode(b"\x9b31m"), r"\udc9b31m"), (os.fsdecode(b"\xe9"), os.fsdecode(b"\xe9")), ("a\u202eb", r"a\u202eb")])
def test_what_a_terminal_would_obey_is_shown(text, shown):
    """As bytes that are no UTF-8 too, which some terminals take for controls."""
    assert udocker.printable(text) == shown
