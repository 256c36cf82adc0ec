"""`artifact rollback`: make an older release live again."""

from __future__ import annotations

import click

from artifact import steps
from artifact.cli import options, plans
from artifact.cli.answers import Answer, Document
from artifact.cli.plans import PlannedStep
from artifact.errors import UsageError
from artifact.host.commands import rollback
from artifact.host.commands.rollback import RollbackPlan
from artifact.host.records import find
from artifact.site import Site


class Rollback(Document, frozen=True, kw_only=True, tag="rollback"):
    """What a rollback did, or would do."""

    site: str
    name: str
    release: str
    """The version that is made live."""
    digest: str
    left: str
    """The version that was live before; empty where none was."""
    already_live: bool
    unknown_migrations: tuple[str, ...]
    """Those that the databases have and the release does not know."""
    steps: tuple[PlannedStep, ...]


@click.command()
@click.argument("site_or_version", required=False, metavar="[SITE]")
@click.argument("version", required=False)
@options.wait
@options.probation
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
@options.plan
@options.json
@options.verbosity
def command(
    *,
    site_or_version: str | None,
    version: str | None,
    wait: float,
    probation: float,
    despite_freeze: bool,
    with_migrations: bool,
    ignore_migrations: bool,
    plan: bool,
    answer: Answer,
    tell: steps.Listener,
) -> None:
    """Go back to the newest good release before the live one, or to VERSION.

    The release that is left counts as rolled back: no later rollback chooses it by itself. Where
    the databases have migrations that the older release does not know, it goes back if they only
    added to the schema.

    SITE is the site's name or path. Leave it out where the machine has only one.
    """
    if with_migrations and ignore_migrations:
        raise UsageError("--with-migrations and --ignore-migrations exclude each other")
    site, wanted = site_and_version(site_or_version, version)
    chosen = rollback.RollbackOptions(
        version=wanted,
        wait=wait,
        probation=probation,
        despite_freeze=despite_freeze,
        migrations="take back" if with_migrations else "ignore" if ignore_migrations else "judge",
    )
    planned = rollback.plan(site, chosen) if plan else rollback.rollback(site, chosen, tell)
    answer(_document(planned), (plans.summaries(planned) or ["nothing to do"]) if plan else ())
    if not plan:
        said = "is live again in" if planned.steps else "is already live in"
        tell(steps.Said(f"{planned.target.reference} {said} {site.root} ({planned.digest})"))


def site_and_version(first: str | None, second: str | None) -> tuple[Site, str]:
    """Tell a site from a version: `artifact rollback 1336` means the version."""
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


def _document(planned: RollbackPlan) -> Rollback:
    return Rollback(
        **plans.described(planned),
        left=planned.live,
        unknown_migrations=planned.gap.names,
    )
