"""`artifact exec`: what supervisor runs for every process of a site."""

from __future__ import annotations

import click

from artifact.errors import Refused
from artifact.host.processes import launch
from artifact.host.records import find


@click.command()
@click.argument("site")
@click.option("--process", "name", required=True, help="Which of the release's processes.")
@click.option("--slot", type=click.IntRange(0, 1), help="Which slot, where the process has them.")
@click.option(
    "--worker", "number", type=click.IntRange(0), help="Which worker; even and odd ones take turns."
)
@click.option("--trial", "version", hidden=True, help="Serve a release on a private socket.")
@click.option("--parent", type=int, default=0, hidden=True, help="Who a trial is to end with.")
def command(
    *, site: str, name: str, slot: int | None, number: int | None, version: str | None, parent: int
) -> None:
    """Run a process of the live release; supervisor calls this.

    SITE is the site's name or path. An idle slot sleeps and holds the listening socket.
    """
    found = find.find_site(site, maybe_later=True)
    try:
        if version is not None:
            launch.become_trial(found, name, version, parent)
        if slot is not None:
            launch.become_slot(found, name, slot)
        launch.become_worker(found, name, number)
    except PermissionError as error:
        raise Refused(
            f"{error.filename} cannot be used: {error.strerror}",
            hint="remove user= from supervisor's program and set user in site.toml instead: "
            "exec changes to that user itself when it has opened what it needs",
        ) from error
