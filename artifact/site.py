"""The directory tree of one application on a server: every path of it, named once."""

from __future__ import annotations

from pathlib import Path

import msgspec


def environment_path(root: str, key: str) -> Path:
    """Return where the environment is compiled in CI and lives on servers."""
    return Path(root) / "virtualenv" / key


class Site(msgspec.Struct, frozen=True):
    """The paths of a site; nothing here touches the disk."""

    root: Path

    @property
    def releases(self) -> Path:
        return self.root / "releases"

    def release(self, version: str) -> Path:
        return self.releases / version

    @property
    def current(self) -> Path:
        """The one link that is switched."""
        return self.releases / "current"

    @property
    def previous(self) -> Path:
        """A convenience for people; the journal is the truth."""
        return self.releases / "previous"

    @property
    def environments(self) -> Path:
        return self.root / "virtualenv"

    def environment(self, key: str) -> Path:
        return environment_path(str(self.root), key)

    @property
    def default_environment(self) -> Path:
        """Constant link through `current`, so that one rename switches code and environment."""
        return self.environments / "default"

    @property
    def shared(self) -> Path:
        return self.root / "shared"

    @property
    def static(self) -> Path:
        return self.root / "static"

    @property
    def settings(self) -> Path:
        return self.root / "site.toml"

    @property
    def variables(self) -> Path:
        """The application's environment variables, `KEY=value` lines, never part of an artifact."""
        return self.root / "env"

    @property
    def private(self) -> Path:
        return self.root / ".artifact"

    @property
    def lock(self) -> Path:
        return self.private / "lock"

    @property
    def journal(self) -> Path:
        return self.private / "journal.jsonl"

    @property
    def state(self) -> Path:
        """Which slot runs which release."""
        return self.private / "state.json"

    @property
    def staging(self) -> Path:
        return self.private / "staging"

    @property
    def downloads(self) -> Path:
        """What was fetched of an artifact, until it is installed."""
        return self.private / "downloads"

    @property
    def verified(self) -> Path:
        """What tells whether an environment is as it was when it was compared with an artifact."""
        return self.private / "verified"

    @property
    def trash(self) -> Path:
        return self.private / "trash"

    @property
    def reserve(self) -> Path:
        """A piece of the disk, to be given up when that is full."""
        return self.private / "reserve"

    @property
    def failures(self) -> Path:
        return self.private / "failures"

    def lease(self, version: str) -> Path:
        return self.private / "leases" / version

    def health_socket(self, process: str, slot: int | str) -> Path:
        """The private unix socket on which a slot answers health checks."""
        return self.private / "run" / f"{process}-{slot}.sock"

    def running(self, process: str, slot: int | str) -> Path:
        """What a slot said it was about to become: its pid and version."""
        return self.private / "run" / f"{process}-{slot}.json"
