"""The command line: `scripts/bench NAME`. A new benchmark is a module here and a line in NAMES."""

from __future__ import annotations

import importlib
import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from benchmarks import machine, report, workshop
from benchmarks.figures import Figure
from benchmarks.measuring import BenchFailed
from benchmarks.report import Report
from benchmarks.rows import Row
from benchmarks.workshop import Workshop

NAMES = ("build", "switch", "transfer", "fleet-download")


def _tell(line: str) -> None:
    click.echo(line, err=True)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("name", type=click.Choice(NAMES))
@click.option("--only", metavar="ROW", multiple=True, help="Measure only this; may be repeated.")
@click.option("--list", "list_rows", is_flag=True, help="List the rows and stop.")
@click.option("--rounds", type=click.IntRange(min=1), help="Repeat each measurement so often.")
@click.option(
    "--work",
    type=click.Path(path_type=Path, file_okay=False),
    help="Work here, and keep peers, projects and caches; else in memory, and nothing is kept.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.option("--markdown", is_flag=True, help="Print it as in docs/benchmarks.md.")
@click.option(
    "--page",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Also write it into this page, between the marks of the benchmark.",
)
def main(
    *,
    name: str,
    only: tuple[str, ...],
    list_rows: bool,
    rounds: int | None,
    work: Path | None,
    as_json: bool,
    markdown: bool,
    page: Path | None,
) -> None:
    """Measure NAME against its peers; exit with 1 when a goal is missed."""
    module = importlib.import_module(f"benchmarks.{name.replace('-', '_')}")
    rows = _chosen(module.ROWS, only)
    if list_rows:
        for row in rows:
            click.echo(f"{row.name:15} {row.summary}")
        return
    found = _measure(name, module.described, rows, work, rounds)
    if page is not None:
        report.write_into(page, found)
    if as_json:
        click.echo(json.dumps(found.document(), indent=2))
    else:
        click.echo("\n".join(found.markdown() if markdown else found.lines()))
    sys.exit(0 if found.met else 1)


def _chosen(rows: tuple[Row, ...], only: tuple[str, ...]) -> list[Row]:
    names = [row.name for row in rows]
    for name in only:
        if name not in names:
            raise click.BadParameter(f"{name!r} is none of {', '.join(names)}", param_hint="--only")
    return [row for row in rows if not only or row.name in only]


def _measure(
    name: str,
    more: Callable[[Workshop], Mapping[str, str]],
    rows: list[Row],
    work: Path | None,
    rounds: int | None,
) -> Report:
    """Measure rows; `more` says what of this machine was measured beside ours."""
    figures: list[Figure] = []
    failures: list[str] = []
    with workshop.opened(work, _tell, rounds) as shop:
        described: dict[str, Any] = machine.describe(shop.work)
        began = time.monotonic()
        for row in rows:
            _tell(f"{row.name}: {row.summary}")
            try:
                for figure in row.measure(shop):
                    _tell(f"  {figure.line}")
                    figures.append(figure)
            except BenchFailed as error:
                _tell(f"  {error}")
                failures.append(f"{row.name}: {str(error).splitlines()[0]}")
        described |= more(shop)
        minutes = (time.monotonic() - began) / 60
    return Report(name, described, tuple(figures), tuple(failures), minutes)


if __name__ == "__main__":
    main(prog_name="scripts/bench")
