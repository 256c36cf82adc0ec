"""Visitors of a web application, each of whom notices a lost request.

    python switch_load.py 127.0.0.1:8000 [--quick 30] [--slow 2]

They ask until SIGTERM, then write one JSON document: every request's begin (the machine's monotonic
clock), seconds, kind and error. Nobody asks twice: a request that is reset, cut off, or answered
with another status than 200 is lost, also on a kept-alive connection, also a POST. A kept-alive
connection that the server has closed before it is used again is opened anew, as every client does.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import signal
import sys
import time
from dataclasses import dataclass, field
from typing import NamedTuple

PERIOD_SECONDS = 0.1
"""Between two requests of one quick visitor."""
SLOW_SECONDS = 2
TIMEOUT_SECONDS = 20.0
_IDLE_SECONDS = (0.5, 4.0)
_BODY = b"item=1337&" * 40


class Kind(NamedTuple):
    """What a visitor does all the time."""

    name: str
    method: str
    path: str
    kept: bool
    """All requests on one connection, as long as the server keeps it."""
    pause: tuple[float, float]
    """Between the beginnings of two requests, from and to, in seconds."""


_QUICK = (PERIOD_SECONDS, PERIOD_SECONDS)
QUICK = (
    Kind("GET, kept alive", "GET", "/", kept=True, pause=_QUICK),
    Kind("POST, fresh", "POST", "/", kept=False, pause=_QUICK),
    Kind("POST, kept alive", "POST", "/", kept=True, pause=_QUICK),
    Kind("GET, fresh", "GET", "/", kept=False, pause=_QUICK),
    Kind("POST, kept alive and idle", "POST", "/", kept=True, pause=_IDLE_SECONDS),
)
SLOW = (
    Kind("slow POST, fresh", "POST", "/slow", kept=False, pause=(0.0, 0.2)),
    Kind("slow GET, kept alive", "GET", "/slow", kept=True, pause=(0.0, 0.2)),
)


class Lost(Exception):
    """A request that was not answered as it should."""


class Request(NamedTuple):
    """One request and what became of it."""

    began: float
    seconds: float
    kind: str
    error: str


@dataclass(slots=True)
class Visitor:
    """One visitor."""

    host: str
    port: int
    kind: Kind
    over: asyncio.Event
    requests: list[Request] = field(default_factory=list)
    _connection: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def visit(self) -> None:
        """Ask until it is over."""
        await self._rest(random.uniform(0, self.kind.pause[1]))
        while not self.over.is_set():
            began = time.monotonic()
            error = ""
            try:
                async with asyncio.timeout(TIMEOUT_SECONDS):
                    await self._ask()
            except (OSError, Lost, asyncio.IncompleteReadError, ValueError) as lost:
                error = f"{type(lost).__name__}: {lost}"
                self._close()
            seconds = time.monotonic() - began
            self.requests.append(Request(began, seconds, self.kind.name, error))
            await self._rest(random.uniform(*self.kind.pause) - seconds)
        self._close()

    async def _rest(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.over.wait(), max(seconds, 0))

    async def _ask(self) -> None:
        reader, writer = await self._connected()
        body = _BODY if self.kind.method == "POST" else b""
        keep = "keep-alive" if self.kind.kept else "close"
        head = (
            f"{self.kind.method} {self.kind.path} HTTP/1.1\r\nHost: localhost\r\n"
            f"Connection: {keep}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        writer.write(head.encode() + body)
        await writer.drain()
        closes, answer = await _read(reader)
        if not answer.endswith(b" %d" % len(body)):
            raise Lost(f"an answer of no sense: {answer[:80]!r}")
        if closes or not self.kind.kept:
            self._close()

    async def _connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._connection is not None and self._connection[0].at_eof():
            self._close()
        if self._connection is None:
            self._connection = await asyncio.open_connection(self.host, self.port)
        return self._connection

    def _close(self) -> None:
        if self._connection is not None:
            self._connection[1].close()
            self._connection = None


async def _read(reader: asyncio.StreamReader) -> tuple[bool, bytes]:
    """Return whether the connection ends with this answer, and its body."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = {
        name.strip().lower(): value.strip().lower()
        for name, _, value in (line.partition(":") for line in head[1:])
    }
    if " 200 " not in f"{head[0]} ":
        raise Lost(head[0])
    body = await reader.readexactly(int(headers["content-length"]))
    return headers.get("connection") == "close", body


async def _visits(host: str, port: int, quick: int, slow: int) -> list[Request]:
    over = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, over.set)
    kinds = [QUICK[number % len(QUICK)] for number in range(quick)]
    kinds += [SLOW[number % len(SLOW)] for number in range(slow)]
    visitors = [Visitor(host, port, kind, over) for kind in kinds]
    print("ready", flush=True)
    await asyncio.gather(*(visitor.visit() for visitor in visitors))
    return sorted(request for visitor in visitors for request in visitor.requests)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("address", metavar="HOST:PORT")
    parser.add_argument("--quick", type=int, default=30, metavar="N")
    parser.add_argument("--slow", type=int, default=2, metavar="N")
    options = parser.parse_args()
    host, _, port = options.address.rpartition(":")
    found = asyncio.run(_visits(host, int(port), options.quick, options.slow))
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
