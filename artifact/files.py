"""The door to the disk: write beside then rename, locks that name their holder, careful removal."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import glob
import json
import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO

import msgspec

from artifact import steps, variables
from artifact.errors import Locked, Refused

_COPY_BYTES = 1 << 30
_WRITE_BYTES = 1 << 20
_POLL_SECONDS = 0.1
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def write(path: Path, data: bytes | str, *, mode: int = 0o644) -> None:
    """Replace a file in one step; after a crash it holds the old or the new content, whole."""
    content = data.encode() if isinstance(data, str) else data
    beside = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, mode)
        with os.fdopen(descriptor, "wb") as stream:
            os.fchmod(descriptor, mode)
            stream.write(content)
            stream.flush()
            os.fsync(descriptor)
        # A crash here leaves the old file and a dot file that the next write replaces.
        beside.replace(path)
        sync_directory(path.parent)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


@contextmanager
def written(path: Path) -> Iterator[IO[bytes]]:
    """Open a large file that gets its name, durable, when the block ends well; else none is left.

    Several runs may write the same at once: each has its own beside it, named by the stream, and
    the last one's stays.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}-{time.monotonic_ns()}.new")
    try:
        for left in path.parent.glob(f".{glob.escape(path.name)}.*.new"):
            _remove_unlocked(left)
        with _opened_locked(beside) as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
            # A crash before this line leaves the dot file only, which the next run removes.
            beside.replace(path)
        sync_directory(path.parent)
    finally:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)


def _opened_locked(path: Path) -> IO[bytes]:
    while True:
        stream = path.open("xb", buffering=_WRITE_BYTES)
        fcntl.flock(stream, fcntl.LOCK_EX)
        if os.fstat(stream.fileno()).st_nlink:
            return stream
        # Another run took it for abandoned in the moment before it was locked.
        stream.close()


def _remove_unlocked(path: Path) -> None:
    """Remove what a killed run left; one that lives holds a lock on its file."""
    with contextlib.suppress(OSError), path.open("rb") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink()


def add(path: Path, data: bytes, *, mode: int) -> None:
    """Write a file that is not there yet into a tree that the caller makes durable as a whole."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    with os.fdopen(descriptor, "wb") as stream:
        os.fchmod(descriptor, mode)
        stream.write(data)


def point(link: Path, target: str) -> None:
    """Make `link` a symlink to `target` in one step, whatever it pointed at before."""
    beside = link.with_name(f".{link.name}.{os.getpid()}.new")
    beside.unlink(missing_ok=True)
    try:
        beside.symlink_to(target)
        # A crash here leaves the old link: unlink-then-symlink would leave a moment without one.
        beside.replace(link)
        sync_directory(link.parent)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


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
    # Python has sync(2) only, which waits for every disk; ctypes is imported by those who need it.
    import ctypes

    descriptor = os.open(path, os.O_RDONLY)
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(descriptor) != 0:
            raise OSError(ctypes.get_errno(), "cannot be made durable", str(path))
    finally:
        os.close(descriptor)


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

    Whoever works in one holds a lock on it, which ends with the process: a number of a process
    would say nothing to a container that shares the directory.

    Args:
        above: where; for temporary files when left out.
        prefix: nobody else's names may begin so.
    """
    # Imported late: it draws in `random`, which costs `artifact status` 5 ms.
    import tempfile

    above = above or Path(tempfile.gettempdir())
    for left in above.glob(f"{glob.escape(prefix)}*"):
        _remove_abandoned(left)
    path, descriptor = _claimed(partial(tempfile.mkdtemp, prefix=prefix, dir=above))
    try:
        yield path
    finally:
        _remove(path)
        os.close(descriptor)


def _claimed(make: Callable[[], str]) -> tuple[Path, int]:
    while True:
        path = Path(make())
        with contextlib.suppress(FileNotFoundError):
            descriptor = os.open(path, _DIRECTORY)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if os.fstat(descriptor).st_nlink:
                return path, descriptor
            os.close(descriptor)
        # Another run took it for abandoned in the moment before it was locked.


def _remove_abandoned(path: Path) -> None:
    # Not ours, or in use: both are left alone.
    with contextlib.suppress(OSError):
        descriptor = os.open(path, _DIRECTORY)
        try:
            if os.fstat(descriptor).st_uid == os.geteuid():
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _remove(path)
        finally:
            os.close(descriptor)


def make_read_only(root: Path) -> None:
    """Take the write permission from everything in a tree, directories last."""
    for parent, _directories, names in os.walk(root, topdown=False):
        for name in names:
            path = os.path.join(parent, name)  # 17,000 files: no Path for each
            mode = os.lstat(path).st_mode
            if stat.S_ISREG(mode) and mode & 0o222:
                os.chmod(path, stat.S_IMODE(mode) & ~0o222)
        directory_mode = stat.S_IMODE(os.lstat(parent).st_mode)
        os.chmod(parent, directory_mode & ~0o222)


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


def whoami() -> str:
    """Return the user, with the person behind sudo and the CI job where there is one."""
    user = variables.get("USER") or variables.get("LOGNAME") or f"uid {os.getuid()}"
    sudo = variables.get("SUDO_USER")
    job = variables.get("CI_JOB_URL") or variables.get("BUILD_URL")
    return user + (f" for {sudo}" if sudo else "") + (f" in {job}" if job else "")


def lock_holder(path: Path) -> Holder | None:
    """Return what the holder of a lock wrote into it; None when that cannot be read."""
    try:
        row = json.loads(path.read_bytes())
        return Holder(int(row["pid"]), str(row["who"]), str(row["doing"]), float(row["since"]))
    except (OSError, ValueError, KeyError, TypeError):
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
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    except OSError as error:
        raise Refused(
            f"the lock {path} cannot be opened: {error.strerror}; nothing has changed",
            hint=f"`ls -ld {path.parent} {path}` and `df -h {path.parent}` show why",
        ) from error
    try:
        _acquire(descriptor, path, wait, tell)
        mine = {"pid": os.getpid(), "who": whoami(), "doing": doing, "since": time.time()}
        with contextlib.suppress(OSError):  # on a full disk the lock holds without its note
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, json.dumps(mine).encode(), 0)
        yield descriptor
        with contextlib.suppress(OSError):
            os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


def _acquire(descriptor: int, path: Path, wait: float, tell: steps.Listener) -> None:
    if _is_ours(descriptor):
        return
    deadline = time.monotonic() + wait
    if wait <= 0:
        raise _locked(path)
    tell(steps.Said(f"waiting for {_holder(path)}, for {wait:g} s at most"))
    with steps.waiting(tell, f"{path} was free"):
        while not _is_ours(descriptor):
            if time.monotonic() >= deadline:
                raise _locked(path)
            time.sleep(_POLL_SECONDS)


def _locked(path: Path) -> Locked:
    hint = "wait for it, or give a longer time to wait"
    return Locked(f"{path} is locked by {_holder(path)}", hint=hint)


def _is_ours(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _holder(path: Path) -> str:
    holder = lock_holder(path)
    return holder.describe() if holder else "a run that has not said who it is"
