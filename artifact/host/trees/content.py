"""Compare the live release and its environment, byte for byte, with what they were unpacked from.

An install trusts files that nobody seems to have touched; here every file is read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from artifact.archive import toc
from artifact.archive.format import ENVIRONMENT_COMPONENT
from artifact.archive.toc import Toc
from artifact.errors import ArtifactRejected
from artifact.host.records.problem import Problem
from artifact.host.records.releases import Release
from artifact.host.trees import links, tree
from artifact.site import ReleasePaths

ANEW = "`artifact rollback`, then install it again: what is not live is unpacked anew"
_HINT = "install another version: what runs now is not what was installed"


def staged_fault(release: Release, shared: Sequence[str]) -> str:
    """Return how a release on the disk differs from what was unpacked; "" when it does not.

    Files with the size and the time they were unpacked with are believed.
    """
    try:
        listed = {one.name: _listed(release, one.name) for one in release.manifest.components}
    except (OSError, ArtifactRejected) as error:
        return str(error)
    environment = listed.pop(ENVIRONMENT_COMPONENT, None)
    found = tree.difference(release.environment, [environment]) if environment else ""
    time, besides = release.manifest.created, links.besides_artifact(shared)
    found = found or tree.difference(release.directory, listed.values(), besides=besides, time=time)
    return found or links.link_fault(release.directory, shared)


def problems(release: Release, shared: Sequence[str]) -> Iterator[Problem]:
    """Find what differs; reads all of both trees.

    Args:
        shared: paths that are links to what the releases share.
    """
    try:
        listed = {one.name: _listed(release, one.name) for one in release.manifest.components}
    except (OSError, ArtifactRejected) as error:
        yield Problem(f"what {release.directory} should hold cannot be read: {error}", _HINT)
        return
    environment = listed.pop(ENVIRONMENT_COMPONENT, None)
    if environment is not None:
        fault = tree.difference(release.environment, [environment], read=True)
        if fault:
            yield Problem(f"{release.environment} has been changed: {fault}", _HINT)
    besides = links.besides_artifact(shared)
    fault = tree.difference(release.directory, listed.values(), besides=besides, read=True)
    if fault:
        yield Problem(f"{release.directory} has been changed: {fault}", ANEW)


def _listed(release: Release, component: str) -> Toc:
    text = ReleasePaths(release.directory).contents(component).read_bytes()
    return toc.decode(text, release.manifest, component)
