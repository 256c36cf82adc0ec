"""A reader of artifacts written from docs/format.md alone, in the standard library: proof that it
can be. It shares no line with the product, and checks what the page says a reader must."""

from __future__ import annotations

import hashlib
import json
import os
import struct
import zlib
from pathlib import Path
from typing import Any

MEMBER = bytes.fromhex("1f8b08000000000000ff")


def header(
    kind: bytes, name: bytes, mode: int, size: int, mtime: int, target: bytes = b""
) -> bytes:
    """Return the blocks before an entry's content."""
    prefix, pax, full = b"", b"", name
    if len(name) > 100:
        cut = name.find(b"/", len(name) - 101)
        if 0 < cut <= 155 and cut + 1 < len(name):
            prefix, name = name[:cut], name[cut + 1 :]
        else:
            pax = _pax(b"path", full)
    if len(target) > 100:
        pax += _pax(b"linkpath", target)
    block = struct.pack(
        "100s8s8s8s12s12s8sc100s8s32s32s8s8s155s12x",
        *(name, b"%07o" % mode, b"0" * 7, b"0" * 7, b"%011o" % size, b"%011o" % mtime),
        *(b" " * 8, kind, target, b"ustar\x0000", b"", b"", b"0" * 7, b"0" * 7, prefix),
    )
    block = block[:148] + b"%06o\0 " % sum(block) + block[156:]
    if not pax:
        return block
    return header(b"x", b"././@PaxHeader", 0o644, len(pax), mtime) + pad(pax) + block


def _pax(key: bytes, value: bytes) -> bytes:
    length = len(key) + len(value) + 4
    while len(b"%d" % length) + len(key) + len(value) + 3 != length:
        length += 1
    return b"%d %s=%s\n" % (length, key, value)


def pad(content: bytes) -> bytes:
    """Return content padded to whole blocks."""
    return content + bytes(-len(content) % 512)


def read_manifest(data: bytes) -> tuple[dict[str, Any], bytes]:
    """Return the manifest and its bytes."""
    footer = data[-76:]
    assert footer[:18] == bytes.fromhex("1f8b08040000000000ff") + b"\x36\0AR\x32\0\x01\0"
    assert footer[66:] == b"\x03\0" + bytes(8)
    offset, length, digest = struct.unpack("<QQ32s", footer[18:66])
    assert offset + length + 76 == len(data)
    member, stream, at, last = data[offset : offset + length], b"", 10, 0
    while not last:
        last, count, complement = struct.unpack_from("<BHH", member, at)
        assert count == complement ^ 0xFFFF
        stream += member[at + 5 : at + 5 + count]
        at += 5 + count
    assert member[:10] == MEMBER
    assert member[at:] == struct.pack("<II", zlib.crc32(stream), len(stream))
    content = stream[512 : 512 + int(stream[124:135], 8)]
    assert hashlib.sha256(content).digest() == digest
    return json.loads(content), content


def inflate(member: bytes) -> bytes:
    """Return what exactly one member holds."""
    stream = zlib.decompressobj(31)
    raw = stream.decompress(member)
    assert member[:10] == MEMBER
    assert stream.eof
    assert not stream.unused_data
    return raw


def extract(path: Path, destination: Path) -> None:
    """Unpack all components."""
    data = path.read_bytes()
    manifest, _ = read_manifest(data)
    links = []
    for component in manifest["components"]:
        toc = component["toc"]
        member = data[toc["offset"] : toc["offset"] + toc["length"]]
        assert hashlib.sha256(member).hexdigest() == component["toc-sha256"]
        raw = inflate(member)
        lines = raw[512 : 512 + int(raw[124:135], 8)].decode().splitlines()
        entries = "".join(line + "\n" for line in lines if line[0] != "g")
        assert hashlib.sha256(entries.encode()).hexdigest() == component["tree"]
        at, stream = component["data"]["offset"], b""
        for line in lines:
            if line[0] == "g":
                _, compressed, size, digest = line.split("\t")
                member = data[at : at + int(compressed)]
                assert hashlib.sha256(member).hexdigest() == digest
                at += int(compressed)
                stream += inflate(member)
                assert int(size) <= len(stream)
        assert at == toc["offset"]
        for line in lines:
            if line[0] == "g":
                continue
            letter, mode, size, digest, name, target = (line + "\t").split("\t")[:6]
            kind = {"f": b"0", "l": b"2", "d": b"5"}[letter]
            stored = name.encode() + (b"/" if letter == "d" else b"")
            blocks = header(
                kind, stored, int(mode, 8), int(size), component["mtime"], target.encode()
            )
            assert stream.startswith(blocks)
            content = stream[len(blocks) : len(blocks) + int(size)]
            stream = stream[len(blocks) + len(pad(content)) :]
            place = destination / name
            if letter == "d":
                place.mkdir(exist_ok=True)
            elif letter == "l":
                links.append((place, target))
            else:
                assert hashlib.sha256(content).hexdigest() == digest
                place.write_bytes(content)
                place.chmod(int(mode, 8))
        assert stream == b""
    for place, target in links:
        os.symlink(target, place)
