"""Run a release's migrations: by command, or in an install as its policy says."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from artifact import files, process, steps
from artifact.errors import Refused
from artifact.host.commands import recover
from artifact.host.migrations import pending, runner
from artifact.host.migrations.pending import Database, Pending
from artifact.host.migrations.runner import MigrationOptions, MigrationOutcome
from artifact.host.records import releases
from artifact.host.records.releases import Release
from artifact.host.runs import recording
from artifact.host.runs.run import SiteRun
from artifact.site import Site
from artifact.steps import RunT, Step


def migrate(
    site: Site, version: str, options: MigrationOptions, tell: steps.Listener
) -> MigrationOutcome:
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
    with files.locked(site.lock, doing=doing, wait=options.wait, tell=tell) as lock:
        recover.recover(site, tell)
        with (
            recording.recorded(
                site,
                lock,
                [tell],
                command="migrate",
                version=version,
                digest=found.digest,
                previous=releases.live_version(site),
            ) as run,
            process.sharing(lock),
        ):
            return runner.run(site, found, options, tell, run.record)


def step(version: str, policy: str, new: Sequence[str], do: Callable[[RunT], str]) -> Step[RunT]:
    """Return the step of a switch that comes after the check and before anything live changes.

    It has no undo: what is safe for the old code may stay, and a return must not lose data.

    Args:
        policy: "run", "stop" or "list".
        new: the migrations that the release has and the live one has not.
    """
    summary = {
        "list": f"list the migrations that {version} has before it",
        "stop": f"see that {version} has no migrations before it",
        "run": f"run the migrations that {version} has before it",
    }[policy]
    return Step("migrations", summary + (f"; new in it: {', '.join(new)}" if new else ""), do)


def follow_policy(
    site: Site, version: str, policy: str, options: MigrationOptions, run: SiteRun
) -> str:
    """Do with a release's pending migrations what the policy says; returns a note for the step.

    Args:
        policy: "list" says what is pending, "stop" refuses when anything is, "run" runs it.

    Raises:
        Refused: the policy says no, or "run" met what is not safe; nothing changed.
        and as `migrate` for "run".
    """
    tell = run.tell
    found = releases.read(site, version)
    if not pending.kind_of(found):
        return "the application has none"
    if policy == "run":
        with process.sharing(run.lock):
            outcome = runner.run(site, found, options, tell, run.record)
        _warn_of_newer(outcome.databases, version, tell)
        return f"ran {', '.join(outcome.names)}" if outcome.names else "nothing pending"
    try:
        with steps.waiting(tell, f"{version} had told what is pending"):
            seen = pending.of_version(site, version, tell)
    except Refused as error:
        if policy != "list":
            raise
        # It serves: that its commands do not load keeps nobody from being served.
        tell(steps.Warned(error.message, error.hint))
        return "not known"
    for trouble in seen.troubles:
        tell(steps.Warned(trouble))
    _warn_of_newer(seen.databases, version, tell)
    for migration in seen.migrations:
        tell(steps.Said(f"pending, {migration.risk}: {migration.named}"))
    if policy == "stop":
        _stop(seen, found)
    count = len(seen.migrations)
    if seen.troubles and not count:
        return "not known"
    if not count:
        return "nothing pending"
    return f"{count} pending; `artifact migrate {site.root}` runs what is safe"


def _stop(seen: Pending, found: Release) -> None:
    problems = [*seen.troubles, *(f"{one.name} is pending" for one in seen.migrations)]
    if problems:
        raise Refused(
            f"{found.manifest.reference} must not go live: {'; '.join(problems)}",
            hint=f"`artifact migrate --release {found.manifest.version}` runs what is safe; "
            "then repeat this command",
        )


def _warn_of_newer(databases: Sequence[Database], version: str, tell: steps.Listener) -> None:
    for one in databases:
        if one.ahead:
            names = ", ".join(one.ahead)
            tell(steps.Warned(f"{version} does not know {names}, which {one.alias} has already"))
