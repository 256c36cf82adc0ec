"""`artifact rollback`: make an older release live again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from artifact import steps
from artifact.cli import durations, terminal

if TYPE_CHECKING:
    from artifact.host.commands.rollback import Outcome
    from artifact.site import Site


@click.command()
@click.argument("site_or_version", required=False, metavar="[SITE]")
@click.argument("version", required=False)
@click.option(
    "--wait", callback=durations.seconds, default="15m", show_default=True, help="For another run."
)
@click.option(
    "--probation",
    callback=durations.seconds,
    default="10s",
    show_default=True,
    help="How long to watch the older release before the rollback is done.",
)
@click.option("--despite-freeze", is_flag=True, help="Also where the site is frozen.")
@click.option(
    "--with-migrations",
    is_flag=True,
    help="First take back the migrations that the older release does not know.",
)
@click.option(
    "--ignore-migrations",
    is_flag=True,
    help="Leave the databases alone, also where the older release may not work with them.",
)
@click.option("--plan", "plan_only", is_flag=True, help="Say what would be done, and stop.")
@click.option("--json", "as_json", is_flag=True, help="Answer with one JSON document.")
@terminal.talking
def command(
    *,
    site_or_version: str | None,
    version: str | None,
    wait: float,
    probation: float,
    despite_freeze: bool,
    with_migrations: bool,
    ignore_migrations: bool,
    plan_only: bool,
    as_json: bool,
    tell: steps.Listener,
) -> None:
    """Go back to the newest good release before the live one, or to VERSION.

    SITE is its name or path; it may be left out where the machine has one. The release that is left
    counts as rolled back: no rollback chooses it again by itself. Where the databases have
    migrations that the older release does not know, it goes back if they only added to the schema.
    """
    from artifact.errors import UsageError
    from artifact.host.commands import rollback

    if with_migrations and ignore_migrations:
        raise UsageError("--with-migrations and --ignore-migrations exclude each other")
    site, wanted = _site_and_version(site_or_version, version)
    wishes = rollback.Wishes(
        version=wanted,
        wait=wait,
        probation=probation,
        despite_freeze=despite_freeze,
        migrations="take back" if with_migrations else "ignore" if ignore_migrations else "judge",
    )
    outcome = rollback.plan(site, wishes) if plan_only else rollback.rollback(site, wishes, tell)
    if as_json:
        terminal.document("rollback", _document(outcome))
    elif plan_only:
        for line in [step.summary for step in outcome.steps] or ["nothing to do"]:
            terminal.data(line)
    if not plan_only:
        reference = outcome.facts.target.manifest.reference
        said = "is live again in" if outcome.steps else "is already live in"
        tell(steps.Said(f"{reference} {said} {site.root} ({outcome.facts.digest})"))


def _site_and_version(first: str | None, second: str | None) -> tuple[Site, str]:
    """Tell a site from a version: at 3 a.m. `artifact rollback 1336` must mean the version."""
    from artifact.errors import UsageError
    from artifact.host.records import find

    if second is not None or first is None:
        return find.find(first), second or ""
    try:
        return find.find(first), ""
    except UsageError:
        if "/" in first:
            raise
        try:
            site = find.find(None)
        except UsageError:
            site = None
        if site is None or not site.release(first).is_dir():
            raise
        return site, first


def _document(outcome: Outcome) -> dict[str, Any]:
    facts = outcome.facts
    return {
        "site": str(facts.site.root),
        "name": facts.target.manifest.name,
        "release": facts.version,
        "digest": facts.digest,
        "left": facts.live,
        "already_live": not outcome.steps,
        "unknown_migrations": list(facts.gap.names),
        "steps": [{"name": step.name, "summary": step.summary} for step in outcome.steps],
    }
