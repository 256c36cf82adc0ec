"""Compares the data of an artifact with its tables of contents, byte for byte."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator

from artifact import steps
from artifact.archive import format as layout
from artifact.archive import parallel, tar
from artifact.archive.opening import Artifact, naming
from artifact.archive.toc import TAR_KIND, Group, Member, Record
from artifact.errors import ArtifactRejected

Pieces = Iterable[bytes | memoryview]
Sink = Callable[[Record, Pieces], None]
"""Takes a file's content, in one piece or several; it must take all of them."""


def verify(artifact: Artifact, tell: steps.Listener = steps.nobody) -> None:
    """Check every byte of the data: members, tar headers, contents, padding.

    Raises:
        ArtifactRejected: one is wrong.
    """
    tocs = artifact.tocs()
    jobs = [(group, toc.component.mtime) for toc in tocs for group in toc.groups]
    total = sum(toc.component.raw for toc in tocs)
    members = [member for group, _ in jobs for member in group.members]
    done = 0

    def check(job: tuple[Group, int]) -> int:
        group, mtime = job
        check_group(artifact, group, mtime, _drain)
        return sum(record.size for record in group.records)

    with (
        naming(artifact.name),
        parallel.in_order(check, jobs) as checked,
        artifact.expecting(members),
    ):
        for size in checked:
            done += size
            tell(steps.Progress("verifying", done, total))


def check_group(artifact: Artifact, group: Group, mtime: int, sink: Sink) -> None:
    """Check one group and give the content of each of its files to `sink`.

    Every tar header is built again from the table of contents and compared: what `tar` would see
    is then what was checked.

    Raises:
        ArtifactRejected: a byte differs. Of a file in several members the sink has had some
            pieces by then.
    """
    if len(group.members) > 1:
        _check_large(artifact, group, mtime, sink)
        return
    raw = _inflated(artifact, group.members[0], group)
    content = memoryview(raw)
    at = 0
    for record in group.records:
        header = _header(record, mtime)
        if not raw.startswith(header, at):
            raise _differs(record, "its tar header")
        at += len(header)
        if record.kind != "file":
            continue
        end = at + record.size
        piece = content[at:end]
        if len(piece) != record.size or hashlib.sha256(piece).hexdigest() != record.sha256:
            raise _differs(record, "its content")
        sink(record, (piece,))
        at = end + tar.padding(record.size)
        if raw[end:at] != bytes(at - end):
            raise _differs(record, "the padding behind it")
    if at != len(raw):
        raise _differs(group.records[-1], "what follows it")


def _check_large(artifact: Artifact, group: Group, mtime: int, sink: Sink) -> None:
    record = group.records[0]
    header = _header(record, mtime)
    end = len(header) + record.size
    if sum(member.raw for member in group.members) != end + tar.padding(record.size):
        raise _differs(record, "its size")

    def pieces() -> Iterator[memoryview]:
        digest = hashlib.sha256()
        at = 0
        for member in group.members:
            raw = _inflated(artifact, member, group)
            first = 0
            if at < len(header):
                # A first member shorter than the header would show it in two: not how we cut.
                first = len(header)
                if not raw.startswith(header):
                    raise _differs(record, "its tar header")
            last = max(first, min(len(raw), end - at))
            if raw[last:].strip(b"\0"):
                raise _differs(record, "the padding behind it")
            digest.update(piece := memoryview(raw)[first:last])
            at += len(raw)
            yield piece
        if digest.hexdigest() != record.sha256:
            raise _differs(record, "its content")

    sink(record, pieces())


def _inflated(artifact: Artifact, member: Member, group: Group) -> bytes:
    compressed = artifact.read(member.offset, member.length)
    path = group.records[0].path
    if hashlib.sha256(compressed).hexdigest() != member.sha256:
        raise ArtifactRejected(f"it is damaged at byte {member.offset} and after, where {path} is")
    try:
        return layout.inflate(compressed, member.raw)
    except ArtifactRejected as error:
        raise ArtifactRejected(f"{error.message}, at byte {member.offset}: {path}") from error


def _header(record: Record, mtime: int) -> bytes:
    kind = TAR_KIND[record.kind]
    return tar.header(kind, record.path, record.mode, record.size, mtime, record.target)


def _differs(record: Record, what: str) -> ArtifactRejected:
    return ArtifactRejected(f"{record.path!r}: {what} is not what the contents list")


def _drain(_record: Record, pieces: Pieces) -> None:
    deque(pieces, maxlen=0)
