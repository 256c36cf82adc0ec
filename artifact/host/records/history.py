"""What the journal tells of the releases that are on the disk, in the order of their installs."""

from __future__ import annotations

import os
from collections.abc import Iterable

import msgspec

from artifact.host.records import journal
from artifact.host.records.journal import Line
from artifact.host.records.problem import Problem
from artifact.site import Site

UNKNOWN = "unknown"
"""State of a release that is on the disk and not in the journal."""
_PASSING = frozenset({"checked", "live"})
"""States on the way to a verdict; one that was good before stays so until there is another."""


_BRINGING = frozenset({"install", "stage", "switch"})
"""Commands that make a release the newest one."""
_NO_LONGER_STAGED = frozenset({"failed", "rolled-back", "removed"})


class Record(msgspec.Struct, frozen=True):
    """One release as the journal tells it."""

    version: str
    state: str
    """One of `journal.ReleaseState`, or `UNKNOWN`."""
    order: int
    """Sequence of the journal at which it was installed; a rollback does not change it. 0: never.

    Never a time or a name: clocks go back, and "1.10" sorts before "1.9".
    """
    time: str
    """When it became what it is: UTC, ISO 8601, for people."""
    who: str
    digest: str
    reason: str
    """Why, where it is not good."""

    @property
    def good(self) -> bool:
        return self.state == "good"


def records_of(site: Site) -> dict[str, Record]:
    """Return every release on the disk, the newest install first; unknown ones come last."""
    told = tell_of(journal.read(site.journal))
    there = [
        told.get(version) or Record(version, UNKNOWN, 0, "", "", "", "")
        for version in versions_on_disk(site)
    ]
    there.sort(key=lambda record: (-record.order, record.version))
    return {record.version: record for record in there}


def versions_on_disk(site: Site) -> list[str]:
    """Return the versions whose directories are there, whole or not."""
    try:
        with os.scandir(site.releases) as entries:
            return [
                entry.name
                for entry in entries
                if not entry.name.startswith(".") and entry.is_dir(follow_symlinks=False)
            ]
    except FileNotFoundError:
        return []


def nothing_live(site: Site) -> Problem:
    """Return why a site has no live release, and the command that gives it one."""
    newest = next((record.version for record in good_before(records_of(site), "")), "")
    if not newest:
        return Problem(f"{site.root} has no live release", "artifact install FILE")
    gone = "names no release of this site" if os.path.lexists(site.current) else "is gone"
    return Problem(f"{site.current} {gone}; {newest} is good", f"artifact rollback {site.root}")


def tell_of(lines: Iterable[Line]) -> dict[str, Record]:
    """Return what the lines of a journal say of every version."""
    began: dict[str, Line] = {}
    records: dict[str, Record] = {}
    for line in lines:
        if line.event == "began":
            began[line.run] = line
        elif line.event == "release":
            _add(records, line, began.get(line.run, line))
    return records


def staged(site: Site) -> list[str]:
    """Return the releases that wait for a switch, the one staged last at the end.

    A release that became good waits no more, nor do those that were staged before it.
    """
    staging: dict[str, str] = {}
    waiting: list[str] = []
    for line in journal.read(site.journal):
        if line.event == "began" and line.command == "stage":
            staging[line.run] = line.version
        elif line.event == "over" and line.code == 0 and line.run in staging:
            version = staging[line.run]
            waiting = [*(one for one in waiting if one != version), version]
        elif line.event == "release" and line.version in waiting:
            if line.state == "good":
                waiting = waiting[waiting.index(line.version) + 1 :]
            elif line.state in _NO_LONGER_STAGED:
                waiting.remove(line.version)
    there = versions_on_disk(site) if waiting else []
    return [version for version in waiting if version in there]


def good_before(records: dict[str, Record], live: str) -> list[Record]:
    """Return the good releases that were installed before the live one, the newest first.

    Where nothing is live, or nobody knows how it came to be, every other good one is older.
    """
    known = records.get(live)
    limit = known.order if known is not None and known.order else None
    return [
        record
        for record in records.values()
        if record.good and record.version != live and (limit is None or record.order < limit)
    ]


def _add(records: dict[str, Record], line: Line, began: Line) -> None:
    before = records.get(line.version)
    was_good = before is not None and before.good
    if was_good and line.state in _PASSING:
        return  # an install of it that is interrupted leaves it as good as it was
    order, digest = line.sequence, line.digest
    if before is not None:
        digest = digest or before.digest
        if began.command not in _BRINGING or (was_good and line.state != "good"):
            order = before.order
    records[line.version] = Record(
        version=line.version,
        state=line.state,
        order=order,
        time=line.time,
        who=began.who,
        digest=digest,
        reason=line.text,
    )
