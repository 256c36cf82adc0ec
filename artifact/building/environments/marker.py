"""What stands in and beside a finished environment, and whether it still is as it was finished.

The marker, `.artifact-env.json`, is written last: an environment without one is not finished. It
is part of the environment and travels with it, so nothing in it depends on time or machine. The
stamp beside the environment begins with the marker's sha256.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import os
import re
from pathlib import Path
from typing import Any

import msgspec

from artifact import files, manifest
from artifact.archive import toc
from artifact.archive.format import ENVIRONMENT_PREFIX
from artifact.archive.packed import Packed, load_packed
from artifact.building.caches import Caches, load_kept
from artifact.building.environments import stamp
from artifact.site import ENVIRONMENT_DIRECTORY, Site

NAME = ".artifact-env.json"
_KEY = re.compile(r"[0-9a-f]{32}")
_SHOWN = 3
_TAR_HEADER = 512


class Marker(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a warm build needs to know of an environment."""

    key: str
    inputs: dict[str, Any]
    """What the key is the hash of."""
    packages: dict[str, str]
    """Normalised name to version."""
    python: manifest.Python
    migrations: dict[str, tuple[str, ...]] = {}
    """Application label to the names of its migrations, of all installed packages."""


class State(msgspec.Struct, frozen=True):
    """What was found where an environment should be."""

    marker: Marker | None = None
    stamp: bytes = b""
    fault: str = ""
    """Why it must not be reused; empty when it may be, or when nothing is there."""
    differences: tuple[str, ...] = ()
    """One sentence a path."""

    @property
    def fresh(self) -> bool:
        return self.marker is not None and not self.fault


def seal(root: Path, caches: Caches, marker: Marker) -> None:
    """Finish an environment: take its stamp, then write its marker, last of all.

    Raises:
        OSError: the disk says no.
    """
    content = msgspec.json.encode(marker, order="sorted")
    digest = hashlib.sha256(content).hexdigest().encode()
    taken = stamp.take(root, leaving_out=frozenset({NAME}))
    files.write(caches.stamp(marker.key), digest + b"\n" + taken)
    # A crash here leaves an environment without a marker, which the next build removes. Its data
    # need not be durable yet: what a power cut takes shows in the sizes of the stamp.
    files.write(root / NAME, content, mode=0o444)
    root.chmod(0o555)


def observe(caches: Caches, key: str) -> State:
    """Return the state of an environment by one sweep over the sizes and times of its files."""
    root = caches.environment(key)
    if not root.exists():
        gone = caches.stamp(key).exists()
        return State(fault="the cached environment was deleted" if gone else "")
    try:
        content = (root / NAME).read_bytes()
        marker = msgspec.json.decode(content, type=Marker)
    except FileNotFoundError:
        return State(fault=_unfinished(caches, key))
    except (OSError, msgspec.MsgspecError) as error:
        return State(fault=f"the cached environment's {NAME} cannot be read: {error}")
    try:
        digest, _, before = caches.stamp(key).read_bytes().partition(b"\n")
        now = stamp.take(root, leaving_out=frozenset({NAME}))
    except OSError as error:
        return State(marker, fault=f"the cached environment cannot be checked: {error}")
    if marker.key != key or digest != hashlib.sha256(content).hexdigest().encode():
        return State(marker, before, _modified([f"{NAME} was changed"]), (f"{NAME} was changed",))
    differences = stamp.differences(before, now)
    return State(marker, before, _modified(differences), tuple(differences))


def _unfinished(caches: Caches, key: str) -> str:
    if caches.stamp(key).exists():
        return f"the cached environment is half-deleted: {NAME} is missing"
    return "an earlier build of it was interrupted"


def _modified(differences: list[str]) -> str:
    if not differences:
        return ""
    shown = ", ".join(differences[:_SHOWN])
    more = len(differences) - _SHOWN
    return f"the cached environment was modified: {shown}" + (
        f" and {more} more" if more > 0 else ""
    )


def changed_contents(caches: Caches, key: str, state: State) -> list[str]:
    """Compare every file with what was packed; return a sentence for each that differs.

    An environment that was never packed has nothing to compare with.

    Raises:
        OSError: a file cannot be read.
    """
    packed = load_packed(caches.pack(key))
    if packed is None:
        return []
    lines = frozenset(_lines(packed))
    root = caches.environment(key)
    return [
        f"{item.path} was changed"
        for item in stamp.items(state.stamp)
        if toc.record_line(_record(root, item)) not in lines
    ]


def _lines(packed: Packed) -> list[str]:
    with packed.path.open("rb") as stream:
        stream.seek(packed.data)
        content = gzip.decompress(stream.read(packed.toc))
    return content[_TAR_HEADER:].rstrip(b"\0").decode().splitlines(keepends=True)


def _record(root: Path, item: stamp.Item) -> toc.Record:
    full = os.path.join(root, item.path)
    digest = files.sha256(full) if item.kind == "file" else ""
    target = os.readlink(full) if item.kind == "link" else ""
    path = f"{ENVIRONMENT_PREFIX}{item.path}"
    return toc.Record(item.kind, item.mode, item.size, digest, path, target)


def touch(caches: Caches, key: str, name: str) -> None:
    """Note that an application uses an environment; `prune` and `cache why` go by it."""
    # Another user's environment may be used without the right to note it.
    with contextlib.suppress(OSError):
        caches.used(key, name).touch()


def last_used(caches: Caches, key: str, name: str = "") -> float:
    """Return when an environment was last used, by an application or by any; 0 for never."""
    found = [caches.used(key, name)] if name else caches.beside.glob(f"{key}.used-by-*")
    times = [0.0]
    for path in found:
        with contextlib.suppress(OSError):
            times.append(path.stat().st_mtime)
    return max(times)


def keys(caches: Caches) -> list[str]:
    """Return the keys under which something lies among the environments, finished or not."""
    try:
        names = os.listdir(caches.environments)
    except OSError:
        return []
    # Only what is named like a key: anything else in this directory is not ours to touch.
    return sorted(name for name in names if is_key(name))


def is_key(name: str) -> bool:
    """Tell whether a name has the form of a key."""
    return _KEY.fullmatch(name) is not None


def releases(caches: Caches, key: str) -> list[str]:
    """Return the releases installed on this very machine that run from an environment."""
    links = sorted(Site(Path(caches.root)).releases.glob(f"*/{ENVIRONMENT_DIRECTORY}"))
    # `current` and `previous` are links to releases that are listed anyway.
    return [
        link.parent.name
        for link in links
        if not link.parent.is_symlink() and link.resolve().name == key
    ]


def load(caches: Caches, key: str) -> Marker | None:
    """Return an environment's marker, unchecked; None when it has none."""
    return load_kept(caches.environment(key) / NAME, Marker)
