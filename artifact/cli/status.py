"""`artifact status`: what is live, what runs, whether it answers."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from artifact.cli import terminal
from artifact.errors import Refused

if TYPE_CHECKING:
    from artifact.host.inspecting.status import Running, Status


@click.command()
@click.argument("site", required=False)
@click.option("--json", "as_json", is_flag=True, help="Answer with one JSON document.")
def command(site: str | None, *, as_json: bool) -> None:
    """Show the live release of a site and how it fares.

    SITE is its name or path; it may be left out where the machine has one. Exits with 0 when all
    is well and with 5 when something is not.
    """
    from artifact.host.inspecting import status
    from artifact.host.records import find

    found = status.look(find.find(site))
    if as_json:
        terminal.document("status", _document(found))
    else:
        for line in _lines(found):
            terminal.data(line)
    if found.problems:
        raise Refused(
            f"{found.name} is degraded: {'; '.join(found.problems)}",
            hint=f"`artifact doctor {found.site.root}` names each fault and its fix",
        )


def _lines(found: Status) -> list[str]:
    rows: list[tuple[str, ...]] = [
        ("site", f"{found.name} in {found.site.root}"),
        ("live", f"{found.live or 'nothing'}  {found.digest}".rstrip()),
    ]
    if found.previous:
        rows.append(("previous", found.previous))
    rows += [(one.process, _process(one)) for one in found.running]
    for name, answer in found.answers.items():
        rows.append((f"{name} health", answer.text))
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


def _document(found: Status) -> dict[str, Any]:
    run = found.last_run
    over = run.over if run else None
    return {
        "site": str(found.site.root),
        "name": found.name,
        "ok": not found.problems,
        "problems": list(found.problems),
        "live": found.live,
        "digest": found.digest,
        "previous": found.previous,
        "processes": [
            {
                "process": one.process,
                "name": one.name,
                "state": one.state,
                "pid": one.pid,
                "release": one.version,
                "since": one.since,
            }
            for one in found.running
        ],
        "health": {
            name: {"ok": answer.ok, "answer": answer.text} for name, answer in found.answers.items()
        },
        "last_run": run
        and {
            "run": run.began.run,
            "command": run.began.command,
            "release": run.began.version,
            "who": run.began.who,
            "time": run.began.time,
            "code": over.code if over else None,
            "text": over.text if over else "",
        },
        "busy": found.busy,
        "frozen": found.frozen.describe() if found.frozen else "",
    }
