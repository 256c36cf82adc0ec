"""Goes on where a connection broke: one request becomes as many as it takes."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from functools import partial

import msgspec

from artifact.stores.contract import Ranged, StoreUnreachable, changed

_Ask = Callable[[str, str], Ranged]
"""Makes one request with a header Range and for a tag."""

_FAILURES = 5
"""So many in a row, each without a byte received."""
_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.2, 5.0


class ConnectionBroken(Exception):
    """The connection ended before the answer did."""


class RangedStore(msgspec.Struct, frozen=True):
    """Base of a store that is asked with a header Range: it goes on where a connection broke."""

    def __repr__(self) -> str:
        # A message or a log that shows a store must not show what opens it.
        return f"{type(self).__name__}({self.address!r})"

    @property
    def address(self) -> str:
        """See `Store`."""
        raise NotImplementedError

    def read(self, name: str, start: int, length: int, *, etag: str = "") -> Ranged:
        """See `Store`."""
        ask = partial(self._asked, name)
        first = ask(_span(start, max(1, length)), etag)
        if length > 0:
            return _resumed(self.address, name, ask, first)
        first.close()
        return nothing(start, first.total, first.etag)

    def tail(self, name: str, length: int) -> Ranged:
        """See `Store`."""
        ask = partial(self._asked, name)
        return _resumed(self.address, name, ask, ask(f"bytes=-{length}", ""))

    def _asked(self, name: str, wanted: str, etag: str) -> Ranged:
        """Make one request with a header Range; its chunks may raise `ConnectionBroken`."""
        raise NotImplementedError


def nothing(start: int, total: int, etag: str) -> Ranged:
    """Return the answer without bytes."""
    return Ranged(min(start, total), 0, total, etag, iter(()), lambda: None)


def _span(start: int, length: int) -> str:
    return f"bytes={start}-{start + length - 1}"


def _resumed(address: str, name: str, ask: _Ask, first: Ranged) -> Ranged:
    current = [first]
    return Ranged(
        first.start,
        first.length,
        first.total,
        first.etag,
        _chunks(address, name, ask, current),
        lambda: current[0].close(),
    )


def _chunks(address: str, name: str, ask: _Ask, current: list[Ranged]) -> Iterator[bytes]:
    """Yield what the answers bring; the last of them is the one in `current`."""
    first = current[0]
    at, end, failures = first.start, first.start + first.length, 0
    while True:
        reason = "it ended early"
        try:
            for chunk in _from(current[0], at):
                piece = chunk[: end - at]
                at += len(piece)
                failures = 0
                yield piece
                if at >= end:
                    break  # whatever else it sends is not read
        except ConnectionBroken as error:
            reason = str(error)
        current[0].close()
        if at >= end:
            return
        failures += 1
        if failures > _FAILURES:
            raise StoreUnreachable(
                f"{name} in {address} breaks off at byte {at} of {first.total}, "
                f"again and again: {reason}",
                hint="run the same command again when the network is better",
            )
        # Hosts of a fleet must not come back at the same moment.
        pause = min(_LONGEST_PAUSE_SECONDS, _PAUSE_SECONDS * 2**failures)
        time.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - no secret
        current[0] = ask(_span(at, end - at), first.etag)
        if (current[0].etag, current[0].total) != (first.etag, first.total):
            current[0].close()
            raise changed(address, name)
        if current[0].start > at:
            current[0].close()
            raise StoreUnreachable(
                f"{name} in {address}: asked for byte {at} on, "
                f"the server answers from {current[0].start} on",
                hint="a proxy on the way does not understand ranges",
            )


def _from(answer: Ranged, offset: int) -> Iterator[bytes]:
    """Yield what an answer holds from an offset on: a server without ranges begins at 0."""
    at = answer.start
    for chunk in answer:
        behind = at + len(chunk)
        if behind > offset:
            yield chunk[max(0, offset - at) :]
        at = behind
