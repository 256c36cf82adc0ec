"""`artifact releases`: what is in a site, and what of it is in use."""

from __future__ import annotations

from collections.abc import Iterator

import click
import msgspec

from artifact.archive.format import ENVIRONMENT_COMPONENT
from artifact.cli import options, terminal
from artifact.cli.answers import Answer, Document
from artifact.errors import Refused
from artifact.host.commands import prune
from artifact.host.records import history, releases
from artifact.site import Site


class Release(msgspec.Struct, frozen=True):
    """A release that is in the site, or was."""

    release: str
    """Its version."""
    state: str
    time: str
    """When it became what it is: UTC, ISO 8601."""
    who: str
    size: int
    """Bytes unpacked, without the environment; 0 where it is not whole."""
    digest: str
    reason: str
    """Why it is not good."""
    uses: tuple[str, ...]
    """What needs it: "current", "previous", "slot 0 of web"…"""


class Releases(Document, frozen=True, kw_only=True, tag="releases"):
    """The releases of a site, the newest install first."""

    site: str
    releases: tuple[Release, ...]


@click.command()
@options.site
@options.json
def command(*, site: Site, answer: Answer) -> None:
    """List the releases of a site, the newest install first."""
    found = tuple(_releases(site))
    rows = [
        (
            one.release,
            one.state,
            one.time[:19].replace("T", " "),
            one.who,
            terminal.size(one.size),
            one.digest.removeprefix("sha256:")[:12],
            ", ".join(one.uses),
        )
        for one in found
    ]
    header = ("release", "state", "since (UTC)", "by", "size", "digest", "in use")
    document = Releases(site=str(site.root), releases=found)
    answer(document, terminal.table(rows, header=header))


def _releases(site: Site) -> Iterator[Release]:
    used = prune.uses(site)
    for record in history.records_of(site).values():
        state, digest, size = record.state, record.digest, 0
        try:
            found = releases.read(site, record.version)
        except Refused:
            state = f"{state}, not whole"
        else:
            digest = found.digest
            components = found.manifest.components
            size = sum(one.raw for one in components if one.name != ENVIRONMENT_COMPONENT)
        yield Release(
            release=record.version,
            state=state,
            time=record.time,
            who=record.who,
            size=size,
            digest=digest,
            reason=record.reason,
            uses=used.get(record.version, ()),
        )
