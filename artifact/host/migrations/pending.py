"""What a release's migrations would do to the databases, asked in the release's own interpreter.

Five things can be so of a database, and each is an outcome of its own: it is current, it has
migrations pending, it is ahead of the code, the code's or the database's history contradicts
itself, or it cannot be reached.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from artifact import process, steps
from artifact.errors import Refused
from artifact.host.migrations import commands
from artifact.host.processes import application
from artifact.host.records import releases
from artifact.host.records.releases import Release
from artifact.site import Site

Risk = Literal["safe", "unsafe", "unknown"]
DatabaseState = Literal["current", "pending", "ahead", "conflict", "unreachable"]
Kind = Literal["django", "alembic", "commands", ""]

PROBES = {"django": "migrations", "alembic": "revisions"}
_LOOK_SECONDS = 120.0


class Operation(msgspec.Struct, frozen=True):
    """One operation of a migration."""

    kind: str
    """Django's class: "RemoveField"."""
    description: str
    risk: Risk
    """To those who still run the old code on the new schema."""
    reason: str
    lock: Literal["none", "short", "writes", "table"]
    """What a running application waits for: nothing, an instant, all its writes, the table."""
    reversible: bool


class Migration(msgspec.Struct, frozen=True):
    """A migration with the gravest of its operations' risks."""

    name: str
    """ "ledger.0007_remove_note"."""
    risk: Risk
    reason: str
    reversible: bool
    atomic: bool
    """When it fails nothing of it stays."""
    operations: tuple[Operation, ...]

    @property
    def named(self) -> str:
        """The name and the operation that decided: "ledger.0007 (Remove field …): …"."""
        worst = next((one for one in self.operations if one.reason == self.reason), None)
        where = f" ({worst.description})" if worst else ""
        return f"{self.name}{where}: {self.reason}"


class Database(msgspec.Struct, frozen=True):
    """A database beside a release's code."""

    alias: str
    vendor: str
    outcome: DatabaseState
    detail: str = ""
    """Of "conflict" and "unreachable": what is wrong."""
    applied: tuple[str, ...] = ()
    """In the order in which they were."""
    pending: tuple[Migration, ...] = ()
    """In the order in which they would be run."""
    ahead: tuple[str, ...] = ()
    """Applied by newer code: this code does not know them."""
    leftover: tuple[str, ...] = ()
    """Of applications that went or migrations that were squashed; harmless."""
    difference: tuple[Migration, ...] = ()
    """Applied and not known to the release that was asked about, newest first."""


class Skipped(msgspec.Struct, frozen=True):
    """A database that is not migrated."""

    alias: str
    why: str


class Pending(msgspec.Struct, frozen=True):
    """What a release has before it in every database."""

    version: str = ""
    """Of the release."""
    django: str = ""
    """The version of Django; empty for applications without it."""
    databases: tuple[Database, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    known: dict[str, tuple[str, ...]] = {}
    """All that the release's code knows: application label to names, pending or not."""
    kind: Kind = ""

    @property
    def known_names(self) -> frozenset[str]:
        """All that the code knows, by the names that migrations have here."""
        return frozenset(
            name if self.kind == "alembic" else f"{app}.{name}"
            for app, names in self.known.items()
            for name in names
        )

    @property
    def migrations(self) -> tuple[Migration, ...]:
        """All that is pending."""
        return tuple(one for database in self.databases for one in database.pending)

    @property
    def troubles(self) -> tuple[str, ...]:
        """Why migrations cannot be told, let alone run; a sentence each."""
        texts = {
            "conflict": "the migrations for the database {!r} contradict each other: {}",
            "unreachable": "the database {!r} cannot be reached: {}",
        }
        return tuple(
            texts[one.outcome].format(one.alias, one.detail)
            for one in self.databases
            if one.outcome in texts
        )


def of_version(
    site: Site,
    version: str,
    tell: steps.Listener = steps.nobody,
    *,
    beside: Mapping[str, Sequence[str]] | None = None,
) -> Pending:
    """Ask a release which migrations are pending; changes nothing.

    Args:
        beside: `Pending.known` of another release. Each database's `difference` then is what is
            applied and not known there, as this release's code judges it: "safe" is what only
            added to the schema, "unsafe" what the other release cannot work with.

    Raises:
        Refused: the release is not whole, or its application does not load.
    """
    found = releases.read(site, version)
    kind = kind_of(found)
    if not kind:
        return Pending(version)
    if kind == "commands":
        return Pending(version, databases=(_commanded(found, site, tell),), kind=kind)
    request = {"mode": "look", "known": beside}
    try:
        ran = application.ask(site, found, PROBES[kind], request, timeout=_LOOK_SECONDS, tell=tell)
    except process.ChildFailed as error:
        raise Refused(
            f"the migrations of {found.manifest.reference} cannot be told: {error}",
            output=error.tail,
        ) from error
    told = msgspec.json.decode(ran.stdout, type=Pending)
    return msgspec.structs.replace(told, version=version, kind=kind)


def kind_of(found: Release) -> Kind:
    """Tell what a release's migrations are; "" for none that we know of."""
    described = found.manifest
    if described.migration_commands is not None:
        return "commands"
    if described.django or (found.directory / "manage.py").is_file():
        return "django"
    there = (found.directory / "alembic.ini").is_file()
    return "alembic" if there and "alembic" in described.environment.packages else ""


def _commanded(found: Release, site: Site, tell: steps.Listener) -> Database:
    names = commands.list_pending(site, found, tell)
    why = "nobody but its author knows what it changes"
    return Database(
        alias="default",
        vendor="as its own command says",
        outcome="pending" if names else "current",
        pending=tuple(
            Migration(name, "unknown", why, reversible=False, atomic=False, operations=())
            for name in names
        ),
    )
