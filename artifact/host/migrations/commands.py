"""Migrations of an application that says itself how they are listed and run: `[migrations]`.

Nobody can judge them, and nothing but the site's lock keeps two runs apart.
"""

from __future__ import annotations

import shlex

from artifact import process, steps
from artifact.errors import Refused
from artifact.host.processes import application
from artifact.host.records.releases import Release
from artifact.site import Site

_LIST_SECONDS = 120.0


def list_pending(site: Site, found: Release, tell: steps.Listener) -> tuple[str, ...]:
    """Return what is pending: the lines that the command `list` prints.

    Raises:
        Refused: it fails, or cannot be read.
    """
    commands = found.manifest.migration_commands
    assert commands is not None, "the release has no commands for migrations"
    argv = _words(found, "list", commands.list)
    try:
        ran = application.run(site, found, argv, capture=True, timeout=_LIST_SECONDS, tell=tell)
    except process.ChildFailed as error:
        raise Refused(
            f"the migrations of {found.manifest.reference} cannot be told: "
            f"`{commands.list}` {error.reason}",
            hint=f"are all the variables it needs in {site.variables}?",
            output=error.tail,
        ) from error
    return tuple(line.strip() for line in ran.stdout.splitlines() if line.strip())


def words_of_run(found: Release) -> list[str]:
    """Return the command `run`, which runs what is pending.

    Raises:
        Refused: it cannot be read.
    """
    commands = found.manifest.migration_commands
    assert commands is not None, "the release has no commands for migrations"
    return _words(found, "run", commands.run)


def _words(found: Release, key: str, command: str) -> list[str]:
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise Refused(f"{found.manifest.reference}: migrations.{key}: {error}") from error
    if not words:
        raise Refused(f"{found.manifest.reference}: migrations.{key}: it is empty")
    return words
