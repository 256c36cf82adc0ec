"""`artifact ci`: what a pipeline needs beside the build itself.

The version, the job's URL in the manifest and GitLab's sections are the build's own business; here
is only what a job's script would need logic for.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from artifact import steps
from artifact.cli import terminal

if TYPE_CHECKING:
    from artifact.cli.build_page import Build
    from artifact.manifest import Manifest

_PATH = click.Path(path_type=Path)
# GitLab takes a dotenv value as it stands, a shell takes it apart: only what both read alike.
_PLAIN = re.compile(r"[A-Za-z0-9._/+@%=:,-]+")


@click.group()
def command() -> None:
    """Help a CI job: report what a build made to the pipeline and its page."""


@command.command()
@click.argument("build", type=_PATH, metavar="BUILD.json")
@click.option("--dotenv", type=_PATH, help="Write ARTIFACT_PATH, _DIGEST and _VERSION here.")
@click.option(
    "--last",
    type=_PATH,
    help="The manifest of the last artifact: compared with, then replaced by this one's.",
)
@terminal.talking
def report(*, build: Path, dotenv: Path | None, last: Path | None, tell: steps.Listener) -> None:
    """Print a build's summary in Markdown, for the page of a build or merge request.

    BUILD.json is what `artifact build --json` printed. The summary has packages, migrations and
    settings that changed since the last artifact, sizes, and seconds by step. The paths in the
    dotenv file are relative where the artifact lies below the working directory, for the next job
    may run elsewhere.
    """
    from artifact import files, manifest
    from artifact.archive import opening
    from artifact.cli import build_page

    told = build_page.read(build)
    with opening.open_artifact(Path(told.artifact)) as artifact:
        made, digest = artifact.manifest, artifact.digest
    build_page.check(told, digest)
    variables = _variables(told, made) if dotenv else ""
    before = _remembered(last, made, tell) if last else None
    terminal.data("\n".join(build_page.page(told, made, before)))
    if dotenv is not None:
        files.write(dotenv, variables)
    if last is not None:
        last.parent.mkdir(parents=True, exist_ok=True)
        files.write(last, manifest.encode(made))


def _variables(build: Build, made: Manifest) -> str:
    """Return the lines of the dotenv file.

    Raises:
        UsageError: GitLab and a shell would not read the path alike.
    """
    from artifact.errors import UsageError

    path, here = Path(build.artifact), Path.cwd()
    text = str(path.relative_to(here) if path.is_relative_to(here) else path)
    if not _PLAIN.fullmatch(text):
        raise UsageError(
            f"the artifact's path {text!r} cannot stand in a dotenv file",
            hint="build it into a directory of letters and digits: artifact build --output dist",
        )
    return (
        f"ARTIFACT_PATH={text}\nARTIFACT_DIGEST={build.digest}\nARTIFACT_VERSION={made.version}\n"
    )


def _remembered(last: Path, made: Manifest, tell: steps.Listener) -> Manifest | None:
    """Return the manifest of the artifact before, None where there is none to compare with."""
    from artifact import manifest
    from artifact.errors import ArtifactRejected

    try:
        before = manifest.decode(last.read_bytes())
    except FileNotFoundError:
        return None
    except (ArtifactRejected, OSError) as error:
        tell(steps.Warned(f"{last} is not compared with: {error}", "it is written anew"))
        return None
    if before.name != made.name:
        tell(steps.Warned(f"{last} is of {before.name}, not {made.name}", "it is written anew"))
        return None
    return before
