"""Layers and archives of strangers: good ones, put together and damaged by chance."""
import os
import resource
import shutil
import stat
import struct
import subprocess
import zlib

import layers
from archives import archive, docker_24, docker_25, made
from faulty_registry import OCI_CONFIG, OCI_MANIFEST, Layer, descriptor_of, digest_of, image_config, json_bytes
from layers import ACCEPTED, BLOCK, REFUSED
from program import Program
from soaking.laboratory import remove
from test_layers import fingerprint, listing

MAX_FILE = 64 << 20         # bytes that a file of the store may have: sparse ones are quickly made
MAX_MEMORY = 150 << 10      # KiB


def good_layers(base):
    """[tars] of every table of layers.py, the lowest first."""
    families = [family for family in ACCEPTED + REFUSED]
    return [tars for family in families for tars in family(base).values() if sum(map(len, tars)) < 1 << 20]


class Mutations:
    """Ways to damage a tar; each takes and gives bytes."""

    def __init__(self, random):
        self.random = random

    def apply(self, data):
        """Damaged in one to three ways."""
        for _ in range(self.random.choice((1, 1, 2, 3))):
            if data:
                data = self.random.choice((self.flip, self.field, self.field, self.field, self.cut, self.drop,
                                           self.double, self.swap, self.number))(data)
        return data

    def flip(self, data):
        """Some bits are others."""
        changed = bytearray(data)
        for _ in range(self.random.randint(1, 8)):
            changed[self.random.randrange(len(changed))] ^= 1 << self.random.randrange(8)
        return bytes(changed)

    def field(self, data):
        """A field of a header is another one, and its checksum right."""
        place = BLOCK * self.random.randrange(max(len(data) // BLOCK, 1))
        block = bytearray(data[place:place + BLOCK])
        if len(block) < BLOCK:
            return data
        offset, length = self.random.choice([layers.FIELDS[name] for name in sorted(layers.FIELDS)])
        value = self.random.choice((
            bytes(self.random.randrange(256) for _ in range(length)), b"0" * length, b"7" * length, bytes(length),
            b"\x80" + bytes(length - 1), b"\xff" * length, b"../" * (length // 3), b"/" * length, b"a/" * (length // 2),
            b"%d" % self.random.randrange(8), self.random.choice((b"x", b"g", b"L", b"K", b"S")), b".wh..wh..opq"))
        block[offset:offset + length] = value[:length].ljust(length, b"\0")
        block[148:156] = b" " * 8
        block[148:156] = b"%06o\0 " % sum(block)
        return data[:place] + bytes(block) + data[place + BLOCK:]

    def cut(self, data):
        """The end is missing."""
        return data[:self.random.randrange(len(data))]

    def _piece(self, data):
        start = BLOCK * self.random.randrange(max(len(data) // BLOCK, 1))
        return start, start + BLOCK * self.random.randint(1, 3)

    def drop(self, data):
        """Some blocks are missing."""
        start, end = self._piece(data)
        return data[:start] + data[end:]

    def double(self, data):
        """Some blocks come twice."""
        start, end = self._piece(data)
        return data[:end] + data[start:]

    def swap(self, data):
        """Some blocks stand elsewhere."""
        start, end = self._piece(data)
        rest = data[:start] + data[end:]
        place = BLOCK * self.random.randint(0, len(rest) // BLOCK)
        return rest[:place] + data[start:end] + rest[place:]

    def number(self, data):
        """A number of 4 or 8 bytes is somewhere, as archives in archives have it."""
        place = self.random.randrange(len(data))
        number = struct.pack(self.random.choice((">Q", "<I")), self.random.choice((0, 1, 2 ** 31, 2 ** 32 - 1)))
        return data[:place] + number + data[place + len(number):]


def memory_limit():
    """KiB that no program may need: more where one that ran before, whatever it was, has needed more."""
    return max(MAX_MEMORY, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)


class Layers:
    """Layers put together of those of the tables, whole or damaged, through create, load and import; the tree is
    umoci's where both accept them, and nothing beside the store is touched."""

    total = None

    def __init__(self, laboratory):
        self.laboratory = laboratory
        self.most_memory = memory_limit()
        self.base = laboratory.directory / "base"
        remove(self.base)
        (self.base / "dir").mkdir(parents=True)
        for name in "canary", "dir/canary":
            (self.base / name).write_text("canary")
            os.utime(str(self.base / name), (1, 2))
        self.before = self.outside()
        self.tables = good_layers(str(self.base))
        program = laboratory.program
        self.program = Program(program.home, ["prlimit", "--fsize=%d" % MAX_FILE] + program.entry, program.env)

    def outside(self):
        """What lstat tells of everything beside the store."""
        return {path: fingerprint(path) for parent, names, files in os.walk(str(self.base))
                for path in [parent] + [os.path.join(parent, name) for name in names + files]}

    def round(self, number, random):
        home, mutations = self.laboratory.home, Mutations(random)
        remove(home)
        (home / "tmp").mkdir(parents=True)
        tars = [tar for _ in range(random.choice((1, 1, 2, 3))) for tar in random.choice(self.tables)][:6]
        if random.random() < 0.8:
            chosen = random.randrange(len(tars))
            tars[chosen] = mutations.apply(tars[chosen])
        path = self.laboratory.directory / "input.tar"
        way = random.choice(("load", "load", "import", "damaged"))
        if way == "import":
            path.write_bytes(b"".join(tars[:1]))
            results = [self.run("import", "--tocontainer", "--name=x", path, "lab/x:1")]
        else:
            image = made(*tars)
            data = archive(random.choice((docker_25((image, ["lab/x:1"])),
                                          docker_24(image, ["lab/x:1"], link=layers.hardlink))))
            path.write_bytes(mutations.apply(data) if way == "damaged" else data)
            results = [self.run("load", "-i", path)]
            if results[0].status == 0:
                name = self.program.ok("images").out.splitlines()[1].split()[0]
                results.append(self.run("create", "--name=x", name))
        found = [complaint for result in results for complaint in self.after(result)]
        found += ["%s changed or was read" % self.base] if self.outside() != self.before else []
        found += self.laboratory.strange_names()
        if way != "damaged":
            found += self.against_umoci(tars if way == "load" else tars[:1], results[-1].status == 0)
        return found

    def run(self, *words):
        return self.program(*words, timeout=60)

    def after(self, result):
        """Complaints about how a command ended."""
        found = []
        lines = result.err.splitlines()
        is_clear = result.status == 0 or result.status == 1 and lines and lines[-1].startswith("udocker: ")
        if not is_clear or "bug" in result.err or len(result.err) > 4000:
            found.append(repr(result)[:3000])
        memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
        if memory > self.most_memory:
            found.append("%d KiB of memory were needed, now or before" % memory)
        return found

    def against_umoci(self, tars, is_accepted):
        """Complaints about a tree that umoci makes in another way."""
        if not is_accepted or not shutil.which("umoci"):
            return []
        directory = self.laboratory.directory / "umoci"
        remove(directory)
        theirs = umoci_tree(directory, tars)
        if theirs is None:
            return []
        ours = listing(str(self.laboratory.root("x")))
        return ["%r: %r, umoci has %r" % (name, ours.get(name), theirs.get(name))
                for name in sorted(set(ours) | set(theirs)) if ours.get(name) != theirs.get(name)][:3]


def umoci_tree(directory, tars):
    """The listing of what umoci makes of layers as a plain user, None where it refuses them."""
    found = [Layer(data, compress=lambda data: gzipped(data)) for data in tars]
    config = json_bytes(image_config(found))
    manifest = json_bytes({"schemaVersion": 2, "config": descriptor_of(config, OCI_CONFIG),
                           "layers": [layer.descriptor for layer in found]})
    entry = descriptor_of(manifest, OCI_MANIFEST, annotations={"org.opencontainers.image.ref.name": "latest"})
    blobs = directory / "layout/blobs/sha256"
    blobs.mkdir(parents=True)
    for blob in [layer.blob for layer in found] + [config, manifest]:
        (blobs / digest_of(blob).split(":")[1]).write_bytes(blob)
    (directory / "layout/index.json").write_bytes(json_bytes({"schemaVersion": 2, "manifests": [entry]}))
    (directory / "layout/oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    status = subprocess.call(["umoci", "--log=error", "unpack", "--rootless", "--image", "%s/layout:latest" % directory,
                              str(directory / "bundle")], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    if status:
        return None
    # What its owner may not read, it leaves so; directories are opened before they are walked into
    for parent, directories, names in os.walk(str(directory / "bundle/rootfs")):
        for path in (os.path.join(parent, name) for name in directories + names):
            mode = os.lstat(path).st_mode
            if stat.S_ISDIR(mode) or stat.S_ISREG(mode):
                os.chmod(path, mode | (0o700 if stat.S_ISDIR(mode) else 0o600))
    return listing(str(directory / "bundle/rootfs"))


def gzipped(data):
    """gzip at its quickest."""
    packer = zlib.compressobj(1, zlib.DEFLATED, 31)
    return packer.compress(data) + packer.flush()
