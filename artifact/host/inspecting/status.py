"""The state of a site: what is live, what runs, whether it answers, how the last run ended."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from pathlib import Path

import msgspec

from artifact import files
from artifact.errors import Refused
from artifact.host.processes import health
from artifact.host.processes.health import Answer
from artifact.host.processes.target import Target
from artifact.host.records import freeze, history, journal, releases, settings, state
from artifact.host.records.freeze import Freeze
from artifact.host.records.releases import Release
from artifact.services.process_manager import Member, ProcessManagerError
from artifact.site import Site

_HEALTH_SECONDS = 5.0


class Running(msgspec.Struct, frozen=True):
    """A process that supervisor has for the site."""

    process: str
    name: str
    """Supervisor's: "accounting-web:slot_0"."""
    state: str
    pid: int
    version: str | None
    """What it runs; "" for a slot that sleeps, None where it left no word."""
    since: int


class Status(msgspec.Struct, frozen=True):
    """The state of a site."""

    site: Site
    live: str
    """Version; empty when nothing is live."""
    digest: str
    name: str
    previous: str
    running: tuple[Running, ...]
    answers: dict[str, Answer]
    """Process to what its health path says at the public address."""
    last_run: journal.Run | None
    busy: bool
    """A run is at work just now."""
    frozen: Freeze | None
    problems: tuple[str, ...]
    """What is wrong; empty when all is well."""


def status_of(site: Site) -> Status:
    """Look at a site; changes nothing.

    Raises:
        ConfigurationError: its settings are wrong.
    """
    problems: list[str] = []
    live = releases.live_version(site)
    release = _release(site, live, problems)
    target = Target(site, release.manifest, settings.load(site)) if release else None
    running: tuple[Running, ...] = ()
    answers: dict[str, Answer] = {}
    if target is not None and target.managed:
        running = tuple(_running(target, problems))
        answers = ask_processes(target)
        problems += [
            f"{name} does not answer well: {answer.text}"
            for name, answer in answers.items()
            if not answer.ok
        ]
    cut_off = cut_off_run(site)
    if cut_off is not None:
        problems.append(
            f"the {_what(cut_off)} did not end; `artifact recover` finishes it or takes it back"
        )
    return Status(
        site=site,
        live=live,
        digest=release.digest if release else "",
        name=release.manifest.name if release else site.root.name,
        previous=releases.previous_version(site),
        running=running,
        answers=answers,
        last_run=journal.last_run(site.journal),
        busy=is_locked(site.lock),
        frozen=freeze.freeze_of(site),
        problems=tuple(problems),
    )


def ask_processes(target: Target) -> dict[str, Answer]:
    """Ask every process that listens whether it is well; return what each one answers."""
    return {
        name: health.ask(
            health.connectable(process.listen), health.health_of(process), timeout=_HEALTH_SECONDS
        )
        for name, process in target.processes.items()
        if process.listen
    }


def cut_off_run(site: Site) -> journal.Run | None:
    """Return the last run if it did not end and nobody is at work on it any more."""
    run = journal.last_run(site.journal)
    return run if run is not None and run.over is None and not is_locked(site.lock) else None


def _what(run: journal.Run) -> str:
    return f"{run.began.command} of {run.began.version}".removesuffix(" of ")


def _release(site: Site, live: str, problems: list[str]) -> Release | None:
    if not live:
        problems.append(history.nothing_live(site).text)
        return None
    try:
        return releases.read(site, live)
    except Refused as error:
        problems.append(error.message)
        return None


def _running(target: Target, problems: list[str]) -> Iterator[Running]:
    """Yield the site's processes and add to the problems what is wrong with them."""
    try:
        members = target.manager.members()
    except ProcessManagerError as error:
        problems.append(str(error))
        return
    for process in target.processes:
        program = target.program(process)
        mine = [
            _one(target.site, process, member, slots=target.in_slots(process))
            for member in members
            if member.program == program
        ]
        yield from mine
        problems += _faults(program, mine, target.version)


def _one(site: Site, process: str, member: Member, *, slots: bool) -> Running:
    called = member.process.removeprefix("slot_") if slots else member.process
    word = state.read_running(site.running(process, called))
    version = word.version if word is not None and word.pid == member.pid else None
    return Running(process, member.name, member.state, member.pid, version, member.since)


def _faults(program: str, mine: list[Running], live: str) -> Iterator[str]:
    if not mine:
        yield f"program {program} is not known to supervisor"
        return
    for one in mine:
        if one.state not in {"RUNNING", "STARTING"}:
            yield f"{one.name} is {one.state}"
        elif one.version not in {None, "", live}:
            yield f"{one.name} still runs {one.version}"
    if all(one.version == "" for one in mine):
        yield f"all of {program} is asleep"


def is_locked(path: Path) -> bool:
    """Tell whether a run holds the site's lock just now, without waiting for it or taking it."""
    try:
        return files.is_held(path, fcntl.LOCK_SH)
    except OSError:
        return False
