"""Read requirements out of TOML files: pyproject.toml and pylock.toml."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from packaging.dependency_groups import resolve_dependency_groups
from packaging.pylock import Package, Pylock, PylockUnsupportedVersionError, PylockValidationError
from packaging.requirements import InvalidRequirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name

from artifact.building.interpreter import Interpreter
from artifact.building.locking.requirement import Requirement, parse_requirement
from artifact.configuration.artifact_toml import RequirementsSection
from artifact.configuration.toml_document import read_toml
from artifact.errors import BuildFailed, UsageError


def has_dependencies(path: Path, section: RequirementsSection) -> bool:
    """Tell whether a pyproject.toml says anything about dependencies."""
    content = read_toml(path)
    if section.groups or section.extras:
        return True
    about = _table(content, "project")
    dynamic = about.get("dynamic")
    if isinstance(dynamic, list) and "dependencies" in dynamic:
        return True
    poetry = _table(_table(content, "tool"), "poetry")
    return "dependencies" in about or "dependencies" in poetry


def read_pyproject(
    path: Path, shown: str, project: Path, section: RequirementsSection, interpreter: Interpreter
) -> tuple[Requirement, ...]:
    """Return `project.dependencies`, with those of the chosen extras and dependency groups.

    Args:
        shown: the file's name for messages.

    Raises:
        UsageError: the file is malformed, or does not say what the dependencies are.
        BuildFailed: the project is for another Python.
    """
    content = read_toml(path)
    about = _table(content, "project")
    _hold_to_python(str(about.get("requires-python", "")), shown, interpreter)
    if "dependencies" in _list(about, "dynamic"):
        raise UsageError(
            f"{shown}: project.dependencies is dynamic: only the build backend knows them",
            hint="write them to a requirements.in, or name the file they come from: "
            '[requirements] files = ["…"]',
        )
    if not about and "poetry" in _table(content, "tool"):
        raise UsageError(
            f"{shown}: the dependencies are in Poetry's own table",
            hint="run `poetry export --format requirements.txt --output requirements.lock` "
            "and commit the result",
        )
    own = canonicalize_name(str(about.get("name", "")))
    texts = list(_list(about, "dependencies"))
    optional = _table(about, "optional-dependencies")
    for extra in section.extras:
        texts += _extra(extra, optional, shown)
    entries: list[Requirement] = []
    seen: set[str] = set()
    texts += _groups(content, section, shown)
    while texts:
        entry = parse_requirement(texts.pop(0), project, shown)
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


def read_pylock(
    path: Path, shown: str, project: Path, section: RequirementsSection, interpreter: Interpreter
) -> tuple[Requirement, ...]:
    """Return the packages of a pylock.toml that are for an interpreter.

    Raises:
        UsageError: the file is malformed, or holds what cannot be built from.
        BuildFailed: it is for another Python or platform.
    """
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


def _locked(package: Package, path: Path, project: Path, shown: str) -> Requirement:
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
    entry = parse_requirement(text, project, where, hashes=sorted(hashes))
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
