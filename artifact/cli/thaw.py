"""`artifact thaw`: end what `artifact freeze` began."""

from __future__ import annotations

import click

from artifact import steps
from artifact.cli import options
from artifact.host.records import freeze
from artifact.site import Site


@click.command()
@options.site
@options.verbosity
def command(*, site: Site, tell: steps.Listener) -> None:
    """Allow installs and rollbacks in a site again."""
    ended = freeze.thaw(site)
    was = f"is thawed; it was {ended.describe()}" if ended else "was not frozen"
    tell(steps.Said(f"{site.root} {was}"))
