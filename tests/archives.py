"""Archives of images by hand, as docker, containerd and others write them, and what udocker makes of them.

    archive(docker_25((made(LOWER, UPPER), ["lab/made:1.0"])))

An archive's members are {name: content}, in their order; content of type Entry has its tar header already.
"""
import bz2
import collections
import gzip
import hashlib
import json
import lzma
import os
import stat
import subprocess

from faulty_registry import (OCI_CONFIG, OCI_INDEX, OCI_LAYER, OCI_MANIFEST, Layer, descriptor_of, image_config,
                             json_bytes)
from images import NATIVE
from layers import file, tar, zstd
from program import Program

REF_NAME, FULL_NAME = "org.opencontainers.image.ref.name", "io.containerd.image.name"
PACKERS = {"plain": bytes, "gzip": gzip.compress, "bzip2": bz2.compress, "xz": lzma.compress, "zstd": zstd}
Made = collections.namedtuple("Made", "config layers manifest")


class Entry(bytes):
    """A member with its header, for what is no file."""


def archive(members):
    """The tar of these members."""
    return tar(*(data if isinstance(data, Entry) else file(name, data) for name, data in members.items()))


def made(*tars, architecture=NATIVE, pack=bytes, packed="", **members):
    """An image of these layers: documents as bytes; members replace or add to the top level of the config."""
    layers = [Layer(data, pack, OCI_LAYER + packed) for data in tars]
    config = json_bytes(image_config(layers, architecture, **members))
    return Made(config, layers, json_bytes({
        "schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": descriptor_of(config, OCI_CONFIG),
        "layers": [layer.descriptor for layer in layers]}))


def blob(data):
    """Where a blob lies in a layout."""
    return "blobs/sha256/" + hashlib.sha256(data).hexdigest()


def entry(image, name="", **more):
    """What an index says of an image: with a mere tag as skopeo does, with a full name as containerd and docker do."""
    names = {REF_NAME: name.rpartition(":")[2], FULL_NAME: name} if ":" in name else {REF_NAME: name}
    return descriptor_of(image.manifest, OCI_MANIFEST, **dict({"annotations": names} if name else {}, **more))


def index(*entries):
    """An index's bytes."""
    return json_bytes({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": list(entries)})


def layout_of(index_data, *images, more=()):
    """An OCI layout, with blobs of images and of other bytes."""
    blobs = [data for image in images
             for data in [image.config, image.manifest] + [layer.blob for layer in image.layers]]
    return dict({blob(data): data for data in blobs + list(more)},
                **{"oci-layout": b'{"imageLayoutVersion": "1.0.0"}', "index.json": index_data})


def docker_25(*named):
    """What docker save writes since version 25: `named` are (image, tags)."""
    entries = [entry(image, "docker.io/" + tag) for image, tags in named for tag in tags or []]
    listed = [{"Config": blob(image.config), "RepoTags": tags, "Layers": [blob(layer.blob) for layer in image.layers],
               "LayerSources": {layer.diff_id: layer.descriptor for layer in image.layers}} for image, tags in named]
    return dict(layout_of(index(*entries), *(image for image, _ in named)), **{"manifest.json": json_bytes(listed)})


def docker_24(image, tags=("lab/made:1.0",), link=None):
    """What it wrote before; a layer that was there already is link(name, name of that one)."""
    members, firsts, listed = {}, {}, []
    for number, layer in enumerate(image.layers):
        name = "%064x/layer.tar" % number
        first = firsts.setdefault(layer.diff_id, name)
        for other in "VERSION", "json":
            members["%064x/%s" % (number, other)] = b"{}"
        members[name] = layer.blob if first == name else Entry(link(name, first))
        listed.append(name)
    config = hashlib.sha256(image.config).hexdigest() + ".json"
    manifest = json_bytes([{"Config": config, "RepoTags": list(tags), "Layers": listed}])
    return dict(members, **{config: image.config, "manifest.json": manifest, "repositories": b"{}"})


def without(members, *names):
    """The other members."""
    return {name: data for name, data in members.items() if name not in names}


def in_order(members, order):
    """The members with "manifest.json" "first" or "last", or "reversed"."""
    if order == "reversed":
        return dict(reversed(list(members.items())))
    return dict(sorted(members.items(), key=lambda member: (member[0] == "manifest.json") == (order == "last")))


def write_layout(path, members):
    """The members as files of a directory."""
    for name, data in members.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)


# What is in the store, and in trees

def stored(program, reference):
    """The bytes of an image's manifest."""
    name, _, tag = reference.rpartition(":")
    return (program.store / "repos" / name / tag / "manifest").read_bytes()


def config_digest(program, reference):
    """The digest of an image's config."""
    return json.loads(stored(program, reference).decode())["config"]["digest"]


def listed(program):
    """The names of all images."""
    return [line.split()[0] for line in program.ok("images").out.splitlines()[1:]]


def files_of(program):
    """The names of the files and links in the store, locks left out."""
    return [name for _, _, names in os.walk(str(program.store)) for name in names if name not in (".lock", ".use")]


def root_of(program, container):
    """The path of a container's tree."""
    return program.ok("inspect", "-p", container).out.rstrip("\n")


def created(program, reference):
    """The listing of the tree of a new container."""
    return listing(root_of(program, program.ok("create", reference).out.strip()))


def listing(root):
    """{name: (mode, time in nanoseconds, content, first name of the same file)} of a tree; names are bytes."""
    found, names_of = {}, {}
    for parent, directories, files in os.walk(os.fsencode(str(root))):
        directories.sort()          # so that the same name comes first in any tree
        for path in (os.path.join(parent, name) for name in sorted(directories + files)):
            status, name = os.lstat(path), os.path.relpath(path, os.fsencode(str(root)))
            content = None
            if stat.S_ISLNK(status.st_mode):
                content = os.readlink(path)
            elif stat.S_ISREG(status.st_mode):
                with open(path, "rb") as content_file:
                    content = content_file.read()
            found[name] = oct(status.st_mode), status.st_mtime_ns, content, names_of.setdefault(status.st_ino, name)
    return found


# Running things

def tool(*command):
    """Runs what must succeed."""
    subprocess.run([str(word) for word in command], check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


def skopeo(source, destination):
    """Copies an image; skopeo makes no difference between true and false ones without a policy."""
    tool("skopeo", "--insecure-policy", "copy", "--quiet", source, destination)


def refused(udocker, told, *words, **options):
    """What must fail into an empty store with one clear line, and leave nothing there; the Result."""
    result = udocker.fails(1, *words, **options)
    assert told in result.err and "this is a bug" not in result.err and len(result.err) < 2000, result
    assert "root:x:0" not in result.err, "what is in /etc/passwd is not shown"
    assert listed(udocker) == [] and files_of(udocker) == []
    return result


def limited(program, size):
    """The program with this much space: no file of it can be longer."""
    return Program(program.home, ["prlimit", "--fsize=%d" % size] + program.entry)
