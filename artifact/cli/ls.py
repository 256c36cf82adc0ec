"""`artifact ls`: what the store has of an application."""

from __future__ import annotations

import click
import msgspec

from artifact import steps, stores
from artifact.cli import options, store, terminal
from artifact.cli.answers import Answer, Document
from artifact.cli.store import Opened
from artifact.errors import UsageError
from artifact.manifest import Manifest
from artifact.stores import channels, retention
from artifact.stores.channels import Channel, ChannelEntry
from artifact.stores.contract import Store
from artifact.transfer import remote


class Stored(msgspec.Struct, frozen=True):
    """An artifact in the store."""

    version: str
    bytes: int
    channels: tuple[str, ...]
    """Those that point to it."""


class Pointer(ChannelEntry, frozen=True, kw_only=True, rename="kebab"):
    """What a channel points to, and what it pointed to before, the newest first."""

    history: tuple[ChannelEntry, ...]


class Listing(Document, frozen=True, kw_only=True, tag="ls"):
    """The artifacts and channels of an application."""

    store: str
    """Its address."""
    name: str
    artifacts: tuple[Stored, ...]
    channels: dict[str, Pointer]


class ChannelHistory(Document, frozen=True, kw_only=True, tag="ls"):
    """A channel's history; the answer for NAME@CHANNEL."""

    name: str
    channel: str
    now: Pointer


class Verdict(msgspec.Struct, frozen=True):
    """What becomes of an artifact."""

    version: str
    bytes: int
    stays: bool
    reason: str


class PrunedStore(Document, frozen=True, kw_only=True, tag="ls"):
    """What was deleted, or would be; the answer with `--prune`."""

    plan: bool
    freed: int
    """Bytes."""
    artifacts: tuple[Verdict, ...]


@click.command()
@click.argument("name", default="")
@click.option("--prune", is_flag=True, help="Delete old artifacts; never what a channel points to.")
@click.option("--keep", type=click.IntRange(1), help="With --prune: how many of the newest stay.")
@options.plan
@options.json
@options.verbosity
def command(
    *, name: str, prune: bool, keep: int | None, plan: bool, answer: Answer, tell: steps.Listener
) -> None:
    """List the artifacts and channels of an application in the store.

    NAME@CHANNEL shows a channel's history. --plan is for --prune.
    """
    if prune != (keep is not None) or (plan and not prune):
        raise UsageError("--prune and --keep N go together", hint="artifact ls --prune --keep 20")
    application, _, channel = name.partition("@")
    opened = store.opened(application)
    if channel:
        _show_history(opened, channel, answer)
    elif keep is not None:
        _prune(opened, keep, answer, tell, plan=plan)
    else:
        _show(opened, answer)


def _show(opened: Opened, answer: Answer) -> None:
    versions = stores.versions(opened.store, opened.name)[::-1]
    pointing = channels.read_all(opened.store, opened.name)
    at: dict[str, list[str]] = {}
    for channel, there in pointing.items():
        at.setdefault(there.version, []).append(channel)
    listing = Listing(
        store=opened.store.address,
        name=opened.name,
        artifacts=tuple(
            Stored(version, found.size, tuple(at.get(version, ()))) for version, found in versions
        ),
        channels={channel: _pointer(there) for channel, there in pointing.items()},
    )
    rows = [
        (f"{opened.name}-{one.version}", terminal.size(one.bytes), ", ".join(one.channels))
        for one in listing.artifacts
    ]
    answer(listing, terminal.table(rows, header=("artifact", "size", "channels")))


def _show_history(opened: Opened, channel: str, answer: Answer) -> None:
    there = channels.read_channel(opened.store, opened.name, channel)
    if there is None:
        raise UsageError(
            f"the store {opened.store.address} has no channel {opened.name}@{channel}",
            hint=f"`artifact promote VERSION --to {channel}` makes it",
        )
    rows = [
        (str(one.sequence), one.version, one.at, one.good_at or "-", one.by, one.reason)
        for one in (there, *there.history)
    ]
    header = ("change", "version", "at", "good since", "by", "reason")
    document = ChannelHistory(name=opened.name, channel=channel, now=_pointer(there))
    answer(document, terminal.table(rows, header=header))


def _prune(opened: Opened, keep: int, answer: Answer, tell: steps.Listener, *, plan: bool) -> None:
    verdicts = retention.plan(opened.store, opened.name, keep, _manifest, tell)
    freed = 0 if plan else retention.prune(opened.store, opened.name, verdicts, tell)
    lines = [
        f"{'keep' if one.stays else 'delete'} {opened.name}-{one.version} "
        f"({terminal.size(one.size)}): {one.reason}"
        for one in verdicts
    ]
    rows = tuple(Verdict(one.version, one.size, one.stays, one.reason) for one in verdicts)
    answer(PrunedStore(plan=plan, freed=freed, artifacts=rows), lines)
    if not plan:
        tell(steps.Said(f"{terminal.size(freed)} are free in {opened.store.address}"))


def _manifest(there: Store, name: str) -> Manifest:
    with remote.open_artifact(there, name) as artifact:
        return artifact.manifest


def _pointer(there: Channel) -> Pointer:
    fields = msgspec.structs.asdict(there)
    del fields["id"]
    return Pointer(**fields)
