"""Find what a project requires and read it: requirement files, locks, pyproject.toml."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import reduce
from pathlib import Path
from typing import Literal

import msgspec
from packaging import requirements as pep508
from packaging.markers import Marker
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name

from artifact import variables
from artifact.building.interpreter import Interpreter
from artifact.building.locking import indexes, requirement_files, requirement_tables
from artifact.building.locking.indexes import Options
from artifact.building.locking.requirement import Requirement, shown_path
from artifact.building.locking.requirement_files import Parsed
from artifact.configuration.artifact_toml import RequirementsSection
from artifact.errors import UsageError

LOCK = "requirements.lock"
"""What `artifact lock` writes."""
_IN_ORDER = (
    LOCK,
    "uv.lock",
    "pylock.toml",
    "requirements.txt",
    "requirements.in",
    "pyproject.toml",
)
_FOREIGN = ("uv.lock", "pylock.toml")
_UNPINNED = ("requirements.in", "requirements.txt", "pyproject.toml")

Kind = Literal["requirements", "uv.lock"]


class ProjectRequirements(msgspec.Struct, frozen=True):
    """Everything a project says about what it requires."""

    origin: str
    """The file or files, as the user knows them: "requirements.txt"."""
    kind: Kind
    entries: tuple[Requirement, ...] = ()
    """Those whose marker applies to the interpreter."""
    constraints: tuple[Requirement, ...] = ()
    options: Options = msgspec.field(default_factory=Options)
    is_lock: bool = False
    """Whether it is a lock: every entry, of any marker, is pinned with hashes."""
    digest: str = ""
    """For uv.lock: digest of it, its pyproject.toml, and the chosen extras and groups."""


def find(project: Path, section: RequirementsSection, *, locks: bool = True) -> tuple[Path, ...]:
    """Return the files a project's requirements are in: the configured ones, else the first found.

    Args:
        locks: take a lock where there is one; `artifact lock` looks for what to lock.

    Raises:
        UsageError: a configured file is missing, or there is none.
    """
    named = [name for name in section.files if locks or Path(name).name != LOCK]
    if named:
        paths = tuple(project / name for name in named)
        for path in paths:
            if not path.is_file():
                raise UsageError(
                    "requirements.files: "
                    f"there is no file {shown_path(path, project)} in {project}",
                    hint="correct the name, or remove the key to have the files found",
                )
        return paths
    for name in () if locks else _FOREIGN:
        if (project / name).is_file():
            raise UsageError(
                f"{project} is locked by {name}, which builds use as it is",
                hint=f"lock with the tool that wrote {name}, or remove it",
            )
    for name in _IN_ORDER if locks else _UNPINNED:
        path = project / name
        if path.is_file() and (
            name != "pyproject.toml" or requirement_tables.has_dependencies(path, section)
        ):
            return (path,)
    raise UsageError(
        f"{project} has no requirements file",
        hint=f"write a requirements.txt (it may be empty), or name it in artifact.toml: "
        f'[requirements] files = ["…"]; looked for {", ".join(_IN_ORDER)}',
    )


def read_requirements(
    project: Path, section: RequirementsSection, interpreter: Interpreter, paths: Iterable[Path]
) -> ProjectRequirements:
    """Read requirement files, locks and pyproject.toml files.

    Raises:
        UsageError: a file is malformed or holds something that cannot be built from.
        BuildFailed: a file says that it is for another Python.
    """
    paths = tuple(paths)
    if any(path.name == "uv.lock" for path in paths):
        return _uv_lock(project, section, paths)
    parts = [_read_file(path, project, section, interpreter) for path in paths]
    entries = tuple(entry for part in parts for entry in part.entries)
    options = reduce(Options.joined, (part.options for part in parts), Options())
    is_lock = _is_lock(paths, entries)
    _check_hashes(entries, options, is_lock=is_lock)
    return ProjectRequirements(
        origin=", ".join(shown_path(path, project) for path in paths),
        kind="requirements",
        entries=for_interpreter(entries, interpreter),
        constraints=for_interpreter(_constraints(project, parts), interpreter),
        options=options,
        is_lock=is_lock,
    )


def _constraints(project: Path, parts: Iterable[Parsed]) -> tuple[Requirement, ...]:
    """Return the constraints of requirement files, and those that pip is configured with."""
    found = [entry for part in parts for entry in part.constraints]
    for path in indexes.constraint_files(variables.everything()):
        configured = requirement_files.parse(project / path, project, variables.everything())
        found += [*configured.entries, *configured.constraints]
    for entry in found:
        if entry.kind != "index":
            raise UsageError(
                f"{entry.where}: {entry.written} is a link, and a constraint cannot be one",
                hint="move the line to a requirements file",
            )
    return tuple(found)


def _is_lock(paths: Iterable[Path], entries: Iterable[Requirement]) -> bool:
    """Tell whether the entries are a complete lock.

    Links alone are none: their own dependencies may be missing.
    """
    entries = tuple(entries)
    if not all(entry.pinned for entry in entries):
        return False
    named = all(path.name == LOCK or path.name.startswith("pylock.") for path in paths)
    return named or not entries or any(entry.kind == "index" for entry in entries)


def for_interpreter(
    entries: Iterable[Requirement], interpreter: Interpreter
) -> tuple[Requirement, ...]:
    """Return the entries whose marker applies to an interpreter, without their markers.

    Raises:
        UsageError: a marker is malformed.
    """
    environment = {**interpreter.markers, "extra": ""}
    return tuple(
        replace(entry, marker="")
        for entry in entries
        if not entry.marker or _applies(entry.marker, environment, entry.where)
    )


def _read_file(
    path: Path, project: Path, section: RequirementsSection, interpreter: Interpreter
) -> Parsed:
    shown = shown_path(path, project)
    if path.name == "pyproject.toml":
        return Parsed(requirement_tables.read_pyproject(path, shown, project, section, interpreter))
    if path.name.startswith("pylock.") and path.suffix == ".toml":
        return Parsed(requirement_tables.read_pylock(path, shown, project, section, interpreter))
    return requirement_files.parse(path, project, variables.everything())


def _applies(marker: str, environment: Mapping[str, str], where: str) -> bool:
    try:
        return Marker(marker).evaluate(environment)
    except ValueError as error:
        raise UsageError(
            f"{where}: {marker!r} is not an environment marker",
            hint='a marker looks like `python_version < "3.12"`',
        ) from error


def _check_hashes(entries: Iterable[Requirement], options: Options, *, is_lock: bool) -> None:
    if not options.require_hashes or is_lock:
        return
    loose = next((entry for entry in entries if not entry.pinned), None)
    if loose is None:
        return
    raise UsageError(
        f"{loose.where}: {loose.name} is not pinned with hashes, "
        "though the file says `--require-hashes`",
        hint="add its hash; or remove that line and run `artifact lock`, which writes all hashes",
    )


def _uv_lock(
    project: Path, section: RequirementsSection, paths: tuple[Path, ...]
) -> ProjectRequirements:
    if len(paths) > 1:
        raise UsageError(
            "requirements.files: uv.lock cannot be joined with other files",
            hint="name uv.lock alone: it holds everything the project requires",
        )
    beside = paths[0].with_name("pyproject.toml")
    if not beside.is_file():
        raise UsageError(
            f"{shown_path(paths[0], project)} has no pyproject.toml beside it",
            hint="commit pyproject.toml too: uv.lock belongs to it",
        )
    digest = hashlib.sha256(repr((section.extras, section.groups)).encode())
    for path in (paths[0], beside):
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return ProjectRequirements(
        shown_path(paths[0], project), "uv.lock", is_lock=True, digest=digest.hexdigest()
    )


def source_of_lock(project: Path) -> Path | None:
    """Return the requirement file that `requirements.lock` was most likely made from."""
    for name in ("requirements.in", "requirements.txt"):
        if (project / name).is_file():
            return project / name
    return None


def satisfies(version: str, specifier: str) -> bool:
    """Tell whether a version is within a range; a malformed range allows any version."""
    try:
        return SpecifierSet(specifier).contains(version, prereleases=True)
    except InvalidSpecifier:
        return True


def name_of(text: str) -> str:
    """Return the normalised name in "Django", "django==5.2" or "django[argon2]".

    Raises:
        UsageError: there is none.
    """
    try:
        return canonicalize_name(pep508.Requirement(text).name)
    except pep508.InvalidRequirement as error:
        raise UsageError(
            f"{text!r} is not the name of a package", hint="a name looks like `django`"
        ) from error
