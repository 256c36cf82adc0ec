"""A sparse file that holds what was fetched of an artifact, each byte at its own offset.

It needs no record of what has arrived: a member is in it when its digest is that of the table of
contents. So a later run uses what a killed run or a power cut left, as far as that is whole.
"""

from __future__ import annotations

import errno
import hashlib
import os
import tempfile
from contextlib import suppress
from pathlib import Path

import msgspec

from artifact import files
from artifact.archive.toc import Member

_FLAGS = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW


class Spool(msgspec.Struct, frozen=True):
    """An open file; the caller closes it."""

    descriptor: int
    path: Path | None
    """None: it has no name and is gone when it is closed."""

    def holds(self, member: Member) -> bool:
        """Tell whether a member is here, whole and right."""
        try:
            # A hole needs not be read to know that it is none.
            if os.lseek(self.descriptor, member.offset, os.SEEK_DATA) != member.offset:
                return False
            content = os.pread(self.descriptor, member.length, member.offset)
        except OSError as error:
            if error.errno == errno.ENXIO:  # behind the end
                return False
            raise
        return hashlib.sha256(content).hexdigest() == member.sha256

    def read(self, offset: int, length: int) -> bytes:
        """Return bytes that have arrived; fewer where somebody cut the file."""
        data = b""
        while len(data) < length:
            more = os.pread(self.descriptor, length - len(data), offset + len(data))
            if not more:
                break
            data = data + more if data else more
        return data

    def remove(self) -> None:
        """Delete the file; what is open stays readable."""
        if self.path is not None:
            with suppress(OSError):
                self.path.unlink(missing_ok=True)

    def close(self) -> None:
        os.close(self.descriptor)


def write(descriptor: int, offset: int, chunk: bytes | memoryview) -> None:
    """Put bytes at their offset."""
    left = memoryview(chunk)
    while left:
        count = os.pwrite(descriptor, left, offset)
        offset += count
        left = left[count:]


def open_spool(directory: Path | None, name: str) -> Spool:
    """Open the spool of an artifact, with what an earlier run left in it.

    Spools of other artifacts in the directory are deleted. Nobody goes on with them, for the caller
    holds the site's lock.

    Args:
        directory: it is made where it is missing; None: a file without a name among the temporary
            ones.
        name: what tells the artifact from every other, its digest.

    Raises:
        Refused: the disk says no.
    """
    where = directory or Path(tempfile.gettempdir())
    with files.disk_errors(f"nothing can be fetched into {where}", where):
        if directory is None:
            descriptor, path = tempfile.mkstemp(prefix="artifact-")
            os.unlink(path)
            return Spool(descriptor, None)
        directory.mkdir(mode=0o700, exist_ok=True)
        for other in directory.iterdir():
            if other.name != name:
                files.remove_tree(other)
        return Spool(os.open(directory / name, _FLAGS, 0o600), directory / name)
