"""The hashed static files of every release that is kept, reachable together in `<site>/static/`.

A page that a visitor opened before a switch goes on asking for the files it was written with. They
are hard links: they cost no space, and the link count shows which of them no release has any more.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from artifact import files
from artifact.errors import Refused
from artifact.host.records import history, releases
from artifact.manifest import Manifest
from artifact.site import HASHED_NAME, Site

_HASHED = re.compile(HASHED_NAME)
# Another file system; files that are not ours to link (fs.protected_hardlinks); too many links.
_UNLINKABLE = frozenset({errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP})


class Linked(msgspec.Struct, frozen=True):
    """What linking a release's static files did."""

    added: tuple[str, ...]
    """Paths below `static/`."""
    there: int
    """How many had been there already."""
    taken: tuple[str, ...]
    """Names under which another release has other content; theirs stays."""


def link(site: Site, manifest: Manifest) -> Linked:
    """Add the hashed static files of a release that is in the site; nothing served changes.

    Raises:
        OSError: the disk says no; what was added is taken away again.
    """
    added: list[str] = []
    taken: list[str] = []
    there = 0
    try:
        for path, source in _hashed(site, manifest):
            at = site.static / path
            if not at.exists():
                at.parent.mkdir(parents=True, exist_ok=True)
                added.append(path)
                _place(source, at)
            elif _same(source, at):
                there += 1
            else:
                taken.append(path)
        if added:
            files.sync_filesystem(site.static)
    except BaseException:
        unlink(site, added)
        raise
    return Linked(tuple(added), there, tuple(taken))


def unlink(site: Site, paths: list[str] | tuple[str, ...]) -> None:
    """Take files away again that `link` has added."""
    for path in paths:
        at = site.static / path
        at.unlink(missing_ok=True)
        _remove_empty(at.parent, site.static)


def sweep(site: Site) -> int:
    """Delete the hashed files that no release has any more, and return how many.

    Files with other names are somebody else's and stay.
    """
    deleted = 0
    owner = _finder(site)
    for parent, _, names in os.walk(site.static, topdown=False):
        for name in names:
            at = Path(parent, name)
            if name.startswith(".") and name.endswith(".new"):
                at.unlink(missing_ok=True)  # of a run that was killed
            elif _HASHED.search(name) and at.lstat().st_nlink == 1:
                deleted += not _adopted(at, owner(str(at.relative_to(site.static))))
        if Path(parent) != site.static:
            _remove_empty(Path(parent), site.static)
    return deleted


def _adopted(at: Path, source: Path | None) -> bool:
    """Link a file to another release that has it, now that its own is gone; else delete it."""
    if source is None:
        at.unlink(missing_ok=True)
        return False
    beside = _beside(at)
    if _linked(source, beside):
        beside.replace(at)
    return True  # else it stays the copy that it is


def _finder(site: Site) -> Callable[[str], Path | None]:
    """Return a function that finds a static file in the releases, in the live one first."""
    directories: list[Path] = []

    def find(path: str) -> Path | None:
        if not directories:
            live = releases.live_version(site)
            versions = sorted(history.versions_on_disk(site), key=lambda version: version != live)
            directories.extend(_directories(site, versions))
        return next((one / path for one in directories if (one / path).is_file()), None)

    return find


def _directories(site: Site, versions: list[str]) -> Iterator[Path]:
    for version in versions:
        try:
            described = releases.read(site, version).manifest
        except Refused:
            continue
        if described.static:
            yield site.release(version) / described.static


def _hashed(site: Site, manifest: Manifest) -> Iterator[tuple[str, Path]]:
    """Yield the hashed files of a release: path below its static directory, and where it is."""
    if not manifest.static:
        return
    top = site.release(manifest.version) / manifest.static
    for parent, _, names in os.walk(top):
        for name in sorted(names):
            source = Path(parent, name)
            if _HASHED.search(name) and source.is_file() and not source.is_symlink():
                yield str(source.relative_to(top)), source


def _place(source: Path, at: Path) -> None:
    if not _linked(source, at):
        beside = _beside(at)
        shutil.copyfile(source, beside)
        beside.replace(at)


def _linked(source: Path, at: Path) -> bool:
    """Make a hard link; tell whether the file system, the owner and the count allow that."""
    try:
        os.link(source, at)
    except OSError as error:
        if error.errno not in _UNLINKABLE:
            raise
        return False
    return True


def _beside(at: Path) -> Path:
    return at.with_name(f".{at.name}.{os.getpid()}.new")


def _same(one: Path, other: Path) -> bool:
    first, second = one.stat(), other.stat()
    if (first.st_dev, first.st_ino) == (second.st_dev, second.st_ino):
        return True
    return first.st_size == second.st_size and one.read_bytes() == other.read_bytes()


def _remove_empty(directory: Path, top: Path) -> None:
    while directory != top:
        try:
            directory.rmdir()
        except OSError:  # not empty, or gone
            return
        directory = directory.parent
