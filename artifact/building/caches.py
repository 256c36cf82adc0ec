"""Where a build machine keeps what makes the next build fast: every path of it, named once."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TypeVar

import msgspec

from artifact import variables
from artifact.errors import BuildFailed
from artifact.site import Site

Kept = TypeVar("Kept")


class Caches(msgspec.Struct, frozen=True):
    """The caches of a build for one site root; nothing here touches the disk."""

    root: str
    """The site root the environments are compiled for."""
    shared: Path
    """The machine's cache, shared by all sites of a user."""

    @property
    def environments(self) -> Path:
        return Site(Path(self.root)).environments

    def environment(self, key: str) -> Path:
        return self.environments / key

    @property
    def beside(self) -> Path:
        """What belongs to the environments but is not one: locks, packs, stamps."""
        return self.environments / ".build"

    def lock(self, key: str) -> Path:
        """The lock file two jobs building one key meet at."""
        return self.beside / f"{key}.lock"

    def lease(self, key: str) -> Path:
        """The file on which builds that read an environment hold a shared lock."""
        return self.beside / f"{key}.lease"

    def used(self, key: str, name: str) -> Path:
        """An empty file whose time says when an application last used an environment."""
        return self.beside / f"{key}.used-by-{name}"

    @property
    def why(self) -> Path:
        """Why the last build did not reuse an environment."""
        return self.beside / "why.json"

    def pack(self, key: str) -> Path:
        """The environment's gzip members, written once and copied into every artifact."""
        return self.beside / f"{key}.pack"

    def stamp(self, key: str) -> Path:
        """Sizes and times of the environment's files when it was finished."""
        return self.beside / f"{key}.stamp"

    def resolved(self, digest: str) -> Path:
        """The lock that an unpinned input of this digest was resolved to."""
        return self.beside / f"{digest}.requirements.lock"

    @property
    def wheelhouse(self) -> Path:
        return self.shared / "wheelhouse"

    @property
    def assets(self) -> Path:
        return self.shared / "assets"

    @property
    def bytecode(self) -> Path:
        return self.shared / "bytecode"

    @property
    def interpreters(self) -> Path:
        return self.shared / "interpreters"


def find_caches(root: str) -> Caches:
    """Return the caches of a site root, with the cache where `ARTIFACT_CACHE` or XDG put it."""
    explicit = variables.get("ARTIFACT_CACHE")
    home = variables.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Caches(root, Path(explicit) if explicit else Path(home) / "artifact")


def load_kept(path: Path, kind: type[Kept]) -> Kept | None:
    """Return what a build wrote into a JSON file; None when it is not there or cannot be read."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.MsgspecError):
        return None


def prepare(caches: Caches) -> None:
    """Make the directory of environments, or say how it can be made.

    Raises:
        BuildFailed: it cannot be made or written.
    """
    try:
        caches.beside.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=caches.beside):
            pass
        reason = "" if os.access(caches.environments, os.W_OK | os.X_OK) else "Permission denied"
    except OSError as error:
        reason = error.strerror or "an error"
    if reason:
        raise BuildFailed(
            f"the environment has to be compiled in {caches.environments}, where servers will "
            f"have it, and that cannot be written: {reason}",
            hint=f"once: sudo install -d -o $USER {caches.environments}; or name another site in "
            "artifact.toml: root, or in the variable ARTIFACT_ROOT",
        )
