"""What `pip check` does, from outside: does every installed package have what it requires?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path

import msgspec
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import NormalizedName, canonicalize_name
from packaging.version import InvalidVersion


class Package(msgspec.Struct, frozen=True):
    """An installed distribution."""

    name: NormalizedName
    version: str
    requires: tuple[Requirement, ...]


def installed_packages(site_packages: Iterable[Path]) -> tuple[Package, ...]:
    """Return the packages in these directories, sorted by name."""
    found: dict[str, Package] = {}
    for distribution in metadata.distributions(path=[str(path) for path in site_packages]):
        name = canonicalize_name(distribution.metadata["Name"] or "")
        if name and name not in found:
            requires = tuple(_requirements(distribution.requires or []))
            found[name] = Package(name, distribution.version, requires)
    return tuple(found[name] for name in sorted(found))


def _requirements(lines: Iterable[str]) -> Iterable[Requirement]:
    for line in lines:
        try:
            yield Requirement(line)
        except InvalidRequirement:
            # Old packages have such lines; no installer of today could have resolved by them.
            continue


def problems(packages: Iterable[Package], markers: Mapping[str, str]) -> list[str]:
    """Return one sentence for every requirement that is missing or not met.

    Requirements of an extra count when another installed package asks for that extra.
    """
    by_name = {package.name: package for package in packages}
    requested_extras: dict[NormalizedName, set[str]] = {name: {""} for name in by_name}
    found: dict[str, None] = {}
    to_do = [(package, "") for package in by_name.values()]
    while to_do:
        package, extra = to_do.pop()
        for requirement in package.requires:
            if not _applies(requirement, markers, extra):
                continue
            name = canonicalize_name(requirement.name)
            if complaint := _complaint(package, requirement, by_name.get(name)):
                found[complaint] = None
                continue
            extras = {canonicalize_name(requested) for requested in requirement.extras}
            for new_extra in extras - requested_extras[name]:
                requested_extras[name].add(new_extra)
                to_do.append((by_name[name], new_extra))
    return sorted(found)


def _applies(requirement: Requirement, markers: Mapping[str, str], extra: str) -> bool:
    if requirement.marker is None:
        return True
    return requirement.marker.evaluate({**markers, "extra": extra})


def _complaint(package: Package, requirement: Requirement, installed: Package | None) -> str:
    wanted = f"{requirement.name}{requirement.specifier}"
    if installed is None:
        return f"{package.name} {package.version} requires {wanted}, which is not installed"
    try:
        # A pre-release that was locked was meant.
        fits = requirement.specifier.contains(installed.version, prereleases=True)
    except InvalidVersion:
        fits = True
    if fits:
        return ""
    return (
        f"{package.name} {package.version} requires {wanted}, "
        f"but {installed.name} {installed.version} is installed"
    )
