"""Run a release's migrations: what is safe for the code that still runs, and what is allowed.

One run at a time for every database, across hosts; what each had before and after stands in the
site's journal.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import msgspec

from artifact import files, journal, process, signals, steps
from artifact.errors import (
    ArtifactError,
    Locked,
    Refused,
    ReleaseFailed,
    RollbackFailed,
    Stopped,
    UsageError,
)
from artifact.host import migrations, recover, releases
from artifact.host.migrations import Database, Migration, Pending, Skipped
from artifact.host.releases import Release
from artifact.journal import Journal
from artifact.site import Site
from artifact.steps import Step


@dataclass(frozen=True, slots=True)
class Wishes:
    """How to run migrations."""

    allow_unsafe: tuple[str, ...] = ()
    """Names to run whatever their risk: "ledger.0007" or "ledger.0007_remove_note"."""
    only_safe: bool = False
    """Run what is safe and leave the rest, instead of refusing all when some is not."""
    wait: float = 900.0
    """Seconds to wait for another run."""
    lock_timeout: float = 5.0
    """Seconds a statement may wait for a table; all who want it later wait behind it."""


class Failure(msgspec.Struct, frozen=True):
    """A migration that failed."""

    alias: str
    migration: str
    detail: str
    half: bool
    """Part of it may have stayed."""


class Outcome(msgspec.Struct, frozen=True):
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


def migrate(site: Site, version: str, wishes: Wishes, tell: steps.Listener) -> Outcome:
    """Run a release's pending migrations under the site's lock, as a run in its journal.

    Raises:
        UsageError: an allowed name is none of the release's migrations.
        Refused: one is not safe, or the first one failed; nothing changed.
        Locked: another run is at work.
        ReleaseFailed: one failed after others were run.
        RollbackFailed: one failed half way, and its database cannot take that back.
    """
    found = releases.read(site, version)
    reference = found.manifest.reference
    with files.locked(site.lock, doing=f"migrating to {reference}", wait=wishes.wait) as lock:
        recover.recover(site, tell)
        record = journal.begin(
            site.journal,
            command="migrate",
            version=version,
            digest=found.digest,
            previous=releases.live_version(site),
        )
        with _recorded(record), process.sharing(lock):
            return run(site, found, wishes, tell, record)


def run(
    site: Site, found: Release, wishes: Wishes, tell: steps.Listener, record: Journal
) -> Outcome:
    """Run what is pending; the caller holds the site's lock. Raises as `migrate`."""
    request = {
        "mode": "run",
        "known": None,
        "allow": wishes.allow_unsafe,
        "only_safe": wishes.only_safe,
    }
    return _asked(site, found, request, wishes, tell, record)


def reverse(
    site: Site,
    found: Release,
    target: Mapping[str, Sequence[str]],
    wishes: Wishes,
    tell: steps.Listener,
    record: Journal,
) -> Outcome:
    """Take back exactly what a target release does not know, newest first, by the newer code.

    Args:
        found: the newer release.
        target: application label to names, as the target's manifest has them.

    Raises as `migrate`; Refused also when one of them cannot be reversed.
    """
    request = {"mode": "reverse", "known": target, "allow": (), "only_safe": False}
    return _asked(site, found, request, wishes, tell, record)


def policy(
    site: Site,
    version: str,
    chosen: str,
    tell: steps.Listener,
    record: Journal | None = None,
    wishes: Wishes | None = None,
) -> str:
    """Do with a release's pending migrations what the policy says; returns a note for the step.

    Args:
        chosen: "list" says what is pending, "stop" refuses when anything is, "run" runs it.
        record: the run's journal; "run" needs one.

    Raises:
        Refused: the policy says no, or "run" met what is not safe; nothing changed.
        and as `migrate` for "run".
    """
    found = releases.read(site, version)
    if not migrations.has_django(found):
        return "the application has no Django"
    if chosen == "run" and record is not None:
        return _done(run(site, found, wishes or Wishes(), tell, record))
    try:
        seen = migrations.pending(site, version, tell)
    except Refused as error:
        if chosen != "list":
            raise
        # It serves: that its commands do not load keeps nobody from being served.
        tell(steps.Warned(error.message, error.hint))
        return "not known"
    for trouble in seen.troubles:
        tell(steps.Warned(trouble))
    for migration in seen.migrations:
        tell(steps.Said(f"pending, {migration.risk}: {migration.named}"))
    if chosen == "stop":
        _stop(seen, found)
    count = len(seen.migrations)
    if seen.troubles and not count:
        return "not known"
    return f"{count} pending" if count else "nothing pending"


def step(
    site: Site, version: str, chosen: str, tell: steps.Listener, record: Journal | None
) -> Step:
    """Return the step of an install that comes after the checks and before the switch.

    It has no undo: what is safe for the old code may stay, and a return must not lose data.
    """
    said = {
        "list": f"list the migrations that {version} has before it",
        "stop": f"see that {version} has no migrations before it",
        "run": f"run the migrations that {version} has before it",
    }
    return Step(
        "migrations",
        said.get(chosen, said["list"]),
        lambda: policy(site, version, chosen, tell, record=record),
    )


def _stop(seen: Pending, found: Release) -> None:
    problems = [*seen.troubles, *(f"{one.name} is pending" for one in seen.migrations)]
    if problems:
        raise Refused(
            f"{found.manifest.reference} must not go live: {'; '.join(problems)}",
            hint=f"`artifact migrate --release {found.manifest.version}` runs what is safe; "
            "then repeat the install",
        )


def _done(outcome: Outcome) -> str:
    return f"ran {', '.join(outcome.names)}" if outcome.names else "nothing pending"


def _asked(
    site: Site,
    found: Release,
    request: Mapping[str, Any],
    wishes: Wishes,
    tell: steps.Listener,
    record: Journal,
) -> Outcome:
    if not migrations.has_django(found):
        return Outcome()
    try:
        answer = migrations.ask(
            found,
            site,
            {**request, "wait": wishes.wait, "lock_timeout": wishes.lock_timeout},
            _talking(tell),
            timeout=None,
        )
    except process.ChildFailed as error:
        raise RollbackFailed(
            f"migrating to {found.manifest.reference} ended before its time: {error}",
            hint="`artifact migrations` shows what is applied and what is still pending",
            output=error.tail,
        ) from error
    outcome = msgspec.json.decode(answer, type=Outcome)
    for one in outcome.databases:
        record.add("applied", step="before", text=f"{one.alias}: {' '.join(one.applied)}")
    for alias, names in outcome.after.items():
        record.add("applied", step="after", text=f"{alias}: {' '.join(names)}")
    _complain(found, outcome, wishes)
    return outcome


def _talking(tell: steps.Listener) -> steps.Listener:
    """Say aloud what the probe says of its own; what the application prints stays talk."""

    def hear(event: steps.Event) -> None:
        if isinstance(event, steps.Output) and event.line.startswith(
            ("applying ", "taking back ", "waiting for another run", "nothing keeps two runs")
        ):
            tell(steps.Said(event.line))
        else:
            tell(event)

    return hear


def _complain(found: Release, outcome: Outcome, wishes: Wishes) -> None:
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
        raise _failure(outcome, outcome.failed, wishes)
    if outcome.refused and not wishes.only_safe:
        _refuse(outcome)


def _refuse(outcome: Outcome) -> None:
    first = outcome.refused[0]
    more = f", and {len(outcome.refused) - 1} more" if len(outcome.refused) > 1 else ""
    hint = (
        f"--allow-unsafe {first.name} lets it through; --only-safe leaves it; "
        "best remove what uses it in one release and migrate in the next"
    )
    if not first.reversible and first.name not in {
        one.name for database in outcome.databases for one in database.pending
    }:
        raise Refused(f"{first.name} cannot be reversed{more}; nothing was taken back")
    raise Refused(f"{first.named}{more}; nothing was run", hint=hint)


def _failure(outcome: Outcome, failed: Failure, wishes: Wishes) -> ArtifactError:
    text = f"{failed.migration} failed on {failed.alias}: {failed.detail}"
    hint = "`artifact migrations` shows what is still pending"
    if "lock timeout" in failed.detail.lower() or "lock wait timeout" in failed.detail.lower():
        hint = (
            f"something held a table for longer than {wishes.lock_timeout:g} s: "
            "repeat it, or give a longer --lock-timeout"
        )
    if failed.half:
        return RollbackFailed(
            f"{text}; part of it may have stayed, for it does not run in a transaction",
            hint="compare the schema with the migration, repair it, and repeat",
        )
    if outcome.names:
        return ReleaseFailed(f"{text}; run before it: {', '.join(outcome.names)}", hint=hint)
    return Refused(f"{text}; nothing changed", hint=hint)


@contextmanager
def _recorded(record: Journal) -> Iterator[None]:
    """Write down how the run ended."""
    try:
        yield
    except ArtifactError as error:
        with suppress(OSError):
            record.over(error.code, error.message)
        raise
    except Stopped as stop:
        with signals.ignored(), suppress(OSError):
            record.over(stop.code, f"stopped by {stop.name}")
        raise
    record.over(0, "done")
