"""The two toolchains: uv, and pip-tools with pip. Both resolve to and install from one format."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from artifact import steps
from artifact.building.environments.interpreter import Interpreter
from artifact.building.locking.indexes import Indexes
from artifact.building.locking.pins import Lock
from artifact.building.places import Places


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be resolved."""

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
    interpreter: Interpreter
    indexes: Indexes = field(repr=False)
    variables: Mapping[str, str] = field(repr=False)
    """Those that builds may see beside the basic ones."""


class Tools(Protocol):
    """Resolves requirements, and installs a lock."""

    @property
    def name(self) -> str:
        """As `[requirements] tools` has it."""

    @property
    def version(self) -> str:
        """Name and version, for the environment's key: "uv 0.8.22"."""

    def resolve(self, wanted: Wanted, places: Places, tell: steps.Listener) -> str:
        """Return a requirements file of pinned versions with hashes.

        Raises:
            BuildFailed: there is no solution, or an index cannot be reached.
        """

    def install(
        self,
        lock: Lock,
        python: Path,
        places: Places,
        variables: Mapping[str, str],
        tell: steps.Listener,
    ) -> None:
        """Install a lock into the empty environment of a Python, every file held to its hash.

        Args:
            python: the environment's `bin/python`.
            variables: the declared ones that builds of sdists may see.

        Raises:
            BuildFailed: a file cannot be had, does not have its hash, or cannot be built.
        """


def named(name: str) -> Tools:
    """Return a toolchain: "uv" or "pip"."""
    if name == "pip":
        from artifact.building.locking.tools.pip import Pip

        return Pip()
    from artifact.building.locking.tools.uv import Uv

    return Uv()
