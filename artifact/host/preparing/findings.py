"""What setup wants of a server, and what it finds there: parts, problems and warnings."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from artifact.configuration.site_toml import Settings
from artifact.host.processes.target import Target
from artifact.host.records.problem import Problem
from artifact.manifest import Manifest
from artifact.services.nginx import DIRECTORY as NGINX
from artifact.services.proxy import Certificate
from artifact.site import Site
from artifact.steps import Run, Step, Warned


class SetupOptions(msgspec.Struct, frozen=True):
    """What the command line asks for."""

    command: str
    """Path of the `artifact` that supervisor is to run."""
    user: str = ""
    """Who the processes run as; site.toml's when empty, else one named as the application."""
    nginx: bool = False
    server_name: str = ""
    """When empty, that of site.toml, else the machine's."""
    nginx_directory: Path = NGINX
    certificate: Certificate | None = None
    """What nginx serves TLS with; without one, that of site.toml."""
    tls: bool = True
    """False has it serve plain HTTP again."""
    supervisor_directory: Path | None = None
    """Where supervisor's program file goes; found from supervisor's own configuration if None."""


class Goal(msgspec.Struct, frozen=True):
    """What is to be so in the end."""

    target: Target
    """Its settings are those that site.toml is to have."""
    kept: Settings
    """What site.toml says until now."""
    options: SetupOptions

    @property
    def user(self) -> str:
        """Who the processes run as; empty for whoever starts them."""
        return self.target.settings.user

    @property
    def site(self) -> Site:
        return self.target.site

    @property
    def manifest(self) -> Manifest:
        return self.target.manifest


@dataclass(frozen=True, slots=True)
class Part:
    """One thing that belongs to a prepared server."""

    name: str
    """Stable, as that of a step."""
    summary: str
    """What will be done; or, without a step, what is so already."""
    step: Step[Run] | None = None
    path: str = ""
    """The file that is written, with its whole content."""
    content: str = field(default="", repr=False)


SetupFinding = Part | Problem | Warned
