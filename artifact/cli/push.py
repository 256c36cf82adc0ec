"""`artifact push`: put an artifact into the store."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec

from artifact import steps
from artifact.archive import checking, opening
from artifact.building.environments import shared
from artifact.cli import options, store, terminal
from artifact.cli.answers import Answer, Document
from artifact.transfer import publishing


class Upload(msgspec.Struct, frozen=True, kw_only=True):
    """An artifact that is in the store now."""

    object: str
    """Its name in the store."""
    digest: str
    bytes: int
    copied: int
    """Bytes that the store had already, in another artifact."""
    already_there: bool


class Pushed(Document, frozen=True, kw_only=True, tag="push"):
    """What a push put into the store; the fields are those of `Upload`."""

    object: str
    digest: str
    bytes: int
    copied: int
    already_there: bool


@click.command()
@click.argument("file", type=options.PATH)
@options.json
@options.verbosity
def command(*, file: Path, answer: Answer, tell: steps.Listener) -> None:
    """Put an artifact into the store, unless it is there.

    A version is never replaced: another artifact of the same name and version is an error. Prints
    the object's name.
    """
    with opening.open_artifact(file) as artifact:
        checking.verify(artifact, tell)  # what is damaged would stay so for ever
    upload = publish(file, tell)
    answer(Pushed(**msgspec.structs.asdict(upload)), [upload.object])


def publish(file: Path, tell: steps.Listener) -> Upload:
    """Put a file into the store of the application it holds; says what that took."""
    with opening.open_artifact(file) as artifact:
        there = store.opened(artifact.manifest.name).store
        published = publishing.publish(there, artifact, file, tell)
        shared.offer(there, artifact.manifest, artifact.digest, published.name, tell)
    size, copied = terminal.size(published.size), terminal.size(published.copied)
    how = f"{size}, {copied} of them copied there" if published.copied else size
    said = "was there already" if published.was_there else how
    tell(steps.Said(f"{published.name} in {there.address}: {said} ({published.digest})"))
    return Upload(
        object=published.name,
        digest=published.digest,
        bytes=published.size,
        copied=published.copied,
        already_there=published.was_there,
    )
