"""Tar headers, built one way only: a reader builds them again and compares byte for byte.

POSIX ustar (IEEE Std 1003.1, pax utility); a PAX record only where a name does not fit. Owners are
zero and nameless, so that nothing of the build machine is in an archive.
"""

from __future__ import annotations

import zlib

BLOCK = 512
END = bytes(2 * BLOCK)
"""What ends a tar: two empty blocks."""

FILE = b"0"
LINK = b"2"
DIRECTORY = b"5"
_PAX = b"x"

NAME_BYTES = 100
_PREFIX_BYTES = 155
LARGEST_FILE = 8**11 - 1
"""Bytes; the size field holds eleven octal digits."""

_OWNER = b"0000000\0" * 2
_NO_CHECKSUM = b" " * 8
# magic and version, user and group name, major and minor device number
_MAGIC = b"ustar\x0000" + bytes(64) + b"0000000\0" * 2


def padding(size: int) -> int:
    """Return how many zero bytes follow content of `size` bytes."""
    return -size % BLOCK


def header(kind: bytes, path: str, mode: int, size: int, mtime: int, target: str = "") -> bytes:
    """Return the blocks that precede an entry's content: one, or three and more for long names.

    Args:
        path: as listed; a directory's gets its slash here.
        size: bytes of content; 0 for directories and links.
        mtime: seconds since the epoch.
    """
    name = path.encode() + (b"/" if kind == DIRECTORY else b"")
    link = target.encode()
    prefix = b""
    records = b""
    if len(name) > NAME_BYTES:
        parts = _split(name)
        if parts is None:
            records = _record(b"path", name)
            name = name[:NAME_BYTES]
        else:
            prefix, name = parts
    if len(link) > NAME_BYTES:
        records += _record(b"linkpath", link)
        link = link[:NAME_BYTES]
    block = _block(kind, name, prefix, mode, size, mtime, link)
    if not records:
        return block
    before = _block(_PAX, b"././@PaxHeader", b"", 0o644, len(records), mtime, b"")
    return before + records + bytes(padding(len(records))) + block


def _split(name: bytes) -> tuple[bytes, bytes] | None:
    """Cut a long name at the first slash that leaves a rest of at most 100 bytes, if one does."""
    slash = name.find(b"/", len(name) - NAME_BYTES - 1)
    if slash <= 0 or slash > _PREFIX_BYTES or slash == len(name) - 1:
        return None
    return name[:slash], name[slash + 1 :]


def _record(key: bytes, value: bytes) -> bytes:
    """Return a PAX record: its own length in decimal, then `key=value`."""
    rest = len(key) + len(value) + 3
    length = rest + len(str(rest))
    if len(str(length)) != len(str(rest)):
        length += 1
    return b"%d %s=%s\n" % (length, key, value)


def _block(
    kind: bytes, name: bytes, prefix: bytes, mode: int, size: int, mtime: int, link: bytes
) -> bytes:
    front = b"%s%07o\0%s%011o\0%011o\0" % (name.ljust(100, b"\0"), mode, _OWNER, size, mtime)
    back = b"%s%s%s%s" % (kind, link.ljust(100, b"\0"), _MAGIC, prefix.ljust(167, b"\0"))
    return b"%s%06o\0 %s" % (front, _sum(front) + _sum(_NO_CHECKSUM) + _sum(back), back)


def _sum(data: bytes) -> int:
    """Return the sum of the bytes, at a tenth of the cost of `sum`: a header is built per entry.

    The lower half of Adler-32 is one more than the sum modulo 65521 (RFC 1950, 9). Half a header
    never comes to that: of its 356 bytes 255 at most are names, and no byte of UTF-8 is above 244.
    """
    return (zlib.adler32(data) & 0xFFFF) - 1
