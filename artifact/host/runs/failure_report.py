"""Keep what a failure looked like, for a person who comes later: `.artifact/failures/<run>.tgz`."""

from __future__ import annotations

import gzip
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from artifact import files, redaction, steps
from artifact.archive import tar
from artifact.errors import ArtifactError, Stopped
from artifact.host.processes import health
from artifact.host.processes.target import Target
from artifact.host.records import journal, settings
from artifact.services.process_manager import SLOTS, ProcessManagerError
from artifact.site import Site

_LOG_LINES = 200
_HEALTH_SECONDS = 1.0
"""Short: the old release waits to be brought back meanwhile."""


class FailureReport(msgspec.Struct):
    """Listens to a run and writes down how things stood when a step of it failed."""

    target: Target
    """The release that is to become live."""
    run: str = ""
    """Its number in the journal, when it has begun."""
    path: Path | None = None
    """Where it is, when something has failed."""

    def hear(self, event: steps.Event) -> None:
        """Collect at the moment of a failure, before anything is undone; a `steps.Listener`."""
        if isinstance(event, steps.RunBegan):
            self.run = event.run
        if not isinstance(event, steps.Failed) or isinstance(event.error, Stopped):
            return
        # What cannot be collected, on a full disk for instance, must not keep from going back.
        with suppress(OSError):
            self.path = _write(self, event)


@contextmanager
def mentioned(report: FailureReport) -> Iterator[None]:
    """Name the report in the hint of an error that passes through."""
    try:
        yield
    except ArtifactError as error:
        if report.path is not None:
            error.hint = "; ".join(
                part for part in (error.hint, f"how things stood is in {report.path}") if part
            )
        raise


def _write(report: FailureReport, event: steps.Failed) -> Path:
    path = report.target.site.failures / f"{report.run}.tgz"
    path.parent.mkdir(mode=0o700, exist_ok=True)
    now = int(time.time())
    parts = []
    for name, text in _contents(report, event):
        content = text.encode()
        parts += [
            tar.header(tar.FILE, f"{report.run}/{name}", 0o600, len(content), now),
            content,
            bytes(tar.padding(len(content))),
        ]
    files.write(path, gzip.compress(b"".join([*parts, tar.END])), mode=0o600)
    return path


def _contents(report: FailureReport, event: steps.Failed) -> Iterator[tuple[str, str]]:
    environment = _variables(report.target.site)

    def clean(text: str) -> str:
        return redaction.redact(text, environment)

    yield "error.txt", clean(_error(event))
    yield "links.txt", _links(report.target.site)
    yield "journal.jsonl", clean(_journal(report))
    yield "state.json", _text(report.target.site.state)
    for log in sorted(report.target.site.failures.glob(f"{report.target.manifest.version}-*.log")):
        yield f"tried-{log.name}", clean(_last_lines(_text(log)))
    if report.target.managed:
        yield "health.txt", _health(report)
        yield from ((name, clean(text)) for name, text in _of_supervisor(report))


def _error(event: steps.Failed) -> str:
    output: tuple[str, ...] = getattr(event.error, "output", ())
    lines = [f"step {event.name}: {event.summary}", f"error: {event.error}", *output]
    return "\n".join(lines) + "\n"


def _links(site: Site) -> str:
    lines = []
    for link in (site.current, site.previous, site.default_environment):
        with suppress(OSError):
            lines.append(f"{link} -> {os.readlink(link)}")
    return "".join(f"{line}\n" for line in lines)


def _journal(report: FailureReport) -> str:
    run = journal.last_run(report.target.site.journal)
    return "".join(msgspec.json.encode(line).decode() + "\n" for line in run.lines) if run else ""


def _health(report: FailureReport) -> str:
    lines = []
    for name, process in report.target.manifest.processes.items():
        if not process.listen:
            continue
        places: list[str | Path] = [health.connectable(process.listen)]
        places += [
            path
            for slot in range(SLOTS)
            if (path := report.target.site.health_socket(name, slot)).exists()
        ]
        for place in places:
            wanted = health.health_of(process)
            answer = health.ask(place, wanted, timeout=_HEALTH_SECONDS)
            lines.append(f"{name} {wanted.path} at {place}: {answer.text}")
    return "".join(f"{line}\n" for line in lines)


def _of_supervisor(report: FailureReport) -> Iterator[tuple[str, str]]:
    try:
        members = report.target.manager.members()
    except ProcessManagerError as error:
        yield "supervisor.txt", f"{error}\n"
        return
    target = report.target
    programs = {target.program(name) for name in target.processes}
    mine = [member for member in members if member.program in programs]
    states = [f"{one.name} {one.state} pid {one.pid} {one.trouble}".rstrip() for one in mine]
    yield "supervisor.txt", "".join(f"{line}\n" for line in states)
    for one in mine:
        lines = target.manager.log_tail(one.name, _LOG_LINES)
        yield f"log-{one.program}-{one.process}.txt", "".join(f"{line}\n" for line in lines)


def _variables(site: Site) -> Mapping[str, str]:
    try:
        return settings.application_variables(site)
    except ArtifactError:
        return {}


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace")
    except OSError:
        return ""


def _last_lines(text: str) -> str:
    return "".join(text.splitlines(keepends=True)[-_LOG_LINES:])
