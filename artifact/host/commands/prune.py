"""Decide which releases and environments a site needs no more, and delete those."""

from __future__ import annotations

import calendar
import fcntl
import os
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import msgspec

from artifact import files, steps
from artifact.errors import ArtifactError, Refused
from artifact.host.commands import recover
from artifact.host.records import history, releases, state
from artifact.host.records import settings as site_settings
from artifact.host.records.history import Record
from artifact.host.records.journal import Journal
from artifact.host.runs import recording
from artifact.host.trees import static, unpack
from artifact.manifest import Install
from artifact.site import ReleasePaths, Site

FAILED_SECONDS = 7 * 86400.0
"""How long a release that never served, or was left, stays for a person to look into it."""
UNUSED_SECONDS = 86400.0
"""How long an environment stays that no release refers to: the next one often wants it again."""
RESUMED_SECONDS = 86400.0
"""How long what was fetched of an artifact waits for an install that goes on with it."""
REPORTS = 20
"""Failure reports kept."""


class Doomed(msgspec.Struct, frozen=True):
    """Something to delete, and why."""

    kind: str
    """ "release", "environment", "report" or "download"."""
    name: str
    path: Path
    reason: str
    size: int
    """Bytes on the disk."""


class Kept(msgspec.Struct, frozen=True):
    """A release that stays, and why."""

    version: str
    reason: str


class Pruning(msgspec.Struct, frozen=True):
    """What a prune deletes, and what it keeps."""

    doomed: tuple[Doomed, ...]
    kept: tuple[Kept, ...]
    waiting: Mapping[str, float]
    """Unused environments to when they were first seen to be, seconds since the epoch."""

    @property
    def size(self) -> int:
        return sum(one.size for one in self.doomed)


def uses(site: Site) -> dict[str, tuple[str, ...]]:
    """Return who needs which version: "current", "previous", "pinned", "slot 0 of web"…"""
    found: dict[str, list[str]] = {}

    def add(version: str, use: str) -> None:
        if version:
            found.setdefault(version, []).append(use)

    add(releases.live_version(site), "current")
    add(releases.previous_version(site), "previous")
    for version in site_settings.load(site).pinned:
        add(version, "pinned")
    for version in history.staged(site):
        add(version, "staged")
    for process, versions in state.read(site.state).slots.items():
        for slot, version in enumerate(versions):
            add(version, f"slot {slot} of {process}")
    for version in history.versions_on_disk(site):
        if is_leased(site, version):
            add(version, "leased")
    return {version: tuple(those) for version, those in found.items()}


def is_leased(site: Site, version: str) -> bool:
    """Tell whether any process of a release lives: they share the lock of its lease file."""
    try:
        return files.is_held(site.lease(version), fcntl.LOCK_EX)
    except FileNotFoundError:
        return False
    except OSError:
        return True  # nobody can know: then it is kept


def keep_of(site: Site) -> int:
    """Return how many good releases the live one says to keep, or `site.toml` in its place."""
    own = Install()
    with suppress(Refused):
        own = releases.read(site, releases.live_version(site) or ".").manifest.install
    return max(1, site_settings.load(site).merged(own).keep)


def plan(
    site: Site, keep: int, *, now: float | None = None, resumed: float = RESUMED_SECONDS
) -> Pruning:
    """Look at a site and say what can go; changes nothing.

    Args:
        keep: how many good releases stay, the newest installs; what is in use stays besides.
        now: seconds since the epoch.
        resumed: how many seconds an interrupted download stays.

    Raises:
        RollbackFailed: the site's state cannot be read, so that nobody can know what is in use.
    """
    clock = time.time() if now is None else now
    records, used = history.records_of(site), uses(site)
    newest = {record.version: n for n, record in enumerate(_good(records), 1) if n <= keep}
    doomed: list[Doomed] = []
    kept: list[Kept] = []
    for version, record in records.items():
        reason = ", ".join(used.get(version, ()))
        if not reason and version in newest:
            reason = f"among the newest {keep} good ones"
        if not reason:
            reason = _stays(record, clock)
        if reason:
            kept.append(Kept(version, reason))
        else:
            path = site.release(version)
            doomed.append(Doomed("release", version, path, _why(record, keep), _size(path)))
    referred = {_environment_of(site, one.version) for one in kept}
    # One whose link cannot be read may need any of them.
    waiting = {} if "" in referred else _waiting(site, referred, clock)
    doomed += _environments(site, waiting, clock)
    doomed += _reports(site)
    doomed += _downloads(site, clock, resumed)
    return Pruning(tuple(doomed), tuple(kept), waiting)


def prune(site: Site, keep: int, wait: float, tell: steps.Listener) -> Pruning:
    """Delete what a site needs no more.

    Raises:
        Locked: another run is at work.
        Refused: the disk says no; what is live has not changed.
        RollbackFailed: an interrupted run cannot be taken back.
    """
    doing = f"pruning {site.root}"
    with files.locked(site.lock, doing=doing, wait=wait, tell=tell) as lock:
        recover.recover(site, tell)
        planned = plan(site, keep)
        if not planned.doomed:
            _remember(site, planned.waiting)
            return planned
        live = releases.live_version(site)
        with recording.recorded(site, lock, [tell], command="prune", previous=live) as run:
            try:
                _carry_out(site, planned, run.record, run.tell)
            except OSError as error:
                raise Refused(
                    f"pruning stopped half way: {error}; nothing live has changed",
                    hint="repair that, then repeat this command",
                ) from error
        return planned


def after_install(site: Site, keep: int, record: Journal, tell: steps.Listener) -> str:
    """Delete what an install left without use; a fault is a warning, for the release serves."""
    try:
        # What another download left is for a release that this one was installed instead of.
        planned = plan(site, max(1, keep), resumed=0.0)
        _carry_out(site, planned, record, tell)
    except (OSError, ArtifactError) as error:
        tell(
            steps.Warned(f"old releases were not deleted: {error}", "`artifact prune` tries again")
        )
        return ""
    if not planned.doomed:
        return ""
    return f"deleted {', '.join(one.name for one in planned.doomed)}, {planned.size / 1e6:.1f} MB"


def _carry_out(site: Site, planned: Pruning, record: Journal, tell: steps.Listener) -> None:
    _remember(site, planned.waiting)
    if not planned.doomed:
        return
    try:
        _delete(site, planned, record, tell)
    except OSError:
        with suppress(OSError):
            recover.note_removed(site, record)
        raise


def _delete(site: Site, planned: Pruning, record: Journal, tell: steps.Listener) -> None:
    site.trash.mkdir(mode=0o700, exist_ok=True)
    for one in planned.doomed:
        if one.kind in {"report", "download"}:
            one.path.unlink(missing_ok=True)
        elif one.kind == "environment":
            unpack.discard(site, one.path, f"environment-{one.name}")
        elif not _discard_release(site, one, record):
            tell(steps.Warned(f"{one.name} is kept: a process of it has just started"))
    # A crash from here on leaves the trash, which the next command empties.
    for number, path in enumerate(found := sorted(site.trash.iterdir())):
        tell(steps.Progress("deleting", number, len(found), "trees"))
        files.remove_tree(path)
    static.sweep(site)


def _discard_release(site: Site, one: Doomed, record: Journal) -> bool:
    """Take a release out of its place; not where a process got hold of it after all."""
    lease = site.lease(one.name)
    try:
        descriptor = os.open(lease, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        descriptor = -1
    try:
        if descriptor >= 0:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        unpack.discard(site, one.path, f"release-{one.name}")
        # A crash here leaves a release that is gone and good in the journal; recovery says so.
        record.release(one.name, "removed", reason=one.reason)
        lease.unlink(missing_ok=True)
    except BlockingIOError:
        return False
    finally:
        if descriptor >= 0:
            os.close(descriptor)
    return True


def _good(records: Mapping[str, Record]) -> Iterator[Record]:
    return (record for record in records.values() if record.good)


def _stays(record: Record, clock: float) -> str:
    """Return why a release stays that nobody uses; "" when nothing speaks for it."""
    if record.state == history.UNKNOWN:
        return "not in the journal: delete it by hand"
    if record.good or record.state == "removed":
        return ""
    try:
        became = calendar.timegm(time.strptime(record.time[:19], "%Y-%m-%dT%H:%M:%S"))
    except ValueError:
        return f"{record.state}, nobody knows when"
    return f"{record.state}, for {_days()} days" if clock - became < FAILED_SECONDS else ""


def _why(record: Record, keep: int) -> str:
    if record.good:
        return f"good, but not among the newest {keep}"
    if record.state == "removed":
        return "its removal was cut off"
    return f"{record.state} more than {_days()} days ago"


def _days() -> int:
    return int(FAILED_SECONDS // 86400)


def _environment_of(site: Site, version: str) -> str | None:
    """Return the key of a release's environment; None where it has none, "" where none can tell."""
    try:
        return os.readlink(ReleasePaths(site.release(version)).environment).rpartition("/")[2]
    except FileNotFoundError:
        return None
    except OSError:
        return ""


def _waiting(site: Site, referred: Collection[str | None], clock: float) -> dict[str, float]:
    before = _read_waiting(site)
    try:
        with os.scandir(site.environments) as entries:
            unused = [
                entry.name
                for entry in entries
                if entry.is_dir(follow_symlinks=False)
                and not entry.name.startswith(".")
                and entry.name not in referred
            ]
    except FileNotFoundError:
        return {}
    return {key: min(before.get(key, clock), clock) for key in sorted(unused)}


def _environments(site: Site, waiting: Mapping[str, float], clock: float) -> Iterator[Doomed]:
    for key, since in waiting.items():
        if clock - since >= UNUSED_SECONDS:
            path = site.environment(key)
            hours = int(UNUSED_SECONDS // 3600)
            reason = f"no release has referred to it for {hours} hours"
            yield Doomed("environment", key, path, reason, _size(path))


def _reports(site: Site) -> Iterator[Doomed]:
    for path in sorted(site.failures.glob("[0-9]*.tgz"))[:-REPORTS]:
        reason = f"not among the newest {REPORTS} failure reports"
        yield Doomed("report", path.name, path, reason, _size(path))


def _downloads(site: Site, clock: float, resumed: float) -> Iterator[Doomed]:
    live = releases.digest_of(site, releases.live_version(site) or ".").removeprefix("sha256:")
    for path in sorted(site.downloads.glob("*")):
        if not resumed and path.name == live:
            continue  # that of this very install, which is about to delete it
        with suppress(FileNotFoundError):
            if clock - path.stat().st_mtime >= resumed:
                reason = f"nobody has gone on with this download for {int(resumed // 3600)} hours"
                if not resumed:
                    reason = "left by a download that did not end"
                yield Doomed("download", path.name[:12], path, reason, _size(path))


def _read_waiting(site: Site) -> dict[str, float]:
    try:
        return msgspec.json.decode(site.unused.read_bytes(), type=dict[str, float])
    except (OSError, msgspec.MsgspecError):
        return {}  # they wait a little longer


def _remember(site: Site, waiting: Mapping[str, float]) -> None:
    if dict(waiting) != _read_waiting(site):
        files.write(site.unused, msgspec.json.encode(dict(waiting)))


def _size(path: Path) -> int:
    """Return the bytes that a file or a tree takes on the disk."""
    total, pending = 0, [os.fspath(path)]
    try:
        total += os.lstat(path).st_blocks * 512
        while pending:
            at = pending.pop()
            if not os.path.isdir(at) or os.path.islink(at):
                continue
            with os.scandir(at) as entries:
                for entry in entries:
                    total += entry.stat(follow_symlinks=False).st_blocks * 512
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(entry.path)
    except FileNotFoundError:
        pass  # somebody else deletes it just now
    return total
