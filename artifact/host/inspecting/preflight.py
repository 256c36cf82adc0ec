"""Find everything that would make an install fail, all at once, before anything is changed."""

from __future__ import annotations

import json
import os
import pwd
from collections.abc import Iterator, Sequence
from pathlib import Path

from artifact import process
from artifact.errors import ArtifactRejected, ConfigurationError
from artifact.host.inspecting.observe import Facts
from artifact.host.processes import programs
from artifact.host.processes.application import user_of
from artifact.host.processes.target import Target
from artifact.host.records import settings
from artifact.host.records.problem import Problem
from artifact.host.trees import content, links, unpack
from artifact.manifest import Component, Manifest, Python
from artifact.site import Site

_BLOCK = 4096
_SPARE_BYTES = 32 << 20
_SPARE_INODES = 200
"""Journal, links, logs, and whatever else writes to this disk meanwhile."""

_PROBE = (
    "import json, platform, sys, sysconfig;"
    "print(json.dumps([sys.implementation.name, platform.python_version(),"
    " sysconfig.get_config_var('SOABI') or '']))"
)


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
        *problems_of_release(facts.target, artifact_command),
        *_space(facts),
        *_content(facts),
    ]


def problems_of_release(target: Target, artifact_command: str = "") -> list[Problem]:
    """Return all reasons not to switch to a release that is in the site.

    Args:
        artifact_command: as for `problems`; without it no hint shows a program.
    """
    return [
        *rights(target.site),
        *interpreter(target.site, target.manifest.python),
        *glibc(target.manifest.python),
        *shared_files(target.site, target.install.shared),
        *application(target.site),
        *(programs.problems(target, artifact_command) if target.managed else ()),
    ]


def rights(site: Site) -> Iterator[Problem]:
    """Find directories of the site that we cannot write, or that lie on different file systems."""
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
    names = unpack.to_unpack(facts.artifact, facts.environment, facts.release)
    components = [facts.manifest.component(name) for name in names]
    if not components:
        return
    yield from room(facts.site, components, fetched=sum(facts.fetch.values()))


def room(site: Site, components: Sequence[Component], fetched: int = 0) -> Iterator[Problem]:
    """Find whether there is too little disk, or too few inodes, to unpack these components.

    Args:
        fetched: bytes that lie beside them until they are unpacked.
    """
    entries = sum(component.entries for component in components)
    wanted = sum(component.raw for component in components) + entries * _BLOCK // 2 + fetched
    disk = os.statvfs(_existing(site.private))
    free = disk.f_bavail * disk.f_frsize
    if free < wanted + _SPARE_BYTES:
        yield Problem(
            f"{site.root} has {free >> 20} MiB free and needs "
            f"{(wanted + _SPARE_BYTES) >> 20}: {(wanted + _SPARE_BYTES - free + 1048575) >> 20} "
            "MiB are missing",
            "delete old releases, or enlarge the disk",
        )
    # Some file systems make inodes as they need them and say 0.
    if disk.f_files and disk.f_favail < entries + _SPARE_INODES:
        yield Problem(
            f"{site.root} has {disk.f_favail} inodes free and needs {entries + _SPARE_INODES}: "
            f"{entries + _SPARE_INODES - disk.f_favail} are missing",
            "delete old releases, or make the file system anew with more inodes (mkfs -N)",
        )


def interpreter(site: Site, wanted: Python) -> Iterator[Problem]:
    """Find whether the interpreter that the environment was compiled for is not here.

    The artifact names it, so it runs as the site's user, who has to reach it.
    """
    try:
        user = user_of(site)
    except ConfigurationError:
        return  # said elsewhere
    path = wanted.interpreter
    try:
        argv = [path, "-I", "-c", _PROBE]
        answer = process.read(argv, cwd=Path("/"), env={}, user=user, timeout=30)
        name, version, abi = json.loads(answer)
    except (process.ChildFailed, ValueError, TypeError) as error:
        yield _unreachable(user, wanted) or Problem(
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


def _unreachable(user: pwd.struct_passwd, wanted: Python) -> Problem | None:
    """Find which directory keeps the processes' user from an interpreter that is there."""
    try:
        real = Path(wanted.interpreter).resolve(strict=True)
    except OSError:
        return None
    closed = next((one for one in reversed(real.parents) if not has_rights(user, one, 0o1)), None)
    if closed is None:
        return None
    return Problem(
        f"{user.pw_name}, who the processes run as, cannot reach the interpreter {real}: "
        f"{closed} is closed to others",
        f"install the interpreter where all can read it, or: chmod a+x {closed}",
    )


def has_rights(user: pwd.struct_passwd, path: Path, wanted: int) -> bool:
    """Tell whether a user has these rights (of 0o7), going by the mode alone."""
    if user.pw_uid == 0:
        return True
    info = path.stat()
    if info.st_uid == user.pw_uid:
        return (info.st_mode >> 6) & wanted == wanted
    if info.st_gid in os.getgrouplist(user.pw_name, user.pw_gid):
        return (info.st_mode >> 3) & wanted == wanted
    return info.st_mode & wanted == wanted


def glibc(wanted: Python) -> Iterator[Problem]:
    """Find whether the system's C library is older than what was compiled needs."""
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
    if facts.release and facts.live.version == facts.manifest.version:
        yield Problem(
            f"the live release {facts.site.release(facts.live.version)} is not what was installed: "
            f"{facts.release}",
            content.ANEW,
        )


def shared_files(site: Site, shared: Sequence[str]) -> Iterator[Problem]:
    """Find the shared files that are missing."""
    try:
        missing = links.missing_files(site, shared)
    except ConfigurationError as error:
        yield Problem(error.message, error.hint)
        return
    for path in missing:
        yield Problem(f"the shared file {path} is missing", "put it there; it is never invented")


def application(site: Site) -> Iterator[Problem]:
    """Find whether the user is missing, or the env file cannot be read."""
    try:
        user_of(site)
        settings.application_variables(site)
    except ConfigurationError as error:
        yield Problem(error.message, error.hint)


def _existing(path: Path) -> Path:
    """Return the path, or the nearest directory above it that exists."""
    while not path.exists():
        path = path.parent
    return path
