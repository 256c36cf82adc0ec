"""`artifact push`"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from artifact import steps
from artifact.cli import store, terminal

if TYPE_CHECKING:
    from artifact.transfer.publishing import Published


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@terminal.talking
def command(file: Path, as_json: bool, tell: steps.Listener) -> None:  # noqa: FBT001 - click
    """Put an artifact into the store, unless it is there.

    A version is never replaced: another artifact of the same name and version is an error. Prints
    the object's name.
    """
    from artifact.archive import checking, opening

    with opening.open_artifact(file) as artifact:
        checking.verify(artifact, tell)  # what is damaged would stay so for ever
    published = publish(file, tell)
    if as_json:
        terminal.document("push", document(published))
    else:
        terminal.data(published.name)


def publish(file: Path, tell: steps.Listener) -> Published:
    """Put a file into the store of the application it holds; says what that took."""
    from artifact.archive import opening
    from artifact.building.environments import shared
    from artifact.transfer import publishing

    with opening.open_artifact(file) as artifact:
        there = store.opened(artifact.manifest.name).store
        published = publishing.publish(there, artifact, file, tell)
        shared.offer(there, artifact.manifest, artifact.digest, published.name, tell)
    size, copied = terminal.size(published.size), terminal.size(published.copied)
    how = f"{size}, {copied} of them copied there" if published.copied else size
    said = "was there already" if published.was_there else how
    tell(steps.Said(f"{published.name} in {there.address}: {said} ({published.digest})"))
    return published


def document(published: Published) -> dict[str, Any]:
    """Return what `--json` says of an upload."""
    return {
        "object": published.name,
        "digest": published.digest,
        "bytes": published.size,
        "copied": published.copied,
        "already_there": published.was_there,
    }
