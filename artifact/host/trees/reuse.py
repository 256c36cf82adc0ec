"""What a site has already of an artifact: tables of contents it knows, files it can link.

A file of an earlier tree is used when its digest and mode are those wanted: so the files of an
environment that hold its path, which is another one under each key, are never taken.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

from artifact import files, steps
from artifact.archive import parallel
from artifact.archive.format import ENVIRONMENT_COMPONENT, ENVIRONMENT_PREFIX
from artifact.archive.opening import Artifact
from artifact.archive.toc import Record, Toc
from artifact.archive.unpacking import is_needed
from artifact.errors import Refused
from artifact.host.records import releases
from artifact.host.records.releases import Release
from artifact.manifest import Manifest
from artifact.site import ReleasePaths, Site
from artifact.transfer import remote
from artifact.transfer.download import Download

_TREES = 3
"""So many are looked into, the live release's first: contents of 17,000 files take 0.1 s each."""
_MOST_LINKS = 30_000
"""ext4 allows 65,000 of one file."""
_FILES_A_JOB = 200


class _Candidate(NamedTuple):
    """A file that may be the one wanted."""

    record: Record
    path: str
    latest: int
    """No file of its tree was given a later time when it was unpacked; seconds since the epoch."""


class Reusable(msgspec.Struct, frozen=True):
    """What the site has of components that are about to be unpacked."""

    files: Mapping[str, str]
    """To link: path in the artifact to path on the disk."""
    tell: steps.Listener
    note: str
    """For the end of the step: "312.0 MB, 5.6 of 118.2 MB fetched"."""


def recall(artifact: Artifact, site: Site) -> None:
    """Take tables of contents from the site, so that none that is there is fetched."""
    if remote.download_of(artifact) is not None:
        for name, path in recorded_contents(artifact.manifest, site).items():
            artifact.recall(name, path)


def recorded_contents(manifest: Manifest, site: Site) -> dict[str, Path]:
    """Return the files of earlier releases with the text of tables of contents, by component.

    A file should hold the text that the manifest names; nobody has read it.
    """
    wanted = {one.name: one.toc_sha256 for one in manifest.components}
    found: dict[str, Path] = {}
    for release in _releases(site):
        if release.manifest.version == manifest.version:
            continue  # it is about to be unpacked again, for something is wrong with it
        for component in release.manifest.components:
            path = ReleasePaths(release.directory).contents(component.name)
            if wanted.get(component.name) == component.toc_sha256 and path.is_file():
                found[component.name] = path
                del wanted[component.name]
    return found


def find(artifact: Artifact, site: Site, names: Sequence[str], tell: steps.Listener) -> Reusable:
    """Find the files of components that can be linked; a file at hand is unpacked as it is.

    A file that nobody has written to since it was unpacked is believed to be what it was then.
    Every byte of any other file is read and compared.
    """
    note = _megabytes(sum(artifact.manifest.component(name).raw for name in names))
    download = remote.download_of(artifact)
    if download is None:
        return Reusable({}, tell, note)
    found: list[_Candidate] = []
    doubtful: list[_Candidate] = []
    usable = _Usable()
    for one in _candidates(download, artifact, site, names):
        if (verdict := usable.judge(one)) != "no":
            (found if verdict == "yes" else doubtful).append(one)
    jobs = [doubtful[i : i + _FILES_A_JOB] for i in range(0, len(doubtful), _FILES_A_JOB)]
    with parallel.in_order(_intact, jobs) as intact:
        found += [one for several in intact for one in several]
    reused = {one.record.path: one.path for one in found}
    fetched = _bytes_beside(artifact, names, reused)
    return Reusable(
        reused, download.telling(tell), f"{note}, {_part(fetched, artifact, names)} fetched"
    )


def to_fetch(artifact: Artifact, site: Site, names: Sequence[str]) -> Mapping[str, int]:
    """Return the bytes of each component that have to be fetched, if the site is as it says.

    Nothing has to be for a file at hand.
    """
    download = remote.download_of(artifact)
    if download is None:
        return {}
    found = {one.record.path: one.path for one in _candidates(download, artifact, site, names)}
    return {name: _bytes_beside(artifact, (name,), found) for name in names}


def announced(artifact: Artifact, fetch: Mapping[str, int], names: Sequence[str]) -> str:
    """Return ", 5.6 of 118.2 MB to fetch" for a plan; "" for a file at hand."""
    known = [fetch[name] for name in names if name in fetch]
    return f", {_part(sum(known), artifact, names)} to fetch" if known else ""


def _part(count: int, artifact: Artifact, names: Sequence[str]) -> str:
    whole = sum(artifact.manifest.component(name).data.length for name in names)
    return f"{count / 1e6:.1f} of {_megabytes(whole)}"


def _megabytes(count: int) -> str:
    return f"{count / 1e6:.1f} MB"


def _bytes_beside(artifact: Artifact, names: Sequence[str], reused: Mapping[str, str]) -> int:
    """Return the bytes of the components' members that are needed beside what is reused."""
    return sum(
        member.length
        for name in names
        for group in artifact.toc(name).groups
        if is_needed(group, reused)
        for member in group.members
    )


def _releases(site: Site) -> Iterator[Release]:
    """Yield the whole releases of a site: the live one, the one before, then the newest first."""
    try:
        entries = [entry for entry in os.scandir(site.releases) if not entry.is_symlink()]
        entries.sort(key=lambda entry: entry.stat().st_mtime_ns, reverse=True)
    except OSError:
        return
    names = [entry.name for entry in entries]
    first = [releases.live_version(site), releases.previous_version(site)]
    for name in dict.fromkeys([*(name for name in first if name in names), *names]):
        with suppress(Refused):  # not whole: somebody deletes it, or did half
            yield releases.read(site, name)


def _candidates(
    download: Download, artifact: Artifact, site: Site, names: Sequence[str]
) -> list[_Candidate]:
    """Return a file for each record of components that an earlier tree lists; none is looked at.

    They are remembered with the download, for an install asks twice.
    """
    known = download.candidates
    there = list(_releases(site)) if any(name not in known for name in names) else []
    for name in names:
        if name not in known:
            known[name] = list(_listed(artifact.toc(name), there))
    return [_Candidate(*one) for name in names for one in known[name]]


def _listed(toc: Toc, there: Sequence[Release]) -> Iterator[_Candidate]:
    wanted = [record for record in toc.records if record.size]
    digests = {record.sha256 for record in wanted}
    by_path: dict[tuple[str, str, int], tuple[str, int]] = {}
    by_content: dict[tuple[str, int], tuple[str, int]] = {}
    for root, contents, latest in _trees(toc.component.name, there):
        for digest, mode, path in _files(contents):
            if digest in digests:
                full = f"{root}/{path.removeprefix(ENVIRONMENT_PREFIX)}", latest
                by_path.setdefault((path, digest, mode), full)
                by_content.setdefault((digest, mode), full)
    for record in wanted:
        here = by_path.get((record.path, record.sha256, record.mode))
        here = here or by_content.get((record.sha256, record.mode))
        if here is not None:
            yield _Candidate(record, *here)


def _trees(component: str, there: Sequence[Release]) -> Iterator[tuple[Path, bytes, int]]:
    """Yield where an earlier tree is, what it lists, and the latest time a file of it was given."""
    seen: set[Path] = set()
    for release in there:
        of_environment = component == ENVIRONMENT_COMPONENT
        root = release.environment if of_environment else release.directory
        listed = ReleasePaths(release.directory).contents(component)
        try:
            contents = b"" if root in seen else listed.read_bytes()
        except OSError:
            continue
        if contents:
            seen.add(root)
            manifest = release.manifest
            if of_environment:
                yield root, contents, manifest.component(component).mtime
            else:
                yield root, contents, manifest.created
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

    def judge(self, one: _Candidate) -> Literal["no", "yes", "if read"]:
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
    return [one for one in candidates if _is_intact(one)]


def _is_intact(one: _Candidate) -> bool:
    try:
        return files.sha256(one.path) == one.record.sha256
    except OSError:
        return False
