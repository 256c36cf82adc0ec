"""The environment of a build: reused when nothing that decides it changed, else compiled."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from artifact import files, process
from artifact.archive import writer
from artifact.archive.format import ENVIRONMENT_COMPONENT, ENVIRONMENT_PREFIX
from artifact.archive.grouping import Entry
from artifact.archive.packed import Packed, codec, load_packed
from artifact.building.caches import Caches, load_kept, prepare
from artifact.building.environments import key, marker, stamp
from artifact.building.environments.marker import Marker, State
from artifact.building.environments.spec import EnvironmentSpec
from artifact.errors import BuildFailed, Locked
from artifact.steps import Listener, Said

FIRST = "first environment of this site"


class Environment(msgspec.Struct, frozen=True):
    """A finished environment."""

    path: Path
    marker: Marker
    """What is in it."""
    reasons: tuple[str, ...] = ()
    """Why none was reused; empty when one was."""
    fetched: bool = False
    """It comes from the store: another runner compiled it."""

    @property
    def key(self) -> str:
        """The digest of all that decides its content."""
        return self.marker.key

    @property
    def reused(self) -> bool:
        """Whether it was there already."""
        return not self.reasons


class ReuseCheck(msgspec.Struct, frozen=True):
    """What a build would reuse."""

    state: State
    reasons: tuple[str, ...] = ()
    """Why nothing can be reused; empty when it can."""
    compared: str = ""
    """Key of the environment that the wanted one was compared with; empty for the first one."""

    @property
    def reusable(self) -> bool:
        """Whether there is an environment that is intact."""
        return not self.reasons


class Why(msgspec.Struct, frozen=True, kw_only=True):
    """Why the last build did not reuse an environment; kept for `artifact cache why`."""

    name: str
    """The application's."""
    key: str
    compared: str
    """Key of the newest environment there was; empty for the first one."""
    reasons: tuple[str, ...]
    when: float
    """Seconds since the epoch."""


def observe(spec: EnvironmentSpec, *, verify: bool = False) -> ReuseCheck:
    """Return what a build would reuse, or every reason why nothing; change nothing.

    Args:
        verify: compare the content of every file, not only sizes and times.
    """
    state = marker.observe(spec.caches, spec.key)
    if state.fresh and verify:
        state = _verified(spec, state)
    if state.fresh:
        return ReuseCheck(state, compared=spec.key)
    if state.fault:
        return ReuseCheck(state, (state.fault,), spec.key)
    newest = _newest(spec.config.name, spec.caches)
    if newest is None:
        return ReuseCheck(state, (FIRST,))
    reasons = key.reasons(newest.inputs, spec.inputs)
    return ReuseCheck(state, reasons or ("its key was not made by this version",), newest.key)


def _verified(spec: EnvironmentSpec, state: State) -> State:
    """Return the state with a fault when the content of a file was changed."""
    try:
        changed = marker.changed_contents(spec.caches, spec.key, state)
    except OSError as error:
        changed = [f"{error.filename} cannot be read"]
    if not changed:
        return state
    fault = f"the cached environment was modified: {changed[0]}"
    return State(state.marker, state.stamp, fault, tuple(changed))


def ensure(
    spec: EnvironmentSpec, tell: Listener, *, lock_timeout: float = 0.0, verify: bool = False
) -> Environment:
    """Return the environment that is wanted, compiling it when there is none that is intact.

    Args:
        lock_timeout: seconds to wait for another build that makes the same environment.
        verify: compare the content of every file, not only sizes and times.

    Raises:
        BuildFailed: it cannot be made; nothing half-done is left.
        Locked: another build makes or uses it, for longer than we may wait.
    """
    found = observe(spec, verify=verify)
    if found.reusable:
        return _reused(spec, found)
    prepare(spec.caches)
    with _building(spec, lock_timeout, tell):
        # Another build may have made it while this one waited.
        found = observe(spec, verify=verify)
        if found.reusable:
            return _reused(spec, found)
        _spare_releases(spec, found)
        return _made(spec, found, tell)


def _made(spec: EnvironmentSpec, found: ReuseCheck, tell: Listener) -> Environment:
    """Take an environment from the store, or compile it."""
    # Only where one has to be made: what reads wheels' metadata and ELF files costs a build that
    # reuses its environment 0.1 s.
    from artifact.building.environments import compilation, shared

    taken = shared.take(spec, tell)
    if taken is None:
        for reason in found.reasons:
            tell(Said(f"the environment is compiled: {reason}"))
    made = taken or compilation.make(spec, tell)
    _note(spec, found)
    return Environment(spec.root, made, found.reasons, fetched=taken is not None)


def _newest(name: str, caches: Caches) -> Marker | None:
    """Return the environment an application used last; that of any other if it never had one."""
    there = marker.keys(caches)
    for whose in (name, ""):
        for candidate in sorted(
            there, key=lambda one: marker.last_used(caches, one, whose), reverse=True
        ):
            if whose and not marker.last_used(caches, candidate, whose):
                break
            if found := marker.load(caches, candidate):
                return found
    return None


def _reused(spec: EnvironmentSpec, found: ReuseCheck) -> Environment:
    assert found.state.marker is not None
    marker.touch(spec.caches, spec.key, spec.config.name)
    return Environment(spec.root, found.state.marker)


def _spare_releases(spec: EnvironmentSpec, found: ReuseCheck) -> None:
    """Refuse to compile an environment again while a release on this machine runs from it."""
    releases = marker.releases(spec.caches, spec.key)
    if found.state.fault and spec.root.exists() and releases:
        raise BuildFailed(
            f"{found.state.fault}; it cannot be compiled anew, for the installed release "
            f"{', '.join(releases)} runs from {spec.root}",
            hint="repair or remove that release first, or change [requirements] salt",
        )


@contextmanager
def _building(spec: EnvironmentSpec, timeout: float, tell: Listener) -> Iterator[None]:
    """Hold the environment's lock: wait for other builds of it, and until nobody reads it."""
    doing = f"building the environment {spec.key[:12]} of {spec.config.name}"
    deadline = time.monotonic() + timeout
    lock, lease = spec.caches.lock(spec.key), spec.caches.lease(spec.key)
    with contextlib.ExitStack() as stack:
        try:
            descriptor = stack.enter_context(files.locked(lock, doing=doing))
        except Locked as held:
            if timeout <= 0:
                raise
            tell(Said(f"waiting up to {timeout:g} s: {held.message}"))
            descriptor = stack.enter_context(files.locked(lock, doing=doing, wait=timeout))
        left = max(0.0, deadline - time.monotonic())
        stack.enter_context(files.locked(lease, doing=doing, wait=left))
        stack.enter_context(process.sharing(descriptor))
        yield


def _note(spec: EnvironmentSpec, found: ReuseCheck) -> None:
    marker.touch(spec.caches, spec.key, spec.config.name)
    why = Why(
        name=spec.config.name,
        key=spec.key,
        compared=found.compared,
        reasons=found.reasons,
        when=time.time(),
    )
    with contextlib.suppress(OSError):
        files.write(spec.caches.why, msgspec.json.encode(why))


def last_miss(caches: Caches) -> Why | None:
    """Return why the last build that reused no environment did not."""
    return load_kept(caches.why, Why)


@contextmanager
def in_use(environment: Environment, caches: Caches) -> Iterator[None]:
    """Hold an environment for the block: nobody removes or rebuilds it meanwhile.

    Raises:
        BuildFailed: it was removed before we held it.
    """
    with files.flocked(caches.lease(environment.key), fcntl.LOCK_SH):
        if not (environment.path / marker.NAME).exists():
            raise BuildFailed(
                f"the environment {environment.path} was removed while it was about to be used",
                hint="another `artifact cache prune` or a person did that; build again",
            )
        yield


def packed(environment: Environment, caches: Caches, level: int, tell: Listener) -> Packed:
    """Return the environment as the component "venv", packed once and kept.

    A kept one has the bytes a new one would have: same codec, same level, same tree.

    Raises:
        BuildFailed: it was modified since it was made, or the disk is full.
    """
    kept = load_packed(caches.pack(environment.key), codec=codec(level))
    if kept is not None:
        return kept
    entries = _entries(environment, caches)
    return writer.pack(
        entries,
        caches.pack(environment.key),
        name=ENVIRONMENT_COMPONENT,
        level=level,
        tell=tell,
    )


def _entries(environment: Environment, caches: Caches) -> list[Entry]:
    state = marker.observe(caches, environment.key)
    if not state.fresh:
        raise BuildFailed(
            f"the environment {environment.path} changed during the build: "
            f"{state.fault or 'it was removed'}",
            hint="find out who writes there; the next build compiles it again",
        )
    root = str(environment.path)
    entries = [
        Entry(f"{ENVIRONMENT_PREFIX}{marker.NAME}", "file", source=f"{root}/{marker.NAME}"),
    ]
    for item in stamp.items(state.stamp):
        path, full = f"{ENVIRONMENT_PREFIX}{item.path}", f"{root}/{item.path}"
        target = os.readlink(full) if item.kind == "link" else ""
        source = full if item.kind == "file" else None
        entries.append(Entry(path, item.kind, item.mode, target, source))
    return entries
