"""`artifact ls`"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from artifact import steps
from artifact.cli import store, terminal
from artifact.errors import UsageError

if TYPE_CHECKING:
    from artifact.manifest import Manifest
    from artifact.stores.channels import Channel
    from artifact.stores.contract import Store


@click.command()
@click.argument("name", default="")
@click.option("--prune", is_flag=True, help="Delete old artifacts; never what a channel points to.")
@click.option("--keep", type=click.IntRange(1), help="With --prune: so many of the newest stay.")
@click.option("--plan", "plan_only", is_flag=True, help="With --prune: list them, and stop.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@terminal.talking
def command(
    *,
    name: str,
    prune: bool,
    keep: int | None,
    plan_only: bool,
    as_json: bool,
    tell: steps.Listener,
) -> None:
    """List the artifacts and channels of an application in the store.

    NAME@CHANNEL shows a channel's history.
    """
    if prune != (keep is not None) or (plan_only and not prune):
        raise UsageError("--prune and --keep N go together", hint="artifact ls --prune --keep 20")
    application, _, channel = name.partition("@")
    opened = store.opened(application)
    if channel:
        _show_history(opened, channel, as_json=as_json)
    elif prune:
        assert keep is not None
        _prune(opened, keep, tell, plan_only=plan_only, as_json=as_json)
    else:
        _show(opened, as_json=as_json)


def _show(opened: store.Opened, *, as_json: bool) -> None:
    from artifact.stores import channels
    from artifact.transfer import publishing

    versions = publishing.versions(opened.store, opened.name)[::-1]
    pointing = channels.every(opened.store, opened.name)
    at: dict[str, list[str]] = {}
    for channel, there in pointing.items():
        at.setdefault(there.version, []).append(channel)
    if as_json:
        document = {
            "store": opened.store.address,
            "name": opened.name,
            "artifacts": [
                {"version": version, "bytes": found.size, "channels": at.get(version, [])}
                for version, found in versions
            ],
            "channels": {channel: _plain(there) for channel, there in pointing.items()},
        }
        terminal.document("ls", document)
        return
    rows = [
        (f"{opened.name}-{version}", terminal.size(found.size), ", ".join(at.get(version, [])))
        for version, found in versions
    ]
    for line in terminal.table(rows, header=("artifact", "size", "channels") if rows else ()):
        terminal.data(line)


def _show_history(opened: store.Opened, channel: str, *, as_json: bool) -> None:
    from artifact.stores import channels

    there = channels.read(opened.store, opened.name, channel)
    if there is None:
        raise UsageError(
            f"the store {opened.store.address} has no channel {opened.name}@{channel}",
            hint=f"`artifact promote VERSION --to {channel}` makes it",
        )
    if as_json:
        terminal.document("ls", {"name": opened.name, "channel": channel, "now": _plain(there)})
        return
    rows = [
        (str(one.sequence), one.version, one.at, one.good_at or "-", one.by, one.reason)
        for one in (there, *there.history)
    ]
    header = ("change", "version", "at", "good since", "by", "reason")
    for line in terminal.table(rows, header=header):
        terminal.data(line)


def _prune(
    opened: store.Opened, keep: int, tell: steps.Listener, *, plan_only: bool, as_json: bool
) -> None:
    from artifact.stores import retention

    verdicts = retention.plan(opened.store, opened.name, keep, _manifest, tell)
    freed = 0 if plan_only else retention.prune(opened.store, opened.name, verdicts, tell)
    if as_json:
        rows = [
            {"version": one.version, "bytes": one.size, "stays": one.stays, "reason": one.reason}
            for one in verdicts
        ]
        terminal.document("ls", {"plan": plan_only, "freed": freed, "artifacts": rows})
        return
    for one in verdicts:
        verb = "keep" if one.stays else "delete"
        terminal.data(
            f"{verb} {opened.name}-{one.version} ({terminal.size(one.size)}): {one.reason}"
        )
    if not plan_only:
        tell(steps.Said(f"{terminal.size(freed)} are free in {opened.store.address}"))


def _manifest(there: Store, name: str) -> Manifest:
    from artifact.transfer import arrival

    with arrival.opened(there, name) as artifact:
        return artifact.manifest


def _plain(there: Channel) -> dict[str, Any]:
    import msgspec

    plain = msgspec.to_builtins(there)
    assert isinstance(plain, dict)
    del plain["id"]
    return plain
