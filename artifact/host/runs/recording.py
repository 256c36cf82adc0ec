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

    def over(code: int, text: str) -> None:
        with suppress(OSError):
            record.over(code, text)
        tell_over(code, text)

    def tell_over(code: int, text: str) -> None:
        seconds = time.monotonic() - began
        # It is over, whether anybody can be told or not.
        with suppress(Exception):
            told(steps.RunOver(record.run, command, code, text, seconds))

    run = SiteRun(steps.everybody(record.hear, *listeners), record=record, lock=lock)
    try:
        told(steps.RunBegan(record.run, command, str(site.root), version, previous))
        yield run
    except MigrationHalfDone as error:
        _note(record, error)
        over(error.code, error.message)  # no command can take that back
        raise
    except RollbackFailed as error:
        _note(record, error)
        tell_over(error.code, error.message)
        raise
    except ArtifactError as error:
        over(error.code, error.message)
        raise
    except Stopped as stop:
        with signals.ignored():
            over(stop.code, f"stopped by {stop.name}")
        raise
    except OSError as error:
        # What fails in steps is put into words there.
        refused = Refused(
            f"{error}; nothing live has changed", hint="repair that, then repeat this command"
        )
        over(refused.code, refused.message)
        raise refused from error
    with run.held, signals.ignored():
        _end(record, told)
        tell_over(0, "done")


def _begin(site: Site, **facts: str) -> Journal:
    with files.disk_errors(f"the journal {site.journal} cannot be written", site.private):
        return journal.begin(site.journal, **facts)


def _note(record: Journal, error: ArtifactError) -> None:
    with suppress(OSError):
        record.hear(steps.Warned(error.message))


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
