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
from artifact.host.records.journal import Journal
from artifact.services.process_manager import SLOTS, ProcessManagerError
from artifact.site import Site

_LOG_LINES = 200
_HEALTH_SECONDS = 1.0
"""Short: the old release waits to be brought back meanwhile."""


class Bundle(msgspec.Struct):
    """Listens to a run and writes down how things stood when a step of it failed."""

    target: Target
    """The release that is to become live."""
    record: Journal
    path: Path | None = None
    """Where it is, when something has failed."""

    def hear(self, event: steps.Event) -> None:
        """Collect at the moment of a failure, before anything is undone; a `steps.Listener`."""
        if not isinstance(event, steps.Failed) or isinstance(event.error, Stopped):
            return
        # What cannot be collected, on a full disk for instance, must not keep from going back.
        with suppress(OSError):
            self.path = _write(self, event)


@contextmanager
def mentioned(bundle: Bundle) -> Iterator[None]:
    """Name the bundle in the hint of an error that passes through."""
    try:
        yield
    except ArtifactError as error:
        if bundle.path is not None:
            error.hint = "; ".join(
                part for part in (error.hint, f"how things stood is in {bundle.path}") if part
            )
        raise


def _write(bundle: Bundle, event: steps.Failed) -> Path:
    path = bundle.target.site.failures / f"{bundle.record.run}.tgz"
    path.parent.mkdir(mode=0o700, exist_ok=True)
    now = int(time.time())
    parts = []
    for name, text in _contents(bundle, event):
        content = text.encode()
        parts += [
            tar.header(tar.FILE, f"{bundle.record.run}/{name}", 0o600, len(content), now),
            content,
            bytes(tar.padding(len(content))),
        ]
    files.write(path, gzip.compress(b"".join([*parts, tar.END])), mode=0o600)
    return path


def _contents(bundle: Bundle, event: steps.Failed) -> Iterator[tuple[str, str]]:
    environment = _variables(bundle.target.site)

    def clean(text: str) -> str:
        return redaction.redact(text, environment)

    yield "error.txt", clean(_error(event))
    yield "links.txt", _links(bundle.target.site)
    yield "journal.jsonl", clean(_journal(bundle))
    yield "state.json", _text(bundle.target.site.state)
    for log in sorted(bundle.target.site.failures.glob(f"{bundle.target.manifest.version}-*.log")):
        yield f"tried-{log.name}", clean(_last_lines(_text(log)))
    if bundle.target.managed:
        yield "health.txt", _health(bundle)
        yield from ((name, clean(text)) for name, text in _of_supervisor(bundle))


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


def _journal(bundle: Bundle) -> str:
    run = journal.last_run(bundle.target.site.journal)
    return "".join(msgspec.json.encode(line).decode() + "\n" for line in run.lines) if run else ""


def _health(bundle: Bundle) -> str:
    lines = []
    for name, process in bundle.target.manifest.processes.items():
        if not process.listen:
            continue
        places: list[str | Path] = [health.connectable(process.listen)]
        places += [
            path
            for slot in range(SLOTS)
            if (path := bundle.target.site.health_socket(name, slot)).exists()
        ]
        for place in places:
            wish = health.health_of(process)
            answer = health.ask(place, wish, timeout=_HEALTH_SECONDS)
            lines.append(f"{name} {wish.path} at {place}: {answer.text}")
    return "".join(f"{line}\n" for line in lines)


def _of_supervisor(bundle: Bundle) -> Iterator[tuple[str, str]]:
    try:
        members = bundle.target.manager.members()
    except ProcessManagerError as error:
        yield "supervisor.txt", f"{error}\n"
        return
    target = bundle.target
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
