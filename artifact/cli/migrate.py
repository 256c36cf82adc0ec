"""`artifact migrate`: run what is pending, as far as it is safe or allowed."""

from __future__ import annotations

import click

from artifact import steps
from artifact.cli import terminal
from artifact.cli.durations import seconds
from artifact.cli.migrations import show, version_of
from artifact.errors import Refused


@click.command()
@click.argument("site", required=False)
@click.option("--release", default="", metavar="VERSION", help="Instead of the live one.")
@click.option(
    "--allow-unsafe",
    multiple=True,
    metavar="APP.0007",
    help="Run this one whatever its risk; may be repeated.",
)
@click.option("--only-safe", is_flag=True, help="Run what is safe and leave the rest.")
@click.option(
    "--lock-timeout",
    callback=seconds,
    default="5s",
    show_default=True,
    help="How long a statement may wait for a table.",
)
@click.option("--wait", callback=seconds, default="15m", show_default=True, help="For another run.")
@click.option("--plan", "plan_only", is_flag=True, help="Say what is pending, and stop.")
@click.option("--json", "as_json", is_flag=True, help="Answer with one JSON document.")
@terminal.talking
def command(
    *,
    site: str | None,
    release: str,
    allow_unsafe: tuple[str, ...],
    only_safe: bool,
    lock_timeout: float,
    wait: float,
    plan_only: bool,
    as_json: bool,
    tell: steps.Listener,
) -> None:
    """Run the pending migrations that are safe while the old code runs.

    SITE is its name or path; it may be left out where the machine has one. When one of them is
    not safe, none is run: the answer names it, and --allow-unsafe lets exactly that one through.
    """
    import msgspec

    from artifact.host.commands import migrate
    from artifact.host.migrations import applying, survey
    from artifact.host.records import find

    chosen = find.find(site)
    version = version_of(chosen, release)
    if plan_only:
        found = survey.pending(chosen, version, tell)
        if as_json:
            terminal.document("migrate", msgspec.to_builtins(found))
        else:
            show(found)
        if found.troubles:
            raise Refused("; ".join(found.troubles))
        return
    wishes = applying.Wishes(allow_unsafe, only_safe, wait, lock_timeout)
    outcome = migrate.migrate(chosen, version, wishes, tell)
    if as_json:
        terminal.document("migrate", msgspec.to_builtins(outcome))
        return
    for name in outcome.names:
        terminal.data(name)
    for one in outcome.refused:
        tell(steps.Warned(f"left: {one.named}"))
    tell(steps.Said(f"{len(outcome.names)} applied" if outcome.names else "nothing to do"))
