"""`artifact inspect`"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from artifact.cli import terminal

if TYPE_CHECKING:
    from artifact.archive.opening import Artifact
    from artifact.archive.toc import Record
    from artifact.manifest import Manifest


@click.command()
@click.argument("reference", metavar="REF")
@click.option("--files", is_flag=True, help="List the files: mode, size, component, path.")
@click.option("--packages", is_flag=True, help="List the packages, as in a requirements file.")
@click.option("--json", "as_json", is_flag=True, help="The manifest as one JSON document.")
def command(reference: str, files: bool, packages: bool, as_json: bool) -> None:  # noqa: FBT001 - click
    """Show what an artifact says of itself, from its tail alone.

    REF is a file, a URL, a name in the store (accounting-1337.tgz) or what a channel points to
    (accounting@production). What it says is not proof: `artifact verify` checks it.
    """
    from artifact.cli import store
    from artifact.transfer import references

    with references.opened(references.find(reference, store.section)) as artifact:
        records = list(_records(artifact)) if files else []
        if as_json:
            terminal.document("inspect", _document(artifact, records, files=files))
            return
        lines = [] if files or packages else _summary(artifact)
        if packages:
            installed = artifact.manifest.environment.packages
            lines += [f"{name}=={version}" for name, version in sorted(installed.items())]
        lines += _listing(records)
        if lines:
            terminal.data("\n".join(lines))


def _records(artifact: Artifact) -> Iterator[tuple[str, Record]]:
    for toc in artifact.tocs():
        for record in toc.records:
            yield toc.component.name, record


def _listing(records: list[tuple[str, Record]]) -> list[str]:
    letters = {"file": "-", "directory": "d", "link": "l"}
    width = max((len(str(record.size)) for _, record in records), default=0)
    return [
        f"{letters[record.kind]}{record.mode:04o}  {record.size:>{width}}  {component:6}  "
        f"{record.path}{' -> ' + record.target if record.target else ''}"
        for component, record in records
    ]


def _document(
    artifact: Artifact, records: list[tuple[str, Record]], *, files: bool
) -> dict[str, Any]:
    import msgspec

    content: dict[str, Any] = {
        "digest": artifact.digest,
        "signed": artifact.signature is not None,
        "size": artifact.size,
        "manifest": msgspec.to_builtins(artifact.manifest),
    }
    if files:
        content["files"] = [
            {"component": component, **record._asdict()} for component, record in records
        ]
    return content


def _summary(artifact: Artifact) -> list[str]:
    manifest = artifact.manifest
    facts = [(name, value) for name, value in _facts(artifact) if value]
    lines = [f"{manifest.name} {manifest.version}", *terminal.table([*facts]), ""]
    rows = [
        (
            component.name,
            terminal.size(component.data.length + component.toc.length),
            terminal.size(component.raw),
            f"{component.entries:,}",
            component.tree[:16],
        )
        for component in manifest.components
    ]
    lines += terminal.table(rows, header=("component", "size", "unpacked", "entries", "tree"))
    if manifest.processes:
        processes = [
            (name, one.listen or f"{one.instances} x", one.command)
            for name, one in sorted(manifest.processes.items())
        ]
        lines += ["", *terminal.table(processes, header=("process", "listen", "command"))]
    return lines


def _facts(artifact: Artifact) -> Iterator[tuple[str, str]]:
    manifest = artifact.manifest
    python = manifest.python
    yield "digest", artifact.digest
    yield (
        "signed",
        "yes; `artifact verify --signers FILE` says by whom" if artifact.signature else "no",
    )
    yield "source", _source(manifest)
    yield "created", time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(manifest.created))
    if manifest.built:
        built = manifest.built
        yield "built", ", ".join(filter(None, (f"artifact {built.tool}", built.ci, built.job)))
    yield "installs to", manifest.root
    yield "python", f"{python.implementation} {python.version}, {python.platform}"
    yield "interpreter", python.interpreter
    needs = [f"glibc {python.glibc}" if python.glibc else "", *python.libraries]
    yield "needs", ", ".join(filter(None, needs))
    count = len(manifest.environment.packages)
    yield "environment", f"{manifest.environment.key}, {_count(count, 'package')}"
    if manifest.migrations:
        total = sum(map(len, manifest.migrations.values()))
        applications = _count(len(manifest.migrations), "application")
        yield "migrations", f"{total} in {applications}"
    raw = sum(component.raw for component in manifest.components)
    yield "size", f"{terminal.size(artifact.size)}, {terminal.size(raw)} unpacked"


def _source(manifest: Manifest) -> str:
    source = manifest.source
    parts = [source.revision, f"on {source.branch}" if source.branch else "", source.remote]
    text = " ".join(filter(None, parts))
    return f"{text} (with uncommitted changes)" if source.dirty else text


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"
