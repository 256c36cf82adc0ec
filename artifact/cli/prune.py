"""`artifact prune`: delete what a site needs no more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from artifact import steps
from artifact.cli import durations, terminal

if TYPE_CHECKING:
    from artifact.host.commands.prune import Pruning


@click.command()
@click.argument("site", required=False)
@click.option(
    "--keep",
    type=click.IntRange(min=1),
    help="How many good releases stay; [install] keep if left out.",
)
@click.option(
    "--wait", callback=durations.seconds, default="15m", show_default=True, help="For another run."
)
@click.option("--plan", "plan_only", is_flag=True, help="Say what would be deleted, and stop.")
@click.option("--json", "as_json", is_flag=True, help="Answer with one JSON document.")
@terminal.talking
def command(
    *,
    site: str | None,
    keep: int | None,
    wait: float,
    plan_only: bool,
    as_json: bool,
    tell: steps.Listener,
) -> None:
    """Delete the releases and environments of a site that nobody needs.

    What is live or was before, what a slot or any process still runs, and the newest good releases
    stay; failed ones go after a week, environments a day after nothing refers to them, and a
    download that did not end after a day.
    """
    from artifact.host.commands import prune
    from artifact.host.records import find

    found = find.find(site)
    wanted = keep or prune.keep_of(found)
    pruning = prune.plan(found, wanted) if plan_only else prune.prune(found, wanted, wait, tell)
    if as_json:
        terminal.document("prune", _document(pruning, str(found.root), wanted))
        return
    for line in _lines(pruning, plan_only=plan_only):
        terminal.data(line)
    count = len(pruning.doomed)
    said = "would be deleted" if plan_only else "deleted"
    tell(steps.Said(f"{count} {said}, {terminal.size(pruning.size)}" if count else "nothing to do"))


def _lines(pruning: Pruning, *, plan_only: bool) -> list[str]:
    rows = [
        ("delete", f"{one.kind} {one.name}", terminal.size(one.size), one.reason)
        for one in pruning.doomed
    ]
    if plan_only:
        rows += [("keep", f"release {one.version}", "", one.reason) for one in pruning.kept]
    return terminal.table(rows)


def _document(pruning: Pruning, site: str, keep: int) -> dict[str, Any]:
    return {
        "site": site,
        "keep": keep,
        "size": pruning.size,
        "delete": [
            {"kind": one.kind, "name": one.name, "size": one.size, "reason": one.reason}
            for one in pruning.doomed
        ],
        "kept": [{"release": one.version, "reason": one.reason} for one in pruning.kept],
    }
