"""The environments a build machine keeps: what is there, is it intact, what can go."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import msgspec

from artifact import files
from artifact.building.caches import Caches
from artifact.building.environments import bytecode, compilation, marker, stamp
from artifact.building.environments.marker import Marker
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


def environments(caches: Caches) -> tuple[Cached, ...]:
    """Return the environments, the one used last first."""
    found = [_cached(caches, key) for key in marker.keys(caches)]
    return tuple(sorted(found, key=lambda cached: (-cached.used, cached.key)))


def _cached(caches: Caches, key: str) -> Cached:
    prefix = f"{key}.used-by-"
    names = [path.name.removeprefix(prefix) for path in caches.beside.glob(f"{prefix}*")]
    return Cached(
        key=key,
        path=caches.environment(key),
        marker=marker.load(caches, key),
        size=_size(caches, key),
        used=marker.last_used(caches, key),
        names=tuple(sorted(names)),
    )


def _size(caches: Caches, key: str) -> int:
    """Return bytes from the stamp, which is quicker than looking; 0 for what is not finished."""
    total = 0
    with contextlib.suppress(OSError):
        taken = caches.stamp(key).read_bytes().partition(b"\n")[2]
        total = sum(item.size for item in stamp.items(taken))
    with contextlib.suppress(OSError):
        total += caches.pack(key).stat().st_size
    return total


def faults(caches: Caches, key: str) -> tuple[str, ...]:
    """Return everything that is wrong with an environment: sizes, times, and every content.

    Raises:
        OSError: a file cannot be read.
    """
    state = marker.observe(caches, key)
    if state.differences:
        return state.differences
    if state.fault:
        return (state.fault,)
    return tuple(marker.changed_contents(caches, key, state))


def plan_prune(caches: Caches, *, keep: int, days: float) -> tuple[Removal, ...]:
    """Return what can be removed: all but the newest environments and those used lately.

    An environment that a build uses may be in the plan; `prune` leaves it alone. One that a release
    on this machine runs from is never in it.

    Args:
        keep: how many finished environments stay, the one used last first.
        days: what was used within so many days stays, too.
    """
    since = time.time() - days * _DAY
    every = environments(caches)
    finished = [cached for cached in every if cached.marker]
    staying = {cached.key for i, cached in enumerate(finished) if i < keep or cached.used >= since}
    staying |= {cached.key for cached in every if marker.releases(caches, cached.key)}
    return (
        *(_removal(cached, days) for cached in every if cached.key not in staying),
        *_leftovers(caches),
        *(
            Removal(path, size, f"bytecode unused for {days:g} days")
            for path, size in bytecode.unused(caches, since=since)
        ),
    )


def _removal(cached: Cached, days: float) -> Removal:
    reason = f"unused for {days:g} days" if cached.marker else "not finished"
    return Removal(cached.path, cached.size, reason, cached.key)


def _leftovers(caches: Caches) -> Iterator[Removal]:
    """Yield the packs and stamps of environments that somebody deleted."""
    there = set(marker.keys(caches))
    for pattern in ("*.pack", "*.stamp"):
        for path in sorted(caches.beside.glob(pattern)):
            if path.stem not in there and marker.is_key(path.stem):
                yield Removal(path, path.stat().st_size, "its environment is gone", path.stem)


def prune(caches: Caches, removals: Iterable[Removal]) -> Iterator[tuple[Removal, str]]:
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
                files.locked(caches.lock(removal.key), doing="pruning"),
                files.locked(caches.lease(removal.key), doing="pruning"),
            ):
                compilation.remove(caches, removal.key)
                for path in caches.beside.glob(f"{removal.key}.used-by-*"):
                    path.unlink(missing_ok=True)
        except Locked:
            yield removal, "in use"
        else:
            yield removal, ""


def total(removals: Sequence[Removal]) -> int:
    """Return the bytes that removals set free."""
    return sum(removal.size for removal in removals)
