"""What a site has already of an artifact: contents it knows, files it can link.

A file of an earlier tree is used when its digest and mode are those wanted: so the files of an
environment that hold its path, which is another one under each key, are never taken.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

from artifact import manifest as manifests
from artifact.archive import parallel
from artifact.archive.opening import Artifact
from artifact.archive.toc import Record, Toc
from artifact.archive.unpacking import is_needed
from artifact.errors import ArtifactRejected
from artifact.manifest import Manifest
from artifact.site import Site
from artifact.transfer import arrival

_TREES = 3
"""So many are looked into, the live release's first: contents of 17,000 files take 0.1 s each."""
_MOST_LINKS = 30_000
"""ext4 allows 65,000 of one file."""
_FILES_A_JOB = 200


class _Release(msgspec.Struct, frozen=True):
    """An unpacked release, as its own directory describes it."""

    directory: Path
    manifest: Manifest

    def listed(self, component: str) -> Path:
        """Return the file with the text of a component's table of contents."""
        return self.directory / ".artifact" / f"{component}.toc"

    def contents(self, component: str) -> bytes:
        try:
            return self.listed(component).read_bytes()
        except OSError:
            return b""

    def root(self, component: str, site: Site) -> Path:
        """Return the directory that a component's paths are relative to, less `virtualenv/`."""
        if component == "venv":
            return site.environment(self.manifest.environment.key)
        return self.directory


class _Candidate(NamedTuple):
    """A file that may be the one wanted."""

    record: Record
    path: str
    latest: int
    """No file of its tree was given a later time when it was unpacked; seconds since the epoch."""


def recall(artifact: Artifact, site: Site) -> None:
    """Tell an artifact which tables of contents the site has, so that none of them is fetched."""
    for name, path in recorded(artifact.manifest, site).items():
        artifact.recall(name, path)


def recorded(manifest: Manifest, site: Site) -> dict[str, Path]:
    """Return the files of earlier releases with the text of tables of contents, by component.

    That they should hold it is all that is known: nobody has read them.
    """
    wanted = {one.name: one.toc_sha256 for one in manifest.components}
    found: dict[str, Path] = {}
    for release in _releases(site):
        if release.manifest.version == manifest.version:
            continue  # it is about to be unpacked again, for something is wrong with it
        for component in release.manifest.components:
            path = release.listed(component.name)
            if wanted.get(component.name) == component.toc_sha256 and path.is_file():
                found[component.name] = path
                del wanted[component.name]
    return found


def reusable(artifact: Artifact, site: Site, names: Sequence[str]) -> dict[str, str]:
    """Return the files of components that the site has: path in the artifact to path on the disk.

    A file that nobody has written to since it was unpacked is believed to be what it was then; of
    any other, every byte was read and compared.
    """
    found: list[_Candidate] = []
    doubtful: list[_Candidate] = []
    usable = _Usable()
    for one in _found(artifact, site, names):
        if (verdict := usable.look(one)) != "no":
            (found if verdict == "yes" else doubtful).append(one)
    jobs = [doubtful[i : i + _FILES_A_JOB] for i in range(0, len(doubtful), _FILES_A_JOB)]
    with parallel.in_order(_intact, jobs) as intact:
        found += [one for several in intact for one in several]
    return {one.record.path: one.path for one in found}


def to_fetch(artifact: Artifact, site: Site, names: Sequence[str]) -> int:
    """Return how many bytes of components have to cross the network, if the site is as it says."""
    here = {one.record.path: one.path for one in _found(artifact, site, names)}
    return sum(missing(artifact.toc(name), here) for name in names)


def missing(toc: Toc, reused: Mapping[str, str]) -> int:
    """Return the bytes of a component's members that are needed beside what is reused."""
    return sum(
        member.length
        for group in toc.groups
        if is_needed(group, reused)
        for member in group.members
    )


def _releases(site: Site) -> list[_Release]:
    """Return the whole releases of a site: the live one, the one before, then the newest first."""
    try:
        entries = [entry for entry in os.scandir(site.releases) if not entry.is_symlink()]
        entries.sort(key=lambda entry: entry.stat().st_mtime_ns, reverse=True)
    except OSError:
        return []
    first = [link.resolve().name for link in (site.current, site.previous)]
    names = [entry.name for entry in entries]
    ordered = dict.fromkeys([*(name for name in first if name in names), *names])
    return list(_read(site.releases / name for name in ordered))


def _read(directories: Iterable[Path]) -> Iterator[_Release]:
    for directory in directories:
        try:
            content = (directory / ".artifact" / "manifest.json").read_bytes()
            yield _Release(directory, manifests.decode(content))
        except (OSError, ArtifactRejected):
            continue  # not whole: somebody deletes it, or did half


def _found(artifact: Artifact, site: Site, names: Sequence[str]) -> list[_Candidate]:
    """Return the candidates for components; looked up once, for an install asks twice."""
    download = arrival.behind(artifact)
    known = download.candidates if download else {}
    releases: list[_Release] | None = None
    for name in names:
        if name not in known:
            releases = _releases(site) if releases is None else releases
            known[name] = list(_candidates(artifact.toc(name), site, releases))
    return [_Candidate(*one) for name in names for one in known[name]]


def _candidates(toc: Toc, site: Site, releases: Sequence[_Release]) -> Iterator[_Candidate]:
    """Yield a file for each record that an earlier tree lists; nobody has looked at it."""
    wanted = [record for record in toc.records if record.size]
    digests = {record.sha256 for record in wanted}
    by_path: dict[tuple[str, str, int], tuple[str, int]] = {}
    by_content: dict[tuple[str, int], tuple[str, int]] = {}
    for root, contents, latest in _trees(toc.component.name, site, releases):
        for digest, mode, path in _files(contents):
            if digest in digests:
                full = f"{root}/{path.removeprefix('virtualenv/')}", latest
                by_path.setdefault((path, digest, mode), full)
                by_content.setdefault((digest, mode), full)
    for record in wanted:
        here = by_path.get((record.path, record.sha256, record.mode))
        here = here or by_content.get((record.sha256, record.mode))
        if here is not None:
            yield _Candidate(record, *here)


def _trees(
    component: str, site: Site, releases: Sequence[_Release]
) -> Iterator[tuple[Path, bytes, int]]:
    """Yield where an earlier tree is, what it lists, and the latest time a file of it was given."""
    seen: set[Path] = set()
    for release in releases:
        root = release.root(component, site)
        contents = release.contents(component)
        if root not in seen and contents:
            seen.add(root)
            latest = release.manifest.created
            if component == "venv":
                latest = release.manifest.component(component).mtime
            yield root.resolve(), contents, latest
        if len(seen) == _TREES:
            return


def _files(contents: bytes) -> Iterator[tuple[str, int, str]]:
    """Yield (digest, mode, path) of the files in a table of contents."""
    for line in contents.decode("utf-8", "replace").split("\n"):
        if line.startswith("f\t"):
            with suppress(ValueError):  # somebody cut or changed it: then it says less
                _, mode, _, digest, path = line.split("\t")
                yield digest, int(mode, 8), path


class _Usable:
    """Whether a file on the disk can stand for a record."""

    def __init__(self) -> None:
        self._uid = os.geteuid()
        self._real: dict[str, bool] = {}

    def look(self, one: _Candidate) -> Literal["no", "yes", "if read"]:
        """Tell whether it is the file that is wanted, or may be when its content is, too."""
        try:
            info = os.lstat(one.path)
            real = self._is_real(one.path.rpartition("/")[0])
        except OSError:
            return "no"
        fits = (
            stat.S_ISREG(info.st_mode)
            and info.st_size == one.record.size
            # What somebody may write to is no release's file: a link from it would change later.
            and not info.st_mode & 0o222
            and bool(info.st_mode & 0o100) == bool(one.record.mode & 0o100)
            and info.st_nlink < _MOST_LINKS
            and (self._uid in {0, info.st_uid})  # the kernel lets nobody else link it
            and real
        )
        if not fits:
            return "no"
        # It was verified when it was unpacked, and got the time of its commit, a whole second;
        # whoever writes to it later leaves a later one.
        untouched = info.st_mtime_ns <= one.latest * 10**9 and info.st_mtime_ns % 10**9 == 0
        return "yes" if untouched else "if read"

    def _is_real(self, directory: str) -> bool:
        """Tell whether no link stands in the way, which would lead out of the tree."""
        if directory not in self._real:
            above = directory.rpartition("/")[0]
            plain = stat.S_ISDIR(os.lstat(directory).st_mode)
            self._real[directory] = plain and (not above or self._is_real(above))
        return self._real[directory]


def _intact(candidates: Sequence[_Candidate]) -> list[_Candidate]:
    """Keep the files whose content is the one wanted."""
    return [one for one in candidates if _sha256(one.path) == one.record.sha256]


def _sha256(path: str) -> str:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with open(descriptor, "rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError:
        return ""
