"""Connect to a server, over TCP or a unix socket, with one deadline for all that follows."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class DeadlineSocket(socket.socket):
    """A connection on which reading ends at a deadline, however slowly the bytes arrive."""

    deadline = 0.0

    # The one call with which `makefile` reads; any buffer would do for it.
    def recv_into(self, buffer: memoryview, *_: int) -> int:  # type: ignore[override]
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("no answer in time")
        self.settimeout(left)
        return super().recv_into(buffer)


def connect(address: str | Path, timeout: float) -> DeadlineSocket:
    """Connect to "127.0.0.1:8000", "[::1]:8000", "unix:/path" or the path of a unix socket.

    Args:
        timeout: seconds for the whole exchange, connecting included.

    Raises:
        OSError: nobody answers there, or not in time.
    """
    deadline = time.monotonic() + timeout
    if isinstance(address, str) and not address.startswith("unix:"):
        host, _, port = address.rpartition(":")
        plain = socket.create_connection((host.strip("[]"), int(port)), timeout)
        connection = DeadlineSocket(fileno=plain.detach())
        connection.settimeout(timeout)
    else:
        connection = DeadlineSocket(socket.AF_UNIX)
        connection.settimeout(timeout)
        try:
            with short_path(Path(str(address).removeprefix("unix:"))) as name:
                connection.connect(name)
        except BaseException:
            connection.close()
            raise
    connection.deadline = deadline
    return connection


@contextmanager
def short_path(path: Path) -> Iterator[str]:
    """Yield a short name for a unix socket's path, which the kernel limits to 107 bytes."""
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)
