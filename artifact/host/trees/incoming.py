"""What an install has to fetch of an artifact that lies in a store, and what the site has of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from artifact import steps
from artifact.archive.opening import Artifact
from artifact.site import Site
from artifact.transfer import arrival, earlier

_NOTHING: Mapping[str, str] = {}


class Incoming(msgspec.Struct, frozen=True):
    """Components that are about to be unpacked."""

    reused: Mapping[str, str]
    """Files of the site to link: path in the artifact to path on the disk."""
    tell: steps.Listener
    note: str
    """For the end of the step: "312.0 MB, 5.6 of 118.2 MB fetched"."""


def recall(artifact: Artifact, site: Site) -> None:
    """Take tables of contents from the site, so that none that is there is fetched."""
    if arrival.behind(artifact) is not None:
        earlier.recall(artifact, site)


def look(artifact: Artifact, site: Site, names: Sequence[str], tell: steps.Listener) -> Incoming:
    """Find what of these components can be linked; a file at hand is unpacked as it is."""
    note = _megabytes(sum(artifact.manifest.component(name).raw for name in names))
    download = arrival.behind(artifact)
    if download is None:
        return Incoming(_NOTHING, tell, note)
    reused = earlier.reusable(artifact, site, names)
    fetched = sum(earlier.missing(artifact.toc(name), reused) for name in names)
    note = f"{note}, {_of(fetched, artifact, names)} fetched"
    return Incoming(reused, download.telling(tell), note)


def to_fetch(artifact: Artifact, site: Site, names: Sequence[str]) -> Mapping[str, int]:
    """Return the bytes of each component that have to be fetched; nothing for a file at hand."""
    if arrival.behind(artifact) is None:
        return {}
    return {name: earlier.to_fetch(artifact, site, (name,)) for name in names}


def announced(artifact: Artifact, fetch: Mapping[str, int], names: Sequence[str]) -> str:
    """Return ", 5.6 of 118.2 MB to fetch" for a plan; "" for a file at hand."""
    known = [fetch[name] for name in names if name in fetch]
    return f", {_of(sum(known), artifact, names)} to fetch" if known else ""


def _of(count: int, artifact: Artifact, names: Sequence[str]) -> str:
    every = sum(artifact.manifest.component(name).data.length for name in names)
    return f"{count / 1e6:.1f} of {_megabytes(every)}"


def _megabytes(count: int) -> str:
    return f"{count / 1e6:.1f} MB"
