"""What git knows of a checkout. Few processes ask it, and they change nothing."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from artifact import process, variables
from artifact.errors import BuildFailed

LINK = 0o120000
SUBMODULE = 0o160000
EXECUTABLE = 0o111

# Hooks of another repository set these, and git would read that one instead of the checkout.
_FOREIGN = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_COMMON_DIR")


class Tracked(msgspec.Struct, frozen=True):
    """An entry of the index."""

    path: str
    """Relative to the directory that was asked about."""
    mode: int
    """Git's: 0o100644, 0o100755, 0o120000 for a symlink, 0o160000 for a submodule."""
    blob: str
    """Git's id of the content."""
    conflict: bool


class Changes(msgspec.Struct, frozen=True):
    """How the working tree differs from the commit."""

    revision: str
    """Empty before the first commit."""
    branch: str
    """Empty when the commit is checked out without one."""
    modes: dict[str, int]
    """Changed paths and the mode they have now; 0 when they are gone."""
    untracked: tuple[str, ...]


class History(msgspec.Struct, frozen=True):
    """What the commit is."""

    time: int
    """Of the commit, in seconds; 0 before the first."""
    commits: int
    """How many led to it; 0 in a shallow clone."""
    remote: str
    """URL of the origin without credentials."""


class Checkout(msgspec.Struct, frozen=True):
    """Everything about one working tree below one directory."""

    prefix: str
    """The directory within the repository: "" or "services/shop/"."""
    tracked: tuple[Tracked, ...]
    changes: Changes
    history: History


def find_checkout(directory: Path) -> Checkout | None:
    """Return the checkout a directory belongs to; None when git does not keep it.

    Raises:
        BuildFailed: there is a repository that git cannot read.
    """
    try:
        answer = _ask(directory, "rev-parse", "--is-shallow-repository", "--show-prefix")
    except process.ProgramMissing:
        if _has_repository(directory):
            raise BuildFailed(
                f"{directory} is a git checkout, but there is no git on PATH",
                hint="install git: only it knows which files belong to the project",
            ) from None
        return None
    except process.ChildFailed as failure:
        said = " ".join(failure.tail)
        if "not a git repository" in said and not (directory / ".git").exists():
            return None
        raise _unreadable(directory, failure) from failure
    shallow, prefix = answer.split("\n")[:2]
    try:
        with ThreadPoolExecutor(3) as pool:
            listing = pool.submit(list_tracked, directory)
            comparing = pool.submit(list_changes, directory, prefix)
            remembering = pool.submit(_history, directory, shallow=shallow == "true")
            tracked, changes = listing.result(), comparing.result()
            history = remembering.result()
    except process.ChildFailed as failure:
        raise _unreadable(directory, failure) from failure
    if not tracked and prefix:
        return None  # a directory inside somebody else's repository
    return Checkout(prefix, tracked, changes, history)


def list_tracked(directory: Path) -> tuple[Tracked, ...]:
    """Return the index entries below a directory, in git's order."""
    entries = []
    for row in _ask(directory, "ls-files", "--stage", "-z").split("\0")[:-1]:
        facts, _, path = row.partition("\t")
        mode, blob, stage = facts.split(" ")
        entries.append(Tracked(path, int(mode, 8), blob, stage != "0"))
    return tuple(entries)


def list_changes(directory: Path, prefix: str) -> Changes:
    """Return what is uncommitted below a directory; its paths are relative to it.

    Source of the format: git-status(1), "Porcelain Format Version 2".
    """
    text = _ask(
        directory,
        "status", "--porcelain=v2", "--branch", "--no-renames", "-z",
        "--untracked-files=normal", "--ignore-submodules=dirty", "--", ".",
    )  # fmt: skip
    revision = branch = ""
    modes: dict[str, int] = {}
    untracked: list[str] = []
    for row in text.split("\0"):
        kind, _, rest = row.partition(" ")
        if kind == "#":
            name, _, value = rest.partition(" ")
            if name == "branch.oid":
                revision = "" if value == "(initial)" else value
            elif name == "branch.head":
                branch = "" if value == "(detached)" else value
        elif kind == "1":
            # XY sub mHEAD mIndex mWorktree hHEAD hIndex path
            fields = rest.split(" ", 7)
            modes[fields[7].removeprefix(prefix)] = int(fields[4], 8)
        elif kind == "?":
            untracked.append(rest.removeprefix(prefix))
    return Changes(revision, branch, modes, tuple(untracked))


def describe(directory: Path) -> str:
    """Return `git describe`, else the short revision; empty when git has nothing to say."""
    return _answer(directory, "describe", "--tags", "--always")


def short_revision(directory: Path) -> str:
    """Return the abbreviated revision; empty when there is none."""
    return _answer(directory, "rev-parse", "--short", "HEAD")


def _history(directory: Path, *, shallow: bool) -> History:
    url = _answer(directory, "config", "--get", "remote.origin.url")
    time = _answer(directory, "log", "-1", "--format=%ct")
    count = ""
    if time and not shallow:
        count = _ask(directory, "rev-list", "--count", "HEAD").strip()
    return History(int(time or 0), int(count or 0), _without_credentials(url))


def _answer(directory: Path, *arguments: str) -> str:
    """Return what git prints; nothing when it fails, or is not there."""
    try:
        return _ask(directory, *arguments).strip()
    except process.ChildFailed:
        return ""


def _without_credentials(url: str) -> str:
    parts = urlsplit(url)
    if "@" not in parts.netloc:
        return url  # also "git@host:path", where git is who one logs in as
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _ask(directory: Path, *arguments: str) -> str:
    environment = {
        name: value for name, value in variables.everything().items() if name not in _FOREIGN
    }
    environment["LC_ALL"] = "C"
    argv = [
        "git",
        # In a CI container the checkout often belongs to another user. What git protects from,
        # the repository's own settings running programs, a build does anyway: it runs its code.
        "-c", "safe.directory=*",
        "-c", "core.fsmonitor=false",
        "--no-optional-locks",
        *arguments,
    ]  # fmt: skip
    return process.run(argv, cwd=directory, env=environment, capture=True).stdout


def _has_repository(directory: Path) -> bool:
    here = directory.resolve()
    return any((parent / ".git").exists() for parent in (here, *here.parents))


def _unreadable(directory: Path, failure: process.ChildFailed) -> BuildFailed:
    said = next((line for line in failure.tail if line), failure.reason)
    said = said.removeprefix("fatal: ")
    hint = f"`git -C {directory} status` shows it"
    if "dubious ownership" in said:
        hint = f"git config --global --add safe.directory {directory.resolve()}"
    return BuildFailed(f"git cannot read {directory}: {said}", hint=hint, output=failure.tail)
