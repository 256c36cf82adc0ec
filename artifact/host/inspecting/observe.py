"""Look at an artifact and a site: every fact an install's plan is written from. Changes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from artifact.archive import opening, signature
from artifact.archive.opening import Artifact
from artifact.errors import ArtifactRejected, Refused, UsageError
from artifact.host.processes import target as targets
from artifact.host.processes.target import Target
from artifact.host.records import journal, releases
from artifact.host.records import settings as site_settings
from artifact.host.trees import reuse, unpack
from artifact.manifest import Manifest
from artifact.site import Site


class Live(msgspec.Struct, frozen=True):
    """The release that `current` points at."""

    version: str
    """Empty where nothing is live; the rest is empty then."""
    digest: str
    sequence: int
    """Its place among the versions of its name; 0 where it does not say."""
    state: str
    """What the journal says of it: "good" when its install ended well."""

    def is_good(self, digest: str) -> bool:
        """Tell whether it is this very artifact, and its install ended well."""
        return self.digest == digest and self.state == "good"


class Facts(msgspec.Struct, frozen=True):
    """What was found."""

    artifact: Artifact
    target: Target
    live: Live
    environment: str | None
    """None: not here. "": here and the same. Else how it differs."""
    marked: bool
    """Nothing of the environment was looked at: an earlier run had compared it."""
    release: str | None
    """Of the release, as of the environment."""
    fetch: Mapping[str, int]
    """Bytes of each component to be unpacked that have to be fetched; of none from a file."""

    @property
    def site(self) -> Site:
        return self.target.site

    @property
    def manifest(self) -> Manifest:
        return self.artifact.manifest


def site_of(artifact: Artifact, root: str) -> Site:
    """Return the site an artifact belongs to: the one its environment was compiled for.

    Args:
        root: where the user wants it; "" takes the artifact's word.

    Raises:
        ArtifactRejected: its root is no place for a site.
        Refused: it belongs to another site than the one asked for.
    """
    own = artifact.manifest.root
    path = Path(own)
    if not path.is_absolute() or ".." in path.parts or str(path) != own or own == "/":
        raise ArtifactRejected(f"{artifact.manifest.reference} has an impossible root, {own!r}")
    if root and Path(root).resolve() != path.resolve():
        raise Refused(
            f"{artifact.manifest.reference} was built for {own}, not for {root}: "
            "its environment works at that path only",
            hint=f'install it on a server with that site, or build it with root = "{root}"',
        )
    return Site(path)


def check_digest(artifact: Artifact, wanted: str) -> None:
    """Compare the artifact's identity with the one asked for.

    Raises:
        UsageError: what was asked for is no digest.
        ArtifactRejected: it is another.
    """
    if not wanted.startswith("sha256:") or len(wanted) != len(artifact.digest):
        raise UsageError(f"{wanted!r} is not a digest", hint="sha256:… as `artifact build` says it")
    if wanted != artifact.digest:
        raise ArtifactRejected(
            f"{artifact.manifest.reference} is {artifact.digest}, not {wanted}",
            hint="fetch it again, or find out who built this one",
        )


def check_signature(site: Site, called: str, content: bytes, made: bytes | None) -> None:
    """Refuse what none of the signers in the site's own settings has signed.

    Args:
        called: what messages call the artifact.
        content: the manifest.
        made: its signature; None where it has none.

    Raises:
        ConfigurationError: the settings are wrong.
        UsageError: there is no such file of signers.
        ArtifactRejected: it is not signed, or not by one of them.
    """
    signers = site_settings.load(site).signers
    if signers:
        with opening.naming(called):
            signature.verify(content, made, Path(signers))


def check_same_version(artifact: Artifact, site: Site) -> None:
    """Refuse other content under a version that the site has already.

    Raises:
        Refused: the version is taken.
    """
    digest = releases.digest_of(site, artifact.manifest.version)
    if digest and digest != artifact.digest:
        raise Refused(
            f"{site.root} has another {artifact.manifest.reference}: {digest}, "
            f"and this one is {artifact.digest}",
            hint="build it under a new version; one version is one content",
        )


def check_sequence(target: Target, live: Live) -> None:
    """Refuse a release that is older than the live one.

    Raises:
        Refused: its sequence is lower; where either has none, nobody can tell.
    """
    own = target.manifest.sequence
    if 0 < own < live.sequence:
        raise Refused(
            f"{target.reference} is older than the live {live.version}: "
            f"sequence {own} instead of {live.sequence}",
            hint=f"`artifact rollback` goes back to what is in {target.site.root}; "
            "--allow-downgrade makes it live all the same",
        )


def observe_live(site: Site) -> Live:
    """Look at the release that is live."""
    version = releases.live_version(site)
    states = journal.release_states(site.journal)
    return Live(
        version=version,
        digest=releases.digest_of(site, version) if version else "",
        sequence=_sequence(site, version),
        state=states[version].state if version in states else "",
    )


def observe(artifact: Artifact, site: Site) -> Facts:
    """Look at everything.

    Raises:
        ConfigurationError: the site's own settings are wrong.
    """
    target = targets.of_manifest(site, artifact.manifest)
    reuse.recall(artifact, site)
    environment, marked = unpack.environment_there(artifact, site)
    release = unpack.release_fault(artifact, site, target.install.shared)
    return Facts(
        artifact=artifact,
        target=target,
        live=observe_live(site),
        environment=environment,
        marked=marked,
        release=release,
        fetch=reuse.to_fetch(artifact, site, unpack.to_unpack(artifact, environment, release)),
    )


def _sequence(site: Site, version: str) -> int:
    try:
        return releases.read(site, version).manifest.sequence if version else 0
    except Refused:
        return 0
