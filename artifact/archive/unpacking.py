"""Unpacks components of an artifact into a new directory, and checks every byte of it."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import NamedTuple

from artifact import files, steps
from artifact.archive import parallel
from artifact.archive.checking import Pieces, check_group
from artifact.archive.opening import Artifact, naming
from artifact.archive.toc import Group, Record, Toc

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_OPEN_DIRECTORIES = 100
_GROUPS_A_JOB = 16
_PIECE_BYTES = 1 << 20


def extract(
    artifact: Artifact,
    components: Sequence[str],
    destination: Path,
    *,
    strip: str = "",
    read_only: bool = False,
    growing: bool = False,
    time: int | None = None,
    reused: Mapping[str, str] | None = None,
    tell: steps.Listener = steps.nobody,
    threads: int | None = None,
) -> None:
    """Unpack components into `destination`, which must not exist, and make it durable.

    Only its owner can enter it until it is whole, and it is removed when anything is wrong. Modes
    are 0644 and 0755, whatever the umask.

    Args:
        strip: what to take from the front of every path: "virtualenv/" for the environment.
        read_only: 0444 and 0555 instead. `destination` itself stays 0755, for only so its owner
            can rename it to another directory.
        growing: the caller adds to the tree and makes it durable: directories stay writable.
        time: of the files, in seconds since the epoch; that of the tar entries when left out.
        reused: files that are here already, path in the artifact to path on the disk, whose
            content and mode the caller has compared: they are linked, and members that hold
            nothing else are not read.
        threads: Default: one for each available processor, at most 8.

    Raises:
        ArtifactRejected: a byte of what was read is wrong, or a rule of docs/format.md is broken.
        Refused: the destination exists, or the disk says no.
    """
    tocs = artifact.tocs(components)
    with disk_errors(artifact, destination), _removed_on_error(destination):
        with naming(artifact.name):
            plan = _plan(tocs, strip, reused or {}, time, read_only=read_only)
            with closing(_Directories(destination)) as directories:
                _fill(artifact, plan, directories, destination, tell, threads)
                for path in reversed(plan.directories):
                    mode = 0o555 if read_only and not growing else 0o755
                    os.fchmod(directories.open(path), mode)
                os.fchmod(directories.open(""), 0o755)
        if not growing:
            files.sync_filesystem(destination)


@contextmanager
def _removed_on_error(directory: Path) -> Iterator[None]:
    """Make a directory for the block, and remove it when the block fails."""
    directory.mkdir(0o700)
    try:
        yield
    except BaseException:
        # What cannot be removed must not hide why: the caller's staging area is cleaned later too.
        with contextlib.suppress(OSError):
            files.remove_tree(directory)
        raise


def disk_errors(artifact: Artifact, destination: Path) -> AbstractContextManager[None]:
    """Turn what the disk says to an unpacked file into `Refused`."""
    what = f"{artifact.name} cannot be unpacked to {destination}"
    return files.disk_errors(what, destination.parent)


def is_needed(group: Group, reused: Mapping[str, str]) -> bool:
    """Tell whether a group has to be read: where nothing is reused, each is, for its headers."""
    return not reused or any(record.size and record.path not in reused for record in group.records)


class _Plan(NamedTuple):
    """What is to be made, without the prefix."""

    strip: int
    """Letters to take from every path."""
    read_only: int
    """Mode bits to leave out."""
    directories: tuple[str, ...]
    links: tuple[Record, ...]
    groups: tuple[tuple[Group, int], ...]
    """With the time of their tar entries."""
    raw: int
    reused: Mapping[str, str]
    time: int | None
    """Of the files on the disk, where it is another."""


def _plan(
    tocs: Sequence[Toc],
    strip: str,
    reused: Mapping[str, str],
    time: int | None,
    *,
    read_only: bool,
) -> _Plan:
    top = strip.rstrip("/")
    records = [record for toc in tocs for record in toc.records if record.path != top]
    outside = [record.path for record in records if not record.path.startswith(strip)]
    if outside:
        raise ValueError(f"{outside[0]!r} does not begin with {strip!r}")
    return _Plan(
        len(strip),
        0o222 if read_only else 0,
        tuple(sorted({r.path[len(strip) :] for r in records if r.kind == "directory"})),
        tuple(record for record in records if record.kind == "link"),
        tuple((group, toc.component.mtime) for toc in tocs for group in toc.groups),
        sum(toc.component.raw for toc in tocs),
        reused,
        time,
    )


def _fill(
    artifact: Artifact,
    plan: _Plan,
    directories: _Directories,
    destination: Path,
    tell: steps.Listener,
    threads: int | None,
) -> None:
    for path in plan.directories:
        parent, name = directories.above(path)
        os.mkdir(name, 0o700, dir_fd=parent)
    read = [one for one in plan.groups if is_needed(one[0], plan.reused)]
    linked = [one for one in plan.groups if not is_needed(one[0], plan.reused)]
    members = [member for group, _ in read for member in group.members]
    jobs = [read[first : first + _GROUPS_A_JOB] for first in range(0, len(read), _GROUPS_A_JOB)]
    done = 0

    def unpack(job: Sequence[tuple[Group, int]]) -> int:
        with closing(_Directories(destination)) as own:
            return sum(_unpack(artifact, plan, group, mtime, own) for group, mtime in job)

    def finished(size: int) -> None:
        nonlocal done
        done += size
        tell(steps.Progress("unpacking", done, plan.raw))

    with artifact.expecting(members):
        # Here, while the rest is fetched: a link costs less than to hand the interpreter's lock on.
        for group, mtime in linked:
            finished(_unpack(artifact, plan, group, mtime, directories))
        with parallel.in_order(unpack, jobs, threads) as unpacked:
            for size in unpacked:
                finished(size)
    # Links come last: nothing was written through one.
    for record in plan.links:
        parent, name = directories.above(record.path[plan.strip :])
        os.symlink(record.target, name, dir_fd=parent)


def _unpack(
    artifact: Artifact, plan: _Plan, group: Group, mtime: int, directories: _Directories
) -> int:
    time = mtime if plan.time is None else plan.time

    def create(record: Record, pieces: Pieces) -> None:
        parent, name = directories.above(record.path[plan.strip :])
        here = plan.reused.get(record.path)
        if here is not None and _linked(here, name, parent):
            return
        mode = record.mode & ~plan.read_only
        descriptor = os.open(name, _NEW_FILE, mode, dir_fd=parent)
        try:
            for piece in pieces:
                _write(descriptor, piece)
            os.fchmod(descriptor, mode)  # the umask may have taken from it
            os.utime(descriptor, (time, time))
        finally:
            os.close(descriptor)

    if is_needed(group, plan.reused):
        check_group(artifact, group, mtime, create)
    else:
        for record in group.records:
            if record.kind == "file":
                here = plan.reused.get(record.path)
                create(record, _content(here) if here is not None else ())
    return sum(record.size for record in group.records)


def _linked(here: str, name: str, parent: int) -> bool:
    """Make a hard link; tell whether the file system, its owner and its count allow that."""
    try:
        os.link(here, name, dst_dir_fd=parent, follow_symlinks=False)
    except OSError as error:
        if error.errno in {errno.EMLINK, errno.EPERM, errno.EXDEV, errno.EOPNOTSUPP}:
            return False
        raise
    return True


def _content(path: str) -> Iterator[bytes]:
    with open(path, "rb") as stream:
        while piece := stream.read(_PIECE_BYTES):
            yield piece


def _write(descriptor: int, piece: bytes | memoryview) -> None:
    while piece:
        piece = piece[os.write(descriptor, piece) :]


class _Directories:
    """Descriptors of the directories below one; a bounded number stays open."""

    def __init__(self, root: Path) -> None:
        self._root = os.open(root, _DIRECTORY)
        self._open: dict[str, int] = {}

    def open(self, path: str) -> int:
        """Return a descriptor of a directory, good until the next call; "" is the root."""
        if not path:
            return self._root
        known = self._open.get(path)
        if known is not None:
            return known
        parent, name = self.above(path)
        descriptor = os.open(name, _DIRECTORY, dir_fd=parent)
        if len(self._open) >= _OPEN_DIRECTORIES:
            self._forget()
        self._open[path] = descriptor
        return descriptor

    def above(self, path: str) -> tuple[int, str]:
        """Return the descriptor of the directory a path is in, and its name there."""
        parent, _, name = path.rpartition("/")
        return self.open(parent), name

    def close(self) -> None:
        self._forget()
        os.close(self._root)

    def _forget(self) -> None:
        for descriptor in self._open.values():
            os.close(descriptor)
        self._open.clear()
