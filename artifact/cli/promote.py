"""`artifact promote`: point a channel at a version."""

from __future__ import annotations

from typing import Literal

import click

from artifact import steps
from artifact.cli import options, store
from artifact.cli.answers import Answer, Document
from artifact.cli.store import Opened
from artifact.errors import ArtifactRejected, UsageError
from artifact.manifest import is_version
from artifact.stores import addresses, channels
from artifact.stores.channels import Candidate
from artifact.transfer import remote


class Promotion(Document, frozen=True, kw_only=True, tag="promote"):
    """What a channel points to now."""

    name: str
    channel: str
    release: str
    """The version."""
    digest: str
    change: int
    """How often the channel has been changed."""
    good_at: str
    """When somebody said that it proved good; empty before."""
    previous: str | None
    """The version it pointed to before."""


class PromotionPlan(Document, frozen=True, kw_only=True, tag="promote"):
    """What would be done; the answer with `--plan`."""

    plan: Literal[True] = True
    channel: str
    summary: str


@click.command()
@click.argument("version")
@click.option(
    "--to", "channel", required=True, metavar="CHANNEL", help="The channel, such as production."
)
@click.option("--reason", default="", help="Why; kept in the channel's history.")
@click.option("--good", is_flag=True, help="Mark it as proved good there; gates ask for that.")
@options.digest
@click.option(
    "--name", default="", help="Name of the application; that of the checkout if left out."
)
@options.plan
@options.json
@options.verbosity
def command(
    *,
    version: str,
    channel: str,
    reason: str,
    good: bool,
    digest: str,
    name: str,
    plan: bool,
    answer: Answer,
    tell: steps.Listener,
) -> None:
    """Point a channel at a version in the store, by its digest.

    VERSION may be NAME-VERSION. A gate in [store.gates] demands that the same digest has been good
    in another channel for a while.
    """
    opened, wanted = _meant(name, version)
    addresses.channel(opened.name, channel)  # its name is checked before anything is asked
    target = _target(opened, wanted, digest)
    before = channels.read_channel(opened.store, opened.name, channel)
    if not good:
        channels.check_gate(opened.store, target, channel, opened.section.gates.get(channel))
    at = f"{opened.name}@{channel}"
    was = before.version if before else "nothing"
    if plan:
        summary = f"mark {wanted} good in {at}" if good else f"point {at} at {wanted} (was {was})"
        answer(PromotionPlan(channel=channel, summary=summary), [summary])
        return
    if good:
        after = channels.mark_good(opened.store, target, channel)
        said = f"{after.version} is good in {at} since {after.good_at}"
    else:
        after = channels.promote(opened.store, target, channel, reason=reason)
        already = before is not None and before.digest == after.digest
        said = f"{at} is {after.version} " + ("already" if already else f"(was {was})")
    document = Promotion(
        name=opened.name,
        channel=channel,
        release=after.version,
        digest=after.digest,
        change=after.sequence,
        good_at=after.good_at,
        previous=before.version if before else None,
    )
    answer(document)
    tell(steps.Said(f"{said}: {after.digest}"))


def _target(opened: Opened, version: str, digest: str) -> Candidate:
    """Return what the store holds under a version, unless it is not what was meant."""
    called = f"{opened.name}-{version}"
    with remote.open_artifact(opened.store, addresses.artifact(opened.name, version)) as artifact:
        target = Candidate(opened.name, version, artifact.digest)
        if artifact.manifest.reference != called:
            raise ArtifactRejected(
                f"what the store calls {called} is {artifact.manifest.reference}",
                hint="find out who put it there, and delete it",
            )
    if digest and digest != target.digest:
        raise ArtifactRejected(
            f"{called} in {opened.store.address} is {target.digest}, not {digest}",
            hint="this is another artifact than the one you mean",
        )
    return target


def _meant(name: str, version: str) -> tuple[Opened, str]:
    """Return the store and the version; "accounting-1337" names the application as well."""
    try:
        opened = store.opened(name)
    except UsageError:
        meanings = addresses.references(version)
        if name or not meanings:
            raise
        opened = store.opened(meanings[0][0])
    bare = version.removesuffix(addresses.SUFFIX).removeprefix(f"{opened.name}-")
    if not is_version(bare):
        raise UsageError(f"{version!r} cannot be a version", hint="`artifact ls` lists them")
    return opened, bare
