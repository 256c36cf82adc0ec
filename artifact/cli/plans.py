"""What `--plan` answers: the steps that would be done, and what stands in the way."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from artifact import steps
from artifact.errors import Refused
from artifact.host.records.problem import Problem
from artifact.host.runs.switching import Plan


class PlannedStep(msgspec.Struct, frozen=True):
    """A step of a plan."""

    name: str
    summary: str


def planned(plan: Iterable[steps.Step[Any]]) -> tuple[PlannedStep, ...]:
    """Return the steps of a plan as documents have them."""
    return tuple(PlannedStep(step.name, step.summary) for step in plan)


def summaries(plan: Plan) -> list[str]:
    """Return the lines of a plan for people."""
    return [step.summary for step in plan.steps]


def described(plan: Plan) -> dict[str, Any]:
    """Return what every plan that makes a release live says of itself in a document."""
    return {
        "site": str(plan.target.site.root),
        "name": plan.target.manifest.name,
        "release": plan.target.version,
        "digest": plan.digest,
        "already_live": not plan.steps,
        "steps": planned(plan.steps),
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
