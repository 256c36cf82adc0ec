"""What to ask for in one request: neighbouring members joined, long runs cut."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from artifact.archive.toc import Member

GAP_BYTES = 128 * 1024
"""So much between two members is fetched with them: another request takes longer."""
LARGEST_BYTES = 8 * 1024 * 1024
_FIRST_BYTES = 1024 * 1024
"""The first requests are small and later ones twice as large each round: what unpacks the members
in their order then has work soon, while several connections share the line."""


class ByteRange(msgspec.Struct):
    """Bytes of the file that one request asks for."""

    start: int
    end: int
    arrived: int = -1
    """Everything before this offset is here."""

    def __post_init__(self) -> None:
        self.arrived = max(self.arrived, self.start)

    @property
    def length(self) -> int:
        return self.end - self.start


def plan(members: Sequence[Member], connections: int) -> list[ByteRange]:
    """Return the requests that fetch these members, in order of their offsets.

    Args:
        connections: how many requests are under way at once.
    """
    found: list[ByteRange] = []
    for member in sorted(members):
        most = min(LARGEST_BYTES, _FIRST_BYTES << (len(found) // max(1, connections)))
        last = found[-1] if found else None
        near = last is not None and member.offset - last.end <= GAP_BYTES
        if last is not None and near and member.offset + member.length - last.start <= most:
            last.end = member.offset + member.length
        else:
            found.append(ByteRange(member.offset, member.offset + member.length))
    return found


def total(wanted: Sequence[ByteRange]) -> int:
    """Return the bytes that are still to come."""
    return sum(one.end - one.arrived for one in wanted)
