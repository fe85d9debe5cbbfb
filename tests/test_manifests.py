"""Manifests, indexes and configs of every kind that registries serve, and what is none."""
import base64
import gzip
import importlib.util
import json
import sys

import pytest

import udocker as program_under_test
from faulty_registry import (DOCKER_LIST, DOCKER_MANIFEST, OCI_CONFIG, OCI_INDEX, OCI_LAYER, OCI_MANIFEST,
                             SCHEMA_1, SCHEMA_1_SIGNED, Answer, FaultyRegistry, Layer, changed_body,
                             descriptor_of, digest_of, image_config, json_bytes, text_layer, with_field,
                             with_type)
from images import FOREIGN, NATIVE
from layers import file, tar, whiteout, zstd
from pulling import Puller, transports

MANIFESTS = "/v2/lab/app/manifests/*"
BLOBS = "/v2/lab/app/blobs/*"
EMPTY_LAYER = bytes.fromhex("1f8b080000096e8800ff621805a360148c5800080000ffff2eafb5ef00040000")


@pytest.fixture
def faulty():
    """A registry with one image, lab/app."""
    with FaultyRegistry() as registry:
        registry.image = registry.add_image([text_layer()])
        yield registry


@pytest.fixture
def puller(udocker):
    """The program."""
    return Puller(udocker)


@pytest.fixture(params=sorted(transports()))
def each_puller(request, udocker):
    """The program with each of its ways of speaking HTTP."""
    return Puller(udocker, **transports()[request.param])


def manifest_requests(registry):
    """What was asked for manifests, ["HEAD tag or digest", ...]."""
    return ["%s %s" % (request.method, request.path.rpartition("/")[2])
            for request in registry.asked(path="/v2/*/manifests/*")]


# Manifests: how they are asked for

def test_head_tells_the_digest_and_get_brings_it(each_puller, faulty):
    each_puller.pull(faulty.image.reference)
    assert manifest_requests(faulty) == ["HEAD latest", "GET " + faulty.image.digest]
    assert each_puller.images() == [faulty.image.reference]
    assert each_puller.text(faulty.image.reference) == "hello"


def test_what_is_in_the_store_is_not_fetched_again(puller, faulty):
    puller.pull(faulty.image.reference)
    del faulty.requests[:]
    puller.pull(faulty.image.reference)
    assert manifest_requests(faulty) == ["HEAD latest"]
    assert not faulty.asked("GET", BLOBS)


def test_an_index_in_the_store_is_not_fetched_again(puller, faulty):
    entry = dict(faulty.image.descriptor, platform={"os": "linux", "architecture": NATIVE})
    index = faulty.add_index([entry], tag="multi")
    puller.pull(index.reference)
    assert manifest_requests(faulty) == ["HEAD multi", "GET " + index.digest, "GET " + faulty.image.digest]
    del faulty.requests[:]
    puller.pull(index.reference)
    assert manifest_requests(faulty) == ["HEAD multi"]


def test_a_tag_that_moved_is_followed(puller, faulty):
    puller.pull(faulty.image.reference)
    moved = faulty.add_image([text_layer("moved")])
    puller.pull(moved.reference)
    assert puller.text(moved.reference) == "moved"


def test_an_image_by_digest(each_puller, faulty):
    each_puller.pull(faulty.image.pinned)
    assert set(manifest_requests(faulty)) <= {"HEAD " + faulty.image.digest, "GET " + faulty.image.digest}
    assert each_puller.text(faulty.image.pinned) == "hello"


@pytest.mark.parametrize("behaviour", [
    Answer(400), Answer(404), Answer(405), Answer(501), with_field("Docker-Content-Digest", None),
    with_field("Docker-Content-Digest", "latest"), with_field("Docker-Content-Digest", "sha256:../../x"),
], ids=["400", "404", "405", "501", "no digest", "no digest at all", "a path"])
def test_a_registry_that_does_not_tell_digests(puller, faulty, behaviour):
    faulty.always(MANIFESTS, behaviour, method="HEAD")
    puller.pull(faulty.image.reference)
    assert manifest_requests(faulty)[-1] == "GET latest"


def test_every_type_of_manifest_is_accepted(puller, faulty):
    puller.pull(faulty.image.reference)
    types = {OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, DOCKER_LIST, SCHEMA_1, SCHEMA_1_SIGNED}
    for request in faulty.asked(path=MANIFESTS):
        accepted = ",".join(request.fields.get_all("Accept")).replace(" ", "").split(",")
        assert {text.split(";")[0] for text in accepted} >= types


# Manifests: what they say they are, and what they are

@pytest.mark.parametrize("media_type", [
    OCI_MANIFEST + "; charset=utf-8", "application/json", "application/json; charset=utf-8", "text/plain",
    "text/html", OCI_INDEX, DOCKER_LIST, SCHEMA_1_SIGNED, "", None,
])
@pytest.mark.parametrize("is_named", [True, False], ids=["mediaType", "no mediaType"])
def test_the_content_type_of_a_manifest_may_lie(puller, faulty, media_type, is_named):
    document = dict(faulty.image.document)
    if not is_named:
        del document["mediaType"]
    image = faulty.add_manifest(document, media_type or "", tag="lie")
    faulty.always(MANIFESTS, with_type(media_type))
    puller.pull(image.reference)
    assert puller.images() == [image.reference]


@pytest.mark.parametrize("media_type", [OCI_MANIFEST, "application/json", None])
def test_the_content_type_of_an_index_may_lie(puller, faulty, media_type):
    index = faulty.add_manifest({"schemaVersion": 2, "manifests": [faulty.image.descriptor]}, "", tag="multi")
    faulty.always(MANIFESTS, with_type(media_type))
    puller.pull(index.reference)


@pytest.mark.parametrize("media_type", [DOCKER_MANIFEST, OCI_MANIFEST])
def test_docker_and_oci_manifests(puller, faulty, media_type):
    image = faulty.add_image([text_layer("typed")], media_type=media_type)
    puller.pull(image.reference)
    assert puller.text(image.reference) == "typed"


def test_a_digest_is_that_of_the_bytes_as_they_came(puller, faulty):
    text = json.dumps(faulty.image.document, separators=(" ,\n", "\t:  ")).replace("appl", "\\u0061ppl")
    image = faulty.add_manifest(b" \n" + text.encode() + b"\n\n", OCI_MANIFEST, tag="odd")
    for reference in image.reference, image.pinned:
        puller.pull(reference)
        puller.udocker.ok("verify", reference)
    kept = puller.udocker.store.glob("repos/**/manifest")
    assert {digest_of(path.read_bytes()) for path in kept} == {image.digest}


def test_a_manifest_of_another_digest_is_refused(puller, faulty):
    faulty.always(MANIFESTS, changed_body(lambda body: body + b" "), method="GET")
    puller.refused(faulty.image.reference, told=["digest"])
    puller.refused(faulty.image.pinned, told=["digest"])


def test_an_entry_of_an_index_of_another_digest_is_refused(puller, faulty):
    index = faulty.add_index([faulty.image.descriptor], tag="multi")
    faulty.always(faulty.image.digest_path, changed_body(lambda body: body + b" "))
    puller.refused(index.reference, told=["digest"])


# Manifests: schema 1

def encoded(data):
    """Bytes in base64 as JSON Web Signatures have it."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def schema_1(blobs, configs):
    """A payload of schema 1: blobs, the highest first, and what each of them says of the image."""
    return json.dumps({
        "schemaVersion": 1, "name": "lab/app", "tag": "latest", "architecture": NATIVE,
        "fsLayers": [{"blobSum": digest_of(blob)} for blob in blobs],
        "history": [{"v1Compatibility": json.dumps(config)} for config in configs],
    }, indent=3).encode()


def signed(payload, **protected):
    """The payload with a signature in it that says where to cut in order to have the payload again."""
    length = len(payload) - 2
    protected = dict({"formatLength": length, "formatTail": encoded(payload[length:])}, **protected)
    signature = {"header": {"alg": "ES256"}, "signature": "AA",
                 "protected": encoded(json.dumps(protected).encode())}
    signatures = b',\n   "signatures": [%s]' % json.dumps(signature).encode()
    return payload[:length] + signatures + payload[length:]


def serve_schema_1(registry, payload, body, media_type=SCHEMA_1_SIGNED):
    """Serves a manifest of schema 1 under the tag and the payload's digest, as registries do."""
    digest = digest_of(payload)
    for reference in "old", digest:
        registry.manifests["lab/app", reference] = (body, media_type)
        registry.always("/v2/lab/app/manifests/" + reference, with_field("Docker-Content-Digest", digest))
    return registry.host + "/lab/app:old", registry.host + "/lab/app@" + digest


def old_image(registry):
    """A payload of schema 1: two layers, and one that says that it is none."""
    lower = gzip.compress(tar(file("etc/motd", b"lower"), file("etc/gone", b"")))
    upper = gzip.compress(tar(file("etc/motd", b"hello"), whiteout("etc/gone")))
    registry.add_blob(lower)
    registry.add_blob(upper)
    newest = {"id": "c" * 64, "architecture": NATIVE, "os": "linux", "config": {"Cmd": ["/old"]},
              "throwaway": True}
    return schema_1([EMPTY_LAYER, upper, lower], [newest, {"id": "b" * 64}, {"id": "a" * 64}])


@pytest.mark.parametrize("media_type", [SCHEMA_1_SIGNED, "application/json; charset=utf-8"])
def test_schema_1_signed(puller, faulty, media_type):
    payload = old_image(faulty)
    for reference in serve_schema_1(faulty, payload, signed(payload), media_type):
        puller.pull(reference)
        root = puller.tree(reference)
        assert (root / "etc/motd").read_text() == "hello" and not (root / "etc/gone").exists()
        assert puller.config(reference)["config"]["Cmd"] == ["/old"]


@pytest.mark.parametrize("media_type", [SCHEMA_1, "application/json"])
def test_schema_1_unsigned(puller, faulty, media_type):
    payload = old_image(faulty)
    reference, _ = serve_schema_1(faulty, payload, payload, media_type)
    puller.pull(reference)
    assert puller.text(reference) == "hello"


@pytest.mark.parametrize("protected", [
    {"formatLength": -1}, {"formatLength": 10 ** 9}, {"formatLength": "5"}, {"formatLength": None},
    {"formatTail": "%%%"}, {"formatTail": 5}, {"formatTail": encoded(b" }")},
], ids=str)
def test_schema_1_with_a_broken_signature_is_refused(puller, faulty, protected):
    payload = old_image(faulty)
    reference, pinned = serve_schema_1(faulty, payload, signed(payload, **protected))
    puller.refused(reference, told=["digest"])
    puller.refused(pinned, told=["digest"])


def test_schema_1_that_was_not_what_was_signed_is_refused(puller, faulty):
    """A signature that brings along a payload of its own, which has the pinned digest."""
    pinned = old_image(faulty)
    evil = json.loads(old_image(faulty).decode())
    evil["fsLayers"].reverse()
    protected = json.dumps({"formatLength": 0, "formatTail": encoded(pinned)}).encode()
    evil["signatures"] = [{"protected": encoded(protected)}]
    _, reference = serve_schema_1(faulty, pinned, json_bytes(evil))
    puller.refused(reference, told=["digest"])


@pytest.mark.parametrize("change", [
    {"history": []}, {"history": None}, {"history": "abc"}, {"history": [{}] * 3},
    {"history": [{"v1Compatibility": "{"}] * 3}, {"fsLayers": []}, {"fsLayers": None}, {"fsLayers": 5},
    {"fsLayers": [{}] * 3}, {"fsLayers": [{"blobSum": "sha256:../../x"}] * 3},
], ids=str)
def test_schema_1_that_is_none_is_refused(puller, faulty, change):
    payload = json_bytes(dict(json.loads(old_image(faulty).decode()), **change))
    reference, _ = serve_schema_1(faulty, payload, payload, SCHEMA_1)
    puller.refused(reference)


# Indexes

def entry(registry, name="linux/" + NATIVE):
    """The descriptor of a new image for a platform like linux/arm/v7, which says so in etc/motd too."""
    platform = dict(zip(("os", "architecture", "variant"), name.split("/")))
    layers = [text_layer(name)]
    image = registry.add_image(layers, tag=name.replace("/", "-"), config=image_config(layers, **platform))
    return dict(image.descriptor, platform=platform)


def test_a_manifest_without_an_index_is_of_its_configs_platform(puller, faulty):
    """Refused where the user asked for a platform, else told: emulators may run it."""
    layers = [text_layer("hello")]
    image = faulty.add_image(layers, config=image_config(layers, FOREIGN))
    words = "is an image for linux/%s, not for linux/%s" % (FOREIGN, NATIVE)
    puller.refused(image.reference, "--platform=linux/" + NATIVE, told=[words])
    assert "warning: %s %s" % (image.reference, words) in puller.pull(image.reference).err


def nameless_entry(registry):
    """The same for this machine's platform, but nobody says so."""
    layers = [text_layer("none")]
    return registry.add_image(layers, tag="none", config=image_config(layers, NATIVE)).descriptor


def add_choice(registry, names, media_type=OCI_INDEX):
    """An index of entries for these platforms; None is one without."""
    entries = [entry(registry, name) if name else nameless_entry(registry) for name in names]
    return registry.add_index(entries, media_type, tag="multi")


CHOICES = [
    (None, ["linux/" + FOREIGN, "linux/" + NATIVE], "linux/" + NATIVE),
    ("linux/arm64", ["linux/amd64", "linux/arm64"], "linux/arm64"),
    ("linux/arm64", ["linux/arm/v8", "linux/arm/v7", "linux/arm64/v8"], "linux/arm64/v8"),
    ("linux/arm64/v8", ["linux/arm/v7", "linux/arm64"], "linux/arm64"),
    ("linux/arm64", ["linux/arm64/v9"], "linux/arm64/v9"),
    ("linux/arm64/v9", ["linux/arm64"], "linux/arm64"),
    ("linux/arm/v7", ["linux/arm/v5", "linux/arm/v6", "linux/arm/v7", "linux/arm64"], "linux/arm/v7"),
    ("linux/arm/v7", ["linux/arm/v5", "linux/arm/v6"], "linux/arm/v6"),
    ("linux/arm/v8", ["linux/arm/v6", "linux/arm/v7"], "linux/arm/v7"),
    ("linux/arm/v6", ["linux/arm/v7", "linux/arm/v5"], "linux/arm/v5"),
    ("linux/arm", ["linux/arm/v6", "linux/arm/v7"], "linux/arm/v7"),
    ("linux/amd64", ["linux/amd64/v3", "linux/amd64"], "linux/amd64"),
    ("linux/amd64/v3", ["linux/amd64", "linux/amd64/v2", "linux/amd64/v3"], "linux/amd64/v3"),
    ("linux/amd64/v2", ["linux/amd64/v3", "linux/amd64"], "linux/amd64"),
    ("linux/amd64", ["windows/amd64", "linux/amd64"], "linux/amd64"),
    ("linux/386", ["linux/amd64", "linux/386"], "linux/386"),
    ("linux/amd64", [None, "linux/amd64"], "linux/amd64"),
    (None, ["linux/" + FOREIGN, None], "none"),
    (None, [None], "none"),
]


@pytest.mark.parametrize("wanted,offered,chosen", CHOICES)
def test_the_platform_is_chosen(puller, faulty, wanted, offered, chosen):
    index = add_choice(faulty, offered)
    puller.pull(index.reference, *(["--platform=" + wanted] if wanted else []))
    assert puller.text(index.reference) == chosen


def test_dockers_list_of_manifests(puller, faulty):
    index = add_choice(faulty, ["linux/" + FOREIGN, "linux/" + NATIVE], DOCKER_LIST)
    puller.pull(index.reference)
    assert puller.text(index.reference) == "linux/" + NATIVE


@pytest.mark.parametrize("wanted,offered", [
    ("linux/s390x", ["linux/amd64", "linux/arm/v7", "windows/arm64"]), ("linux/arm/v5", ["linux/arm/v6"]),
    ("linux/arm64/v9", ["linux/arm64/v10"]),
    ("linux/arm64", ["windows/arm64"]), ("linux/amd64", []), ("linux/amd64", ["linux/amd64/v2"]),
])
def test_a_platform_that_is_missing_is_told_with_those_there_are(puller, faulty, wanted, offered):
    index = add_choice(faulty, offered)
    puller.refused(index.reference, "--platform=" + wanted, told=offered)


@pytest.mark.parametrize("text, host, repository", [
    ("busybox", "", "busybox"), ("lab/busybox:1", "", "lab/busybox"), ("localhost", "", "localhost"),
    ("localhost/a", "localhost", "a"), ("h.org/lab/a", "h.org", "lab/a"), ("h:5000/a:1", "h:5000", "a"),
    ("[::1]/a", "[::1]", "a"), ("Host/a", "Host", "a"), ("docker.io/library/a", "", "a"),
    ("library/a/b", "", "library/a/b")])
def test_which_part_of_a_reference_is_a_host(text, host, repository):
    reference = program_under_test.Reference.parse(text)
    assert (reference.host, reference.repository) == (host, repository)


@pytest.mark.parametrize("text, shown", [
    ("busybox", "busybox:latest"), ("docker.io/library/busybox:1", "busybox:1"), ("h.org/lab/a", "h.org/lab/a:latest"),
    ("lab/a@" + digest_of(b""), "lab/a@" + digest_of(b"")), ("a:1@" + digest_of(b""), "a@" + digest_of(b""))])
def test_a_reference_as_it_is_shown(text, shown):
    assert str(program_under_test.Reference.parse(text)) == shown


@pytest.mark.parametrize("value, words", [
    (["a", "b c"], ["a", "b c"]), ("a b", ["/bin/sh", "-c", "a b"]), ("", []), (None, []), ({"a": 1}, []),
    (["a", 1, None], ["a"])])
def test_the_command_of_a_config(value, words):
    config = program_under_test.ImageConfig({"config": {"Cmd": value, "Entrypoint": value}})
    assert config.command == config.entrypoint == words


def test_the_environment_of_a_config():
    """What names no variable is left out."""
    entries = ["A=1", "B=", "C=a=b", "=x", "D", ""]
    config = program_under_test.ImageConfig({"config": {"Env": entries}})
    assert config.environment == [("A", "1"), ("B", ""), ("C", "a=b")]


@pytest.mark.parametrize("text", ["linux/", "/arm64", "linux/arm/v7/v8", "linux/arm 64", "l!nux/arm64"])
def test_what_is_no_platform(udocker, text):
    assert "is not a platform" in udocker.fails(2, "pull", "--platform=" + text, "busybox").err


def test_the_first_of_equal_entries_is_taken(puller, faulty):
    first = entry(faulty)
    second = dict(faulty.add_image([text_layer("later")]).descriptor, platform=first["platform"])
    index = faulty.add_index([first, second], tag="multi")
    puller.pull(index.reference)
    assert puller.text(index.reference) == "linux/" + NATIVE


@pytest.mark.parametrize("members", [
    {"platform": {"os": "unknown", "architecture": "unknown"}},
    {"annotations": {"vnd.docker.reference.type": "attestation-manifest"}},
    {"artifactType": "application/vnd.lab.signature"},
    {"mediaType": "application/vnd.lab.unknown+json"},
], ids=lambda members: sorted(members)[0])
def test_entries_that_are_no_images_are_skipped(puller, faulty, members):
    statement = Layer(b'{"_type": "statement"}', compress=bytes, media_type="application/vnd.in-toto+json")
    attestation = dict(faulty.add_image([statement], tag="attestation").descriptor,
                       platform={"os": "linux", "architecture": NATIVE})
    index = faulty.add_index([dict(attestation, **members), entry(faulty)], tag="multi")
    puller.pull(index.reference)
    assert puller.text(index.reference) == "linux/" + NATIVE


def test_an_index_of_nothing_but_attestations_is_refused(puller, faulty):
    index = faulty.add_index([entry(faulty, "unknown/unknown")], tag="multi")
    puller.refused(index.reference)


def test_an_index_of_an_index(puller, faulty):
    inner = faulty.add_index([entry(faulty, "linux/" + FOREIGN), entry(faulty)], tag="inner")
    outer = faulty.add_index([inner.descriptor], tag="outer")
    puller.pull(outer.reference)
    assert puller.text(outer.reference) == "linux/" + NATIVE


def test_indexes_without_end_are_refused(puller, faulty):
    image = faulty.image
    for _ in range(30):
        image = faulty.add_index([image.descriptor], tag="deep")
    puller.refused(image.reference)
    assert len(faulty.requests) < 20


def zstd_entry(registry):
    """As `entry`, for an image of which the layer is packed with zstd."""
    packed = registry.add_image([text_layer("zstd", compress=zstd, media_type=OCI_LAYER + "+zstd")])
    return dict(packed.descriptor, platform={"os": "linux", "architecture": NATIVE},
                annotations={"io.github.containers.compression.zstd": "true"})


def test_zstd_is_preferred_where_it_can_be_read(puller, faulty):
    index = faulty.add_index([entry(faulty), zstd_entry(faulty)], tag="multi")
    puller.pull(index.reference)
    assert puller.text(index.reference) == "zstd"


def test_zstd_is_not_taken_where_it_cannot_be_read(puller, faulty, tmp_path):
    if sys.version_info >= (3, 14) or importlib.util.find_spec("zstandard"):
        pytest.skip("this Python reads it")
    without = puller.with_env(PATH=str(tmp_path), **transports().get("curl", {}))
    index = faulty.add_index([zstd_entry(faulty), entry(faulty)], tag="multi")
    without.pull(index.reference)
    assert without.text(index.reference) == "linux/" + NATIVE
    alone = faulty.add_index([zstd_entry(faulty)], tag="alone")
    without.pull(alone.reference)
    result = without.udocker.fails(1, "-q", "create", alone.reference)
    assert "compressed with zstd, which this machine cannot read" in result.err


# Manifests and configs that are not what they should be

def broken_manifests(document):
    """{what is wrong: bytes}, starting from the document of a good manifest."""
    def changed(**members):
        return json_bytes(dict(document, **members))

    lowest = document["layers"][0]
    return dict({
        "HTML": b"<!DOCTYPE html><html><body>Please log in</body></html>",
        "nothing": b"",
        "half": json_bytes(document)[:100],
        "a number": b"5",
        "a list": b"[]",
        "null": b"null",
        "not UTF-8": b'{"schemaVersion": 2, "layers": "\xff\xfe"}',
        "UTF-16": '{"schemaVersion": 2}'.encode("utf-16"),
        "deep": b'{"layers":' + b"[" * 200000,
        "long": b" " * (6 << 20) + json_bytes(document),
        "no kind": b'{"schemaVersion": 2}',
        "manifests of no list": b'{"schemaVersion": 2, "manifests": {"a": 1}}',
        "manifests of numbers": b'{"schemaVersion": 2, "manifests": [5]}',
        "manifests of nothing": b'{"schemaVersion": 2, "manifests": [{}]}',
        "manifests null": b'{"schemaVersion": 2, "manifests": null}',
        "config of no object": changed(config=5),
        "config null": changed(config=None),
        "layers of no list": changed(layers={"a": 1}),
        "layers null": changed(layers=None),
        "layers of numbers": changed(layers=[5]),
        "layers of null": changed(layers=[None]),
        "layers of lists": changed(layers=[[]]),
    }, **{
        "%s in %s" % (name, place): changed(config=dict(document["config"], **members)) if place == "config"
        else changed(layers=[dict(lowest, **members)])
        for name, members in BROKEN_DESCRIPTORS.items() for place in ("config", "layers")
    })


A_DIGEST = "sha256:" + "a" * 64
BROKEN_DESCRIPTORS = {
    "a path": {"digest": "sha256:../../../../canary"},
    "an absolute path": {"digest": "/etc/passwd"},
    "slashes": {"digest": "sha256:" + "/a" * 32},
    "upper case": {"digest": A_DIGEST.upper()},
    "a short digest": {"digest": A_DIGEST[:-1]},
    "a long digest": {"digest": A_DIGEST + "a"},
    "a line": {"digest": A_DIGEST + "\n"},
    "a number": {"digest": 5},
    "no digest": {"digest": None},
    "MD5": {"digest": "md5:" + "a" * 32},
    "negative size": {"size": -1},
    "size as text": {"size": "5"},
    "half a byte": {"size": 1.5},
    "huge size": {"size": 10 ** 30},
    "a list of sizes": {"size": []},
}


@pytest.mark.parametrize("name", sorted(broken_manifests({"config": {}, "layers": [{}]})))
def test_a_broken_manifest_is_refused(puller, faulty, name):
    body = broken_manifests(faulty.image.document)[name]
    puller.refused(faulty.add_manifest(body, OCI_MANIFEST, tag="broken").reference)


CONFIGS = {
    "nothing at all": {},
    "null for everything": dict.fromkeys(["architecture", "os", "config", "rootfs", "history", "created"]),
    "a config of nulls": {"config": dict.fromkeys([
        "Env", "Cmd", "Entrypoint", "Volumes", "User", "WorkingDir", "ExposedPorts", "Labels"])},
    "a config of nothing": {"config": {}},
    "members of others": {"config": {"Healthcheck": {"Test": []}}, "container_config": {}, "x": [1]},
}


@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_a_config_may_lack_everything(puller, faulty, name):
    image = faulty.add_image([text_layer()], tag="bare", config=CONFIGS[name] or {"x": None})
    puller.pull(image.reference)
    assert puller.text(image.reference) == "hello"
    assert puller.config(image.reference) == (CONFIGS[name] or {"x": None})


@pytest.mark.parametrize("config", [
    b"", b"[]", b"5", b"null", b"{", b"<html>", b'"x"', b"\xff", b"[" * 200000,
], ids=lambda config: config[:10].decode("latin-1") or "empty")
def test_a_config_that_is_none_is_refused(puller, faulty, config):
    document = dict(faulty.image.document, config=faulty.add_blob(config, OCI_CONFIG))
    puller.refused(faulty.add_manifest(document, OCI_MANIFEST, tag="broken").reference)


def add_image_of(registry, diff_ids):
    """An image of one layer, of which the config says that these are its layers' digests."""
    config = image_config([], rootfs={"type": "layers", "diff_ids": diff_ids})
    return registry.add_image([text_layer()], tag="wrong", config=config)


def test_a_layer_that_is_not_what_the_config_says_is_not_kept(puller, faulty):
    image = add_image_of(faulty, [digest_of(b"another")])
    puller.pull(image.reference)
    puller.udocker.fails(1, "-q", "create", image.reference)
    assert len(puller.udocker.ok("ps").out.splitlines()) == 1


@pytest.mark.parametrize("diff_ids", [[], ["x"], [5], [None], "x", None, [digest_of(b"")] * 3], ids=str)
def test_a_config_that_names_layers_strangely_is_no_traceback(puller, faulty, diff_ids):
    image = add_image_of(faulty, diff_ids)
    for command in "pull", "create":
        result = puller.udocker("-q", command, image.reference)
        assert result.status in (0, 1) and "this is a bug" not in result.err, result


# What is kept in registries beside images

ARTIFACTS = {
    "a Helm chart": ("application/vnd.cncf.helm.config.v1+json",
                     "application/vnd.cncf.helm.chart.content.v1.tar+gzip"),
    "a tar of its own": ("application/vnd.lab.own.v1+json", OCI_LAYER),
    "a signature": (OCI_CONFIG, "application/vnd.dev.cosign.simplesigning.v1+json"),
    "an attestation": (OCI_CONFIG, "application/vnd.in-toto+json"),
    "a file": ("application/vnd.oci.empty.v1+json", "text/plain"),
    "a disk": ("application/vnd.oci.empty.v1+json", "application/vnd.lab.disk.qcow2"),
}


@pytest.mark.parametrize("name", sorted(ARTIFACTS))
def test_what_is_no_image_is_refused_with_its_type(puller, faulty, name):
    config_type, layer_type = ARTIFACTS[name]
    layer = descriptor_of(b"{}", layer_type)
    document = dict(faulty.image.document, layers=[layer], config=faulty.add_blob(b"{}", config_type))
    artifact = faulty.add_manifest(document, OCI_MANIFEST, tag="artifact")
    told = puller.refused(artifact.reference)
    assert config_type in told or layer_type in told


def test_an_artifact_without_layers_is_refused(puller, faulty):
    artifact = faulty.add_manifest({
        "schemaVersion": 2, "mediaType": OCI_MANIFEST, "artifactType": "application/vnd.lab.report",
        "config": faulty.add_blob(b"{}", "application/vnd.oci.empty.v1+json"), "layers": []}, OCI_MANIFEST)
    puller.refused(artifact.reference, told=["application/vnd."])
