"""`artifact lock`: requirements.in or requirements.txt to requirements.lock."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec

from artifact import files, steps
from artifact.building import caches, interpreter
from artifact.building.locking import lock, project_requirements
from artifact.building.locking.lock import Relocked
from artifact.cli import options
from artifact.cli.answers import Answer, Document
from artifact.configuration import artifact_toml


class Change(msgspec.Struct, frozen=True):
    """A package whose version changed."""

    name: str
    old: str
    """Empty where it is new."""
    new: str
    """Empty where it is gone."""

    @property
    def line(self) -> str:
        if self.old and self.new:
            return f"{self.name} {self.old} → {self.new}"
        return f"+ {self.name} {self.new}" if self.new else f"- {self.name} {self.old}"


class Locked(Document, frozen=True, kw_only=True, tag="lock"):
    """What the requirements resolve to."""

    origin: str
    """The files that were read."""
    written: bool
    """requirements.lock was changed."""
    packages: dict[str, str]
    """Name to version."""
    changes: tuple[Change, ...]


@click.command()
@click.option("--upgrade", is_flag=True, help="Take the newest version of every package.")
@click.option(
    "-P",
    "names",
    metavar="NAME",
    multiple=True,
    help="Take the newest version of this package; may be repeated.",
)
@options.plan
@options.json
@options.verbosity
def command(
    *, upgrade: bool, names: tuple[str, ...], plan: bool, answer: Answer, tell: steps.Listener
) -> None:
    """Pin and hash the requirements into requirements.lock.

    Reads the files named in artifact.toml, else requirements.in, requirements.txt or
    pyproject.toml, and resolves them for the configured interpreter with uv, or with pip-tools
    where the configuration says tools = "pip". Versions that requirements.lock already has are
    kept where they still fit, unless --upgrade or -P says otherwise.

    Prints a line for every package that changed: "django 5.2.8 → 5.2.9". Commit requirements.lock:
    a build uses it as it is.
    """
    project = Path.cwd()
    # The application's name decides nothing here, and a project may not have one yet.
    settings = artifact_toml.load(project, name="lock")
    where = caches.find_caches(settings.root)
    python = interpreter.find(settings.python.interpreter, where, project=project)
    request = lock.LockRequest(project, settings.requirements, python, where, tell)
    found = lock.relock(request, upgrade=upgrade, names=names)
    path = project / project_requirements.LOCK
    changed = not path.is_file() or path.read_text("utf-8", "replace") != found.text
    if changed and not plan:
        files.write(path, found.text)
    changes = _changes(found)
    document = Locked(
        origin=found.origin,
        written=changed and not plan,
        packages=dict(found.after),
        changes=changes,
    )
    answer(document, (change.line for change in changes))
    did = ("would write" if plan else "wrote") if changed else "nothing to change in"
    tell(
        steps.Said(
            f"{did} {project_requirements.LOCK}: {len(found.after)} packages of {found.origin} "
            f"for Python {python.version}"
        )
    )


def _changes(found: Relocked) -> tuple[Change, ...]:
    names = sorted({*found.before, *found.after})
    changes = (
        Change(name, found.before.get(name, ""), found.after.get(name, "")) for name in names
    )
    return tuple(change for change in changes if change.old != change.new)
