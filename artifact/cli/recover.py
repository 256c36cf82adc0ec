"""`artifact recover`: finish or take back what a run that died left half done."""

from __future__ import annotations

import click
import msgspec

from artifact import files, steps
from artifact.cli import options
from artifact.cli.answers import Answer, Document
from artifact.host.commands import recover
from artifact.host.records import releases
from artifact.site import Site


class Run(msgspec.Struct, frozen=True):
    """The run that was interrupted, and what became of it."""

    run: str
    command: str
    release: str
    how: str


class Recovery(Document, frozen=True, kw_only=True, tag="recover"):
    """What a site was brought to."""

    site: str
    live: str
    """The version; empty where nothing is live."""
    recovered: Run | None
    """None where the last run had ended."""


@click.command()
@options.site
@options.wait
@options.json
@options.verbosity
def command(*, site: Site, wait: float, answer: Answer, tell: steps.Listener) -> None:
    """Finish or take back a run that was interrupted.

    Every command that changes a site does so first by itself.
    """
    with files.locked(site.lock, doing=f"recovering {site.root}", wait=wait, tell=tell):
        done = recover.recover(site, tell)
        live = releases.live_version(site)
    run = None
    if done is not None:
        began = done.run.began
        run = Run(began.run, began.command, began.version, done.how)
    lines = (
        done.summary if done else "the last run had ended; nothing to recover",
        f"{live or 'nothing'} is live in {site.root}",
    )
    answer(Recovery(site=str(site.root), live=live, recovered=run), lines)
