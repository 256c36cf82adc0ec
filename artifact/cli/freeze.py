"""`artifact freeze`: refuse installs and rollbacks until `artifact thaw`."""

from __future__ import annotations

import click

from artifact import steps
from artifact.cli import terminal


@click.command()
@click.argument("reason")
@click.argument("site", required=False)
@terminal.talking
def command(*, reason: str, site: str | None, tell: steps.Listener) -> None:
    """Refuse installs and rollbacks in a site for a REASON.

    SITE is its name or path; it may be left out where the machine has one. It holds at once, but
    stops no run that is at work already.
    """
    from artifact.errors import UsageError
    from artifact.host.records import find, freeze

    if not reason.strip():
        raise UsageError("the reason is empty", hint='artifact freeze "inventory until Monday"')
    found = find.find(site)
    frozen = freeze.freeze(found, reason.strip())
    tell(steps.Said(f"{found.root} is {frozen.describe()}"))
