"""Layers, right, odd and hostile: the tree is the one that umoci makes, nothing outside it is touched."""
import bz2
import gzip
import lzma
import os
import shutil
import stat
import subprocess
import sys
import time
import tracemalloc
from types import SimpleNamespace

import pytest

import udocker
from faulty_registry import (OCI_CONFIG, OCI_MANIFEST, Layer, descriptor_of, digest_of, image_config,
                             json_bytes)
from layers import (ACCEPTED, MTIME, REFUSED, base_256, device, directory, file, gnu_long_link, gnu_long_name,
                    hardlink, pax, raw_pax, sparse_files, symlink, tar, whiteout, zstd)


class Workbench:
    """A root to unpack into, between things that must stay as they are."""

    def __init__(self, directory):
        self.directory = directory
        self.base = directory / "base"
        self.root = self.base / "root"
        (self.base / "dir").mkdir(parents=True)
        (self.base / "empty").mkdir()
        self.root.mkdir()
        for name in "canary", "dir/canary":
            (self.base / name).write_text("canary")
            (self.base / name).chmod(0o640)
            os.utime(str(self.base / name), (1, 2))     # so that even on a relatime mount a read would show
        (self.base / "link").symlink_to("canary")
        self.before = self.outside()

    def outside(self):
        """What lstat tells of everything around the root: any write, chmod, link or read changes it."""
        found = {}
        for parent, names, files in os.walk(str(self.base)):
            for path in [parent] + [os.path.join(parent, name) for name in files]:
                found[path] = fingerprint(path)
            if parent == str(self.base):
                names.remove("root")
        return found

    def unpack(self, *layers):
        """Applies layers, given as the bytes of their files, to the root; returns its listing."""
        unpacker = udocker.LayerUnpacker(str(self.root))
        for number, layer in enumerate(layers):
            path = self.directory / ("layer%d" % number)
            path.write_bytes(layer)
            unpacker.apply(str(path), **({} if is_packed(layer) else {"diff_id": digest_of(layer)}))
        unpacker.finish()
        return listing(str(self.root))

    def clear(self):
        """Removes all that was unpacked, as udocker does it."""
        for name in os.listdir(str(self.root)):
            udocker.remove_tree(str(self.root / name))
        assert os.listdir(str(self.root)) == []


def is_packed(layer):
    """True for what is compressed, by the magic numbers of gzip, bzip2, xz and zstd."""
    return layer.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd", b"\x50\x2a\x4d\x18"))


def fingerprint(path):
    """What lstat tells of a path, and of a file the time when it was last read."""
    status = os.lstat(path)
    read = status.st_atime_ns if stat.S_ISREG(status.st_mode) else None
    return (status.st_mode, status.st_nlink, status.st_size, status.st_mtime_ns, status.st_ctime_ns, read)


@pytest.fixture
def bench(tmp_path):
    """A Workbench; whatever a test does with it, the things around the root are to be as before."""
    workbench = Workbench(tmp_path)
    yield workbench
    assert workbench.outside() == workbench.before
    shutil.rmtree(str(tmp_path / "base"))


def listing(root):
    """{name: what is there} of a tree: type, permissions with those that the owner is always given,
    content, time, and which names are one file."""
    found, names_of = {}, {}
    for parent, directories, files in os.walk(os.fsencode(root)):
        directories.sort()          # so that the same name comes first in any tree
        for path in (os.path.join(parent, name) for name in sorted(directories + files)):
            status = os.lstat(path)
            name = os.path.relpath(path, os.fsencode(root))
            first = names_of.setdefault(status.st_ino, name)
            found[name] = description(path, status) + ((first,) if first != name else ())
    return found


def description(path, status):
    """What stands at a path: (type, ...)."""
    if stat.S_ISLNK(status.st_mode):
        return "link", os.readlink(path), int(status.st_mtime)
    if stat.S_ISDIR(status.st_mode):
        return "directory", oct(status.st_mode & 0o777 | 0o700)
    mode = oct(status.st_mode & 0o777 | 0o600)
    if stat.S_ISREG(status.st_mode):
        with open(path, "rb") as content:
            return "file", mode, content.read(), int(status.st_mtime)
    return oct(stat.S_IFMT(status.st_mode)), mode


def umoci_tree(directory, tars):
    """The listing of what umoci makes of layers as a plain user."""
    layers = [Layer(layer) for layer in tars]
    config = json_bytes(image_config(layers))
    manifest = json_bytes({"schemaVersion": 2, "config": descriptor_of(config, OCI_CONFIG),
                           "layers": [layer.descriptor for layer in layers]})
    name = {"org.opencontainers.image.ref.name": "latest"}
    entry = descriptor_of(manifest, OCI_MANIFEST, annotations=name)
    index = json_bytes({"schemaVersion": 2, "manifests": [entry]})
    blobs = directory / "layout" / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    for blob in [layer.blob for layer in layers] + [config, manifest]:
        (blobs / digest_of(blob).split(":")[1]).write_bytes(blob)
    (directory / "layout" / "index.json").write_bytes(index)
    (directory / "layout" / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    subprocess.run(["umoci", "--log=error", "unpack", "--rootless", "--image", "%s/layout:latest" % directory,
                    str(directory / "bundle")], check=True, stdin=subprocess.DEVNULL)
    return listing(str(directory / "bundle" / "rootfs"))


def cases(families):
    """What parametrize needs for the tables of layers.py: a function of base for each of their lines."""
    return [pytest.param(lambda base, family=family, name=name: family(base)[name],
                         id="%s: %s" % (family.__name__.replace("_", " "), name))
            for family in families for name in family("/base")]


@pytest.mark.parametrize("make", cases(ACCEPTED))
def test_the_tree_is_that_of_umoci(bench, make):
    if not shutil.which("umoci"):
        pytest.skip("umoci is not installed")
    layers = make(str(bench.base))
    assert bench.unpack(*layers) == umoci_tree(bench.directory, layers)


@pytest.mark.parametrize("make", cases(REFUSED))
def test_refused(bench, make):
    with pytest.raises(udocker.ArchiveError):
        bench.unpack(*make(str(bench.base)))


def test_two_thousand_entries(bench):
    names = ["%d/%d" % (number % 7, number) for number in range(2000)]
    tree = bench.unpack(tar(*(file(name, name.encode()) for name in names)))
    assert {name: tree[name.encode()][2] for name in names} == {name: name.encode() for name in names}
    assert len(tree) == 2000 + 7


@pytest.mark.parametrize("entry", [raw_pax, gnu_long_name, gnu_long_link])
def test_a_name_of_many_mebibytes_is_refused(bench, entry):
    with pytest.raises(udocker.ArchiveError):
        bench.unpack(gzip.compress(tar(entry(b"n" * (32 << 20)), file("s"))))


def test_many_small_records_do_not_take_for_ever(bench):
    started = time.monotonic()
    bench.unpack(tar(raw_pax(b"5 a=\n" * 200000), file("s")))
    assert time.monotonic() - started < 3


# Files with holes

@pytest.mark.parametrize("way", ["in the header", "0.0", "0.1", "1.0"])
@pytest.mark.parametrize("pieces", [
    [(1000, b"data")], [(0, b"one"), (3, b"after"), (8, b"the"), (1000, b"other")], [(1000, b"")],
    # so many that the list of 1.0 ends with the first byte of its third block
    [(3000 * number, b"piece %d" % number) for number in range(118)],
], ids=["one", "adjacent", "a hole alone", "many"])
def test_a_sparse_file(bench, way, pieces):
    content = bytearray(pieces[-1][0] + len(pieces[-1][1]))
    for offset, data in pieces:
        content[offset:offset + len(data)] = data
    tree = bench.unpack(tar(sparse_files("s", *pieces)[way], file("after", b"1")))
    assert tree[b"s"][2] == content and tree[b"after"][2] == b"1"


# Whiteouts of what is no name

@pytest.mark.parametrize("name", [
    ".wh...", ".wh..", ".wh.", "d/.wh...", "d/.wh..", "d/.wh.", "l/.wh...", "x/.wh...",
])
def test_a_whiteout_of_no_name_removes_nothing(bench, name):
    lower = tar(file("a"), file("d/x"), symlink("l", "."))
    before = bench.unpack(lower)
    try:
        bench.unpack(lower, tar(file(name)))
    except udocker.ArchiveError:
        pass
    after = listing(str(bench.root))
    assert {name: after.get(name) for name in before} == before


@pytest.mark.parametrize("names", [
    [".wh.nothing", "no/.wh.where"],
    ["no/.wh..wh..opq"],
    ["out/.wh.canary", "out/.wh.dir", "out/dir/.wh.canary"],
    ["out/.wh..wh..opq", "out/dir/.wh..wh..opq"],
    ["up/.wh.canary", "up/dir/.wh.canary", "up/dir/.wh..wh..opq"],
])
def test_a_whiteout_of_what_is_not_there_removes_nothing(bench, names):
    lower = tar(file("a"), file("d/x"), symlink("out", str(bench.base)), symlink("up", ".."))
    before = bench.unpack(lower)
    after = bench.unpack(lower, tar(*map(file, names)))
    assert {name: after[name] for name in before} == before
    assert {kind for kind, *_ in (after[name] for name in set(after) - set(before))} <= {"directory"}


def test_metadata_of_aufs_harms_nothing(bench):
    upper = tar(directory(".wh..wh.plnk"), file(".wh..wh.plnk/x"), file(".wh..wh.aufs"))
    tree = bench.unpack(tar(file("d/a")), upper)
    assert b"d/a" in tree and b".wh..wh.aufs" not in tree


def test_a_hard_link_to_itself_leaves_the_file(bench):
    assert bench.unpack(tar(file("a", b"1"), hardlink("a", "./a")))[b"a"][2] == b"1"


# What a plain user cannot have

def test_devices_are_left_out(bench):
    tree = bench.unpack(tar(device("null"), device("sda", kind=b"4"), file("after")))
    assert sorted(tree) == [b"after"]


def test_a_device_replaces_what_was_there(bench):
    assert bench.unpack(tar(file("null", b"data")), tar(device("null"))) == {}


def test_set_id_bits_are_kept_off(bench):
    bench.unpack(tar(file("a", mode=0o6755), directory("d", mode=0o2755), file("d/a", mode=0o4711)))
    assert [mode_of(bench.root / name) for name in ("a", "d", "d/a")] == [0o755, 0o755, 0o711]


def test_owners_are_not_kept(bench):
    bench.unpack(tar(file("a", uid=12345, gid=12345)))
    status = os.lstat(str(bench.root / "a"))
    assert (status.st_uid, status.st_gid) == (os.getuid(), os.getgid())


# Modes and times

def mode_of(path):
    """The permissions of a path."""
    return stat.S_IMODE(os.lstat(str(path)).st_mode)


@pytest.mark.parametrize("umask, modes", [
    (0o077, [0o644, 0o755, 0o751, 0o1777, 0o755]), (0o022, [0o644, 0o755, 0o751, 0o1777, 0o755]),
    (0o002, [0o664, 0o775, 0o771, 0o1777, 0o755]), (0, [0o664, 0o775, 0o771, 0o1777, 0o755])])
def test_modes_are_those_of_the_layer_but_for_what_others_may_write_to(umask, modes, bench):
    """The group may where the umask says so; a directory like /tmp is everybody's."""
    previous = os.umask(umask)
    try:
        bench.unpack(tar(file("a", mode=0o666), directory("d", mode=0o777), file("d/b", mode=0o771),
                         directory("tmp", mode=0o1777), file("new/c")))
    finally:
        os.umask(previous)
    assert [mode_of(bench.root / name) for name in ("a", "d", "d/b", "tmp", "new")] == modes


def test_the_owner_can_always_enter_read_and_remove(bench):
    lower = tar(directory("closed", mode=0), file("closed/none", b"1", mode=0), directory("read", mode=0o555))
    upper = tar(file("closed/new"), directory("read/deep", mode=0), file("read/deep/x", mode=0))
    bench.unpack(lower, upper)
    for name in "closed", "read", "read/deep":
        assert mode_of(bench.root / name) & 0o700 == 0o700
    for name in "closed/none", "read/deep/x":
        assert mode_of(bench.root / name) & 0o400
    bench.clear()


def test_a_directorys_last_entry_gives_its_mode(bench):
    bench.unpack(tar(directory("d", mode=0o755)), tar(directory("d", mode=0o711)), tar(file("d/x")))
    assert mode_of(bench.root / "d") == 0o711


def test_times_of_directories_are_set_last(bench):
    layers = [tar(directory("d", mtime=1000), file("d/a"), directory("d/deep", mtime=2000), file("d/deep/b")),
              tar(file("d/c"), whiteout("d/a"), file("d/deep/e"))]
    bench.unpack(*layers)
    assert [os.lstat(str(bench.root / name)).st_mtime for name in ("d", "d/deep")] == [1000, 2000]


def test_times_of_links_are_kept(bench):
    bench.unpack(tar(symlink("l", str(bench.base / "canary"), mtime=1000)))
    assert os.lstat(str(bench.root / "l")).st_mtime == 1000


@pytest.mark.parametrize("seconds", [0, MTIME, 2 ** 31, 2 ** 32, -86400])
def test_times_of_files_are_kept(bench, seconds):
    bench.unpack(tar(file("a", mtime=base_256(seconds, 12))))
    assert os.lstat(str(bench.root / "a")).st_mtime == seconds


@pytest.mark.parametrize("text, nanoseconds", [
    ("15.25", 15250000000), ("-1.5", -1500000000), ("5.", 5000000000), (".5", 500000000), ("1.0000000019", 1000000001),
    ("-0.000000001", -1), ("1e-05", 10000),         # as Python's tarfile writes what is less than 0.0001
])
def test_times_of_extended_headers(bench, text, nanoseconds):
    bench.unpack(tar(pax([("mtime", text)]), file("a")))
    assert os.lstat(str(bench.root / "a")).st_mtime_ns == nanoseconds


@pytest.mark.parametrize("seconds", [2 ** 70, -2 ** 70, 2 ** 62])
def test_an_impossible_time_is_no_traceback(bench, seconds):
    layer = tar(file("a", b"1", mtime=base_256(seconds, 12)), directory("d", mtime=base_256(seconds, 12)))
    try:
        assert bench.unpack(layer)[b"a"][2] == b"1"
    except udocker.ArchiveError:
        pass


# Headers that other programs write

def test_a_global_header_is_read_over(bench):
    tree = bench.unpack(tar(pax([("comment", "a commit")], kind=b"g"), file("s", b"x")))
    assert tree[b"s"][2] == b"x"


def test_a_global_name_is_not_for_every_file(bench):
    try:
        tree = bench.unpack(tar(pax([("path", "all")], kind=b"g"), file("s", b"x"), file("t", b"y")))
    except udocker.ArchiveError:
        return
    assert sorted(tree) == [b"s", b"t"]


def test_a_contiguous_file_is_a_file(bench):
    assert bench.unpack(tar(file("c", b"data", kind=b"7"), file("after")))[b"c"][2] == b"data"


def test_an_unknown_type_is_a_file_or_nothing_or_refused(bench):
    try:
        tree = bench.unpack(tar(file("z", b"data", kind=b"Z"), file("after", b"1")))
    except udocker.ArchiveError:
        return
    assert tree.get(b"z", ("file", "", b"data"))[2] == b"data" and tree[b"after"][2] == b"1"


def test_a_very_deep_path_is_made_and_removed_or_refused(bench):
    try:
        bench.unpack(tar(pax([("path", "d/" * 3000 + "x")]), file("s", b"x")))
    except udocker.ArchiveError:
        pass
    bench.clear()


# Compression

def skippable(data):
    """A frame that every reader of zstd is to step over."""
    return b"\x50\x2a\x4d\x18" + len(data).to_bytes(4, "little") + data


PACKERS = {"plain": bytes, "gzip": gzip.compress, "bzip2": bz2.compress, "xz": lzma.compress, "zstd": zstd}
CONTENT = tar(file("a", b"first"), file("noise", os.urandom(300000)), file("b", b"last"))


@pytest.mark.parametrize("packer", sorted(PACKERS))
def test_each_compression_is_told_by_content(bench, packer):
    tree = bench.unpack(PACKERS[packer](CONTENT))
    assert (tree[b"a"][2], tree[b"b"][2], len(tree[b"noise"][2])) == (b"first", b"last", 300000)


@pytest.mark.parametrize("packer", sorted(PACKERS))
def test_each_compression_is_told_of_pieces_of_any_size(packer):
    content = tar(file("a", b"first"))
    packed = PACKERS[packer](content)
    assert b"".join(udocker.decompressed(packed[at:at + 1] for at in range(len(packed)))) == content


def test_no_more_is_read_than_tells_the_compression():
    pieces = (piece for piece in [CONTENT[:5], CONTENT[5:1024], CONTENT[1024:]])
    content = udocker.decompressed(pieces)
    assert next(content) == CONTENT[:1024] and next(pieces) == CONTENT[1024:]


@pytest.mark.parametrize("packer", sorted(set(PACKERS) - {"plain"}))
@pytest.mark.parametrize("split", [1, 512, 100000, len(CONTENT) - 1])
def test_several_members_are_one_stream(bench, packer, split):
    pack = PACKERS[packer]
    assert bench.unpack(pack(CONTENT[:split]) + pack(CONTENT[split:]))[b"b"][2] == b"last"


def test_gzip_may_be_followed_by_zeros(bench):
    assert bench.unpack(gzip.compress(CONTENT) + bytes(1000))[b"b"][2] == b"last"


@pytest.mark.parametrize("there, taken", [
    ((), "zlib"), (("zlib_ng.zlib_ng",), "zlib_ng.zlib_ng"), (("isal.isal_zlib",), "isal.isal_zlib"),
    (("isal.isal_zlib", "zlib_ng.zlib_ng"), "isal.isal_zlib"), (("broken isal.isal_zlib",), "zlib"),
    (("broken isal.isal_zlib", "zlib_ng.zlib_ng"), "zlib_ng.zlib_ng")])
def test_gzip_is_inflated_by_the_fastest_that_is_there(monkeypatch, there, taken):
    """The tests that unpack take whichever this Python has: the newest one that tests/run knows has isal."""
    for name in "isal.isal_zlib", "zlib_ng.zlib_ng":
        module = SimpleNamespace(__name__=name, decompressobj=None) if name in there else None
        if "broken " + name in there:
            module = SimpleNamespace(__name__=name)
        monkeypatch.setitem(sys.modules, name, module)       # None: there is no such module
    assert udocker.inflating_module().__name__ == taken


def test_skippable_frames_of_zstd_are_skipped(bench):
    first, second = zstd(CONTENT[:700]), zstd(CONTENT[700:])
    layer = skippable(b"before") + first + skippable(b"") + second + skippable(b"after")
    assert bench.unpack(layer)[b"b"][2] == b"last"


@pytest.mark.parametrize("packer", sorted(set(PACKERS) - {"plain"}))
@pytest.mark.parametrize("left", [5, 20, 1000, 200000, -9, -1])
def test_half_a_compressed_layer_is_refused(bench, packer, left):
    with pytest.raises(udocker.ArchiveError):
        bench.unpack(PACKERS[packer](CONTENT)[:left])


@pytest.mark.parametrize("packer", sorted(set(PACKERS) - {"plain"}))
def test_half_a_second_member_is_refused(bench, packer):
    """The first one ends between two entries, where a tar may end."""
    pack = PACKERS[packer]
    with pytest.raises(udocker.ArchiveError):
        bench.unpack(pack(CONTENT[:1024]) + pack(CONTENT[1024:])[:9])


@pytest.mark.parametrize("packer", sorted(set(PACKERS) - {"plain"}))
def test_a_changed_byte_is_noticed(bench, packer):
    layer = bytearray(PACKERS[packer](CONTENT))
    layer[len(layer) // 2] ^= 0x55
    with pytest.raises(udocker.ArchiveError):
        bench.unpack(bytes(layer))


def test_an_unknown_compression_is_refused(bench):
    with pytest.raises(udocker.ArchiveError):
        bench.unpack(b"\x04\x22\x4d\x18" + os.urandom(2000))


# The digest of what was packed

@pytest.mark.parametrize("packer", sorted(PACKERS))
@pytest.mark.parametrize("tail", [b"", bytes(50000), b"garbage" * 100], ids=["end", "zeros", "garbage"])
def test_the_digest_is_of_all_that_was_packed(bench, packer, tail):
    path = bench.directory / "layer"
    path.write_bytes(PACKERS[packer](CONTENT + tail))
    udocker.LayerUnpacker(str(bench.root)).apply(str(path), diff_id=digest_of(CONTENT + tail))


@pytest.mark.parametrize("packer", sorted(PACKERS))
def test_another_digest_is_refused(bench, packer):
    path = bench.directory / "layer"
    path.write_bytes(PACKERS[packer](CONTENT))
    with pytest.raises(udocker.DigestError):
        udocker.LayerUnpacker(str(bench.root)).apply(str(path), diff_id=digest_of(b"something else"))


def test_errors_are_of_the_family():
    assert issubclass(udocker.ArchiveError, udocker.Error) and issubclass(udocker.DigestError, udocker.Error)


def test_memory_stays_bounded_over_headers_without_an_entry(bench):
    """Keys that no entry uses are not kept, however many come."""
    headers = [pax([("vendor.%d.%d" % (number, part), "x" * 10000) for part in range(20)]) for number in range(200)]
    layer = tar(*(headers + [file("after", b"data")]))
    tracemalloc.start()
    try:
        bench.unpack(gzip.compress(layer))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (bench.root / "after").read_bytes() == b"data"
    assert peak < 16 << 20


def test_directories_that_went_away_leave_no_times_behind(bench, tmp_path):
    """A directory made anew by the way, or turned into a link, takes nothing over from the one that is gone."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "sub").mkdir(mode=0o750)
    before = os.stat(str(outside / "sub"))
    bench.unpack(tar(directory("a", mode=0o701), directory("a/sub", mode=0o701), directory("b", mode=0o701)),
                 tar(whiteout("a"), symlink("a", str(outside)), whiteout("b")), tar(file("b/new", b"")))
    after = os.stat(str(outside / "sub"))
    assert (before.st_mode, before.st_mtime) == (after.st_mode, after.st_mtime)
    assert stat.S_IMODE(os.stat(str(bench.root / "b")).st_mode) == 0o755
