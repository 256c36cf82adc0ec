"""Opens an artifact from its tail: footer, manifest, signature; nothing is inflated for it.

Everything is read through `Source.read_range`, so that a file, a web server and an object store
are the same to the rest.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Protocol

import msgspec

from artifact import manifest as manifests
from artifact.archive import format as layout
from artifact.archive import tar, toc
from artifact.archive.toc import Member, Toc
from artifact.errors import ArtifactRejected, UsageError
from artifact.manifest import Component, Manifest

TAIL_BYTES = 256 * 1024
"""What is read first: it has the manifest, and mostly the table of contents of the code."""
_AGAIN = "build it again or fetch it again; it was changed or cut short on its way here"


class Source(Protocol):
    """Where an artifact's bytes come from."""

    @property
    def size(self) -> int:
        """All of its bytes."""

    def expecting(self, members: Sequence[Member]) -> AbstractContextManager[None]:
        """Prepare for members that will be read in this order, by threads that end with the block.

        A source that fetches does it in advance; leaving the block with an error ends that, and
        readers that still wait get an error themselves.
        """

    def read_range(self, offset: int, length: int) -> bytes:
        """Return exactly these bytes, from any thread.

        Raises:
            ArtifactRejected: there are fewer, or they cannot be read.
        """


class FileSource(msgspec.Struct, frozen=True):
    """An open file."""

    descriptor: int
    size: int

    def expecting(self, members: Sequence[Member]) -> AbstractContextManager[None]:
        """Do nothing: the kernel reads ahead."""
        return nullcontext()

    def read_range(self, offset: int, length: int) -> bytes:
        """Return exactly these bytes; a disk that cannot read them raises as well."""
        data = b""
        try:
            while len(data) < length:
                more = os.pread(self.descriptor, length - len(data), offset + len(data))
                if not more:
                    raise ArtifactRejected("it became shorter while it was read")
                data = data + more if data else more
        except OSError as error:
            raise ArtifactRejected(f"it cannot be read: {error.strerror}") from error
        return data


class Artifact(msgspec.Struct, frozen=True, eq=False):
    """An artifact whose manifest was read and found to account for every byte of the file.

    Whether the manifest may be trusted is not known before its digest or signature was compared.
    """

    name: str
    """Of the file, for messages."""
    manifest: Manifest
    content: bytes
    """manifest.json: what the digest is of, and what is signed."""
    signature: bytes | None
    """manifest.sig; None when it is not signed."""
    size: int
    """Bytes of the whole file."""
    source: Source
    _tail: bytes
    _tocs: dict[str, Toc] = msgspec.field(default_factory=dict)
    """Those that were read: each is asked for by several steps of an install."""
    _recalled: dict[str, Path] = msgspec.field(default_factory=dict)

    @property
    def digest(self) -> str:
        """Its identity, "sha256:…"."""
        return manifests.digest(self.content)

    @property
    def interpreter(self) -> str:
        """The one absolute link target that is allowed, that of `virtualenv/bin/python*`."""
        return self.manifest.python.interpreter

    def read(self, offset: int, length: int) -> bytes:
        """Return bytes of the file, without asking the source for what was read already."""
        start = self.size - len(self._tail)
        if offset >= start:
            return self._tail[offset - start : offset - start + length]
        return self.source.read_range(offset, length)

    def expecting(self, members: Sequence[Member]) -> AbstractContextManager[None]:
        """Tell the source which members will be read in the block, in this order."""
        start = self.size - len(self._tail)
        return self.source.expecting([member for member in members if member.offset < start])

    def recall(self, name: str, path: Path) -> None:
        """Remember where the text of a component's table of contents may be, to fetch less.

        Args:
            path: a file that should hold what is in the member that the manifest names. Where it
                does not, the member is read.
        """
        self._recalled[name] = path

    def toc(self, name: str) -> Toc:
        """Read and check the table of contents of a component.

        Raises:
            ArtifactRejected: it is not what the manifest says, or breaks a rule.
        """
        if name not in self._tocs:
            self._tocs[name] = self._remembered(name) or self._read_toc(name)
        return self._tocs[name]

    def _remembered(self, name: str) -> Toc | None:
        path = self._recalled.get(name)
        try:
            return None if path is None else toc.decode(path.read_bytes(), self.manifest, name)
        except (OSError, ArtifactRejected):
            return None

    def _read_toc(self, name: str) -> Toc:
        with naming(self.name):
            if name not in {component.name for component in self.manifest.components}:
                raise ArtifactRejected(f"has no component {name}")
            component = self.manifest.component(name)
            if component.toc.length > layout.LARGEST_TOC:
                raise ArtifactRejected(f"the contents of {name} are too long")
            member = self.read(component.toc.offset, component.toc.length)
            return toc.decode(toc_content(member, component), self.manifest, name)

    def tocs(self, names: Sequence[str] | None = None) -> tuple[Toc, ...]:
        """Read the tables of contents of these components, or of all, and compare them.

        Raises:
            ArtifactRejected: one is wrong, or two list the same path.
        """
        chosen = [one.name for one in self.manifest.components] if names is None else names
        found = tuple(self.toc(name) for name in chosen)
        with naming(self.name):
            toc.check_unique(found)
        return found


@contextmanager
def open_artifact(path: Path, *, called: str = "") -> Iterator[Artifact]:
    """Open an artifact's file for the block.

    Args:
        called: what messages call it, where its own name says nothing.

    Raises:
        UsageError: there is no such file.
        ArtifactRejected: it is none, is damaged, or of another format.
    """
    descriptor = _open(path)
    try:
        source = FileSource(descriptor, os.fstat(descriptor).st_size)
        yield from_source(source, called or path.name)
    finally:
        os.close(descriptor)


def from_source(source: Source, name: str) -> Artifact:
    """Read footer, manifest and signature; raises `ArtifactRejected`.

    Args:
        name: what messages call it.
    """
    with naming(name):
        if source.size == 0:
            raise ArtifactRejected("is empty")
        length = min(TAIL_BYTES, source.size)
        tail = source.read_range(source.size - length, length)
        footer = _footer(source, tail)
        end = footer.offset + footer.length
        if end + layout.FOOTER_BYTES != source.size:
            raise ArtifactRejected("its footer does not fit the file")
        if footer.length > layout.LARGEST_MANIFEST:
            raise ArtifactRejected(f"its manifest is too long: {footer.length} bytes")
        start = source.size - length
        member = (
            tail[footer.offset - start : end - start]
            if footer.offset >= start
            else source.read_range(footer.offset, footer.length)
        )
        content, signature, manifest = _manifest(member, footer)
        _check_ranges(manifest, footer)
    return Artifact(name, manifest, content, signature, source.size, source, tail)


@contextmanager
def naming(name: str) -> Iterator[None]:
    """Add the file's name to a rejection, and what to do about it."""
    try:
        yield
    except ArtifactRejected as error:
        raise ArtifactRejected(f"{name}: {error.message}", hint=error.hint or _AGAIN) from error


def _open(path: Path) -> int:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        if error.errno in {errno.ENOENT, errno.ENOTDIR}:
            raise UsageError(
                f"there is no file {path}", hint="`artifact build` makes one and prints its path"
            ) from error
        raise UsageError(
            f"{path} cannot be read: {error.strerror}",
            hint="`ls -l` shows whose it is and who may read it",
        ) from error
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return descriptor
    os.close(descriptor)
    what = "a directory" if stat.S_ISDIR(mode) else "not a regular file"
    raise ArtifactRejected(
        f"{path} is {what}, not an artifact", hint="name the file that `artifact build` printed"
    )


def _footer(source: Source, tail: bytes) -> layout.Footer:
    try:
        return layout.decode_footer(tail[-layout.FOOTER_BYTES :])
    except ArtifactRejected as error:
        if error.hint:  # a later format: nothing to add
            raise
    first = source.read_range(0, min(len(layout.MEMBER_HEADER), source.size))
    behind = layout.bytes_behind_footer(tail)
    if behind:
        raise ArtifactRejected(f"{behind} bytes follow the footer, the end of an artifact")
    if first == layout.MEMBER_HEADER:
        raise ArtifactRejected("it has no footer: it is an artifact cut short, or none")
    what = "but a .tgz of another kind" if first.startswith(b"\x1f\x8b") else "not even a gzip file"
    raise ArtifactRejected(
        f"it is no artifact, {what}: the footer that every artifact ends with is missing",
        hint="name a file that `artifact build` made",
    )


def _manifest(member: bytes, footer: layout.Footer) -> tuple[bytes, bytes | None, Manifest]:
    """Take the manifest's member apart, and demand that putting it together gives it again."""
    stream = layout.stored_content(member)
    content = _first_content(stream)
    if hashlib.sha256(content).digest() != footer.sha256:
        raise ArtifactRejected("its manifest is not the one its footer names")
    manifest = manifests.decode(content)
    if not 0 <= manifest.created <= layout.LATEST:
        raise ArtifactRejected(f"its time of creation, {manifest.created}, cannot be")
    expected = layout.entry(layout.MANIFEST_PATH, content, manifest.created)
    signature = None
    rest = stream[len(expected) :]
    if rest != tar.END:
        signature = _first_content(rest)
        if len(signature) > layout.LARGEST_SIGNATURE:
            raise ArtifactRejected("its signature is too long to be one")
        expected += layout.entry(layout.SIGNATURE_PATH, signature, manifest.created)
    if expected + tar.END != stream:
        raise ArtifactRejected("something is hidden beside its manifest")
    return content, signature, manifest


def _check_ranges(manifest: Manifest, footer: layout.Footer) -> None:
    """Demand that the components follow each other without a gap, from the first byte on."""
    names = [component.name for component in manifest.components]
    if names != [name for name in layout.COMPONENTS if name in names]:
        raise ArtifactRejected(f"its components are {names}, not {list(layout.COMPONENTS)}")
    at = 0
    for component in manifest.components:
        for part in (component.data, component.toc):
            if part.offset != at or part.length < 0:
                raise ArtifactRejected(
                    f"the range of {component.name} at {part.offset} does not follow "
                    f"the one before, which ends at {at}"
                )
            at = part.end
        if not 0 <= component.mtime <= layout.LATEST:
            raise ArtifactRejected(f"the time of {component.name}, {component.mtime}, cannot be")
    if at != footer.offset:
        raise ArtifactRejected(
            f"{footer.offset - at} bytes before its manifest belong to no component"
        )


def toc_content(member: bytes, component: Component) -> bytes:
    """Return the text in the member of a table of contents.

    Raises:
        ArtifactRejected: it is not the one the manifest names, or holds anything else.
    """
    name = component.name
    if hashlib.sha256(member).hexdigest() != component.toc_sha256:
        raise ArtifactRejected(f"the contents of {name} are not those the manifest names")
    raw = int.from_bytes(member[-4:], "little")
    if raw > layout.LARGEST_TOC:
        raise ArtifactRejected(f"the contents of {name} are too long")
    stream = layout.inflate(member, raw)
    content = _first_content(stream)
    if layout.entry(layout.toc_path(name), content, component.mtime) != stream:
        raise ArtifactRejected(f"something is hidden beside the contents of {name}")
    return content


def _first_content(stream: bytes) -> bytes:
    """Return the content of a tar's first entry; the caller compares all that is around it."""
    digits = stream[124:135]
    if len(digits) != 11 or not digits.isdigit() or set(digits) & {*b"89"}:
        raise ArtifactRejected("a tar header in it is damaged")
    return stream[tar.BLOCK : tar.BLOCK + int(digits, 8)]
