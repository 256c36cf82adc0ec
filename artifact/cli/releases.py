"""`artifact releases`: what is in a site, and what of it is in use."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from artifact.cli import terminal

if TYPE_CHECKING:
    from artifact.site import Site


@click.command()
@click.argument("site", required=False)
@click.option("--json", "as_json", is_flag=True, help="Answer with one JSON document.")
def command(site: str | None, *, as_json: bool) -> None:
    """List the releases of a site, the newest install first.

    SITE is its name or path; it may be left out where the machine has one.
    """
    from artifact.host.records import find

    found = find.find(site)
    rows = list(_rows(found))
    if as_json:
        terminal.document("releases", {"site": str(found.root), "releases": rows})
        return
    lines = [
        (
            row["release"],
            row["state"],
            row["time"][:19].replace("T", " "),
            row["who"],
            terminal.size(row["size"]),
            row["digest"].removeprefix("sha256:")[:12],
            ", ".join(row["uses"]),
        )
        for row in rows
    ]
    header = ("release", "state", "since (UTC)", "by", "size", "digest", "in use")
    for line in terminal.table(lines, header=header):
        terminal.data(line)


def _rows(site: Site) -> Iterator[dict[str, Any]]:
    from artifact.errors import Refused
    from artifact.host.commands import prune
    from artifact.host.records import history, releases
    from artifact.host.trees import unpack

    used = prune.uses(site)
    for record in history.of(site).values():
        size, digest, whole = 0, record.digest, True
        try:
            found = releases.read(site, record.version)
        except Refused:
            whole = False
        else:
            digest = found.digest
            components = found.manifest.components
            size = sum(one.raw for one in components if one.name in unpack.OF_RELEASE)
        yield {
            "release": record.version,
            "state": record.state if whole else f"{record.state}, not whole",
            "time": record.time,
            "who": record.who,
            "size": size,
            "digest": digest,
            "reason": record.reason,
            "uses": list(used.get(record.version, ())),
        }
