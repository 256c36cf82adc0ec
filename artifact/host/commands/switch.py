"""Make a release live that is in the site: what `artifact install --stage` has prepared."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from artifact import files, steps
from artifact.errors import Refused, UsageError
from artifact.host.commands import migrate, prune, recover
from artifact.host.inspecting import observe, preflight
from artifact.host.inspecting.observe import Live
from artifact.host.migrations import runner
from artifact.host.processes import check
from artifact.host.processes import target as targets
from artifact.host.processes.target import Target
from artifact.host.records import freeze, history, releases
from artifact.host.runs import switching
from artifact.host.runs.run import SwitchingRun
from artifact.host.runs.switching import Plan
from artifact.site import Site
from artifact.steps import Step, Warned


class SwitchOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How to make a release live."""

    wait: float = 900.0
    """Seconds to wait for another run."""
    probation: float = 10.0
    """Seconds to watch the new release before it counts as good."""
    allow_downgrade: bool = False
    """Also where it is older than the live one."""
    migrate: bool = False
    """Run the migrations, whatever the policy is."""
    allow_unsafe: tuple[str, ...] = ()
    """Migrations to run whatever their risk."""


def plan(site: Site, version: str, options: SwitchOptions) -> Plan:
    """Say what a switch would do, and what stands in its way; changes nothing.

    Args:
        version: the staged release; "" for the newest one.

    Raises:
        Refused: nothing is staged, or a policy says no.
    """
    live = observe.observe_live(site)
    release = releases.read(site, _staged(site, version))
    target = targets.of_manifest(site, release.manifest)
    check_policies(target, live, options)
    old, warnings = live_target(site, live)
    return Plan(
        command="switch",
        target=target,
        digest=release.digest,
        live=live.version,
        old=old,
        stages=(steps_of(target, release.digest, live, options),),
        problems=tuple(preflight.problems_of_release(target)),
        refusal=f"{site.root} cannot switch to {target.reference}",
        warnings=warnings,
    )


def switch(site: Site, version: str, options: SwitchOptions, tell: steps.Listener) -> Plan:
    """Make a staged release live.

    Raises:
        Refused: nothing is staged, or a check said no; nothing live changed.
        Locked: another run is at work.
        ReleaseFailed: the new release failed, and the old one is live again.
        RollbackFailed: going back failed as well.
    """
    doing = f"switching {site.root}"
    with files.locked(site.lock, doing=doing, wait=options.wait, tell=tell) as lock:
        recover.recover(site, tell)
        planned = plan(site, version, options)
        switching.carry_out(planned, lock, tell)
        return planned


def _staged(site: Site, wanted: str) -> str:
    """Return the release that was staged last, or see that the wanted one was."""
    staged = history.staged(site)
    if not staged:
        raise Refused(
            f"nothing is staged in {site.root}",
            hint="`artifact install --stage FILE` stages a release; "
            "`artifact rollback` goes back to an older one",
        )
    if wanted and wanted not in staged:
        raise Refused(
            f"{wanted} is not staged in {site.root}; there is: {', '.join(staged)}",
            hint="`artifact install --stage` of its file stages it",
        )
    return wanted or staged[-1]


def check_policies(target: Target, live: Live, options: SwitchOptions) -> None:
    """Refuse what the site's people, or the order of versions, speak against.

    Raises:
        Refused: the site is frozen, or the release is older than the live one.
        UsageError: migrations are allowed where none are run.
    """
    freeze.refuse_frozen(target.site, hint="ask them, or `artifact thaw` it; then repeat")
    if options.allow_unsafe and _policy(target, options) != "run":
        raise UsageError(
            f"no migrations are run here, {', '.join(options.allow_unsafe)} neither",
            hint='add --migrate, or set [install] migrations = "run"',
        )
    if not options.allow_downgrade:
        observe.check_sequence(target, live)


def live_target(site: Site, live: Live) -> tuple[Target | None, tuple[Warned, ...]]:
    """Return the live release; None, and a warning, where somebody has deleted it."""
    try:
        return (targets.of_version(site, live.version) if live.version else None), ()
    except Refused as error:
        # That must not keep a whole release from taking its place.
        return None, (Warned(f"{error.message}; there is no way back to it"),)


def check_step(target: Target) -> Step[SwitchingRun]:
    """Plan to try a release before anything live changes."""

    def do(run: SwitchingRun) -> str:
        try:
            note = check.check(target.site, target.manifest, run.tell)
        except Refused as error:
            run.record.release(target.version, "failed", reason=error.message)
            raise
        run.record.release(target.version, "checked")
        return note

    return Step("check", f"try {target.reference} on a private socket", do)


def steps_of(
    target: Target,
    digest: str,
    live: Live,
    options: SwitchOptions,
    new_migrations: Sequence[str] = (),
) -> tuple[Step[SwitchingRun], ...]:
    """Plan what makes a release live; what fails here is undone, and the release stays.

    Args:
        new_migrations: what the release has and the live one has not, for who reads the plan.
    """
    site, version = target.site, target.version
    was = f" (was {live.version})" if live.version else ""

    def run_migrations(run: SwitchingRun) -> str:
        how = runner.MigrationOptions(options.allow_unsafe, wait=options.wait)
        return migrate.follow_policy(site, version, _policy(target, options), how, run)

    def go(run: SwitchingRun) -> str:
        note = run.switch.go()
        run.record.release(version, "live")
        return note

    def back(run: SwitchingRun) -> None:
        run.switch.back()
        if run.switch.begun:
            run.record.release(version, "rolled-back", reason="its install did not end well")

    def watch(run: SwitchingRun) -> str:
        return run.switch.watch(options.probation)

    def finish(run: SwitchingRun) -> str:
        run.record.release(version, "good", digest=digest)
        # From here on it is done: what fails is a warning.
        _point_previous(site, live.version, version, run.tell)
        return prune.after_install(site, target.install.keep, run.record, run.tell)

    planned = [
        check_step(target),
        migrate.step(version, _policy(target, options), new_migrations, run_migrations),
        Step("switch", f"switch {site.current} to {version}{was}", go, back),
    ]
    if target.managed:
        planned.append(Step("confirm", f"watch {version} for {options.probation:g} s", watch))
    return (*planned, Step("finish", f"call {version} good", finish, commits=True))


def _point_previous(site: Site, was: str, version: str, tell: steps.Listener) -> None:
    if was in {"", version} or not site.release(was).is_dir():
        return
    try:
        files.replace_link(site.previous, was)
    except OSError as error:
        tell(Warned(f"{site.previous} does not point at {was}: {error}"))


def _policy(target: Target, options: SwitchOptions) -> str:
    return "run" if options.migrate else target.install.migrations
