"""A supervisord with a configuration of its own, on a socket that nobody else knows."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from artifact.services.process_manager import ProcessManagerError
from artifact.services.supervisor import Supervisor
from surroundings.waiting import NotReady, await_

PROGRAMS = {
    "pypi": str(Path(sys.executable).with_name("supervisord")),
    "debian": "/usr/bin/supervisord",
}
CONFIGURATION = "supervisord.conf"
"""Name of the main file."""
_STOP_SECONDS = 60.0
_POLL_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Supervisord:
    """A running one; its pid leads a session of its own, so ^C does not reach it."""

    pid: int
    url: str
    """With user and password, where it wants them."""
    child: subprocess.Popen[bytes] | None = None
    """None where another process started it."""

    @property
    def sockets(self) -> Path:
        return Path(self.url.rpartition("@")[2].removeprefix("unix://")).parent


@contextmanager
def running(
    home: Path, programs: str, *, which: str = "pypi", credentials: tuple[str, str] = ("", "")
) -> Iterator[Supervisord]:
    """Run it for the block; then it and all it started are killed."""
    started = start(home, programs, which=which, credentials=credentials)
    try:
        yield started
    finally:
        kill(started)


def start(
    home: Path, programs: str, *, which: str = "pypi", credentials: tuple[str, str] = ("", "")
) -> Supervisord:
    """Start it with these sections of a configuration, and wait until it answers.

    Args:
        home: an existing directory for its configuration and its logs.
        which: a key of PROGRAMS.
        credentials: user and password that it wants.

    Raises:
        NotReady: it does not answer; the message holds what it printed.
    """
    program = PROGRAMS[which]
    if not shutil.which(program):
        raise NotReady(f"{program} is missing: apt-get install supervisor")
    # Not below `home`: the path of a unix socket has 107 bytes at most.
    sockets = Path(tempfile.mkdtemp(prefix="supervisor-"))
    main = home / CONFIGURATION
    main.write_text(_configuration(home, sockets / "s", credentials) + programs, encoding="utf-8")
    output = home / "supervisord.out"
    with output.open("wb") as sink:
        child = subprocess.Popen(
            [program, "-c", CONFIGURATION],  # relative, as people start it
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            cwd=home,
            start_new_session=True,
        )
    secret = ":".join(credentials) + "@" if any(credentials) else ""
    started = Supervisord(child.pid, f"unix://{secret}{sockets}/s", child)

    def answers() -> bool:
        if child.poll() is not None:
            raise NotReady(f"supervisord does not start:\n{output.read_text().strip()}")
        try:
            Supervisor(started.url).members()
        except ProcessManagerError:
            return False
        return True

    try:
        await_("supervisord's answer", answers)
    except BaseException:
        kill(started)
        raise
    return started


def stop(started: Supervisord) -> None:
    """Ask it to end, and wait until all that it runs has ended: requests are finished."""
    deadline = time.monotonic() + _STOP_SECONDS
    with contextlib.suppress(ProcessLookupError):
        os.kill(started.pid, signal.SIGTERM)
        while time.monotonic() < deadline:
            if started.child is not None:
                started.child.poll()
            os.kill(started.pid, 0)
            time.sleep(_POLL_SECONDS)
        os.killpg(started.pid, signal.SIGKILL)
    _forget(started)


def kill(started: Supervisord) -> None:
    """Kill it and all it started: asked to end, it takes a second and more."""
    if started.child is None or started.child.poll() is None:
        _kill_all(started)
    _forget(started)


def _kill_all(started: Supervisord) -> None:
    everybody = [started.pid]
    with contextlib.suppress(psutil.Error):
        everybody += [one.pid for one in psutil.Process(started.pid).children(recursive=True)]
    for pid in everybody:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def kill_alone(started: Supervisord) -> None:
    """Kill it and nothing that it started, as a machine without memory does; its socket stays."""
    assert started.child is not None
    started.child.kill()
    started.child.wait(30)


def _forget(started: Supervisord) -> None:
    if started.child is not None:
        started.child.wait(30)
    shutil.rmtree(started.sockets, ignore_errors=True)


def _configuration(home: Path, socket: Path, credentials: tuple[str, str]) -> str:
    user, password = credentials
    secret = f"username = {user}\npassword = {password}\n" if user else ""
    return f"""\
; as a person writes it
[supervisord]
nodaemon = true
logfile = {home}/supervisord.log ; its log
pidfile = {home}/supervisord.pid
childlogdir = {home}

[unix_http_server]
file = {socket}
chmod = 0700
{secret}
[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface

[supervisorctl]
serverurl = unix://{socket}

"""
