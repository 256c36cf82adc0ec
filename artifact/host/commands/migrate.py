"""Run a release's migrations: by command, or in an install as its policy says."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext

from artifact import files, process, steps
from artifact.errors import Refused
from artifact.host.commands import recover
from artifact.host.migrations import applying, survey
from artifact.host.migrations.applying import Outcome, Wishes
from artifact.host.migrations.survey import Database, Pending
from artifact.host.records import journal, releases
from artifact.host.records.journal import Journal
from artifact.host.records.releases import Release
from artifact.host.runs import recording
from artifact.site import Site
from artifact.steps import Step


def migrate(site: Site, version: str, wishes: Wishes, tell: steps.Listener) -> Outcome:
    """Run a release's pending migrations under the site's lock, as a run in its journal.

    Raises:
        UsageError: an allowed name is none of the release's migrations.
        Refused: one is not safe, or the first one failed; nothing changed.
        Locked: another run is at work.
        ReleaseFailed: one failed after others were run.
        RollbackFailed: one failed half way, and its database cannot take that back.
    """
    found = releases.read(site, version)
    reference = found.manifest.reference
    doing = f"migrating to {reference}"
    with files.locked(site.lock, doing=doing, wait=wishes.wait, tell=tell) as lock:
        recover.recover(site, tell)
        record = journal.begin(
            site.journal,
            command="migrate",
            version=version,
            digest=found.digest,
            previous=releases.live_version(site),
        )
        with recording.recorded(record), process.sharing(lock):
            return applying.run(site, found, wishes, tell, record)


def policy(
    site: Site,
    version: str,
    chosen: str,
    tell: steps.Listener,
    record: Journal | None = None,
    wishes: Wishes | None = None,
) -> str:
    """Do with a release's pending migrations what the policy says; returns a note for the step.

    Args:
        chosen: "list" says what is pending, "stop" refuses when anything is, "run" runs it.
        record: the run's journal; "run" needs one.

    Raises:
        Refused: the policy says no, or "run" met what is not safe; nothing changed.
        and as `migrate` for "run".
    """
    found = releases.read(site, version)
    if not survey.kind(found):
        return "the application has none"
    if chosen == "run" and record is not None:
        outcome = applying.run(site, found, wishes or Wishes(), tell, record)
        _warn_of_newer(outcome.databases, version, tell)
        return f"ran {', '.join(outcome.names)}" if outcome.names else "nothing pending"
    try:
        with steps.waiting(tell, f"{version} had told what is pending"):
            seen = survey.pending(site, version, tell)
    except Refused as error:
        if chosen != "list":
            raise
        # It serves: that its commands do not load keeps nobody from being served.
        tell(steps.Warned(error.message, error.hint))
        return "not known"
    for trouble in seen.troubles:
        tell(steps.Warned(trouble))
    _warn_of_newer(seen.databases, version, tell)
    for migration in seen.migrations:
        tell(steps.Said(f"pending, {migration.risk}: {migration.named}"))
    if chosen == "stop":
        _stop(seen, found)
    count = len(seen.migrations)
    if seen.troubles and not count:
        return "not known"
    if not count:
        return "nothing pending"
    return f"{count} pending; `artifact migrate {site.root}` runs what is safe"


def step(
    site: Site,
    version: str,
    chosen: str,
    tell: steps.Listener,
    record: Journal | None,
    *,
    wishes: Wishes | None = None,
    lock: int | None = None,
    news: Sequence[str] = (),
) -> Step:
    """Return the step of an install that comes after the checks and before the switch.

    It has no undo: what is safe for the old code may stay, and a return must not lose data.

    Args:
        lock: descriptor of the site's lock. Who migrates holds it too: were the install killed, the
            next run would else begin while migrations still run.
        news: what the release has and the live one has not, for who reads the plan.
    """
    said = {
        "list": f"list the migrations that {version} has before it",
        "stop": f"see that {version} has no migrations before it",
        "run": f"run the migrations that {version} has before it",
    }

    def follow() -> str:
        with process.sharing(lock) if lock is not None else nullcontext():
            return policy(site, version, chosen, tell, record=record, wishes=wishes)

    summary = said.get(chosen, said["list"])
    if news:
        summary += f"; new in it: {', '.join(news)}"
    return Step("migrations", summary, follow)


def _stop(seen: Pending, found: Release) -> None:
    problems = [*seen.troubles, *(f"{one.name} is pending" for one in seen.migrations)]
    if problems:
        raise Refused(
            f"{found.manifest.reference} must not go live: {'; '.join(problems)}",
            hint=f"`artifact migrate --release {found.manifest.version}` runs what is safe; "
            "then repeat the install",
        )


def _warn_of_newer(databases: Sequence[Database], version: str, tell: steps.Listener) -> None:
    for one in databases:
        if one.ahead:
            names = ", ".join(one.ahead)
            tell(steps.Warned(f"{version} does not know {names}, which {one.alias} has already"))
