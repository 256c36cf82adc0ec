"""What stands in the way, and what to do about it."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from artifact import steps
from artifact.errors import Refused


class Problem(msgspec.Struct, frozen=True):
    """One thing that is wrong, and its fix."""

    text: str
    hint: str
    """The next command to run, or the line to change."""


def refuse(found: Sequence[Problem], wanted: str, tell: steps.Listener) -> None:
    """Refuse, and name every problem at once; do nothing when there is none.

    Args:
        wanted: what cannot be: "accounting-7 cannot be installed in /srv/accounting".

    Raises:
        Refused: one problem is the error itself, several are told before it.
    """
    if not found:
        return
    if len(found) == 1:
        raise Refused(found[0].text, hint=found[0].hint)
    for problem in found:
        tell(steps.Warned(problem.text, problem.hint))
    raise Refused(
        f"{wanted} for {len(found)} reasons: {'; '.join(problem.text for problem in found)}",
        hint="what to do about each stands above",
    )
