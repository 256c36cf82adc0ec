"""The files that may belong to a source: those that git tracks; without git, nearly all."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec

from artifact.archive import format as layout
from artifact.building import git, patterns
from artifact.errors import ArtifactRejected, BuildFailed

IGNORE_FILE = ".artifactignore"
_NAMED = 3
"""How many names a warning lists before "and 12 more"."""

# Without git nobody says what belongs to the project; these never do.
_NEVER_SOURCE = frozenset({
    ".git", ".hg", ".svn", "__pycache__", "node_modules", ".venv", ".tox", ".nox", ".mypy_cache",
    ".pytest_cache", ".ruff_cache", ".env", ".DS_Store", ".idea", ".vscode",
})  # fmt: skip
_BUILD_PREFIX = ".artifact-"
_NEVER_SUFFIXES = (".pyc", ".pyo", ".sqlite3", ".swp", "~")


class Candidate(msgspec.Struct, frozen=True):
    """A path that may belong to the source, and what git says of it."""

    path: str
    executable: bool | None = None
    """None: the file itself tells."""
    blob: str = ""


class Listing(msgspec.Struct):
    """What was found, and what became of it."""

    candidates: list[Candidate]
    changed: list[str]
    untracked: list[str]
    missing: list[str]


def list_files(
    root: Path,
    checkout: git.Checkout | None,
    exclude: Sequence[str],
    is_build_output: Callable[[str], bool],
) -> Listing:
    """Return the files that git tracks; without git, all but virtualenvs, caches and the like.

    Args:
        exclude: patterns of what is left out, beside those of `.artifactignore`.
        is_build_output: tells the paths that earlier builds wrote into the project.
    """
    keep = _keeper(root, exclude, is_build_output)
    if checkout is None:
        return Listing(list(_walk(root, keep)), [], [], [])
    found = _tracked(root, "", checkout, keep)
    found.untracked = [path for path in found.untracked if _is_worth_warning(root, path, keep)]
    return found


def _keeper(
    root: Path, exclude: Sequence[str], is_build_output: Callable[[str], bool]
) -> Callable[[str], bool]:
    """Return a function that tells whether a path stays."""
    ignored: list[str] = []
    if (root / IGNORE_FILE).is_file():
        ignored = (root / IGNORE_FILE).read_text("utf-8", "replace").splitlines()
    if not ignored and not exclude:
        return lambda path: not is_build_output(path)
    specification = patterns.ignore([*ignored, *exclude], f"{IGNORE_FILE} or source.exclude")
    return lambda path: not is_build_output(path) and not specification.match_file(path)


def _is_worth_warning(root: Path, untracked: str, keep: Callable[[str], bool]) -> bool:
    """Tell whether an untracked path is worth a word; git names whole directories."""
    if not untracked.endswith("/"):
        return keep(untracked)
    names = [name for name in os.listdir(root / untracked) if not name.startswith(_BUILD_PREFIX)]
    return any(keep(f"{untracked}{name}") for name in names)


def _tracked(
    root: Path, below: str, checkout: git.Checkout, keep: Callable[[str], bool]
) -> Listing:
    changes = checkout.changes
    found = Listing([], [], [f"{below}{path}" for path in changes.untracked], [])
    conflicts = sorted({entry.path for entry in checkout.tracked if entry.conflict})
    if conflicts:
        raise BuildFailed(
            f"{first_names(conflicts)} {_has(conflicts)} unresolved merge conflicts",
            hint="resolve them and commit",
        )
    found.changed = [f"{below}{path}" for path in changes.modes if keep(f"{below}{path}")]
    for entry in checkout.tracked:
        path = f"{below}{entry.path}"
        if entry.mode == git.SUBMODULE:
            if keep(f"{path}/"):
                _add_submodule(root, path, keep, found)
        elif keep(path):
            mode = changes.modes.get(entry.path, entry.mode)
            if mode == 0:  # deleted; where a link took its directory's place, lstat would find it
                found.missing.append(path)
                continue
            blob = "" if entry.path in changes.modes else entry.blob
            found.candidates.append(Candidate(path, bool(mode & git.EXECUTABLE), blob))
    return found


def _add_submodule(root: Path, path: str, keep: Callable[[str], bool], found: Listing) -> None:
    directory = root / path
    inner = git.find_checkout(directory) if (directory / ".git").exists() else None
    if inner is None:
        raise BuildFailed(
            f"the submodule {path} is not checked out",
            hint="git submodule update --init --recursive",
        )
    more = _tracked(root, f"{path}/", inner, keep)
    found.candidates += more.candidates
    found.changed += more.changed
    found.untracked += more.untracked
    found.missing += more.missing


def _walk(root: Path, keep: Callable[[str], bool]) -> Iterator[Candidate]:
    pending = [""]
    while pending:
        below = pending.pop()
        for entry in os.scandir(root / below):
            path = f"{below}{entry.name}"
            if entry.name in _NEVER_SOURCE or entry.name.endswith(_NEVER_SUFFIXES):
                continue
            if entry.name.startswith(_BUILD_PREFIX):
                continue
            if entry.is_dir(follow_symlinks=False):
                if not os.path.exists(os.path.join(entry.path, "pyvenv.cfg")):
                    pending.append(f"{path}/")
            elif keep(path) and not (path.endswith(".tgz") and _is_artifact(Path(entry.path))):
                yield Candidate(path)


def _is_artifact(path: Path) -> bool:
    """Tell whether an earlier build of ours wrote this file."""
    try:
        with path.open("rb") as stream:
            stream.seek(-layout.FOOTER_BYTES, os.SEEK_END)
            layout.decode_footer(stream.read())
    except (OSError, ArtifactRejected):
        return False
    return True


def first_names(names: Sequence[str]) -> str:
    """Return the first names for a message, and how many more there are."""
    shown = ", ".join(names[:_NAMED])
    return f"{shown} and {len(names) - _NAMED} more" if len(names) > _NAMED else shown


def _has(names: Sequence[str]) -> str:
    return "has" if len(names) == 1 else "have"
