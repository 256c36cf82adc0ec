"""Find everything that would make an install fail, all at once, before anything is changed."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from artifact import process
from artifact.errors import ArtifactRejected, ConfigurationError
from artifact.host import launch, links, settings, unpack
from artifact.host.observe import Facts
from artifact.manifest import Manifest, Python
from artifact.services import supervisor

_BLOCK = 4096
_SPARE_BYTES = 32 << 20
_SPARE_INODES = 200
"""Journal, links, logs, and whatever else writes to this disk meanwhile."""

_PROBE = (
    "import json, platform, sys, sysconfig;"
    "print(json.dumps([sys.implementation.name, platform.python_version(),"
    " sysconfig.get_config_var('SOABI') or '']))"
)


@dataclass(frozen=True, slots=True)
class Problem:
    """A reason not to install, and what to do about it."""

    text: str
    hint: str


def check_platform(manifest: Manifest) -> None:
    """Compare the kind of machine.

    Raises:
        ArtifactRejected: the artifact can never run here.
    """
    here = f"linux-{os.uname().machine}"
    if manifest.python.platform != here:
        raise ArtifactRejected(
            f"{manifest.reference} is for {manifest.python.platform}; this machine is {here}",
            hint="build it on a machine like this one",
        )


def problems(facts: Facts, *, artifact_command: str) -> list[Problem]:
    """Return all reasons not to install; an empty list when there are none.

    Args:
        artifact_command: what supervisor is to run, for the program that a hint shows.
    """
    return [
        *_rights(facts),
        *_space(facts),
        *_interpreter(facts.manifest.python),
        *_glibc(facts.manifest.python),
        *_content(facts),
        *_shared(facts),
        *_user(facts),
        *_supervisor(facts, artifact_command),
    ]


def _rights(facts: Facts) -> Iterator[Problem]:
    site = facts.site
    for path in (site.root, site.releases, site.environments, site.private, site.shared):
        there = _existing(path)
        if not os.access(there, os.W_OK | os.X_OK):
            yield Problem(
                f"{there} cannot be written by uid {os.geteuid()}",
                "run as the site's owner, or: "
                f"sudo install -d -o {os.geteuid()} {site.root}; then repeat",
            )
    devices = {
        _existing(path).stat().st_dev for path in (site.private, site.releases, site.environments)
    }
    if len(devices) > 1:
        yield Problem(
            f"{site.root}'s releases, virtualenv and .artifact are on different file systems",
            "put them on one: a rename between file systems is not one step",
        )


def _space(facts: Facts) -> Iterator[Problem]:
    names = [unpack.ENVIRONMENT] if facts.environment is None else []
    names += unpack.of_release(facts.artifact) if facts.release != "" else ()
    components = [facts.manifest.component(name) for name in names]
    if not components:
        return
    entries = sum(component.entries for component in components)
    wanted = sum(component.raw for component in components) + entries * _BLOCK // 2
    disk = os.statvfs(_existing(facts.site.private))
    free = disk.f_bavail * disk.f_frsize
    if free < wanted + _SPARE_BYTES:
        yield Problem(
            f"{facts.site.root} has {free >> 20} MiB free and needs "
            f"{(wanted + _SPARE_BYTES) >> 20}: {(wanted + _SPARE_BYTES - free + 1048575) >> 20} "
            "MiB are missing",
            "delete old releases, or enlarge the disk",
        )
    # Some file systems make inodes as they need them and say 0.
    if disk.f_files and disk.f_favail < entries + _SPARE_INODES:
        yield Problem(
            f"{facts.site.root} has {disk.f_favail} inodes free and needs "
            f"{entries + _SPARE_INODES}",
            "delete old releases, or make the file system anew with more inodes (mkfs -N)",
        )


def _interpreter(wanted: Python) -> Iterator[Problem]:
    path = wanted.interpreter
    try:
        answer = process.read([path, "-I", "-c", _PROBE], env={}, timeout=30)
        name, version, abi = json.loads(answer)
    except (process.ChildFailed, ValueError) as error:
        yield Problem(
            f"the application's interpreter {path} does not work here: {error}",
            f"install {wanted.implementation} {wanted.version} at that path",
        )
        return
    found = f"{name} {version} ({abi})"
    needed = f"{wanted.implementation} {wanted.version} ({wanted.abi})"
    if found != needed:
        yield Problem(
            f"{path} is {found}; the environment was compiled for {needed}",
            "build on a machine with this server's interpreter, or install the other one here",
        )


def _glibc(wanted: Python) -> Iterator[Problem]:
    if not wanted.glibc:
        return
    try:
        here = (os.confstr("CS_GNU_LIBC_VERSION") or "").removeprefix("glibc ")
    except (ValueError, OSError):
        here = ""
    if _numbers(here) < _numbers(wanted.glibc):
        yield Problem(
            f"the environment needs glibc {wanted.glibc}; this machine has {here or 'none'}",
            "build on the oldest distribution you deploy to",
        )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def _content(facts: Facts) -> Iterator[Problem]:
    if facts.environment:
        path = facts.site.environment(facts.manifest.environment.key)
        yield Problem(
            f"the environment {path} is not the artifact's: {facts.environment}",
            "if no build is at work on it, somebody changed it: move it away, then repeat",
        )
    if facts.release and facts.live == facts.manifest.version:
        yield Problem(
            f"the live release {facts.site.release(facts.live)} is not what was installed: "
            f"{facts.release}",
            "put it back as it was, or install another version",
        )


def _shared(facts: Facts) -> Iterator[Problem]:
    try:
        missing = links.missing_files(facts.site, facts.install.shared)
    except ConfigurationError as error:
        yield Problem(error.message, error.hint)
        return
    for path in missing:
        yield Problem(f"the shared file {path} is missing", "put it there; it is never invented")


def _user(facts: Facts) -> Iterator[Problem]:
    try:
        launch.user_of(facts.site)
        settings.application_variables(facts.site)
    except ConfigurationError as error:
        yield Problem(error.message, error.hint)


def _supervisor(facts: Facts, artifact_command: str) -> Iterator[Problem]:
    if not facts.managed:
        return
    try:
        members = supervisor.members(facts.settings.supervisor.url)
    except supervisor.SupervisorError as error:
        hint = 'or, to switch links only, site.toml: [install] restart = "none"'
        yield Problem(str(error), f"{error.hint}; {hint}" if error.hint else hint)
        return
    for name in facts.manifest.processes:
        program = supervisor.program_name(facts.manifest.name, name)
        found = [member.process for member in members if member.program == program]
        slots = facts.in_slots(name)
        if not found:
            yield Problem(
                f"program {program} is not known to supervisor",
                "add this to its configuration, then `supervisorctl update`:\n"
                + supervisor.program(
                    facts.site,
                    facts.manifest,
                    name,
                    command=artifact_command,
                    slots=slots,
                    user=facts.settings.user,
                ),
            )
        elif slots and sorted(found) != [f"slot_{n}" for n in range(supervisor.SLOTS)]:
            yield Problem(
                f"program {program} has the processes {', '.join(sorted(found))}, not two slots",
                'make it the [fcgi-program] of docs, or site.toml: [install] restart = "graceful"',
            )


def _existing(path: Path) -> Path:
    """Return the path, or the nearest directory above it that exists."""
    while not path.exists():
        path = path.parent
    return path
