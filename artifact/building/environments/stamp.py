"""The state of a finished environment's files, and what has changed since.

A stamp is one compact text of every path with its mode, size and modification time. Taking it
anew and comparing is one pass of `scandir`: 22,000 files in a tenth of a second.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from operator import attrgetter
from pathlib import Path
from typing import Literal

import msgspec

Kind = Literal["file", "directory", "link"]

_NAME = attrgetter("name")
_DIRECTORY = "40555"
# Not compared: who makes a file writable and writes shows in its size and time.
_WRITABLE = 0o222
_KINDS: dict[int, Kind] = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "link",
}
_MODES = {"directory": 0o755, "link": 0o777}


class Item(msgspec.Struct, frozen=True):
    """One path of a stamp."""

    path: str
    """Relative to the environment."""
    kind: Kind
    mode: int
    """As archives have it: 0644 or 0755 for files, 0755 for directories, 0777 for links."""
    size: int
    """Of a file; else 0."""


def take(root: Path, *, leaving_out: frozenset[str] = frozenset()) -> bytes:
    """Return the stamp of a tree.

    Args:
        leaving_out: names at the top of the tree that are no part of the stamp.

    Raises:
        OSError: something cannot be read, or vanished meanwhile.
    """
    lines: list[str] = []
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        _walk(descriptor, "", lines.append, leaving_out)
    finally:
        os.close(descriptor)
    return "".join(lines).encode("utf-8", "surrogateescape")


def _walk(
    directory: int, prefix: str, add: Callable[[str], None], leaving_out: frozenset[str]
) -> None:
    # Descriptors instead of paths: the kernel then looks up one name a file, not eight.
    with os.scandir(directory) as entries:
        # By name: the order in which a file system lists them is its own affair.
        listed = sorted(entries, key=_NAME)
    below: list[str] = []
    for entry in listed:
        if entry.is_dir(follow_symlinks=False):
            below.append(entry.name)
            continue
        if entry.name in leaving_out:
            continue
        status = entry.stat(follow_symlinks=False)
        mode = status.st_mode & ~_WRITABLE
        add(f"{mode:o} {status.st_size} {status.st_mtime_ns} {prefix}{entry.name}\0")
    for name in below:
        path = prefix + name
        add(f"{_DIRECTORY} 0 0 {path}\0")
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(name, flags, dir_fd=directory)
        try:
            _walk(descriptor, path + "/", add, frozenset())
        finally:
            os.close(descriptor)


def items(stamp: bytes) -> Iterator[Item]:
    """Return what a stamp lists, directories before what they hold."""
    for path, (mode, size, _mtime) in _by_path(stamp).items():
        bits = int(mode, 8)
        kind = _KINDS.get(stat.S_IFMT(bits))
        if kind is not None:
            archived = _MODES.get(kind) or (0o755 if bits & 0o100 else 0o644)
            yield Item(path, kind, archived, int(size) if kind == "file" else 0)


def differences(before: bytes, now: bytes) -> list[str]:
    """Return one sentence a path that differs: "lib/x.py was changed", "… was removed"."""
    if before == now:
        return []
    old, new = _by_path(before), _by_path(now)
    found = [f"{path} was removed" for path in old if path not in new]
    found += [f"{path} was added" for path in new if path not in old]
    found += [f"{path} was changed" for path, state in new.items() if old.get(path, state) != state]
    return sorted(found)


def _by_path(stamp: bytes) -> dict[str, tuple[str, str, str]]:
    found: dict[str, tuple[str, str, str]] = {}
    for line in stamp.decode("utf-8", "surrogateescape").split("\0")[:-1]:
        mode, size, mtime, path = line.split(" ", 3)
        found[path] = (mode, size, mtime)
    return found
