"""Tar files by hand, well-formed, odd or hostile: an entry is bytes, and a layer is the sum of its entries.

    tar(directory("etc"), file("etc/motd", b"hello"), symlink("link", "/etc"), whiteout("old"))

Names and targets are text or bytes. Any field of the header can be set as bytes, whatever they mean.
"""
import os
import shutil
import subprocess

import pytest

BLOCK = 512
END = bytes(2 * BLOCK)
MTIME = 1234567890

# field: (offset, length) in the header block. POSIX.1-1988 (ustar)
FIELDS = {
    "name": (0, 100), "mode": (100, 8), "uid": (108, 8), "gid": (116, 8), "size": (124, 12),
    "mtime": (136, 12), "checksum": (148, 8), "kind": (156, 1), "link": (157, 100), "magic": (257, 8),
    "devices": (329, 16), "prefix": (345, 155), "sparse": (386, 109),
}
USTAR, GNU, V7 = b"ustar\x0000", b"ustar  \0", bytes(8)


def octal(number, length):
    """A number as most archives write it; bytes as they are."""
    return number if isinstance(number, bytes) else b"%0*o\0" % (length - 1, number)


def base_256(number, length):
    """A number as GNU tar writes it where octal digits do not suffice: two's complement, top bit set."""
    data = bytearray(number.to_bytes(length, "big", signed=True))
    data[0] |= 0x80
    return bytes(data)


def header(name, kind=b"0", size=0, mode=0o644, mtime=MTIME, link="", magic=USTAR, uid=0, gid=0, **raw):
    """One header block, its checksum right unless it is given."""
    fields = dict({
        "name": os.fsencode(name), "mode": octal(mode, 8), "uid": octal(uid, 8), "gid": octal(gid, 8),
        "size": octal(size, 12), "mtime": octal(mtime, 12), "checksum": b" " * 8, "kind": kind,
        "link": os.fsencode(link), "magic": magic,
    }, **raw)
    block = bytearray(BLOCK)
    for field, value in fields.items():
        offset, length = FIELDS[field]
        assert len(value) <= length, "%s is too long for a header: %r" % (field, value)
        block[offset:offset + len(value)] = value
    if "checksum" not in raw:
        block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def with_signed_sum(entry):
    """The same with the sum of its header as old archivers made it, whose bytes had a sign."""
    block = entry[:148] + b" " * 8 + entry[156:BLOCK]
    return block[:148] + b"%07o " % sum(byte - 256 if byte > 127 else byte for byte in block) + entry[156:]


def padded(data):
    """Data filled up with zeros to whole blocks."""
    return data + bytes(-len(data) % BLOCK)


def file(name, data=b"", **fields):
    """A regular file."""
    fields.setdefault("size", len(data))
    return header(name, **fields) + padded(data)


def directory(name, mode=0o755, **fields):
    """A directory."""
    return header(name, kind=b"5", mode=mode, **fields)


def symlink(name, target, **fields):
    """A symbolic link."""
    return header(name, kind=b"2", mode=0o777, link=target, **fields)


def hardlink(name, target, **fields):
    """Another name of a file that is there already."""
    return header(name, kind=b"1", link=target, **fields)


def fifo(name, **fields):
    """A named pipe."""
    return header(name, kind=b"6", **fields)


def device(name, kind=b"3", **fields):
    """A character device, or with kind b"4" a block device: the one of /dev/null or of a first disk."""
    return header(name, kind=kind, devices=octal(8 if kind == b"4" else 1, 8) + octal(3, 8), **fields)


def whiteout(name):
    """What removes a name of the layers below."""
    parent, last = os.path.split(name)
    return file(os.path.join(parent, ".wh." + last))


def opaque(name):
    """What hides all that the layers below have in a directory."""
    return file(os.path.join(name, ".wh..wh..opq"))


def pax(records, kind=b"x"):
    """An extended header for the next entry; with kind b"g" for all that follow. Values are text or bytes."""
    lines = [_pax_line(os.fsencode(key), os.fsencode(value)) for key, value in records]
    return raw_pax(b"".join(lines), kind)


def raw_pax(body, kind=b"x", **fields):
    """An extended header with a body that need not make sense."""
    fields.setdefault("size", len(body))
    return header("PaxHeaders/x", kind=kind, **fields) + padded(body)


def _pax_line(key, value):
    rest = b" " + key + b"=" + value + b"\n"
    length = len(rest)
    while len(b"%d" % length) + len(rest) != length:        # the number counts its own digits
        length = len(b"%d" % length) + len(rest)
    return b"%d" % length + rest


def gnu_long_name(name):
    """The name of the next entry, as GNU tar writes what is longer than 100 bytes."""
    return _gnu_long(b"L", name)


def gnu_long_link(target):
    """The target of the next entry, in the same way."""
    return _gnu_long(b"K", target)


def _gnu_long(kind, text):
    body = os.fsencode(text) + b"\0"
    return header("././@LongLink", kind=kind, size=len(body), magic=GNU) + padded(body)


def sparse_files(name, *pieces):
    """One file, zeros but for the pieces, (offset, data) each, in each of the four ways of leaving the zeros out."""
    data = b"".join(piece for _, piece in pieces)
    places = [number for offset, piece in pieces for number in (offset, len(piece))]
    size = sum(places[-2:])
    described = [("GNU.sparse.size", "%d" % size), ("GNU.sparse.numblocks", "%d" % len(pieces))]
    version_0_0 = described + [("GNU.sparse." + key, "%d" % number)
                               for key, number in zip(("offset", "numbytes") * len(pieces), places)]
    version_0_1 = described + [("GNU.sparse.name", name), ("GNU.sparse.map", ",".join(map(str, places)))]
    version_1_0 = [("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0"), ("GNU.sparse.name", name),
                   ("GNU.sparse.realsize", "%d" % size)]
    counted = padded("".join("%d\n" % number for number in [len(pieces)] + places).encode())
    return {
        "in the header": _sparse_header(name, places, size, len(data)) + padded(data),
        "0.0": pax(version_0_0) + file(name, data),
        "0.1": pax(version_0_1) + file("GNUSparseFile.0/x", data),
        "1.0": pax(version_1_0) + file("GNUSparseFile.0/x", counted + data),
    }


def _sparse_header(name, places, size, length):
    """In the header there is room for four places, in each block behind it for 21: a byte tells whether one follows.
    Numbers may be of either kind."""
    numbers = b"".join((octal, base_256)[position % 2](number, 12) for position, number in enumerate(places))
    behind = [numbers[start:start + 504].ljust(504, b"\0") for start in range(96, len(numbers), 504)]
    follows = [b"\1"] * len(behind) + [b"\0"]
    first = header(name, kind=b"S", magic=GNU, size=length,
                   sparse=numbers[:96].ljust(96, b"\0") + follows.pop(0) + octal(size, 12))
    return first + b"".join(padded(block + more) for block, more in zip(behind, follows))


def tar(*entries):
    """A whole archive with the two blocks of zeros at its end."""
    return b"".join(entries) + END


def zstd(data):
    """Data as the zstd program packs it; skips the test where there is none."""
    if not shutil.which("zstd"):
        pytest.skip("zstd is not installed")
    return subprocess.run(["zstd", "-q", "-c"], input=data, stdout=subprocess.PIPE, check=True).stdout


# Layers that are to be unpacked as umoci does it: {what is odd: [tars, the lowest first]}. Each function
# takes base, the directory that holds the root and, beside it, what must not be touched: canary and dir.

def lower_layer(base):
    """A layer for others to change."""
    return tar(file("a", b"1"), file("d/x", b"2"), file("d/e/f", b"3"), symlink("l", "d"),
               symlink("out", base))


def names(base):
    """Names that are not simply relative paths."""
    oldest = [header(name, kind=b"\0", magic=V7) for name in ("d/", "v")]
    odd = [b"new\nline", b"tab\t", b"\xff\xfe", b"back\\slash", b"-rf", b" ", b"\x01\x7f", b"\xc3\xa9",
           b"...", b"..a"]
    return {
        "dots": [tar(file("./a/./b"), file("c//d"), file("e/../f"), directory("./"), directory("g/"),
                     file("h/i/../j"))],
        "parents": [tar(file("../up"), file("../../etc/x"), file("a/../../b"), symlink("../l", "x"))],
        "parents of the canary": [tar(file("../canary", b"new"), directory("../dir/", mode=0o700),
                                      file("../dir/canary"))],
        "absolute": [tar(file("/abs"), file("//abs2"), directory("/dir"), file("/dir/../../x"))],
        "absolute outside": [tar(file(base + "/canary", b"new"), directory(base + "/dir", mode=0o700))],
        "the root itself": [tar(*map(directory, ["..", "../", "/", ".", "./"]))],
        "odd characters": [tar(*map(file, odd))],
        "100 bytes and a prefix": [tar(file("n" * 100, b"x"), file("x" * 50, b"y", prefix=b"p" * 155),
                                       symlink("l", "t" * 100))],
        "255 bytes": [tar(gnu_long_name("n" * 255), file("n", b"x"))],
        "a directory in the oldest format": [tar(*oldest)],
        "a file whose name ends like a directory's": [tar(file("a/f/", b"1"), file("g"))],
        "one name several times": [tar(file("a", b"1"), file("a", b"2"), directory("d"), directory("d"))],
    }


def parents_that_are_links(base):
    """They are followed inside the root, and made where they lead to nothing."""
    return {
        "out": [tar(symlink("out", base), file("out/new", b"x"), directory("out/dir"), symlink("out/l", "t"),
                    file("out/canary", b"new"), fifo("out/pipe"), hardlink("out/hard", "out/new"))],
        "out by parents": [tar(symlink("out", ".."), file("out/new"), directory("out/dir", mode=0o700))],
        "out in an upper layer": [tar(symlink("out", base)), tar(file("out/new"), directory("out/dir/deep"))],
        "out by a chain": [tar(symlink("a", "b/.."), symlink("b", "../.."), file("a/canary", b"new"))],
        "out in the middle": [tar(symlink("x/y", base), file("x/y/dir/canary", b"new"))],
        "inside": [tar(file("usr/x"), symlink("lib", "usr")), tar(file("lib/y"), directory("lib/z"))],
        "inside, absolute": [tar(directory("run"), symlink("var/run", "/run"), file("var/run/x"))],
        "dangling": [tar(symlink("lib", "usr/lib"), file("lib/x", b"1"))],
        "dangling, absolute": [tar(symlink("var/run", "/run/deep"), file("var/run/x", b"1"))],
    }


def directories_that_become_links(base):
    """A directory that was entered is a link when it is entered again, or when modes and times are set."""
    lower = lower_layer(base)
    new = b"new"
    return {
        "the parent": [tar(file("x/f"), symlink("x", base), file("x/canary", new))],
        "its parent": [tar(file("x/dir/f"), symlink("x", base), file("x/dir/canary", new))],
        "a link changes": [tar(symlink("l", "t"), file("l/f"), symlink("l", base), file("l/canary", new))],
        "a link on the way changes": [tar(directory("t/dir"), symlink("l", "t"), file("l/dir/f"),
                                          symlink("l", ".."), file("l/dir/canary", new))],
        "hard link": [tar(symlink("s", base), file("x/f"), hardlink("x", "s"), file("x/canary", new))],
        "after a whiteout": [lower, tar(file("d/dir/g"), whiteout("d"), symlink("d", base),
                                        file("d/dir/canary"))],
        "time and mode": [tar(directory("x", mode=0o700), symlink("x", base + "/dir"))],
        "time and mode below": [tar(directory("x/dir", mode=0o700), symlink("x", base))],
        "time and mode, upper layer": [tar(directory("x/dir", mode=0o700)), tar(symlink("x", ".."))],
    }


def replacements(base):
    """An entry in place of another one: never followed, whatever that was."""
    lower = lower_layer(base)
    link_to_canary = symlink("t", base + "/canary")
    return {
        "file over link": [tar(link_to_canary, symlink("u", "../canary")), tar(file("t", b"1"), file("u"))],
        "file over link at once": [tar(link_to_canary, file("t", b"new"))],
        "directory over link": [lower, tar(directory("l"), file("l/y"))],
        "directory over link out": [lower, tar(directory("out"), file("out/canary", b"new"))],
        "link over link out": [lower, tar(symlink("out", "d"), file("out/new"))],
        "pipe over link": [lower, tar(fifo("l"), fifo("out"))],
        "file over directory": [lower, tar(file("d", b"new"))],
        "directory over file": [lower, tar(directory("a"), file("a/b"))],
        "link over directory": [lower, tar(symlink("d", "a"))],
        "directory over directory": [lower, tar(directory("d", mode=0o700), file("d/y"))],
        "types in turn": [tar(file("d/x"), file("d", b"1"), directory("d"), symlink("d", "q"), fifo("d"))],
    }


def hard_links(base):
    """They name a file of the tree as it is at that moment."""
    lower = lower_layer(base)
    two_names = tar(file("a", b"1"), hardlink("b", "a"))
    return {
        "several": [tar(file("a", b"1"), hardlink("b", "a"), hardlink("c", "/b"),
                        hardlink("d/f", "d/../../a"))],
        "to a lower file": [lower, tar(hardlink("b", "a")), tar(file("a", b"new"))],
        "over a file": [tar(file("a", b"1"), file("b", b"2"), hardlink("b", "a"))],
        "one of two names replaced": [two_names, tar(file("b", b"22")), tar(whiteout("a"))],
        "to a link out": [tar(symlink("l", base + "/canary"), hardlink("h", "l"))],
        "by a link inside": [lower, tar(hardlink("h", "l/x"), hardlink("l/i", "a"))],
    }


def whiteouts(base):
    """They remove what lower layers have, and nothing of their own layer."""
    lower = lower_layer(base)
    return {
        "of each type": [lower, tar(whiteout("a"), whiteout("d/e"), whiteout("l"), whiteout("out"))],
        "of a directory": [lower, tar(whiteout("d"))],
        "then the name": [lower, tar(whiteout("a"), file("a", b"new"), whiteout("d"), file("d/y"))],
        "the name, then": [lower, tar(file("a", b"new"), whiteout("a"), file("d/y"), whiteout("d"))],
        "of what is only here": [lower, tar(file("z", b"new"), whiteout("z"))],
        "of other types": [lower, tar(directory(".wh.d"), symlink(".wh.a", "x"))],
        "by a link inside": [lower, tar(whiteout("l/x"))],
        "by parents": [lower, tar(whiteout("../a"), whiteout("../../canary"))],
        "of all of two layers": [lower, tar(file("d/b")), tar(whiteout("d"))],
    }


def opaque_whiteouts(base):
    """They hide what lower layers have in a directory, wherever in their layer they stand."""
    lower = lower_layer(base)
    return {
        "first": [lower, tar(opaque("d"), file("d/y"), file("d/e/g"))],
        "last": [lower, tar(directory("d"), file("d/y"), file("d/e/g"), opaque("d"))],
        "between": [lower, tar(file("d/y"), opaque("d"), file("d/z"))],
        "the same name": [lower, tar(file("d/x", b"new"), opaque("d"))],
        "a new link to a lower file": [lower, tar(hardlink("d/y", "d/x"), opaque("d"))],
        "what came by a link": [lower, tar(file("l/y"), opaque("d"))],
        "what came by a link with dots": [lower, tar(symlink("m", "./d//"), file("m/y"), opaque("d"))],
        "below two directories": [tar(file("d/e/f/a"), file("d/e/g/a")),
                                  tar(file("d/e/f/b"), file("d/e/g/b"), opaque("d"))],
        "the root": [lower, tar(opaque(""), file("z"))],
        "the root, with a dot": [lower, tar(file("z"), opaque("."))],
        "by a link inside": [lower, tar(opaque("l"), file("l/y"))],
        "in a directory of another type": [lower, tar(directory("l"), opaque("l"), file("l/y"))],
        "only lower layers": [tar(file("d/a")), tar(file("d/b")), tar(opaque("d")), tar(file("d/c"))],
        "in two layers": [lower, tar(opaque("d"), file("d/y")), tar(file("d/z"), opaque("d"))],
    }


def formats(base):
    """What archivers write where the plain header does not suffice, and how they end."""
    attributes = [("SCHILY.xattr.user.x", b"\0\xff\n="), ("VENDOR.key", "x" * 2000), ("comment", "y")]
    numbers = dict(size=base_256(3, 12), mtime=base_256(2 ** 32, 12), mode=base_256(0o640, 8))
    return {
        "GNU long names": [tar(gnu_long_name("a/" * 80 + "x"), gnu_long_link("t" * 150), symlink("s", "t"),
                               file("z"))],
        "extended path, size, time": [tar(pax([("path", "p" * 120), ("size", "3"), ("mtime", "15.25")]),
                                          header("s") + padded(b"abc"), file("z", b"1"))],
        "extended link": [tar(pax([("linkpath", "\u00e9" * 90)]), symlink("l", "x"), file("z"))],
        "extended path that leads out": [tar(pax([("path", "../canary")]), file("s", b"new"))],
        "extended attributes": [tar(pax(attributes), file("s", b"x"))],
        "extended times": [tar(pax([("mtime", "-1.5"), ("atime", "1"), ("ctime", "2")]), file("s", b"x"))],
        "extended path of two lines": [tar(pax([("path", "a\n11 path=b\nc")]), file("s", b"x"))],
        "an empty value": [tar(pax([("path", "")]), file("s", b"x"))],
        "times in the place of a prefix": [tar(file("a", b"1", magic=GNU, prefix=2 * octal(MTIME, 12)))],
        "an extended header at the end": [tar(file("s"), pax([("path", "one")]))],
        "numbers to the base of 256": [tar(file("a", b"abc", uid=base_256(2 ** 31, 8), **numbers))],
        "a time before 1970": [tar(file("a", b"abc", mtime=base_256(-86400, 12)))],
        "numbers with spaces": [tar(file("a", b"abc", size=b"         3  ", mode=b"   640 \0"))],
        "numbers that fill the field": [tar(file("a", b"abc", size=b"000000000003", mtime=b"11145401322 "))],
        "sizes of what has no data": [tar(file("a", b"1"), hardlink("b", "a", size=5), directory("c", size=6),
                                          symlink("d", "x", size=7), file("e", b"2"))],
        "a sum of bytes with a sign": [tar(with_signed_sum(file(b"\x7f\x80\xe9", b"1")))],
        "no end": [file("a", b"1")],
        "half an end": [file("a", b"1") + bytes(BLOCK)],
        "an end right after the last byte": [header("a", size=3) + b"abc"],
        "something after the end": [tar(file("a", b"1")) + b"garbage" * 1000],
        "zeros after the end": [tar(file("a", b"1")) + bytes(100000)],
        "nothing": [b""],
        "nothing but the end": [tar()],
    }


ACCEPTED = (names, parents_that_are_links, directories_that_become_links, replacements, hard_links, whiteouts,
            opaque_whiteouts, formats)


# Layers of which the last is to be refused, in the same form

def impossible_names(base):
    """What cannot be a name or a link, or lead anywhere."""
    return {
        "the root is a file": [tar(file("/", b"x"))],
        "the root is a link": [tar(symlink("..", "x"))],
        "no name": [tar(file("", b"x"))],
        "256 bytes": [tar(gnu_long_name("n" * 256), file("n"))],
        "zero in a path": [tar(pax([("path", b"a\0b")]), file("s"))],
        "zero in the path of a file with holes": [tar(pax([("GNU.sparse.name", b"a\0b")]), file("s"))],
        "zero in a link": [tar(pax([("linkpath", b"a\0b")]), symlink("s", "t"))],
        "links in a circle": [tar(symlink("a", "b"), symlink("b", "a"), file("a/x"))],
        "links in a circle over layers": [tar(symlink("a", "b/c")), tar(symlink("b", "a"), file("b/x"))],
        "a link to itself": [tar(symlink("a", "a"), file("a/x"))],
        "a link without a target": [tar(symlink("a", ""))],
        "a target too long": [tar(gnu_long_link("t" * 5000), symlink("a", "t"))],
        "a parent that is a file": [tar(file("a", b"1"), file("a/b"))],
        "a parent that leads to a file": [tar(file("f", b"1"), symlink("l", "f"), file("l/x"))],
    }


def impossible_hard_links(base):
    """Hard links to what is no file of the tree."""
    return {
        "outside": [tar(hardlink("h", base + "/canary"))],
        "outside by parents": [tar(hardlink("h", "../canary"))],
        "outside by a link": [lower_layer(base), tar(hardlink("h", "out/canary"))],
        "outside by an extended header": [tar(pax([("linkpath", "../canary")]), hardlink("h", "x"))],
        "nothing": [tar(hardlink("h", "nothing"))],
        "a directory": [tar(directory("d"), hardlink("h", "d"))],
        "the root": [tar(hardlink("h", ".."))],
    }


def broken_headers(base):
    """Numbers, sums and records that are not what they should be."""
    good = file("good", b"1")
    return {
        "negative size": [tar(good, file("a", size=base_256(-1, 12)))],
        "negative size in octal": [tar(good, file("a", size=b"-0000000001\0"))],
        "size that is no number": [tar(good, file("a", size=b"0000000001x\0"))],
        "size of half the universe": [tar(good, file("a", size=base_256(2 ** 62, 12)))],
        "size beyond 64 bits": [tar(good, file("a", size=base_256(2 ** 80, 12)))],
        "size of 8 GiB": [tar(good, file("a", size=b"77777777777\0"))],
        "wrong checksum": [tar(good, file("a", checksum=b"000000\0 "))],
        "checksum that is no number": [tar(good, file("a", checksum=b"hello\0\0\0"))],
        "size with an underscore": [tar(good, file("a", size=b"00000_00003\0"))],
        "a record too long": [tar(raw_pax(b"99 path=x\n"), file("s"))],
        "a record without length": [tar(raw_pax(b"path=x\n"), file("s"))],
        "a record of length 0": [tar(raw_pax(b"0 path=x\n"), file("s"))],
        "a record of negative length": [tar(raw_pax(b"-1 path=x\n"), file("s"))],
        "a record without =": [tar(raw_pax(b"9 pathxx\n"), file("s"))],
        "extended size below 0": [tar(pax([("size", "-1")]), file("s"))],
        "extended size that is no number": [tar(pax([("size", "x")]), file("s"))],
        "extended size with an underscore": [tar(pax([("size", "1_0")]), file("s", b"x" * 10))],
        "extended size with a space": [tar(pax([("size", " 1")]), file("s", b"x"))],
        "extended size of half the universe": [tar(pax([("size", "%d" % 2 ** 62)]), file("s"))],
        "extended size beyond the end": [tar(pax([("size", "10000000")]), file("s"))],
        "an extended header of 8 GiB": [tar(raw_pax(b"", size=b"77777777777\0"), file("s"))],
        "a long name of 8 GiB": [tar(header("x", kind=b"L", magic=GNU, size=b"77777777777\0"), file("s"))],
    }


def broken_holes(base):
    """Files with holes that are described wrongly: their data must not reach into what follows."""
    def mapped(places, size="1004", data=b"data"):
        return tar(pax([("GNU.sparse.size", size), ("GNU.sparse.name", "s"), ("GNU.sparse.map", places)]),
                   file("x", data), file("after"))

    def counted(head):
        return tar(pax([("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0"), ("GNU.sparse.name", "s"),
                        ("GNU.sparse.realsize", "1004")]), file("x", padded(head) + b"data"), file("after"))

    return {
        "more than there is": [mapped("1000,600", size="2000")],
        "less than there is": [mapped("1000,2")],
        "beyond the end": [mapped("2000,4")],
        "a negative offset": [mapped("-4,4")],
        "a negative length": [mapped("1000,-4")],
        "one after the other, backwards": [mapped("1000,2,0,2")],
        "one over the other": [mapped("1000,2,1001,2")],
        "half a pair": [mapped("1000")],
        "no numbers": [mapped("a,b")],
        "a negative size": [mapped("0,4", size="-1")],
        "a size that is no number": [mapped("0,4", size="x")],
        "a size of half the universe": [mapped("0,4", size="%d" % 2 ** 62)],
        "a size beyond 64 bits": [mapped("0,4", size="%d" % 2 ** 80)],
        "many places, none of them there": [counted(b"999999999\n1000\n4\n")],
        "a number of places that is none": [counted(b"x\n1000\n4\n")],
        "a place that is no number": [counted(b"1\nx\n4\n")],
        "places without end": [counted(b"1")],
    }


def broken_ends(base):
    """Archives that stop in the middle, or never were any."""
    good = file("good", b"1")
    return {
        "half a header": [tar(good)[:200]],
        "half a second header": [good + header("b")[:100]],
        "half the data": [header("b", size=2000) + bytes(1000)],
        "no data": [header("b", size=2000)],
        "a block of zeros between entries": [good + bytes(BLOCK) + tar(good)],
        "half an extended header": [pax([("path", "x" * 1000)])[:600]],
        "half a long name": [good + gnu_long_name("n" * 200)[:600]],
        "half the data of a file with holes": [sparse_files("s", (1000, b"x" * 2000))["in the header"][:1024]],
        "half the places of a file with holes": [
            sparse_files("s", *((9 * number, b"x") for number in range(60)))["in the header"][:700]],
        "no tar at all": [b"<!DOCTYPE html>" + b"<p>" * 1000],
        "not even a block": [b"hello world"],
    }


REFUSED = (impossible_names, impossible_hard_links, broken_headers, broken_holes, broken_ends)
