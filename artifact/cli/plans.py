"""What `--plan` answers: the steps that would be done, and what stands in the way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from artifact import steps
from artifact.cli.answers import Document
from artifact.errors import Refused
from artifact.host.records.problem import Problem
from artifact.host.runs.switching import Plan


class PlannedStep(msgspec.Struct, frozen=True):
    """A step of a plan."""

    name: str
    summary: str


class ReleasePlan(Document, frozen=True, kw_only=True):
    """What every plan that makes a release live says of itself, before it is run and after."""

    site: str
    name: str
    """The application's."""
    release: str
    """The version."""
    digest: str
    already_live: bool
    steps: tuple[PlannedStep, ...]


def summaries(plan: Plan) -> list[str]:
    """Return the lines of a plan for people."""
    return [step.summary for step in plan.steps]


def described(plan: Plan) -> dict[str, Any]:
    """Return the fields of a `ReleasePlan`."""
    return {
        "site": str(plan.target.site.root),
        "name": plan.target.manifest.name,
        "release": plan.target.version,
        "digest": plan.digest,
        "already_live": not plan.steps,
        "steps": tuple(PlannedStep(step.name, step.summary) for step in plan.steps),
    }


def refuse_plan(what: str, problems: Sequence[Problem], tell: steps.Listener) -> None:
    """Refuse a plan that could not be run; does nothing where no problem was found.

    Args:
        what: "the install".

    Raises:
        Refused: there are problems, and each was told.
    """
    if not problems:
        return
    for problem in problems:
        tell(steps.Warned(problem.text, problem.hint))
    more = f", and {len(problems) - 1} more" if len(problems) > 1 else ""
    raise Refused(
        f"{what} would be refused: {problems[0].text}{more}",
        hint="each warning above says what to do",
    )
