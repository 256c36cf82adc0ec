"""What a run tells: a table, a line a goal, the machine; as text, JSON and Markdown."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import figures
from benchmarks.figures import Figure

_VERSION = 1


@dataclass(frozen=True, slots=True)
class Report:
    """A whole run."""

    name: str
    machine: dict[str, str]
    figures: tuple[Figure, ...]
    failures: tuple[str, ...]
    """What could not be measured: as bad as a goal that was missed."""
    minutes: float

    @property
    def met(self) -> bool:
        return not self.failures and all(one.met for one in self.figures)

    def lines(self) -> list[str]:
        """Return the report for a terminal."""
        width = max(map(len, self.machine))
        return [
            *(f"{name:{width}}  {value}" for name, value in self.machine.items()),
            "",
            *figures.table(self.figures),
            "",
            *figures.goal_lines(self.figures),
            *(f"{failure}: not measured, MISSED" for failure in self.failures),
        ]

    def markdown(self) -> list[str]:
        """Return the report for docs/benchmarks.md."""
        return [
            "| machine | |",
            "| --- | --- |",
            *(f"| {name} | {value} |" for name, value in self.machine.items()),
            "",
            *figures.markdown_table(self.figures),
            *(f"\n{failure}: not measured, MISSED" for failure in self.failures),
            "",
            f"The run took {self.minutes:.0f} minutes.",
        ]

    def document(self) -> dict[str, Any]:
        """Return the report for `--json`."""
        return {
            "version": _VERSION,
            "bench": self.name,
            "met": self.met,
            "minutes": round(self.minutes, 1),
            "machine": self.machine,
            "figures": [one.document() for one in self.figures],
            "failures": list(self.failures),
        }


def write_into(page: Path, found: Report) -> None:
    """Replace what stands between the benchmark's marks in a page.

    Raises:
        ValueError: the page has no such marks.
    """
    begin, end = (f"<!-- {word} scripts/bench {found.name} -->" for word in ("begin", "end"))
    text = page.read_text(encoding="utf-8")
    head, opened, rest = text.partition(begin)
    _, closed, tail = rest.partition(end)
    if not (opened and closed):
        raise ValueError(f"{page} has no lines {begin} and {end}")
    content = "\n".join(found.markdown())
    page.write_text(f"{head}{begin}\n{content}\n{end}{tail}", encoding="utf-8")
