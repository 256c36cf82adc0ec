"""`artifact ci`: what a pipeline needs beside the build itself.

The version, the job's URL in the manifest and GitLab's sections are the build's own business; here
is only what a job's script would need logic for.
"""

from __future__ import annotations

import re
from pathlib import Path

import click

from artifact import files, manifest, steps
from artifact.archive import opening
from artifact.cli import build_page, options, terminal
from artifact.cli.build import Build
from artifact.errors import ArtifactRejected, UsageError
from artifact.manifest import Manifest

# GitLab takes a dotenv value as it stands, a shell takes it apart: only what both read alike.
_PLAIN = re.compile(r"[A-Za-z0-9._/+@%=:,-]+")


@click.group()
def command() -> None:
    """Help a CI job: report what a build made to the pipeline and its page."""


@command.command()
@click.argument("build", type=options.PATH, metavar="BUILD.json")
@click.option("--dotenv", type=options.PATH, help="Write ARTIFACT_PATH, _DIGEST and _VERSION here.")
@click.option(
    "--last",
    type=options.PATH,
    help="The manifest of the last artifact: compared with, then replaced by this one's.",
)
@options.verbosity
def report(*, build: Path, dotenv: Path | None, last: Path | None, tell: steps.Listener) -> None:
    """Print a build's summary in Markdown, for the page of a build or merge request.

    BUILD.json is what `artifact build --json` printed. The summary has packages, migrations and
    settings that changed since the last artifact, sizes, and seconds by step. The paths in the
    dotenv file are relative where the artifact lies below the working directory, for the next job
    may run elsewhere.
    """
    document = build_page.read(build)
    with opening.open_artifact(Path(document.artifact)) as artifact:
        made, digest = artifact.manifest, artifact.digest
    build_page.check(document, digest)
    dotenv_lines = _dotenv_lines(document, made) if dotenv else ""
    before = _remembered(last, made, tell) if last else None
    terminal.data("\n".join(build_page.page(document, made, before)))
    if dotenv is not None:
        files.write(dotenv, dotenv_lines)
    if last is not None:
        last.parent.mkdir(parents=True, exist_ok=True)
        files.write(last, manifest.encode(made))


def _dotenv_lines(build: Build, made: Manifest) -> str:
    """Return the lines of the dotenv file.

    Raises:
        UsageError: GitLab and a shell would not read the path alike.
    """
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
