"""The projects that are built: each is made in a directory of its own and committed there."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from benchmarks.workshop import Workshop, remove
from surroundings import repository

# Without asset steps: the peers have none, so leaving them out compares like with like.
_CONFIGURATION = """\
name = "{name}"

[django]
collectstatic = false
compress = false
compilemessages = false
"""


@dataclass(frozen=True, slots=True)
class Project:
    """A project in a git checkout of its own."""

    name: str
    """ "a", "b", "c"."""
    title: str
    directory: Path
    answers: str
    """A path that answers 200 without a database that was migrated."""
    module: str
    """A Python file that can be changed without consequences."""


def make(name: str, shop: Workshop) -> Project:
    """Make a project, or find the one of an earlier run in the same work directory."""
    from benchmarks.projects import generated, horizon, wagtail_start

    maker = {"a": wagtail_start, "b": generated, "c": horizon}[name]
    directory = shop.path("projects", name)
    if not (directory / ".git" / "made").exists():
        shop.tell(f"making project ({name}): {maker.TITLE}")
        remove(directory)
        directory.mkdir(parents=True)
        maker.make(directory, shop)
        _commit_first(directory, name)
        (directory / ".git" / "made").touch()
    return Project(name, maker.TITLE, directory, maker.ANSWERS, maker.MODULE)


def change(project: Project, number: int) -> None:
    """Commit a change of one line, as the next build of a pipeline finds it."""
    with (project.directory / project.module).open("a", encoding="utf-8") as stream:
        stream.write(f"\n# change {number}\n")
    repository.commit(project.directory, f"change {number}")


def _commit_first(directory: Path, name: str) -> None:
    configuration = directory / "artifact.toml"
    configuration.write_text(_CONFIGURATION.format(name=f"bench-{name}"), encoding="utf-8")
    # An sdist's .gitignore may name files that the sdist holds.
    repository.create(directory, ignored=True)
