"""A component that was packed: its members in a file of their own, with its facts at the end.

The facts come last and the file is renamed into place, so that a file under its own name is a
whole one; a length that does not fit shows one that was cut or grown later.
"""

from __future__ import annotations

import hashlib
import os
import struct
from pathlib import Path
from typing import IO

import deflate
import msgspec

from artifact.archive import format as layout
from artifact.manifest import Codec, Component, Range

_TRAILER = struct.Struct("<Q8s")
_MAGIC = b"ARPACK1\n"


class _Facts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: str
    mtime: int
    codec: Codec
    data: int
    """Bytes of the data's members."""
    toc: int
    """Bytes of the table of contents' member, which follows."""
    toc_sha256: str
    tree: str
    """Digest of the entries: equal trees have equal ones, whatever the codec."""
    entries: int
    raw: int
    """Bytes of all files."""
    interpreters: tuple[str, ...]
    """Absolute link targets; the manifest's `python.interpreter` has to be the only one."""


class Packed(_Facts, frozen=True, kw_only=True):
    """A packed component."""

    path: Path
    """The file: the data's members, the member of the table of contents, then these facts."""

    def component(self, offset: int) -> Component:
        """Return what a manifest says of it when its data begins at `offset`."""
        return Component(
            name=self.name,
            tree=self.tree,
            entries=self.entries,
            raw=self.raw,
            mtime=self.mtime,
            data=Range(offset=offset, length=self.data),
            toc=Range(offset=offset + self.data, length=self.toc),
            toc_sha256=self.toc_sha256,
        )


def codec(level: int) -> Codec:
    """Return the codec packs are written with; another version may write other bytes."""
    return Codec(name="libdeflate", version=deflate.__version__, level=level)


def write_facts(packed: Packed, stream: IO[bytes]) -> None:
    """End a pack."""
    facts = msgspec.json.encode({name: getattr(packed, name) for name in _Facts.__struct_fields__})
    stream.write(facts + _TRAILER.pack(len(facts), _MAGIC))


def load_packed(path: Path, *, codec: Codec | None = None) -> Packed | None:
    """Return a component packed earlier, or None: not there, incomplete, or of another codec.

    Args:
        codec: the one a new pack would be written with (`codec(level)`); with it the bytes are
            those of an uncached build.
    """
    try:
        with path.open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            stream.seek(size - _TRAILER.size)
            length, magic = _TRAILER.unpack(stream.read())
            if magic != _MAGIC:
                return None
            stream.seek(size - _TRAILER.size - length)
            facts = msgspec.json.decode(stream.read(length), type=_Facts)
            stream.seek(facts.data)
            member = stream.read(facts.toc)
    except (OSError, ValueError, struct.error, msgspec.MsgspecError):
        return None
    whole = facts.data + facts.toc + length + _TRAILER.size == size
    intact = hashlib.sha256(member).hexdigest() == facts.toc_sha256
    if not (whole and intact) or facts.name not in layout.COMPONENTS:
        return None
    if codec is not None and codec != facts.codec:
        return None
    return Packed(path=path, **{name: getattr(facts, name) for name in _Facts.__struct_fields__})
