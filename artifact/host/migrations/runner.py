"""Apply a release's migrations, or take some back, and write down what every database had.

One run at a time for every database, across hosts. What a database had before stands in the site's
journal before anything is done to it, so that recovery can tell what a run did that died.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from artifact import process, steps
from artifact.errors import (
    ArtifactError,
    Locked,
    MigrationFailed,
    MigrationHalfDone,
    Refused,
    UsageError,
)
from artifact.host.migrations import commands, pending
from artifact.host.migrations.pending import Database, Migration, Pending, Skipped
from artifact.host.processes import application
from artifact.host.records import releases
from artifact.host.records.journal import Journal, Line
from artifact.host.records.releases import Release
from artifact.site import Site

BEFORE, AFTER, APPLYING, TAKING_BACK = "before", "after", "applying", "taking back"
"""Steps of the journal's lines "applied": what a database had, and what was begun."""


class MigrationOptions(msgspec.Struct, frozen=True):
    """How to run migrations."""

    allow_unsafe: tuple[str, ...] = ()
    """Names to run whatever their risk: "ledger.0007" or "ledger.0007_remove_note"."""
    only_safe: bool = False
    """Run what is safe and leave the rest, instead of refusing all when some is not."""
    wait: float = 900.0
    """Seconds to wait for another run."""
    lock_timeout: float = 5.0
    """Seconds a statement may wait for a table; all who want it later wait behind it."""
    only: tuple[str, ...] | None = None
    """Run no others than these, whatever is pending."""


class Failure(msgspec.Struct, frozen=True):
    """A migration that failed."""

    alias: str
    migration: str
    detail: str
    half: bool
    """Part of it may have stayed."""


class MigrationOutcome(msgspec.Struct, frozen=True):
    """What a run did, database by database."""

    databases: tuple[Database, ...] = ()
    """As they were before."""
    skipped: tuple[Skipped, ...] = ()
    refused: tuple[Migration, ...] = ()
    """Not run for their risk, or not reversible."""
    ran: dict[str, tuple[str, ...]] = {}
    after: dict[str, tuple[str, ...]] = {}
    """Alias to what is applied now."""
    failed: Failure | None = None
    unmatched: tuple[str, ...] = ()
    busy: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """All that was run, or taken back."""
        return tuple(name for names in self.ran.values() for name in names)


def run(
    site: Site, found: Release, options: MigrationOptions, tell: steps.Listener, record: Journal
) -> MigrationOutcome:
    """Run what is pending; the caller holds the site's lock.

    Raises:
        UsageError: an allowed name is none of the release's migrations.
        Refused: one is not safe, or the first one failed; nothing changed.
        Locked: another run migrates.
        MigrationFailed: one failed after others were run.
        MigrationHalfDone: one failed half way, and its database cannot take that back.
    """
    request = {
        "mode": "run",
        "known": None,
        "allow": options.allow_unsafe,
        "only_safe": options.only_safe,
        "only": options.only,
    }
    return _asked(site, found, request, options, tell, record)


def reverse(
    site: Site,
    found: Release,
    target: Mapping[str, Sequence[str]],
    options: MigrationOptions,
    tell: steps.Listener,
    record: Journal,
) -> MigrationOutcome:
    """Take back exactly what a target release does not know, newest first, by the newer code.

    Args:
        found: the newer release.
        target: `Pending.known` of the target.

    Raises as `run`; Refused also when one of them cannot be reversed.
    """
    request = {"mode": "reverse", "known": target, "allow": (), "only_safe": False, "only": None}
    return _asked(site, found, request, options, tell, record)


def restore(site: Site, lines: Sequence[Line], tell: steps.Listener, record: Journal) -> str:
    """Run again what a run took back, with the code that did.

    Args:
        lines: of that run, in its journal.

    Returns:
        A note; empty where there was nothing to do.

    Raises as `run`; Refused also when the release is gone.
    """
    taken = tuple(name for _, name in begun(lines, TAKING_BACK))
    if not taken:
        return ""
    by = next(line.version for line in lines if line.step == TAKING_BACK)
    found = releases.read(site, by)
    again = run(site, found, MigrationOptions(allow_unsafe=taken, only=taken), tell, record)
    return f"ran {', '.join(again.names)} again" if again.names else ""


def begun(lines: Sequence[Line], verb: str) -> list[tuple[str, str]]:
    """Return (database, migration) of what a run began to apply or to take back."""
    told = [line.text for line in lines if line.event == "applied" and line.step == verb]
    return [(alias, name) for alias, _, name in (text.partition(": ") for text in told)]


def _asked(
    site: Site,
    found: Release,
    request: Mapping[str, Any],
    options: MigrationOptions,
    tell: steps.Listener,
    record: Journal,
) -> MigrationOutcome:
    kind = pending.kind_of(found)
    if not kind:
        return MigrationOutcome()
    if kind == "commands":
        return _commanded(site, found, tell, record)
    talk = _Talk(tell, record, found.manifest.version)
    try:
        waits = {"wait": options.wait, "lock_timeout": options.lock_timeout}
        ran = application.ask(
            site, found, pending.PROBES[kind], {**request, **waits}, timeout=None, tell=talk.hear
        )
    except process.ChildFailed as error:
        raise _ended_early(found, error, talk.at) from error
    outcome = msgspec.json.decode(ran.stdout, type=MigrationOutcome)
    for alias, names in outcome.after.items():
        record.add("applied", step=AFTER, text=f"{alias}: {' '.join(names)}")
    _complain(found, outcome, options)
    return outcome


def _commanded(
    site: Site, found: Release, tell: steps.Listener, record: Journal
) -> MigrationOutcome:
    """Run the application's own command, which runs all: whoever configured it has judged."""
    names = commands.list_pending(site, found, tell)
    if not names:
        return MigrationOutcome()
    argv = commands.words_of_run(found)
    for name in names:
        record.add("applied", step=APPLYING, text=f"default: {name}")
    try:
        application.run(site, found, argv, timeout=None, tell=tell)
    except process.ChildFailed as error:
        text = f"running the migrations of {found.manifest.reference} failed: {error.reason}"
        hint = "`artifact migrations` shows what is still pending"
        raise MigrationHalfDone(
            f"{text}; nobody knows what stayed", hint=hint, output=error.tail
        ) from error
    return MigrationOutcome(ran={"default": names})


class _Talk:
    """What the probe says of its own is said aloud and written down, in time; the rest is talk."""

    _own = re.compile(
        r"artifact: (?:(?P<before>before) on (?P<database>\S+):(?P<names>.*)"
        r"|(?P<verb>applying|taking back) (?P<migration>\S+) on (?P<alias>\S+)|(?P<said>.*))"
    )

    def __init__(self, tell: steps.Listener, record: Journal, version: str) -> None:
        self._tell, self._record, self._version = tell, record, version
        self.at = ""
        """The migration that it began last."""

    def hear(self, event: steps.Event) -> None:
        matched = self._own.fullmatch(event.line) if isinstance(event, steps.Output) else None
        if matched is None:
            self._tell(event)
        elif matched["before"]:
            text = f"{matched['database']}:{matched['names']}"
            self._record.add("applied", step=BEFORE, version=self._version, text=text)
        elif matched["verb"]:
            self.at = matched["migration"]
            text = f"{matched['alias']}: {self.at}"
            self._record.add("applied", step=matched["verb"], version=self._version, text=text)
            self._tell(steps.Said(f"{matched['verb']} {self.at} on {matched['alias']}"))
        else:
            self._tell(steps.Said(matched["said"]))


def _ended_early(found: Release, error: process.ChildFailed, at: str) -> ArtifactError:
    text = f"migrating to {found.manifest.reference} ended before its time: {error}"
    if not at:
        return Refused(f"{text}; nothing was run", output=error.tail)
    return MigrationHalfDone(
        f"{text}, in {at}",
        hint="`artifact migrations` shows what is still pending; where the database cannot take a "
        "half migration back, compare the schema with it",
        output=error.tail,
    )


def _complain(found: Release, outcome: MigrationOutcome, options: MigrationOptions) -> None:
    if outcome.busy:
        raise Locked(outcome.busy, hint="wait for it, or give a longer --wait")
    if outcome.unmatched:
        raise UsageError(
            f"{found.manifest.reference} has no one migration {outcome.unmatched[0]!r}",
            hint="`artifact migrations` lists them: application.number, or application.name",
        )
    troubles = Pending(found.manifest.version, databases=outcome.databases).troubles
    if troubles:
        raise Refused(f"{'; '.join(troubles)}; nothing was run")
    if outcome.failed:
        raise _failure(outcome, outcome.failed, options)
    if outcome.refused and not options.only_safe:
        _refuse(outcome)


def _refuse(outcome: MigrationOutcome) -> None:
    first = outcome.refused[0]
    more = f", and {len(outcome.refused) - 1} more" if len(outcome.refused) > 1 else ""
    hint = (
        f"--allow-unsafe {first.name} lets it through; `artifact migrate --only-safe` leaves it; "
        "best remove what uses it in one release and migrate in the next"
    )
    if not first.reversible and first.name not in {
        one.name for database in outcome.databases for one in database.pending
    }:
        raise Refused(f"{first.name} cannot be reversed{more}; nothing was taken back")
    raise Refused(f"{first.named}{more}; nothing was run", hint=hint)


def _failure(
    outcome: MigrationOutcome, failed: Failure, options: MigrationOptions
) -> ArtifactError:
    text = f"{failed.migration} failed on {failed.alias}: {failed.detail}"
    hint = "`artifact migrations` shows what is still pending"
    if "lock timeout" in failed.detail.lower() or "lock wait timeout" in failed.detail.lower():
        hint = (
            f"something held a table for longer than {options.lock_timeout:g} s: "
            "repeat it, or give a longer --lock-timeout"
        )
    if failed.half:
        return MigrationHalfDone(
            f"{text}; part of it may have stayed, for it does not run in a transaction",
            hint="compare the schema with the migration, repair it, and repeat",
        )
    if outcome.names:
        return MigrationFailed(f"{text}; run before it: {', '.join(outcome.names)}", hint=hint)
    return Refused(f"{text}; nothing changed", hint=hint)
