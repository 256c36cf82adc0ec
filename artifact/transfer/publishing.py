"""Puts an artifact into a store, once and for all: a version never changes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from artifact import steps
from artifact.archive.reader import Artifact
from artifact.errors import ArtifactError, ArtifactRejected, Refused
from artifact.manifest import Manifest
from artifact.stores import addresses
from artifact.stores.contract import COPIED, Found, Like, Store
from artifact.transfer import arrival

_CANDIDATES = 3
_DIGITS = re.compile(r"(\d+)")
_WORTH_BYTES = 1 << 20
"""Less in common is not worth the request that finds it out."""


@dataclass(frozen=True, slots=True)
class Published:
    """An artifact that is in the store now."""

    name: str
    """The object's."""
    digest: str
    size: int
    copied: int
    """Bytes that the store had already, in another artifact."""
    was_there: bool
    """The very same was put before."""


def publish(store: Store, artifact: Artifact, path: Path, tell: steps.Listener) -> Published:
    """Put an artifact's file into a store; the same artifact there already is success.

    Args:
        path: of the file that `artifact` was opened from.

    Raises:
        Refused: another artifact of that name and version is there.
    """
    name = addresses.artifact(artifact.manifest.name, artifact.manifest.version)
    there = store.stat(name)
    like = _like(store, artifact.manifest, name) if there is None else None
    copied = 0

    def heard(event: steps.Event) -> None:
        nonlocal copied
        if isinstance(event, steps.Progress) and event.label == COPIED:
            copied = event.done
        tell(event)

    if there is None and store.put_if_absent(name, path, tell=heard, like=like):
        return Published(name, artifact.digest, artifact.size, copied, was_there=False)
    _demand_same(store, artifact, name)
    return Published(name, artifact.digest, artifact.size, 0, was_there=True)


def versions(store: Store, name: str) -> list[tuple[str, Found]]:
    """Return the versions of an application in a store, as people count: 9, 10, 11."""
    found = [
        (version, one)
        for object_name, one in store.names(addresses.artifacts(name))
        if (version := addresses.version_of(name, object_name))
    ]
    return sorted(found, key=lambda one: _natural(one[0]))


def _natural(version: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in _DIGITS.split(version)]


def _like(store: Store, manifest: Manifest, name: str) -> Like | None:
    """Return the artifact in the store that has the most in common with this one's beginning.

    An upload without one is only slower, so nothing that goes wrong here matters.
    """
    best: Like | None = None
    try:
        for version, found in versions(store, manifest.name)[: -_CANDIDATES - 1 : -1]:
            other = addresses.artifact(manifest.name, version)
            if other == name:
                continue
            with arrival.opened(store, other) as artifact:
                common = _common(manifest, artifact.manifest)
            if common >= _WORTH_BYTES and (best is None or common > best.length):
                best = Like(other, common, found.etag)
    except ArtifactError:
        return best
    return best


def _common(one: Manifest, other: Manifest) -> int:
    """Return how many bytes two artifacts begin with alike.

    A table of contents has the digest of every member before it, so equal tables at equal places
    mean equal bytes.
    """
    common = 0
    for mine, theirs in zip(one.components, other.components, strict=False):
        if (mine.name, mine.data, mine.toc, mine.toc_sha256) != (
            theirs.name,
            theirs.data,
            theirs.toc,
            theirs.toc_sha256,
        ):
            break
        common = mine.toc.end
    return common


def _demand_same(store: Store, artifact: Artifact, name: str) -> None:
    try:
        with arrival.opened(store, name) as other:
            there = other.digest
    except ArtifactRejected as error:
        there = f"a damaged one ({error})"
    if there != artifact.digest:
        raise Refused(
            f"{store.address} has another {artifact.manifest.reference} already: {there}; "
            f"this one is {artifact.digest}",
            hint="a version is never replaced: build this one as another, `--version V`",
        )
