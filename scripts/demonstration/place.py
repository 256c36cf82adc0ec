"""Where the demo lives, and the server it plays there."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from surroundings import supervisord
from surroundings.supervisord import Supervisord
from surroundings.waiting import NotReady

BIN = Path(sys.executable).parent
STOP_SECONDS = 60.0


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


def start_supervisord(found: Place, programs: str) -> Supervisord:
    """Start the demo's supervisord with these programs.

    Raises:
        Wrong: it does not start.
    """
    found.logs.mkdir(parents=True, exist_ok=True)
    try:
        return supervisord.start(found.logs, programs)
    except NotReady as error:
        raise Wrong(str(error)) from error


def keep(found: Place, running: Supervisord, url: str) -> None:
    """Remember a demo that is left running."""
    found.kept.write_text(json.dumps({"pid": running.pid, "supervisor": running.url, "url": url}))


def kept(found: Place) -> tuple[Supervisord, str] | None:
    """Return the supervisord of a demo that was left running, and where it serves."""
    try:
        row = json.loads(found.kept.read_bytes())
        running = Supervisord(int(row["pid"]), str(row["supervisor"]))
        works_in = Path(f"/proc/{running.pid}/cwd").readlink()
    except (OSError, ValueError, KeyError):
        return None
    # The machine may have been restarted, and the pid be somebody else's by now.
    return (running, str(row["url"])) if works_in == found.logs.resolve() else None
