"""Install an artifact into its site: observe, plan, run; before the switch nothing live changes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import msgspec

from artifact import files, steps
from artifact.archive.opening import Artifact
from artifact.errors import Refused, UsageError
from artifact.host.commands import migrate, prune, recover
from artifact.host.inspecting import observe, preflight, status
from artifact.host.inspecting.observe import Facts
from artifact.host.migrations import applying, foreseen
from artifact.host.processes import check
from artifact.host.processes import target as targets
from artifact.host.processes.activate import Switch
from artifact.host.processes.target import Target
from artifact.host.records import freeze, problem
from artifact.host.records.journal import Journal, ReleaseState
from artifact.host.runs import failure_report, recording
from artifact.host.trees import incoming, static, unpack
from artifact.manifest import Manifest
from artifact.site import Site
from artifact.steps import Step
from artifact.transfer import references
from artifact.transfer.references import InStore


class Wishes(msgspec.Struct, frozen=True):
    """What the command line asks for."""

    command: str
    """Path of the `artifact` that supervisor is to run."""
    root: str = ""
    """The site; the artifact's own when empty."""
    digest: str = ""
    """The identity the artifact must have."""
    wait: float = 900.0
    """Seconds to wait for another run."""
    probation: float = 10.0
    """Seconds to watch the new release before it counts as good."""
    allow_downgrade: bool = False
    """Install it though it is older than the live one."""
    migrate: bool = False
    """Run the migrations, whatever the policy is."""
    allow_unsafe: tuple[str, ...] = ()
    """Migrations to run whatever their risk."""


class Outcome(msgspec.Struct, frozen=True):
    """What was done, or would be."""

    facts: Facts
    steps: tuple[Step, ...]
    """Empty where it is live already."""


def plan(source: Path | InStore, wishes: Wishes) -> tuple[Outcome, list[preflight.Problem]]:
    """Say what an install would do, and what stands in its way; changes nothing.

    Raises:
        ArtifactRejected: the file is not an artifact for this machine.
        Refused: it is for another site, or its version is taken.
    """
    with references.opened(source) as artifact:
        facts = observe.observe(artifact, _identify(artifact, wishes))
        if facts.already_live and not status.look(facts.site).problems:
            return Outcome(facts, ()), []
        _policies(facts, wishes)
        problems = preflight.problems(facts, artifact_command=wishes.command)
        switch = _switch(facts, steps.nobody)
        planned = (
            *_unpacking(facts, steps.nobody, None),
            *_switching(facts, wishes, switch, steps.nobody, None),
        )
        return Outcome(facts, planned), problems


def install(source: Path | InStore, wishes: Wishes, tell: steps.Listener) -> Outcome:
    """Install an artifact and make it live; of one in a store, fetch what the site has not.

    Raises:
        ArtifactRejected: the file is not an artifact for this machine; nothing changed.
        Refused: a check said no; nothing live changed.
        Locked: another run is at work.
        ReleaseFailed: the new release failed, and the old one is live again.
        RollbackFailed: going back failed as well.
    """
    with references.opened(source, keep=_downloads) as artifact:
        site = _identify(artifact, wishes)
        _make_private(site)
        doing = f"installing {artifact.manifest.reference}"
        with files.locked(site.lock, doing=doing, wait=wishes.wait, tell=tell) as lock:
            recover.recover(site, tell)
            observe.check_same_version(artifact, site)
            facts = observe.observe(artifact, site)
            if facts.already_live and not status.look(site).problems:
                return Outcome(facts, ())
            _policies(facts, wishes)
            return _run(facts, wishes, lock, tell)


def _downloads(manifest: Manifest) -> Path:
    return Site(Path(manifest.root)).downloads


def _identify(artifact: Artifact, wishes: Wishes) -> Site:
    if wishes.digest:
        observe.check_digest(artifact, wishes.digest)
    preflight.check_platform(artifact.manifest)
    site = observe.site_of(artifact, wishes.root)
    observe.check_signature(artifact, site)
    observe.check_same_version(artifact, site)
    return site


def _policies(facts: Facts, wishes: Wishes) -> None:
    freeze.check(facts.site, hint="ask them, or `artifact thaw` it; then repeat")
    if wishes.allow_unsafe and _migrations(facts, wishes) != "run":
        raise UsageError(
            f"no migrations are run here, {', '.join(wishes.allow_unsafe)} neither",
            hint='add --migrate, or set [install] migrations = "run"',
        )
    if not wishes.allow_downgrade:
        observe.check_sequence(facts)


def _migrations(facts: Facts, wishes: Wishes) -> str:
    return "run" if wishes.migrate else facts.target.install.migrations


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


def _run(facts: Facts, wishes: Wishes, lock: int, tell: steps.Listener) -> Outcome:
    record = recording.begin(
        facts.site,
        command="install",
        version=facts.manifest.version,
        digest=facts.artifact.digest,
        previous=facts.live,
    )
    seen = failure_report.Bundle(facts.target, record)
    listener = steps.everybody(record.hear, seen.hear, tell)
    with failure_report.mentioned(seen), recording.recorded(record, tell):
        problem.refuse(
            preflight.problems(facts, artifact_command=wishes.command),
            f"{facts.manifest.reference} cannot be installed in {facts.site.root}",
            listener,
        )
        switch = _switch(facts, listener)
        unpacking = tuple(_unpacking(facts, listener, record))
        switching = tuple(_switching(facts, wishes, switch, listener, record, lock))
        with recording.in_words(facts.live, switch):
            steps.run(unpacking, listener)
            # Not one loop: a release that fails from here on stays, for a person to look into it.
            steps.run(switching, listener)
    return Outcome(facts, (*unpacking, *switching))


def _unpacking(facts: Facts, tell: steps.Listener, record: Journal | None) -> Iterator[Step]:
    """Plan what brings the release here; from its end on it stays, whatever becomes of it."""
    site, manifest, artifact = facts.site, facts.manifest, facts.artifact
    environment = site.environment(manifest.environment.key)
    release = site.release(manifest.version)

    def make_directories() -> None:
        for path in (site.releases, site.environments, site.shared, site.static):
            path.mkdir(mode=0o755, exist_ok=True)
        if not site.default_environment.is_symlink():
            files.point(site.default_environment, "../releases/current/virtualenv")

    def unpack_environment() -> str:
        return unpack.unpack_environment(artifact, site, tell)

    def unpack_release() -> str:
        note = unpack.unpack_release(artifact, site, facts.target.install.shared, tell)
        _said(record).release(manifest.version, "staged", digest=artifact.digest)
        return note

    def remove_release() -> None:
        unpack.remove(site, release)
        with suppress(OSError):  # on a full disk the run stays open, and recovery says it
            recover.note_removed(site, _said(record))

    yield Step("prepare", f"prepare {site.root}", make_directories)
    if facts.environment is None:
        yield Step(
            "unpack-environment",
            f"unpack the environment {environment}"
            + incoming.announced(artifact, facts.fetch, (unpack.ENVIRONMENT,)),
            unpack_environment,
            lambda: unpack.remove(site, environment),
        )
    else:
        yield Step(
            "reuse-environment",
            f"reuse the environment {environment}",
            lambda: unpack.reuse_environment(artifact, site, marked=facts.marked),
        )
    if facts.release != "":
        yield Step(
            "unpack-release",
            f"unpack {manifest.reference} to {release}"
            + incoming.announced(artifact, facts.fetch, unpack.of_release(artifact)),
            unpack_release,
            remove_release,
        )
    else:
        yield Step("reuse-release", f"reuse the release {release}", lambda: "the same")
    if manifest.static and facts.target.install.static == "shared":
        yield static.step(site, manifest, tell)


def _switching(
    facts: Facts,
    wishes: Wishes,
    switch: Switch,
    tell: steps.Listener,
    record: Journal | None,
    lock: int | None = None,
) -> Iterator[Step]:
    """Plan what makes the release live; what fails here is undone, and the release stays."""
    site, version = facts.site, facts.manifest.version
    to_do = _Switching(facts, switch, tell, record)
    was = f" (was {facts.live})" if facts.live else ""
    yield Step("check", f"try {facts.manifest.reference} on a private socket", to_do.check)
    yield migrate.step(
        site,
        version,
        _migrations(facts, wishes),
        tell,
        record,
        wishes=applying.Wishes(wishes.allow_unsafe, wait=wishes.wait),
        lock=lock,
        news=_news(facts, switch, judged=record is None),
    )
    yield Step("switch", f"switch {site.current} to {version}{was}", to_do.go, to_do.back)
    if facts.target.managed:
        watched = f"watch {version} for {wishes.probation:g} s"
        yield Step("confirm", watched, lambda: switch.watch(wishes.probation))
    yield Step("finish", f"call {version} good", to_do.finish, commits=True)


def _news(facts: Facts, switch: Switch, *, judged: bool) -> list[str]:
    live = switch.old.manifest if switch.old is not None else None
    return foreseen.news(live, facts.artifact, judged=judged)


class _Switching(msgspec.Struct, frozen=True):
    """What is done to a release that is here, and what the journal is told of it."""

    facts: Facts
    switch: Switch
    tell: steps.Listener
    record: Journal | None

    def check(self) -> str:
        try:
            note = check.check(self.facts.site, self.facts.manifest, self.tell)
        except Refused as error:
            self._said("failed", reason=error.message)
            raise
        self._said("checked")
        return note

    def go(self) -> str:
        note = self.switch.go()
        self._said("live")
        return note

    def back(self) -> None:
        self.switch.back()
        if self.switch.begun:
            self._said("rolled-back", reason="its install did not end well")

    def finish(self) -> str:
        facts, site = self.facts, self.facts.site
        self._said("good", digest=facts.artifact.digest)
        # From here on it is done: what fails is a warning.
        was = facts.live
        if was and was != facts.manifest.version and site.release(was).is_dir():
            try:
                files.point(site.previous, was)
            except OSError as error:
                self.tell(steps.Warned(f"{site.previous} does not point at {was}: {error}"))
        return prune.after_install(site, facts.target.install.keep, _said(self.record), self.tell)

    def _said(self, state: ReleaseState, *, reason: str = "", digest: str = "") -> None:
        _said(self.record).release(self.facts.manifest.version, state, reason=reason, digest=digest)


def _switch(facts: Facts, tell: steps.Listener) -> Switch:
    return Switch(_live(facts, tell), facts.target, tell)


def _live(facts: Facts, tell: steps.Listener) -> Target | None:
    try:
        return targets.of_version(facts.site, facts.live) if facts.live else None
    except Refused as error:
        # Somebody deleted it. That must not keep a whole release from taking its place.
        tell(steps.Warned(f"{error.message}; there is no way back to it"))
        return None


def _said(record: Journal | None) -> Journal:
    assert record is not None, "a plan for reading was run"
    return record
