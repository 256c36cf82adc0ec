"""The layout of an artifact's bytes: its members, its footer, the limits a reader holds it to.

docs/format.md is the specification; this module is its constants.
"""

from __future__ import annotations

import struct
import zlib

import msgspec
from zlib_ng import zlib_ng

from artifact import manifest
from artifact.archive import tar
from artifact.errors import ArtifactRejected
from artifact.site import ENVIRONMENT_DIRECTORY, MANIFEST, PRIVATE_DIRECTORY, contents_name

ENVIRONMENT_COMPONENT = "venv"
COMPONENTS = (ENVIRONMENT_COMPONENT, "assets", "code")
"""In the order they have in the file: what changes least comes first."""

ENVIRONMENT_PREFIX = f"{ENVIRONMENT_DIRECTORY}/"
"""All paths of the environment's component begin so, and no other component's."""
MANIFEST_PATH = f"{PRIVATE_DIRECTORY}/{MANIFEST}"
SIGNATURE_PATH = f"{PRIVATE_DIRECTORY}/manifest.sig"

ENTRY_MTIME = 315532800
"""1980-01-01, the time of all entries: a component's bytes are a function of its tree alone, so
what two releases have in common is the same bytes, which a store need not be sent again."""

GROUP_BYTES = 256 * 1024
"""Raw size a group of entries does not pass: +0.45 % over one stream (64 KiB: +2 %)."""
PIECE_BYTES = 4 * 1024 * 1024
"""A larger file is cut into pieces of this raw size, a member each."""

# What a reader accepts; a hostile file could otherwise make it fill the memory.
LARGEST_MEMBER = PIECE_BYTES + 64 * 1024
LARGEST_TOC = 128 * 1024 * 1024
LARGEST_MANIFEST = 16 * 1024 * 1024
LARGEST_SIGNATURE = 64 * 1024
LATEST = 8**11 - 1
"""The last time a tar header can hold, in seconds since the epoch."""

MEMBER_HEADER = bytes.fromhex("1f8b08000000000000ff")
"""The ten bytes every member begins with: deflate, no flags, no time, no name, unknown system."""
_EMPTY_DEFLATE = b"\x03\x00"
_STORED_BYTES = 65535

_FOOTER = struct.Struct("<10s H 2s H H Q Q 32s 2s Q")
FOOTER_BYTES = _FOOTER.size
_FOOTER_HEADER = bytes.fromhex("1f8b08040000000000ff")  # as a member's, with FEXTRA
_SUBFIELD = b"AR"
_PAYLOAD_BYTES = 50


class Footer(msgspec.Struct, frozen=True):
    """The last bytes of an artifact: an empty gzip member that says where the manifest is."""

    offset: int
    """Of the manifest's member, from the start of the file."""
    length: int
    sha256: bytes
    """Of manifest.json."""


def encode_footer(footer: Footer) -> bytes:
    """Return the footer's bytes."""
    return _FOOTER.pack(
        _FOOTER_HEADER,
        _PAYLOAD_BYTES + 4,
        _SUBFIELD,
        _PAYLOAD_BYTES,
        manifest.FORMAT,
        footer.offset,
        footer.length,
        footer.sha256,
        _EMPTY_DEFLATE,
        0,
    )


def decode_footer(data: bytes) -> Footer:
    """Return the footer.

    Raises:
        ArtifactRejected: these bytes are not one, or are of a later format.
    """
    if len(data) != FOOTER_BYTES:
        raise ArtifactRejected("has no footer")
    _, _, _, _, version, offset, length, sha256, _, _ = _FOOTER.unpack(data)
    footer = Footer(offset, length, sha256)
    expected = bytearray(encode_footer(footer))
    expected[16:18] = data[16:18]
    if bytes(expected) != data:
        raise ArtifactRejected("has no footer")
    manifest.check_format(version)
    return footer


def bytes_behind_footer(tail: bytes) -> int:
    """Return how many bytes follow the last footer in the end of a file; 0 when there is none."""
    found = tail.rfind(_FOOTER_HEADER + struct.pack("<H2s", _PAYLOAD_BYTES + 4, _SUBFIELD))
    return max(0, len(tail) - found - FOOTER_BYTES) if found >= 0 else 0


def stored_member(content: bytes) -> bytes:
    """Return a gzip member that holds content as it is, in stored blocks as large as they can be.

    There is one way to write it, so a reader that builds it again has accounted for every byte,
    and reads the manifest without inflating anything.
    """
    blocks = [content[i : i + _STORED_BYTES] for i in range(0, len(content), _STORED_BYTES)]
    last = len(blocks) - 1
    body = b"".join(
        struct.pack("<BHH", i == last, len(block), len(block) ^ 0xFFFF) + block
        for i, block in enumerate(blocks)
    )
    return MEMBER_HEADER + body + struct.pack("<II", zlib.crc32(content), len(content))


def stored_content(member: bytes) -> bytes:
    """Return what a member written by `stored_member` holds.

    Raises:
        ArtifactRejected: it is not exactly such a member.
    """
    pieces = []
    at = len(MEMBER_HEADER)
    final = 0
    while not final and at + 5 <= len(member):
        final, length, _ = struct.unpack_from("<BHH", member, at)
        pieces.append(member[at + 5 : at + 5 + length])
        at += 5 + length
    content = b"".join(pieces)
    if stored_member(content) != member:
        raise ArtifactRejected("its manifest's member is damaged")
    return content


def inflate(member: bytes, raw: int) -> bytes:
    """Return the `raw` bytes one gzip member holds; never allocates more.

    Not libdeflate, though it is a little faster: only zlib's interface says where the stream
    ended, and a second member hidden in the range would show to `tar` and not to us. zlib-ng takes
    half the time of zlib.

    Raises:
        ArtifactRejected: it holds more or less, is damaged, or something follows it.
    """
    if member[: len(MEMBER_HEADER)] != MEMBER_HEADER:
        raise ArtifactRejected("a member does not begin as one")
    stream = zlib_ng.decompressobj(31)
    try:
        content = stream.decompress(member, raw + 1)
    except zlib_ng.error as error:  # type: ignore[misc]  # its stubs say it is an instance
        raise ArtifactRejected(f"a member cannot be inflated ({error})") from error
    if len(content) > raw:
        raise ArtifactRejected(f"a member holds more than the {raw} bytes it should")
    if not stream.eof:
        raise ArtifactRejected("a member ends too early")
    if len(content) < raw:
        raise ArtifactRejected(f"a member holds {len(content)} bytes, not {raw}")
    if stream.unused_data:
        raise ArtifactRejected(f"{len(stream.unused_data)} bytes follow a member")
    return content


def entry(path: str, content: bytes, mtime: int) -> bytes:
    """Return one of the tool's own files as a tar entry."""
    blocks = tar.header(tar.FILE, path, 0o644, len(content), mtime)
    return blocks + content + bytes(tar.padding(len(content)))


def toc_path(component: str) -> str:
    """Return where a component's table of contents stands in the tar."""
    return f"{PRIVATE_DIRECTORY}/{contents_name(component)}"
