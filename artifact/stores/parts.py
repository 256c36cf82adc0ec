"""How a file is cut for an upload in parts: what the bucket copies, then what is sent."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from artifact.stores.contract import Like

# https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html
SMALLEST_BYTES = 5 << 20
SENT_BYTES = 8 << 20
_COPIED_BYTES, _MOST_PARTS = 1 << 30, 9_000


@dataclass(frozen=True, slots=True)
class Part:
    """One part of an upload."""

    number: int
    start: int
    length: int
    copied: bool


def cut(size: int, like: Like | None) -> Iterator[Part]:
    """Yield the parts of an upload: what is copied, then what is sent."""
    cuts = _cuts(0, like.length, _COPIED_BYTES) if like else []
    copied = len(cuts)
    cuts += _cuts(like.length if like else 0, size, max(SENT_BYTES, -(-size // _MOST_PARTS)))
    for number, (start, end) in enumerate(cuts, 1):
        yield Part(number, start, end - start, number <= copied)


def _cuts(start: int, end: int, most: int) -> list[tuple[int, int]]:
    """Cut a run of bytes; only the last piece may be smaller, and joins the one before if tiny."""
    cuts = [(at, min(at + most, end)) for at in range(start, end, most)]
    if len(cuts) > 1 and cuts[-1][1] - cuts[-1][0] < SMALLEST_BYTES:
        cuts[-2:] = [(cuts[-2][0], end)]
    return cuts
