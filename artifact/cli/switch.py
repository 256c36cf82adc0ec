"""`artifact switch`: make the release live that `artifact install --stage` has prepared."""

from __future__ import annotations

import click

from artifact import steps
from artifact.cli import options, plans
from artifact.cli.answers import Answer
from artifact.cli.plans import ReleasePlan
from artifact.host.commands import switch
from artifact.host.records.problem import Problem
from artifact.site import Site


class Switch(ReleasePlan, frozen=True, kw_only=True, tag="switch"):
    """What a switch did, or would do."""

    previous: str
    """The version that was live before; empty where none was."""
    problems: tuple[Problem, ...]
    """Why the switch would be refused; found with `--plan` only."""


@click.command()
@options.site_and_version
@options.wait
@options.probation
@click.option("--allow-downgrade", is_flag=True, help="Also to a version older than the live one.")
@click.option("--migrate", is_flag=True, help="Run the migrations, whatever the policy is.")
@options.allow_unsafe
@options.plan
@options.json
@options.verbosity
def command(
    *,
    site: Site,
    version: str,
    wait: float,
    probation: float,
    allow_downgrade: bool,
    migrate: bool,
    allow_unsafe: tuple[str, ...],
    plan: bool,
    answer: Answer,
    tell: steps.Listener,
) -> None:
    """Switch to the release that was staged last, or to VERSION.

    `artifact install --stage` stages a release: it is here and checked, and nothing live has
    changed. The switch checks it again, follows the policy on migrations, and goes back when the
    release fails.
    """
    chosen = switch.SwitchOptions(
        wait=wait,
        probation=probation,
        allow_downgrade=allow_downgrade,
        migrate=migrate,
        allow_unsafe=allow_unsafe,
    )
    planned = (
        switch.plan(site, version, chosen) if plan else switch.switch(site, version, chosen, tell)
    )
    document = Switch(**plans.described(planned), previous=planned.live, problems=planned.problems)
    answer(document, plans.summaries(planned) if plan else ())
    if plan:
        plans.refuse_plan("the switch", planned.problems, tell)
    else:
        said = "is live in" if planned.steps else "is already live in"
        tell(steps.Said(f"{planned.target.reference} {said} {site.root} ({planned.digest})"))
