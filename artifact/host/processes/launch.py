"""Become a process of the live release: what supervisor runs, through `artifact exec`.

Everything is resolved to real paths once and then stays: an old worker must never import the new
release's modules, nor anything follow `current` while it serves.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import pwd
import signal
import socket
import stat
from collections.abc import Callable
from pathlib import Path

from artifact import files, process, variables
from artifact.errors import Refused, UsageError
from artifact.host.processes import application, servers
from artifact.host.records import releases, state
from artifact.host.records.releases import Release
from artifact.manifest import Process
from artifact.services import sockets
from artifact.site import Site

TRIAL = "trial"
"""In place of a slot's number: the boot on a private socket, before a release may go live."""

_KEPT_DESCRIPTOR = 10
"""Where the lease goes: above the sockets that servers count from 3."""


def become_slot(site: Site, name: str, slot: int) -> None:
    """Become the server of a slot, or sleep holding the socket where the slot is idle.

    Raises:
        UsageError: there is no such process, or supervisor did not give us its socket.
    """
    versions = state.read(site.state).slots.get(name, (state.IDLE, state.IDLE))
    if slot not in range(len(versions)):
        raise UsageError(f"there is no slot {slot}; there are 0 and 1")
    if not stat.S_ISSOCK(os.fstat(0).st_mode):
        raise UsageError(
            "descriptor 0 is not a socket",
            hint="a slot is started by supervisor, from an [fcgi-program]",
        )
    if versions[slot] == state.IDLE:
        _say(site, name, slot, state.IDLE)
        _sleep()
    _serve(site, name, versions[slot], slot=slot, called=slot)


def become_worker(site: Site, name: str, number: int | None = None) -> None:
    """Become a process that has no slots.

    Args:
        number: of one whose even and odd ones take turns: what its set is to run stands in the
            site's state. The only set there is runs the release that `current` points at.
    """
    called = variables.get("SUPERVISOR_PROCESS_NAME")
    if number is None:
        version = releases.live_version(site)
    else:
        versions = state.read(site.state).slots.get(name, (state.IDLE, state.IDLE))
        version = versions[number % len(versions)]
    if not version:
        _say(site, name, called, state.IDLE)
        _sleep()
    _serve(site, name, version, slot=None, called=called, number=number)


def become_trial(site: Site, name: str, version: str, parent: int = 0) -> None:
    """Become a small server of any release, on a private socket alone.

    Args:
        parent: the process that started us; we end when it has ended. 0 for whoever that is.
    """
    _serve(site, name, version, slot=TRIAL, called=TRIAL, parent=parent or os.getppid())


def _serve(
    site: Site,
    name: str,
    version: str,
    *,
    slot: int | str | None,
    called: int | str,
    number: int | None = None,
    parent: int = 0,
) -> None:
    """Become a process of a release.

    Args:
        number: tells a worker from its like.
        slot: gets the sockets of this slot; None for one that listens by itself, or not at all.
        called: under which name it leaves word of what it became; "" leaves none.
        parent: with whom a trial ends.
    """
    _keep_to_ourselves()
    lease = _lease(site, version)
    found = releases.read(site, version)
    described = _process(found, name)
    user = application.user_of(site)
    environment = application.environment_of(site, found)
    sockets = 0
    if slot is not None:
        sockets = _place_sockets(site, name, slot, private=servers.answers_privately(described))
        environment["LISTEN_FDS"] = str(sockets)
        environment["LISTEN_PID"] = str(os.getpid())
    argv = servers.argv(found.manifest, name, found.environment, sockets=sockets)
    if number is not None:
        argv = servers.with_worker_name(argv, described, name, number)
    if slot == TRIAL:
        argv = servers.with_one_worker(argv, described.server)
    draining = _opened(servers.DRAINING)
    if slot is not None:
        ready = site.ready(name, slot)
        ready.unlink(missing_ok=True)
        if str(servers.DRAINING) in argv:
            environment["ARTIFACT_READY"] = _ready_file(ready, user)
    _say(site, name, called, version)
    os.set_inheritable(lease, True)  # noqa: FBT003 - it has no name
    os.chdir(found.directory)
    # Now, for the site's user may not be able to read, and so to import, anything of ours.
    end_with_parent = _ending_with(parent) if slot == TRIAL else _nothing
    _drop_privileges(user)
    end_with_parent()
    _become([_reachable(word, draining) for word in argv], environment)


def _become(argv: list[str], environment: dict[str, str]) -> None:
    try:
        process.become(argv, environment)
    except process.ChildFailed as error:
        raise Refused(
            str(error), hint=f"can uid {os.geteuid()} enter every directory above it?"
        ) from error


def _process(found: Release, name: str) -> Process:
    try:
        return found.manifest.processes[name]
    except KeyError:
        known = ", ".join(sorted(found.manifest.processes)) or "none"
        raise UsageError(
            f"{found.manifest.reference} has no process {name!r}", hint=f"it has: {known}"
        ) from None


def _say(site: Site, name: str, called: int | str, version: str) -> None:
    """Leave word of what this process becomes; before the first install there is no place to."""
    path = site.running(name, called)
    if called == "" or not site.private.is_dir():
        return
    path.parent.mkdir(mode=0o700, exist_ok=True)
    try:
        state.write_running(path, state.Running(pid=os.getpid(), version=version))
    except OSError as error:
        if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
            raise
        # It serves all the same: a full disk must not keep what crashed from being started again.


def _lease(site: Site, version: str) -> int:
    """Share the release's lock for as long as this process or anything it starts lives."""
    path = site.lease(version)
    path.parent.mkdir(parents=True, exist_ok=True)
    with files.flocked(path, fcntl.LOCK_SH) as descriptor:
        # The lock belongs to the copy as well.
        return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, _KEPT_DESCRIPTOR)


def _place_sockets(site: Site, name: str, slot: int | str, *, private: bool) -> int:
    """Put the sockets where servers look for them, from descriptor 3 on; return how many."""
    wanted = [] if slot == TRIAL else [os.dup(0)]
    if private or slot == TRIAL:
        wanted.append(_listen_privately(site.health_socket(name, slot)))
    # First out of the way: one may stand where another belongs.
    high = [fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, _KEPT_DESCRIPTOR) for number in wanted]
    for position, number in enumerate(high):
        os.dup2(number, servers.FIRST_DESCRIPTOR + position, inheritable=True)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    return len(high)


def _listen_privately(path: Path) -> int:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    with sockets.short_path(path) as address:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(address)
    listener.listen(16)
    return listener.detach()


def _opened(path: Path) -> int:
    opened = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    kept = fcntl.fcntl(opened, fcntl.F_DUPFD_CLOEXEC, _KEPT_DESCRIPTOR)
    os.close(opened)
    return kept


def _ready_file(path: Path, user: pwd.struct_passwd) -> str:
    """Make the empty file that a server writes to when it accepts; return how its user opens it."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    if os.geteuid() == 0:
        os.fchown(opened, user.pw_uid, user.pw_gid)
    kept = fcntl.fcntl(opened, fcntl.F_DUPFD, _KEPT_DESCRIPTOR)
    os.close(opened)
    return f"/proc/{os.getpid()}/fd/{kept}"


def _reachable(word: str, draining: int) -> str:
    """Return how the site's user reads `servers.DRAINING`, though we be installed in /root."""
    if word != str(servers.DRAINING) or os.access(word, os.R_OK):
        return word
    os.set_inheritable(draining, True)  # noqa: FBT003 - it has no name
    # Not "self": what the server starts opens it as well.
    return f"/proc/{os.getpid()}/fd/{draining}"


def _drop_privileges(user: pwd.struct_passwd) -> None:
    if os.geteuid() != 0 or user.pw_uid == 0:
        return
    os.initgroups(user.pw_name, user.pw_gid)
    os.setgid(user.pw_gid)
    os.setuid(user.pw_uid)


def _ending_with(parent: int) -> Callable[[], None]:
    """Return what has the kernel send TERM when the install that tries a release is killed."""
    import ctypes  # only the trial of a release needs it

    library = ctypes.CDLL(None)

    def end_with_parent() -> None:
        # prctl(2): PR_SET_PDEATHSIG; it survives exec, but not a change of user, so it comes last.
        library.prctl(1, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != parent:  # killed before that: nobody will send it
            os.kill(os.getpid(), signal.SIGKILL)

    return end_with_parent


def _nothing() -> None: ...


def _keep_to_ourselves() -> None:
    """Have nothing that our caller left open reach the application, which is another user's."""
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2:
            with contextlib.suppress(OSError):  # the one that lists them
                os.set_inheritable(int(name), False)  # noqa: FBT003 - it has no name


def _sleep() -> None:
    """Hold the socket and do nothing, in half a megabyte instead of Python's ten."""
    _keep_to_ourselves()
    process.become(["sleep", "infinity"], variables.everything())
