"""Make a release live that is in the site: what `artifact install --stage` has prepared."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from artifact import files, steps
from artifact.errors import Refused, UsageError
from artifact.host.commands import migrate, prune, recover
from artifact.host.inspecting import observe, preflight, status
from artifact.host.inspecting.observe import Live
from artifact.host.migrations import preview, runner
from artifact.host.processes import check
from artifact.host.processes import target as targets
from artifact.host.processes.target import Target
from artifact.host.records import freeze, history, releases
from artifact.host.records.problem import Problem
from artifact.host.records.releases import Release
from artifact.host.runs import switching
from artifact.host.runs.run import SwitchingRun
from artifact.host.runs.switching import Plan
from artifact.host.trees import content, static
from artifact.manifest import Manifest
from artifact.site import ReleasePaths, Site
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
        version: the staged release; "" for the one that was staged last.

    Raises:
        Refused: nothing is staged, or a policy says no.
    """
    return _plan(site, version, options, read_migrations=True)


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
        planned = _plan(site, version, options, read_migrations=False)
        if planned.stages:
            switching.carry_out(planned, lock, tell)
        return planned


def _plan(site: Site, version: str, options: SwitchOptions, *, read_migrations: bool) -> Plan:
    """Write the plan.

    Args:
        read_migrations: tell from their text what new migrations do. A run tells that from the
            databases, and better.
    """
    live = observe.observe_live(site)
    already = version == live.version != "" and live.state == "good"
    release = releases.read(site, version if already else _staged(site, version, live))
    target = targets.of_manifest(site, release.manifest)
    old, warnings = live_target(site, live)
    described = Plan(
        command="switch",
        target=target,
        digest=release.digest,
        live=live.version,
        old=old,
        refusal=f"{site.root} cannot switch to {target.reference}",
        warnings=warnings,
    )
    if already and not status.status_of(site).problems:
        return described
    check_policies(target, live, options)
    _check_signature(release, target)
    before = old.manifest if old is not None else None
    texts = preview.in_directory(release.directory) if read_migrations else preview.untold
    news = preview.new_migrations(before, release.manifest, texts)
    linking = (link_static(site, release.manifest),) if target.shares_static else ()
    return msgspec.structs.replace(
        described,
        stages=(linking, steps_of(target, release.digest, live, options, news, staged=True)),
        problems=(*preflight.problems_of_release(target), *_content(release, target)),
    )


def _check_signature(release: Release, target: Target) -> None:
    """Refuse a release whose signers the site does not allow, or no longer allows."""
    paths = ReleasePaths(release.directory)
    made = paths.signature.read_bytes() if paths.signature.exists() else None
    manifest = paths.manifest.read_bytes()
    observe.check_signature(target.site, target.reference, manifest, made)


def _content(release: Release, target: Target) -> Iterator[Problem]:
    """Find what has changed in a release since it was staged."""
    fault = content.staged_fault(target.site, release, target.install.shared)
    if fault:
        yield Problem(
            f"{target.reference} is not as it was staged: {fault}",
            "`artifact install --stage` of its file stages it again",
        )


def _staged(site: Site, wanted: str, live: Live) -> str:
    """Return the release that was staged last, or see that the wanted one was."""
    staged = history.staged(site)
    if wanted in staged:
        return wanted
    if staged and not wanted:
        return staged[-1]
    there = f"staged: {', '.join(staged)}" if staged else f"{live.version or 'nothing'} is live"
    hint = "`artifact install --stage FILE` stages it, also one whose switch failed or was stopped"
    if wanted in history.versions_on_disk(site):
        hint = f"`artifact rollback {site.root} {wanted}` goes to it; {hint}"
    what = f"{wanted} is not staged" if wanted else "nothing is staged"
    raise Refused(f"{what} in {site.root}; {there}", hint=hint)


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


def check_step(target: Target, *, staged: bool = False) -> Step[SwitchingRun]:
    """Plan to try a release before anything live changes.

    Args:
        staged: it was checked before. What fails now may be a database or a variable, and stays
            staged until that is repaired.
    """

    def do(run: SwitchingRun) -> str:
        try:
            note = check.check(target.site, target.manifest, run.tell)
        except Refused as error:
            if not staged:
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
    *,
    staged: bool = False,
) -> tuple[Step[SwitchingRun], ...]:
    """Plan what makes a release live; what fails here is undone, and the release stays.

    Args:
        new_migrations: what the release has and the live one has not, for who reads the plan.
        staged: as for `check_step`.
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
        check_step(target, staged=staged),
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


def link_static(site: Site, manifest: Manifest) -> Step[SwitchingRun]:
    """Plan to link the hashed static files of a release that will be in the site by then."""

    def do(run: SwitchingRun) -> str:
        linked = static.link(site, manifest)
        run.linked = linked.added
        for path in linked.taken:
            run.tell(
                steps.Warned(
                    f"{site.static / path} stays another release's, which has other content",
                    "give it a name that is not like a hash's, or the hash of what it holds",
                )
            )
        return f"{len(linked.added)} new, {linked.there} there already"

    summary = f"link the hashed static files of {manifest.reference} into {site.static}"
    return Step("static", summary, do, lambda run: static.unlink(site, run.linked))
