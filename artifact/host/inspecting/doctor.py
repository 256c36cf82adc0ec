"""Check a server for a site, before an install has to: every finding comes with its fix."""

from __future__ import annotations

import pwd
import stat
import time
from collections.abc import Callable, Iterator
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
from artifact.host.trees import content, links
from artifact.services import nginx
from artifact.services.process_manager import ProcessManagerError
from artifact.site import ReleasePaths, Site
from artifact.stores import addresses

_CLOCK_SECONDS = 60
"""By which two machines' clocks may differ, and no one should care."""

_PRIVATE_TO_OTHERS = 0o027
"""What the env file grants to nobody: writing for its group, anything for others."""


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


class _Subject(msgspec.Struct, frozen=True):
    site: Site
    settings: Settings
    """The defaults where those of the site are wrong."""
    target: Target | None
    """The live release; None before the first install."""
    nginx: Path


def examine(site: Site, *, nginx_directory: Path = nginx.DIRECTORY) -> Report:
    """Look at everything that an install or a running release of the site depends on.

    Changes nothing. One check that cannot be done does not keep the others from being done.
    """
    findings: list[Finding] = []
    checks = list(_CHECKS)
    chosen = Settings()
    try:
        chosen = settings.load(site)
    except ConfigurationError as error:
        findings += [Finding("settings", line, f"edit {site.settings}") for line in _lines(error)]
        # These would find again what is wrong there, or judge by what nobody has set.
        checks = [name for name in _CHECKS if name not in _NEED_SETTINGS]
    live = releases.live_version(site)
    target = None
    try:
        target = Target(site, releases.read(site, live).manifest, chosen) if live else None
    except Refused as error:
        findings.append(Finding("release", error.message, error.hint))
    if not live:
        nothing = history.nothing_live(site)
        findings.append(Finding("release", nothing.text, nothing.hint))
    subject = _Subject(site, chosen, target, nginx_directory)
    for name in checks:
        findings += [
            # What raises without a hint is what a setup puts in place: a user, a directory.
            Finding(name, one.text, one.hint or f"artifact setup {site.root}")
            for one in _checked(_CHECKS[name], subject)
        ]
    return Report(
        site=site,
        name=target.manifest.name if target else site.root.name,
        live=live,
        checks=("settings", "release", *checks),
        findings=tuple(findings),
    )


def _lines(error: ConfigurationError) -> list[str]:
    """Return one line for each wrong key or variable."""
    return error.message.splitlines()


def _checked(
    check: Callable[[_Subject], Iterator[Problem]], subject: _Subject
) -> Iterator[Problem]:
    try:
        yield from check(subject)
    except ArtifactError as error:
        yield Problem(error.message, error.hint)
    except ProcessManagerError as error:
        yield Problem(str(error), error.hint)
    except OSError as error:
        yield Problem(f"it cannot be looked at: {error}", "run it as root")


def _supervisor(subject: _Subject) -> Iterator[Problem]:
    if subject.target is None:
        manager_of(subject.settings).members()
        return
    if not subject.target.managed:
        return
    found = list(programs.problems(subject.target))
    yield from found
    try:
        yield from programs.details(subject.target)
    except ProcessManagerError:
        if not found:
            raise


def _disk(subject: _Subject) -> Iterator[Problem]:
    """The next release is as large as the live one, until it is known."""
    components = subject.target.manifest.components if subject.target else ()
    yield from preflight.room(subject.site, components)


def _rights(subject: _Subject) -> Iterator[Problem]:
    site = subject.site
    yield from preflight.rights(site)
    mode = stat.S_IMODE(site.private.stat().st_mode)
    if mode & 0o077:
        yield Problem(
            f"{site.private} has mode {mode:04o}: others can reach the private sockets",
            f"chmod 0700 {site.private}",
        )
    user = application.user_of(site)
    for path in (site.root, site.releases, site.environments, site.shared, *_live(subject)):
        if path.is_dir() and not preflight.may(user, path, 0o5):
            yield Problem(
                f"{path} cannot be read by {user.pw_name}, who the processes run as",
                f"chmod a+rx {path}",
            )
    if subject.target is not None:
        yield from _shared_directories(subject.target, user)


def _shared_directories(target: Target, user: pwd.struct_passwd) -> Iterator[Problem]:
    for relative, is_directory in links.shared_paths(target.install.shared):
        path = target.site.shared / relative
        if is_directory and path.is_dir() and not preflight.may(user, path, 0o7):
            yield Problem(
                f"the shared directory {path} cannot be written by {user.pw_name}, "
                "who the processes run as",
                f"chown {user.pw_name} {path}",
            )


def _live(subject: _Subject) -> Iterator[Path]:
    if subject.target is not None:
        release = subject.site.release(subject.target.manifest.version)
        yield release
        yield ReleasePaths(release).environment.resolve()


def _content(subject: _Subject) -> Iterator[Problem]:
    if subject.target is not None:
        release = releases.read(subject.site, subject.target.manifest.version)
        yield from content.problems(release, subject.target.install.shared)


def _interpreter(subject: _Subject) -> Iterator[Problem]:
    if subject.target is not None:
        yield from preflight.interpreter(subject.target.manifest.python)
        yield from preflight.readable(subject.site, subject.target.manifest.python)


def _glibc(subject: _Subject) -> Iterator[Problem]:
    if subject.target is not None:
        yield from preflight.glibc(subject.target.manifest.python)


def _shared(subject: _Subject) -> Iterator[Problem]:
    if subject.target is not None:
        yield from preflight.shared_files(subject.site, subject.target.install.shared)


def _env(subject: _Subject) -> Iterator[Problem]:
    yield from preflight.application(subject.site)
    path = subject.site.variables
    if not path.exists():
        return
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & _PRIVATE_TO_OTHERS:
        yield Problem(
            f"{path} has mode {mode:04o}, and holds what others must not read or change",
            f"chmod 0640 {path}",
        )


def _health(subject: _Subject) -> Iterator[Problem]:
    if subject.target is None or not subject.target.managed:
        return
    for name, answer in status.ask_processes(subject.target).items():
        if not answer.ok:
            process = subject.target.processes[name]
            asked = f"{health.connectable(process.listen)}{health.health_of(process).path}"
            yield Problem(
                f"{name} does not answer well at {asked}: {answer.text}",
                answer.hint or f"artifact status {subject.site.root}",
            )


def _runs(subject: _Subject) -> Iterator[Problem]:
    """Find what keeps the next run from starting as it should."""
    site = subject.site
    frozen = freeze.read(site)
    if frozen is not None:
        yield Problem(f"installs are refused: {site.root} is {frozen.describe()}", "artifact thaw")
    cut_off = status.cut_off_run(site)
    if cut_off is not None:
        began = cut_off.began
        yield Problem(
            f"the {began.command} {began.version} by {began.who} at {began.time} did not end",
            f"artifact recover {site.root}",
        )


def _store(subject: _Subject) -> Iterator[Problem]:
    """Ask the configured store for the live release, as an install asks for one."""
    named = subject.target.manifest.name if subject.target else subject.site.root.name
    try:
        section = settings.load_store(named, str(subject.site.root))
    except ConfigurationError as error:
        yield from (Problem(line, "correct that variable, or unset it") for line in _lines(error))
        return
    if not section.url:
        return
    version = subject.target.manifest.version if subject.target else "1"
    # Whether it is there does not matter: it may have been pruned, or come from a file.
    stores.open_store(section.url, section).stat(addresses.artifact(named, version))


def _nginx(subject: _Subject) -> Iterator[Problem]:
    if subject.target is None or not (subject.nginx / "nginx.conf").is_file():
        return
    place = nginx.place(subject.nginx, subject.target.manifest.name)
    if not place.file.exists():
        return
    nginx.test(place.main)
    if place.link is not None and not place.link.exists():
        yield Problem(
            f"{place.file} is not enabled",
            f"ln -s {place.file} {place.link} && nginx -t && nginx -s reload",
        )
    text = place.file.read_text("utf-8", "replace")
    addresses = [one.listen for one in subject.target.manifest.processes.values() if one.listen]
    if addresses and not any(nginx.address(listen) in text for listen in addresses):
        yield Problem(
            f"{place.file} does not pass requests on to {health.connectable(addresses[0])}",
            f"artifact setup {subject.site.root} --nginx",
        )


def _clock(subject: _Subject) -> Iterator[Problem]:
    """The clock is behind when something here was made later than now."""
    site, now = subject.site, time.time()
    made = {str(path): path.stat().st_mtime for path in (site.journal, site.state) if path.exists()}
    if subject.target is not None:
        made[f"the commit of {subject.target.manifest.reference}"] = subject.target.manifest.created
    what, latest = max(made.items(), key=lambda item: item[1], default=("", 0.0))
    if latest > now + _CLOCK_SECONDS:
        yield Problem(
            f"the clock says {_shown(now)}, and {what} is of {_shown(latest)}",
            "timedatectl set-ntp true",
        )


def _shown(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


_CHECKS: dict[str, Callable[[_Subject], Iterator[Problem]]] = {
    "supervisor": _supervisor,
    "disk": _disk,
    "rights": _rights,
    "content": _content,
    "interpreter": _interpreter,
    "glibc": _glibc,
    "shared": _shared,
    "env": _env,
    "health": _health,
    "runs": _runs,
    "store": _store,
    "nginx": _nginx,
    "clock": _clock,
}

_NEED_SETTINGS = frozenset({"supervisor", "rights", "content", "shared", "env", "health", "store"})
