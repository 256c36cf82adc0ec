"""Ask a server over its socket whether it serves."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from artifact.manifest import Health, Process

if TYPE_CHECKING:
    import socket

ENOUGH = 3
"""Answers in a row that settle it, good or wrong."""

_REQUEST_SECONDS = 10.0
_LONGEST_HEAD_BYTES = 65536
ANY_ANSWER = Health(status=())
"""Of a process without a health path: anything but a server error will do."""


class Answer(msgspec.Struct, frozen=True):
    """What came back."""

    ok: bool
    text: str
    """ "200 OK", "500 Internal Server Error", "connection refused"…"""
    hint: str = ""
    status: int = 0
    """0 where no HTTP came back."""

    @property
    def wrong(self) -> bool:
        """Tell whether it is up and wrong; 503 is what one that is warming up says."""
        return not self.ok and self.status not in {0, 503}


def of(process: Process) -> Health:
    """Return how a process wants to be asked."""
    return process.health or ANY_ANSWER


def ask(address: str | Path, health: Health, *, timeout: float = _REQUEST_SECONDS) -> Answer:
    """Send one GET and judge its status; never raises for what the other side does.

    Args:
        address: "127.0.0.1:8000", "unix:/path" or the path of a unix socket.
        timeout: seconds for the whole exchange.
    """
    # By hand: http.client costs 50 ms to import, and only the first line is of interest.
    deadline = time.monotonic() + timeout
    request = (
        f"GET {health.path} HTTP/1.1\r\nHost: {health.host or 'localhost'}\r\n"
        "User-Agent: artifact\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    )
    try:
        with _connected(address, timeout) as connection:
            connection.sendall(request.encode())
            head = _read_line(connection, deadline)
    except TimeoutError:
        return Answer(ok=False, text=f"no answer within {timeout:g} s")
    except OSError as error:
        return Answer(ok=False, text=(error.strerror or str(error)).lower())
    return _judge(head, health)


def connectable(listen: str) -> str:
    """Return the address to connect to for one to listen on: any host becomes this one."""
    if listen.startswith("unix:"):
        return listen
    host, _, port = listen.rpartition(":")
    return f"{ {'': '127.0.0.1', '0.0.0.0': '127.0.0.1', '[::]': '[::1]'}.get(host, host) }:{port}"  # noqa: S104


@contextmanager
def reachable(path: Path) -> Iterator[str]:
    """Yield a short name for a unix socket's path, which the kernel limits to 107 bytes."""
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)


@contextmanager
def _connected(address: str | Path, timeout: float) -> Iterator[socket.socket]:
    import socket  # 4 ms that `status` of a site without processes need not wait for

    if isinstance(address, str) and not address.startswith("unix:"):
        host, _, port = address.rpartition(":")
        name = host.strip("[]")
        # As bytes: an ASCII name of type str would import the tables of idna, 2 ms.
        named = name.encode("ascii" if name.isascii() else "idna")
        there = (named, int(port))
        with socket.create_connection(there, timeout) as connection:  # type: ignore[arg-type]
            yield connection
        return
    path = Path(address.removeprefix("unix:")) if isinstance(address, str) else address
    with closing(socket.socket(socket.AF_UNIX)) as connection, reachable(path) as name:
        connection.settimeout(timeout)
        connection.connect(name)
        yield connection


def _read_line(connection: socket.socket, deadline: float) -> bytes:
    received = b""
    while b"\n" not in received and len(received) < _LONGEST_HEAD_BYTES:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        connection.settimeout(left)
        data = connection.recv(4096)
        if not data:
            break
        received += data
    return received.partition(b"\n")[0]


def _judge(head: bytes, health: Health) -> Answer:
    protocol, _, text = head.decode("latin-1").strip().partition(" ")
    number = text[:3]
    if not protocol.startswith("HTTP/") or not number.isdigit():
        return Answer(ok=False, text="an answer that is not HTTP" if head else "an empty answer")
    status = int(number)
    ok = status in health.status if health.status else status < 500
    return Answer(ok=ok, text=text, hint="" if ok else _advice(status, health), status=status)


def _advice(status: int, health: Health) -> str:
    if status == 400 and not health.host:
        return 'the application may not know the host "localhost": set health = { host = "…" }'
    if 300 <= status < 400:
        return "the health path must answer by itself: exempt it from redirects (https, slashes)"
    if status == 404:
        return f"is {health.path} the right health path?"
    return ""
