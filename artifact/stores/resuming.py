"""Goes on where a connection broke: one request becomes as many as it takes."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator

from artifact.stores.contract import ObjectChanged, Ranged, StoreUnreachable

Ask = Callable[[int, int, str], Ranged]
"""Makes one request for (start, length, etag); its chunks may raise `Broken`."""

_FAILURES = 5
"""So many in a row, each without a byte received."""
_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.2, 5.0


class Broken(Exception):
    """The connection ended before the answer did."""


def resumed(what: str, ask: Ask, first: Ranged) -> Ranged:
    """Go on from an answer, asking again for the rest whenever it breaks off.

    Args:
        what: "accounting-1337.tgz in s3://bucket", for messages.
    """
    current = [first]
    return Ranged(
        first.start,
        first.length,
        first.total,
        first.etag,
        _chunks(what, ask, first, current),
        lambda: current[0].close(),
    )


def last(answer: Ranged, length: int) -> bytes:
    """Return the last bytes of an answer: a server without ranges sends all that is before."""
    content = bytearray()
    with answer:
        for chunk in answer:
            content += chunk
            del content[: max(0, len(content) - length)]
    return bytes(content)


def _chunks(what: str, ask: Ask, first: Ranged, current: list[Ranged]) -> Iterator[bytes]:
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
        except Broken as error:
            reason = str(error)
        current[0].close()
        if at >= end:
            return
        failures += 1
        if failures > _FAILURES:
            raise StoreUnreachable(
                f"{what} breaks off at byte {at} of {first.total}, again and again: {reason}",
                hint="run the same command again when the network is better",
            )
        # Hosts of a fleet must not come back at the same moment.
        pause = min(_LONGEST_PAUSE_SECONDS, _PAUSE_SECONDS * 2**failures)
        time.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - no secret
        current[0] = ask(at, end - at, first.etag)
        if (current[0].etag, current[0].total) != (first.etag, first.total):
            current[0].close()
            raise replaced(what)
        if current[0].start > at:
            current[0].close()
            raise StoreUnreachable(
                f"{what}: asked for byte {at} on, the server answers from {current[0].start} on",
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


def replaced(what: str) -> ObjectChanged:
    """Return the error for bytes that are no longer those of the tag."""
    return ObjectChanged(
        f"{what} was replaced while it was read",
        hint="run the same command again; artifacts in a store must never be overwritten",
    )
