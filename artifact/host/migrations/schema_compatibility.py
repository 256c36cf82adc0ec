"""What the databases have and the target of a rollback does not know: judged, and taken back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Literal

import msgspec

from artifact import steps
from artifact.errors import Refused
from artifact.host.migrations import pending, runner
from artifact.host.migrations.pending import Migration, Pending
from artifact.host.records import history, journal, releases
from artifact.host.records.journal import Journal
from artifact.host.records.releases import Release
from artifact.site import Site

Choice = Literal["judge", "take back", "ignore"]
"""What to do about them: go on where they only added, take them back first, or nothing."""


class Compatibility(msgspec.Struct, frozen=True):
    """What is applied and not known to the target of a rollback."""

    by: str = ""
    """The release whose code judged the migrations, and can take them back; "" when none had to."""
    migrations: tuple[Migration, ...] = ()
    """The newest first; "safe" is what only added to the schema."""
    unjudged: tuple[str, ...] = ()
    """Those that no release here has."""
    trouble: str = ""
    """Why nobody can tell; the rest is empty then."""
    known: Mapping[str, Sequence[str]] = msgspec.field(default_factory=dict)
    """What the target knows."""
    pending: tuple[str, ...] = ()
    """What the target has and the databases lack, as after a way back and forth again."""

    @property
    def names(self) -> tuple[str, ...]:
        return (*self.unjudged, *(one.name for one in self.migrations))

    @property
    def destructive(self) -> tuple[str, ...]:
        """What the target's code may not work with, each with the reason."""
        nobody = "no release here has it"
        return (
            *(f"{name}: {nobody}" for name in self.unjudged),
            *(one.named for one in self.migrations if one.risk != "safe"),
        )


def judge(site: Site, live: str, target: Release, tell: steps.Listener) -> Compatibility:
    """Ask the databases what they have that a release does not know; changes nothing."""
    version = target.manifest.version
    if pending.kind_of(target) in {"", "commands"}:
        return Compatibility()  # nobody can compare what only commands tell
    try:
        seen = pending.of_version(site, version, tell)
    except Refused as error:
        return Compatibility(trouble=error.message)
    if seen.troubles:
        return Compatibility(trouble="; ".join(seen.troubles))
    ahead = {name for one in seen.databases for name in one.ahead}
    # Applications that the target does not have at all are not ahead of it, but left over.
    if not ahead and not any(one.leftover for one in seen.databases):
        return Compatibility(known=seen.known, pending=_pending(seen))
    best = Compatibility(unjudged=tuple(sorted(ahead)), known=seen.known, pending=_pending(seen))
    for other in _who_may_know(site, live, target, ahead):
        judged = _judged(site, other, seen, ahead, tell)
        if judged is not None and (not best.by or len(judged.unjudged) < len(best.unjudged)):
            best = judged
        if best.by and not best.unjudged:
            break
    return best


def _who_may_know(site: Site, live: str, target: Release, ahead: set[str]) -> Iterator[str]:
    """Yield the releases to ask: the live one first, then others that have what is unknown."""
    if live:
        yield live
    for version in history.records_of(site):
        if version in {live, target.manifest.version}:
            continue
        with suppress(Refused):
            has = releases.read(site, version).manifest.migrations
            if any(f"{app}.{name}" in ahead for app, names in has.items() for name in names):
                yield version


def _judged(
    site: Site, version: str, target: Pending, ahead: set[str], tell: steps.Listener
) -> Compatibility | None:
    """Have a release judge; None where it cannot."""
    try:
        seen = pending.of_version(site, version, tell, beside=target.known)
    except Refused as error:
        tell(steps.Output(error.message))
        return None
    if seen.troubles or seen.kind != target.kind:
        return None
    found = {one.name: one for database in seen.databases for one in database.difference}
    return Compatibility(
        by=version,
        migrations=tuple(found.values()),
        # What it knows and did not name has only another name there: it was squashed.
        unjudged=tuple(sorted(ahead - found.keys() - seen.known_names)),
        known=target.known,
        pending=_pending(target),
    )


def _pending(target: Pending) -> tuple[str, ...]:
    return tuple(dict.fromkeys(one.name for one in target.migrations))


def check(schema: Compatibility, version: str, choice: Choice) -> None:
    """Say no to a rollback that would lead to a schema on which the target does not work.

    Raises:
        Refused: it would, or nobody can tell; or what is to be taken back cannot be.
    """
    anyway = "`--ignore-migrations` goes back all the same"
    if choice == "ignore":
        return
    if schema.trouble:
        raise Refused(
            f"nobody can tell whether the databases suit {version}: {schema.trouble}",
            hint=anyway,
        )
    if choice == "take back":
        stuck = [
            *(f"{name}: no release here has it" for name in schema.unjudged),
            *(f"{one.name} cannot be reversed" for one in schema.migrations if not one.reversible),
        ]
        if stuck:
            raise Refused(f"{'; '.join(stuck)}; nothing was taken back", hint=anyway)
        return
    if schema.destructive:
        raise Refused(
            f"{version} does not work with what the databases have: "
            f"{'; '.join(schema.destructive)}",
            hint="`--with-migrations` takes back what it does not know, before the switch, and "
            f"what is in those columns and tables is lost; {anyway}",
        )


def compare(schema: Compatibility, version: str, choice: Choice, tell: steps.Listener) -> str:
    """See that the databases suit a release, and warn of what is not certain; return a note.

    Raises:
        Refused: as `check`.
    """
    check(schema, version, choice)
    if schema.trouble:
        tell(steps.Warned(f"nobody can tell whether the databases suit {version}"))
        return "not known"
    if schema.pending:
        text = f"{version} goes live with {', '.join(schema.pending)} pending"
        tell(steps.Warned(text, f"`artifact migrate --release {version}` runs what is safe"))
    if schema.names and choice != "take back":
        _warn(schema, version, tell)
    return ", ".join(schema.names)


def _warn(schema: Compatibility, version: str, tell: steps.Listener) -> None:
    for text in schema.destructive:
        tell(steps.Warned(f"{version} may not work with {text}"))
    text = f"{version} does not know {', '.join(schema.names)}: its code runs on the newer schema"
    tell(steps.Warned(text, "" if schema.destructive else "they only added to it"))


def take_back(schema: Compatibility, site: Site, tell: steps.Listener, record: Journal) -> str:
    """Take the migrations back with the code that knows them; return a note."""
    by = releases.read(site, schema.by)
    done = runner.reverse(site, by, schema.known, runner.MigrationOptions(), tell, record)
    return f"took back {', '.join(done.names)}"


def put_back(site: Site, tell: steps.Listener, record: Journal) -> None:
    """Run again what `take_back` took back in this run."""
    told = journal.last_run(site.journal)
    assert told is not None, "the run that is taken back is not in the journal"
    runner.restore(site, told.lines, tell, record)
