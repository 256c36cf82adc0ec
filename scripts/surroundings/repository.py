"""Git repositories, committed to by somebody, without the settings of this machine."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

_SETTINGS = ("user.name=Somebody", "user.email=somebody@example.com", "protocol.file.allow=always")
_ELSEWHERE = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE")


def git(directory: Path, *arguments: str) -> str:
    """Run git in a directory and return what it printed, without the last newline.

    Raises:
        RuntimeError: it failed; the message holds what it said.
    """
    argv = ["git", *(word for one in _SETTINGS for word in ("-c", one)), *arguments]
    done = subprocess.run(
        argv, cwd=directory, env=_environment(), check=False, capture_output=True, text=True
    )
    if done.returncode != 0:
        raise RuntimeError(f"{argv} in {directory}: {done.stderr}")
    return done.stdout.removesuffix("\n")


def create(directory: Path, *, ignored: bool = False) -> None:
    """Make an existing directory a repository with one commit of all that is there.

    Args:
        ignored: also of what its .gitignore names.
    """
    git(directory, "init", "--quiet", "--initial-branch", "main")
    if ignored:
        git(directory, "add", "--all", "--force")
    commit(directory, "As it is")


def commit(directory: Path, message: str = "Change") -> None:
    """Commit everything that is not ignored."""
    git(directory, "add", "--all")
    git(directory, "commit", "--quiet", "--allow-empty", "--message", message)


def _environment() -> dict[str, str]:
    """Leave the machine's settings out, unless a test gave its own."""
    kept = {name: value for name, value in os.environ.items() if name not in _ELSEWHERE}
    return {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", **kept}
