"""Check a server for a site, before an install has to: every finding comes with its fix."""

from __future__ import annotations

import stat
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from artifact import stores
from artifact.configuration.site_toml import Settings
from artifact.errors import ArtifactError, ConfigurationError, Refused
from artifact.host.inspecting import preflight, status
from artifact.host.processes import application, health, programs
from artifact.host.processes.target import Target, manager_of
from artifact.host.records import freeze, history, releases, settings
from artifact.host.records.problem import Problem
from artifact.host.records.releases import Release
from artifact.host.trees import content, links
from artifact.manifest import Manifest
from artifact.services import nginx
from artifact.services.nginx import Nginx
from artifact.services.process_manager import ProcessManagerError
from artifact.site import Site
from artifact.stores import addresses

_CLOCK_SECONDS = 60
"""The clocks of two machines may differ by this much."""

_PRIVATE_TO_OTHERS = 0o027
"""Rights on the env file that nobody gets: writing for its group, anything for others."""


class Finding(msgspec.Struct, frozen=True):
    """Something that is wrong."""

    check: str
    """Stable: "rights", "disk", "nginx"…"""
    text: str
    hint: str
    """The next command to run, or the line to change."""


class Report(msgspec.Struct, frozen=True):
    """What was looked at and what was found."""

    site: Site
    name: str
    live: str
    """Version of the live release; empty when none is."""
    checks: tuple[str, ...]
    findings: tuple[Finding, ...]


def examine(site: Site, *, nginx_directory: Path = nginx.DIRECTORY) -> Report:
    """Look at everything that an install or a running release of the site depends on.

    Changes nothing. One check that cannot be done does not keep the others from being done.
    """
    findings: list[Finding] = []
    chosen, release = None, None
    try:
        chosen = settings.load(site)
    except ConfigurationError as error:
        findings += [Finding("settings", line, f"edit {site.settings}") for line in _lines(error)]
    live = releases.live_version(site)
    if not live:
        nothing = history.nothing_live(site)
        findings.append(Finding("release", nothing.text, nothing.hint))
    try:
        release = releases.read(site, live) if live else None
    except Refused as error:
        findings.append(Finding("release", error.message, error.hint))
    checks = dict(_checks(site, chosen, release, nginx_directory))
    for name, problems in checks.items():
        findings += [
            # What raises without a hint is what a setup puts in place: a user, a directory.
            Finding(name, one.text, one.hint or f"artifact setup {site.root}")
            for one in _caught(problems)
        ]
    return Report(
        site=site,
        name=_name(site, release),
        live=live,
        checks=("settings", "release", *checks),
        findings=tuple(findings),
    )


def _checks(
    site: Site, chosen: Settings | None, release: Release | None, nginx_directory: Path
) -> Iterator[tuple[str, Iterator[Problem]]]:
    """Yield the checks that can be made; each one is made when it is iterated.

    Args:
        chosen: None where the settings are wrong: what depends on them cannot be judged.
        release: the live one; None where there is none.
    """
    manifest = release.manifest if release else None
    target = Target(site, manifest, chosen) if chosen and manifest else None
    yield "disk", preflight.room(site, manifest.components if manifest else ())
    yield "runs", _runs(site)
    yield "clock", _clock(site, manifest)
    if chosen:
        yield "supervisor", _supervisor(chosen, target)
        yield "rights", _rights(site, release, target)
        yield "env", _env(site)
        yield "store", _store(site, release)
    if manifest:
        python = manifest.python
        yield "interpreter", preflight.interpreter(site, python)
        yield "glibc", preflight.glibc(python)
        yield "nginx", _nginx(site, manifest, nginx_directory)
    if release and target:
        yield "content", content.problems(release, target.install.shared)
        yield "shared", preflight.shared_files(site, target.install.shared)
        yield "health", _health(target)


def _name(site: Site, release: Release | None) -> str:
    return release.manifest.name if release else site.root.name


def _lines(error: ConfigurationError) -> list[str]:
    """Return one line for each wrong key or variable."""
    return error.message.splitlines()


def _caught(problems: Iterator[Problem]) -> Iterator[Problem]:
    """Yield what a check finds; what keeps it from being made is a problem, too."""
    try:
        yield from problems
    except (ArtifactError, ProcessManagerError) as error:
        yield Problem(str(error), error.hint)
    except OSError as error:
        yield Problem(f"it cannot be looked at: {error}", "run it as root")


def _supervisor(chosen: Settings, target: Target | None) -> Iterator[Problem]:
    if target is None:
        manager_of(chosen).members()
        return
    if not target.managed:
        return
    found = list(programs.problems(target))
    yield from found
    try:
        yield from programs.details(target)
    except ProcessManagerError:
        if not found:
            raise


def _rights(site: Site, release: Release | None, target: Target | None) -> Iterator[Problem]:
    yield from preflight.rights(site)
    mode = stat.S_IMODE(site.private.stat().st_mode)
    if mode & 0o077:
        yield Problem(
            f"{site.private} has mode {mode:04o}: others can reach the private sockets",
            f"chmod 0700 {site.private}",
        )
    user = application.user_of(site)
    live = (release.directory, release.environment) if release else ()
    for path in (site.root, site.releases, site.environments, site.shared, *live):
        if path.is_dir() and not preflight.has_rights(user, path, 0o5):
            yield Problem(
                f"{path} cannot be read by {user.pw_name}, who the processes run as",
                f"chmod a+rx {path}",
            )
    for relative, is_directory in links.shared_paths(target.install.shared) if target else ():
        path = site.shared / relative
        if is_directory and path.is_dir() and not preflight.has_rights(user, path, 0o7):
            yield Problem(
                f"the shared directory {path} cannot be written by {user.pw_name}, "
                "who the processes run as",
                f"chown {user.pw_name} {path}",
            )


def _env(site: Site) -> Iterator[Problem]:
    yield from preflight.application(site)
    path = site.variables
    if not path.exists():
        return
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & _PRIVATE_TO_OTHERS:
        yield Problem(
            f"{path} has mode {mode:04o}, and holds what others must not read or change",
            f"chmod 0640 {path}",
        )


def _health(target: Target) -> Iterator[Problem]:
    for name, answer in status.ask_processes(target).items() if target.managed else ():
        if not answer.ok:
            process = target.processes[name]
            asked = f"{health.connectable(process.listen)}{health.health_of(process).path}"
            yield Problem(
                f"{name} does not answer well at {asked}: {answer.text}",
                answer.hint or f"artifact status {target.site.root}",
            )


def _runs(site: Site) -> Iterator[Problem]:
    """Find what keeps the next run from starting as it should."""
    frozen = freeze.freeze_of(site)
    if frozen is not None:
        yield Problem(f"installs are refused: {site.root} is {frozen.describe()}", "artifact thaw")
    cut_off = status.cut_off_run(site)
    if cut_off is not None:
        began = cut_off.began
        yield Problem(
            f"the {began.command} {began.version} by {began.who} at {began.time} did not end",
            f"artifact recover {site.root}",
        )


def _store(site: Site, release: Release | None) -> Iterator[Problem]:
    """Ask the configured store for the live release, as an install asks for one."""
    name = _name(site, release)
    try:
        section = settings.load_store(name, str(site.root))
    except ConfigurationError as error:
        yield from (Problem(line, "correct that variable, or unset it") for line in _lines(error))
        return
    if not section.url:
        return
    version = release.manifest.version if release else "1"
    # Whether it is there does not matter: it may have been pruned, or come from a file.
    stores.open_store(section.url, section).stat(addresses.artifact(name, version))


def _nginx(site: Site, manifest: Manifest, directory: Path) -> Iterator[Problem]:
    if not (directory / "nginx.conf").is_file():
        return
    proxy = Nginx(directory)
    place = proxy.place(manifest.name)
    if not place.file.exists():
        return
    proxy.test()
    if place.link is not None and not place.link.exists():
        yield Problem(
            f"{place.file} is not enabled",
            f"ln -s {place.file} {place.link} && nginx -t && nginx -s reload",
        )
    text = place.file.read_text("utf-8", "replace")
    addresses = [one.listen for one in manifest.processes.values() if one.listen]
    if addresses and not any(proxy.upstream(listen) in text for listen in addresses):
        yield Problem(
            f"{place.file} does not pass requests on to {health.connectable(addresses[0])}",
            f"artifact setup {site.root} --nginx",
        )


def _clock(site: Site, manifest: Manifest | None) -> Iterator[Problem]:
    """The clock is behind when something here was made later than now."""
    now = time.time()
    made = {str(path): path.stat().st_mtime for path in (site.journal, site.state) if path.exists()}
    if manifest is not None:
        made[f"the commit of {manifest.reference}"] = manifest.created
    what, latest = max(made.items(), key=lambda item: item[1], default=("", 0.0))
    if latest > now + _CLOCK_SECONDS:
        yield Problem(
            f"the clock says {_shown(now)}, and {what} is of {_shown(latest)}",
            "timedatectl set-ntp true",
        )


def _shown(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
