"""Install an artifact into its site: observe, plan, run; before the switch nothing live changes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import msgspec

from artifact import files, steps
from artifact.archive.format import ENVIRONMENT_COMPONENT
from artifact.archive.opening import Artifact
from artifact.errors import Refused, UsageError
from artifact.host.commands import recover, switch
from artifact.host.commands.switch import SwitchOptions
from artifact.host.inspecting import observe, preflight, status
from artifact.host.inspecting.observe import Facts
from artifact.host.migrations import preview
from artifact.host.processes import application
from artifact.host.runs import switching
from artifact.host.runs.run import SwitchingRun
from artifact.host.runs.switching import Plan
from artifact.host.trees import reuse, unpack
from artifact.manifest import Manifest
from artifact.site import Site
from artifact.steps import Step
from artifact.transfer import references
from artifact.transfer.references import InStore


class InstallOptions(SwitchOptions, frozen=True, kw_only=True):
    """What the command line asks for."""

    command: str
    """Path of the `artifact` that supervisor is to run."""
    root: str = ""
    """The site; the artifact's own when empty."""
    digest: str = ""
    """The identity the artifact must have."""
    stage: bool = False
    """Bring the release here and check it, and leave the switch to `artifact switch`."""


class InstallPlan(Plan, frozen=True, kw_only=True):
    """What was done, or would be."""

    fetch: int
    """Bytes that have to be fetched; 0 for an artifact in a file."""


def plan(source: Path | InStore, options: InstallOptions) -> InstallPlan:
    """Say what an install would do, and what stands in its way; changes nothing.

    Raises:
        ArtifactRejected: the file is not an artifact for this machine.
        Refused: it is for another site, or its version is taken.
    """
    with references.open_artifact(source) as artifact:
        site = _identify(artifact, options)
        return _plan(observe.observe(artifact, site), options, read_migrations=True)


def install(source: Path | InStore, options: InstallOptions, tell: steps.Listener) -> InstallPlan:
    """Install an artifact and make it live; of one in a store, fetch what the site has not.

    Raises:
        ArtifactRejected: the file is not an artifact for this machine; nothing changed.
        Refused: a check said no; nothing live changed.
        Locked: another run is at work.
        ReleaseFailed: the new release failed, and the old one is live again.
        RollbackFailed: going back failed as well.
    """
    with references.open_artifact(source, keep=_downloads) as artifact:
        site = _identify(artifact, options)
        _make_private(site)
        doing = f"{'staging' if options.stage else 'installing'} {artifact.manifest.reference}"
        with files.locked(site.lock, doing=doing, wait=options.wait, tell=tell) as lock:
            recover.recover(site, tell)
            observe.check_same_version(artifact, site)
            planned = _plan(observe.observe(artifact, site), options, read_migrations=False)
            if planned.stages:
                switching.carry_out(planned, lock, tell)
            return planned


def _downloads(manifest: Manifest) -> Path:
    return Site(Path(manifest.root)).downloads


def _identify(artifact: Artifact, options: InstallOptions) -> Site:
    if options.digest:
        observe.check_digest(artifact, options.digest)
    preflight.check_platform(artifact.manifest)
    site = observe.site_of(artifact, options.root)
    observe.check_signature(site, artifact.name, artifact.content, artifact.signature)
    observe.check_same_version(artifact, site)
    return site


def _make_private(site: Site) -> None:
    """Make the site's root and the directory for lock and journal, where they are missing."""
    try:
        site.root.mkdir(mode=0o755, parents=True, exist_ok=True)
        site.private.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise Refused(
            f"{site.root} cannot be made: {error.strerror}",
            hint=f"sudo install -d -o $(id -un) {site.root}; then repeat",
        ) from error


def _plan(facts: Facts, options: InstallOptions, *, read_migrations: bool) -> InstallPlan:
    """Write the plan.

    Args:
        read_migrations: tell from their text what new migrations do. A run tells that from the
            databases, and better.
    """
    target, digest, live = facts.target, facts.artifact.digest, facts.live
    old, warnings = switch.live_target(facts.site, live)
    described = InstallPlan(
        command="stage" if options.stage else "install",
        target=target,
        digest=digest,
        live=live.version,
        old=old,
        refusal=f"{target.reference} cannot be installed in {facts.site.root}",
        warnings=warnings,
        fetch=sum(facts.fetch.values()),
    )
    if options.stage and (options.migrate or options.allow_unsafe):
        raise UsageError(
            "--stage runs no migrations",
            hint="give --migrate and --allow-unsafe to `artifact switch`",
        )
    if live.is_good(digest) and not status.status_of(facts.site).problems:
        return described
    switch.check_policies(target, live, options)
    stages: tuple[tuple[Step[SwitchingRun], ...], ...]
    arriving = tuple(_arriving(facts))
    if options.stage:
        stages = (arriving, (switch.check_step(target),))
    else:
        before = old.manifest if old is not None else None
        texts = preview.in_artifact(facts.artifact) if read_migrations else preview.untold
        news = preview.new_migrations(before, facts.manifest, texts)
        stages = (arriving, switch.steps_of(target, digest, live, options, news))
    problems = preflight.problems(facts, artifact_command=options.command)
    return msgspec.structs.replace(described, stages=stages, problems=tuple(problems))


def _arriving(facts: Facts) -> Iterator[Step[SwitchingRun]]:
    """Plan what brings the release here; from its end on it stays, whatever becomes of it."""
    site, manifest, artifact = facts.site, facts.manifest, facts.artifact
    shared = facts.target.install.shared
    environment = site.environment(manifest.environment.key)
    release = site.release(manifest.version)

    def make_directories(_run: SwitchingRun) -> None:
        for path in (site.releases, site.environments, site.shared, site.static):
            path.mkdir(mode=0o755, exist_ok=True)
        if not site.default_environment.is_symlink():
            files.replace_link(site.default_environment, site.default_target)

    def unpack_release(run: SwitchingRun) -> str:
        user = application.user_of(site)
        owner = user.pw_uid, user.pw_gid
        note = unpack.unpack_release(artifact, site, shared, owner, run.tell)
        run.record.release(manifest.version, "staged", digest=artifact.digest)
        return note

    def remove_release(run: SwitchingRun) -> None:
        unpack.remove(site, release)
        with suppress(OSError):  # on a full disk the run stays open, and recovery says it
            recover.note_removed(site, run.record)

    yield Step("prepare", f"prepare {site.root}", make_directories)
    if facts.environment is None:
        yield Step(
            "unpack-environment",
            f"unpack the environment {environment}"
            + reuse.announced(artifact, facts.fetch, (ENVIRONMENT_COMPONENT,)),
            lambda run: unpack.unpack_environment(artifact, site, run.tell),
            lambda _run: unpack.remove(site, environment),
        )
    else:
        yield Step(
            "reuse-environment",
            f"reuse the environment {environment}",
            lambda _run: unpack.reuse_environment(artifact, site, marked=facts.marked),
        )
    if facts.release != "":
        yield Step(
            "unpack-release",
            f"unpack {manifest.reference} to {release}"
            + reuse.announced(artifact, facts.fetch, unpack.of_release(artifact)),
            unpack_release,
            remove_release,
        )
    else:
        yield Step("reuse-release", f"reuse the release {release}", lambda _run: "the same")
    if facts.target.shares_static:
        yield switch.link_static(site, manifest)
