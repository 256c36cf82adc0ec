"""A proxy between client and store that breaks answers in the ways networks do."""

from __future__ import annotations

import contextlib
import http.client
import socket
import socketserver
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Answer:
    """What the store answered."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def head(self, *, length: int | None = None, leave_out: str = "") -> bytes:
        """Return the status line and the headers.

        Args:
            length: another Content-Length; -1 for none.
        """
        lines = [f"HTTP/1.1 {self.status} OK", "Connection: close"]
        for name, value in self.headers:
            if name.lower() in {"connection", "transfer-encoding", leave_out}:
                continue
            if name.lower() == "content-length" and length is not None:
                value = str(length)
                if length < 0:
                    continue
            lines.append(f"{name}: {value}")
        return ("\r\n".join(lines) + "\r\n\r\n").encode()


Fault = Callable[[Answer, int, socket.socket], None]
"""Sends an answer, in its own way; the number counts requests from 1."""


@dataclass
class Proxy:
    """A running proxy."""

    upstream: str
    """ "127.0.0.1:8333"."""
    url: str = ""
    fault: Fault = lambda answer, _number, client: whole(answer, _number, client)
    requests: list[str] = field(default_factory=list)
    """ "GET /… bytes=0-99"."""
    sent: int = 0
    """Bytes of bodies."""
    lock: threading.Lock = field(default_factory=threading.Lock)


def whole(answer: Answer, _number: int, client: socket.socket) -> None:
    client.sendall(answer.head() + answer.body)


def resetting(every: int) -> Fault:
    """Reset the connection after so many bytes of each body."""

    def send(answer: Answer, _number: int, client: socket.socket) -> None:
        client.sendall(answer.head() + answer.body[:every])
        if len(answer.body) > every:
            # The client reads what came before it is told: else a reset may take that away, too.
            time.sleep(0.005)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    return send


def saying(status: int, times: int, reason: str = "InternalError") -> Fault:
    """Answer the first requests with an error, as S3 words it."""

    def send(answer: Answer, number: int, client: socket.socket) -> None:
        if number > times:
            whole(answer, number, client)
            return
        body = f"<Error><Code>{reason}</Code><Message>Reduce your rate</Message></Error>".encode()
        head = f"HTTP/1.1 {status} {reason}\r\nConnection: close\r\nContent-Type: application/xml"
        client.sendall(f"{head}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)

    return send


def truncating(answer: Answer, _number: int, client: socket.socket) -> None:
    """Promise all of the body and send half of it, if it is large."""
    sent = len(answer.body) // 2 if len(answer.body) > 100_000 else len(answer.body)
    client.sendall(answer.head() + answer.body[:sent])


def flipping(answer: Answer, number: int, client: socket.socket) -> None:
    """Change a byte in the middle of large bodies; the tail stays as it is."""
    body = bytearray(answer.body)
    if number > 1 and body:
        body[len(body) // 2] ^= 0x55
    client.sendall(answer.head() + body)


def dripping(pause: float) -> Fault:
    """Send the second body and all later ones byte by byte."""

    def send(answer: Answer, number: int, client: socket.socket) -> None:
        if number == 1:
            whole(answer, number, client)
            return
        client.sendall(answer.head())
        for byte in answer.body:
            client.sendall(bytes([byte]))
            time.sleep(pause)

    return send


def endless(answer: Answer, number: int, client: socket.socket) -> None:
    """Send more and more behind the second body, without saying how much it will be."""
    if number == 1:
        whole(answer, number, client)
        return
    client.sendall(answer.head(length=-1) + answer.body)
    while True:
        client.sendall(bytes(65536))


@contextmanager
def running(upstream: str, *, ranges: bool = True) -> Iterator[Proxy]:
    """Run a proxy for the block.

    Args:
        upstream: host and port of the store.
        ranges: whether it passes `Range` on; a server without ranges answers everything.
    """
    proxy = Proxy(upstream)

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with contextlib.suppress(OSError):
                _serve(proxy, self.request, ranges=ranges)

    class Server(socketserver.ThreadingTCPServer):
        allow_reuse_address = True
        daemon_threads = True
        block_on_close = False

    with Server(("127.0.0.1", 0), Handler) as server:
        proxy.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield proxy
        finally:
            server.shutdown()
            thread.join()


def _serve(proxy: Proxy, client: socket.socket, *, ranges: bool) -> None:
    head = b""
    while b"\r\n\r\n" not in head:
        more = client.recv(65536)
        if not more:
            return
        head += more
    request, *lines = head.split(b"\r\n\r\n")[0].decode().split("\r\n")
    method, path, _ = request.split(" ")
    headers = dict(line.split(": ", 1) for line in lines)
    asked = next((value for name, value in headers.items() if name.lower() == "range"), "")
    if not ranges:
        headers = {name: value for name, value in headers.items() if name.lower() != "range"}
    with proxy.lock:
        proxy.requests.append(f"{method} {path} {asked}".strip())
        number = len(proxy.requests)
    upstream = http.client.HTTPConnection(proxy.upstream, timeout=30)
    with contextlib.closing(upstream):
        upstream.request(method, path, headers=headers)
        answered = upstream.getresponse()
        answer = Answer(answered.status, tuple(answered.getheaders()), answered.read())
    proxy.sent += len(answer.body)
    proxy.fault(answer, number, client)
