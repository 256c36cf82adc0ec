"""Patterns of paths, in gitignore's syntax, by the library that knows it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pathspec import GitIgnoreSpec

from artifact.errors import ConfigurationError


def ignore(lines: Iterable[str], origin: str) -> GitIgnoreSpec:
    """Return what matches the paths that gitignore lines leave out.

    Raises:
        ConfigurationError: a line is no pattern; `origin` says where it stands.
    """
    try:
        return GitIgnoreSpec.from_lines(lines)
    except ValueError as error:
        raise ConfigurationError(f"{origin}: not a pattern: {error}") from error


def below(patterns: Sequence[str], origin: str) -> GitIgnoreSpec:
    """Return what matches globs counted from the project's top.

    `*` stays within a directory, `**` does not, and the name of a directory means all below it.
    """
    return ignore([f"/{pattern.removeprefix('./')}" for pattern in patterns], origin)
