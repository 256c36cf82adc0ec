"""What asset steps wrote, kept on the build machine under the digest of what they read.

<cache>/assets/<digest>/files/…          at their paths in a release, read-only
<cache>/assets/<digest>/outputs.json     what they are; written last within the directory
<cache>/assets/<digest>.log              what the step printed
<cache>/assets/<digest>.lock             two jobs that need the same outputs meet here
<cache>/assets/work-<digest>/            the copy of the source a step runs in, while it runs
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from artifact import files
from artifact.archive import toc
from artifact.building.caches import Caches
from artifact.errors import BuildFailed, Locked

KEPT_DAYS = 30
_DAY_SECONDS = 86_400
_FILES = "files"
GATHERED = ".artifact-outputs"
"""Where the outputs are gathered in the directory that a step worked in."""
_LIST = "outputs.json"
_COMPONENT = "assets"


class Output(msgspec.Struct, frozen=True, kw_only=True):
    """A file or symlink a step wrote."""

    path: str
    kind: toc.Kind
    mode: int
    target: str = ""
    size: int = 0
    sha256: str = ""


class Outputs(msgspec.Struct, frozen=True):
    """All that one step wrote."""

    directory: Path
    """Holds them at their paths in a release."""
    files: tuple[Output, ...]


def load(caches: Caches, digest: str) -> Outputs | None:
    """Return what a step wrote for these inputs, or None when that is not whole on this machine."""
    directory = caches.assets / digest
    try:
        listed = msgspec.json.decode((directory / _LIST).read_bytes(), type=tuple[Output, ...])
        for output in listed:
            facts = os.lstat(f"{directory}/{_FILES}/{output.path}")
            if output.kind == "file" and facts.st_size != output.size:
                return None
    except (OSError, msgspec.MsgspecError):
        return None
    with contextlib.suppress(OSError):  # another user's, in a cache that is shared
        os.utime(directory)  # pruning goes by the last use
    return Outputs(directory / _FILES, listed)


def publish(caches: Caches, digest: str, work: Path, paths: Iterable[str]) -> Outputs:
    """Move what a step wrote from its copy of the source to where `load` finds it.

    What no build has used for a month goes meanwhile.

    Raises:
        BuildFailed: one of them cannot be part of an artifact.
    """
    final = caches.assets / digest
    # A crash from here on leaves work-…, which the next run of this step begins by removing.
    beside = work / GATHERED
    (beside / _FILES).mkdir(parents=True)
    listed = tuple(_take(work, path, beside / _FILES) for path in sorted(paths))
    (beside / _LIST).write_bytes(msgspec.json.encode(listed))
    files.remove_tree(final)
    # Renamed before it is read-only: a directory one cannot write in cannot change its parent.
    beside.rename(final)
    files.make_read_only(final)
    prune(caches)
    return Outputs(final / _FILES, listed)


@contextmanager
def workplace(caches: Caches, digest: str, *, doing: str, wait: float) -> Iterator[Path]:
    """Hold the lock of a digest and an empty private directory; the directory goes afterwards.

    The directory's name follows from the digest, so that a path a step writes into its outputs is
    the same in every build on this machine.

    Raises:
        Locked: another job works on the same for longer than `wait` seconds.
        BuildFailed: the cache cannot be written.
    """
    try:
        caches.assets.mkdir(parents=True, exist_ok=True)
        with files.locked(caches.assets / f"{digest}.lock", doing=doing, wait=wait):
            work = caches.assets.resolve() / f"work-{digest[:32]}"
            files.remove_tree(work)
            work.mkdir(mode=0o700)
            try:
                yield work
            finally:
                files.remove_tree(work)
    except OSError as error:
        name = error.filename or caches.assets
        raise BuildFailed(
            f"{doing}: {name}: {error.strerror}",
            hint=f"make room or give permission in {caches.assets}, or set ARTIFACT_CACHE",
        ) from error


def log_path(caches: Caches, digest: str) -> Path:
    """Return where the output of a step's run is kept."""
    return caches.assets / f"{digest}.log"


def prune(caches: Caches, *, days: float = KEPT_DAYS) -> None:
    """Remove what no build has used for so many days, and what killed builds left."""
    with contextlib.suppress(OSError):
        for entry in list(os.scandir(caches.assets)):
            with contextlib.suppress(OSError, Locked):
                _prune(caches, entry, days)


def _prune(caches: Caches, entry: os.DirEntry[str], days: float) -> None:
    age = time.time() - entry.stat(follow_symlinks=False).st_mtime
    left_over = entry.name.startswith(("work-", ".removing-"))
    if age < (1 if left_over else days) * _DAY_SECONDS:
        return
    if left_over and any(
        files.lock_holder(lock) is not None
        for lock in caches.assets.glob(f"{entry.name.removeprefix('work-')}*.lock")
    ):
        return  # a step that has been running for more than a day
    files.remove_tree(Path(entry.path))


def _take(work: Path, path: str, to: Path) -> Output:
    source, destination = work / path, to / path
    _refuse(path, toc.path_fault(_COMPONENT, path), "its name")
    facts = source.lstat()
    destination.parent.mkdir(parents=True, exist_ok=True)
    if stat.S_ISLNK(facts.st_mode):
        target = os.readlink(source)
        _refuse(path, toc.link_fault(_COMPONENT, path, target), f"it points at {target!r}, which")
        destination.symlink_to(target)
        return Output(path=path, kind="link", mode=0o777, target=target)
    if not stat.S_ISREG(facts.st_mode):
        _refuse(path, "is neither a file nor a symlink", "it")
    if facts.st_nlink > 1:
        # pnpm and others link from a store of theirs: that must not become ours, and read-only.
        shutil.copyfile(source, destination)
    else:
        source.rename(destination)
    mode = 0o755 if facts.st_mode & stat.S_IXUSR else 0o644
    destination.chmod(mode)
    digest = files.sha256(destination)
    return Output(path=path, kind="file", mode=mode, size=facts.st_size, sha256=digest)


def _refuse(path: str, fault: str | None, subject: str) -> None:
    if fault is not None:
        raise BuildFailed(
            f"{path!r} was written by an asset step but cannot be packed: {subject} {fault}",
            hint="narrow the step's outputs, or have it write something else",
        )
