"""`artifact diff`"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from artifact.cli import terminal

if TYPE_CHECKING:
    from artifact.archive.difference import Change, Difference, FileChange
    from artifact.archive.opening import Artifact

_FILES_SHOWN = 20


@click.command()
@click.argument("old", type=click.Path(path_type=Path))
@click.argument("new", type=click.Path(path_type=Path))
@click.option("--files", is_flag=True, help="List all files, also those of the environment.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document, with all files.")
def command(old: Path, new: Path, files: bool, as_json: bool) -> None:  # noqa: FBT001 - click
    """Show what changed between two artifacts.

    Settings an install acts on, packages, migrations, files, and what each component weighs;
    + is only in NEW, - only in OLD, ~ in both and not the same. Reads the tails alone.
    """
    from artifact.archive import difference, opening

    with opening.open_artifact(old) as before, opening.open_artifact(new) as after:
        found = difference.compare(before, after)
        if as_json:
            terminal.document("diff", _document(before, after, found))
            return
        terminal.data("\n".join(_report(before, after, found, every_file=files)))


def _document(old: Artifact, new: Artifact, found: Difference) -> dict[str, Any]:
    def side(artifact: Artifact) -> dict[str, Any]:
        manifest = artifact.manifest
        return {
            "name": manifest.name,
            "version": manifest.version,
            "digest": artifact.digest,
            "revision": manifest.source.revision,
        }

    def files(change: FileChange) -> dict[str, Any]:
        old, new = change.old, change.new
        return {
            "component": change.component,
            "path": change.path,
            "old": old._asdict() if old else None,
            "new": new._asdict() if new else None,
        }

    return {
        "old": side(old),
        "new": side(new),
        "settings": [msgspec.structs.asdict(change) for change in found.settings],
        "packages": [msgspec.structs.asdict(change) for change in found.packages],
        "migrations": {
            "added": [change.name for change in found.migrations if change.sign == "+"],
            "removed": [change.name for change in found.migrations if change.sign == "-"],
        },
        "files": [files(change) for change in found.files],
        "sizes": [msgspec.structs.asdict(size) for size in found.sizes],
    }


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
