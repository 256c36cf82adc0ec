"""Where the demo lives, and the server it plays there."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

BIN = Path(sys.executable).parent
START_SECONDS = 10.0
STOP_SECONDS = 60.0
POLL_SECONDS = 0.05


class Wrong(Exception):
    """Something the demo promises did not happen; the message is for whoever runs it."""


@dataclass(frozen=True, slots=True)
class Place:
    """The directory of the demo: the same every time, for an environment cannot be moved."""

    directory: Path

    @property
    def checkout(self) -> Path:
        return self.directory / "checkout"

    @property
    def artifacts(self) -> Path:
        return self.directory / "artifacts"

    @property
    def site(self) -> Path:
        """What /srv/accounting is on a server."""
        return self.directory / "site"

    @property
    def logs(self) -> Path:
        return self.directory / "logs"

    @property
    def supervisor_configuration(self) -> Path:
        return self.directory / "supervisord.conf"

    @property
    def kept(self) -> Path:
        """Says where a demo that was left running serves."""
        return self.directory / "kept.json"


def place() -> Place:
    """Return the demo's place, made if need be."""
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    directory = Path(cache, "artifact-demo").absolute()
    directory.mkdir(parents=True, exist_ok=True)
    return Place(directory)


@contextmanager
def alone(found: Place) -> Iterator[None]:
    """Keep a second demo out for the block."""
    with (found.directory / "lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise Wrong(
                f"another demo is running here (pid {lock.read().strip() or 'unknown'}): "
                "wait for it, or set XDG_CACHE_HOME to another directory"
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def clean(found: Place) -> None:
    """Remove what a demo leaves but what makes the next one fast: environments and caches."""
    for path in (found.checkout, found.artifacts, found.logs):
        remove(path)
    if found.site.is_dir():
        for path in found.site.iterdir():
            if path.name != "virtualenv":
                remove(path)
        # A link into the releases, not an environment.
        (found.site / "virtualenv" / "default").unlink(missing_ok=True)
    found.supervisor_configuration.unlink(missing_ok=True)
    found.kept.unlink(missing_ok=True)


def remove(path: Path) -> None:
    """Remove a file or tree; releases are read-only."""
    if path.is_symlink() or path.is_file():
        path.unlink()
        return
    for directory, _, _ in os.walk(path):
        os.chmod(directory, 0o700)
    shutil.rmtree(path, ignore_errors=not path.exists())


def free_port(preferred: int = 8000) -> int:
    """Return a port nobody listens on, the preferred one where it is free."""
    for port in (preferred, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                number: int = probe.getsockname()[1]
                return number
    raise Wrong("there is no free port on 127.0.0.1")


@dataclass(frozen=True, slots=True)
class Supervisord:
    """A private supervisord; `pid` is the leader of its own session, so ^C does not reach it."""

    pid: int
    url: str


def start_supervisord(found: Place, programs: str) -> Supervisord:
    """Start supervisord with these programs and wait until it answers.

    Raises:
        Wrong: it does not; its log is shown.
    """
    found.logs.mkdir(parents=True, exist_ok=True)
    # Not in the demo's directory: the path of a unix socket is limited to 107 bytes.
    address = Path(tempfile.mkdtemp(prefix="artifact-demo-")) / "supervisor.sock"
    found.supervisor_configuration.write_text(_configuration(found.logs, address) + programs)
    with (found.logs / "supervisord.out").open("wb") as output:
        child = subprocess.Popen(
            [BIN / "supervisord", "-c", found.supervisor_configuration],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=found.directory,
            start_new_session=True,
        )
    running = Supervisord(child.pid, f"unix://{address}")
    try:
        deadline = time.monotonic() + START_SECONDS
        while not address.exists():
            if child.poll() is not None or time.monotonic() > deadline:
                said = (found.logs / "supervisord.out").read_text().strip()
                raise Wrong(f"supervisord does not start:\n{said}")
            time.sleep(POLL_SECONDS)
    except BaseException:
        stop_supervisord(running)
        raise
    return running


def _configuration(logs: Path, address: Path) -> str:
    return f"""\
[supervisord]
nodaemon = true
logfile = {logs / "supervisord.log"}
pidfile = {logs / "supervisord.pid"}
childlogdir = {logs}

[unix_http_server]
file = {address}
chmod = 0700

[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface

[supervisorctl]
serverurl = unix://{address}

"""


def stop_supervisord(running: Supervisord) -> None:
    """Stop it and all it runs, let requests finish, and remove its socket's directory."""
    deadline = time.monotonic() + STOP_SECONDS
    with contextlib.suppress(ProcessLookupError):
        os.kill(running.pid, signal.SIGTERM)
        while time.monotonic() < deadline:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(running.pid, os.WNOHANG)
            os.kill(running.pid, 0)
            time.sleep(POLL_SECONDS)
        os.killpg(running.pid, signal.SIGKILL)
    shutil.rmtree(Path(running.url.removeprefix("unix://")).parent, ignore_errors=True)


def keep(found: Place, running: Supervisord, url: str) -> None:
    """Remember a demo that is left running."""
    found.kept.write_text(json.dumps({"pid": running.pid, "supervisor": running.url, "url": url}))


def kept(found: Place) -> tuple[Supervisord, str] | None:
    """Return the supervisord of a demo that was left running, and where it serves."""
    try:
        row = json.loads(found.kept.read_bytes())
        running = Supervisord(int(row["pid"]), str(row["supervisor"]))
        command = Path(f"/proc/{running.pid}/cmdline").read_bytes()
    except (OSError, ValueError, KeyError):
        return None
    # The machine may have been restarted, and the pid be somebody else's by now.
    mine = str(found.supervisor_configuration).encode() in command
    return (running, str(row["url"])) if mine else None
