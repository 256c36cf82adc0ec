"""`artifact pull`"""

from __future__ import annotations

from pathlib import Path

import click

from artifact import steps
from artifact.cli import store, terminal


@click.command()
@click.argument("reference", metavar="REF")
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    default=Path(),
    help="Directory to write it into; the current one if left out.",
)
@click.option("--digest", default="", metavar="sha256:…", help="Fetch this content, or nothing.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@terminal.talking
def command(
    *, reference: str, output: Path, digest: str, as_json: bool, tell: steps.Listener
) -> None:
    """Fetch a whole artifact from the store, verify it and print its path.

    REF is a URL, a name in the store (accounting-1337.tgz) or what a channel points to
    (accounting@production).
    """
    from artifact.errors import UsageError
    from artifact.transfer import fetching, references

    found = references.find(reference, store.section)
    if isinstance(found, Path):
        raise UsageError(f"{found} is a file here already", hint="give a name in the store")
    fetched = fetching.fetch(found, output.absolute(), digest, tell)
    if as_json:
        terminal.document(
            "pull",
            {
                "artifact": str(fetched.path),
                "digest": fetched.digest,
                "bytes": fetched.size,
                "already_there": fetched.was_there,
            },
        )
    else:
        terminal.data(str(fetched.path))
