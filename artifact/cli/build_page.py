"""What a build made, as a page of Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from artifact.archive import difference
from artifact.archive.difference import Change, SizeChange
from artifact.cli import terminal
from artifact.cli.build import Build
from artifact.errors import UsageError
from artifact.manifest import Manifest

# What would end a table's cell, start a tag or a link, or format: the text is others'.
_SPECIAL = re.compile(r"([\\`*_\[\]<>|~#])")
_ROWS_SHOWN = 100


def read(path: Path) -> Build:
    """Return the document.

    Raises:
        UsageError: the file cannot be read or holds something else.
    """
    hint = f"artifact build --json > {path}"
    try:
        return msgspec.json.decode(path.read_bytes(), type=Build)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}", hint=hint) from error
    except msgspec.MsgspecError as error:
        raise UsageError(
            f"{path} is not what `artifact build --json` prints: {error}", hint=hint
        ) from error


def check(build: Build, digest: str) -> None:
    """Refuse a document that tells of another artifact than the one at its path.

    Raises:
        UsageError: their digests differ.
    """
    if build.digest != digest:
        raise UsageError(
            f"{build.artifact} has {digest}, but the build made {build.digest}",
            hint="build again; another build has written the same file",
        )


def page(build: Build, made: Manifest, before: Manifest | None) -> Iterator[str]:
    """Yield the lines of the page."""
    size = terminal.size(build.bytes)
    yield f"## {_plain(made.reference)}: {size} in {build.seconds:.1f} s"
    yield ""
    yield from _facts(build, made)
    if before is None:
        yield ""
        yield "Nothing is known of an earlier artifact to compare with."
        yield from _sizes(difference.compare_manifests(made, made).sizes, known=False)
    else:
        yield from _changes(before, made)
    yield from _table(
        "Seconds",
        ("step", "seconds", ""),
        [(step.name, f"{step.seconds:.1f}", step.note) for step in build.steps],
    )


def _facts(build: Build, made: Manifest) -> Iterator[str]:
    source, built = made.source, made.built
    yield f"- digest: `{build.digest}`"
    if source.revision:
        branch = f" on {_plain(source.branch)}" if source.branch else ""
        dirty = ", with uncommitted changes" if source.dirty else ""
        yield f"- source: {_plain(source.revision)}{branch}{dirty}"
    if built is not None and built.job:
        yield f"- job: {_plain(built.job)}"
    python = made.python
    yield f"- python: {_plain(python.version)} on {_plain(python.libc or python.platform)}"
    became = "reused" if build.environment.reused else "compiled"
    why = "; ".join(build.environment.reasons)
    yield f"- environment: {build.environment.key[:12]} {became}{': ' + _plain(why) if why else ''}"


def _changes(before: Manifest, made: Manifest) -> Iterator[str]:
    found = difference.compare_manifests(before, made)
    yield ""
    yield f"### Since {_plain(before.version)}"
    changed = (
        ("packages", found.packages),
        ("migrations", found.migrations),
        ("settings", found.settings),
    )
    for title, changes in changed:
        yield from _table(title.capitalize(), ("", title, "was", "is"), _rows(changes))
    if same := [title for title, changes in changed if not changes]:
        yield ""
        yield f"No change of {' or '.join(same)}."
    yield from _sizes(found.sizes, known=True)


def _rows(changes: Sequence[Change]) -> list[tuple[str, ...]]:
    words = {"+": "added", "-": "removed", "~": "changed"}
    rows: list[tuple[str, ...]] = [
        (words[change.sign], change.name, change.old or "", change.new or "")
        for change in changes[:_ROWS_SHOWN]
    ]
    if left := len(changes) - len(rows):
        rows.append(("", f"… and {left} more: artifact diff lists all", "", ""))
    return rows


def _sizes(sizes: Sequence[SizeChange], *, known: bool) -> Iterator[str]:
    rows = []
    for size in sizes:
        was = "same content" if size.same else terminal.size(size.old)
        rows.append(
            (
                size.component,
                terminal.size(size.new),
                terminal.size(size.new_raw),
                was if known else "",
            )
        )
    yield from _table("Sizes", ("component", "in the file", "unpacked", "was"), rows)


def _table(title: str, header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    if not rows:
        return
    yield ""
    yield f"**{title}**"
    yield ""
    yield f"| {' | '.join(header)} |"
    yield "|" + "---|" * len(header)
    for row in rows:
        yield f"| {' | '.join(_plain(cell) for cell in row)} |"


def _plain(text: str) -> str:
    """Return text that Markdown shows as it is, in one line."""
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))
