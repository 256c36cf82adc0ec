"""Packs components into gzip members and joins packed components into an artifact.

Bytes depend on names, contents and the codec, never on threads, clocks or the order of a
directory. A component is packed once and copied into every artifact that holds it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, NamedTuple

import deflate

from artifact import files, manifest, steps
from artifact.archive import format as layout
from artifact.archive import opening, parallel, tar, toc
from artifact.archive.grouping import Entry, Sized, groups, is_large, measure, unreadable
from artifact.archive.opening import Artifact
from artifact.archive.packed import Packed, codec, write_facts
from artifact.archive.toc import Group, Member
from artifact.errors import ArtifactRejected, BuildFailed
from artifact.manifest import Codec, Component, Manifest


def pack(
    entries: Iterable[Entry],
    sink: Path,
    *,
    name: str,
    mtime: int = layout.ENTRY_MTIME,
    level: int = 6,
    tell: steps.Listener = steps.nobody,
    threads: int | None = None,
) -> Packed:
    """Pack a component into a file, which appears under its name when it is whole.

    Args:
        entries: in any order; directories above them are added.
        name: "venv", "assets" or "code".
        mtime: of all entries, in seconds since the epoch; readers take any.
        level: libdeflate's, 1 to 12.
        threads: as many as this process may use processors when left out.

    Raises:
        BuildFailed: something cannot be packed, changed while it was read, or the disk is full.
    """
    measured = measure(name, entries)
    total = sum(size for _, size in measured)
    with _written(sink) as stream:
        jobs = _jobs(groups(name, measured, mtime), level)
        with parallel.in_order(lambda job: job(), jobs, threads) as results:
            written = _write_members(stream, results, f"packing {name}", total, tell)
        listed = _contents_member(name, written, mtime, level)
        return _finish(stream, sink, name, mtime, codec(level), written, listed)


def write(
    output: Path,
    packed: Sequence[Packed],
    describe: Callable[[tuple[Component, ...]], Manifest],
    tell: steps.Listener = steps.nobody,
    sign: Callable[[bytes], bytes] | None = None,
) -> str:
    """Join packed components into an artifact, which appears under its name when it is whole.

    Args:
        packed: in the order of `format.COMPONENTS`.
        describe: makes the manifest when it is known where each component lies.
        sign: returns the signature of manifest.json's bytes.

    Returns:
        The artifact's digest, "sha256:…".

    Raises:
        BuildFailed: components contradict each other or the manifest, or the disk is full.
    """
    with _written(output) as stream:
        components = tuple(_copied(packed, stream, tell))
        described = describe(components)
        _check(packed, described)
        content = manifest.encode(described)
        if len(content) > layout.LARGEST_MANIFEST // 2:
            raise BuildFailed(f"the manifest is too long: {len(content)} bytes")
        tail = layout.entry(layout.MANIFEST_PATH, content, described.created)
        if sign is not None:
            tail += layout.entry(layout.SIGNATURE_PATH, sign(content), described.created)
        member = layout.stored_member(tail + tar.END)
        footer = layout.Footer(stream.tell(), len(member), hashlib.sha256(content).digest())
        stream.write(member + layout.encode_footer(footer))
    return manifest.digest(content)


def take_out(artifact: Artifact, name: str, sink: Path) -> Packed | None:
    """Write a component of an artifact into a file as `pack` would, without compressing it again.

    Returns:
        None where this version of the tool, or of the codec, would write other bytes.

    Raises:
        ArtifactRejected: a byte of it is wrong.
        BuildFailed: the disk is full.
    """
    component, contents = artifact.manifest.component(name), artifact.toc(name)
    used = artifact.manifest.codec
    if used != codec(used.level) or used.level not in range(1, 13):
        return None
    listed = _contents_member(name, contents.groups, component.mtime, used.level)
    if hashlib.sha256(listed).hexdigest() != component.toc_sha256:
        return None
    members = [member for group in contents.groups for member in group.members]
    with _written(sink) as stream, artifact.expecting(members):
        for member in members:
            content = artifact.read(member.offset, member.length)
            if hashlib.sha256(content).hexdigest() != member.sha256:
                raise ArtifactRejected(f"{artifact.name} is damaged at byte {member.offset}")
            stream.write(content)
        return _finish(stream, sink, name, component.mtime, used, contents.groups, listed)


def _contents_member(name: str, written: Iterable[Group], mtime: int, level: int) -> bytes:
    return _compress(layout.entry(layout.toc_path(name), toc.encode(written), mtime), level)


def _finish(
    stream: IO[bytes],
    sink: Path,
    name: str,
    mtime: int,
    used: Codec,
    written: Iterable[Group],
    listed: bytes,
) -> Packed:
    """End a pack whose members are written: with its table of contents and its facts."""
    records = [record for group in written for record in group.records]
    data = stream.tell()
    stream.write(listed)
    packed = Packed(
        path=sink,
        name=name,
        mtime=mtime,
        codec=used,
        data=data,
        toc=len(listed),
        toc_sha256=hashlib.sha256(listed).hexdigest(),
        tree=hashlib.sha256("".join(map(toc.record_line, records)).encode()).hexdigest(),
        entries=len(records),
        raw=sum(record.size for record in records),
        interpreters=toc.interpreters(records),
    )
    write_facts(packed, stream)
    return packed


class _Result(NamedTuple):
    """One member and the entries that end in it."""

    member: bytes
    raw: int
    sha256: str
    records: list[toc.Record]


def _write_members(
    stream: IO[bytes],
    results: Iterable[_Result],
    label: str,
    total: int,
    tell: steps.Listener,
) -> list[Group]:
    """Write the members as they are finished; return what is in them."""
    written: list[Group] = []
    members: list[Member] = []
    offset = raw = 0
    for result in results:
        stream.write(result.member)
        members.append(Member(offset, len(result.member), result.raw, result.sha256))
        offset += len(result.member)
        if not result.records:
            continue  # a piece of a large file, whose last piece has its record
        written.append(Group(tuple(result.records), tuple(members)))
        members = []
        raw += sum(record.size for record in result.records)
        tell(steps.Progress(label, raw, total))
    return written


def _jobs(planned: Iterable[list[Sized]], level: int) -> Iterator[Callable[[], _Result]]:
    for group in planned:
        if is_large(group):
            yield from _pieces(group[0], level)
        else:
            yield partial(_member_of, group, level)


def _member_of(group: Sequence[Sized], level: int) -> _Result:
    parts: list[bytes] = []
    records = []
    for record, source, header in group:
        parts.append(header)
        if record.kind == "file":
            with _reading(source) as descriptor:
                content = _read(descriptor, record.size + 1)
            if len(content) != record.size:
                raise _changed(source)
            parts += (content, bytes(tar.padding(record.size)))
            sha256 = hashlib.sha256(content).hexdigest()
            record = toc.Record("file", record.mode, record.size, sha256, record.path, "")
        records.append(record)
    return _finished(b"".join(parts), level, records)


def _pieces(large: Sized, level: int) -> Iterator[Callable[[], _Result]]:
    """Yield the jobs of a file's pieces; it is read and hashed here, a piece at a time."""
    record, source, header = large
    digest = hashlib.sha256()
    left = record.size
    held = header
    with _reading(source) as descriptor:
        while left:
            content = _read(descriptor, min(left, layout.PIECE_BYTES - len(held)))
            if not content:
                raise _changed(source)
            digest.update(content)
            left -= len(content)
            raw = held + content
            held = b""
            if left:
                yield partial(_finished, raw, level, [])
        if _read(descriptor, 1):
            raise _changed(source)
    raw += bytes(tar.padding(record.size))
    record = record._replace(sha256=digest.hexdigest())
    yield partial(_finished, raw, level, [record])


def _finished(raw: bytes, level: int, records: list[toc.Record]) -> _Result:
    member = _compress(raw, level)
    return _Result(member, len(raw), hashlib.sha256(member).hexdigest(), records)


def _compress(raw: bytes, level: int) -> bytes:
    member = deflate.gzip_compress(raw, level)
    # The header tells of the level (XFL); one header for all leaves nothing to vary.
    member[: len(layout.MEMBER_HEADER)] = layout.MEMBER_HEADER
    return bytes(member)


@contextmanager
def _reading(source: str | Path) -> Iterator[int]:
    try:
        descriptor = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise unreadable(source, error) from error
    try:
        yield descriptor
    except OSError as error:
        raise unreadable(source, error) from error
    finally:
        os.close(descriptor)


def _read(descriptor: int, most: int) -> bytes:
    """Return the next bytes, fewer only at the end of the file."""
    data = os.read(descriptor, most)
    while len(data) < most and (more := os.read(descriptor, most - len(data))):
        data += more
    return data


def _changed(source: str | Path) -> BuildFailed:
    return BuildFailed(
        f"{source} changed its size while it was packed",
        hint="something writes there during the build: end it, or leave the file out",
    )


@contextmanager
def _written(path: Path) -> Iterator[IO[bytes]]:
    with (
        files.disk_errors(f"{path} cannot be written", path.parent, BuildFailed),
        files.written(path) as stream,
    ):
        yield stream


def _copied(
    packed: Sequence[Packed], stream: IO[bytes], tell: steps.Listener
) -> Iterator[Component]:
    total = sum(one.data + one.toc for one in packed)
    offset = 0
    for one in packed:
        length = one.data + one.toc
        try:
            source = os.open(one.path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise unreadable(one.path, error) from error
        try:
            files.copy_range(source, 0, length, stream.fileno())
        finally:
            os.close(source)
        yield one.component(offset)
        offset += length
        tell(steps.Progress("writing the artifact", offset, total))
    stream.seek(offset)


def _check(packed: Sequence[Packed], described: Manifest) -> None:
    """Refuse to write what every reader would reject."""
    if not 0 <= described.created <= layout.LATEST:
        raise BuildFailed(
            f"the time {described.created} cannot be packed: it is before 1970 or after 2242",
            hint="it is that of the last commit: `git log -1 --format=%cd`",
        )
    order = [one.name for one in packed]
    if order != [name for name in layout.COMPONENTS if name in order]:
        raise BuildFailed(f"the components {order} are not in the order {layout.COMPONENTS}")
    for one in packed:
        for target in one.interpreters:
            fault = toc.interpreter_fault(target, described)
            if fault:
                raise BuildFailed(f"the environment's python links to {target!r}, which {fault}")
    # The environment has a directory of its own, so only the others can meet.
    others = [one for one in packed if one.name != layout.ENVIRONMENT_COMPONENT]
    try:
        toc.check_unique([_contents(one, described) for one in others])
    except ArtifactRejected as error:
        raise BuildFailed(
            f"the artifact would be contradictory: {error.message}",
            hint="a file that an asset step writes must not also come from the source",
        ) from error


def _contents(packed: Packed, described: Manifest) -> toc.Toc:
    with packed.path.open("rb") as stream:
        stream.seek(packed.data)
        content = opening.toc_content(stream.read(packed.toc), packed.component(0))
    return toc.decode(content, described, packed.name)
