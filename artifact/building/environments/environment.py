"""The environment of a build: reused when nothing that decides it changed, else compiled."""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from artifact import files, manifest, process
from artifact.archive import writer
from artifact.archive.format import ENVIRONMENT_COMPONENT, ENVIRONMENT_PREFIX
from artifact.archive.grouping import Entry
from artifact.archive.packed import Packed, codec, load_packed
from artifact.building.environments import key, marker, stamp
from artifact.building.environments.interpreter import Interpreter
from artifact.building.environments.marker import Marker, State
from artifact.building.locking.lock import Lock, build_variables
from artifact.building.locking.tools import Tools
from artifact.building.places import Places
from artifact.configuration.artifact_toml import Config
from artifact.errors import BuildFailed, Locked
from artifact.steps import Listener, Said

if TYPE_CHECKING:
    from artifact.building.environments.compilation import Job

FIRST = "first environment of this site"


class Environment(msgspec.Struct, frozen=True):
    """A finished environment."""

    path: Path
    key: str
    inputs: dict[str, Any]
    """What the key is the hash of."""
    packages: dict[str, str]
    """Normalised name to version."""
    python: manifest.Python
    migrations: dict[str, tuple[str, ...]]
    """Application label to migrations, of the installed packages."""
    reused: bool
    fetched: bool = False
    """It comes from the store: another runner compiled it."""
    reasons: tuple[str, ...] = ()
    """Why none was reused."""


class Found(msgspec.Struct, frozen=True):
    """What a build would find."""

    key: str
    inputs: Mapping[str, Any]
    path: Path
    state: State
    reasons: tuple[str, ...]
    """Why nothing can be reused; empty when it can."""

    @property
    def reusable(self) -> bool:
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


def observe(
    config: Config, lock: Lock, interpreter: Interpreter, tools: Tools, places: Places
) -> Found:
    """Return what a build would reuse, or every reason why nothing; change nothing."""
    declared = build_variables(config.requirements)
    inputs = key.inputs(places.root, lock, interpreter, tools, declared, config.requirements.salt)
    return _found(config.name, inputs, places)[0]


def ensure(
    config: Config,
    lock: Lock,
    interpreter: Interpreter,
    tools: Tools,
    places: Places,
    tell: Listener,
    *,
    workspace: Path | None = None,
    lock_timeout: float = 0.0,
    verify: bool = False,
) -> Environment:
    """Return the environment of a lock, compiling it when there is none that is intact.

    Args:
        workspace: the checkout, whose path must not be found in the environment; the current
            directory when left out.
        lock_timeout: seconds to wait for another build that makes the same environment.
        verify: compare the content of every file, not only sizes and times.

    Raises:
        BuildFailed: it cannot be made; nothing half-done is left.
        Locked: another build makes or uses it, for longer than we may wait.
    """
    declared = build_variables(config.requirements)
    inputs = key.inputs(places.root, lock, interpreter, tools, declared, config.requirements.salt)
    found, _ = _found(config.name, inputs, places, verify=verify)
    if found.reusable:
        return _reused(found, config.name, places)
    _prepare(places)
    # Imported late: what reads wheels' metadata and ELF files costs a warm build 0.1 s.
    from artifact.building.environments import compilation

    job = compilation.Job(
        key=found.key,
        inputs=inputs,
        lock=lock,
        interpreter=interpreter,
        tools=tools,
        declared=declared,
        places=places,
        workspace=(workspace or Path.cwd()).resolve(),
    )
    return _made(job, config, tell, lock_timeout=lock_timeout, verify=verify)


def _made(
    job: Job, config: Config, tell: Listener, *, lock_timeout: float, verify: bool
) -> Environment:
    """Compile an environment or take it from the store, unless another build just made it."""
    from artifact.building.environments import compilation

    places = job.places
    with _building(job, config.name, lock_timeout, tell):
        found, compared = _found(config.name, job.inputs, places, verify=verify)
        if found.reusable:
            return _reused(found, config.name, places)
        _spare_releases(found, places)
        taken = _from_store(job, config, tell)
        if taken is None:
            for reason in found.reasons:
                tell(Said(f"the environment is compiled: {reason}"))
        made = taken or compilation.make(job, tell)
    why = Why(
        name=config.name, key=job.key, compared=compared, reasons=found.reasons, when=time.time()
    )
    _note(why, places)
    return _environment(made, places, found.reasons, fetched=taken is not None)


def _found(
    name: str, inputs: Mapping[str, Any], places: Places, *, verify: bool = False
) -> tuple[Found, str]:
    """Return what is there under a key, and the key it was compared with."""
    identity = key.of(inputs)
    path = places.environment(identity)
    state = marker.look(places, identity)
    if state.fresh and verify:
        try:
            changed = marker.changed_contents(places, identity, state)
        except OSError as error:
            changed = [f"{error.filename} cannot be read"]
        if changed:
            fault = f"the cached environment was modified: {changed[0]}"
            state = State(state.marker, state.stamp, fault, tuple(changed))
    if state.fresh:
        return Found(identity, inputs, path, state, ()), identity
    if state.fault:
        return Found(identity, inputs, path, state, (state.fault,)), identity
    newest = _newest(name, places)
    if newest is None:
        return Found(identity, inputs, path, state, (FIRST,)), ""
    reasons = key.reasons(newest.inputs, inputs) or ("its key was not made by this version",)
    return Found(identity, inputs, path, state, reasons), newest.key


def _newest(name: str, places: Places) -> Marker | None:
    """Return the environment an application used last; that of any other if it never had one."""
    there = marker.keys(places)
    for whose in (name, ""):
        for candidate in sorted(
            there, key=lambda one: marker.last_used(places, one, whose), reverse=True
        ):
            if whose and not marker.last_used(places, candidate, whose):
                break
            if found := marker.load(places, candidate):
                return found
    return None


def _reused(found: Found, name: str, places: Places) -> Environment:
    assert found.state.marker is not None
    marker.touch(places, found.key, name)
    return _environment(found.state.marker, places, ())


def _from_store(job: Job, config: Config, tell: Listener) -> Marker | None:
    """Take the environment that another runner compiled, where a store is configured."""
    if not config.store.url:
        return None
    from artifact.building.environments import shared

    return shared.take(job, config.name, config.store, tell)


def _environment(
    made: Marker, places: Places, reasons: tuple[str, ...], *, fetched: bool = False
) -> Environment:
    return Environment(
        path=places.environment(made.key),
        key=made.key,
        inputs=made.inputs,
        packages=made.packages,
        python=made.python,
        migrations=made.migrations,
        reused=not reasons,
        fetched=fetched,
        reasons=reasons,
    )


def _spare_releases(found: Found, places: Places) -> None:
    """Refuse to compile anew what a release on this machine runs from: it would lose its floor."""
    releases = marker.releases(places, found.key)
    if found.state.fault and found.path.exists() and releases:
        raise BuildFailed(
            f"{found.state.fault}; it cannot be compiled anew, for the installed release "
            f"{', '.join(releases)} runs from {found.path}",
            hint="repair or remove that release first, or change [requirements] salt",
        )


def _prepare(places: Places) -> None:
    """Make the directory of environments, or say once and for all what it takes."""
    try:
        places.beside.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=places.beside):
            pass
        writable = os.access(places.environments, os.W_OK | os.X_OK)
    except OSError as error:
        raise _unwritable(places, error.strerror or "an error") from error
    if not writable:
        raise _unwritable(places, "Permission denied")


def _unwritable(places: Places, reason: str) -> BuildFailed:
    return BuildFailed(
        f"the environment has to be compiled in {places.environments}, where servers will have "
        f"it, and that cannot be written: {reason}",
        hint=f"once: sudo install -d -o $USER {places.environments}; or choose another site with "
        "root = … in artifact.toml or the variable ARTIFACT_ROOT",
    )


@contextmanager
def _building(job: Job, name: str, timeout: float, tell: Listener) -> Iterator[None]:
    """Hold the environment's lock, after those who build it, and wait until nobody reads it."""
    doing = f"building the environment {job.key[:12]} of {name}"
    deadline = time.monotonic() + timeout
    lock = job.places.lock(job.key)
    lease = job.places.lease(job.key)
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


def _note(why: Why, places: Places) -> None:
    marker.touch(places, why.key, why.name)
    with contextlib.suppress(OSError):
        files.write(places.why, msgspec.json.encode(why))


def last_miss(places: Places) -> Why | None:
    """Return why the last build that reused no environment did not."""
    try:
        return msgspec.json.decode(places.why.read_bytes(), type=Why)
    except (OSError, msgspec.MsgspecError):
        return None


@contextmanager
def in_use(environment: Environment, places: Places) -> Iterator[None]:
    """Hold an environment for the block: nobody removes or rebuilds it meanwhile.

    Raises:
        BuildFailed: it was removed before we held it.
    """
    with files.flocked(places.lease(environment.key), fcntl.LOCK_SH):
        if not (environment.path / marker.NAME).exists():
            raise BuildFailed(
                f"the environment {environment.path} was removed while it was about to be used",
                hint="another `artifact cache prune` or a person did that; build again",
            )
        yield


def packed(environment: Environment, places: Places, level: int, tell: Listener) -> Packed:
    """Return the environment as the component "venv", packed once and kept.

    A kept one has the bytes a new one would have: same codec, same level, same tree.

    Raises:
        BuildFailed: it was modified since it was made, or the disk is full.
    """
    kept = load_packed(places.pack(environment.key), codec=codec(level))
    if kept is not None:
        return kept
    entries = _entries(environment, places)
    return writer.pack(
        entries,
        places.pack(environment.key),
        name=ENVIRONMENT_COMPONENT,
        level=level,
        tell=tell,
    )


def _entries(environment: Environment, places: Places) -> list[Entry]:
    state = marker.look(places, environment.key)
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
        if item.kind == "link":
            entries.append(Entry(path, "link", target=os.readlink(full)))
        elif item.kind == "directory":
            entries.append(Entry(path, "directory"))
        else:
            mode = 0o755 if item.executable else 0o644
            entries.append(Entry(path, "file", mode, source=full))
    return entries
