"""`artifact thaw`: end what `artifact freeze` began."""

from __future__ import annotations

import click

from artifact import steps
from artifact.cli import terminal


@click.command()
@click.argument("site", required=False)
@terminal.talking
def command(*, site: str | None, tell: steps.Listener) -> None:
    """Allow installs and rollbacks in a site again.

    SITE is its name or path; it may be left out where the machine has one.
    """
    from artifact.host.records import find, freeze

    found = find.find(site)
    ended = freeze.thaw(found)
    was = f"is thawed; it was {ended.describe()}" if ended else "was not frozen"
    tell(steps.Said(f"{found.root} {was}"))
