"""push: what arrives in real registries, and how it goes on where one misbehaves."""
import importlib.util
import json
import shutil
import subprocess

import pytest

import archives
import udocker as program_under_test
from conftest import CREDENTIAL, need
from faulty_registry import (OCI_CONFIG, OCI_MANIFEST, SCHEMA_1, Answer, BasicGate, BearerGate, FaultyRegistry,
                             TokenDesk, basic, denied, digest_of, json_bytes, redirect, text_layer)
from layers import file, tar
from program import Program
from pulling import transports

USER, PASSWORD = CREDENTIAL
UPLOADS = "/v2/lab/app/blobs/uploads/"
SESSION = UPLOADS + "session"


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    """A home that tests share, with lab/made:1 of two layers, one of them of some megabytes."""
    program = Program(tmp_path_factory.mktemp("loaded"))
    large = bytes(range(256)) * 20000
    image = archives.made(tar(file("etc/motd", b"hello\n")), tar(file("large", large)))
    program.ok("load", input=archives.archive(archives.docker_25((image, ["lab/made:1"]))))
    yield program
    shutil.rmtree(str(program.home))


@pytest.fixture(params=sorted(transports()))
def pusher(request, loaded):
    """The program with each of its ways of speaking HTTP."""
    program = loaded.with_env(UDOCKER_RETRY_DELAY="0.01", **transports()[request.param])
    program.transport = request.param
    return program


@pytest.fixture
def one_pusher(loaded):
    return loaded.with_env(UDOCKER_RETRY_DELAY="0.01")


@pytest.fixture
def faulty():
    """A registry that is empty."""
    with FaultyRegistry() as registry:
        registry.target = registry.host + "/lab/app:1"
        yield registry


def tagged(program, name):
    """The image under a name of a registry."""
    program("rmi", name)
    program.ok("tag", "lab/made:1", name)
    return name


def manifest_of(program, name):
    return archives.stored(program, name)


def blobs_of(manifest):
    """The digests of an image's parts."""
    document = json.loads(manifest.decode())
    return {entry["digest"] for entry in document["layers"] + [document["config"]]}


def test_what_is_pushed_is_there(pusher, registry, udocker):
    name = tagged(pusher, "%s/pushed/%s:1" % (registry.host, pusher.transport))
    result = pusher.ok("push", name)
    assert result.out == "" and digest_of(manifest_of(pusher, name)) in result.err
    need("skopeo")
    shown = subprocess.check_output(["skopeo", "inspect", "--tls-verify=false", "docker://" + name])
    assert json.loads(shown.decode())["Digest"] == digest_of(manifest_of(pusher, name))
    udocker.ok("pull", name)
    assert manifest_of(udocker, name) == manifest_of(pusher, name)
    udocker.ok("verify", name)
    again = pusher.ok("push", name)
    assert again.err.count("there already") == 2
    assert pusher.ok("-q", "push", name).err == ""


def test_what_another_repository_has_is_not_sent(one_pusher, registry):
    one_pusher.ok("push", tagged(one_pusher, registry.host + "/first/app:1"))
    result = one_pusher.ok("-D", "push", tagged(one_pusher, registry.host + "/second/app:1"))
    assert result.err.count("there already") == 2 and result.err.count("PUT ") == 2      # of config and manifest


def test_all_tags(one_pusher, registry):
    for tag in "1", "2":
        tagged(one_pusher, registry.host + "/tags/app:" + tag)
    assert one_pusher.ok("push", "--all-tags", registry.host + "/tags/app").err.count("is pushed") == 2
    assert sorted(one_pusher.ok("search", "--list-tags", registry.host + "/tags/app").out.split()) == ["1", "2"]
    for tagged_name in registry.host + "/tags/app:1", "docker.io/lab/made:1":
        assert "--all-tags" in one_pusher.fails(2, "push", "-a", tagged_name).err


def test_all_tags_are_no_digests(udocker, images):
    name = images.host + "/lab/multi"
    digest = digest_of(images.manifest("lab/multi", "latest")[0])
    udocker.ok("pull", "%s@%s" % (name, digest))
    udocker.ok("tag", "%s@%s" % (name, digest), images.host + "/lab/single:1")
    udocker.ok("tag", "%s@%s" % (name, digest), name + ":own")
    assert udocker.ok("push", "--all-tags", name).err.count("is pushed:") == 1
    assert "digest" in udocker.fails(2, "push", "%s@%s" % (name, digest)).err
    assert "one of several platforms" in udocker.ok("push", images.host + "/lab/single:1").err


def test_an_image_in_dockers_format_stays_in_it(udocker, images):
    source, target = images.host + "/lab/busybox:schema2", images.host + "/again/schema2:1"
    udocker.ok("pull", source)
    udocker.ok("tag", source, target)
    assert digest_of(manifest_of(udocker, source)) in udocker.ok("push", target).err


def test_an_image_of_schema_1_gets_a_manifest(udocker, faulty, registry):
    layer = text_layer()
    faulty.add_blob(layer.blob)
    faulty.add_manifest({"schemaVersion": 1, "name": "lab/old", "tag": "1", "fsLayers": [
        {"blobSum": layer.descriptor["digest"]}], "history": [{"v1Compatibility": json.dumps({
            "id": "a", "architecture": "amd64", "os": "linux", "config": {"Cmd": ["sh"]}})}]}, SCHEMA_1, "1", "lab/old")
    udocker.ok("pull", faulty.host + "/lab/old:1")
    udocker.ok("tag", faulty.host + "/lab/old:1", registry.host + "/lab/old:1")
    udocker.ok("push", registry.host + "/lab/old:1")
    udocker.ok("rmi", registry.host + "/lab/old:1")
    udocker.ok("pull", registry.host + "/lab/old:1")
    assert json.loads(udocker.ok("inspect", registry.host + "/lab/old:1").out)["config"]["Cmd"] == ["sh"]


def test_the_name_is_one_of_another_registry_or_of_dockers(one_pusher, faulty):
    """--registry= stands for Docker Hub; a name without a place in it is one of library/ there."""
    one_pusher.ok("push", "--registry=http://" + faulty.host, "lab/made:1")
    assert faulty.manifests["lab/made", "1"][0] == manifest_of(one_pusher, "lab/made:1")
    assert "already names" in one_pusher.fails(2, "push", "--registry=x.org", tagged(one_pusher, faulty.target)).err


# Who may push

def test_a_password_is_needed(one_pusher, private_registry):
    name = tagged(one_pusher, private_registry.host + "/new/app:1")
    assert "udocker login" in one_pusher.fails(1, "-q", "push", name).err
    one_pusher.ok("login", "-u", USER, "--password-stdin", private_registry.host, input=PASSWORD.encode())
    one_pusher.ok("push", name)
    one_pusher.ok("logout", private_registry.host)


def guard(registry, **desk):
    registry.desk = TokenDesk(**desk)
    registry.always("/token", registry.desk)
    registry.gate = BearerGate(registry.desk, 'Bearer realm="%s/token",service="registry.test"' % registry.url)


def test_a_token_is_asked_for_that_lets_push(pusher, faulty):
    guard(faulty, lets_push=True)
    name = tagged(pusher, faulty.target)
    pusher.ok("push", name)
    assert faulty.manifests["lab/app", "1"][0] == manifest_of(pusher, name)
    assert [request.query["scope"] for request in faulty.desk.requests] == [["repository:lab/app:pull,push"]]


def test_a_token_for_what_another_repository_has(one_pusher, faulty):
    """It names both; where that is of no use the blob is sent."""
    guard(faulty, lets_push=True)
    tagged(one_pusher, faulty.host + "/lab/other:1")
    one_pusher.ok("push", tagged(one_pusher, faulty.target))
    asked = [sorted(request.query["scope"]) for request in faulty.desk.requests]
    assert ["repository:lab/app:pull,push", "repository:lab/other:pull"] in asked
    assert {request.query["from"][0] for request in faulty.asked("POST") if "from" in request.query} == {"lab/other"}
    assert blobs_of(faulty.manifests["lab/app", "1"][0]) <= set(faulty.blobs)
    one_pusher.ok("rmi", faulty.host + "/lab/other:1")


def test_who_may_not_push_is_told(pusher, faulty):
    guard(faulty)
    error = pusher.fails(1, "-q", "push", tagged(pusher, faulty.target)).err
    assert "authentication required" in error and "allowed to push" in error and not faulty.manifests


def test_a_token_that_ends_meanwhile(one_pusher, faulty):
    guard(faulty, lets_push=True)

    def late(request, good):
        faulty.desk.forget()
        return denied('Bearer realm="%s/token",service="registry.test"' % faulty.url)

    faulty.once(SESSION, late)
    one_pusher.ok("push", tagged(one_pusher, faulty.target))
    assert blobs_of(faulty.manifests["lab/app", "1"][0]) <= set(faulty.blobs)


# What goes wrong

@pytest.mark.parametrize("method,path,behaviours", [
    ("PUT", SESSION, [Answer(503), Answer(201, b"x" * 99, cut=5, reset=True)]), ("POST", UPLOADS, [Answer(502)]),
    ("HEAD", "/v2/lab/app/blobs/*", [Answer(500)]), ("PUT", "/v2/lab/app/manifests/1", [Answer(504)])])
def test_what_may_pass_is_tried_again(pusher, faulty, method, path, behaviours):
    faulty.once(path, *behaviours, method=method)
    name = tagged(pusher, faulty.target)
    pusher.ok("push", name)
    assert faulty.manifests["lab/app", "1"] == (manifest_of(pusher, name), OCI_MANIFEST)
    assert blobs_of(manifest_of(pusher, name)) <= set(faulty.blobs)


@pytest.mark.parametrize("method,path,answer,told", [
    ("POST", UPLOADS, Answer(202), "no place"), ("POST", UPLOADS, Answer(200, b"", {"Location": SESSION}), "no place"),
    ("POST", UPLOADS, Answer(202, b"", {"Location": "ftp://x/"}), "no http address"),
    ("POST", UPLOADS, Answer(405), "405"), ("PUT", SESSION, redirect("/elsewhere", 302), "redirected"),
    ("PUT", SESSION, redirect("http://localhost:1/elsewhere"), "redirected"),
    ("PUT", SESSION, Answer(413), "takes nothing of this size"),
    ("PUT", SESSION, Answer(413, b'{"errors": [{"code": "TOO_LARGE", "message": "too large"}]}'), "too large"),
    ("PUT", "/v2/lab/app/manifests/1", Answer(400, b'{"errors": [{"message": "no OCI here"}]}'), "no OCI here"),
    ("PUT", "/v2/lab/app/manifests/1", Answer(201, b"", {"Docker-Content-Digest": "sha256:" + "0" * 64}), "another"),
    ("HEAD", "/v2/lab/app/blobs/*", denied(status=403), "allowed to push"),
])
def test_what_is_refused_is_told(one_pusher, faulty, method, path, answer, told):
    faulty.always(path, answer, method=method)
    assert told in one_pusher.fails(1, "-q", "push", tagged(one_pusher, faulty.target)).err


def test_a_server_may_redirect_to_itself(pusher, faulty):
    faulty.always(SESSION, lambda request, good: Answer(201) if "again" in request.query else good, method="PUT")
    faulty.once(SESSION, redirect(SESSION + "?again=yes", 308), method="PUT")
    faulty.once(UPLOADS, redirect(UPLOADS + "?again=yes"), method="POST")
    pusher.ok("push", tagged(pusher, faulty.target))
    assert [request for request in faulty.asked("PUT", SESSION) if "again" in request.query][0].body


@pytest.mark.parametrize("status", [400, 404, 405, 501])
def test_registries_that_know_no_head(one_pusher, faulty, status):
    faulty.always("/v2/lab/app/blobs/*", Answer(status), method="HEAD")
    one_pusher.ok("push", tagged(one_pusher, faulty.target))
    assert blobs_of(faulty.manifests["lab/app", "1"][0]) <= set(faulty.blobs)


@pytest.mark.parametrize("answer", [
    Answer(raw=b""), Answer(400), Answer(202, b"", {"Location": SESSION + "?mounting=yes"})])
def test_what_cannot_be_mounted_is_sent(one_pusher, faulty, answer):
    """At once where the registry has begun to take it."""
    tagged(one_pusher, faulty.host + "/lab/other:1")
    faulty.always(UPLOADS, lambda request, good: answer if "mount" in request.query else good, method="POST")
    one_pusher.ok("push", tagged(one_pusher, faulty.target))
    sent = [request for request in faulty.asked("PUT", SESSION) if "mounting" in request.query]
    assert len(sent) == (2 if answer.status == 202 else 0)
    assert blobs_of(faulty.manifests["lab/app", "1"][0]) <= set(faulty.blobs)
    one_pusher.ok("rmi", faulty.host + "/lab/other:1")


def test_no_name_is_told_that_docker_hub_may_not_know(udocker, faulty):
    """Of those without a host only what was pulled from an index came from there."""
    for name in "lab/made:1", "lab/secret:1":
        image = archives.made(tar(file("etc/motd", b"hello\n")))
        udocker.ok("load", input=archives.archive(archives.docker_25((image, [name]))))
    udocker.ok("push", "--registry=http://" + faulty.host, "lab/made:1")
    assert not [request for request in faulty.requests if "secret" in request.target]


def test_a_config_of_any_size(pusher, faulty):
    image = archives.made(tar(file("etc/motd", b"hello\n")), config={"Labels": {"long": "x" * 500000}})
    pusher.ok("load", input=archives.archive(archives.docker_25((image, ["lab/long:1"]))))
    pusher.ok("push", "--registry=http://" + faulty.host, "lab/long:1")
    assert faulty.blobs[digest_of(image.config)] == image.config


def test_a_link_to_a_next_page_that_holds_a_url(one_pusher, faulty):
    faulty.always("/v2/_catalog", Answer(200, b'{"repositories": ["lab/app"]}', {
        "Link": '</v2/_catalog?last=a://b>; rel="next"'}))
    assert one_pusher.ok("search", "--all", faulty.host + "/app").out.count("lab/app") >= 1


def test_another_server_is_sent_the_blob_without_credentials(pusher, faulty):
    """As storage that signs its own addresses."""
    with FaultyRegistry() as storage:
        storage.always("/put", Answer(201), method="PUT")
        faulty.gate = BasicGate({USER: PASSWORD})
        faulty.always(UPLOADS, Answer(202, b"", {"Location": storage.url + "/put?signed=yes"}), method="POST")
        name = tagged(pusher, faulty.target)
        pusher.ok("login", "-u", USER, "--password-stdin", "http://" + faulty.host, input=PASSWORD.encode())
        pusher.ok("push", name)
        sent = storage.asked("PUT", "/put")
        assert {digest_of(request.body) for request in sent} == blobs_of(manifest_of(pusher, name))
        assert all(request.query["signed"] == ["yes"] and request.query["digest"] == [digest_of(request.body)]
                   and request.authorization is None for request in sent)
        assert {request.authorization for request in faulty.asked("PUT")} == {basic(USER, PASSWORD)}
        pusher.ok("logout", "http://" + faulty.host)


class PublicRegistry:
    """A transport to a registry that is on no loopback, and wants blobs sent to this address."""

    def __init__(self, location):
        self.location = location
        self.methods = []

    def perform(self, transfer):
        self.methods.append(transfer.method)
        status = {"GET": 200, "HEAD": 404, "POST": 202, "PUT": 201}[transfer.method]
        transfer.take_header(b"HTTP/1.1 %d told\r\n" % status)
        transfer.take_header(b"Location: %s\r\n" % self.location.encode())
        transfer.finish()


@pytest.mark.parametrize("location,is_good", [
    ("https://10.0.0.1/put", False), ("https://localhost/put", False), ("https://[::1]/put", False),
    ("https://169.254.169.254/put", False), ("http://storage.example.org/put", False),
    ("https://storage.example.org/put", True)])
def test_where_a_public_registry_may_have_blobs_sent(location, is_good):
    transport = PublicRegistry(location)
    registry = program_under_test.Registry(
        program_under_test.HttpClient(transport, retries=0), "https://registry.example.org", lambda url: None)
    push = program_under_test.BlobPush(registry, "lab/app", "sha256:" + "0" * 64, "content")
    try:
        push.run()
    except program_under_test.TransferError:
        assert not push.was_sent
    assert push.was_sent == is_good and ("PUT" in transport.methods) == is_good


@pytest.mark.parametrize("status,count", [(403, 2), (503, 2), (413, 1)])
def test_a_storage_that_refuses(one_pusher, faulty, status, count):
    """A signature may have expired: there is a new address each time. What it does not want is not sent again."""
    with FaultyRegistry() as storage:
        storage.always("/put", Answer(status, b"no"), method="PUT")
        faulty.always(UPLOADS, Answer(202, b"", {"Location": storage.url + "/put"}), method="POST")
        one_pusher.with_env(UDOCKER_RETRIES="1").fails(1, "-q", "push", tagged(one_pusher, faulty.target))
        assert len(storage.asked("PUT")) == len(faulty.asked("POST", UPLOADS)) == count


def test_an_address_that_curl_would_change(pusher, faulty):
    """It puts the name of a file behind what ends in a slash."""
    with FaultyRegistry() as storage:
        storage.always("/put/", Answer(201), method="PUT")
        faulty.always(UPLOADS, Answer(202, b"", {"Location": storage.url + "/put/?signed=yes"}), method="POST")
        if pusher.transport == "curl" or not importlib.util.find_spec("pycurl"):
            error = pusher.fails(1, "-q", "push", tagged(pusher, faulty.target)).err
            assert "behind this address" in error and not storage.requests
        else:
            pusher.ok("push", tagged(pusher, faulty.target))


@pytest.mark.parametrize("words,told", [(["lab/absent"], "no such image"), (["lab/UPPER"], "lab/UPPER"), ([], "IMAGE")])
def test_what_is_not_here(udocker, words, told):
    assert told in udocker("push", *words).err


def test_a_blob_that_is_missing(udocker, faulty):
    """It is told before anything is sent."""
    image = archives.made(tar(file("etc/motd", b"hello\n")))
    udocker.ok("load", input=archives.archive(archives.docker_25((image, [faulty.target]))))
    (udocker.store / "layers" / image.layers[0].descriptor["digest"]).unlink()
    assert "not in the store" in udocker.fails(1, "push", faulty.target).err and not faulty.requests


def test_a_config_with_all_kinds_of_text(pusher, faulty):
    """Its bytes are what counts."""
    config = json_bytes({"architecture": archives.NATIVE, "os": "linux", "config": {"Labels": {"a": "\u00e9\"\\@"}},
                         "rootfs": {"type": "layers", "diff_ids": [text_layer().diff_id]}}).decode().replace(
                             "\\u00e9", "\u00e9").replace("{", "{\r\n\t", 1).encode()
    image = faulty.add_manifest({
        "schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": faulty.add_blob(config, OCI_CONFIG),
        "layers": [dict(text_layer().descriptor)]}, OCI_MANIFEST, "1")
    faulty.add_blob(text_layer().blob)
    pusher("rmi", image.reference)
    pusher.ok("pull", image.reference)
    with FaultyRegistry() as target:
        pusher("rmi", target.host + "/lab/app:1")
        pusher.ok("tag", image.reference, target.host + "/lab/app:1")
        pusher.ok("push", target.host + "/lab/app:1")
        assert target.blobs[digest_of(config)] == config and target.manifests["lab/app", "1"][0] == json_bytes(
            image.document)
