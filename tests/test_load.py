"""load, with archives of skopeo, umoci and both kinds of docker save, good and bad."""
import gzip
import io
import json
import os
import shutil
import subprocess
import tarfile

import pytest

from archives import (FULL_NAME, PACKERS, REF_NAME, Entry, archive, blob, config_digest, created, docker_24, docker_25,
                      entry, files_of, in_order, index, layout_of, limited, listed, listing, made, refused,
                      skopeo, stored, without, write_layout)
from faulty_registry import (OCI_CONFIG, OCI_INDEX, OCI_MANIFEST, Layer, descriptor_of, digest_of, image_config,
                             json_bytes)
from images import FOREIGN, NATIVE
from layers import directory, file, hardlink, symlink, tar

LOWER = tar(directory("etc"), file("etc/motd", b"hello\n"), hardlink("etc/issue", "etc/motd"))
UPPER = tar(file("etc/motd", b"changed\n"), symlink("link", "/etc"))
HIGHEST = tar(file("etc/issue", b"highest\n"))


@pytest.fixture(scope="module")
def busybox(tmp_path_factory, layout):
    """The small image: its manifest's bytes, and the listing of the tree that umoci makes of it."""
    bundle = tmp_path_factory.mktemp("umoci") / "bundle"
    subprocess.run(["umoci", "--log=error", "unpack", "--rootless", "--image", "%s:busybox" % layout, str(bundle)],
                   check=True, stdin=subprocess.DEVNULL)
    entries = json.loads((layout / "index.json").read_text())["manifests"]
    digest = [found["digest"] for found in entries if found["annotations"][REF_NAME] == "busybox"][0]
    yield (layout / "blobs" / digest.replace(":", "/")).read_bytes(), listing(bundle / "rootfs")
    shutil.rmtree(str(bundle))


@pytest.fixture(scope="module")
def archives(tmp_path_factory, layout):
    """The small image as skopeo writes it: a.docker, a.oci."""
    directory = tmp_path_factory.mktemp("archives")
    skopeo("oci:%s:busybox" % layout, "docker-archive:%s:lab/busybox:1.0" % (directory / "a.docker"))
    skopeo("oci:%s:busybox" % layout, "oci-archive:%s:lab/busybox:1.0" % (directory / "a.oci"))
    return directory


# load

@pytest.mark.parametrize("form", ["a.docker", "a.oci"])
@pytest.mark.parametrize("words", [["-i", "FILE"], ["--input=FILE"], ["-"], [], ["-i", "-"]])
def test_load_of_skopeos_archives(udocker, archives, busybox, form, words):
    path = archives / form
    words = [word.replace("FILE", str(path)) for word in words]
    is_piped = not any(str(path) in word for word in words)
    result = udocker.ok("load", *words, input=path.read_bytes() if is_piped else None)
    assert result.out == "lab/busybox:1.0\n" and listed(udocker) == ["lab/busybox:1.0"]
    manifest = json.loads(busybox[0].decode())
    assert config_digest(udocker, "lab/busybox:1.0") == manifest["config"]["digest"]
    if form == "a.oci":
        assert stored(udocker, "lab/busybox:1.0") == busybox[0]
    udocker.ok("verify", "lab/busybox:1.0")
    assert not [name for name in files_of(udocker) if name.startswith(".")]


@pytest.mark.parametrize("form", ["a.docker", "a.oci"])
def test_the_tree_of_a_loaded_image(udocker, archives, busybox, form):
    udocker.ok("load", "-i", archives / form)
    assert created(udocker, "lab/busybox:1.0") == busybox[1]


def test_load_of_a_layout(udocker, layout, busybox):
    entries = json.loads((layout / "index.json").read_text())["manifests"]
    result = udocker.ok("load", "-i", layout, "lab/all")
    assert sorted(result.out.splitlines()) == listed(udocker) == sorted(
        "lab/all:" + found["annotations"][REF_NAME] for found in entries)
    assert stored(udocker, "lab/all:busybox") == busybox[0]


BOTH = made(LOWER, UPPER)
THRICE = made(LOWER, UPPER, LOWER)
FOREIGN_ONE, NATIVE_ONE = made(LOWER, architecture=FOREIGN), made(LOWER, UPPER)
STATEMENT = json_bytes({"schemaVersion": 2, "config": descriptor_of(b"{}", OCI_CONFIG), "layers": [
    descriptor_of(b"{}", "application/vnd.in-toto+json")]})
ATTESTATION = descriptor_of(STATEMENT, OCI_MANIFEST, platform={"os": "unknown", "architecture": "unknown"},
                            annotations={"vnd.docker.reference.type": "attestation-manifest"})
PLATFORMS = [dict(entry(image), platform={"os": "linux", "architecture": architecture})
             for image, architecture in ((FOREIGN_ONE, FOREIGN), (NATIVE_ONE, NATIVE))]
INNER = index(*PLATFORMS)
NESTED = index(descriptor_of(INNER, OCI_INDEX, annotations={FULL_NAME: "docker.io/lab/made:1.0"}))


@pytest.mark.parametrize("order", ["first", "last", "reversed"])
@pytest.mark.parametrize("dot", ["", "./"])
def test_load_of_docker_save_since_25(udocker, order, dot):
    members = in_order(docker_25((BOTH, ["lab/made:1.0", "made:latest"])), order)
    data = archive({dot + name: data for name, data in members.items()})
    assert udocker.ok("load", input=data).out == "lab/made:1.0\nmade:latest\n"
    assert stored(udocker, "lab/made:1.0") == stored(udocker, "made:latest") == BOTH.manifest


def test_load_and_save_of_an_image_with_two_manifests(udocker):
    """Each name keeps its own, and docker, which knows no manifests, is told of one image with both names."""
    noted = dict(json.loads(BOTH.manifest.decode()), annotations={"note": "of the second"})
    other = BOTH._replace(manifest=json_bytes(noted))
    members = docker_25((BOTH, ["lab/a:1", "lab/b:2"]))
    entries = index(entry(BOTH, "docker.io/lab/a:1"), entry(other, "docker.io/lab/b:2"))
    udocker.ok("load", input=archive(dict(members, **layout_of(entries, BOTH, other))))
    assert (stored(udocker, "lab/a:1"), stored(udocker, "lab/b:2")) == (BOTH.manifest, other.manifest)
    saved = udocker.ok("save", "lab/a:1", "lab/b:2").out_bytes
    with tarfile.open(fileobj=io.BytesIO(saved)) as read_back:
        said = json.loads(read_back.extractfile("manifest.json").read().decode())
    assert [image["RepoTags"] for image in said] == [["docker.io/lab/a:1", "docker.io/lab/b:2"]]


@pytest.mark.parametrize("link", [
    lambda name, first: symlink(name, "../" + first), lambda name, first: hardlink(name, first),
    lambda name, first: file(name, LOWER),
])
def test_load_of_docker_save_before_25(udocker, link):
    udocker.ok("load", input=archive(docker_24(THRICE, link=link)))
    assert config_digest(udocker, "lab/made:1.0") == digest_of(THRICE.config)
    tree = created(udocker, "lab/made:1.0")
    assert tree[b"etc/motd"][2:] == (b"hello\n", tree[b"etc/issue"][3]) and tree[b"link"][2] == b"/etc"


def test_load_of_an_image_that_the_older_udocker_saved_under_two_names(udocker):
    """It names the layers once."""
    members = docker_24(BOTH)
    first = json.loads(members["manifest.json"].decode())[0]
    listed = [first, dict(first, RepoTags=["lab/other:2"], Layers=[])]
    members = dict(members, **{"manifest.json": json_bytes(listed)})
    assert udocker.ok("load", input=archive(members)).out == "lab/made:1.0\nlab/other:2\n"
    assert config_digest(udocker, "lab/other:2") == digest_of(BOTH.config)


@pytest.mark.parametrize("pack", sorted(PACKERS))
@pytest.mark.parametrize("members", [docker_24(BOTH), docker_25((BOTH, ["lab/made:1.0"]))], ids=["24", "25"])
def test_load_of_a_compressed_archive(udocker, pack, members):
    path = udocker.home / "packed"
    path.write_bytes(PACKERS[pack](archive(members)))
    udocker.ok("load", "-i", path)
    assert config_digest(udocker, "lab/made:1.0") == digest_of(BOTH.config)


def test_load_of_layers_that_the_index_has_compressed(udocker):
    """The manifest of the index is for other blobs than those that manifest.json names."""
    packed = made(LOWER, UPPER, pack=gzip.compress)
    members = dict(layout_of(index(entry(packed, "docker.io/lab/made:1.0")), packed), **docker_24(BOTH))
    udocker.ok("load", input=archive(members))
    assert config_digest(udocker, "lab/made:1.0") == digest_of(BOTH.config) == digest_of(packed.config)
    udocker.ok("verify", "lab/made:1.0")


@pytest.mark.parametrize("pack", sorted(PACKERS))
def test_load_of_compressed_layers(udocker, pack):
    image = made(LOWER, UPPER, pack=PACKERS[pack])
    udocker.ok("load", input=archive(docker_24(image)))
    udocker.ok("verify", "lab/made:1.0")
    assert created(udocker, "lab/made:1.0")[b"etc/motd"][2] == b"changed\n"


@pytest.mark.parametrize("members, words, names", [
    (docker_25((BOTH, ["a:1", "lab/b:2"]), (THRICE, ["a:3"])), [], ["a:1", "lab/b:2", "a:3"]),
    (docker_25((BOTH, None)), ["lab/new"], ["lab/new:latest"]),
    (docker_25((BOTH, None)), ["lab/new:7"], ["lab/new:7"]),
    (docker_25((BOTH, ["a:1"])), ["lab/new"], ["lab/new:1"]),
    (docker_25((BOTH, ["a:1"])), ["lab/new:7"], ["lab/new:7"]),
    (docker_25((BOTH, ["a:1"]), (THRICE, ["b:2"])), ["127.0.0.1:50/new"], ["127.0.0.1:50/new:1", "127.0.0.1:50/new:2"]),
    (docker_24(BOTH, ["docker.io/library/made:1", "localhost/made:2"]), [], ["made:1", "localhost/made:2"]),
    (layout_of(index(entry(BOTH, "docker.io/lab/made:1.0"), entry(THRICE, "made:2")), BOTH, THRICE), [],
     ["lab/made:1.0", "made:2"]),
    (layout_of(index(entry(BOTH, "1.0")), BOTH), ["lab/new"], ["lab/new:1.0"]),
    (layout_of(index(ATTESTATION, entry(BOTH)), BOTH, more=[STATEMENT]), ["lab/new"], ["lab/new:latest"]),
])
@pytest.mark.parametrize("is_directory", [False, True])
def test_names_of_loaded_images(udocker, members, words, names, is_directory):
    source = udocker.home / "source"
    if is_directory:
        write_layout(source, members)
    else:
        source.write_bytes(archive(members))
    assert udocker.ok("load", "-i", source, *words).out.split() == names
    assert listed(udocker) == sorted(names)


@pytest.mark.parametrize("index_data, present, platform, chosen", [
    (index(*PLATFORMS), [FOREIGN_ONE, NATIVE_ONE], [], NATIVE_ONE),
    (index(*PLATFORMS), [FOREIGN_ONE, NATIVE_ONE], ["--platform=linux/" + FOREIGN], FOREIGN_ONE),
    (index(*PLATFORMS), [NATIVE_ONE], [], NATIVE_ONE),
    (index(*PLATFORMS), [FOREIGN_ONE], ["--platform=linux/" + FOREIGN], FOREIGN_ONE),
    (index(ATTESTATION, *PLATFORMS), [FOREIGN_ONE, NATIVE_ONE], [], NATIVE_ONE),
    (index(ATTESTATION, PLATFORMS[1]), [NATIVE_ONE], [], NATIVE_ONE),
    (NESTED, [FOREIGN_ONE, NATIVE_ONE], [], NATIVE_ONE),
    (NESTED, [NATIVE_ONE], [], NATIVE_ONE),
], ids=["native", "foreign", "native alone", "foreign alone", "attestation", "one and attestation", "nested",
        "nested, native alone"])
def test_load_of_an_index(udocker, index_data, present, platform, chosen):
    members = layout_of(index_data, *present, more=[INNER, STATEMENT])
    udocker.ok("load", *platform + ["-", "lab/made:1.0"], input=archive(members))
    assert stored(udocker, "lab/made:1.0") == chosen.manifest and listed(udocker) == ["lab/made:1.0"]


def test_load_of_another_platform_is_told(udocker):
    result = udocker.ok("load", input=archive(docker_25((FOREIGN_ONE, ["lab/made:1.0"]))))
    assert FOREIGN in result.err and listed(udocker) == ["lab/made:1.0"]


def test_load_in_place_of_another_image(udocker):
    udocker.ok("load", input=archive(docker_25((THRICE, ["made:1"]))))
    udocker.ok("load", input=archive(docker_25((made(HIGHEST), ["made:1"]))))
    assert listed(udocker) == ["made:1"] and set(created(udocker, "made:1")) == {b"etc", b"etc/issue"}
    assert len(list((udocker.store / "layers").iterdir())) == 2, "a config and a layer"


def test_a_load_mends_what_is_damaged(udocker):
    data = archive(docker_25((BOTH, ["made:1"])))
    udocker.ok("load", input=data)
    (udocker.store / "layers" / BOTH.layers[0].diff_id).write_bytes(b"short")
    udocker.ok("load", input=data)
    udocker.ok("verify", "made:1")


# load of what is bad

def changed(**documents):
    """A good archive with other documents."""
    members = docker_25((BOTH, ["lab/made:1.0"]))
    return dict(members, **{name.replace("_", "."): data for name, data in documents.items()})


def with_manifest(**members):
    """One whose manifest.json says something else of its image."""
    document = json.loads(docker_25((BOTH, ["lab/made:1.0"]))["manifest.json"].decode())
    document[0].update(members)
    return changed(manifest_json=json_bytes(document))


GOOD = docker_25((BOTH, ["lab/made:1.0"]))
DEEP = [INNER]
for _ in range(6):
    DEEP.append(index(descriptor_of(DEEP[-1], OCI_INDEX)))
LAYER, CONFIG = blob(BOTH.layers[0].blob), blob(BOTH.config)
OTHER_CONFIG = json_bytes(image_config([Layer(LOWER), Layer(HIGHEST)]))
BAD = {
    "no JSON": (changed(manifest_json=b"{"), "manifest.json"),
    "no list": (changed(manifest_json=b"{}"), "manifest.json"),
    "half a surrogate pair": (with_manifest(RepoTags=["\ud800:1"]), "not valid JSON"),
    "a list of numbers": (changed(manifest_json=b"[1]"), "manifest.json"),
    "a lot of lists": (changed(manifest_json=b"[" * 100000), "manifest.json"),
    "no such config": (with_manifest(Config="blobs/sha256/" + "0" * 64), "0" * 64),
    "no such layer": (with_manifest(Layers=[LAYER, "absent"]), "absent"),
    "too few layers": (with_manifest(Layers=[LAYER]), "names 2 layers"),
    "a config outside": (with_manifest(Config="../../../../../../../../etc/passwd"), "etc/passwd"),
    "an absolute config": (with_manifest(Config="/etc/passwd"), "etc/passwd"),
    "a layer outside": (with_manifest(Layers=[LAYER, "../../../../../../../../etc/passwd"]), ""),
    "control characters": (with_manifest(Config="a\x1b[2Jb"), "\\x1b"),
    "a NUL": (with_manifest(Config="a\0b"), ""),
    "an endless name": (with_manifest(Config="a" * 100000), ""),
    "a config that is no JSON": (dict(GOOD, **{CONFIG: b"{"}), ""),
    "layers in the wrong order": (with_manifest(Layers=[blob(BOTH.layers[n].blob) for n in (1, 0)]), "sha256:"),
    "a blob that lies": (dict(GOOD, **{LAYER: HIGHEST}), LAYER[-64:]),
    "a diff_id that lies": (dict(with_manifest(Config="c.json"), **{"c.json": OTHER_CONFIG}), digest_of(HIGHEST)),
    "a config that lies": (dict(docker_24(BOTH), **{CONFIG[-64:] + ".json": BOTH.config + b"\n"}), CONFIG[-64:]),
    "a gzip'ed layer that is no tar": (docker_24(made(b"garbage" * 1000, pack=gzip.compress)), ""),
    "nothing but manifest.json": ({"manifest.json": GOOD["manifest.json"]}, "lacks"),
    "no manifest at all": (without(GOOD, "manifest.json", "index.json"), "manifest.json"),
    "no members at all": ({}, "manifest.json"),
    "10,000 tags": (with_manifest(RepoTags=["lab/made:%d" % number for number in range(10000)]), "1000"),
    "a tag that is no name": (with_manifest(RepoTags=["../../etc:x"]), "name"),
    "a tag with a newline": (with_manifest(RepoTags=["a\nb:1"]), "name"),
    "no tags": (with_manifest(RepoTags=None), "NAME"),
    "tags that are no list": (with_manifest(RepoTags="lab/made:1.0"), "NAME"),
    "index: no JSON": (without(changed(index_json=b"{"), "manifest.json"), "index.json"),
    "index: no object": (without(changed(index_json=b"[]"), "manifest.json"), "index.json"),
    "index: empty": (without(changed(index_json=b"{}"), "manifest.json"), "index.json"),
    "index: null": (without(changed(index_json=b'{"manifests": null}'), "manifest.json"), "index.json"),
    "index: a number": (without(changed(index_json=b'{"manifests": 1}'), "manifest.json"), "index.json"),
    "index: no entries": (without(changed(index_json=index()), "manifest.json"), "index.json"),
    "index: odd entries": (without(changed(index_json=index(1)), "manifest.json"), "index.json"),
    "index: a blob that lies": (dict(layout_of(index(entry(BOTH, "a:1")), BOTH), **{LAYER: HIGHEST}), LAYER[-64:]),
    "index: no such manifest": (layout_of(index(entry(THRICE, "a:1")), BOTH), "index"),
    "index: no such layer": (without(layout_of(index(entry(BOTH, "a:1")), BOTH), LAYER), LAYER),
    "index: a manifest that is no JSON": (layout_of(index(descriptor_of(b"{", OCI_MANIFEST)), more=[b"{"]), "JSON"),
    "index: no image for here": (layout_of(index(*PLATFORMS), FOREIGN_ONE), FOREIGN),
    "index: attestations alone": (layout_of(index(ATTESTATION), more=[STATEMENT]), "no image"),
    "index: indexes without end": (layout_of(DEEP[-1], NATIVE_ONE, more=DEEP), "without end"),
    "index: a name that is none": (layout_of(index(entry(BOTH, "UPPER:1")), BOTH), "name"),
}


@pytest.mark.parametrize("is_directory", [False, True], ids=["tar", "directory"])
@pytest.mark.parametrize("what", sorted(BAD))
def test_load_of_what_is_bad(udocker, what, is_directory):
    """One clear line, and nothing is left in the store."""
    members, told = BAD[what]
    source = udocker.home / "source"
    if is_directory:
        source.mkdir()
        write_layout(source, members)
    else:
        source.write_bytes(archive(members))
    refused(udocker, told, "load", "-i", source)


@pytest.mark.parametrize("data, told", [
    (directory("d") * 20002, "more than 20000 members"), (file("index.json", bytes((16 << 20) + 1)), "16.8 MB")],
                         ids=["members", "document"])
def test_load_of_more_than_any_archive_has(udocker, data, told):
    refused(udocker, told, "load", input=data)


@pytest.mark.parametrize("link", [symlink, hardlink])
@pytest.mark.parametrize("target", ["/etc/passwd", "../../../../../../../../etc/passwd"])
@pytest.mark.parametrize("name", [LAYER, CONFIG, "manifest.json"])
def test_load_of_links_that_lead_out(udocker, link, target, name):
    members = dict(without(GOOD, "index.json"), **{name: Entry(link(name, target))})
    refused(udocker, "", "load", input=archive(members))


@pytest.mark.parametrize("place", ["../secret", "link", "blobs/sha256/../../../secret"])
def test_load_of_a_directory_that_leads_out(udocker, place):
    """What is outside of it would become part of the image."""
    source = udocker.home / "source"
    source.mkdir()
    (udocker.home / "secret").write_text("{}")
    os.symlink("../secret", str(source / "link"))
    write_layout(source, {"manifest.json": json.dumps([{"Config": place, "RepoTags": ["a:1"], "Layers": []}]).encode()})
    refused(udocker, "leads out of the directory", "load", "-i", source)


def test_load_of_a_directory_of_links(udocker, layout):
    """As git-annex has it, where what is large lies elsewhere."""
    copy, blobs = udocker.home / "copy", udocker.home / "elsewhere"
    skopeo("oci:%s:busybox" % layout, "oci:%s:lab/busybox:1.0" % copy)
    shutil.move(str(copy / "blobs/sha256"), str(blobs))
    (copy / "blobs/sha256").mkdir()
    for path in blobs.iterdir():
        os.symlink(str(path), str(copy / "blobs/sha256" / path.name))
    udocker.ok("load", "-i", copy)
    udocker.ok("verify", "lab/busybox:1.0")


@pytest.mark.parametrize("links", [{"a": "b", "b": "a"}, {"a": "a"}, {"a": "b"}])
def test_load_of_links_in_a_circle(udocker, links):
    members = dict(with_manifest(Config="a"), **{name: Entry(symlink(name, target)) for name, target in links.items()})
    refused(udocker, "lacks", "load", input=archive(members))


def test_load_of_a_member_that_is_there_twice(udocker):
    refused(udocker, LAYER + " is there twice", "load", input=file(LAYER, BOTH.layers[0].blob) + archive(GOOD))


@pytest.mark.parametrize("pack", ["plain", "gzip", "xz"])
@pytest.mark.parametrize("part", [0.01, 0.5, 0.93])
@pytest.mark.parametrize("members", [docker_24(BOTH), in_order(GOOD, "first")], ids=["24", "25"])
def test_load_of_a_truncated_archive(udocker, pack, part, members):
    data = PACKERS[pack](archive(members)[:-1024])
    refused(udocker, "", "load", input=data[:int(len(data) * part)])


@pytest.mark.parametrize("source, told", [
    ("absent", "absent"), ("directory", "manifest.json"), ("/dev/null", "manifest.json")])
def test_load_of_what_is_no_archive(udocker, source, told):
    (udocker.home / "directory").mkdir()
    refused(udocker, told, "load", "-i", source)


@pytest.mark.parametrize("words, told", [
    (["-", "-i", "source"], "both - and source"), (["source"], "source is a file, and a name was expected")])
def test_load_of_one_thing_or_another(udocker, words, told):
    (udocker.home / "source").write_bytes(archive(GOOD))
    assert told in udocker.fails(2, "load", *words).err


@pytest.mark.parametrize("members, words", [
    (docker_25((BOTH, ["a:1"]), (THRICE, ["b:2"])), ["lab/new:7"]),      # one tag for two
    (GOOD, ["UPPER"]),
    (docker_25((BOTH, ["a:1"]), (THRICE, ["b:1"])), ["lab/new"]),
    (docker_25((BOTH, None), (THRICE, None)), ["lab/new"]),
])
def test_new_names_that_do_not_serve(udocker, members, words):
    result = udocker("load", "-", *words, input=archive(members))
    assert result.status in (1, 2) and listed(udocker) == [], result


def test_a_store_that_fills_up(udocker, archives):
    for words in ["load", "-i", archives / "a.docker"], ["import", archives / "a.docker", "lab/x"]:
        assert "layers" in limited(udocker, 100000).fails(1, *words).err
        assert listed(udocker) == [] and files_of(udocker) == []
