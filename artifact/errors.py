"""What can go wrong, in which state it leaves things, and the exit code that says so.

Every class is one answer to "what state are things in now?" and owns its exit code; the table in
the README is generated from the classes of this module (`table()`), and a test keeps it so.
An error is one sentence with the value at fault; its hint is the next thing to do.
"""

from __future__ import annotations

import signal
from typing import ClassVar


class ArtifactError(Exception):
    """Base of every error an operator can do something about."""

    code: ClassVar[int]
    meaning: ClassVar[str]

    def __init__(self, message: str, *, hint: str = "", output: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        """The next command to run or the line to change."""
        self.output = output
        """The last lines a failed child printed, already redacted."""


class UsageError(ArtifactError):
    """The command line or the configuration is wrong."""

    code = 2
    meaning = "usage or configuration; nothing was tried"


class ConfigurationError(UsageError):
    """A configuration file or variable is wrong; the message starts with the path of the key."""


class BuildFailed(ArtifactError):
    """The build stopped before an artifact existed."""

    code = 3
    meaning = "the build failed; no artifact was made"


class ArtifactRejected(ArtifactError):
    """A file is not an artifact this machine may install."""

    code = 4
    meaning = (
        "the artifact was rejected (corrupt, unsigned, wrong platform, hostile); nothing changed"
    )


class Refused(ArtifactError):
    """A check or a policy said no before anything live was touched."""

    code = 5
    meaning = (
        "refused by a check or policy (frozen, pending migrations, disk, downgrade), "
        "or `status` found it degraded; nothing changed"
    )


class Locked(ArtifactError):
    """Another run holds the lock."""

    code = 6
    meaning = "locked by another run: who, since when, doing what"


class ReleaseFailed(ArtifactError):
    """The new release failed after the switch began."""

    code = 7
    meaning = "the new release failed; **the old one is live again**"


class RollbackFailed(ArtifactError):
    """Going back failed as well."""

    code = 8
    meaning = "rolling back failed too; **a person must look**, and the message says where"


class MigrationFailed(ReleaseFailed):
    """A migration failed after others were run; what serves does so on a newer schema."""


class MigrationHalfDone(RollbackFailed):
    """A migration failed half way, and its database cannot take that back."""


class Stopped(BaseException):
    """A signal asked the run to stop; not an `Exception`, so that no handler swallows it."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.code = 128 + number
        self.name = signal.Signals(number).name


def table() -> list[tuple[str, str]]:
    """Return (exit code, meaning) rows for the README and `artifact --help`."""
    rows = [("0", "done, or already so"), ("1", "a bug in artifact (traceback shown)")]
    families = [
        UsageError,
        BuildFailed,
        ArtifactRejected,
        Refused,
        Locked,
        ReleaseFailed,
        RollbackFailed,
    ]
    rows += [(str(family.code), family.meaning) for family in families]
    rows.append(
        ("129, 130, 143", "stopped by a signal; undone as for 7, or nothing had changed"),
    )
    return rows
