"""Finish or take back what a run that died has left half done."""

from __future__ import annotations

import msgspec

from artifact import files, steps
from artifact.errors import ArtifactError, Refused, RollbackFailed
from artifact.host.migrations import aftermath, runner
from artifact.host.processes import target as targets
from artifact.host.processes.activate import Switch
from artifact.host.records import history, journal, releases, reserve
from artifact.host.records.journal import Journal, Run
from artifact.services.process_manager import ProcessManagerError
from artifact.site import Site


class Recovered(msgspec.Struct, frozen=True):
    """What became of a run that died."""

    run: Run
    how: str
    """ "finished", "cleaned up after", "took back" or "left alone what came after"."""
    migrated: str = ""
    """What it did to the databases; empty for nothing."""

    @property
    def summary(self) -> str:
        nothing = "; nothing live had changed" if self.how.startswith("cleaned") else ""
        migrated = f"; {self.migrated}" if self.migrated else ""
        return f"{self.how} the interrupted {describe(self.run)}{nothing}{migrated}"


def describe(run: Run) -> str:
    """Return "rollback of 1337 by alice at 2026-11-20T17:00:00.000Z"."""
    what = f"{run.began.command} of {run.began.version}".removesuffix(" of ")
    return f"{what} by {run.began.who} at {run.began.time}"


def recover(site: Site, tell: steps.Listener) -> Recovered | None:
    """Bring the site to a state that a run could have ended in; the caller holds its lock.

    Returns:
        What was done; None where the last run had ended.

    Raises:
        Refused: the disk says no, or a link is none; what the run had done stands as it was.
        RollbackFailed: the old release cannot be made live again.
    """
    releases.check_links(site)
    reserve.maintain(site)
    try:
        return _recover(site, tell)
    except OSError as error:
        raise Refused(
            f"what an earlier run left in {site.root} cannot be cleaned up: {error}",
            hint="repair that, then repeat this command",
        ) from error


def _recover(site: Site, tell: steps.Listener) -> Recovered | None:
    sweep(site)
    run = journal.last_run(site.journal)
    if run is None or run.over is not None:
        return None
    record = journal.resume(site.journal, run)
    _note_staged(site, run, record)
    note_removed(site, record)
    if run.began.command == "prune":
        record.over(0, "interrupted; what it had begun to delete is gone")
        done = Recovered(run, "finished")
    elif _is_good(run):
        if run.began.command == "rollback":
            _mark_left(run, record)
            point_before(site, run.began.version)
        else:
            _point_previous(site, run)
        record.over(0, "interrupted after it was done; finished")
        done = Recovered(run, "finished")
    elif run.began.command == "stage" and _is_checked(run):
        record.over(0, "interrupted after it was done; finished")
        done = Recovered(run, "finished")
    elif not run.reached("switch"):
        _put_migrations_back(site, run, record, tell)
        left = aftermath.of_run(site, run, tell)
        record.over(left.code, f"interrupted before the switch; {left.text or 'nothing changed'}")
        done = Recovered(run, "cleaned up after", left.text)
    elif _is_past(site, run):
        record.over(7, "interrupted in the switch; another release has been made live since")
        done = Recovered(run, "left alone what came after")
    else:
        _take_back(site, run, tell)
        _put_migrations_back(site, run, record, tell)
        if run.began.command != "rollback":
            # Where a rollback led to is as good as it was: it was not what ended it.
            record.release(run.began.version, "rolled-back", reason="its install was interrupted")
        record.over(7, "interrupted in the switch; taken back")
        done = Recovered(run, "took back")
    tell(steps.Said(done.summary))
    return done


def point_before(site: Site, version: str) -> None:
    """Point `previous` at the newest good release before a version; at nothing without one."""
    before = history.good_before(history.records_of(site), version)
    if before:
        files.replace_link(site.previous, before[0].version)
    else:
        site.previous.unlink(missing_ok=True)


def sweep(site: Site) -> None:
    """Delete what only an unfinished run leaves: staging, trash, files not renamed yet."""
    for directory in (site.staging, site.trash):
        if directory.is_dir():
            for path in directory.iterdir():
                files.remove_tree(path)
    for directory in (site.private, site.releases, site.environments, site.failures):
        if directory.is_dir():
            for path in directory.glob(".*.new"):
                files.remove_tree(path)


def note_removed(site: Site, record: Journal) -> None:
    """Write down what a run has taken away without saying so."""
    there = set(history.versions_on_disk(site))
    for version, told in history.tell_of(journal.read(site.journal)).items():
        if told.state != "removed" and version not in there:
            record.release(version, "removed", reason="its directory is gone")


def _note_staged(site: Site, run: Run, record: Journal) -> None:
    """Write down that a release had got its name, where the run died before it could."""
    command, version = run.began.command, run.began.version
    if command not in {"install", "stage"} or version not in history.versions_on_disk(site):
        return
    told = history.tell_of(journal.read(site.journal)).get(version)
    if told is None or told.state == "removed":
        record.release(version, "staged", digest=run.began.digest, reason="interrupted")


def _mark_left(run: Run, record: Journal) -> None:
    """Mark what a rollback left, where a power cut took just that line."""
    left = run.began.previous
    if left and not any(line.event == "release" and line.version == left for line in run.lines):
        record.release(left, "rolled-back", reason=f"left by a rollback to {run.began.version}")


def _is_past(site: Site, run: Run) -> bool:
    """Tell whether a whole release is live that the run knew nothing of: its journal was cut."""
    live = releases.live_version(site)
    known = {"", run.began.version, run.began.previous}
    return live not in known and site.release(live).is_dir()


def _is_good(run: Run) -> bool:
    return any(line.event == "release" and line.state == "good" for line in run.lines)


def _is_checked(run: Run) -> bool:
    return any(line.event == "release" and line.state == "checked" for line in run.lines)


def _point_previous(site: Site, run: Run) -> None:
    before = run.began.previous
    if before and before != run.began.version and site.release(before).is_dir():
        files.replace_link(site.previous, before)


def _put_migrations_back(site: Site, run: Run, record: Journal, tell: steps.Listener) -> None:
    """Give the release that a rollback was to leave the schema back that it knows."""
    try:
        note = runner.restore(site, run.lines, tell, record)
    except (ArtifactError, OSError) as error:
        raise RollbackFailed(
            f"the {describe(run)} was interrupted after it took migrations back, and running them "
            f"again failed: {error}",
            hint=getattr(error, "hint", "") or "repair that, then repeat this command",
        ) from error
    if note:
        tell(steps.Said(note))


def _take_back(site: Site, run: Run, tell: steps.Listener) -> None:
    try:
        before = run.began.previous
        old = targets.of_version(site, before) if before else None
        new = targets.of_version(site, run.began.version)
        Switch(old, new, tell, begun=True, restarted=set(new.processes)).back()
    except (ArtifactError, ProcessManagerError, OSError) as error:
        live = run.began.previous or "nothing"
        raise RollbackFailed(
            f"the {describe(run)} was interrupted, and making {live} live again failed: {error}",
            hint=getattr(error, "hint", "") or "repair that, then repeat this command",
        ) from error
