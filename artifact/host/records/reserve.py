"""Keep a little of the disk back, so that a rollback and a prune work when the disk is full.

Both only delete files and move links, but they write first: the journal, the state and what a
process became. A disk is seldom filled by artifacts: logs and uploads do that.
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


def maintain(site: Site) -> None:
    """Free the reserve when the disk is full, and make it when there is room.

    The caller holds the site's lock. What the disk refuses here is no fault: without a reserve
    everything works as long as there is room.
    """
    with suppress(OSError):
        disk = os.statvfs(site.private)
        free = disk.f_bavail * disk.f_frsize
        # Some file systems make inodes as they need them and say 0.
        if free < _BYTES or (disk.f_files and disk.f_favail < _INODES):
            site.reserve.unlink(missing_ok=True)
        elif free >= 4 * _BYTES and not _is_whole(site.reserve):
            _make(site.reserve)


def _is_whole(path: Path) -> bool:
    try:
        return path.lstat().st_blocks * 512 >= _BYTES
    except FileNotFoundError:
        return False


def _make(path: Path) -> None:
    # It is not written beside and not made durable: nobody reads it, a short one is made again.
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        os.posix_fallocate(descriptor, 0, _BYTES)
    finally:
        os.close(descriptor)
