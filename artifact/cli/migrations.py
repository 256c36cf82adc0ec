"""`artifact migrations`: what is pending, and what it would do to those who run the old code."""

from __future__ import annotations

from collections.abc import Iterator

import click
import msgspec

from artifact import steps
from artifact.cli import options
from artifact.cli.answers import Answer, Document
from artifact.errors import Refused, UsageError
from artifact.host.migrations import pending
from artifact.host.migrations.pending import Database, Migration, Pending, Skipped
from artifact.host.records import releases
from artifact.site import Site


class PendingMigrations(Document, frozen=True, kw_only=True, tag="migrations"):
    """What a release has before it in every database."""

    release: str
    """The version."""
    django: str
    """The version of Django; empty for applications without it."""
    databases: tuple[Database, ...]
    skipped: tuple[Skipped, ...]
    known: dict[str, tuple[str, ...]]
    """All that the release's code knows: application label to names, pending or not."""
    kind: str
    """"django", "alembic" or "commands"; empty where it has no migrations that are known."""


@click.command()
@options.site
@options.release
@options.json
@options.verbosity
def command(*, site: Site, release: str, answer: Answer, tell: steps.Listener) -> None:
    """List the migrations that are pending, with their risk.

    Exits with 5 when a database cannot be reached or the migrations contradict each other. They
    are Django's, Alembic's, or what the commands of [migrations] tell.
    """
    found = pending.of_version(site, version_of(site, release), tell)
    show(found, PendingMigrations, answer)


def version_of(site: Site, release: str) -> str:
    """Return the release that was asked for, else the live one."""
    version = release or releases.live_version(site)
    if not version:
        raise UsageError(
            f"no release is live in {site.root}", hint="--release VERSION names another"
        )
    return version


def show(found: Pending, kind: type[PendingMigrations], answer: Answer) -> None:
    """Answer with what is pending.

    Raises:
        Refused: a database cannot be reached, or its migrations contradict each other.
    """
    fields = msgspec.structs.asdict(found)
    answer(kind(release=fields.pop("version"), **fields), _lines(found))
    if found.troubles:
        raise Refused("; ".join(found.troubles))


def _lines(found: Pending) -> Iterator[str]:
    if not found.kind:
        yield f"{found.version} has no migrations that are known: [migrations] says how"
    for database in found.databases:
        outcomes = {
            "current": "nothing pending",
            "pending": f"{len(database.pending)} pending",
            "ahead": "nothing pending; newer code has migrated it",
            "conflict": "the migrations contradict each other",
            "unreachable": "cannot be reached",
        }
        yield f"{database.alias} ({database.vendor}): {outcomes[database.outcome]}"
        for migration in database.pending:
            yield from _described(migration)
        for name in database.ahead:
            yield f"  {name} is not known to {found.version}"
    for skipped in found.skipped:
        yield f"{skipped.alias}: not migrated: {skipped.why}"


def _described(migration: Migration) -> Iterator[str]:
    flags = "" if migration.reversible else ", cannot be reversed"
    yield f"  {migration.name}: {migration.risk}{flags}: {migration.reason}"
    waits = {"short": "an instant", "writes": "all writes", "table": "the whole table"}
    for one in migration.operations:
        lock = f" [holds up {waits[one.lock]}]" if one.lock in waits else ""
        yield f"    {one.description}: {one.risk}: {one.reason}{lock}"
