"""`artifact lock`: requirements.in or requirements.txt to requirements.lock."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from artifact import steps
from artifact.cli import terminal

if TYPE_CHECKING:
    from artifact.building.locking.lock import Relocked


@click.command()
@click.option("--upgrade", is_flag=True, help="Take the newest version of every package.")
@click.option(
    "-P",
    "names",
    metavar="NAME",
    multiple=True,
    help="Take the newest version of this package; may be repeated.",
)
@click.option("--plan", is_flag=True, help="Print what would change, and write nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@terminal.talking
def command(
    *, upgrade: bool, names: tuple[str, ...], plan: bool, as_json: bool, tell: steps.Listener
) -> None:
    """Pin and hash the requirements into requirements.lock.

    Reads the files named in artifact.toml, else requirements.in, requirements.txt or
    pyproject.toml, and resolves them for the configured interpreter with uv, or with pip-tools
    where the configuration says tools = "pip". Versions that requirements.lock already has are
    kept where they still fit, unless --upgrade or -P says otherwise.

    Prints a line for every package that changed: "django 5.2.8 → 5.2.9". Commit requirements.lock:
    a build uses it as it is.
    """
    from artifact import files
    from artifact.building import places
    from artifact.building.environments import interpreter
    from artifact.building.locking import lock, requirements
    from artifact.configuration import artifact_toml

    project = Path.cwd()
    # The application's name decides nothing here, and a project may not have one yet.
    settings = artifact_toml.load(project, name="lock")
    where = places.places(settings.root)
    python = interpreter.find(settings.python.interpreter, where, project=project)
    found = lock.relock(
        project, settings.requirements, python, where, tell, upgrade=upgrade, names=names
    )
    path = project / requirements.LOCK
    changed = not path.is_file() or path.read_text("utf-8", "replace") != found.text
    if changed and not plan:
        files.write(path, found.text)
    if as_json:
        terminal.document("lock", _document(found, written=changed and not plan))
        return
    for line in _lines(found):
        terminal.data(line)
    did = ("would write" if plan else "wrote") if changed else "nothing to change in"
    tell(
        steps.Said(
            f"{did} {requirements.LOCK}: {len(found.after)} packages of {found.origin} "
            f"for Python {python.version}"
        )
    )


def _changes(found: Relocked) -> list[tuple[str, str, str]]:
    """Return (name, old version, new version), empty where there is none."""
    names = sorted({*found.before, *found.after})
    rows = [(name, found.before.get(name, ""), found.after.get(name, "")) for name in names]
    return [row for row in rows if row[1] != row[2]]


def _lines(found: Relocked) -> list[str]:
    return [
        f"{name} {old} → {new}" if old and new else f"+ {name} {new}" if new else f"- {name} {old}"
        for name, old, new in _changes(found)
    ]


def _document(found: Relocked, *, written: bool) -> dict[str, object]:
    return {
        "origin": found.origin,
        "written": written,
        "packages": dict(found.after),
        "changes": [{"name": n, "old": old, "new": new} for n, old, new in _changes(found)],
    }
