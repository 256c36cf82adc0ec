"""How a file is cut for an upload in parts: what the bucket copies, and what is sent."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from artifact.stores.contract import SharedRange

# https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html
SMALLEST_BYTES = 5 << 20
"""Only the last part may be smaller."""
SENT_BYTES = 8 << 20
_COPIED_BYTES, _MOST_PARTS = 1 << 30, 9_000


class Part(msgspec.Struct, frozen=True):
    """One part of an upload."""

    number: int
    start: int
    length: int
    source: int | None
    """Where the bucket copies it from; None: it is sent."""


def cut(size: int, runs: Sequence[SharedRange]) -> list[Part]:
    """Return the parts of an upload; they cover the file.

    Args:
        size: bytes of the file.
        runs: bytes that can be copied, in ascending order.
    """
    pieces = [piece for run in _joined(size, runs) for piece in _pieces(run, size)]
    return [
        Part(number, start, end - start, source)
        for number, (start, end, source) in enumerate(pieces, 1)
    ]


def _joined(size: int, runs: Sequence[SharedRange]) -> Iterator[tuple[int, int, int | None]]:
    """Yield (start, end, source) of what is copied and of what lies between, in turn.

    What is sent between two copied stretches takes as much of the second as it needs to be a part;
    a stretch that is then too short to be one is sent as well.
    """
    at = 0
    for run in runs:
        start, end = run.start, run.start + run.length
        if start > at:
            start = max(start, at + SMALLEST_BYTES)
        if end - start < SMALLEST_BYTES:
            continue
        if start > at:
            yield at, start, None
        yield start, end, run.source + start - run.start
        at = end
    if at < size:
        yield at, size, None


def _pieces(
    stretch: tuple[int, int, int | None], size: int
) -> Iterator[tuple[int, int, int | None]]:
    start, end, source = stretch
    most = max(SENT_BYTES, -(-size // _MOST_PARTS)) if source is None else _COPIED_BYTES
    for first, last in _cuts(start, end, most):
        yield first, last, None if source is None else source + first - start


def _cuts(start: int, end: int, most: int) -> list[tuple[int, int]]:
    """Cut a run of bytes; the last piece joins the one before where it would be too small."""
    cuts = [(at, min(at + most, end)) for at in range(start, end, most)]
    if len(cuts) > 1 and cuts[-1][1] - cuts[-1][0] < SMALLEST_BYTES:
        cuts[-2:] = [(cuts[-2][0], end)]
    return cuts
