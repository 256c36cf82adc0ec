"""Which artifacts of a store may go: never what a channel points to, never the newest ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import msgspec

from artifact import steps, stores
from artifact.errors import ArtifactRejected
from artifact.manifest import Manifest
from artifact.stores import addresses, channels
from artifact.stores.contract import ObjectMissing, Store

ReadManifest = Callable[[Store, str], Manifest]
"""Reads the manifest of an object; raises `ArtifactRejected` and `ObjectMissing`."""

_READERS = 8


class Kept(msgspec.Struct, frozen=True):
    """One artifact of a store and what becomes of it."""

    version: str
    size: int
    stays: bool
    reason: str


class _Environment(msgspec.Struct, frozen=True):
    artifact: str


def plan(
    store: Store, name: str, keep: int, read: ReadManifest, tell: steps.Listener
) -> list[Kept]:
    """Return what pruning would do with every artifact of an application, the newest first.

    Their order is that of their sequence numbers, which their manifests hold: one request each.
    """
    versions = {version: found.size for version, found in stores.versions(store, name)}
    pointed = _pointed(store, name)
    ranked: list[tuple[tuple[int, int], str]] = []
    verdicts = []
    for version, manifest in _manifests(store, name, list(versions), read, tell):
        if manifest is None:
            reason = "cannot be read, so nobody knows its place"
            verdicts.append(Kept(version, versions[version], stays=True, reason=reason))
        else:
            ranked.append(((manifest.sequence, manifest.created), version))
    ranked.sort(reverse=True)
    for rank, (_, version) in enumerate(ranked):
        stays, reason = True, f"one of the newest {keep}"
        if version in pointed:
            reason = f"{pointed[version]} points to it"
        elif rank >= keep:
            stays, reason = False, f"older than the newest {keep}"
        verdicts.append(Kept(version, versions[version], stays, reason))
    return verdicts


def prune(store: Store, name: str, verdicts: Sequence[Kept], tell: steps.Listener) -> int:
    """Delete what the plan says may go; returns the bytes that are free.

    An artifact that a channel points to by then stays.
    """
    doomed = [one for one in verdicts if not one.stays]
    _forget_environments(store, name, {addresses.artifact(name, one.version) for one in doomed})
    freed = 0
    for number, one in enumerate(doomed, 1):
        # Asked before each, for deleting hundreds takes minutes.
        if one.version in _pointed(store, name):
            tell(steps.Said(f"{name}-{one.version} stays: a channel points to it now"))
            continue
        store.delete(addresses.artifact(name, one.version))
        freed += one.size
        tell(steps.Progress("deleting", number, len(doomed), "artifacts"))
    return freed


def _pointed(store: Store, name: str) -> dict[str, str]:
    found = channels.read_all(store, name)
    return {there.version: f"{name}@{channel}" for channel, there in found.items()}


def _manifests(
    store: Store, name: str, versions: Sequence[str], read: ReadManifest, tell: steps.Listener
) -> Iterator[tuple[str, Manifest | None]]:
    def ask(version: str) -> Manifest | ArtifactRejected | None:
        try:
            return read(store, addresses.artifact(name, version))
        except ObjectMissing:
            return None  # deleted meanwhile
        except ArtifactRejected as error:
            return error

    with ThreadPoolExecutor(_READERS) as pool:
        for version, found in zip(versions, pool.map(ask, versions), strict=True):
            if isinstance(found, Manifest):
                yield version, found
            elif found is not None:
                tell(steps.Warned(str(found), found.hint))
                yield version, None


def _forget_environments(store: Store, name: str, doomed: set[str]) -> None:
    """Delete the pointers to environments in artifacts that go: runners then compile again."""
    for pointer, _ in list(store.names(addresses.environment(name, "").removesuffix(".json"))):
        found = store.pointer(pointer)
        try:
            held = msgspec.json.decode(found[0], type=_Environment).artifact if found else ""
        except msgspec.MsgspecError:
            continue
        if held in doomed:
            store.delete(pointer)
