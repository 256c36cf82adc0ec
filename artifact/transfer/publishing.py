"""Puts an artifact into a store, once and for all: a version never changes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

from artifact import steps, stores
from artifact.archive.opening import Artifact
from artifact.archive.toc import Member, Toc
from artifact.errors import ArtifactError, ArtifactRejected, Refused
from artifact.manifest import Component
from artifact.stores import addresses
from artifact.stores.contract import COPIED, SharedRange, SimilarObject, Store
from artifact.transfer import remote

_CANDIDATES = 3
_WORTH_BYTES = 1 << 20
"""Less in common is not worth the requests that find it out and use it."""


class Published(msgspec.Struct, frozen=True):
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
    like = _like(store, artifact, name) if there is None else None
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


def _like(store: Store, artifact: Artifact, name: str) -> SimilarObject | None:
    """Return the artifact in the store that has the most in common with this one.

    An upload without one is only slower, so nothing that goes wrong here matters.
    """
    best: SimilarObject | None = None
    try:
        there = stores.versions(store, artifact.manifest.name)
        for version, found in there[: -_CANDIDATES - 1 : -1]:
            other = addresses.artifact(artifact.manifest.name, version)
            if other == name:
                continue
            with remote.open_artifact(store, other) as opened:
                like = SimilarObject(other, found.etag, tuple(_common(artifact, opened)))
            if like.length >= _WORTH_BYTES and (best is None or like.length > best.length):
                best = like
    except ArtifactError:
        return best
    return best


def _common(one: Artifact, other: Artifact) -> Iterator[SharedRange]:
    """Yield the bytes that two artifacts have in common, in the order they have in the first."""
    start = source = length = 0
    for mine in one.manifest.components:
        for run in _common_members(one, other, mine):
            if (run.start, run.source) == (start + length, source + length):
                length += run.length
                continue
            if length:
                yield SharedRange(start, length, source)
            start, source, length = run.start, run.source, run.length
    if length:
        yield SharedRange(start, length, source)


def _common_members(one: Artifact, other: Artifact, mine: Component) -> Iterator[SharedRange]:
    """Yield what a component has of the other's: all of it, or members one by one.

    A table of contents has the digest of every member, so equal tables mean equal bytes.
    """
    try:
        theirs = other.manifest.component(mine.name)
    except KeyError:
        return
    if (mine.toc_sha256, mine.data.length) == (theirs.toc_sha256, theirs.data.length):
        yield SharedRange(mine.data.offset, mine.toc.end - mine.data.offset, theirs.data.offset)
        return
    if theirs.data.length < _WORTH_BYTES:
        return
    there = {(one.sha256, one.length): one.offset for one in _members(other.toc(mine.name))}
    for member in _members(one.toc(mine.name)):
        source = there.get((member.sha256, member.length))
        if source is not None:
            yield SharedRange(member.offset, member.length, source)


def _members(toc: Toc) -> Iterator[Member]:
    return (member for group in toc.groups for member in group.members)


def _demand_same(store: Store, artifact: Artifact, name: str) -> None:
    try:
        with remote.open_artifact(store, name) as other:
            there = other.digest
    except ArtifactRejected as error:
        there = f"a damaged one ({error})"
    if there != artifact.digest:
        raise Refused(
            f"{store.address} has another {artifact.manifest.reference} already: {there}; "
            f"this one is {artifact.digest}",
            hint="a version is never replaced: build this one as another, `--version V`",
        )
