"""What a store can do, be it a directory, a bucket or a web server, and how it fails.

Objects are immutable and written once; pointers are small and replaced by compare-and-swap. A
store's own checksums do not count: the artifact's chain of digests decides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol, Self

import msgspec

from artifact import steps
from artifact.errors import ArtifactRejected, ConfigurationError, Refused, UsageError

LARGEST_CHUNK = 1 << 20
"""Bytes; no chunk of a `Ranged` has more."""

LARGEST_POINTER = 1 << 20
"""Bytes. No more are read of a pointer; a longer one is no channel."""
COPIED = "copied in the store"
"""The label of the `steps.Progress` that says how many bytes were not sent."""


class ObjectMissing(UsageError):
    """The store has no object of that name."""


class ObjectChanged(ArtifactRejected):
    """The object's bytes were replaced since its tag was read."""


class StoreUnreachable(Refused):
    """The store did not answer, or not to the end, after retries."""


class AccessDenied(Refused):
    """The store does not know the credentials, or they do not allow this."""


class StoreMissing(ConfigurationError):
    """There is no such bucket or directory."""


class ReadOnly(UsageError):
    """This kind of store can neither be written nor listed."""


def missing(address: str, name: str, *, hint: str = "") -> ObjectMissing:
    """Return the error for an object that is not there."""
    hint = hint or "`artifact ls` lists what it has"
    return ObjectMissing(f"the store {address} has no {name}", hint=hint)


def changed(address: str, name: str) -> ObjectChanged:
    """Return the error for bytes that are no longer those of the tag."""
    return ObjectChanged(
        f"{name} in {address} was replaced while it was read",
        hint="run the same command again; artifacts in a store must never be overwritten",
    )


class ObjectInfo(msgspec.Struct, frozen=True):
    """An object that is there."""

    size: int
    """Bytes."""
    etag: str
    """Opaque; another one when the bytes were replaced. Empty where a web server gives none."""


class Ranged(msgspec.Struct, frozen=True):
    """An answer to a read: its place in the object, then its bytes in chunks.

    A connection that breaks is resumed from where it was, so the chunks are `length` bytes, or
    iterating raises `StoreUnreachable` or `ObjectChanged`. Close it, or use it in `with`, when it
    is not read to its end.
    """

    start: int
    """As the server answered: a web server without ranges answers 0, and sends the whole object."""
    length: int
    total: int
    """Bytes of the whole object."""
    etag: str
    chunks: Iterator[bytes]
    close: Callable[[], None]

    def __iter__(self) -> Iterator[bytes]:
        """Yield chunks of at most `LARGEST_CHUNK` bytes."""
        return self.chunks

    def __enter__(self) -> Self:
        """Close it at the end of the block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Give the connection back."""
        self.close()

    @property
    def info(self) -> ObjectInfo:
        """What is known of the object now."""
        return ObjectInfo(self.total, self.etag)

    def content(self) -> bytes:
        """Return all of its bytes, and close it."""
        with self:
            return b"".join(self.chunks)


class SharedRange(msgspec.Struct, frozen=True, order=True):
    """Bytes that are the same in two objects."""

    start: int
    """Where they are in what is to be put."""
    length: int
    source: int
    """Where they are in the object that is there."""


class SimilarObject(msgspec.Struct, frozen=True):
    """An object of the same store that has bytes of what is to be put."""

    name: str
    etag: str
    runs: tuple[SharedRange, ...]
    """In ascending order; they do not overlap."""

    @property
    def length(self) -> int:
        """How many bytes are the same."""
        return sum(run.length for run in self.runs)


class Store(Protocol):
    """Where artifacts are kept. Every method may be called from any thread.

    All raise `StoreUnreachable`, `AccessDenied` and `StoreMissing`; each names what else it raises.
    """

    @property
    def address(self) -> str:
        """For messages: without credentials."""

    def stat(self, name: str) -> ObjectInfo | None:
        """Return what is known of an object; None when there is none."""

    def read(self, name: str, start: int, length: int, *, etag: str = "") -> Ranged:
        """Read bytes of an object; what reaches beyond its end is cut off.

        Args:
            etag: the object must still be the one that had this tag.

        Raises:
            ObjectMissing: there is no such object.
            ObjectChanged: it has another tag.
        """

    def tail(self, name: str, length: int) -> Ranged:
        """Read the last bytes of an object, fewer when it is shorter, in one request.

        A server without ranges answers with the whole object.

        Raises:
            ObjectMissing: there is no such object.
        """

    def put_if_absent(
        self, name: str, source: Path, *, tell: steps.Listener, like: SimilarObject | None = None
    ) -> bool:
        """Put a file unless an object of that name exists; False when one does.

        Nobody sees a part of it. A caller that gets False compares what is there: it may be its
        own upload, whose answer was lost.

        Args:
            tell: hears `steps.Progress` in bytes of the file, at the end how many were `COPIED`.
            like: a store that can copies these bytes, so that they are not sent.
        """

    def names(self, prefix: str) -> Iterator[tuple[str, ObjectInfo]]:
        """Yield every object whose name starts with the prefix, ordered by name."""

    def delete(self, name: str) -> None:
        """Delete an object; none there is fine."""

    def pointer(self, name: str) -> tuple[bytes, str] | None:
        """Return a pointer's content and its tag; None when there is none."""

    def swap(self, name: str, content: bytes, expected: str | None) -> bool:
        """Replace a pointer if it still has this tag; False when it has not.

        Two writers must not write equal contents: after a lost answer a writer knows its own
        write by its content.

        Args:
            expected: the tag that `pointer` returned; None: there must be none yet.
        """
