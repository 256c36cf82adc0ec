"""Find or make the lock of a project: what is pinned is used, the rest is resolved once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import msgspec

from artifact import files, steps, variables
from artifact.building.caches import Caches, prepare
from artifact.building.interpreter import Interpreter
from artifact.building.locking import indexes, project_requirements, requirement_files, wheelhouse
from artifact.building.locking.context import BuildContext
from artifact.building.locking.pins import Lock, Pin, portable_text, text_of
from artifact.building.locking.project_requirements import ProjectRequirements
from artifact.building.locking.requirement import Requirement
from artifact.building.locking.tools import toolchain, uv
from artifact.building.locking.tools.contract import ResolveRequest
from artifact.building.locking.wheel_building import Wheel
from artifact.configuration.artifact_toml import RequirementsSection
from artifact.errors import ArtifactError, BuildFailed, UsageError

SCHEMA = 1
"""Raised when the same input would be resolved to something else."""
_LOCK_SECONDS = 1800.0


class LockRequest(msgspec.Struct, frozen=True):
    """A project whose requirements are to be locked, and what for."""

    project: Path
    section: RequirementsSection
    interpreter: Interpreter
    caches: Caches
    tell: steps.Listener


class _Job(msgspec.Struct, frozen=True):
    """What a project requires, and how it is got."""

    project: Path
    section: RequirementsSection
    found: ProjectRequirements
    context: BuildContext


class Relocked(msgspec.Struct, frozen=True):
    """What `artifact lock` worked out."""

    origin: str
    text: str
    """For `requirements.lock`."""
    before: Mapping[str, str]
    """Name to version, of the lock there was."""
    after: Mapping[str, str]


def lock_for(request: LockRequest, *, upgrade: bool = False) -> Lock:
    """Return the lock of a project, resolving its requirements when there is no lock of them.

    What was resolved once is used until the requirements change; nothing is started then.

    Args:
        upgrade: resolve again, to the newest versions, what is not pinned by the project.

    Raises:
        UsageError: there are no requirements, or they are malformed or not allowed.
        BuildFailed: they cannot be resolved, or a link cannot be built to a wheel.
        Locked: another run has been resolving the same for half an hour.
    """
    job = _read(request)
    found = job.found
    wheels = _wheels(found.entries, job.context)
    entries = found.entries
    if found.origin == project_requirements.LOCK:
        _warn_of_age(job)
    if found.kind == "uv.lock":
        entries = _once(job, found.digest, lambda: _export(job), again=upgrade)
    elif not found.is_lock:
        entries = _resolved_once(job, wheels, upgrade=upgrade)
    wheels |= _wheels(entries, job.context)
    pins = _pins(entries, wheels, found.origin)
    return Lock(
        pins,
        text_of(pins),
        found.origin,
        resolved=not found.is_lock,
        interpreter=request.interpreter,
        indexes=job.context.indexes,
    )


def build_variables(section: RequirementsSection) -> dict[str, str]:
    """Return the declared `build-env` variables that are set, the only ones builds may see."""
    found = {name: variables.get(name) for name in section.build_env}
    return {name: value for name, value in found.items() if value}


def relock(request: LockRequest, *, upgrade: bool = False, names: Sequence[str] = ()) -> Relocked:
    """Resolve a project's unpinned requirements anew, keeping the versions of `requirements.lock`.

    Nothing is written: `Relocked.text` is what belongs into it.

    Args:
        upgrade: keep no version.
        names: packages whose version is not kept.

    Raises:
        UsageError: there is nothing to lock, or it is malformed or not allowed.
        BuildFailed: it cannot be resolved.
    """
    job = _read(request, locks=False)
    found = job.found
    wheels = _wheels(found.entries, job.context)
    earlier = _earlier(job.project)
    entries = _resolve(job, wheels, existing=earlier, upgrade=upgrade, names=tuple(names))
    wheels |= _wheels(entries, job.context)
    before = {entry.name: entry.version for entry in earlier}
    after = {pin.name: pin.version for pin in _pins(entries, wheels, found.origin)}
    for name in names:
        if project_requirements.name_of(name) not in {*before, *after}:
            raise UsageError(
                f"-P {name}: {found.origin} does not require it",
                hint="correct the name, or leave out -P: new requirements are always locked",
            )
    return Relocked(found.origin, portable_text(entries), before, after)


def _read(request: LockRequest, *, locks: bool = True) -> _Job:
    project, section, interpreter = request.project, request.section, request.interpreter
    paths = project_requirements.find(project, section, locks=locks)
    found = project_requirements.read_requirements(project, section, interpreter, paths)
    settings = indexes.read_settings(found.options, variables.everything())
    declared = build_variables(section)
    context = BuildContext(interpreter, settings, declared, request.caches, request.tell)
    return _Job(project, section, found, context)


def _warn_of_age(job: _Job) -> None:
    """Warn when the file a lock was made from asks for something else by now."""
    path, lock = project_requirements.source_of_lock(job.project), job.found
    if path is None:
        return
    try:
        asked = project_requirements.read_requirements(
            job.project, job.section, job.context.interpreter, [path]
        )
    except ArtifactError:
        return  # the build does not use that file, whatever is wrong with it
    pinned = {entry.name: entry.version for entry in lock.entries}
    for entry in asked.entries:
        if entry.kind != "index":
            continue
        version = pinned.get(entry.name)
        if version is None or not project_requirements.satisfies(version, entry.specifier):
            has = f"{entry.name} {version}" if version else f"no {entry.name}"
            job.context.tell(
                steps.Warned(
                    f"{entry.where} asks for {entry.name}{entry.specifier}, "
                    f"but {lock.origin} has {has}; the build uses {lock.origin}",
                    hint="run `artifact lock` and commit the result",
                )
            )
            return


def _earlier(project: Path) -> tuple[Requirement, ...]:
    """Return the pins of the project's lock that a resolver can start from."""
    path = project / project_requirements.LOCK
    if not path.is_file():
        return ()
    parsed = requirement_files.parse(path, project, variables.everything())
    return tuple(entry for entry in parsed.entries if entry.kind == "index" and entry.pinned)


def _wheels(entries: Iterable[Requirement], context: BuildContext) -> dict[str, Wheel]:
    """Return the wheels of the links among entries, by the link as it is written."""
    links = (entry for entry in entries if entry.kind != "index")
    return {entry.written: wheelhouse.build_link(entry, context) for entry in links}


def _export(job: _Job) -> str:
    job.context.tell(steps.Said("reading uv.lock"))
    return uv.export(job.project, job.section.extras, job.section.groups, job.context)


def _resolved_once(
    job: _Job, wheels: Mapping[str, Wheel], *, upgrade: bool
) -> tuple[Requirement, ...]:
    fresh = False
    origin = job.found.origin

    def make() -> str:
        nonlocal fresh
        fresh = True
        job.context.tell(steps.Said(f"resolving {origin} with {job.section.tools}"))
        return portable_text(_resolve(job, wheels, upgrade=upgrade))

    entries = _once(job, _digest(job), make, again=upgrade)
    when = "now, for this and the next builds" if fresh else "by an earlier build"
    job.context.tell(
        steps.Said(
            f"{origin} is not pinned with hashes: its {len(entries)} packages were "
            f"resolved {when}; `artifact lock` writes {project_requirements.LOCK}, to be committed"
        )
    )
    return entries


def _once(
    job: _Job, digest: str, make: Callable[[], str], *, again: bool
) -> tuple[Requirement, ...]:
    """Return the entries kept under a digest, making them when there are none."""
    caches = job.context.caches
    path = caches.resolved(digest)
    if again or not path.is_file():
        prepare(caches)
        guard = path.with_name(f".{path.name}.lock")
        doing = f"resolving {job.found.origin} of {job.project}"
        with files.locked(guard, doing=doing, wait=_LOCK_SECONDS):
            if again or not path.is_file():
                files.write(path, make())
    parsed = requirement_files.parse(path, job.project, variables.everything())
    # A kept lock holds no credentials; the project's own file may.
    links = {entry.written: entry.link for entry in job.found.entries if entry.kind != "index"}
    entries = (
        replace(entry, link=links.get(entry.written, entry.link)) for entry in parsed.entries
    )
    return project_requirements.for_interpreter(entries, job.context.interpreter)


def _digest(job: _Job) -> str:
    """Return what decides the resolution: neither comments nor order, nor where the index is."""

    def rows(entries: Iterable[Requirement]) -> list[list[object]]:
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

    interpreter, options = job.context.interpreter, job.found.options
    decides = {
        "schema": SCHEMA,
        "entries": rows(job.found.entries),
        "constraints": rows(job.found.constraints),
        "options": [options.pre, options.prefer_binary, options.no_binary, options.only_binary],
        "interpreter": [interpreter.implementation, interpreter.version, interpreter.abi],
        "platform": interpreter.platform,
        "tools": job.section.tools,
    }
    return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:32]


def _resolve(
    job: _Job,
    wheels: Mapping[str, Wheel],
    *,
    existing: Iterable[Requirement] = (),
    upgrade: bool = False,
    names: tuple[str, ...] = (),
) -> tuple[Requirement, ...]:
    """Return every package that is needed, pinned with hashes; links stay links."""
    found = job.found
    request = ResolveRequest(
        requirements=_flat(job, wheels),
        constraints="".join(f"{entry.name}{entry.specifier}\n" for entry in found.constraints),
        existing=portable_text(existing),
        upgrade=upgrade,
        upgrade_names=names,
        origin=found.origin,
        context=job.context,
    )
    text = toolchain(job.section.tools).resolve(request)
    with files.scratch() as scratch:
        path = scratch / project_requirements.LOCK
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


def _flat(job: _Job, wheels: Mapping[str, Wheel]) -> str:
    """Return the requirements as one file without includes, markers, indexes and links."""
    options = job.context.indexes.options
    lines = [f"--no-binary {name}" for name in options.no_binary]
    lines += [f"--only-binary {name}" for name in options.only_binary]
    for entry in job.found.entries:
        extras = f"[{','.join(entry.extras)}]" if entry.extras else ""
        if entry.kind == "index":
            lines.append(f"{entry.name}{extras}{entry.specifier}")
        else:
            wheel = wheels[entry.written]
            lines.append(f"{wheel.name}{extras} @ {Path(wheel.path).as_uri()}")
    return "".join(f"{line}\n" for line in lines)


def _held(entry: Requirement, given: Requirement | None, found: ProjectRequirements) -> Requirement:
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


def _pins(
    entries: Iterable[Requirement], wheels: Mapping[str, Wheel], origin: str
) -> tuple[Pin, ...]:
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
