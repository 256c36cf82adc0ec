"""What stands in the way, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong, and its fix."""

    text: str
    hint: str
    """The next command to run, or the line to change."""
