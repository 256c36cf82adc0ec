"""`artifact migrations`: what is pending, and what it would do to those who run the old code."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from artifact import steps
from artifact.cli import terminal
from artifact.errors import Refused, UsageError

if TYPE_CHECKING:
    from artifact.host.migrations.survey import Migration, Pending
    from artifact.site import Site


@click.command()
@click.argument("site", required=False)
@click.option("--release", default="", metavar="VERSION", help="Instead of the live one.")
@click.option("--json", "as_json", is_flag=True, help="Answer with one JSON document.")
@terminal.talking
def command(site: str | None, *, release: str, as_json: bool, tell: steps.Listener) -> None:
    """List the migrations that are pending, with their risk.

    SITE is its name or path; it may be left out where the machine has one. Exits with 5 when a
    database cannot be reached or the migrations contradict each other. They are Django's,
    Alembic's, or what the commands of [migrations] tell.
    """
    from artifact.host.migrations import survey
    from artifact.host.records import find

    chosen = find.find(site)
    found = survey.pending(chosen, version_of(chosen, release), tell)
    if as_json:
        import msgspec

        terminal.document("migrations", msgspec.to_builtins(found))
    else:
        show(found)
    if found.troubles:
        raise Refused("; ".join(found.troubles))


def version_of(site: Site, release: str) -> str:
    """Return the release that was asked for, else the live one."""
    from artifact.host.records import releases

    version = release or releases.live_version(site)
    if not version:
        raise UsageError(
            f"no release is live in {site.root}", hint="--release VERSION names another"
        )
    return version


def show(found: Pending) -> None:
    """Write the answer for people."""
    if not found.kind:
        terminal.data(f"{found.version} has no migrations that are known: [migrations] says how")
    for database in found.databases:
        count = len(database.pending)
        said = {
            "current": "nothing pending",
            "pending": f"{count} pending",
            "ahead": "nothing pending; newer code has migrated it",
            "conflict": "the migrations contradict each other",
            "unreachable": "cannot be reached",
        }[database.outcome]
        terminal.data(f"{database.alias} ({database.vendor}): {said}")
        for migration in database.pending:
            for line in lines(migration):
                terminal.data(f"  {line}")
        for name in database.ahead:
            terminal.data(f"  {name} is not known to {found.version}")
    for skipped in found.skipped:
        terminal.data(f"{skipped.alias}: not migrated: {skipped.why}")


def lines(migration: Migration) -> list[str]:
    """Return a migration and its operations for people."""
    flags = "" if migration.reversible else ", cannot be reversed"
    said = [f"{migration.name}: {migration.risk}{flags}: {migration.reason}"]
    waits = {"short": "an instant", "writes": "all writes", "table": "the whole table"}
    for one in migration.operations:
        lock = f" [holds up {waits[one.lock]}]" if one.lock in waits else ""
        said.append(f"  {one.description}: {one.risk}: {one.reason}{lock}")
    return said
