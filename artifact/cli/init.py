"""`artifact init`: a first configuration, filled in from what the project holds."""

from __future__ import annotations

import os
from pathlib import Path

import click

from artifact import files, steps
from artifact.building import project
from artifact.cli import options, terminal
from artifact.configuration import artifact_toml, example
from artifact.errors import UsageError
from artifact.manifest import is_name


@click.command()
@click.option("--name", default="", help="Name of the application; else the project's own.")
@click.option("--force", is_flag=True, help="Replace an artifact.toml that is there.")
@options.plan
@options.verbosity
def command(*, name: str, force: bool, plan: bool, tell: steps.Listener) -> None:
    """Write a commented artifact.toml from what the project holds.

    Every key of the configuration is in it, with what it means. Nothing is run and nothing else
    is changed; stdout has the paths of what was written.
    """
    here = Path.cwd()
    target, server = here / artifact_toml.FILE, here / project.SERVER_REQUIREMENTS
    if name and not is_name(name):
        raise UsageError(f"--name: {artifact_toml.NAME_RULE}, got {name!r}")
    if not plan and not force and os.path.lexists(target):
        raise UsageError(
            f"{target} is there already",
            hint="`artifact init --plan` prints what would be written, --force replaces it",
        )
    if artifact_toml.in_pyproject(here):
        raise UsageError(
            "[tool.artifact] in pyproject.toml configures this project",
            hint=f"remove it to have {artifact_toml.FILE} instead",
        )
    found = project.detect(here, name)
    text = example.fill(example.ARTIFACT_TOML, found.name, found.tables)
    for line in found.found:
        tell(steps.Said(f"found {line}"))
    for line in found.missing:
        tell(steps.Warned(f"still needed: {line}"))
    if plan:
        terminal.data(text.rstrip("\n"))
        return
    if found.server_requirements and not os.path.lexists(server):
        files.write(server, found.server_requirements)
        tell(steps.Said(f"wrote {server.name}, for there is no server among the requirements"))
    files.write(target, text)
    version = "" if (here / ".git").exists() else " --version 1"
    tell(steps.Said(f"wrote {target.name}; next: read it, commit it, then"))
    tell(steps.Said(f'  sudo install -d -o "$USER" /srv/{found.name} && artifact build{version}'))
    terminal.data(str(target))
