"""Compare a release that is here, and its environment, with what they were unpacked from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from artifact.archive import toc
from artifact.archive.format import ENVIRONMENT_COMPONENT
from artifact.archive.toc import Toc
from artifact.errors import ArtifactRejected
from artifact.host.records.problem import Problem
from artifact.host.records.releases import Release
from artifact.host.trees import links, tree, verified
from artifact.site import ReleasePaths, Site

ANEW = "`artifact rollback`, then install it again: what is not live is unpacked anew"
_HINT = "install another version: what runs now is not what was installed"


def problems(release: Release, shared: Sequence[str]) -> Iterator[Problem]:
    """Find what differs in the live release; reads all of both trees.

    Args:
        shared: paths that are links to what the releases share.
    """
    try:
        environment = _listed(release, environment=True)
        own = _listed(release, environment=False)
    except (OSError, ArtifactRejected) as error:
        yield Problem(f"what {release.directory} should hold cannot be read: {error}", _HINT)
        return
    if fault := tree.difference(release.environment, environment, read=True):
        yield Problem(f"{release.environment} has been changed: {fault}", _HINT)
    besides = links.besides_artifact(shared)
    fault = tree.difference(release.directory, own, besides=besides, read=True)
    if fault := fault or links.link_fault(release.directory, shared):
        yield Problem(f"{release.directory} has been changed: {fault}", ANEW)


def staged_fault(site: Site, release: Release, shared: Sequence[str]) -> str:
    """Return how a staged release differs from what was unpacked; "" when it does not.

    Files with the size and the time they were unpacked with are believed, and so is an environment
    that was compared and is untouched since.
    """
    time, besides = release.manifest.created, links.besides_artifact(shared)
    try:
        found = ""
        if not verified.is_marked(release.manifest, site):
            found = tree.difference(release.environment, _listed(release, environment=True))
        own = _listed(release, environment=False)
        found = found or tree.difference(release.directory, own, besides=besides, time=time)
    except (OSError, ArtifactRejected) as error:
        return str(error)
    return found or links.link_fault(release.directory, shared)


def _listed(release: Release, *, environment: bool) -> list[Toc]:
    """Return what the environment, or else the release's own directory, should hold."""
    return [
        toc.decode(
            ReleasePaths(release.directory).contents(component.name).read_bytes(),
            release.manifest,
            component.name,
        )
        for component in release.manifest.components
        if (component.name == ENVIRONMENT_COMPONENT) == environment
    ]
