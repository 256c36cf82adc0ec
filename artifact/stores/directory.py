"""A store that is a directory: a disk, a mounted share."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path

import msgspec

from artifact import files, steps
from artifact.errors import Refused
from artifact.stores import addresses
from artifact.stores.contract import (
    LARGEST_CHUNK,
    AccessDenied,
    ObjectInfo,
    Ranged,
    SimilarObject,
    StoreMissing,
    StoreUnreachable,
    changed,
    missing,
)

_ABANDONED_SECONDS = 24 * 3600.0


class DirectoryStore(msgspec.Struct, frozen=True):
    """Objects are files below `root`; names that begin with a dot are not objects."""

    root: Path

    @property
    def address(self) -> str:
        """The directory's path."""
        return str(self.root)

    def stat(self, name: str) -> ObjectInfo | None:
        """See `Store`."""
        with self._translated_errors(name):
            try:
                return _info(os.stat(self._path(name)))
            except (FileNotFoundError, NotADirectoryError):
                self._demand_root()
                return None

    def read(self, name: str, start: int, length: int, *, etag: str = "") -> Ranged:
        """See `Store`."""
        with self._translated_errors(name):
            descriptor = self._open(name)
            found = _info(os.fstat(descriptor))
        if etag and found.etag != etag:
            os.close(descriptor)
            raise changed(self.address, name)
        start = min(start, found.size)
        length = min(length, found.size - start)
        stream = FileIO(descriptor)
        chunks = self._chunks(name, stream, start, length, found)
        return Ranged(start, length, found.size, found.etag, chunks, stream.close)

    def tail(self, name: str, length: int) -> Ranged:
        """See `Store`."""
        found = self.stat(name)
        if found is None:
            raise missing(self.address, name)
        start = max(0, found.size - length)
        return self.read(name, start, found.size - start, etag=found.etag)

    def put_if_absent(
        self, name: str, source: Path, *, tell: steps.Listener, like: SimilarObject | None = None
    ) -> bool:
        """See `Store`; the kernel copies, so `like` would save nothing."""
        with self._translated_errors(name):
            self._demand_root()
            path = self._path(name)
            path.parent.mkdir(parents=True, exist_ok=True)
            _sweep(path.parent)
            if path.exists():
                return False
            beside = path.with_name(f".{path.name}.{_unique()}.new")
            try:
                _copy(source, beside, tell)
                # link(2) fails where a name is taken: rename(2) would replace it.
                os.link(beside, path)
                files.sync_directory(path.parent)
            except FileExistsError:
                return False
            finally:
                # A kill before this leaves a dot file, which `_sweep` removes after a day.
                beside.unlink(missing_ok=True)
            return True

    def names(self, prefix: str) -> Iterator[tuple[str, ObjectInfo]]:
        """See `Store`."""
        with self._translated_errors(prefix):
            self._demand_root()
            found = sorted(_walk(self.root, prefix))
        yield from found

    def delete(self, name: str) -> None:
        """See `Store`."""
        with self._translated_errors(name):
            self._demand_root()
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                self._path(name).unlink()

    def pointer(self, name: str) -> tuple[bytes, str] | None:
        """See `Store`."""
        with self._translated_errors(name):
            try:
                content = self._path(name).read_bytes()
            except (FileNotFoundError, NotADirectoryError):
                self._demand_root()
                return None
            return content, hashlib.sha256(content).hexdigest()

    def swap(self, name: str, content: bytes, expected: str | None) -> bool:
        """See `Store`."""
        path = self._path(name)
        with self._translated_errors(name):
            self._demand_root()
            path.parent.mkdir(parents=True, exist_ok=True)
            with files.flocked(path.with_name(f".{path.name}.lock"), fcntl.LOCK_EX):
                there = self.pointer(name)
                if (there[1] if there else None) != expected:
                    return False
                files.write(path, content)
                return True

    def _path(self, name: str) -> Path:
        return self.root / addresses.checked(name)

    def _open(self, name: str) -> int:
        try:
            descriptor = os.open(self._path(name), os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except (FileNotFoundError, NotADirectoryError) as error:
            self._demand_root()
            raise missing(self.address, name) from error
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            return descriptor
        os.close(descriptor)
        raise missing(self.address, name)

    def _chunks(
        self, name: str, stream: FileIO, start: int, length: int, found: ObjectInfo
    ) -> Iterator[bytes]:
        with stream:
            while length:
                with self._translated_errors(name):
                    data = os.pread(stream.fileno(), min(length, LARGEST_CHUNK), start)
                    # What somebody writes into the file while we read it shows in its times.
                    if not data or _info(os.fstat(stream.fileno())) != found:
                        raise changed(self.address, name)
                start += len(data)
                length -= len(data)
                yield data

    def _demand_root(self) -> None:
        # Never made here: an absent directory is mostly a share that is not mounted.
        if not self.root.is_dir():
            raise StoreMissing(
                f"the store {self.root} is not a directory that exists",
                hint="make it, or mount the share it is on",
            )

    @contextmanager
    def _translated_errors(self, name: str) -> Iterator[None]:
        """Turn the disk's errors into those of the contract."""
        try:
            yield
        except OSError as error:
            what = f"{name} in the store {self.address}: {error.strerror or error}"
            if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
                raise AccessDenied(
                    what, hint=f"`ls -ld {self.root}` shows who may write it"
                ) from error
            if error.errno in {errno.ENOSPC, errno.EDQUOT}:
                raise Refused(
                    what, hint="free space there: `artifact ls --prune --keep N`"
                ) from error
            raise StoreUnreachable(what, hint="is the share it is on mounted and well?") from error


def _info(status: os.stat_result) -> ObjectInfo:
    etag = f"{status.st_ino:x}-{status.st_size:x}-{status.st_mtime_ns:x}"
    return ObjectInfo(status.st_size, etag)


def _unique() -> str:
    # Hosts share a mounted directory, and their pids are the same numbers.
    return f"{os.uname().nodename}-{os.getpid()}-{threading.get_ident()}"


def _copy(source: Path, sink: Path, tell: steps.Listener) -> None:
    size, done = source.stat().st_size, 0
    with source.open("rb") as reader, sink.open("xb") as writer:
        while done < size:
            piece = min(size - done, 16 * LARGEST_CHUNK)
            files.copy_range(reader.fileno(), done, piece, writer.fileno())
            done += piece
            tell(steps.Progress("uploading", done, size))
        os.fsync(writer.fileno())


def _sweep(directory: Path) -> None:
    """Remove what killed uploads left behind."""
    for path in directory.glob(".*.new"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > _ABANDONED_SECONDS:
                path.unlink()


def _walk(root: Path, prefix: str) -> Iterator[tuple[str, ObjectInfo]]:
    # Only the directory that the prefix names: a store holds many applications.
    above = root / prefix.rpartition("/")[0]
    for parent, directories, names in os.walk(above):
        directories[:] = [name for name in directories if not name.startswith(".")]
        for name in names:
            path = os.path.join(parent, name)
            relative = os.path.relpath(path, root)
            if name.startswith(".") or not relative.startswith(prefix):
                continue
            with contextlib.suppress(FileNotFoundError):  # deleted meanwhile
                status = os.stat(path)
                if stat.S_ISREG(status.st_mode):
                    yield relative, _info(status)
