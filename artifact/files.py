"""The door to the disk: write beside then rename, locks that name their holder, careful removal."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import glob
import hashlib
import os
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO

import msgspec

from artifact import steps, variables
from artifact.errors import ArtifactError, Locked, Refused

_COPY_BYTES = 1 << 30
_WRITE_BYTES = 1 << 20
_POLL_SECONDS = 0.1


def write(path: Path, data: bytes | str, *, mode: int = 0o644) -> None:
    """Replace a file in one step; after a crash it holds the old or the new content, whole."""
    content = data.encode() if isinstance(data, str) else data
    with _beside(path) as beside:
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, mode)
        with os.fdopen(descriptor, "wb") as stream:
            os.fchmod(descriptor, mode)
            stream.write(content)
            stream.flush()
            os.fsync(descriptor)
        # A crash here leaves the old file and a dot file that the next write replaces.
        beside.replace(path)


@contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """Give the block a name to write to before it takes the place of `path`, durably."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        yield beside
        sync_directory(path.parent)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


@contextmanager
def written(path: Path) -> Iterator[IO[bytes]]:
    """Open a large file that gets its name, durable, when the block ends well; else none is left.

    Several runs may write the same file at once. Each has a file of its own beside it, named by the
    stream, and the last one stays.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}-{time.monotonic_ns()}.new")

    def make() -> Path:
        beside.touch(exist_ok=False)
        return beside

    try:
        for left in path.parent.glob(f".{glob.escape(path.name)}.*.new"):
            _remove_abandoned(left)
        _, descriptor = _claimed(make, os.O_WRONLY)
        # By its name, for the stream is to tell it.
        with open(beside, "wb", _WRITE_BYTES, opener=lambda *_: descriptor) as stream:
            yield stream
            stream.flush()
            os.fsync(descriptor)
            # A crash before this line leaves the dot file only, which the next run removes.
            beside.replace(path)
        sync_directory(path.parent)
    finally:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)


def write_new(path: Path, data: bytes, *, mode: int) -> None:
    """Write a file that is not there yet into a tree that the caller makes durable as a whole."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    with os.fdopen(descriptor, "wb") as stream:
        os.fchmod(descriptor, mode)
        stream.write(data)


def replace_link(link: Path, target: str) -> None:
    """Make `link` a symlink to `target` in one step, whatever it pointed at before."""
    with _beside(link) as beside:
        beside.unlink(missing_ok=True)
        beside.symlink_to(target)
        # A crash here leaves the old link: unlink-then-symlink would leave a moment without one.
        beside.replace(link)


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_filesystem(path: Path) -> None:
    """Make all that was written to a path's file system durable.

    One call for 17,000 files: an fsync each takes two to four times as long as unpacking them.
    """
    # Python has sync(2) only, which waits for every disk.
    descriptor = os.open(path, os.O_RDONLY)
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(descriptor) != 0:
            raise OSError(ctypes.get_errno(), "cannot be made durable", str(path))
    finally:
        os.close(descriptor)


def sha256(path: str | Path) -> str:
    """Return the digest of a file's content, in hexadecimal digits."""
    with open(path, "rb") as stream:  # no Path is made of a string: some are asked for thousands
        return hashlib.file_digest(stream, "sha256").hexdigest()


def copy_range(source: int, offset: int, length: int, sink: int) -> None:
    """Append `length` bytes of one descriptor, from `offset`, to another, inside the kernel.

    Raises:
        OSError: the source is shorter than promised (EIO), or the disk says no.
    """
    while length:
        try:
            copied = os.copy_file_range(source, sink, min(length, _COPY_BYTES), offset)
        except OSError as error:
            if error.errno not in {errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP}:
                raise
            copied = os.sendfile(sink, source, offset, min(length, _COPY_BYTES))
        if copied == 0:
            raise OSError(errno.EIO, "file is shorter than expected")
        offset += copied
        length -= copied


def remove_tree(path: Path) -> None:
    """Delete a file or a tree, read-only directories included; nothing there is fine.

    The tree is renamed first, so that a crash never leaves half of it under its own name.
    """
    if not path.is_symlink() and not path.exists():
        return
    if path.is_symlink() or not path.is_dir():
        path.unlink()
        return
    doomed = path
    if not path.name.startswith(".removing-"):
        doomed = path.with_name(f".removing-{path.name}-{os.getpid()}-{time.monotonic_ns()}")
        path.rename(doomed)
    _remove(doomed)


def _remove(directory: Path) -> None:
    with contextlib.suppress(PermissionError):
        directory.chmod(0o700)
    with os.scandir(directory) as found:
        entries = list(found)  # a deep tree would else hold a descriptor a level
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            _remove(Path(entry.path))
        else:
            os.unlink(entry.path)
    directory.rmdir()


@contextmanager
def scratch(above: Path | None = None, *, prefix: str = "artifact-scratch-") -> Iterator[Path]:
    """Make a directory for the block, after removing those that killed runs left.

    A run holds a lock on its directory, which ends with the process. A process's number would say
    nothing to a container that shares the directory.

    Args:
        above: where; for temporary files when left out.
        prefix: nobody else's names may begin so.
    """
    above = above or Path(tempfile.gettempdir())
    for left in above.glob(f"{glob.escape(prefix)}*"):
        _remove_abandoned(left)
    make = partial(tempfile.mkdtemp, prefix=prefix, dir=above)
    path, descriptor = _claimed(lambda: Path(make()), os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield path
    finally:
        _remove(path)
        os.close(descriptor)


def _claimed(make: Callable[[], Path], flags: int) -> tuple[Path, int]:
    """Make a file or a directory, and lock it for as long as its descriptor is open."""
    while True:
        path = make()
        with contextlib.suppress(FileNotFoundError):
            descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if os.fstat(descriptor).st_nlink:
                return path, descriptor
            os.close(descriptor)
        # Another run took it for abandoned in the moment before it was locked.


def _remove_abandoned(path: Path) -> None:
    """Remove what a killed run left; a run that lives holds a lock on what it made."""
    with contextlib.suppress(OSError):  # in use, or not ours to remove: it is left alone
        # A FIFO that somebody put there must not make us wait.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            status = os.fstat(descriptor)
            is_directory = stat.S_ISDIR(status.st_mode)
            # Somebody else's directory may become a link while we look into it.
            if not is_directory or status.st_uid == os.geteuid():
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                (_remove if is_directory else os.unlink)(path)
        finally:
            os.close(descriptor)


def make_read_only(root: Path) -> None:
    """Take the write permission from everything in a tree, directories last."""
    for parent, _directories, names in os.walk(root):
        for name in names:
            path = os.path.join(parent, name)  # 17,000 files: no Path for each
            mode = os.lstat(path).st_mode
            if stat.S_ISREG(mode) and mode & 0o222:
                os.chmod(path, stat.S_IMODE(mode) & ~0o222)
    close_directories(root)


def close_directories(root: Path) -> None:
    """Take the write permission from the directories of a tree, the inner ones first."""
    for parent, _directories, _names in os.walk(root, topdown=False):
        os.chmod(parent, stat.S_IMODE(os.lstat(parent).st_mode) & ~0o222)


class Holder(msgspec.Struct, frozen=True):
    """Who holds a lock."""

    pid: int
    who: str
    doing: str
    since: float

    def describe(self) -> str:
        """Return "alice (pid 4711) since 12:03:11, building accounting 1337"."""
        clock = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.since))
        return f"{self.who} (pid {self.pid}) since {clock}, {self.doing}"


@contextmanager
def disk_errors(what: str, where: Path, kind: type[ArtifactError] = Refused) -> Iterator[None]:
    """Turn what the disk says in the block into an error for the operator.

    Args:
        what: "the journal cannot be written"; the disk's reason follows.
        where: a directory on that disk.
        kind: the error's class.
    """
    try:
        yield
    except OSError as error:
        raise kind(
            f"{what}: {error.strerror or error}",
            hint=f"`df -h {where}` and `df -i {where}` show what is free, "
            f"`ls -ld {where}` who may write there",
        ) from error


@contextmanager
def flocked(path: Path, operation: int) -> Iterator[int]:
    """Hold a lock on a file for the block, after waiting for it as long as it takes.

    Unlike `locked` it says nothing of its holder, and others can share it.

    Args:
        operation: `fcntl.LOCK_SH` or `fcntl.LOCK_EX`.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    try:
        fcntl.flock(descriptor, operation)
        yield descriptor
    finally:
        os.close(descriptor)


def is_held(path: Path, operation: int) -> bool:
    """Tell whether somebody holds a lock that keeps us from this one; nothing waits or is kept.

    Raises:
        OSError: the file is not there or cannot be opened.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return not _acquired(descriptor, operation)
    finally:
        os.close(descriptor)


def whoami() -> str:
    """Return the user, with the person behind sudo and the CI job where there is one."""
    user = variables.get("USER") or variables.get("LOGNAME") or f"uid {os.getuid()}"
    sudo = variables.get("SUDO_USER")
    job = variables.get("CI_JOB_URL") or variables.get("BUILD_URL")
    return user + (f" for {sudo}" if sudo else "") + (f" in {job}" if job else "")


def lock_holder(path: Path) -> Holder | None:
    """Return what the holder of a lock wrote into it; None when that cannot be read."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Holder)
    except (OSError, msgspec.MsgspecError):
        return None


@contextmanager
def locked(
    path: Path, *, doing: str, wait: float = 0.0, tell: steps.Listener = steps.nobody
) -> Iterator[int]:
    """Hold an exclusive lock on a file for the block; the kernel drops it if we die.

    Yields the lock's descriptor, for `process.sharing`.

    Args:
        doing: what for, as the others are told: "building accounting 1337".
        wait: seconds to wait for another holder; 0 gives up at once.
        tell: hears whom it waits for.

    Raises:
        Locked: another run holds it and the wait is over.
        Refused: its file cannot be made or opened.
    """
    with disk_errors(f"nothing has changed: the lock {path} cannot be opened", path.parent):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    try:
        _acquire(descriptor, path, wait, tell)
        mine = Holder(os.getpid(), whoami(), doing, time.time())
        with contextlib.suppress(OSError):  # on a full disk the lock holds without its note
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, msgspec.json.encode(mine), 0)
        yield descriptor
        with contextlib.suppress(OSError):
            os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


def _acquire(descriptor: int, path: Path, wait: float, tell: steps.Listener) -> None:
    if _acquired(descriptor):
        return
    deadline = time.monotonic() + wait
    if wait <= 0:
        raise _locked(path)
    tell(steps.Said(f"waiting for {_holder(path)}, for {wait:g} s at most"))
    with steps.waiting(tell, f"{path} was free"):
        while not _acquired(descriptor):
            if time.monotonic() >= deadline:
                raise _locked(path)
            time.sleep(_POLL_SECONDS)


def _locked(path: Path) -> Locked:
    hint = "wait for it, or give a longer time to wait"
    return Locked(f"{path} is locked by {_holder(path)}", hint=hint)


def _acquired(descriptor: int, operation: int = fcntl.LOCK_EX) -> bool:
    try:
        fcntl.flock(descriptor, operation | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _holder(path: Path) -> str:
    holder = lock_holder(path)
    return holder.describe() if holder else "a run that has not said who it is"
