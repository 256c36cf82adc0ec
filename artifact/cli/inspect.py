"""`artifact inspect`: what an artifact says of itself."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import click
import msgspec
from msgspec import UNSET, UnsetType

from artifact.archive.opening import Artifact
from artifact.archive.toc import Kind
from artifact.cli import options, store, terminal
from artifact.cli.answers import Answer, Document
from artifact.manifest import Manifest
from artifact.transfer import references


class File(msgspec.Struct, frozen=True):
    """A file, link or directory; the fields are those of `toc.Record`."""

    kind: Kind
    mode: int
    size: int
    """Bytes of content; 0 unless it is a file."""
    sha256: str
    """Of the content; empty unless it is a file."""
    path: str
    target: str
    """Of a link; else empty."""


class ListedFile(File, frozen=True):
    """A file, link or directory of a component."""

    component: str


class Inspection(Document, frozen=True, kw_only=True, tag="inspect"):
    """What an artifact says of itself."""

    digest: str
    signed: bool
    size: int
    """Bytes of the whole file."""
    manifest: Manifest
    files: tuple[ListedFile, ...] | UnsetType = UNSET
    """With `--files` only."""


@click.command()
@click.argument("reference", metavar="REF")
@click.option("--files", is_flag=True, help="List the files: mode, size, component, path.")
@click.option("--packages", is_flag=True, help="List the packages, as in a requirements file.")
@options.json
def command(*, reference: str, files: bool, packages: bool, answer: Answer) -> None:
    """Show what an artifact says of itself, from its tail alone.

    REF is a file, a URL, a name in the store (accounting-1337.tgz) or what a channel points to
    (accounting@production). What it says is not proof: `artifact verify` checks it.
    """
    with references.open_artifact(references.find(reference, store.section)) as artifact:
        listed = tuple(_files(artifact)) if files else ()
    manifest = artifact.manifest
    document = Inspection(
        digest=artifact.digest,
        signed=artifact.signature is not None,
        size=artifact.size,
        manifest=manifest,
        files=listed if files else UNSET,
    )
    lines = [] if files or packages else _summary(artifact)
    if packages:
        installed = manifest.environment.packages
        lines += [f"{name}=={version}" for name, version in sorted(installed.items())]
    answer(document, lines + _listing(listed))


def _files(artifact: Artifact) -> Iterator[ListedFile]:
    for toc in artifact.tocs():
        for record in toc.records:
            yield ListedFile(*record, toc.component.name)


def _listing(listed: Sequence[ListedFile]) -> list[str]:
    letters = {"file": "-", "directory": "d", "link": "l"}
    width = max((len(str(one.size)) for one in listed), default=0)
    return [
        f"{letters[one.kind]}{one.mode:04o}  {one.size:>{width}}  {one.component:6}  "
        f"{one.path}{' -> ' + one.target if one.target else ''}"
        for one in listed
    ]


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
