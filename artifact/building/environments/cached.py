"""The environments a build machine keeps: what is there, is it intact, what can go."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import msgspec

from artifact import files
from artifact.building.environments import bytecode, compilation, marker, stamp
from artifact.building.environments.marker import Marker
from artifact.building.places import Places
from artifact.errors import Locked

_DAY = 86400.0


class Cached(msgspec.Struct, frozen=True):
    """An environment among the others."""

    key: str
    path: Path
    marker: Marker | None
    """None when it is not finished, or half-deleted."""
    size: int
    """Bytes of its files and of its pack."""
    used: float
    """When a build last used it, in seconds since the epoch; 0 when that is not known."""
    names: tuple[str, ...]
    """The applications that used it."""


class Removal(msgspec.Struct, frozen=True):
    """Something `prune` would remove."""

    path: Path
    size: int
    reason: str
    key: str = ""
    """Of the environment; empty for other files."""


def environments(places: Places) -> tuple[Cached, ...]:
    """Return the environments, the one used last first."""
    found = [_cached(places, key) for key in marker.keys(places)]
    return tuple(sorted(found, key=lambda cached: (-cached.used, cached.key)))


def _cached(places: Places, key: str) -> Cached:
    prefix = f"{key}.used-by-"
    names = [path.name.removeprefix(prefix) for path in places.beside.glob(f"{prefix}*")]
    return Cached(
        key=key,
        path=places.environment(key),
        marker=marker.load(places, key),
        size=_size(places, key),
        used=marker.last_used(places, key),
        names=tuple(sorted(names)),
    )


def _size(places: Places, key: str) -> int:
    """Return bytes from the stamp, which is quicker than looking; 0 for what is not finished."""
    total = 0
    with contextlib.suppress(OSError):
        taken = places.stamp(key).read_bytes().partition(b"\n")[2]
        total = sum(item.size for item in stamp.items(taken) if item.kind == "file")
    with contextlib.suppress(OSError):
        total += places.pack(key).stat().st_size
    return total


def faults(places: Places, key: str) -> tuple[str, ...]:
    """Return everything that is wrong with an environment: sizes, times, and every content.

    Raises:
        OSError: a file cannot be read.
    """
    state = marker.look(places, key)
    if state.differences:
        return state.differences
    if state.fault:
        return (state.fault,)
    return tuple(marker.changed_contents(places, key, state))


def plan_prune(places: Places, *, keep: int, days: float) -> tuple[Removal, ...]:
    """Return what can go: all but the newest and what was used lately.

    What a build uses is in the plan as well; only the attempt to remove it tells. What a release
    on this machine runs from is not.

    Args:
        keep: how many finished environments stay, the one used last first.
        days: what was used within so many days stays, too.
    """
    since = time.time() - days * _DAY
    every = environments(places)
    finished = [cached for cached in every if cached.marker]
    staying = {cached.key for i, cached in enumerate(finished) if i < keep or cached.used >= since}
    staying |= {cached.key for cached in every if marker.releases(places, cached.key)}
    return (
        *(_removal(cached, days) for cached in environments(places) if cached.key not in staying),
        *_leftovers(places),
        *(
            Removal(path, size, f"bytecode unused for {days:g} days")
            for path, size in bytecode.unused(places, since=since)
        ),
    )


def _removal(cached: Cached, days: float) -> Removal:
    reason = f"unused for {days:g} days" if cached.marker else "not finished"
    return Removal(cached.path, cached.size, reason, cached.key)


def _leftovers(places: Places) -> Iterator[Removal]:
    """Yield the packs and stamps of environments that somebody deleted."""
    there = set(marker.keys(places))
    for pattern in ("*.pack", "*.stamp"):
        for path in sorted(places.beside.glob(pattern)):
            if path.stem not in there and marker.is_key(path.stem):
                yield Removal(path, path.stat().st_size, "its environment is gone", path.stem)


def prune(places: Places, removals: Iterable[Removal]) -> Iterator[tuple[Removal, str]]:
    """Remove what was planned; yield each with why it could not be removed, empty when it was.

    Raises:
        OSError: something cannot be removed for another reason than that it is in use.
    """
    for removal in removals:
        if not removal.key:
            removal.path.unlink(missing_ok=True)
            yield removal, ""
            continue
        try:
            # Whoever builds it holds the one, whoever reads it the other.
            with (
                files.locked(places.lock(removal.key), doing="pruning"),
                files.locked(places.lease(removal.key), doing="pruning"),
            ):
                compilation.remove(places, removal.key)
                for path in places.beside.glob(f"{removal.key}.used-by-*"):
                    path.unlink(missing_ok=True)
        except Locked:
            yield removal, "in use"
        else:
            yield removal, ""


def total(removals: Sequence[Removal]) -> int:
    """Return the bytes that removals set free."""
    return sum(removal.size for removal in removals)
