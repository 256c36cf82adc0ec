"""`artifact rollback`: make an older release live again."""

from __future__ import annotations

import click

from artifact import steps
from artifact.cli import options, plans
from artifact.cli.answers import Answer
from artifact.cli.plans import ReleasePlan
from artifact.errors import UsageError
from artifact.host.commands import rollback
from artifact.site import Site


class Rollback(ReleasePlan, frozen=True, kw_only=True, tag="rollback"):
    """What a rollback did, or would do."""

    left: str
    """The version that was live before; empty where none was."""
    unknown_migrations: tuple[str, ...]
    """Those that the databases have and the release does not know."""


@click.command()
@options.site_and_version
@options.wait
@options.probation
@click.option("--despite-freeze", is_flag=True, help="Roll back even where the site is frozen.")
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
    site: Site,
    version: str,
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
    """
    if with_migrations and ignore_migrations:
        raise UsageError("--with-migrations and --ignore-migrations exclude each other")
    chosen = rollback.RollbackOptions(
        version=version,
        wait=wait,
        probation=probation,
        despite_freeze=despite_freeze,
        migrations="take back" if with_migrations else "ignore" if ignore_migrations else "judge",
    )
    planned = rollback.plan(site, chosen) if plan else rollback.rollback(site, chosen, tell)
    document = Rollback(
        **plans.described(planned), left=planned.live, unknown_migrations=planned.schema.names
    )
    answer(document, (plans.summaries(planned) or ["nothing to do"]) if plan else ())
    if not plan:
        said = "is live again in" if planned.steps else "is already live in"
        tell(steps.Said(f"{planned.target.reference} {said} {site.root} ({planned.digest})"))
