"""Where a build machine keeps what makes the next build fast: every path of it, named once."""

from __future__ import annotations

from pathlib import Path

import msgspec

from artifact import variables
from artifact.site import Site


class Places(msgspec.Struct, frozen=True):
    """The caches of a build for one site root; nothing here touches the disk."""

    root: str
    """The site root the environments are compiled for."""
    cache: Path
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
        return self.cache / "wheelhouse"

    @property
    def assets(self) -> Path:
        return self.cache / "assets"

    @property
    def bytecode(self) -> Path:
        return self.cache / "bytecode"

    @property
    def interpreters(self) -> Path:
        return self.cache / "interpreters"


def places(root: str) -> Places:
    """Return the places of a site root, with the cache where `ARTIFACT_CACHE` or XDG put it."""
    explicit = variables.get("ARTIFACT_CACHE")
    home = variables.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Places(root, Path(explicit) if explicit else Path(home) / "artifact")
