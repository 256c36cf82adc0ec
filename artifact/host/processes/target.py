"""A release in its site with the server's own settings: what most of the host side is about."""

from __future__ import annotations

import msgspec

from artifact.configuration.site_toml import Settings
from artifact.host.processes import servers
from artifact.host.records import releases
from artifact.host.records import settings as site_settings
from artifact.manifest import Install, Manifest, Process
from artifact.services.process_manager import ProcessManager, program_name
from artifact.services.supervisor import Supervisor
from artifact.site import Site


class Target(msgspec.Struct, frozen=True):
    """A release in a site with the server's own settings; it need not be unpacked yet."""

    site: Site
    manifest: Manifest
    settings: Settings

    @property
    def version(self) -> str:
        return self.manifest.version

    @property
    def reference(self) -> str:
        """ "accounting-1337"."""
        return self.manifest.reference

    @property
    def install(self) -> Install:
        """The manifest's settings with the server's own on top."""
        return self.settings.merged(self.manifest.install)

    @property
    def processes(self) -> dict[str, Process]:
        return self.manifest.processes

    @property
    def managed(self) -> bool:
        """Tell whether a process manager runs processes that a switch has to restart."""
        return self.install.restart != "none" and bool(self.processes)

    @property
    def manager(self) -> ProcessManager:
        """What starts and stops the site's processes."""
        return manager_of(self.settings)

    def program(self, process: str) -> str:
        """Return what the process manager calls the program of a process: "accounting-web"."""
        return program_name(self.manifest.name, process)

    @property
    def shares_static(self) -> bool:
        """Tell whether its hashed static files are served together with those of others."""
        return bool(self.manifest.static) and self.install.static == "shared"

    def in_slots(self, process: str) -> bool:
        """Tell whether two releases of a process share a socket while they change."""
        return self.install.restart == "slots" and servers.takes_slots(self.processes[process])

    def side_by_side(self, process: str) -> bool:
        """Tell whether two releases of a process run at the same time while they change."""
        return self.install.restart == "slots" and servers.side_by_side(self.processes[process])


def manager_of(settings: Settings) -> ProcessManager:
    """Return the process manager that a site's settings name.

    Only setup picks it as well, for it writes the manager's own files.
    """
    return Supervisor(settings.supervisor.url)


def of_manifest(site: Site, manifest: Manifest) -> Target:
    """Return a release of which only the manifest is known yet.

    Raises:
        ConfigurationError: the site's own settings are wrong.
    """
    return Target(site, manifest, site_settings.load(site))


def of_version(site: Site, version: str) -> Target:
    """Return a release that is unpacked in the site.

    Raises:
        ConfigurationError: the site's own settings are wrong.
        Refused: it is not there, or not whole.
    """
    return of_manifest(site, releases.read(site, version).manifest)
