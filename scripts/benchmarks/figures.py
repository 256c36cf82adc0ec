"""What a benchmark found: series of measurements, the ratio between two, the goal it has."""

from __future__ import annotations

import operator
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

_MEETS = {">=": operator.ge, "<=": operator.le}


@dataclass(frozen=True, slots=True)
class Goal:
    """What a figure's median must reach."""

    sign: Literal[">=", "<="]
    bound: float
    unit: str = "x"

    def met(self, value: float) -> bool:
        """Tell whether the value, not rounded, reaches the bound."""
        return bool(_MEETS[self.sign](value, self.bound))

    def __str__(self) -> str:
        return f"{self.sign} {self.bound:g}{_suffix(self.unit)}"


@dataclass(frozen=True, slots=True)
class Series:
    """Repeated measurements of one thing, in the order they were made."""

    values: tuple[float, ...]
    unit: str
    """ "s", "MB", "x"."""

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    def __str__(self) -> str:
        digits = _digits(self.median)
        middle = f"{self.median:.{digits}f}{_suffix(self.unit)}"
        low, high = (f"{value:.{digits}f}" for value in (min(self.values), max(self.values)))
        return middle if low == high else f"{middle} ({low}–{high})"


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table; `value` is what the goal is about."""

    name: str
    """ "rebuild (b)"."""
    value: Series | bool
    goal: Goal | None = None
    ours: Series | None = None
    peer: Series | None = None
    against: str = ""
    """What was measured beside ours."""

    @property
    def met(self) -> bool:
        if isinstance(self.value, bool):
            return self.value
        return self.goal is None or self.goal.met(self.value.median)

    @property
    def line(self) -> str:
        """ "rebuild (b): 14.2x, goal >= 10x, met"."""
        verdict = "met" if self.met else "MISSED"
        if isinstance(self.value, bool):
            return f"{self.name}: {'yes' if self.value else 'no'}, goal yes, {verdict}"
        if self.goal is None:
            return f"{self.name}: {self.value}"
        median = self.value.median
        return f"{self.name}: {_exact(median, self.goal)}, goal {self.goal}, {verdict}"

    @property
    def cells(self) -> tuple[str, ...]:
        value = ("yes" if self.value else "no") if isinstance(self.value, bool) else str(self.value)
        goal = "yes" if isinstance(self.value, bool) else str(self.goal or "–")
        verdict = "" if self.goal is None and not isinstance(self.value, bool) else self._verdict
        return (
            self.name,
            str(self.ours or "–"),
            self.against or "–",
            str(self.peer or "–"),
            value,
            goal,
            verdict,
        )

    @property
    def _verdict(self) -> str:
        return "met" if self.met else "MISSED"

    def document(self) -> dict[str, Any]:
        """Return the figure for `--json`, with every measurement."""
        value = self.value if isinstance(self.value, bool) else list(self.value.values)
        return {
            "name": self.name,
            "value": value,
            "unit": "" if isinstance(self.value, bool) else self.value.unit,
            "goal": None if self.goal is None else [self.goal.sign, self.goal.bound],
            "met": self.met,
            "ours": _series(self.ours),
            "peer": _series(self.peer),
            "against": self.against,
        }


HEADER = ("figure", "artifact", "against", "its figure", "value", "goal", "verdict")


def faster(name: str, ours: Series, peer: Series, against: str, goal: Goal | None) -> Figure:
    """Return how many times as fast as the peer we were, round by round."""
    ratios = tuple(b / a for a, b in zip(ours.values, peer.values, strict=True))
    return Figure(name, Series(ratios, "x"), goal, ours, peer, against)


def times(name: str, ours: Series, peer: Series, against: str, goal: Goal | None) -> Figure:
    """Return how many times the peer's figure ours was, round by round."""
    ratios = tuple(a / b for a, b in zip(ours.values, peer.values, strict=True))
    return Figure(name, Series(ratios, "x"), goal, ours, peer, against)


def amount(name: str, ours: Series, goal: Goal) -> Figure:
    """Return a figure that has a bound of its own and no peer."""
    return Figure(name, ours, goal, ours)


def holds(name: str, truth: bool, against: str = "") -> Figure:  # noqa: FBT001 - the value itself
    """Return a figure that is yes or no."""
    return Figure(name, truth, against=against)


def goal_lines(figures: Sequence[Figure]) -> list[str]:
    """Return one line for each figure that has a goal."""
    return [one.line for one in figures if one.goal is not None or isinstance(one.value, bool)]


def table(figures: Sequence[Figure]) -> list[str]:
    """Return the aligned lines of the table."""
    rows = [HEADER, *(one.cells for one in figures)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(HEADER))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def markdown_table(figures: Sequence[Figure]) -> list[str]:
    """Return the same table for a page of the documentation."""
    rows = [HEADER, tuple("---" for _ in HEADER), *(one.cells for one in figures)]
    return [f"| {' | '.join(cell.replace('|', '&#124;') for cell in row)} |" for row in rows]


def _series(series: Series | None) -> dict[str, Any] | None:
    return None if series is None else {"values": list(series.values), "unit": series.unit}


def _exact(value: float, goal: Goal) -> str:
    """Return the value with as many digits as it takes to see on which side of the goal it is."""
    digits = _digits(value)
    while digits < 6 and goal.met(float(f"{value:.{digits}f}")) != goal.met(value):
        digits += 1
    return f"{value:.{digits}f}{_suffix(goal.unit)}"


def _digits(value: float) -> int:
    if isinstance(value, int):  # a count
        return 0
    if value >= 100:
        return 0
    return 1 if value >= 10 else 2 if value >= 1.1 else 3


def _suffix(unit: str) -> str:
    return unit if unit == "x" else f" {unit}"
