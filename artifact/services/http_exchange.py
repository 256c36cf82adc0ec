"""One HTTP request and its answer, over TCP or a unix socket, within one deadline."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path

from artifact.services import sockets


class _Connection(HTTPConnection):
    """Keeps what is to be sent, so that head and body leave in one block.

    A server that answers the head and closes would reset a connection with a body it has not read,
    and its answer, "401 Unauthorized" for one, would be lost.
    """

    request_bytes = b""

    def send(self, data: bytes) -> None:  # type: ignore[override]
        self.request_bytes += data


@contextmanager
def exchange(
    address: str | Path,
    path: str,
    headers: Mapping[str, bytes],
    *,
    timeout: float,
    body: bytes | None = None,
) -> Iterator[HTTPResponse]:
    """Send a GET, or a POST where there is a body, and yield the answer once its head is here.

    Args:
        address: as `sockets.connect` takes it.
        headers: "Host" among them.
        timeout: seconds for the whole exchange, until the answer's body is read.

    Raises:
        OSError: nobody answers, or not in time.
        HTTPException: the answer is not HTTP, or empty.
    """
    connection = _Connection("localhost")
    with closing(connection):
        connection.sock = sockets.connect(address, timeout)
        always = {"User-Agent": "artifact", "Accept-Encoding": "identity", "Connection": "close"}
        method = "GET" if body is None else "POST"
        connection.request(method, path, body, {**headers, **always})
        connection.sock.sendall(connection.request_bytes)
        with connection.getresponse() as response:
            yield response
