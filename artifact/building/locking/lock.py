"""Find or make the lock of a project: what is pinned is used, the rest is resolved once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import msgspec

from artifact import files, steps, variables
from artifact.building.environments.interpreter import Interpreter
from artifact.building.locking import indexes, requirement_files, requirements, tools, wheelhouse
from artifact.building.locking.entries import Entry
from artifact.building.locking.indexes import Indexes
from artifact.building.locking.pins import Lock as Lock
from artifact.building.locking.pins import Pin as Pin
from artifact.building.locking.pins import portable_text, text_of
from artifact.building.locking.requirements import Input
from artifact.building.locking.wheelhouse import Wheel
from artifact.building.places import Places
from artifact.configuration.artifact_toml import RequirementsSection
from artifact.errors import ArtifactError, BuildFailed, UsageError

SCHEMA = 1
"""Raised when the same input would be resolved to something else."""
_LOCK_SECONDS = 1800.0


class _Job(msgspec.Struct, frozen=True):
    """What one call works for."""

    project: Path
    section: RequirementsSection
    interpreter: Interpreter
    places: Places
    tell: steps.Listener


class Relocked(msgspec.Struct, frozen=True):
    """What `artifact lock` worked out."""

    origin: str
    text: str
    """For `requirements.lock`."""
    before: Mapping[str, str]
    """Name to version, of the lock there was."""
    after: Mapping[str, str]


def lock_for(
    project: Path,
    section: RequirementsSection,
    interpreter: Interpreter,
    places: Places,
    tell: steps.Listener,
    *,
    upgrade: bool = False,
) -> Lock:
    """Return the lock of a project, resolving its requirements when there is no lock of them.

    What was resolved once is used until the requirements change; nothing is started then.

    Args:
        upgrade: resolve again, to the newest versions, what is not pinned by the project.

    Raises:
        UsageError: there are no requirements, or they are malformed or not allowed.
        BuildFailed: they cannot be resolved, or a link cannot be built to a wheel.
        Locked: another run has been resolving the same for half an hour.
    """
    job = _Job(project, section, interpreter, places, tell)
    found = requirements.read(project, section, interpreter, requirements.find(project, section))
    settings = indexes.read(found.options, variables.everything())
    wheels = _wheels(job, found.entries, settings)
    entries = found.entries
    if found.origin == requirements.LOCK:
        _warn_of_age(job, found)
    if found.kind == "uv.lock":
        entries = _once(job, found, found.digest, lambda: _export(job), again=upgrade)
    elif not found.pinned:
        entries = _resolved_once(job, found, settings, wheels, upgrade=upgrade)
    wheels |= _wheels(job, entries, settings)
    pins = _pins(entries, wheels, found.origin)
    return Lock(
        pins,
        text_of(pins),
        found.origin,
        resolved=not found.pinned,
        flags=settings.flags,
        interpreter=interpreter,
        indexes=settings,
    )


def build_variables(section: RequirementsSection) -> dict[str, str]:
    """Return the declared `build-env` variables that are set, the only ones builds may see."""
    found = {name: variables.get(name) for name in section.build_env}
    return {name: value for name, value in found.items() if value}


def relock(
    project: Path,
    section: RequirementsSection,
    interpreter: Interpreter,
    places: Places,
    tell: steps.Listener,
    *,
    upgrade: bool = False,
    names: Sequence[str] = (),
) -> Relocked:
    """Resolve a project's unpinned requirements anew, keeping the versions of `requirements.lock`.

    Nothing is written: `Relocked.text` is what belongs into it.

    Args:
        upgrade: keep no version.
        names: packages whose version is not kept.

    Raises:
        UsageError: there is nothing to lock, or it is malformed or not allowed.
        BuildFailed: it cannot be resolved.
    """
    job = _Job(project, section, interpreter, places, tell)
    paths = requirements.find(project, section, locks=False)
    found = requirements.read(project, section, interpreter, paths)
    settings = indexes.read(found.options, variables.everything())
    wheels = _wheels(job, found.entries, settings)
    earlier = _earlier(job)
    entries = _resolve(
        job, found, settings, wheels, existing=earlier, upgrade=upgrade, names=tuple(names)
    )
    wheels |= _wheels(job, entries, settings)
    before = {entry.name: entry.version for entry in earlier}
    after = {pin.name: pin.version for pin in _pins(entries, wheels, found.origin)}
    for name in names:
        if requirements.name_of(name) not in {*before, *after}:
            raise UsageError(
                f"-P {name}: {found.origin} does not require it",
                hint="correct the name, or leave out -P: new requirements are always locked",
            )
    return Relocked(found.origin, portable_text(entries), before, after)


def _warn_of_age(job: _Job, lock: Input) -> None:
    """Warn when the file a lock was made from asks for something else by now."""
    path = requirements.source_of_lock(job.project)
    if path is None:
        return
    try:
        asked = requirements.read(job.project, job.section, job.interpreter, [path])
    except ArtifactError:
        return  # the build does not use that file, whatever is wrong with it
    pinned = {entry.name: entry.version for entry in lock.entries}
    for entry in asked.entries:
        if entry.kind != "index":
            continue
        version = pinned.get(entry.name)
        if version is None or not requirements.satisfies(version, entry.specifier):
            has = f"{entry.name} {version}" if version else f"no {entry.name}"
            job.tell(
                steps.Warned(
                    f"{entry.where} asks for {entry.name}{entry.specifier}, "
                    f"but {lock.origin} has {has}; the build uses {lock.origin}",
                    hint="run `artifact lock` and commit the result",
                )
            )
            return


def _earlier(job: _Job) -> tuple[Entry, ...]:
    """Return the pins of the project's lock that a resolver can start from."""
    path = job.project / requirements.LOCK
    if not path.is_file():
        return ()
    parsed = requirement_files.parse(path, job.project, variables.everything())
    return tuple(entry for entry in parsed.entries if entry.kind == "index" and entry.pinned)


def _wheels(job: _Job, entries: Iterable[Entry], settings: Indexes) -> dict[str, Wheel]:
    """Return the wheels of the links among entries, by the link as it is written."""
    declared = build_variables(job.section)
    return {
        entry.written: wheelhouse.build_link(
            entry, job.interpreter, settings, job.places, declared, job.tell
        )
        for entry in entries
        if entry.kind != "index"
    }


def _export(job: _Job) -> str:
    from artifact.building.locking.tools import uv

    job.tell(steps.Said("reading uv.lock"))
    return uv.export(job.project, job.section.extras, job.section.groups, job.interpreter)


def _resolved_once(
    job: _Job, found: Input, settings: Indexes, wheels: Mapping[str, Wheel], *, upgrade: bool
) -> tuple[Entry, ...]:
    fresh = False

    def make() -> str:
        nonlocal fresh
        fresh = True
        job.tell(steps.Said(f"resolving {found.origin} with {job.section.tools}"))
        return portable_text(_resolve(job, found, settings, wheels, upgrade=upgrade))

    entries = _once(job, found, _digest(job, found), make, again=upgrade)
    when = "now, for this and the next builds" if fresh else "by an earlier build"
    job.tell(
        steps.Said(
            f"{found.origin} is not pinned with hashes: its {len(entries)} packages were "
            f"resolved {when}; `artifact lock` writes {requirements.LOCK}, to be committed"
        )
    )
    return entries


def _once(
    job: _Job, found: Input, digest: str, make: Callable[[], str], *, again: bool
) -> tuple[Entry, ...]:
    """Return the entries kept under a digest, making them when there are none."""
    path = job.places.resolved(digest)
    if again or not path.is_file():
        _make_directory(job.places)
        guard = path.with_name(f".{path.name}.lock")
        doing = f"resolving {found.origin} of {job.project}"
        with files.locked(guard, doing=doing, wait=_LOCK_SECONDS):
            if again or not path.is_file():
                files.write(path, make())
    parsed = requirement_files.parse(path, job.project, variables.everything())
    # A kept lock holds no credentials; the project's own file may.
    links = {entry.written: entry.link for entry in found.entries if entry.kind != "index"}
    entries = (
        replace(entry, link=links.get(entry.written, entry.link)) for entry in parsed.entries
    )
    return requirements.applying(entries, job.interpreter)


def _make_directory(places: Places) -> None:
    try:
        places.beside.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BuildFailed(
            f"{error.filename or places.beside} cannot be created: {error.strerror}",
            hint=f"run once: sudo install -d -o {variables.get('USER', 'USER')} "
            f"{places.environments}; or name another place in artifact.toml: root",
        ) from error


def _digest(job: _Job, found: Input) -> str:
    """Return what decides the resolution: neither comments nor order, nor where the index is."""

    def rows(entries: Iterable[Entry]) -> list[list[object]]:
        found: list[list[object]] = [
            [
                entry.name,
                entry.extras,
                ",".join(sorted(entry.specifier.split(","))),
                wheelhouse.identity(entry) if entry.kind != "index" else "",
                entry.hashes,
                entry.settings,
            ]
            for entry in entries
        ]
        return sorted(found, key=json.dumps)

    interpreter, options = job.interpreter, found.options
    decides = {
        "schema": SCHEMA,
        "entries": rows(found.entries),
        "constraints": rows(found.constraints),
        "options": [options.pre, options.prefer_binary, options.no_binary, options.only_binary],
        "interpreter": [interpreter.implementation, interpreter.version, interpreter.abi],
        "platform": interpreter.platform,
        "tools": job.section.tools,
    }
    return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:32]


def _resolve(
    job: _Job,
    found: Input,
    settings: Indexes,
    wheels: Mapping[str, Wheel],
    *,
    existing: Iterable[Entry] = (),
    upgrade: bool = False,
    names: tuple[str, ...] = (),
) -> tuple[Entry, ...]:
    """Return every package that is needed, pinned with hashes; links stay links."""
    wanted = tools.Wanted(
        requirements=_flat(found, settings, wheels),
        constraints="".join(f"{entry.name}{entry.specifier}\n" for entry in found.constraints),
        existing=portable_text(existing),
        upgrade=upgrade,
        upgrade_names=names,
        origin=found.origin,
        interpreter=job.interpreter,
        indexes=settings,
        variables=build_variables(job.section),
    )
    text = tools.named(job.section.tools).resolve(wanted, job.places, job.tell)
    with files.scratch() as scratch:
        path = scratch / "requirements.lock"
        path.write_text(text)
        parsed = requirement_files.parse(path, scratch, {})
    links = {
        wheels[entry.written].name: replace(entry, name=wheels[entry.written].name)
        for entry in found.entries
        if entry.kind != "index"
    }
    given = {entry.name: entry for entry in found.entries if entry.kind == "index"}
    return tuple(
        links.get(entry.name) or _held(entry, given.get(entry.name), found)
        for entry in parsed.entries
    )


def _flat(found: Input, settings: Indexes, wheels: Mapping[str, Wheel]) -> str:
    """Return the requirements as one file without includes, markers, indexes and links."""
    options = settings.options
    lines = [f"--no-binary {name}" for name in options.no_binary]
    lines += [f"--only-binary {name}" for name in options.only_binary]
    for entry in found.entries:
        extras = f"[{','.join(entry.extras)}]" if entry.extras else ""
        if entry.kind == "index":
            lines.append(f"{entry.name}{extras}{entry.specifier}")
        else:
            wheel = wheels[entry.written]
            lines.append(f"{wheel.name}{extras} @ {Path(wheel.path).as_uri()}")
    return "".join(f"{line}\n" for line in lines)


def _held(entry: Entry, given: Entry | None, found: Input) -> Entry:
    """Return a resolved entry with no other hashes than the project allows."""
    hashes = entry.hashes
    if given is not None and given.hashes:
        hashes = tuple(hash_ for hash_ in hashes if hash_ in given.hashes)
    if entry.kind == "index" and not hashes:
        where = given.where if given is not None and given.hashes else found.origin
        raise BuildFailed(
            f"{where}: no file of {entry.name} {entry.version} on the index has an allowed hash",
            hint=f"check the hashes of {entry.name}, or leave them out: `artifact lock` finds them",
        )
    settings = given.settings if given is not None else ()
    return replace(entry, hashes=hashes, marker="", settings=settings)


def _pins(entries: Iterable[Entry], wheels: Mapping[str, Wheel], origin: str) -> tuple[Pin, ...]:
    pins: dict[str, Pin] = {}
    for entry in entries:
        if entry.kind == "index":
            pin = Pin(entry.name, entry.version, entry.hashes, settings=entry.settings)
        else:
            pin = msgspec.structs.replace(wheels[entry.written].pin, settings=entry.settings)
        other = pins.setdefault(pin.name, pin)
        if other.version != pin.version:
            raise BuildFailed(
                f"{origin} pins {pin.name} twice: {other.version} and {pin.version}",
                hint=f"remove one of the two, or run `artifact lock -P {pin.name}`",
            )
    return tuple(pins[name] for name in sorted(pins))
