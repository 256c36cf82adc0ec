"""The releases that are in a site, as their own manifests and the one link tell of them."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from artifact import manifest as manifests
from artifact.errors import ArtifactRejected, Refused
from artifact.manifest import Manifest
from artifact.site import ReleasePaths, Site


class Release(msgspec.Struct, frozen=True):
    """An unpacked artifact with its real paths."""

    directory: Path
    environment: Path
    manifest: Manifest
    digest: str


def read(site: Site, version: str) -> Release:
    """Read a release of the site.

    Raises:
        Refused: it is not there, or not whole.
    """
    directory = site.release(version).resolve()
    try:
        content = ReleasePaths(directory).manifest.read_bytes()
        environment = ReleasePaths(directory).environment.resolve(strict=True)
        return Release(directory, environment, manifests.decode(content), manifests.digest(content))
    except (OSError, ArtifactRejected) as error:
        raise Refused(
            f"release {version} of {site.root} is not whole: {error}",
            hint="install it again, or another version",
        ) from error


def live_version(site: Site) -> str:
    """Return the version `current` points at; empty when there is none."""
    return _target(site.current)


def previous_version(site: Site) -> str:
    """Return the version that was live before; empty when there is none."""
    return _target(site.previous)


def digest_of(site: Site, version: str) -> str:
    """Return the identity of a release that is here; empty when it is not."""
    try:
        content = ReleasePaths(site.release(version)).manifest.read_bytes()
    except OSError:
        return ""
    return manifests.digest(content)


def check_links(site: Site) -> None:
    """Refuse to go on where something stands in the place of a link: no rename replaces that.

    Raises:
        Refused: `current` or `previous` is a directory or a file.
    """
    for link in (site.current, site.previous):
        if link.exists() and not link.is_symlink():
            raise Refused(
                f"{link} is not a link to a release; nothing has changed",
                hint=f"`mv {link} {site.root}/` and look what it is; then repeat this command",
            )


def _target(link: Path) -> str:
    """Return the release that a link names; empty when it names none of this site."""
    try:
        parent, version = os.path.split(os.path.join(link.parent, os.readlink(link).rstrip("/")))
    except OSError:
        return ""
    return version if os.path.realpath(parent) == os.path.realpath(link.parent) else ""
