"""Find what a project requires and read it: requirement files, locks, pyproject.toml."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from packaging.dependency_groups import resolve_dependency_groups
from packaging.markers import Marker
from packaging.pylock import Package, Pylock, PylockUnsupportedVersionError, PylockValidationError
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name

from artifact import variables
from artifact.build import requirement_files
from artifact.build.indexes import Options
from artifact.build.interpreter import Interpreter
from artifact.build.requirement_files import Entry, Parsed
from artifact.config import RequirementsSection, read_toml
from artifact.errors import BuildFailed, UsageError

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


@dataclass(frozen=True, slots=True)
class Input:
    """Everything a project says about what it requires."""

    origin: str
    """The file or files, as the user knows them: "requirements.txt"."""
    kind: Kind
    entries: tuple[Entry, ...] = ()
    """Those whose marker applies to the interpreter."""
    constraints: tuple[Entry, ...] = ()
    options: Options = field(default_factory=Options)
    pinned: bool = False
    """Whether it is a lock: every entry, of any marker, is pinned with hashes."""
    digest: str = ""
    """Of the file's bytes where it is not read here (uv.lock)."""


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
                    f"requirements.files: there is no file {_shown(path, project)} in {project}",
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
        if path.is_file() and (name != "pyproject.toml" or _has_dependencies(path, section)):
            return (path,)
    raise UsageError(
        f"{project} has no requirements file",
        hint=f"write a requirements.txt (it may be empty), or name it in artifact.toml: "
        f'[requirements] files = ["…"]; looked for {", ".join(_IN_ORDER)}',
    )


def read(
    project: Path, section: RequirementsSection, interpreter: Interpreter, paths: Iterable[Path]
) -> Input:
    """Read requirement files, locks and pyproject.toml files.

    Raises:
        UsageError: a file is malformed or holds something that cannot be built from.
        BuildFailed: a file says that it is for another Python.
    """
    paths = tuple(paths)
    if any(path.name == "uv.lock" for path in paths):
        return _uv_lock(project, section, paths)
    parts = [_part(path, project, section, interpreter) for path in paths]
    entries = tuple(entry for part in parts for entry in part.entries)
    options = Options()
    for part in parts:
        options = _join(options, part.options)
    pinned = all(entry.pinned for entry in entries)
    _hold_to_hashes(entries, options, pinned=pinned)
    return Input(
        origin=", ".join(_shown(path, project) for path in paths),
        kind="requirements",
        entries=applying(entries, interpreter),
        constraints=applying((c for part in parts for c in part.constraints), interpreter),
        options=options,
        pinned=pinned,
    )


def applying(entries: Iterable[Entry], interpreter: Interpreter) -> tuple[Entry, ...]:
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


def _part(
    path: Path, project: Path, section: RequirementsSection, interpreter: Interpreter
) -> Parsed:
    if path.name == "pyproject.toml":
        return Parsed(_pyproject(path, project, section, interpreter))
    if path.name.startswith("pylock.") and path.suffix == ".toml":
        return Parsed(_pylock(path, project, section, interpreter))
    return requirement_files.parse(path, project, variables.everything())


def _join(first: Options, second: Options) -> Options:
    return Options(
        index_url=second.index_url or first.index_url,
        extra_index_urls=(*first.extra_index_urls, *second.extra_index_urls),
        find_links=(*first.find_links, *second.find_links),
        trusted_hosts=(*first.trusted_hosts, *second.trusted_hosts),
        no_index=first.no_index or second.no_index,
        pre=first.pre or second.pre,
        prefer_binary=first.prefer_binary or second.prefer_binary,
        require_hashes=first.require_hashes or second.require_hashes,
        no_binary=tuple(sorted({*first.no_binary, *second.no_binary})),
        only_binary=tuple(sorted({*first.only_binary, *second.only_binary})),
    )


def _applies(marker: str, environment: Mapping[str, str], where: str) -> bool:
    try:
        return Marker(marker).evaluate(environment)
    except ValueError as error:
        raise UsageError(
            f"{where}: {marker!r} is not an environment marker",
            hint='a marker looks like `python_version < "3.12"`',
        ) from error


def _hold_to_hashes(entries: Iterable[Entry], options: Options, *, pinned: bool) -> None:
    if not options.require_hashes or pinned:
        return
    loose = next(entry for entry in entries if not entry.pinned)
    raise UsageError(
        f"{loose.where}: {loose.name} is not pinned with hashes, "
        "though the file says `--require-hashes`",
        hint="add its hash; or remove that line and run `artifact lock`, which writes all hashes",
    )


def _uv_lock(project: Path, section: RequirementsSection, paths: tuple[Path, ...]) -> Input:
    if len(paths) > 1:
        raise UsageError(
            "requirements.files: uv.lock cannot be joined with other files",
            hint="name uv.lock alone: it holds everything the project requires",
        )
    beside = paths[0].with_name("pyproject.toml")
    if not beside.is_file():
        raise UsageError(
            f"{_shown(paths[0], project)} has no pyproject.toml beside it",
            hint="commit pyproject.toml too: uv.lock belongs to it",
        )
    digest = hashlib.sha256(repr((section.extras, section.groups)).encode())
    for path in (paths[0], beside):
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return Input(_shown(paths[0], project), "uv.lock", pinned=True, digest=digest.hexdigest())


def _has_dependencies(path: Path, section: RequirementsSection) -> bool:
    content = read_toml(path)
    if section.groups or section.extras:
        return True
    table = _table(content, "project")
    dynamic = table.get("dynamic")
    if isinstance(dynamic, list) and "dependencies" in dynamic:
        return True
    poetry = _table(_table(content, "tool"), "poetry")
    return "dependencies" in table or "dependencies" in poetry


def _pyproject(
    path: Path, project: Path, section: RequirementsSection, interpreter: Interpreter
) -> tuple[Entry, ...]:
    content, shown = read_toml(path), _shown(path, project)
    table = _table(content, "project")
    _hold_to_python(str(table.get("requires-python", "")), shown, interpreter)
    if "dependencies" in _list(table, "dynamic"):
        raise UsageError(
            f"{shown}: project.dependencies is dynamic: only the build backend knows them",
            hint="write them to a requirements.in, or name the file they come from: "
            '[requirements] files = ["…"]',
        )
    if not table and "poetry" in _table(content, "tool"):
        raise UsageError(
            f"{shown}: the dependencies are in Poetry's own table",
            hint="run `poetry export --format requirements.txt --output requirements.lock` "
            "and commit the result",
        )
    own = canonicalize_name(str(table.get("name", "")))
    texts = list(_list(table, "dependencies"))
    optional = _table(table, "optional-dependencies")
    for extra in section.extras:
        texts += _extra(extra, optional, shown)
    entries: list[Entry] = []
    seen: set[str] = set()
    texts += _groups(content, section, shown)
    while texts:
        entry = requirement_files.parse_line(texts.pop(0), project, shown)
        if entry.name != own or entry.kind != "index" or not own:
            entries.append(entry)
            continue
        for extra in entry.extras:  # "accounting[postgres]" in accounting's own extras
            if extra not in seen:
                seen.add(extra)
                texts += _extra(extra, optional, shown)
    return tuple(entries)


def _extra(name: str, optional: Mapping[str, Any], shown: str) -> list[str]:
    for key, value in optional.items():
        if canonicalize_name(key) == canonicalize_name(name) and isinstance(value, list):
            return [str(text) for text in value]
    raise UsageError(
        f"{shown}: there is no extra {name!r}",
        hint=f"it has: {', '.join(sorted(optional)) or 'none'}",
    )


def _groups(content: Mapping[str, Any], section: RequirementsSection, shown: str) -> list[str]:
    groups = _table(content, "dependency-groups")
    try:
        return list(resolve_dependency_groups(groups, *section.groups))
    except* (LookupError, ValueError, TypeError) as several:
        first: BaseException = several
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        reason = str(first.args[0]) if first.args else type(first).__name__
        raise UsageError(
            f"{shown}: dependency-groups: {reason}",
            hint=f"it has: {', '.join(sorted(groups)) or 'none'}",
        ) from first


def _pylock(
    path: Path, project: Path, section: RequirementsSection, interpreter: Interpreter
) -> tuple[Entry, ...]:
    shown = _shown(path, project)
    try:
        lock = Pylock.from_dict(read_toml(path))
    except (PylockValidationError, PylockUnsupportedVersionError, InvalidRequirement) as error:
        raise UsageError(
            f"{shown} is not a lock: {error}", hint="write it anew with the tool that made it"
        ) from error
    _hold_to_python(str(lock.requires_python or ""), shown, interpreter)
    chosen: dict[str, str | frozenset[str]] = {
        **interpreter.markers,
        "extras": frozenset(section.extras),
        "dependency_groups": frozenset((*section.groups, *(lock.default_groups or ()))),
    }
    if lock.environments and not any(
        marker.evaluate(chosen, context="requirement") for marker in lock.environments
    ):
        raise BuildFailed(
            f"{shown} is not for Python {interpreter.version} on {interpreter.platform}",
            hint="lock again for this interpreter, or configure the one it was locked for",
        )
    return tuple(
        _locked(package, path, project, shown)
        for package in lock.packages
        if package.marker is None or package.marker.evaluate(chosen, context="lock_file")
    )


def _locked(package: Package, path: Path, project: Path, shown: str) -> Entry:
    where = f"{shown}: {package.name}"
    if package.vcs is not None:
        tail = f"#subdirectory={package.vcs.subdirectory}" if package.vcs.subdirectory else ""
        url = package.vcs.url or str((path.parent / (package.vcs.path or "")).resolve().as_uri())
        text = f"{package.name} @ {package.vcs.type}+{url}@{package.vcs.commit_id}{tail}"
    elif package.directory is not None:
        text = str(path.parent / package.directory.path)
    elif package.archive is not None:
        url = package.archive.url or (path.parent / (package.archive.path or "")).as_uri()
        text = f"{package.name} @ {url}"
    else:
        text = f"{package.name}=={package.version}"
    found = [wheel.hashes for wheel in package.wheels or ()]
    found += [file.hashes for file in (package.sdist, package.archive) if file is not None]
    hashes = {_hash(hashes) for hashes in found} - {""}
    entry = requirement_files.parse_line(text, project, where, hashes=sorted(hashes))
    return replace(entry, name=package.name)


def _hash(hashes: Mapping[str, str]) -> str:
    for algorithm in ("sha256", "sha512", "sha384"):
        if algorithm in hashes:
            return f"{algorithm}:{hashes[algorithm]}"
    return ""


def _hold_to_python(requires: str, shown: str, interpreter: Interpreter) -> None:
    try:
        fits = SpecifierSet(requires).contains(interpreter.version, prereleases=True)
    except InvalidSpecifier as error:
        raise UsageError(f"{shown}: requires-python {requires!r} is not a version range") from error
    if not fits:
        raise BuildFailed(
            f"{shown} requires Python {requires}, "
            f"but the configured interpreter is Python {interpreter.version}",
            hint="name another in artifact.toml: [python] interpreter",
        )


def _table(content: Mapping[str, Any], name: str) -> dict[str, Any]:
    found = content.get(name, {})
    return found if isinstance(found, dict) else {}


def _list(content: Mapping[str, Any], name: str) -> list[str]:
    found = content.get(name, [])
    return [str(item) for item in found] if isinstance(found, list) else []


def _shown(path: Path, project: Path) -> str:
    relative = os.path.relpath(path, project)
    return str(path) if relative.startswith("../..") else relative


def source_of_lock(project: Path) -> Path | None:
    """Return the requirement file that `requirements.lock` was most likely made from."""
    for name in ("requirements.in", "requirements.txt"):
        if (project / name).is_file():
            return project / name
    return None


def satisfies(version: str, specifier: str) -> bool:
    """Tell whether a version is within a range; a range nobody can read takes any."""
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
        return canonicalize_name(Requirement(text).name)
    except InvalidRequirement as error:
        raise UsageError(
            f"{text!r} is not the name of a package", hint="a name looks like `django`"
        ) from error
