"""Channels: named pointers in a store, changed by compare-and-swap, that remember their history."""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import msgspec

from artifact import files
from artifact.configuration.store_section import GateSection
from artifact.errors import ArtifactRejected, Refused
from artifact.stores import addresses
from artifact.stores.contract import Store

REMEMBERED = 100
"""So many earlier entries a channel holds; an install reads them all."""
_SWAP_SECONDS, _LONGEST_PAUSE_SECONDS = 60.0, 1.0


class ChannelEntry(msgspec.Struct, frozen=True, kw_only=True, rename="kebab"):
    """One thing a channel pointed at."""

    version: str
    digest: str
    sequence: int
    """How often the channel has been changed; 1 is the first."""
    by: str
    """User and CI job."""
    at: str
    """When, in UTC: "2026-03-01T12:00:00Z"."""
    reason: str = ""
    good_at: str = ""
    """When somebody said that it proved good; empty before."""
    good_by: str = ""


class Channel(ChannelEntry, frozen=True, kw_only=True, rename="kebab"):
    """What a channel points at, and what it pointed at before, the newest first."""

    id: str
    """Makes any two writes differ."""
    history: tuple[ChannelEntry, ...] = ()


class Candidate(msgspec.Struct, frozen=True):
    """What is to be promoted."""

    name: str
    version: str
    digest: str


def read_channel(store: Store, name: str, channel: str) -> Channel | None:
    """Return a channel; None when it does not exist.

    Raises:
        ArtifactRejected: what is there is no channel.
    """
    return _read(store, name, channel)[0]


def read_all(store: Store, name: str) -> dict[str, Channel]:
    """Return all channels of an application; raises as `read_channel`."""
    prefix = addresses.channels(name)
    found = {}
    for one, _ in store.names(prefix):
        channel = one.removeprefix(prefix).removesuffix(".json")
        if "/" not in channel and (there := read_channel(store, name, channel)) is not None:
            found[channel] = there
    return found


def promote(store: Store, candidate: Candidate, channel: str, *, reason: str = "") -> Channel:
    """Point a channel at an artifact; nothing changes where it points at it already.

    Raises:
        Refused: others change it all the time.
    """

    def change(there: Channel | None) -> Channel | None:
        if there is not None and there.digest == candidate.digest:
            return None
        return Channel(
            version=candidate.version,
            digest=candidate.digest,
            sequence=there.sequence + 1 if there else 1,
            by=files.whoami(),
            at=_text(datetime.now(UTC)),
            reason=reason,
            id=uuid.uuid4().hex,
            history=(_entry(there), *there.history)[:REMEMBERED] if there else (),
        )

    return _change(store, candidate.name, channel, change)


def mark_good(store: Store, candidate: Candidate, channel: str) -> Channel:
    """Say that what a channel points at has proved good there.

    Raises:
        Refused: it points at something else, or others change it all the time.
    """

    def change(there: Channel | None) -> Channel | None:
        if there is None or there.digest != candidate.digest:
            raise Refused(
                f"{candidate.name}@{channel} is {there.version if there else 'nothing'}, "
                f"not {candidate.version}",
                hint=f"artifact promote {candidate.name}-{candidate.version} --to {channel}",
            )
        if there.good_at:
            return None
        return msgspec.structs.replace(
            there,
            good_at=_text(datetime.now(UTC)),
            good_by=files.whoami(),
            id=uuid.uuid4().hex,
        )

    return _change(store, candidate.name, channel, change)


def check_gate(store: Store, candidate: Candidate, channel: str, gate: GateSection | None) -> None:
    """Demand that another channel has had this very digest as good for long enough.

    Raises:
        Refused: it has not.
    """
    if gate is None:
        return
    there = read_channel(store, candidate.name, gate.channel)
    rule = f"{candidate.name}@{channel} takes what has been good in {gate.channel}"
    rule += f" for {gate.hours:g} h" if gate.hours else ""
    again = f"artifact promote {candidate.name}-{candidate.version} --to {gate.channel} --good"
    if there is None or there.digest != candidate.digest:
        now = f"{there.version} ({there.digest})" if there else "nothing"
        raise Refused(f"{rule}; {gate.channel} has {now}", hint=again.removesuffix(" --good"))
    if not there.good_at:
        raise Refused(f"{rule}; nobody has said that {candidate.version} is good there", hint=again)
    ripe = datetime.fromisoformat(there.good_at) + timedelta(hours=gate.hours)
    if datetime.now(UTC) < ripe:
        raise Refused(
            f"{rule}; {candidate.version} is so since {there.good_at}",
            hint=f"wait until {_text(ripe)}",
        )


def _read(store: Store, name: str, channel: str) -> tuple[Channel | None, str | None]:
    found = store.pointer(addresses.channel(name, channel))
    if found is None:
        return None, None
    try:
        there = msgspec.json.decode(found[0], type=Channel)
        for moment in filter(None, (there.at, there.good_at)):
            datetime.fromisoformat(moment)
    except (msgspec.MsgspecError, ValueError) as error:
        raise ArtifactRejected(
            f"the channel {name}@{channel} in {store.address} cannot be read: {error}",
            hint="somebody wrote it by hand: delete it and promote again",
        ) from error
    return there, found[1]


def _change(
    store: Store, name: str, channel: str, change: Callable[[Channel | None], Channel | None]
) -> Channel:
    """Replace a channel by what `change` makes of it; None leaves it as it is."""
    deadline, pause = time.monotonic() + _SWAP_SECONDS, 0.02
    while time.monotonic() < deadline:
        there, tag = _read(store, name, channel)
        wanted = change(there)
        if wanted is None:
            assert there is not None
            return there
        if store.swap(addresses.channel(name, channel), msgspec.json.encode(wanted), tag):
            return wanted
        pause = min(_LONGEST_PAUSE_SECONDS, pause * 1.5)
        time.sleep(random.uniform(0, pause))  # noqa: S311 - no secret
    raise Refused(
        f"{name}@{channel} is changed by others all the time", hint="run the same command again"
    )


def _entry(there: Channel) -> ChannelEntry:
    return ChannelEntry(
        **{field: getattr(there, field) for field in ChannelEntry.__struct_fields__}
    )


def _text(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
