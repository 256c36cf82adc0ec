"""What a site needs of the web server in front of it."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import msgspec

from artifact.manifest import Manifest
from artifact.site import Site


class Certificate(msgspec.Struct, frozen=True):
    """What TLS is served with."""

    chain: Path
    """The certificate and those between it and its authority, PEM."""
    key: Path


class Place(msgspec.Struct, frozen=True):
    """Where a site's block goes."""

    file: Path
    link: Path | None
    """Debian reads links in sites-enabled; None where the file itself is read."""


class Proxy(Protocol):
    """Passes requests on to the listening process, and serves static files from the site."""

    def place(self, name: str) -> Place:
        """Return where the block of an application goes: as Debian does it, else into conf.d.

        Raises:
            Refused: the proxy's configuration is not there.
        """

    def block(
        self,
        site: Site,
        manifest: Manifest,
        server_name: str,
        certificate: Certificate | None = None,
    ) -> str:
        """Render the block of a site. Static files without a hash are those of the live release.

        Args:
            server_name: "example.com" or "example.com:8080".
            certificate: has it serve TLS, and redirect from port 80 where no other port is named.

        Raises:
            UsageError: the name is not one, or it is not clear which process serves.
        """

    def upstream(self, listen: str) -> str:
        """Return how a block names the address that a process listens on."""

    def test(self) -> None:
        """Have the proxy read its configuration.

        Raises:
            Refused: it is wrong, or the program is not there; its own words are the output.
        """

    def reload(self) -> str:
        """Have a running proxy take its configuration; no request is lost.

        Returns:
            Why it did not; empty when it did.
        """
