"""The directory tree of one application on a server: every path of it, named once."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

ENVIRONMENT_DIRECTORY = "virtualenv"
"""A site has all environments there, a release the link to its own, an artifact its own."""
PRIVATE_DIRECTORY = ".artifact"
"""Of a site, a release and an artifact: what is the tool's, and not the application's."""
MANIFEST = "manifest.json"


def contents_name(component: str) -> str:
    """Return the name of the file with a component's table of contents."""
    return f"{component}.toc"


HASHED_NAME = r"[.-][0-9a-f]{12,64}\."
"""In names that hold the hash of what they name: Django's have 12 hex digits, webpack's 20.

Eight may be a date.
"""


class ReleasePaths(msgspec.Struct, frozen=True):
    """The paths in the directory of a release; nothing here touches the disk."""

    directory: Path

    @property
    def environment(self) -> Path:
        """The link to the environment."""
        return self.directory / ENVIRONMENT_DIRECTORY

    @property
    def private(self) -> Path:
        return self.directory / PRIVATE_DIRECTORY

    @property
    def manifest(self) -> Path:
        return self.private / MANIFEST

    @property
    def signature(self) -> Path:
        """The signature of the manifest; missing where the artifact had none."""
        return self.private / "manifest.sig"

    def contents(self, component: str) -> Path:
        """The file with the text of a component's table of contents."""
        return self.private / contents_name(component)


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
        return self.root / ENVIRONMENT_DIRECTORY

    def environment(self, key: str) -> Path:
        """Where an environment is compiled in CI and lives on servers."""
        return self.environments / key

    @property
    def default_environment(self) -> Path:
        """Constant link through `current`, so that one rename switches code and environment."""
        return self.environments / "default"

    @property
    def default_target(self) -> str:
        """Where that link leads: "../releases/current/virtualenv"."""
        return os.path.relpath(ReleasePaths(self.current).environment, self.environments)

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
        return self.root / PRIVATE_DIRECTORY

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

    @property
    def frozen(self) -> Path:
        """Who has frozen the site, and why; absent while nobody has."""
        return self.private / "frozen.json"

    @property
    def unused(self) -> Path:
        """Since when each environment has been without a release."""
        return self.private / "unused.json"

    def lease(self, version: str) -> Path:
        return self.private / "leases" / version

    def health_socket(self, process: str, slot: int | str) -> Path:
        """The private unix socket on which a slot answers health checks."""
        return self.private / "run" / f"{process}-{slot}.sock"

    def running(self, process: str, slot: int | str) -> Path:
        """What a slot said it was about to become: its pid and version."""
        return self.private / "run" / f"{process}-{slot}.json"

    def ready(self, process: str, slot: int | str) -> Path:
        """What a server writes to when it accepts connections, see `servers.DRAINING`."""
        return self.private / "run" / f"{process}-{slot}.ready"
