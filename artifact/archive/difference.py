"""What changed between two artifacts, found from their manifests and tables of contents."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from artifact.archive.opening import Artifact
from artifact.archive.toc import Record
from artifact.manifest import Component, Manifest

_NOT_SETTINGS = frozenset(
    {"assets", "built", "components", "created", "environment", "migrations", "name", "sequence"}
    | {"source", "version"}
)


class Change(msgspec.Struct, frozen=True):
    """Something that is only in one of the two, or not the same in both."""

    name: str
    old: str | None
    new: str | None

    @property
    def sign(self) -> str:
        """`+`, `-` or `~`."""
        return _sign(self.old, self.new)


class FileChange(msgspec.Struct, frozen=True):
    """A file, link or directory that is only in one, or differs in content, mode or target."""

    component: str
    path: str
    old: Record | None
    new: Record | None

    @property
    def sign(self) -> str:
        """`+`, `-` or `~`."""
        return _sign(self.old, self.new)


class SizeChange(msgspec.Struct, frozen=True):
    """A component's bytes in the file and unpacked; 0 where it is not there."""

    component: str
    old: int
    new: int
    old_raw: int
    new_raw: int
    same: bool
    """The trees are equal: a host that has the old one need not fetch the new one."""


class Difference(msgspec.Struct, frozen=True):
    """All of it; empty tuples where nothing changed."""

    settings: tuple[Change, ...]
    """Keys of the manifest that an install acts on: "processes.web.command"."""
    packages: tuple[Change, ...]
    migrations: tuple[Change, ...]
    """Named "app.0007_name"."""
    files: tuple[FileChange, ...]
    sizes: tuple[SizeChange, ...]


def _sign(old: object, new: object) -> str:
    if old is None:
        return "+"
    return "-" if new is None else "~"


def compare(old: Artifact, new: Artifact) -> Difference:
    """Return what changed; reads the tables of contents of those components that differ.

    Raises:
        ArtifactRejected: a table of contents is wrong.
    """
    found = compare_manifests(old.manifest, new.manifest)
    changed = [size.component for size in found.sizes if not size.same]
    return msgspec.structs.replace(
        found, files=tuple(change for name in changed for change in _files(old, new, name))
    )


def compare_manifests(before: Manifest, after: Manifest) -> Difference:
    """Return what the manifests alone tell: everything but the files."""
    return Difference(
        settings=_changes(_settings(before), _settings(after)),
        packages=_changes(before.environment.packages, after.environment.packages),
        migrations=_changes(_migrations(before), _migrations(after)),
        files=(),
        sizes=tuple(_sizes(before, after)),
    )


def _changes(old: Mapping[str, str], new: Mapping[str, str]) -> tuple[Change, ...]:
    return tuple(
        Change(name, old.get(name), new.get(name))
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    )


def _migrations(manifest: Manifest) -> dict[str, str]:
    return {f"{app}.{name}": "" for app, names in manifest.migrations.items() for name in names}


def _settings(manifest: Manifest) -> dict[str, str]:
    """Return what an install acts on as "dotted.key" to text."""
    whole: dict[str, Any] = msgspec.to_builtins(manifest)
    chosen = {key: value for key, value in whole.items() if key not in _NOT_SETTINGS}
    return dict(_flat("", chosen))


def _flat(prefix: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _flat(f"{prefix}.{key}" if prefix else str(key), inner)
    elif isinstance(value, str):
        yield prefix, value
    elif value not in (None, {}, [], ()):
        yield prefix, msgspec.json.encode(value).decode()


def _sizes(old: Manifest, new: Manifest) -> Iterator[SizeChange]:
    before = {component.name: component for component in old.components}
    after = {component.name: component for component in new.components}
    for name in [*after, *(name for name in before if name not in after)]:
        one, other = before.get(name), after.get(name)
        yield SizeChange(
            component=name,
            old=_bytes(one),
            new=_bytes(other),
            old_raw=one.raw if one else 0,
            new_raw=other.raw if other else 0,
            same=one is not None and other is not None and one.tree == other.tree,
        )


def _bytes(component: Component | None) -> int:
    return component.data.length + component.toc.length if component else 0


def _files(old: Artifact, new: Artifact, component: str) -> Iterator[FileChange]:
    before, after = _records(old, component), _records(new, component)
    for path in sorted(before.keys() | after.keys()):
        one, other = before.get(path), after.get(path)
        if one != other:
            yield FileChange(component, path, one, other)


def _records(artifact: Artifact, component: str) -> dict[str, Record]:
    if component not in {one.name for one in artifact.manifest.components}:
        return {}
    return {record.path: record for record in artifact.toc(component).records}
