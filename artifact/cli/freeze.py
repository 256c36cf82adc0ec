"""`artifact freeze`: refuse installs and rollbacks until `artifact thaw`."""

from __future__ import annotations

import click

from artifact import steps
from artifact.cli import options
from artifact.errors import UsageError
from artifact.host.records import freeze
from artifact.site import Site


@click.command()
@click.argument("reason")
@options.site
@options.verbosity
def command(*, reason: str, site: Site, tell: steps.Listener) -> None:
    """Refuse installs and rollbacks in a site for a REASON.

    It holds at once. A run that is at work already is not stopped.
    """
    if not reason.strip():
        raise UsageError("the reason is empty", hint='artifact freeze "inventory until Monday"')
    frozen = freeze.freeze(site, reason.strip())
    tell(steps.Said(f"{site.root} is {frozen.describe()}"))
