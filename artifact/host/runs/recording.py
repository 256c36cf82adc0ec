"""Write a run into the journal from its beginning to its end, however it ends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from artifact import signals, steps
from artifact.errors import (
    ArtifactError,
    MigrationFailed,
    MigrationHalfDone,
    Refused,
    ReleaseFailed,
    RollbackFailed,
    Stopped,
)
from artifact.host.processes.activate import Switch
from artifact.host.records import journal
from artifact.host.records.journal import Journal
from artifact.services.process_manager import ProcessManagerError
from artifact.site import Site


def begin(site: Site, *, command: str, version: str, digest: str, previous: str) -> Journal:
    """Start a run; the caller holds the site's lock.

    Raises:
        Refused: the journal cannot be written.
    """
    try:
        return journal.begin(
            site.journal, command=command, version=version, digest=digest, previous=previous
        )
    except OSError as error:
        raise Refused(
            f"the journal {site.journal} cannot be written: {error.strerror}",
            hint=f"`df -h {site.root}` shows what is free",
        ) from error


@contextmanager
def recorded(record: Journal, tell: steps.Listener = steps.nobody) -> Iterator[None]:
    """Write down how the block ended; a crash leaves the run open, and so does a full disk.

    Nor is one over whose undoing failed: the next command tries again to go back.

    Raises:
        Refused: the journal or the disk failed before anything was tried.
    """
    try:
        yield
    except RollbackFailed as error:
        with suppress(OSError):
            record.hear(steps.Warned(error.message))
            if isinstance(error, MigrationHalfDone):
                record.over(error.code, error.message)  # no command can take that back
        raise
    except ArtifactError as error:
        with suppress(OSError):
            record.over(error.code, error.message)
        raise
    except Stopped as stop:
        with signals.ignored(), suppress(OSError):
            record.over(stop.code, f"stopped by {stop.name}")
        raise
    except OSError as error:
        # What is done in steps puts its own into words.
        refused = Refused(
            f"{error}; nothing live has changed", hint="repair that, then repeat this command"
        )
        with suppress(OSError):
            record.over(refused.code, refused.message)
        raise refused from error
    try:
        record.over(0, "done")
    except OSError as error:
        tell(
            steps.Warned(
                f"it is done, but the journal cannot say so: {error}",
                "the next command, or `artifact recover`, finishes that",
            )
        )


@contextmanager
def in_words(live: str, switch: Switch) -> Iterator[None]:
    """Say what a failure of the run means; the steps have been undone when it gets here.

    Args:
        live: the version that is live again; "" when none was.
    """
    try:
        yield
    except MigrationFailed:
        raise  # a database has changed, though nothing that serves has
    except (OSError, ProcessManagerError, ReleaseFailed) as error:
        hint: str = getattr(error, "hint", "")
        output: tuple[str, ...] = getattr(error, "output", ())
        if not switch.begun:
            raise Refused(f"{error}; nothing live has changed", hint=hint, output=output) from error
        again = f"{live} is live again" if live else "nothing was live before"
        raise ReleaseFailed(f"{error}; {again}", hint=hint, output=output) from error
