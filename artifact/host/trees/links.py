"""The links of a release: its environment, and what it shares with the other releases."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from artifact import files
from artifact.errors import ConfigurationError
from artifact.site import ENVIRONMENT_DIRECTORY, PRIVATE_DIRECTORY, ReleasePaths, Site


def shared_paths(shared: Sequence[str]) -> Iterator[tuple[str, bool]]:
    """Yield each shared path without its slash, and whether it is a directory ("media/").

    Raises:
        ConfigurationError: one is not a plain relative path.
    """
    for entry in shared:
        path = entry.rstrip("/")
        if not path or path.startswith("/") or {"", ".", ".."} & set(path.split("/")):
            raise ConfigurationError(f"install.shared: {entry!r} is not a path below the release")
        yield path, entry.endswith("/")


def besides_artifact(shared: Sequence[str]) -> set[str]:
    """Return the paths in a release that are ours or links, and in no table of contents."""
    return {ENVIRONMENT_DIRECTORY, PRIVATE_DIRECTORY, *(path for path, _ in shared_paths(shared))}


def missing_files(site: Site, shared: Sequence[str]) -> list[Path]:
    """Return the shared files that a person must put in place; directories can be made."""
    return [
        site.shared / path
        for path, directory in shared_paths(shared)
        if not directory and not (site.shared / path).exists()
    ]


def link(
    site: Site, release: Path, key: str, shared: Sequence[str], owner: tuple[int, int]
) -> list[str]:
    """Put the links into a release that is not at its final place yet.

    Args:
        owner: user and group that shared directories are made for.

    Returns:
        The paths in the artifact that a link took the place of.
    """
    environment = ReleasePaths(release).environment
    environment.symlink_to(f"../../{ENVIRONMENT_DIRECTORY}/{key}")
    replaced = []
    for path, directory in shared_paths(shared):
        if directory:
            _make_for(owner, site.shared, path)
        at = release / path
        if os.path.lexists(at):
            replaced.append(path)
            files.remove_tree(at)
        at.parent.mkdir(parents=True, exist_ok=True)
        at.symlink_to(_target(path))
    return replaced


def link_fault(release: Path, shared: Sequence[str]) -> str:
    """Return the first shared path that is no link in a release; "" where all are."""
    for path, _ in shared_paths(shared):
        at = release / path
        if not at.is_symlink() or os.readlink(at) != _target(path):
            return f"{path} is not the link to shared/{path}"
    return ""


def _target(path: str) -> str:
    # releases/VERSION/a/b -> three up is the site
    return "../" * (path.count("/") + 2) + f"shared/{path}"


def _make_for(owner: tuple[int, int], shared: Path, path: str) -> None:
    at = shared
    for name in path.split("/"):
        at /= name
        if not at.is_dir():
            at.mkdir(mode=0o755)
            os.chown(at, *owner)
