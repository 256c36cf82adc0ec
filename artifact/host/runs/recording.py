"""Write a run into the journal from its beginning to its end, and tell all who listen to it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from artifact import files, signals, steps
from artifact.errors import (
    ArtifactError,
    MigrationHalfDone,
    Refused,
    RollbackFailed,
    Stopped,
)
from artifact.host.records import journal
from artifact.host.records.journal import Journal
from artifact.host.runs.run import SiteRun
from artifact.site import Site


@contextmanager
def recorded(
    site: Site,
    lock: int,
    listeners: Sequence[steps.Listener],
    *,
    command: str,
    version: str = "",
    digest: str = "",
    previous: str = "",
) -> Iterator[SiteRun]:
    """Begin a run and write down how the block ends; a crash or a full disk leaves it open.

    A run whose undoing failed stays open too: the next command tries again to go back.

    Args:
        lock: descriptor of the site's lock, which the caller holds.
        listeners: who hears what happens, after the journal. An exception of one ends the run, as a
            full disk does; what may fail without harm must keep its exceptions to itself.
        previous: the version that is live; empty when none is.

    Raises:
        Refused: the journal or the disk failed before anything was tried.
    """
    record = _begin(site, command=command, version=version, digest=digest, previous=previous)
    began = time.monotonic()
    told = steps.everybody(*listeners)
    run = SiteRun(steps.everybody(record.hear, *listeners), record=record, lock=lock)

    def tell_over(code: int, text: str) -> None:
        seconds = time.monotonic() - began
        # It is over, whether anybody can be told or not.
        with suppress(Exception):
            told(steps.RunOver(record.run, command, code, text, seconds))

    try:
        told(steps.RunBegan(record.run, command, str(site.root), version, previous))
        yield run
    except BaseException as error:
        raised = _refusal(error) if isinstance(error, OSError) else error
        with run.held, signals.ignored():
            code, text = _ending(raised)
            with suppress(OSError):
                _close(record, raised, code, text)
            tell_over(code, text)
        if raised is error:
            raise
        raise raised from error
    with run.held, signals.ignored():
        _end(record, told)
        tell_over(0, "done")


def _refusal(error: OSError) -> Refused:
    """Put into words what the disk said; what fails in steps is put into words there."""
    return Refused(
        f"{error}; nothing live has changed", hint="repair that, then repeat this command"
    )


def _ending(error: BaseException) -> tuple[int, str]:
    """Return the exit code of a run that did not end well, and why."""
    if isinstance(error, ArtifactError):
        return error.code, error.message
    if isinstance(error, Stopped):
        return error.code, f"stopped by {error.name}"
    return 1, f"a bug: {error!r}"


def _close(record: Journal, error: BaseException, code: int, text: str) -> None:
    """Write down how the run ended; recovery looks into one that stays open."""
    if isinstance(error, RollbackFailed):
        record.hear(steps.Warned(text))
        if not isinstance(error, MigrationHalfDone):
            return  # the next command tries again to go back; no command can a half migration
    if isinstance(error, ArtifactError | Stopped):
        record.over(code, text)


def _begin(site: Site, **facts: str) -> Journal:
    with files.disk_errors(f"the journal {site.journal} cannot be written", site.private):
        return journal.begin(site.journal, **facts)


def _end(record: Journal, tell: steps.Listener) -> None:
    try:
        record.over(0, "done")
    except OSError as error:
        tell(
            steps.Warned(
                f"it is done, but the journal cannot say so: {error}",
                "the next command, or `artifact recover`, finishes that",
            )
        )
