"""The door to other programs: one way to run them, hear them, bound them and end them."""

from __future__ import annotations

import contextlib
import os
import pwd
import selectors
import shlex
import shutil
import signal
import subprocess
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import IO

import msgspec

from artifact import redaction, steps, variables

TAIL_LINES = 20
_GRACE_SECONDS = 5.0
_READ_BYTES = 65536

_shared: ContextVar[tuple[int, ...]] = ContextVar("_shared", default=())


class Result(msgspec.Struct, frozen=True):
    """How a child ended."""

    status: int
    """Its exit status; negative when a signal ended it, as in `subprocess`."""
    stdout: str
    tail: tuple[str, ...]
    """The last lines of stdout (unless it was captured as data) and stderr, redacted."""
    seconds: float


class ChildFailed(Exception):
    """A child could not be started, ran too long or ended with a status other than 0.

    Callers turn it into an error of their own, for only they know what state things are in.
    """

    def __init__(self, argv: Sequence[str], reason: str, tail: tuple[str, ...] = ()) -> None:
        self.command = redaction.redact(shlex.join(argv))
        self.reason = reason
        """ "exited with status 1", "was killed by SIGKILL", "took longer than 600 s"…"""
        self.tail = tail
        super().__init__(f"{self.command} {reason}")


class ProgramMissing(ChildFailed):
    """The program is not on PATH or cannot be executed."""


@contextmanager
def sharing(descriptor: int) -> Iterator[None]:
    """Let the children started in the block hold a lock's descriptor as well.

    When this process is killed, what it started may go on writing; the kernel then keeps the lock
    until the last of them has ended.
    """
    token = _shared.set((*_shared.get(), descriptor))
    try:
        yield
    finally:
        _shared.reset(token)


def run(
    argv: Sequence[str],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    user: pwd.struct_passwd | None = None,
    stdin: str | None = None,
    capture: bool = False,
    timeout: float | None = None,
    check: bool = True,
    tell: steps.Listener = steps.nobody,
    log: Path | None = None,
) -> Result:
    """Run a program to its end in a session of its own.

    Args:
        env: the whole environment of the child; this process's own when left out.
        user: who the child is from its first instruction on; whoever we are when left out.
        stdin: text to feed it; it reads from /dev/null when left out.
        capture: keep all of stdout as data in `Result.stdout`; else stdout counts as talk.
        timeout: seconds, after which the child and everything it started are ended.
        check: raise `ChildFailed` for a status other than 0.
        tell: hears every line of talk as `steps.Output`.
        log: a file that gets every line of talk, redacted.

    Raises:
        ProgramMissing: it cannot be started.
        ChildFailed: it took too long, or failed and `check` is set.
    """
    began = time.monotonic()
    environment = dict(variables.everything() if env is None else env)
    tell(steps.Ran(redaction.redact(shlex.join(argv), environment)))
    child = _popen(argv, cwd, environment, user, stdin, subprocess.PIPE, subprocess.PIPE)
    talk = _Talk(environment, tell, log)
    try:
        captured = _converse(child, argv, capture, began, timeout, talk)
        status = child.wait()
    except BaseException:
        end_group(child.pid)
        child.wait()
        raise
    finally:
        talk.close()
        for stream in (child.stdout, child.stderr):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
    tail = tuple(talk.tail)
    if check and status != 0:
        raise ChildFailed(argv, describe(status), tail)
    return Result(status, captured, tail, time.monotonic() - began)


def read(
    argv: Sequence[str],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    user: pwd.struct_passwd | None = None,
    timeout: float | None = 60,
) -> str:
    """Run a program and return its stdout; raises as `run`."""
    return run(argv, cwd=cwd, env=env, user=user, capture=True, timeout=timeout).stdout


class Child(msgspec.Struct, frozen=True):
    """A program that runs beside us."""

    argv: Sequence[str]
    log: Path
    _popen: subprocess.Popen[bytes]

    @property
    def failure(self) -> str:
        """Why it is gone ("exited with status 3"); empty while it runs."""
        status = self._popen.poll()
        return "" if status is None else describe(status)

    def tail(self, env: Mapping[str, str] | None = None) -> tuple[str, ...]:
        """Return the last lines it printed, redacted."""
        text = self.log.read_text("utf-8", "replace")[-_READ_BYTES:]
        return tuple(redaction.redact(text, env).splitlines()[-TAIL_LINES:])


@contextmanager
def running(
    argv: Sequence[str],
    *,
    log: Path,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    user: pwd.struct_passwd | None = None,
    stdin: str | None = None,
) -> Iterator[Child]:
    """Run a program beside us for the block, then end it and what it started.

    Args:
        log: gets all it prints, replacing what was there.
        user: as in `run`.
        stdin: text to feed it; it reads from /dev/null when left out.

    Raises:
        ProgramMissing: it cannot be started.
    """
    environment = dict(variables.everything() if env is None else env)
    with log.open("wb") as stream:
        log.chmod(0o600)  # not redacted
        child = _popen(argv, cwd, environment, user, stdin, stream, subprocess.STDOUT)
    try:
        yield Child(argv, log, child)
    finally:
        end_group(child.pid)
        child.wait()


def become(argv: Sequence[str], env: Mapping[str, str]) -> None:
    """Replace this process by a program; never returns.

    Raises:
        ProgramMissing: it cannot be started.
    """
    try:
        os.execvpe(argv[0], list(argv), dict(env))  # noqa: S606 - a list, no shell
    except OSError as error:
        raise ProgramMissing(argv, f"cannot be started: {error.strerror}") from error
    except ValueError as error:  # as in `_popen`
        raise ProgramMissing(argv, f"cannot be started: {error}") from error


def in_sbin(program: str) -> str:
    """Return the path of an administrator's program, also where `su` or a service left sbin out."""
    path = f"{variables.get('PATH', os.defpath)}:/usr/local/sbin:/usr/sbin:/sbin"
    return shutil.which(program, path=path) or program


def describe(status: int) -> str:
    """Put an exit status into words."""
    if status >= 0:
        return f"exited with status {status}"
    try:
        return f"was killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"was killed by signal {-status}"


def end_group(pid: int) -> None:
    """End a session leader and what it started: TERM, then KILL after five seconds."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGTERM)
        deadline = time.monotonic() + _GRACE_SECONDS
        while time.monotonic() < deadline:
            # Reap the leader if it is ours and done, else the group never empties.
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
            os.killpg(pid, 0)
            time.sleep(0.02)
        os.killpg(pid, signal.SIGKILL)


def _popen(
    argv: Sequence[str],
    cwd: Path | None,
    environment: dict[str, str],
    user: pwd.struct_passwd | None,
    stdin: str | None,
    stdout: int | IO[bytes],
    stderr: int,
) -> subprocess.Popen[bytes]:
    other = None if user is None or user.pw_uid == os.geteuid() else user
    # Not a pipe: one that is full would keep us from hearing the child.
    feed = os.open(os.devnull, os.O_RDONLY) if stdin is None else _in_memory(stdin)
    try:
        return subprocess.Popen(
            list(argv),
            cwd=cwd,
            env=environment,
            stdin=feed,
            stdout=stdout,
            stderr=stderr,
            user=other and other.pw_uid,
            group=other and other.pw_gid,
            extra_groups=other and os.getgrouplist(other.pw_name, other.pw_gid),
            start_new_session=True,
            pass_fds=_shared.get(),
        )
    except OSError as error:
        missing = error.filename or argv[0]
        raise ProgramMissing(argv, f"cannot be started: {missing}: {error.strerror}") from error
    except ValueError as error:  # a NUL byte in a word or a variable
        raise ProgramMissing(argv, f"cannot be started: {error}") from error
    finally:
        os.close(feed)


def _in_memory(text: str) -> int:
    feed = os.memfd_create("stdin")
    with open(feed, "wb", closefd=False) as stream:
        stream.write(text.encode())
    os.lseek(feed, 0, os.SEEK_SET)
    return feed


class _Talk:
    """The lines a child prints for people: told, logged, and the last of them kept."""

    def __init__(
        self, environment: Mapping[str, str], tell: steps.Listener, log: Path | None
    ) -> None:
        self.tail: deque[str] = deque(maxlen=TAIL_LINES)
        self._environment = environment
        self._tell = tell
        self._log = log.open("a", encoding="utf-8") if log is not None else None
        self._partial: dict[str, bytes] = {}

    def hear(self, stream: str, data: bytes) -> None:
        *lines, rest = (self._partial.get(stream, b"") + data).split(b"\n")
        self._partial[stream] = rest
        for line in lines:
            self._line(line)

    def close(self) -> None:
        for rest in self._partial.values():
            if rest:
                self._line(rest)
        self._partial.clear()
        if self._log is not None:
            self._log.close()

    def _line(self, raw: bytes) -> None:
        # A child's progress bar redraws with carriage returns: its last state is the line.
        text = raw.decode("utf-8", "replace").rstrip("\r").rpartition("\r")[2]
        text = redaction.redact(text, self._environment)
        self.tail.append(text)
        self._tell(steps.Output(text))
        if self._log is not None:
            self._log.write(text + "\n")


def _converse(
    child: subprocess.Popen[bytes],
    argv: Sequence[str],
    capture: bool,  # noqa: FBT001 - private
    began: float,
    timeout: float | None,
    talk: _Talk,
) -> str:
    """Hear the child until it closed both streams; return what was captured."""
    captured: list[bytes] = []
    with selectors.DefaultSelector() as selector:
        assert child.stdout is not None
        assert child.stderr is not None
        selector.register(child.stdout, selectors.EVENT_READ, "stdout")
        selector.register(child.stderr, selectors.EVENT_READ, "stderr")
        while selector.get_map():
            left = None if timeout is None else began + timeout - time.monotonic()
            if left is not None and left <= 0:
                talk.close()
                raise ChildFailed(argv, f"took longer than {timeout:g} s", tuple(talk.tail))
            # A grandchild may hold the pipes after the child is gone: look now and then.
            ready = selector.select(1.0 if left is None else min(left, 1.0))
            if not ready and child.poll() is not None:
                break
            for key, _ in ready:
                data = os.read(key.fd, _READ_BYTES)
                if not data:
                    selector.unregister(key.fileobj)
                elif key.data == "stdout" and capture:
                    captured.append(data)
                else:
                    talk.hear(key.data, data)
    return b"".join(captured).decode("utf-8", "replace")
