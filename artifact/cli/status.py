"""`artifact status`: what is live, what runs, whether it answers."""

from __future__ import annotations

import time

import click
import msgspec

from artifact.cli import options, terminal
from artifact.cli.answers import Answer, Document
from artifact.errors import Refused
from artifact.host.inspecting import status
from artifact.host.inspecting.status import Running, Status
from artifact.site import Site


class Process(msgspec.Struct, frozen=True):
    """A process that supervisor has for the site."""

    process: str
    """Its name in the configuration."""
    name: str
    """Supervisor's name."""
    state: str
    pid: int
    release: str | None
    """The version it runs; empty for a slot that sleeps, null where that is not known."""
    since: int
    """Seconds since the epoch."""


class Health(msgspec.Struct, frozen=True):
    """What a process answers at its health path."""

    ok: bool
    answer: str


class Run(msgspec.Struct, frozen=True):
    """A command that changed the site, or tried to."""

    run: str
    command: str
    release: str
    who: str
    time: str
    code: int | None
    """Its exit code; null while it runs, and where it did not end."""
    text: str


class SiteStatus(Document, frozen=True, kw_only=True, tag="status"):
    """How a site fares."""

    site: str
    name: str
    problems: tuple[str, ...]
    """Empty when all is well."""
    live: str
    """The version; empty where nothing is live."""
    digest: str
    previous: str
    processes: tuple[Process, ...]
    health: dict[str, Health]
    """By the name of the process."""
    last_run: Run | None
    busy: bool
    """A run is at work just now."""
    frozen: str
    """By whom, since when and why; empty where it is not."""


@click.command()
@options.site
@options.json
def command(*, site: Site, answer: Answer) -> None:
    """Show the live release of a site and how it fares.

    Exits with 0 when all is well and with 5 when something is not.
    """
    found = status.status_of(site)
    answer(_document(found), _lines(found))
    if found.problems:
        raise Refused(
            f"{found.name} is degraded: {'; '.join(found.problems)}",
            hint=f"`artifact doctor {site.root}` names each fault and its fix",
        )


def _lines(found: Status) -> list[str]:
    rows: list[tuple[str, ...]] = [
        ("site", f"{found.name} in {found.site.root}"),
        ("live", f"{found.live or 'nothing'}  {found.digest}".rstrip()),
    ]
    if found.previous:
        rows.append(("previous", found.previous))
    rows += [(one.process, _process(one)) for one in found.running]
    rows += [(f"{name} health", answer.text) for name, answer in found.answers.items()]
    rows.append(("last run", _last_run(found)))
    if found.frozen is not None:
        rows.append(("frozen", found.frozen.describe()))
    rows += [("problem", problem) for problem in found.problems]
    return terminal.table(rows)


def _process(one: Running) -> str:
    what = {"": "asleep", None: ""}.get(one.version, f"runs {one.version}")
    pid = f"pid {one.pid}" if one.pid else ""
    since = f"since {_clock(one.since)}" if one.pid else ""
    return "  ".join(part for part in (one.name, one.state, pid, what, since) if part)


def _last_run(found: Status) -> str:
    run = found.last_run
    if run is None:
        return "none"
    over = run.over
    how = "at work just now" if found.busy else "did not end"
    if over is not None:
        how = "done" if over.code == 0 else f"exit {over.code}: {over.text}"
    began = run.began
    what = f"{began.command} {began.version}".strip()
    return f"{what} by {began.who} at {began.time}: {how}"


def _clock(seconds: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def _document(found: Status) -> SiteStatus:
    last = None
    if found.last_run is not None:
        began, over = found.last_run.began, found.last_run.over
        last = Run(
            run=began.run,
            command=began.command,
            release=began.version,
            who=began.who,
            time=began.time,
            code=over.code if over else None,
            text=over.text if over else "",
        )
    return SiteStatus(
        site=str(found.site.root),
        name=found.name,
        problems=found.problems,
        live=found.live,
        digest=found.digest,
        previous=found.previous,
        processes=tuple(
            Process(one.process, one.name, one.state, one.pid, one.version, one.since)
            for one in found.running
        ),
        health={name: Health(answer.ok, answer.text) for name, answer in found.answers.items()},
        last_run=last,
        busy=found.busy,
        frozen=found.frozen.describe() if found.frozen else "",
    )
