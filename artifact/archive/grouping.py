"""What is to be packed and how it falls into groups: decided from names and sizes alone."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from artifact.archive import format as layout
from artifact.archive import tar, toc
from artifact.errors import BuildFailed


class Entry(msgspec.Struct, frozen=True):
    """Something to pack."""

    path: str
    """In the artifact: relative, with slashes."""
    kind: toc.Kind
    mode: int = 0o644
    """Of a file: only whether anybody may execute it is kept."""
    target: str = ""
    """Of a link."""
    source: str | Path | None = None
    """Of a file: where its content is. A str is cheaper than a Path when there are thousands."""


class Sized(NamedTuple):
    """An entry with its header and the size its file has to keep until it was read."""

    record: toc.Record
    """Its sha256 is not known yet."""
    source: str | Path
    header: bytes


def measure(component: str, entries: Iterable[Entry]) -> list[tuple[Entry, int]]:
    """Return the entries in byte order of their paths, each with the bytes of its file.

    Missing directories above the entries are added, so that each component can be unpacked alone.

    Raises:
        BuildFailed: a name cannot be packed, or a file is not there or not a file.
    """
    return [(entry, _size(entry)) for entry in _ordered(component, entries)]


def groups(
    component: str, measured: Iterable[tuple[Entry, int]], mtime: int
) -> Iterator[list[Sized]]:
    """Yield the groups of a component, each to become one member; a large file stands alone.

    Raises:
        BuildFailed: a link leaves the component.
    """
    group: list[Sized] = []
    raw = 0
    for entry, size in measured:
        sized = _sized(component, entry, size, mtime)
        takes = len(sized.header) + size + tar.padding(size)
        if group and raw + takes > layout.GROUP_BYTES:
            yield group
            group, raw = [], 0
        group.append(sized)
        raw += takes
    if group:
        yield group


def is_large(group: Sequence[Sized]) -> bool:
    """Tell whether a group is one file that is cut into pieces."""
    return group[0].record.size > layout.PIECE_BYTES


def _ordered(component: str, entries: Iterable[Entry]) -> list[Entry]:
    """Return the entries in byte order of their paths, with the directories above them."""
    found: dict[str, Entry] = {}
    for entry in entries:
        fault = toc.path_fault(component, entry.path)
        if fault:
            raise BuildFailed(
                f"{_shown(entry)} cannot be packed: its name {fault}",
                hint="rename it, or leave it out: .artifactignore or [source] exclude",
            )
        known = found.get(entry.path)
        if known is not None and not known.kind == entry.kind == "directory":
            raise BuildFailed(f"{_shown(entry)} would be packed twice in {component}")
        found[entry.path] = entry
    for path in list(found):
        above = path.rpartition("/")[0]
        while above and above not in found:
            found[above] = Entry(above, "directory")
            above = above.rpartition("/")[0]
        if above and found[above].kind != "directory":
            raise BuildFailed(
                f"{path!r} cannot be packed below {above!r}, which is a {found[above].kind}"
            )
    # Code points sort as their UTF-8 does.
    return sorted(found.values(), key=lambda entry: entry.path)


def _sized(component: str, entry: Entry, size: int, mtime: int) -> Sized:
    mode = 0o755
    if entry.kind == "file":
        mode = 0o755 if entry.mode & 0o111 else 0o644
    elif entry.kind == "link":
        mode = 0o777
        fault = toc.link_fault(component, entry.path, entry.target)
        if fault:
            raise BuildFailed(
                f"the link {entry.path!r} cannot be packed: its target {entry.target!r} {fault}",
                hint="point it at something inside, copy the file, or leave the link out: "
                ".artifactignore or [source] exclude",
            )
    record = toc.Record(entry.kind, mode, size, "", entry.path, entry.target)
    header = tar.header(toc.TAR_KIND[entry.kind], entry.path, mode, size, mtime, entry.target)
    return Sized(record, entry.source or "", header)


def _size(entry: Entry) -> int:
    if entry.kind != "file":
        return 0
    try:
        status = os.lstat(entry.source or "")
    except OSError as error:
        raise unreadable(entry.source or entry.path, error) from error
    if not stat.S_ISREG(status.st_mode):
        raise BuildFailed(f"{entry.source} cannot be packed: it is not a regular file")
    if status.st_size > tar.LARGEST_FILE:
        raise BuildFailed(
            f"{entry.source} cannot be packed: {status.st_size} bytes are more than the "
            f"{tar.LARGEST_FILE} a tar entry can have",
            hint="keep data of this size out of the artifact, for instance in the site's shared/",
        )
    return status.st_size


def unreadable(source: str | Path, error: OSError) -> BuildFailed:
    """Return the error for a source that cannot be read."""
    return BuildFailed(
        f"{source} cannot be packed: {error.strerror}",
        hint="the build reads every file it packs: give its user the right, or leave the file out",
    )


def _shown(entry: Entry) -> str:
    return ascii(entry.path) if not entry.path.isprintable() else repr(entry.path)
