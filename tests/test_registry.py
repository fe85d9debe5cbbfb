"""Blobs, limits and troubles: pulling from a scripted registry, and the ways to it."""
import bz2
import email.utils
import gzip
import importlib.util
import json
import lzma
import os
import shutil
import time

import pytest

from conftest import need
from faulty_registry import (CHUNKED, OCI_LAYER, UNTIL_CLOSE, Answer, BearerGate, FaultyRegistry, Layer, Site,
                             TokenDesk, changed_body, content, cut_after, digest_of, framed, hub_limit,
                             redirect, slowly, text_layer, too_many, with_field)
from layers import file, tar, zstd
from loopback import LoopbackServer, make_certificate
from program import PATH, Program
from proxies import Proxy
from pulling import Puller, transports

MANIFESTS = "/v2/lab/app/manifests/*"
BLOBS = "/v2/lab/app/blobs/*"
DOCKER_FOREIGN = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
OCI_FOREIGN = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
SIZE = 300000           # bytes in the large layer, so that it can break off in the middle


@pytest.fixture
def faulty():
    """A registry with one image, lab/app; `large` is the path of its lower layer, `blob` the bytes there."""
    with FaultyRegistry() as registry:
        lower = Layer(tar(file("etc/motd", b"hello"), file("noise", os.urandom(SIZE))), bytes, OCI_LAYER)
        registry.image = registry.add_image([lower, text_layer("second", "etc/second")])
        registry.large, registry.blob = registry.image.layer_path(0), lower.blob
        yield registry


@pytest.fixture
def elsewhere():
    """Another web server: same address, another port."""
    with Site() as site:
        yield site


@pytest.fixture
def puller(udocker):
    """The program."""
    return Puller(udocker)


@pytest.fixture(params=sorted(transports()))
def each_puller(request, udocker):
    """The program with each of its ways of speaking HTTP."""
    return Puller(udocker, **transports()[request.param])


@pytest.fixture
def hasty(puller):
    """The program that tries everything once."""
    return puller.with_env(UDOCKER_RETRIES="0")


def ranges(registry):
    """The Range fields of the requests for the large layer, as the offsets where they start."""
    fields = [request.fields.get("Range") for request in registry.asked("GET", registry.large)]
    return [int(field[len("bytes="):-1]) if field else 0 for field in fields]


# Blobs

def test_blobs_are_asked_for_as_they_are(each_puller, faulty):
    each_puller.pull(faulty.image.reference)
    assert {request.fields["Accept-Encoding"] for request in faulty.asked("GET", BLOBS)} == {"identity"}
    assert sorted(faulty.paths("GET", BLOBS)) == sorted(
        [faulty.image.config_path, faulty.image.layer_path(0), faulty.image.layer_path(1)])


@pytest.mark.parametrize("framing", [CHUNKED, UNTIL_CLOSE])
def test_the_length_of_a_blob_may_be_unknown(each_puller, faulty, framing):
    faulty.always(BLOBS, framed(framing))
    each_puller.pull(faulty.image.reference)


def test_a_layer_twice_in_an_image_is_fetched_once(puller, faulty):
    twice, other = text_layer("twice"), text_layer("other")
    image = faulty.add_image([twice, other, twice])
    puller.pull(image.reference)
    assert faulty.paths("GET", BLOBS).count(image.layer_path(0)) == 1
    assert puller.text(image.reference) == "twice"


def test_a_layer_of_another_image_is_not_fetched_again(puller, faulty):
    puller.pull(faulty.image.reference)
    other = faulty.add_image([text_layer("second", "etc/second")], tag="other")
    shared = dict(other.document, layers=faulty.image.document["layers"][:1])
    other = faulty.add_manifest(shared, other.descriptor["mediaType"], tag="other")
    puller.pull(other.reference)
    assert faulty.paths("GET").count(faulty.large) == 1


def create(puller, image, **options):
    """create, which pulls; the Result."""
    return puller.udocker("create", "--pull=missing", image.reference, **options)


def trees(puller):
    """What is in the trees of containers, also of those that are in the making."""
    return list((puller.udocker.store / "containers").glob("*/ROOT/*"))


def once_unpacked(puller, name, answer=None):
    """A behaviour: the good answer, or another one, when a file of this name is in the tree of a container."""
    def behave(_, good):
        end = time.monotonic() + 60
        while name not in [path.name for path in trees(puller)]:
            assert time.monotonic() < end, "it does not come"
        return answer or good
    return behave


def test_a_layer_is_unpacked_while_the_next_ones_come(each_puller, faulty):
    """The second one is sent once the first one is in the tree."""
    image = faulty.add_image([text_layer("1", "first"), text_layer("2", "second")], tag="two")
    faulty.always(image.layer_path(1), once_unpacked(each_puller, "first"), method="GET")
    assert create(each_puller, image).status == 0
    assert sorted(path.name for path in trees(each_puller)) == ["first", "second"]
    assert each_puller.images() == [image.reference] and each_puller.text(image.reference, "second") == "2"


def test_a_container_whose_image_does_not_come_is_not_there(hasty, faulty):
    """What came of the image is kept for the next one."""
    image = faulty.add_image([text_layer("1", "first"), text_layer("2", "second")], tag="two")
    faulty.once(image.layer_path(1), once_unpacked(hasty, "first", Answer(404)))
    assert create(hasty, image).status == 1
    assert hasty.images() == [] and not trees(hasty)
    assert create(hasty, image).status == 0
    assert [faulty.paths("GET").count(image.layer_path(number)) for number in (0, 1)] == [1, 2]


def test_a_layer_that_cannot_be_unpacked_ends_the_pull(hasty, faulty):
    """Before the next one is there, which does not come to its end."""
    image = faulty.add_image([Layer(b"no tar" * 200), Layer(bytes(SIZE), bytes)], tag="two")
    faulty.always(image.layer_path(1), slowly(1000, 1), method="GET")
    result = create(hasty, image, timeout=60)
    assert result.status == 1 and "this is no tar archive" in result.err
    assert hasty.images() == [] and not trees(hasty)


@pytest.mark.skipif(not importlib.util.find_spec("pycurl"), reason="curl would be one more process")
@pytest.mark.parametrize("words", [["pull"], ["create", "--pull=missing"]])
def test_who_may_have_no_more_processes_pulls_too(puller, faulty, words):
    """Nor threads, which count as such."""
    few = Program(puller.udocker.home, ["prlimit", "--nproc=1"] + puller.udocker.entry, puller.udocker.env)
    few.ok(*words + [faulty.image.reference])
    assert puller.text(faulty.image.reference) == "hello"


EMPTY_LAYER = bytes.fromhex("1f8b080000096e8800ff621805a360148c5800080000ffff2eafb5ef00040000")


def test_the_empty_layer_need_not_be_there(puller, faulty):
    empty = Layer(gzip.decompress(EMPTY_LAYER), compress=lambda data: EMPTY_LAYER)
    image = faulty.add_image([empty, text_layer(), empty])
    del faulty.blobs[digest_of(EMPTY_LAYER)]
    puller.pull(image.reference)
    assert puller.text(image.reference) == "hello"


LIES = {
    "plain as gzip": (bytes, "+gzip"), "gzip as plain": (gzip.compress, ""),
    "bzip2 as gzip": (bz2.compress, "+gzip"), "xz as gzip": (lzma.compress, "+gzip"),
    "zstd as gzip": (zstd, "+gzip"), "gzip as zstd": (gzip.compress, "+zstd"), "zstd": (zstd, "+zstd"),
}


@pytest.mark.parametrize("lie", sorted(LIES))
def test_the_type_of_a_layer_may_lie(puller, faulty, lie):
    compress, suffix = LIES[lie]
    image = faulty.add_image([text_layer(compress=compress, media_type=OCI_LAYER + suffix)])
    puller.pull(image.reference)
    assert puller.text(image.reference) == "hello"


def test_zstd_is_found_where_the_user_has_it(puller, faulty, tmp_path):
    if any(map(importlib.util.find_spec, ("compression", "zstandard"))):
        pytest.skip("this Python can read zstd")
    image = faulty.add_image([text_layer(compress=zstd, media_type=OCI_LAYER + "+zstd")])
    program = tmp_path / "bin" / "zstd"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\ntouch %s/used\nexec %s "$@"\n' % (tmp_path, shutil.which("zstd")))
    program.chmod(0o755)
    puller.pull(image.reference)
    assert puller.with_env(PATH="%s:%s" % (program.parent, PATH)).text(image.reference) == "hello"
    assert (tmp_path / "used").exists()


@pytest.mark.parametrize("change", [
    lambda body: body[:-1] + b"!", lambda body: b"", lambda body: body[:-1], lambda body: body + b"!",
], ids=["changed", "nothing", "shorter", "longer"])
def test_a_blob_of_another_digest_is_refused(puller, faulty, change):
    faulty.always(faulty.large, changed_body(change))
    puller.refused(faulty.image.reference)


def test_a_config_of_another_digest_is_refused(puller, faulty):
    faulty.always(faulty.image.config_path, changed_body(lambda body: body.replace(b"linux", b"minix")))
    puller.refused(faulty.image.reference)


def test_a_blob_that_was_wrong_once_is_fetched_anew(puller, hasty, faulty):
    faulty.once(faulty.large, changed_body(lambda body: body[:-1] + b"!"))
    hasty.refused(faulty.image.reference)
    puller.pull(faulty.image.reference)
    assert puller.text(faulty.image.reference) == "hello"


def test_a_blob_without_end_is_not_read_to_its_end(each_puller, faulty):
    endless = Answer(200, bytes(1 << 30), {"Content-Type": "application/octet-stream"}, piece=1 << 20)
    faulty.always(faulty.large, endless)
    each_puller.refused(faulty.image.reference)
    layers = each_puller.udocker.store / "layers"
    assert sum(path.stat().st_size for path in layers.iterdir()) < 64 << 20


@pytest.mark.parametrize("which", ["config", "layer"])
def test_a_blob_that_is_missing_is_told(puller, faulty, which):
    path = faulty.large if which == "layer" else faulty.image.config_path
    del faulty.blobs[path.rpartition("/")[2]]
    puller.refused(faulty.image.reference, told=["404"])


def test_a_tag_that_is_missing_is_named(puller, faulty):
    name = faulty.image.reference.rpartition(":")[0]
    puller.refused(name + ":absent", told=[name + ":absent: HTTP 404", "check the name and the tag"])
    puller.refused(name + "@sha256:" + "0" * 64, told=["@sha256:0000"])


# Redirects

@pytest.fixture
def guarded(faulty):
    """The registry, which now wants tokens."""
    desk = TokenDesk()
    faulty.always("/token", desk)
    faulty.gate = BearerGate(desk, 'Bearer realm="/token"')
    return faulty


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_followed_byte_for_byte_and_without_the_token(each_puller, guarded, elsewhere, status):
    target = "/s3/%2Fdata?X-Amz-Credential=a%2Fb%2Bc&X-Amz-Date=1+2&x[]={}&response-content-type=a;b"
    guarded.always(guarded.large, redirect(elsewhere.url + target, status))
    elsewhere.always("/s3/*", Answer(200, guarded.blob))
    each_puller.pull(guarded.image.reference)
    [request] = elsewhere.requests
    assert (request.method, request.target, request.authorization) == ("GET", target, None)


def test_a_challenge_of_another_host_is_not_believed(puller, faulty, elsewhere):
    """It would have the registry's credentials sent to wherever it says."""
    faulty.always("/v2/", redirect(elsewhere.url + "/v2/"))
    elsewhere.always("/v2/", Answer(401, b"", {"WWW-Authenticate": 'Bearer realm="%s/token"' % elsewhere.url}))
    elsewhere.always("/token", Answer(200, b'{"token": "x"}'))
    puller.keep_credentials({faulty.host: ("green", "secret")})
    puller.pull(faulty.image.reference)
    assert elsewhere.paths("GET") == ["/v2/"]


def test_an_error_of_many_words_is_told_in_some(puller, faulty):
    faulty.always(MANIFESTS, Answer(404, json.dumps({"errors": [{"code": "X", "message": "y" * 999}] * 999}).encode()))
    assert len(puller.refused(faulty.image.reference)) < 3000


RELATIVE = {
    "absolute path": "/artifacts-downloads/namespaces/lab?id=1",
    "the same scheme": "//HOST/artifacts-downloads/namespaces/lab?id=1",
    "from here": "../../../../artifacts-downloads/namespaces/lab?id=1",
    "a fragment": "/artifacts-downloads/namespaces/lab?id=1#there",
    "a space around": "  /artifacts-downloads/namespaces/lab?id=1 ",
}


@pytest.mark.parametrize("kind", sorted(RELATIVE))
def test_a_redirect_may_be_relative_and_keeps_the_token(puller, guarded, kind):
    """Google's registries"""
    guarded.always(guarded.large, redirect(RELATIVE[kind].replace("HOST", guarded.host), 302))
    guarded.always("/artifacts-downloads/namespaces/lab", Answer(200, guarded.blob))
    puller.pull(guarded.image.reference)
    [request] = guarded.asked(path="/artifacts-downloads/*")
    assert request.query == {"id": ["1"]} and request.authorization.startswith("Bearer ")


@pytest.mark.parametrize("location", [
    "file:///etc/passwd", "ftp://127.0.0.1/x", "gopher://127.0.0.1/x", "http://", "http://[::1",
    "javascript:x", "http://127.0.0.1:99999999/", "", None,
])
def test_a_redirect_to_nowhere_is_refused(puller, faulty, location):
    faulty.always(faulty.large, Answer(302, b"moved").with_field("Location", location))
    puller.refused(faulty.image.reference)


@pytest.mark.parametrize("path", ["/v2/", MANIFESTS, BLOBS])
def test_redirects_without_end_are_refused(puller, faulty, path):
    faulty.always(path, lambda request, good: redirect(request.path + "?x"))
    puller.refused(faulty.image.reference)
    assert len(faulty.requests) < 100


def test_a_redirect_that_has_expired_is_asked_for_again(puller, faulty, elsewhere):
    faulty.once(faulty.large, redirect(elsewhere.url + "/expired"), redirect(elsewhere.url + "/fresh"))
    elsewhere.always("/expired", Answer(403, b"<Error><Code>AccessDenied</Code></Error>"))
    elsewhere.always("/fresh", Answer(200, faulty.blob))
    puller.pull(faulty.image.reference)
    assert elsewhere.paths() == ["/expired", "/fresh"]


def test_a_resumed_download_asks_the_registry_where_to_go(puller, faulty, elsewhere):
    faulty.once(faulty.large, redirect(elsewhere.url + "/first"), redirect(elsewhere.url + "/second"))
    elsewhere.always("/first", Answer(200, faulty.blob, cut=SIZE // 2))
    elsewhere.always("/second", lambda request, good: content(faulty.blob, request.fields.get("Range")))
    puller.pull(faulty.image.reference)
    assert elsewhere.paths() == ["/first", "/second"]
    assert "Range" in elsewhere.requests[1].fields


# Foreign layers

def add_foreign_image(registry, url, media_type=DOCKER_FOREIGN):
    """An image of one foreign layer with this URL; returns it and the layer's bytes."""
    foreign = text_layer("foreign", media_type=media_type, urls=[url])
    return registry.add_image([foreign], tag="foreign"), foreign.blob


@pytest.mark.parametrize("media_type", [DOCKER_FOREIGN, OCI_FOREIGN], ids=["docker", "oci"])
def test_a_foreign_layer_comes_from_its_url(puller, faulty, elsewhere, media_type):
    image, blob = add_foreign_image(faulty, elsewhere.url + "/layer", media_type)
    del faulty.blobs[digest_of(blob)]
    elsewhere.always("/layer", Answer(200, blob))
    puller.pull(image.reference)
    assert puller.text(image.reference) == "foreign"


def test_a_foreign_layers_url_gets_no_credentials(puller, faulty, elsewhere):
    """CVE-2020-15157"""
    image, _ = add_foreign_image(faulty, elsewhere.url + "/layer")
    elsewhere.always("/layer", Answer(401, b"", {"WWW-Authenticate": 'Basic realm="x"'}))
    puller.keep_credentials({faulty.host: ("green", "secret"), elsewhere.host: ("green", "secret")})
    puller.pull(image.reference)
    assert elsewhere.paths("GET") and {request.authorization for request in elsewhere.requests} == {None}


@pytest.mark.parametrize("host, is_asked", [("layers.example", True), ("127.0.0.1", False), ("localhost", False)])
def test_a_registry_elsewhere_may_not_send_to_this_machine(puller, faulty, elsewhere, host, is_asked):
    """What answers here to whoever is here is not for strangers."""
    _, blob = add_foreign_image(faulty, "http://%s:%d/layer" % (host, elsewhere.port))
    elsewhere.always("/layer", Answer(200, blob))
    with Proxy(routes={"registry.example": faulty.port, "layers.example": elsewhere.port}) as proxy:
        insecure = puller.with_env(UDOCKER_INSECURE="1")
        insecure.pull("registry.example/lab/app:foreign", "--httpproxy=http://" + proxy.host)
    assert bool(elsewhere.requests) is is_asked


@pytest.mark.parametrize("url", [
    "%s/missing", "%s/wrong", "%s/broken", "file:///etc/passwd", "ftp://127.0.0.1/x", "http://127.0.0.1:1/x",
    "http://[", "", "http://x\r\ny", 5, None,
])
def test_a_foreign_layer_may_come_from_the_registry_after_all(puller, faulty, elsewhere, url):
    url = url.replace("%s", elsewhere.url) if isinstance(url, str) else url
    image, blob = add_foreign_image(faulty, url)
    elsewhere.always("/wrong", Answer(200, b"x" * len(blob)))
    elsewhere.always("/broken", Answer(200, blob, cut=5))
    puller.pull(image.reference)
    assert puller.text(image.reference) == "foreign"


# Downloads that break off

@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
def test_a_broken_download_goes_on_where_it_stopped(each_puller, faulty, reset):
    faulty.once(faulty.large, cut_after(SIZE // 2, reset=reset))
    each_puller.pull(faulty.image.reference)
    first, second = ranges(faulty)
    assert first == 0 and (0 < second <= SIZE // 2 or reset)
    assert each_puller.text(faulty.image.reference) == "hello"


def test_the_next_pull_goes_on_where_the_last_stopped(each_puller, faulty):
    faulty.once(faulty.large, lambda request, good: good.but(cut=SIZE // 2, piece=SIZE // 4, pause=0.3))
    each_puller.with_env(UDOCKER_RETRIES="0").refused(faulty.image.reference)
    each_puller.pull(faulty.image.reference)
    first, second = ranges(faulty)
    assert first == 0 and 0 < second <= SIZE // 2
    assert faulty.paths("GET").count(faulty.image.layer_path(1)) == 1, "that layer was complete"
    assert each_puller.text(faulty.image.reference) == "hello"


def test_a_download_that_ends_early_with_its_connection_goes_on(each_puller, faulty):
    """Where that is all that ends it, the size alone tells."""
    faulty.once(faulty.large, lambda request, good: good.but(framing=UNTIL_CLOSE, cut=SIZE // 2))
    each_puller.pull(faulty.image.reference)
    assert ranges(faulty) == [0, SIZE // 2]


def test_what_the_last_pull_left_may_be_bad(puller, faulty):
    """Then it comes anew."""
    faulty.once(faulty.large, lambda request, good: good.but(
        body=bytes(len(good.body)), cut=SIZE // 2, piece=SIZE // 4, pause=0.3))
    puller.with_env(UDOCKER_RETRIES="0").refused(faulty.image.reference)
    puller.pull(faulty.image.reference)
    assert [start > 0 for start in ranges(faulty)] == [False, True, False]
    assert puller.text(faulty.image.reference) == "hello"


def test_many_breaks_with_progress_are_no_failure(puller, faulty):
    faulty.once(faulty.large, *[cut_after(20000) for _ in range(10)])
    puller.pull(faulty.image.reference)
    assert sorted(ranges(faulty)) == ranges(faulty) and len(ranges(faulty)) == 11


def test_a_server_that_is_away_for_a_moment(each_puller, faulty):
    """Who answered before is asked again; who never did is not."""
    def leave(_, good):
        faulty.rest(0.5)
        return good

    puller = each_puller.with_env(UDOCKER_RETRIES="8")
    faulty.once(faulty.large, leave)
    talk = puller.pull(faulty.image.reference).err
    assert talk.count("; again in ") > 1 and "onnect" in talk
    faulty.rest(3600)
    assert "; again in " not in puller.udocker.fails(1, "pull", "%s/other:1" % faulty.host).err


def test_breaks_without_progress_end(puller, faulty):
    faulty.always(faulty.large, cut_after(0))
    puller.refused(faulty.image.reference)
    assert len(ranges(faulty)) < 10


def part(registry, start, stop, total):
    """A 206 with the bytes from start to stop, which says what it is, of a whole of total."""
    place = "bytes %s-%d/%s" % (start, stop - 1, total)
    return Answer(206, registry.blob[int(start):stop], {"Content-Range": place})


RANGE_ANSWERS = {
    "the whole": lambda registry: content(registry.blob),
    "the whole, chunked": lambda registry: content(registry.blob).but(framing=CHUNKED),
    "another start": lambda registry: part(registry, 5, len(registry.blob), len(registry.blob)),
    "from the start": lambda registry: part(registry, 0, len(registry.blob), len(registry.blob)),
    "another total": lambda registry: part(registry, SIZE // 2, len(registry.blob), 5 * SIZE),
    "no Content-Range": lambda registry: Answer(206, registry.blob[SIZE // 2:]),
    "an odd Content-Range": lambda registry: Answer(206, registry.blob[5:], {"Content-Range": "bytes"}),
    "not possible": lambda registry: Answer(416, b"", {"Content-Range": "bytes */5"}),
    "not possible, in words": lambda registry: Answer(416, b"<html>no</html>"),
}


@pytest.mark.parametrize("kind", sorted(RANGE_ANSWERS))
def test_every_answer_to_a_range_leads_to_the_right_bytes(puller, faulty, kind):
    faulty.once(faulty.large, cut_after(SIZE // 2), RANGE_ANSWERS[kind](faulty))
    puller.pull(faulty.image.reference)
    assert puller.text(faulty.image.reference) == "hello"


def test_a_range_that_is_never_possible_ends_well(puller, faulty):
    faulty.always(faulty.large, lambda request, good: Answer(416) if "Range" in request.fields else good)
    faulty.once(faulty.large, cut_after(SIZE // 2))
    puller.pull(faulty.image.reference)


def test_a_part_that_is_the_whole_is_not_asked_for_more_than_once(puller, hasty, faulty):
    faulty.once(faulty.large, framed(len(faulty.blob) + 1000))
    hasty.udocker("-q", "pull", faulty.image.reference)
    puller.pull(faulty.image.reference)
    assert puller.text(faulty.image.reference) == "hello" and len(ranges(faulty)) <= 2


def test_a_download_that_stalls_goes_on(puller, faulty):
    faulty.once(faulty.large, slowly(SIZE // 2, 60))
    puller.with_env(UDOCKER_TIMEOUT="1").pull(faulty.image.reference)
    assert len(ranges(faulty)) == 2


# Limits and troubles

def test_a_pull_limit_is_told_and_not_waited_for(puller, faulty):
    faulty.always(MANIFESTS, hub_limit(Retry_After="3600"), method="GET")
    started = time.monotonic()
    puller.refused(faulty.image.reference,
                   told=["429", "limit", "100", "192.0.2.17", "docker login", "--registry", "remain"])
    assert time.monotonic() - started < 10
    assert len(faulty.asked("GET", MANIFESTS)) == 1


def test_a_limit_on_requests_is_waited_for_in_seconds(puller, faulty):
    faulty.once(MANIFESTS, too_many(Retry_After="2"))
    started = time.monotonic()
    puller.pull(faulty.image.reference)
    assert time.monotonic() - started >= 2


def test_a_limit_on_requests_is_waited_for_to_a_date(puller, faulty):
    faulty.once(faulty.large, lambda request, good: too_many(
        Retry_After=email.utils.formatdate(time.time() + 3, usegmt=True)))
    started = time.monotonic()
    puller.pull(faulty.image.reference)
    assert time.monotonic() - started >= 1.9


def test_a_limit_may_come_with_bare_newlines(each_puller, faulty):
    """Docker Hub, once"""
    faulty.once(MANIFESTS, Answer(raw=b"HTTP/1.1 429 Too Many Requests\nRetry-After: 1\n\nToo Many Requests"))
    each_puller.pull(faulty.image.reference)


@pytest.mark.parametrize("when", ["86400", "Tue, 19 Jan 2038 03:14:07 GMT"])
def test_a_limit_until_tomorrow_is_told(puller, faulty, when):
    faulty.always(MANIFESTS, too_many(Retry_After=when))
    started = time.monotonic()
    puller.refused(faulty.image.reference, told=["429"])
    assert time.monotonic() - started < 20


@pytest.mark.parametrize("when", ["soon", "-5", "", "0", "1e9", "Thu, 01 Jan 1970 00:00:00 GMT",
                                  "Thu, 01 Jan 99999 00:00:00 GMT", "9" * 400])
def test_a_strange_time_to_wait_is_no_time(puller, faulty, when):
    faulty.once(faulty.large, too_many(Retry_After=when))
    result = puller.udocker("-q", "pull", faulty.image.reference)
    assert "this is a bug" not in result.err, result
    assert result.status == 0 or len(when) == 400


@pytest.mark.parametrize("path", ["/v2/", MANIFESTS, BLOBS])
@pytest.mark.parametrize("status", [500, 502, 504])
def test_a_registry_in_trouble_is_asked_again(puller, faulty, path, status):
    faulty.once(path, *[Answer(status, b"<html>upstream</html>")] * 2)
    puller.pull(faulty.image.reference)


@pytest.mark.parametrize("path", [MANIFESTS, BLOBS, "*"])
def test_a_registry_in_trouble_for_ever_is_told(puller, faulty, path):
    faulty.always(path, Answer(503, b"<html>upstream</html>"))
    puller.refused(faulty.image.reference, told=["503"])
    assert len(faulty.requests) < 60


@pytest.mark.parametrize("path", ["/v2/", MANIFESTS, BLOBS])
def test_a_connection_that_breaks_is_made_again(each_puller, faulty, path):
    faulty.once(path, Answer(raw=b""), cut_after(1), cut_after(1, reset=True), method="GET")
    each_puller.pull(faulty.image.reference)


def test_a_warning_is_shown_once(puller, faulty):
    faulty.always("/v2/lab/*", with_field("Warning", '299 - "this mirror closes in \\"May\\""'))
    talk = puller.pull(faulty.image.reference).err
    assert talk.count("this mirror closes") == 1


@pytest.mark.parametrize("warning", [
    "299", "199 - \"x\"", '299 - "\x1b[31mred\x07"', "299 - unquoted", '299 - "' + "x" * 9000,
], ids=lambda warning: warning[:12])
def test_a_strange_warning_does_no_harm(puller, faulty, warning):
    faulty.always("/v2/lab/*", with_field("Warning", warning))
    assert "\x1b" not in puller.pull(faulty.image.reference).err


# Answers that are none

GARBAGE = {
    "a login page": Answer(200, b"<!DOCTYPE html><html>Please log in</html>", {"Content-Type": "text/html"}),
    "nothing": Answer(200, b""),
    "404": Answer(404, b"404 page not found\n"),
    "404 in JSON": Answer(404, b'{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}'),
    "404 as Red Hat has it": Answer(404, b'{"errors":[{"code":"UNKNOWN","message":"repository not found"}]}'),
    "errors of another kind": Answer(400, b'{"errors": {"a": 1}}'),
    "errors of numbers": Answer(400, b'{"errors": [5, null, {"code": 5, "message": []}]}'),
    "deep errors": Answer(400, b'{"errors":' + b"[" * 100000),
    "long errors": Answer(400, json.dumps({"errors": [{"code": "X", "message": "y" * 100000}]}).encode()),
    "control characters": Answer(400, b'{"errors":[{"code":"X","message":"\\u001b[31mred\\nline\\u0007"}]}'),
    "204": Answer(204),
    "304": Answer(304),
    "a status of its own": Answer(299, b"<html>"),
    "no HTTP": Answer(raw=b"SSH-2.0-OpenSSH_9.2\r\n"),
    "a bad length": Answer(raw=b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n{}"),
    "a negative length": Answer(raw=b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n{}"),
    "bad chunks": Answer(raw=b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n{}"),
    "gzip that is none": Answer(200, b"{}", {"Content-Encoding": "gzip"}),
    "a header without end": Answer(raw=b"HTTP/1.1 200 OK\r\nX: " + b"y" * 500000),
}


@pytest.mark.parametrize("name", sorted(GARBAGE))
def test_garbage_instead_of_a_manifest(hasty, faulty, name):
    faulty.always(MANIFESTS, GARBAGE[name])
    told = hasty.refused(faulty.image.reference)
    assert "\x1b" not in told and len(told) < 2000


@pytest.mark.parametrize("name", sorted(GARBAGE))
def test_garbage_instead_of_a_blob(hasty, faulty, name):
    faulty.always(BLOBS, GARBAGE[name])
    told = hasty.refused(faulty.image.reference)
    assert "\x1b" not in told and len(told) < 2000


@pytest.mark.parametrize("name", ["a login page", "nothing", "404", "no HTTP", "bad chunks"])
def test_garbage_everywhere(hasty, faulty, name):
    faulty.always("*", GARBAGE[name])
    hasty.refused(faulty.image.reference)


def test_a_name_may_have_many_parts(puller, faulty):
    """Harbor's proxies, Artifactory"""
    image = faulty.add_image([text_layer()], repository="proxy/library/some-deep/name__x.y")
    puller.pull(image.reference)
    assert puller.images() == [image.reference]


def test_an_image_that_is_not_there_is_told_by_name(puller, faulty):
    puller.refused(faulty.host + "/lab/nothing:here", told=["lab/nothing"])


def test_a_failed_pull_leaves_the_older_image(puller, faulty):
    puller.pull(faulty.image.reference)
    moved = faulty.add_image([text_layer("moved")])
    faulty.always(moved.layer_path(), Answer(404))
    puller.udocker.fails(1, "-q", "pull", moved.reference)
    assert puller.images() == [moved.reference]
    assert puller.text(moved.reference) == "hello"


# The way to the registry

@pytest.fixture
def certificate(tmp_path):
    """A certificate that nobody trusts."""
    return make_certificate(tmp_path)


def test_http_will_do_on_this_machine(each_puller, faulty):
    for host in faulty.host, "localhost:%d" % faulty.port:
        each_puller.pull("%s/lab/app" % host)


@pytest.mark.parametrize("address", ["http://%s", "http://%s/", "%s"])
def test_a_registry_is_named_by_option_or_setting(puller, faulty, address):
    puller.pull("lab/app", "--registry=" + address % faulty.host)
    puller.with_env(UDOCKER_REGISTRY=address % faulty.host).pull("lab/app:latest")


def test_an_unknown_certificate_is_refused_even_here(each_puller, certificate):
    with FaultyRegistry(certificate) as registry:
        image = registry.add_image([text_layer()])
        each_puller.refused(image.reference, told=["certificate", "--insecure"])
    assert not registry.requests


def test_an_unknown_certificate_is_taken_when_insecure(each_puller, certificate):
    with FaultyRegistry(certificate) as registry:
        image = registry.add_image([text_layer()])
        each_puller.udocker.ok("--insecure", "pull", image.reference)
        assert each_puller.text(image.reference) == "hello"


def test_http_is_not_spoken_to_others(each_puller, faulty):
    with Proxy(routes={"registry.example": faulty.port}) as proxy:
        option = "--httpproxy=http://" + proxy.host
        each_puller.refused("registry.example/lab/app", option)
        result = each_puller.udocker("-q", "pull", option, "--registry=http://registry.example", "lab/app")
    assert result.status in (1, 2)
    assert not faulty.requests
    assert {asked.kind for asked in proxy.asked} == {"CONNECT"}


def test_http_is_spoken_to_others_when_insecure(puller, faulty):
    with Proxy(routes={"registry.example": faulty.port}) as proxy:
        insecure = puller.with_env(UDOCKER_INSECURE="true")
        insecure.pull("registry.example/lab/app", "--httpproxy=http://" + proxy.host)
    assert puller.images() == ["registry.example/lab/app:latest"]


@pytest.mark.parametrize("transport", sorted(transports()))
@pytest.mark.parametrize("variable", ["CURL_CA_BUNDLE", "SSL_CERT_FILE"])
def test_a_redirect_from_https_to_http_is_not_followed(puller, certificate, elsewhere, transport, variable):
    with FaultyRegistry(certificate) as registry:
        image = registry.add_image([text_layer()])
        registry.always(BLOBS, redirect(elsewhere.url + "/blob"))
        trusting = puller.with_env(**dict(transports()[transport], **{variable: certificate}))
        assert "certificate" not in trusting.refused(image.reference)
    assert not elsewhere.requests


def test_curl_serves_where_pycurl_does_not_work(puller, faulty, tmp_path):
    need("curl")
    (tmp_path / "pycurl.py").write_text("raise ImportError('for another Python')\n")
    without = puller.with_env(PYTHONPATH=str(tmp_path))
    without.with_env(PATH=str(tmp_path)).refused(faulty.image.reference, told=["neither pycurl nor the curl"])
    without.pull(faulty.image.reference)


@pytest.mark.parametrize("content, told", [
    (b"#!/bin/sh\necho hello\n", "the answer is not HTTP"), (b"#!/bin/sh\necho no; exit 2\n", "failed"),
    (b"\0", "Exec format error")])
def test_what_is_no_curl_is_told(puller, faulty, tmp_path, content, told):
    (tmp_path / "curl").write_bytes(content)
    (tmp_path / "curl").chmod(0o755)
    env = {"UDOCKER_USE_CURL_EXECUTABLE": str(tmp_path / "curl"), "UDOCKER_RETRIES": "0"}
    puller.with_env(**env).refused(faulty.image.reference, told=[told])


def test_nobody_answers(puller):
    with LoopbackServer() as gone:
        host = gone.host
    puller.with_env(UDOCKER_RETRIES="0").refused(host + "/lab/app", told=[host])


def test_the_hub_is_asked_for_its_library(puller, certificate):
    with FaultyRegistry(certificate) as registry, Proxy(routes={"*": registry.port}) as proxy:
        registry.add_image([text_layer()], repository="library/busybox")
        puller.udocker.ok("--insecure", "pull", "--httpproxy=http://" + proxy.host, "busybox")
    assert puller.images() == ["busybox:latest"]
    assert "docker" in proxy.asked[0].host


@pytest.mark.parametrize("kind", ["http", "socks4", "socks4a", "socks5", "socks5h"])
@pytest.mark.parametrize("user", ["", "green:pass%20word@"])
def test_each_kind_of_proxy(puller, faulty, kind, user):
    with Proxy("green:pass word" if user else None) as proxy:
        puller.pull(faulty.image.reference, "--httpproxy=%s://%s%s" % (kind, user, proxy.host))
    assert {asked.port for asked in proxy.asked} == {faulty.port}


def test_proxies_of_the_environment(each_puller, faulty):
    with Proxy(routes={"registry.example": faulty.port}) as proxy:
        variables = {"http_proxy": "http://" + proxy.host, "https_proxy": "http://" + proxy.host,
                     "no_proxy": "127.0.0.1,localhost", "UDOCKER_INSECURE": "1"}
        behind = each_puller.with_env(**variables)
        behind.pull("registry.example/lab/app")
        assert proxy.asked
        del proxy.asked[:]
        behind.pull(faulty.image.reference)
    assert not proxy.asked


def test_a_proxys_password_is_shown_nowhere(each_puller, faulty):
    with Proxy("green:secret-of-proxy") as proxy:
        option = "--httpproxy=http://green:secret-of-proxy@" + proxy.host
        talk = each_puller.udocker.ok("-D", "pull", option, faulty.image.reference)
        wrong = each_puller.udocker("pull", option.replace("of-proxy", "of-nobody"), "127.0.0.1:1/x")
    assert "secret-of" not in talk.err + talk.out + wrong.err + wrong.out
