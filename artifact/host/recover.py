"""Finish or take back what a run that died has left half done."""

from __future__ import annotations

from artifact import files, journal, steps
from artifact.errors import ArtifactError, RollbackFailed
from artifact.host import activate
from artifact.host import settings as site_settings
from artifact.host.activate import Switch
from artifact.journal import Run
from artifact.services.supervisor import SupervisorError
from artifact.site import Site


def recover(site: Site, tell: steps.Listener) -> None:
    """Bring the site to a state that a run could have ended in; the caller holds its lock.

    Raises:
        RollbackFailed: the old release cannot be made live again.
    """
    sweep(site)
    run = journal.last_run(site.journal)
    if run is None or run.over is not None:
        return
    record = journal.resume(site.journal, run)
    what = f"{run.began.command} of {run.began.version} by {run.began.who} at {run.began.time}"
    if _is_good(run):
        _point_previous(site, run)
        record.over(0, "interrupted after it was done; finished")
        tell(steps.Said(f"finished the interrupted {what}"))
    elif not run.reached("switch"):
        record.over(5, "interrupted before the switch; nothing live had changed")
        tell(steps.Said(f"cleaned up after the interrupted {what}; nothing live had changed"))
    else:
        _take_back(site, run, tell)
        record.release(run.began.version, "rolled-back", reason="its install was interrupted")
        record.over(7, "interrupted in the switch; taken back")
        tell(steps.Said(f"took back the interrupted {what}"))


def sweep(site: Site) -> None:
    """Delete what only an unfinished run leaves: staging, trash, files not renamed yet."""
    for directory in (site.staging, site.trash):
        if directory.is_dir():
            for path in directory.iterdir():
                files.remove_tree(path)
    for directory in (site.private, site.releases):
        if directory.is_dir():
            for path in directory.glob(".*.new"):
                files.remove_tree(path)


def _is_good(run: Run) -> bool:
    return any(line.event == "release" and line.state == "good" for line in run.lines)


def _point_previous(site: Site, run: Run) -> None:
    before = run.began.previous
    if before and before != run.began.version and site.release(before).is_dir():
        files.point(site.previous, before)


def _take_back(site: Site, run: Run, tell: steps.Listener) -> None:
    try:
        old = activate.side(site, run.began.previous)
        new = activate.side(site, run.began.version)
        settings = site_settings.load(site)
        assert new.manifest is not None
        restart = settings.merged(new.manifest.install).restart
        Switch(
            site=site,
            name=new.manifest.name,
            url=settings.supervisor.url,
            restart=restart,
            old=old,
            new=new,
            tell=tell,
            begun=True,
            restarted=set(new.processes),
        ).back()
    except (ArtifactError, SupervisorError, OSError) as error:
        live = run.began.previous or "nothing"
        raise RollbackFailed(
            f"an install of {run.began.version} was interrupted, and making {live} live again "
            f"failed: {error}",
            hint=getattr(error, "hint", "") or "repair that, then repeat this command",
        ) from error
