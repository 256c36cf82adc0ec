"""Compare what is on the disk with what an artifact's table of contents says of it."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterator
from pathlib import Path

from artifact import files
from artifact.archive.format import ENVIRONMENT_PREFIX
from artifact.archive.toc import Record, Toc
from artifact.site import ENVIRONMENT_DIRECTORY


def difference(
    root: Path,
    tocs: Collection[Toc],
    *,
    besides: Collection[str] = (),
    time: int | None = None,
    read: bool = False,
) -> str:
    """Return the first thing in which a tree differs from its contents; "" when it is the same.

    A file that has the size and the time it was unpacked with counts as the same; any other is read
    and hashed. So an unpacked tree costs an lstat a file, and one compiled here is read once.

    Args:
        besides: paths in the tree that no table of contents lists; all below them is left out too.
        time: what its files were given when they were unpacked, in seconds since the epoch; that
            of their tar entries when left out.
        read: read and hash every file, whatever its time is.
    """
    expected: dict[str, tuple[Record, int]] = {}
    for toc in tocs:
        for record in toc.records:
            mtime = toc.component.mtime if time is None else time
            expected[record.path.removeprefix(ENVIRONMENT_PREFIX)] = (record, mtime)
    expected.pop(ENVIRONMENT_DIRECTORY, None)  # it is the root
    for path, entry in _walk(str(root), frozenset(besides)):
        found = expected.pop(path, None)
        if found is None and "__pycache__" in path.split("/"):
            # Python wrote it, as root may even where nobody should; it is checked when read.
            continue
        if found is None:
            return f"{path} is not part of it"
        fault = _fault(entry, *found, read=read)
        if fault:
            return f"{path} {fault}"
    missing = next(iter(expected), None)
    return f"{missing} is missing" if missing is not None else ""


def _walk(root: str, besides: frozenset[str]) -> Iterator[tuple[str, os.DirEntry[str]]]:
    pending = [""]
    while pending:
        parent = pending.pop()
        with os.scandir(f"{root}/{parent}") as entries:  # 3,000 directories: no Path for each
            for entry in entries:
                path = f"{parent}/{entry.name}" if parent else entry.name
                if path in besides:
                    continue
                yield path, entry
                if entry.is_dir(follow_symlinks=False):
                    pending.append(path)


def _fault(entry: os.DirEntry[str], record: Record, mtime: int, *, read: bool) -> str:
    info = entry.stat(follow_symlinks=False)
    if record.kind == "directory":
        return "" if stat.S_ISDIR(info.st_mode) else "is not a directory"
    if record.kind == "link":
        same = stat.S_ISLNK(info.st_mode) and os.readlink(entry.path) == record.target
        return "" if same else f"is not a link to {record.target}"
    if not stat.S_ISREG(info.st_mode):
        return "is not a file"
    if info.st_size != record.size:
        return f"has {info.st_size} bytes, not {record.size}"
    if bool(info.st_mode & 0o100) != bool(record.mode & 0o100):
        return "is executable" if info.st_mode & 0o100 else "is not executable"
    if info.st_mtime_ns == mtime * 10**9 and not read:
        return ""
    return "" if files.sha256(entry.path) == record.sha256 else "has another content"
