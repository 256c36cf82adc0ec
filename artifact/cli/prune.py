"""`artifact prune`: delete what a site needs no more."""

from __future__ import annotations

import click
import msgspec

from artifact import steps
from artifact.cli import options, terminal
from artifact.cli.answers import Answer, Document
from artifact.host.commands import prune
from artifact.host.commands.prune import Pruning
from artifact.site import Site


class Deleted(msgspec.Struct, frozen=True):
    """Something that is deleted, and why."""

    kind: str
    name: str
    size: int
    reason: str


class Kept(msgspec.Struct, frozen=True):
    """A release that stays, and why."""

    release: str
    reason: str


class Pruned(Document, frozen=True, kw_only=True, tag="prune"):
    """What was deleted, or would be."""

    site: str
    keep: int
    """How many good releases stay."""
    size: int
    """Bytes of all that is deleted."""
    delete: tuple[Deleted, ...]
    kept: tuple[Kept, ...]


@click.command()
@options.site
@click.option(
    "--keep",
    type=click.IntRange(min=1),
    help="How many good releases stay; [install] keep if left out.",
)
@options.wait
@options.plan
@options.json
@options.verbosity
def command(
    *, site: Site, keep: int | None, wait: float, plan: bool, answer: Answer, tell: steps.Listener
) -> None:
    """Delete the releases and environments of a site that nobody needs.

    These stay: what is live or was before, what a slot or another process still runs, and the
    newest good releases. A failed release goes after a week, an environment a day after the last
    release that needs it, and an unfinished download after a day.
    """
    wanted = keep or prune.keep_of(site)
    pruning = prune.plan(site, wanted) if plan else prune.prune(site, wanted, wait, tell)
    document = Pruned(
        site=str(site.root),
        keep=wanted,
        size=pruning.size,
        delete=tuple(Deleted(one.kind, one.name, one.size, one.reason) for one in pruning.doomed),
        kept=tuple(Kept(one.version, one.reason) for one in pruning.kept),
    )
    answer(document, _lines(pruning, plan=plan))
    count, said = len(pruning.doomed), "would be deleted" if plan else "deleted"
    size = terminal.size(pruning.size)
    tell(steps.Said(f"{count} {said}, {size}" if count else "nothing to do"))


def _lines(pruning: Pruning, *, plan: bool) -> list[str]:
    rows = [
        ("delete", f"{one.kind} {one.name}", terminal.size(one.size), one.reason)
        for one in pruning.doomed
    ]
    if plan:
        rows += [("keep", f"release {one.version}", "", one.reason) for one in pruning.kept]
    return terminal.table(rows)
