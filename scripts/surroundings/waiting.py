"""Waiting for what was started, and free ports to start it on."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable

_POLL_SECONDS = 0.02


class NotReady(Exception):
    """What was waited for did not happen; the message says what."""


def await_(what: str, condition: Callable[[], object], seconds: float = 20.0) -> None:
    """Wait until something is so.

    Raises:
        NotReady: it is not so in time.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise NotReady(f"{what} did not happen within {seconds:g} s")
        time.sleep(_POLL_SECONDS)


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def accepts(port: int) -> bool:
    """Tell whether somebody listens on a port of 127.0.0.1."""
    with socket.socket() as client:
        client.settimeout(1)
        return client.connect_ex(("127.0.0.1", port)) == 0
