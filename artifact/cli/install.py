"""`artifact install`: unpack a release beside the live one, try it, switch to it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from artifact import steps
from artifact.cli import durations, terminal

if TYPE_CHECKING:
    from artifact.host.commands.install import Outcome
    from artifact.host.records.problem import Problem


@click.command()
@click.argument("reference", metavar="REF")
@click.option("--site", default="", metavar="DIR", help="The site; the artifact's own if left out.")
@click.option("--digest", default="", metavar="sha256:…", help="Install this content, or nothing.")
@click.option(
    "--wait", callback=durations.seconds, default="15m", show_default=True, help="For another run."
)
@click.option(
    "--probation",
    callback=durations.seconds,
    default="10s",
    show_default=True,
    help="How long to watch the new release before it counts as good.",
)
@click.option("--allow-downgrade", is_flag=True, help="Also where it is older than the live one.")
@click.option("--migrate", is_flag=True, help="Run the migrations, whatever the policy is.")
@click.option(
    "--allow-unsafe",
    multiple=True,
    metavar="APP.0007",
    help="Run this migration whatever its risk; may be repeated.",
)
@click.option("--plan", "plan_only", is_flag=True, help="Say what would be done, and stop.")
@click.option("--json", "as_json", is_flag=True, help="Answer with one JSON document.")
@terminal.talking
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
    plan_only: bool,
    as_json: bool,
    tell: steps.Listener,
) -> None:
    """Install an artifact into its site and switch to it.

    REF is a file, an s3:// or https:// URL, a name in the configured store (accounting-1337.tgz),
    or what a channel points to (accounting@production). From a store only what the site has not
    yet is fetched.

    The site's directories are made where they are missing. Until the switch nothing that serves
    changes; when the new release fails, the old one is live again.
    """
    from artifact import variables
    from artifact.host.commands import install
    from artifact.host.records import settings
    from artifact.transfer import references

    wishes = install.Wishes(
        command=own_path(),
        root=site or variables.get("ARTIFACT_ROOT"),
        digest=digest,
        wait=wait,
        probation=probation,
        allow_downgrade=allow_downgrade,
        migrate=migrate,
        allow_unsafe=allow_unsafe,
    )
    source = references.find(reference, lambda name: settings.load_store(name, wishes.root))
    if plan_only:
        _show_plan(*install.plan(source, wishes), as_json=as_json)
        return
    outcome = install.install(source, wishes, tell)
    if as_json:
        terminal.document("install", _document(outcome))
        return
    facts = outcome.facts
    said = "is live in" if outcome.steps else "is already live in"
    installed = f"{facts.manifest.reference} {said} {facts.site.root}"
    tell(steps.Said(f"{installed} ({facts.artifact.digest})"))


def _show_plan(outcome: Outcome, problems: list[Problem], *, as_json: bool) -> None:
    if as_json:
        document = _document(outcome)
        document["problems"] = [{"text": one.text, "hint": one.hint} for one in problems]
        terminal.document("install", document)
    else:
        if not outcome.steps:
            terminal.data(f"nothing to do: {outcome.facts.manifest.reference} is already live")
        for step in outcome.steps:
            terminal.data(step.summary)
    for problem in problems:
        terminal.Listener()(steps.Warned(problem.text, problem.hint))
    if problems:
        from artifact.errors import Refused

        raise Refused(
            f"the install would be refused: {problems[0].text}"
            + (f", and {len(problems) - 1} more" if len(problems) > 1 else ""),
            hint="what to do about it stands above",
        )


def _document(outcome: Outcome) -> dict[str, Any]:
    facts = outcome.facts
    return {
        "site": str(facts.site.root),
        "name": facts.manifest.name,
        "release": facts.manifest.version,
        "digest": facts.artifact.digest,
        "previous": facts.live,
        "fetch": sum(facts.fetch.values()),
        "already_live": not outcome.steps,
        "steps": [{"name": step.name, "summary": step.summary} for step in outcome.steps],
    }


def own_path() -> str:
    """Return the `artifact` that runs now, as it was called: what supervisor is to run as well.

    A link that follows the tool's upgrades stays that link.
    """
    import sys

    beside, called = Path(sys.executable).with_name("artifact"), Path(sys.argv[0]).absolute()
    same = called.exists() and beside.exists() and called.samefile(beside)
    return str(called if same else beside)
