"""The command line: `scripts/torture NAME`. Each torture is a module here."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable
from typing import NoReturn

import click

from tortures import concurrent, drain, kill, many, power, switch
from tortures.kill import Result
from tortures.place import Broken

CANNOT = 3
"""Exit code where a torture is impossible here."""
_every = click.option(
    "--every", type=click.IntRange(1), default=1, show_default=True, help="One call in so many."
)
_seed = click.option("--seed", type=int, default=1, show_default=True, help="Chooses which.")
_only = click.option("--only", metavar="SCENARIO", multiple=True, help="May be repeated.")
_processes = click.option("--processes", type=click.IntRange(1), default=2, show_default=True)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Do to a site what must not harm it."""


@main.command("kill")
@_every
@_seed
@_only
@_processes
@click.option(
    "--how", metavar="HOW", multiple=True, help="signal=KILL, error=ENOSPC…; all if left out."
)
def _kill(
    *, every: int, seed: int, only: tuple[str, ...], processes: int, how: tuple[str, ...]
) -> None:
    """Kill, or refuse by the disk, every mutating system call of the commands."""
    _report(kill.run(how or kill.STRIKES, only, every, seed, processes))


@main.command("power")
@_every
@_seed
@_only
@_processes
@click.option("--inside", is_flag=True, hidden=True, help="It sees its own mounts already.")
def _power(*, every: int, seed: int, only: tuple[str, ...], processes: int, inside: bool) -> None:
    """Cut the power at every mutating system call of the commands."""
    if not inside:
        # What is mounted there is gone with the last process, however that ends.
        _without_trace([*sys.argv[1:], "--inside"])
    try:
        _report(power.run(only, every, seed, processes))
    except power.Impossible as error:
        _cannot(str(error))


@main.command("concurrent")
@click.option("--installs", type=click.IntRange(1), default=20, show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True)
@_seed
def _concurrent(*, installs: int, rounds: int, seed: int) -> None:
    """Install same and different versions at once, with a prune in a loop and a reader."""
    try:
        seen = concurrent.run(installs, rounds, seed)
    except Broken as broken:
        raise click.ClickException(str(broken)) from broken
    for (command, code), count in sorted(seen.exits.items()):
        click.echo(f"{command:8} exit {code} {count:5}")
    click.echo(f"{seen.installed} installs and {seen.pruned} prunes had something to do")
    click.echo(
        f"{seen.reads} reads through current, {seen.rate:.0f} a second, "
        f"{seen.pause * 1000:.0f} ms apart at most, none failed"
    )
    if seen.rate < concurrent.LEAST_RATE:
        raise click.ClickException(f"it is to read {concurrent.LEAST_RATE} times a second")


@main.command("drain")
@click.option("--rounds", type=click.IntRange(1), default=100, show_default=True)
def _drain(*, rounds: int) -> None:
    """Prune while workers of old releases import lazily."""
    try:
        count = sum(1 for _ in drain.run(rounds))
    except Broken as broken:
        raise click.ClickException(str(broken)) from broken
    imports = count * drain.MODULES
    click.echo(
        f"{count} workers drained, {imports} late imports, "
        f"{count * (drain.PRUNES + 1)} prunes, nothing failed"
    )


@main.command("switch")
@click.option("--rounds", type=click.IntRange(1), default=50, show_default=True)
@_seed
def _switch(*, rounds: int, seed: int) -> None:
    """Kill installs and rollbacks while they switch real servers."""
    try:
        seen = switch.run(rounds, seed)
    except Broken as broken:
        raise click.ClickException(str(broken)) from broken
    for (command, live), count in sorted(seen.after.items()):
        click.echo(f"{command:8} killed, the {live} one live {count:5}")
    for command, count in sorted(seen.recovered.items()):
        click.echo(f"next was {command:8} {count:5}")
    click.echo(f"{seen.answers} requests, none lost")


@main.command("many")
@click.option("--count", type=click.IntRange(10), default=many.MANY, show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True)
def _many(*, count: int, rounds: int) -> None:
    """Time the commands in a site with five releases and with many."""
    timed = list(many.run(count, rounds))
    for one in timed:
        click.echo(
            f"{one.command:16} {one.few:5.2f} s with {many.FEW}, {one.many:5.2f} s with {count}"
        )
    if not all(one.fine for one in timed):
        sys.exit(1)


def _without_trace(arguments: list[str]) -> NoReturn:
    alone = ["unshare", "--mount", "--propagation", "private"]
    if subprocess.run([*alone, "true"], check=False, capture_output=True).returncode != 0:
        _cannot("mounting takes root, and this is not")
    os.execvp(alone[0], [*alone, sys.executable, "-m", "tortures", *arguments])


def _cannot(why: str) -> NoReturn:
    click.echo(f"error: this machine cannot do it: {why}", err=True)
    sys.exit(CANNOT)


def _report(results: Iterable[Result]) -> None:
    """Print faults as they come and counts at the end; exit with 1 when there was a fault."""
    began = time.monotonic()
    counts: Counter[tuple[str, str, str]] = Counter()
    faults = 0
    for result in results:
        ended = "killed" if result.code < 0 else f"exit {result.code}"
        counts[result.scenario, result.how, ended] += 1
        if result.fault:
            faults += 1
            click.echo(f"{result.scenario}, {result.how} at {result.point}: {result.fault}")
    for (scenario, how, ended), count in sorted(counts.items()):
        click.echo(f"{scenario:14} {how:16} {ended:8} {count:5}")
    seconds = time.monotonic() - began
    click.echo(f"{sum(counts.values())} strikes, {faults} faults, {seconds:.0f} s")
    if faults:
        sys.exit(1)


if __name__ == "__main__":
    main(prog_name="scripts/torture")
