"""Keep a little of the disk back, so that a site can go back and prune when the disk is full.

Both only delete and point elsewhere, but say so first: the journal, the state and what a process
became have to be written. Whatever filled the disk, artifacts seldom: logs and uploads do.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from artifact.site import Site

_BYTES = 1 << 20
"""A rollback writes less than a tenth of that."""
_INODES = 8
"""As many files as are written beside before they are renamed, and a few more."""


def tend(site: Site) -> None:
    """Give the reserve up where the disk is full, and lay it in where it is not.

    The caller holds the site's lock. Without a reserve everything works as long as there is room:
    what the disk says to this is no fault.
    """
    with suppress(OSError):
        disk = os.statvfs(site.private)
        free = disk.f_bavail * disk.f_frsize
        # Some file systems make inodes as they need them and say 0.
        if free < _BYTES or (disk.f_files and disk.f_favail < _INODES):
            site.reserve.unlink(missing_ok=True)
        elif free >= 4 * _BYTES and not _is_whole(site.reserve):
            _lay_in(site.reserve)


def _is_whole(path: Path) -> bool:
    try:
        return path.lstat().st_blocks * 512 >= _BYTES
    except FileNotFoundError:
        return False


def _lay_in(path: Path) -> None:
    # Nobody reads it, and a short one is laid in again: it is not written beside, nor made durable.
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        os.posix_fallocate(descriptor, 0, _BYTES)
    finally:
        os.close(descriptor)
