"""Prepare a server for a site in one step: observe, plan, run. What is so already stays as it is.

The files it writes (site.toml, supervisor's, nginx's) are replaced as long as nobody has edited
them. An edited site.toml stays as it is. Another edited file that is not as it should be refuses
the setup. The `env` file is written once.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec
from msgspec import structs

from artifact import files, steps
from artifact.archive import opening
from artifact.configuration.site_toml import SupervisorSection
from artifact.errors import Refused, UsageError
from artifact.host.inspecting.observe import site_of
from artifact.host.inspecting.preflight import check_platform
from artifact.host.preparing import (
    accounts,
    directories,
    generated_files,
    programs,
    proxy,
    settings_file,
)
from artifact.host.preparing.findings import Goal, Part, SetupFinding, SetupOptions
from artifact.host.processes.target import Target
from artifact.host.records import find, problem, releases
from artifact.host.records import settings as site_settings
from artifact.host.records.problem import Problem
from artifact.host.trees.links import missing_files
from artifact.manifest import Manifest
from artifact.services import supervisor_files
from artifact.site import Site
from artifact.steps import Run, Step

_WAIT_SECONDS = 60.0

_ENV = """\
# What the application's processes see: KEY=value lines. There is no shell: no quotes, no $,
# no `export`. Restart the processes, or install a release, for a change to take effect.
"""


class Outcome(msgspec.Struct, frozen=True):
    """What was done, or would be."""

    site: Site
    name: str
    findings: tuple[SetupFinding, ...]

    @property
    def parts(self) -> tuple[Part, ...]:
        """Everything that belongs to a prepared server, in order."""
        return tuple(one for one in self.findings if isinstance(one, Part))

    @property
    def problems(self) -> tuple[Problem, ...]:
        """Why nothing would be done."""
        return tuple(one for one in self.findings if isinstance(one, Problem))

    @property
    def warnings(self) -> tuple[steps.Warned, ...]:
        """What a person has yet to do."""
        return tuple(one for one in self.findings if isinstance(one, steps.Warned))

    @property
    def steps(self) -> tuple[Step[Run], ...]:
        """What is left to do; empty on a server that is prepared."""
        return tuple(part.step for part in self.parts if part.step is not None)


def find_subject(reference: str) -> tuple[Site, Manifest]:
    """Return the site and the manifest of an artifact's file, or of a site's live release.

    Raises:
        UsageError: there is neither a file nor a site of that name.
        ArtifactRejected: the file is no artifact for this machine.
        Refused: the site has no live release.
    """
    path = Path(reference)
    if path.is_file() or path.suffix == ".tgz":
        with opening.open_artifact(path) as artifact:
            check_platform(artifact.manifest)
            return site_of(artifact, ""), artifact.manifest
    try:
        site = find.find_site(reference)
    except UsageError as error:
        raise UsageError(
            error.message, hint="a new site is set up from an artifact: accounting-1337.tgz"
        ) from error
    live = releases.live_version(site)
    if not live:
        raise Refused(
            f"{site.root} has no live release that would tell its processes",
            hint="set it up from an artifact: accounting-1337.tgz",
        )
    return site, releases.read(site, live).manifest


def plan(site: Site, manifest: Manifest, options: SetupOptions) -> Outcome:
    """Look at the server and say what is left to do; changes nothing.

    Raises:
        ConfigurationError: the site's own settings are wrong.
        Refused: nginx or supervisor is not where it was said to be.
    """
    with _refusing_disk_errors():
        return Outcome(
            site, manifest.name, tuple(_check_everything(_goal(site, manifest, options)))
        )


def setup(site: Site, manifest: Manifest, options: SetupOptions, tell: steps.Listener) -> Outcome:
    """Prepare the server; when a step fails, those before it are taken back.

    Raises:
        Refused: a person's file is in the way, rights are missing, or a program said no.
        Locked: another run is at work in the site.
    """
    refused = f"{site.root} cannot be set up"
    problem.refuse(plan(site, manifest, options).problems, refused, tell)
    with _refusing_disk_errors(), _locked(site, tell):
        # Again: another run may have changed something before we had the lock.
        outcome = plan(site, manifest, options)
        problem.refuse(outcome.problems, refused, tell)
        for part in outcome.parts:
            if part.step is None:
                tell(steps.Said(f"already so: {part.summary}"))
        steps.run(outcome.steps, Run(tell))
    for warning in outcome.warnings:
        tell(warning)
    return outcome


def _goal(site: Site, manifest: Manifest, options: SetupOptions) -> Goal:
    kept = site_settings.load(site)
    user = options.user or kept.user
    # A site.toml without a user is a decision; without a site.toml nobody has decided.
    if not user and os.geteuid() == 0 and not site.settings.exists():
        user = manifest.name
    wanted = structs.replace(
        kept,
        user=user,
        supervisor=_supervisor(kept.supervisor),
        proxy=proxy.settle(kept.proxy, options),
    )
    return Goal(Target(site, manifest, wanted), kept, options)


def _supervisor(kept: SupervisorSection) -> SupervisorSection:
    """Where nothing is at the usual socket and one supervisor runs elsewhere, that one is meant."""
    usual = SupervisorSection()
    if kept != usual or Path(usual.url.removeprefix("unix://")).exists():
        return kept
    addresses = supervisor_files.running()
    return SupervisorSection(url=addresses[0]) if len(addresses) == 1 else kept


def _check_everything(goal: Goal) -> Iterator[SetupFinding]:
    site = goal.site
    yield from accounts.check_user(goal)
    yield from directories.check_directories(goal)
    yield from settings_file.check_settings(goal)
    if site.variables.exists():
        yield directories.plan_restricting(site.variables, 0o640, "the application's variables")
    else:
        yield generated_files.write("env", site.variables, _ENV, 0o640, group=goal.user)
    yield from _shared_files(goal)
    yield from programs.check_programs(goal)
    yield from proxy.check_proxy(goal)


def _shared_files(goal: Goal) -> Iterator[SetupFinding]:
    for path in missing_files(goal.site, goal.target.install.shared):
        yield steps.Warned(
            f"the shared file {path} is missing", "put it there before the first install"
        )


@contextlib.contextmanager
def _refusing_disk_errors() -> Iterator[None]:
    """Refuse when the disk says no; the steps that were done are taken back by then."""
    try:
        yield
    except OSError as error:
        raise Refused(
            f"{error.filename or 'the disk'} cannot be used: {error.strerror or error}",
            hint="run as root; `df -h` shows what is free",
        ) from error


@contextlib.contextmanager
def _locked(site: Site, tell: steps.Listener) -> Iterator[None]:
    """Hold the site's lock; the directory it lies in is made first, and may stay."""
    if not site.private.is_dir():
        site.root.mkdir(mode=0o755, parents=True, exist_ok=True)
        site.private.mkdir(mode=0o700, exist_ok=True)
        tell(steps.Said(f"made {site.private}"))
    with files.locked(site.lock, doing="setting the server up", wait=_WAIT_SECONDS, tell=tell):
        yield
