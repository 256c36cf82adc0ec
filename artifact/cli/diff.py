"""`artifact diff`: what changed between two artifacts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import click
import msgspec

from artifact.archive import difference, opening
from artifact.archive.difference import Change, Difference, FileChange, SizeChange
from artifact.archive.opening import Artifact
from artifact.cli import options, terminal
from artifact.cli.answers import Answer, Document
from artifact.cli.inspect import File

_FILES_SHOWN = 20


class Side(msgspec.Struct, frozen=True):
    """One of the two artifacts."""

    name: str
    version: str
    digest: str
    revision: str
    """Of the source."""


class Migrations(msgspec.Struct, frozen=True):
    """Migrations that only one of the two has."""

    added: tuple[str, ...]
    removed: tuple[str, ...]


class ChangedFile(msgspec.Struct, frozen=True):
    """A file, link or directory that is not the same in both."""

    component: str
    path: str
    old: File | None
    new: File | None


class Changes(Document, frozen=True, kw_only=True, tag="diff"):
    """What changed between two artifacts."""

    old: Side
    new: Side
    settings: tuple[Change, ...]
    packages: tuple[Change, ...]
    migrations: Migrations
    files: tuple[ChangedFile, ...]
    sizes: tuple[SizeChange, ...]


@click.command()
@click.argument("old", type=options.PATH)
@click.argument("new", type=options.PATH)
@click.option("--files", is_flag=True, help="List all files, also those of the environment.")
@options.json
def command(*, old: Path, new: Path, files: bool, answer: Answer) -> None:
    """Show what changed between two artifacts.

    Settings an install acts on, packages, migrations, files, and what each component weighs;
    + is only in NEW, - only in OLD, ~ in both and not the same. Reads the tails alone. --json has
    all files.
    """
    with opening.open_artifact(old) as before, opening.open_artifact(new) as after:
        found = difference.compare(before, after)
    answer(_document(before, after, found), _report(before, after, found, every_file=files))


def _document(old: Artifact, new: Artifact, found: Difference) -> Changes:
    added, removed = (
        tuple(change.name for change in found.migrations if change.sign == sign) for sign in "+-"
    )
    return Changes(
        old=_side(old),
        new=_side(new),
        settings=found.settings,
        packages=found.packages,
        migrations=Migrations(added, removed),
        files=tuple(
            ChangedFile(
                change.component,
                change.path,
                File(*change.old) if change.old else None,
                File(*change.new) if change.new else None,
            )
            for change in found.files
        ),
        sizes=found.sizes,
    )


def _side(artifact: Artifact) -> Side:
    manifest = artifact.manifest
    return Side(manifest.name, manifest.version, artifact.digest, manifest.source.revision)


def _report(old: Artifact, new: Artifact, found: Difference, *, every_file: bool) -> Iterator[str]:
    before, after = old.manifest, new.manifest
    yield f"{before.name} {before.version} → {after.name} {after.version}"
    if old.digest == new.digest:
        yield "the same artifact"
        return
    if before.source.revision != after.source.revision:
        yield f"source {before.source.revision or 'unknown'} → {after.source.revision or 'unknown'}"
    if after.source.dirty:
        yield f"{after.version} holds uncommitted changes"
    yield from _section("settings", found.settings)
    yield from _section("packages", found.packages)
    yield from _section("migrations", found.migrations)
    yield from _files(found.files, every_file=every_file)
    yield ""
    rows = [
        (
            size.component,
            "same" if size.same else "changed",
            terminal.size(size.old),
            terminal.size(size.new),
            _delta(size.new - size.old),
        )
        for size in found.sizes
    ]
    rows.append(
        ("file", "", terminal.size(old.size), terminal.size(new.size), _delta(new.size - old.size))
    )
    yield from terminal.table(rows, header=("component", "content", "old", "new", "difference"))


def _section(title: str, changes: Sequence[Change]) -> Iterator[str]:
    if not changes:
        return
    yield ""
    yield f"{title}: {_counts(changes)}"
    yield from terminal.table(
        [(f"  {change.sign}", change.name, _values(change.old, change.new)) for change in changes]
    )


def _files(changes: Sequence[FileChange], *, every_file: bool) -> Iterator[str]:
    for component in dict.fromkeys(change.component for change in changes):
        own = [change for change in changes if change.component == component]
        yield ""
        yield f"files of {component}: {_counts(own)}"
        # The packages say what an environment's files would say at length.
        most = len(own) if every_file else 0 if component == "venv" else _FILES_SHOWN
        rows = [(f"  {change.sign}", change.path, _content(change)) for change in own[:most]]
        yield from terminal.table(rows)
        if most < len(own) and component != "venv":
            yield f"  … and {len(own) - most} more; --files lists all"


def _content(change: FileChange) -> str:
    old, new = change.old, change.new
    if old is None or new is None:
        one = old or new
        assert one is not None
        return terminal.size(one.size) if one.kind == "file" else one.target or one.kind
    if old.kind != new.kind:
        return f"{old.kind} → {new.kind}"
    if old.target != new.target:
        return f"{old.target} → {new.target}"
    if old.sha256 == new.sha256:
        return f"{old.mode:04o} → {new.mode:04o}"
    if old.size == new.size:
        return f"other content, {terminal.size(new.size)}"
    return f"{terminal.size(old.size)} → {terminal.size(new.size)}"


def _counts(changes: Sequence[Change] | Sequence[FileChange]) -> str:
    signs = [change.sign for change in changes]
    words = (("~", "changed"), ("+", "added"), ("-", "removed"))
    return ", ".join(f"{signs.count(sign)} {word}" for sign, word in words if sign in signs)


def _values(old: str | None, new: str | None) -> str:
    if old is None or new is None:
        return old or new or ""
    return f"{old} → {new}"


def _delta(count: int) -> str:
    if count == 0:
        return "±0"
    return f"{'+' if count > 0 else '−'}{terminal.size(abs(count))}"
