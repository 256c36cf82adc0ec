#!/usr/bin/env python3
"""Ask a web application for pages until told to stop, and report every request that failed.

    load.py http://127.0.0.1:8000 [--fresh 2] [--keep-alive 2] [--slow 1] [--seconds 10]

Three kinds of visitors ask at the same time: each request on a connection of its own, many
requests on one kept-alive connection, and requests that take two seconds. It stops after
`--seconds`, or on SIGINT or SIGTERM, lets the requests under way finish, and writes one JSON
document to stdout. Exit code: 0 when none failed, else 1.

A request fails when its status is not 200, when it is cut off, or when it waits ten seconds. One
case is no failure, for every browser and proxy handles it (RFC 9110, section 9.2.2): a server may
close a kept-alive connection at the very moment a client uses it again; when not one byte of an
answer arrived, the client asks again on a new connection. These are counted as `reconnected`.
"""

from __future__ import annotations

import argparse
import http.client
import json
import signal
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

PAGES = ("/version", "/lazy", "/", "/version", "/healthz")
SLOW_PAGE = "/slow?seconds=2"
PAUSE_SECONDS = 0.02  # between two requests of one visitor: load, not a benchmark
TIMEOUT_SECONDS = 10.0
SHOWN_FAILURES = 10


@dataclass(slots=True)
class Visitor:
    """One visitor's requests and what became of them."""

    host: str
    port: int
    pages: tuple[str, ...]
    keeps_alive: bool
    stop: threading.Event
    seconds: list[float] = field(default_factory=list)
    versions: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    reconnected: int = 0
    _connection: http.client.HTTPConnection | None = None

    def run(self) -> None:
        number = 0
        while not self.stop.is_set():
            page = self.pages[number % len(self.pages)]
            number += 1
            began = time.monotonic()
            try:
                self._visit(page)
            except (OSError, http.client.HTTPException, ValueError) as error:
                self._close()
                self.failures.append(f"{page}: {type(error).__name__}: {error}")
            self.seconds.append(time.monotonic() - began)
            self.stop.wait(PAUSE_SECONDS)
        self._close()

    def _visit(self, page: str) -> None:
        try:
            answer = self._ask(page)
        except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError):
            if self._connection is None:
                raise
            self._close()
            self.reconnected += 1
            answer = self._ask(page)
        body = answer.read()  # an answer cut off is a failure, on whatever connection
        if answer.status != 200:
            raise ValueError(f"status {answer.status}: {body[:200].decode('utf-8', 'replace')}")
        if answer.headers.get_content_type() == "application/json":
            self.versions[str(json.loads(body).get("version"))] += 1
        if answer.will_close or not self.keeps_alive:
            self._close()

    def _ask(self, page: str) -> http.client.HTTPResponse:
        """Return the answer, its body still to be read; the connection is kept only then."""
        connection = self._connection
        if connection is None:
            connection = http.client.HTTPConnection(self.host, self.port, TIMEOUT_SECONDS)
        connection.request("GET", page)
        answer = connection.getresponse()
        self._connection = connection
        return answer

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def percentile(sorted_seconds: list[float], share: float) -> float:
    """Return the value below which this share of the values lies, in milliseconds."""
    if not sorted_seconds:
        return 0.0
    index = min(int(share * len(sorted_seconds)), len(sorted_seconds) - 1)
    return round(sorted_seconds[index] * 1000, 1)


def report(quick: list[Visitor], slow: list[Visitor], elapsed: float) -> dict[str, Any]:
    """Sum the visitors up; times are those of the quick pages, in milliseconds."""
    everybody = [*quick, *slow]
    times = sorted(second for visitor in quick for second in visitor.seconds)
    failures = [failure for visitor in everybody for failure in visitor.failures]
    return {
        "seconds": round(elapsed, 1),
        "total": sum(len(visitor.seconds) for visitor in everybody),
        "slow": sum(len(visitor.seconds) for visitor in slow),
        "failed": len(failures),
        "reconnected": sum(visitor.reconnected for visitor in everybody),
        "p50": percentile(times, 0.50),
        "p99": percentile(times, 0.99),
        "max": percentile(times, 1.0),
        "versions": dict(sum((visitor.versions for visitor in everybody), Counter[str]())),
        "failures": failures[:SHOWN_FAILURES],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("url")
    parser.add_argument("--fresh", type=int, default=2, metavar="N")
    parser.add_argument("--keep-alive", type=int, default=2, metavar="N")
    parser.add_argument("--slow", type=int, default=1, metavar="N")
    parser.add_argument("--seconds", type=float, default=None)
    options = parser.parse_args()

    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    address = urlsplit(options.url)
    host, port = address.hostname or "127.0.0.1", address.port or 80

    def visitors(count: int, pages: tuple[str, ...], *, keeps_alive: bool) -> list[Visitor]:
        return [Visitor(host, port, pages, keeps_alive, stop) for _ in range(count)]

    quick = visitors(options.fresh, PAGES, keeps_alive=False)
    quick += visitors(options.keep_alive, PAGES, keeps_alive=True)
    slow = visitors(options.slow, (SLOW_PAGE,), keeps_alive=False)
    threads = [threading.Thread(target=visitor.run) for visitor in (*quick, *slow)]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    stop.wait(options.seconds)
    stop.set()
    for thread in threads:
        thread.join()
    summary = report(quick, slow, time.monotonic() - began)
    print(json.dumps(summary))
    return 1 if summary["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
