"""`artifact install`: unpack a release beside the live one, try it, switch to it."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from artifact import steps, variables
from artifact.cli import options, plans
from artifact.cli.answers import Answer
from artifact.cli.plans import ReleasePlan
from artifact.host.commands import install
from artifact.host.commands.install import InstallPlan
from artifact.host.records import settings
from artifact.host.records.problem import Problem
from artifact.transfer import references


class Installation(ReleasePlan, frozen=True, kw_only=True, tag="install"):
    """What an install did, or would do."""

    previous: str
    """The version that was live before; empty where none was."""
    fetch: int
    """Bytes that the site did not have yet."""
    staged: bool
    """It is not to become live: `artifact switch` makes it so."""
    problems: tuple[Problem, ...]
    """Why an install would be refused; found with `--plan` only."""


@click.command()
@click.argument("reference", metavar="REF")
@click.option("--site", default="", metavar="DIR", help="The site; the artifact's own if left out.")
@options.digest
@options.wait
@options.probation
@click.option("--allow-downgrade", is_flag=True, help="Also to a version older than the live one.")
@click.option("--migrate", is_flag=True, help="Run the migrations, whatever the policy is.")
@options.allow_unsafe
@click.option(
    "--stage",
    is_flag=True,
    help="Bring the release here and check it, and leave the switch to `artifact switch`.",
)
@options.plan
@options.json
@options.verbosity
def command(
    *,
    reference: str,
    site: str,
    digest: str,
    wait: float,
    probation: float,
    allow_downgrade: bool,
    migrate: bool,
    allow_unsafe: tuple[str, ...],
    stage: bool,
    plan: bool,
    answer: Answer,
    tell: steps.Listener,
) -> None:
    """Install an artifact into its site and switch to it.

    REF is a file, an s3:// or https:// URL, a name in the configured store (accounting-1337.tgz),
    or what a channel points to (accounting@production). Only what the site does not have yet is
    fetched from a store.

    Missing directories of the site are made. What serves does not change until the switch. When
    the new release fails, the old one is live again.
    """
    chosen = install.InstallOptions(
        command=own_path(),
        root=site or variables.get("ARTIFACT_ROOT"),
        digest=digest,
        wait=wait,
        probation=probation,
        allow_downgrade=allow_downgrade,
        migrate=migrate,
        allow_unsafe=allow_unsafe,
        stage=stage,
    )
    source = references.find(reference, lambda name: settings.load_store(name, chosen.root))
    if plan:
        planned = install.plan(source, chosen)
        nothing = f"nothing to do: {planned.target.reference} is already live"
        answer(_document(planned, stage=stage), plans.summaries(planned) or [nothing])
        plans.refuse_plan("the install", planned.problems, tell)
        return
    done = install.install(source, chosen, tell)
    answer(_document(done, stage=stage))
    said, root = "is staged in" if stage else "is live in", done.target.site.root
    if not done.steps:
        said = "is already live in"
    then = f"; next: artifact switch {root}" if stage and done.steps else ""
    tell(steps.Said(f"{done.target.reference} {said} {root} ({done.digest}){then}"))


def _document(planned: InstallPlan, *, stage: bool) -> Installation:
    return Installation(
        **plans.described(planned),
        previous=planned.live,
        fetch=planned.fetch,
        staged=stage,
        problems=planned.problems,
    )


def own_path() -> str:
    """Return the `artifact` that runs now, as it was called: supervisor is to run the same.

    A link that follows the tool's upgrades stays that link.
    """
    beside, called = Path(sys.executable).with_name("artifact"), Path(sys.argv[0]).absolute()
    same = called.exists() and beside.exists() and called.samefile(beside)
    return str(called if same else beside)
