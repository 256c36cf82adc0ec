"""Migrations of an application that says itself how they are listed and run: `[migrations]`.

Nobody can judge them, and nothing but the site's lock keeps two runs apart.
"""

from __future__ import annotations

import shlex
from pathlib import Path

import msgspec

from artifact import process, steps
from artifact.errors import Refused
from artifact.host.processes import launch
from artifact.host.records.releases import Release
from artifact.site import Site

_LIST_SECONDS = 120.0
_BECOMING = Path(__file__).parents[1] / "probes" / "becoming.py"


def pending(site: Site, found: Release, tell: steps.Listener) -> tuple[str, ...]:
    """Return what is pending: the lines that the command `list` prints.

    Raises:
        Refused: it fails.
    """
    commands = found.manifest.migration_commands
    assert commands is not None, "the release has no commands for migrations"
    try:
        ran = _run(site, found, commands.list, tell, timeout=_LIST_SECONDS)
    except process.ChildFailed as error:
        raise Refused(
            f"the migrations of {found.manifest.reference} cannot be told: "
            f"`{commands.list}` {error.reason}",
            hint=f"are all the variables it needs in {site.variables}?",
            output=error.tail,
        ) from error
    return tuple(line.strip() for line in ran.stdout.splitlines() if line.strip())


def run(site: Site, found: Release, tell: steps.Listener) -> None:
    """Run what is pending.

    Raises:
        process.ChildFailed: the command `run` fails.
    """
    commands = found.manifest.migration_commands
    assert commands is not None, "the release has no commands for migrations"
    _run(site, found, commands.run, tell, timeout=None)


def _run(
    site: Site, found: Release, command: str, tell: steps.Listener, *, timeout: float | None
) -> process.Result:
    """Run a command as the site's user, where and as the release's processes run."""
    user = launch.user_of(site)
    environment = launch.environment_variables(site, found, user)
    whole = {"argv": shlex.split(command), "user": launch.to_become(user)}
    return process.run(
        [str(found.environment / "bin" / "python"), "-I", str(_BECOMING)],
        cwd=found.directory,
        env=environment,
        stdin=msgspec.json.encode(whole).decode(),
        capture=True,
        timeout=timeout,
        tell=tell,
    )
