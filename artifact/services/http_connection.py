"""One HTTP request and its answer, over TCP or a unix socket, within one deadline."""

from __future__ import annotations

from http.client import HTTPConnection, HTTPResponse
from pathlib import Path

from artifact.services import sockets


class DeadlineConnection(HTTPConnection):
    """A connection for one exchange, whose timeout holds for all of it, answer included."""

    def __init__(self, address: str | Path, timeout: float) -> None:
        by_path = isinstance(address, Path) or address.startswith("unix:")
        super().__init__("localhost" if by_path else str(address), timeout=timeout)
        self._address = address
        self._request = b""

    # Head and body leave in one block: a server that answers the head and closes would reset the
    # connection for a body that it has not read, and its answer, a 401 for one, would be lost.
    def send(self, data: bytes) -> None:  # type: ignore[override]
        self._request += data

    def getresponse(self) -> HTTPResponse:
        assert self.timeout is not None
        self.sock = sockets.connect(self._address, self.timeout)
        self.sock.sendall(self._request)
        return super().getresponse()
