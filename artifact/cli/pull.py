"""`artifact pull`: fetch a whole artifact from the store."""

from __future__ import annotations

from pathlib import Path

import click

from artifact import steps
from artifact.cli import options, store
from artifact.cli.answers import Answer, Document
from artifact.errors import UsageError
from artifact.transfer import fetching, references


class Pulled(Document, frozen=True, kw_only=True, tag="pull"):
    """An artifact that is in the directory now."""

    artifact: str
    """Its path."""
    digest: str
    bytes: int
    already_there: bool


@click.command()
@click.argument("reference", metavar="REF")
@click.option(
    "--output",
    type=options.PATH,
    default=Path(),
    help="Directory to write it into; the current one if left out.",
)
@options.digest
@options.json
@options.verbosity
def command(
    *, reference: str, output: Path, digest: str, answer: Answer, tell: steps.Listener
) -> None:
    """Fetch a whole artifact from the store, verify it and print its path.

    REF is a URL, a name in the store (accounting-1337.tgz) or what a channel points to
    (accounting@production).
    """
    found = references.find(reference, store.section)
    if isinstance(found, Path):
        raise UsageError(f"{found} is a file here already", hint="give a name in the store")
    fetched = fetching.fetch(found, output.absolute(), digest, tell)
    document = Pulled(
        artifact=str(fetched.path),
        digest=fetched.digest,
        bytes=fetched.size,
        already_there=fetched.was_there,
    )
    answer(document, [document.artifact])
