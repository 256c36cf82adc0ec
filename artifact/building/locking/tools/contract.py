"""What a toolchain does: resolve requirements to a lock, and install from one."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from artifact.building.locking.context import BuildContext
from artifact.building.locking.pins import Lock


@dataclass(frozen=True, slots=True)
class ResolveRequest:
    """Requirements to resolve."""

    requirements: str = field(repr=False)
    """A requirements file without includes, markers and index settings."""
    constraints: str
    existing: str
    """An earlier lock, whose versions are kept where they still fit."""
    upgrade: bool
    """Forget the earlier versions."""
    upgrade_names: tuple[str, ...]
    """Forget the earlier versions of these."""
    origin: str
    """The file, as the user knows it."""
    context: BuildContext


class Tools(Protocol):
    """Resolves requirements, and installs a lock."""

    @property
    def version(self) -> str:
        """Name and version, for the environment's key: "uv 0.8.22"."""

    def resolve(self, request: ResolveRequest) -> str:
        """Return a requirements file of pinned versions with hashes.

        Raises:
            BuildFailed: there is no solution, or an index cannot be reached.
        """

    def install(self, lock: Lock, python: Path, context: BuildContext) -> None:
        """Install a lock into the empty environment of a Python, every file held to its hash.

        Args:
            python: the environment's `bin/python`.

        Raises:
            BuildFailed: a file cannot be had, does not have its hash, or cannot be built.
        """
