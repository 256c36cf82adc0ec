"""Every mutating system call of a command, counted by strace, and the command struck at one."""

from __future__ import annotations

import importlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from artifact import cli, signals
from artifact.archive import parallel

for _name in ("install", "rollback", "prune", "recover"):
    importlib.import_module(f"artifact.cli.{_name}")
CALLS = (
    "open,openat,creat,write,pwrite64,writev,pwritev,rename,renameat,renameat2,link,linkat,symlink,"
    "symlinkat,unlink,unlinkat,mkdir,mkdirat,rmdir,truncate,ftruncate,fallocate,chmod,fchmod,"
    "fchmodat,chown,fchown,lchown,fchownat,utimensat,fsync,fdatasync,syncfs,sync_file_range,"
    "copy_file_range,sendfile,setxattr,fsetxattr"
)
_LINE = re.compile(r"(?P<call>\w+)\((?P<rest>.*)")
_SECONDS = 120


@dataclass(frozen=True, slots=True)
class Point:
    """One system call of a command."""

    call: str
    nth: int
    """Which of that name it is, from 1; the counting of strace."""
    what: str
    """Its line in strace's log."""

    def __str__(self) -> str:
        return f"{self.call} {self.nth}: {self.what[:160]}"


@dataclass(frozen=True, slots=True)
class Ended:
    """How a traced command ended."""

    code: int
    """Negative: the signal."""
    said: str
    points: tuple[Point, ...]


def run(
    command: Sequence[str], root: Path, log: Path, *, strike: Point | None = None, how: str = ""
) -> Ended:
    """Run an `artifact` command in a child of this process, under strace.

    The child has all modules already, and no threads but its own: it takes a tenth of a second,
    and its calls are the same each time.

    Args:
        root: of the site; calls that concern nothing in it are left out of the points.
        strike: where something happens to it.
        how: what: "signal=KILL" or "error=ENOSPC".
    """
    said = log.with_suffix(".said")
    log.write_bytes(b"")
    # Here: the tracer may be there before the child would have opened it, and would count that.
    output = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    child = os.fork()
    if child == 0:
        _become(command, log, output)
    os.close(output)
    argv = ["strace", "-p", str(child), "-y", "-s", "40", "-o", str(log), "-e", f"trace={CALLS}"]
    if strike is not None:
        argv += ["-e", f"inject={strike.call}:{how}:when={strike.nth}"]
    tracer = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status = os.waitpid(child, 0)
    tracer.wait(_SECONDS)
    return Ended(
        os.waitstatus_to_exitcode(status), said.read_text(errors="replace"), _points(log, root)
    )


def _become(command: Sequence[str], log: Path, output: int) -> NoReturn:
    """Be an `artifact` command, from the moment on that somebody traces it."""
    code = 1
    try:
        parallel.ThreadPoolExecutor = _AtOnce  # type: ignore[attr-defined,assignment]
        for descriptor in (1, 2):
            os.dup2(output, descriptor)
        deadline = time.monotonic() + _SECONDS
        while log.stat().st_size == 0 and time.monotonic() < deadline:
            # Nothing else does this call: its number is not counted.
            with suppress(OSError):
                os.setxattr("/nowhere", "user.here", b"")
            time.sleep(0.001)
        # What is imported late is compiled each time, or its first run had calls of its own.
        sys.dont_write_bytecode = True
        signals.raise_when_asked_to_stop()
        # What it waited for it says only where that took a while: one write more, or less.
        code = cli.run([*command, "--quiet"])
        sys.stdout.flush()
    finally:
        os._exit(code)


class _AtOnce:
    """A pool of threads without threads: a job is done when it is handed in."""

    def __init__(self, _count: int, thread_name_prefix: str = "") -> None:
        del thread_name_prefix

    def submit(self, work: Callable[[Any], Any], job: Any) -> Future[Any]:
        done: Future[Any] = Future()
        try:
            done.set_result(work(job))
        except Exception as error:  # handed on, as a pool does
            done.set_exception(error)
        return done

    def shutdown(self, *, cancel_futures: bool = False) -> None:
        del cancel_futures


def was_hit(ended: Ended, strike: Point) -> bool:
    """Tell whether what was struck is the call that was meant: pids and times may differ."""
    found = [p for p in ended.points if (p.call, p.nth) == (strike.call, strike.nth)]
    if ended.code == -signal.SIGKILL:
        return bool(ended.points) and found == [ended.points[-1]]
    return bool(found) and "INJECTED" in found[0].what


def _points(log: Path, root: Path) -> tuple[Point, ...]:
    """Read a log; children are not in it, for they only try whether the interpreter starts."""
    counts: dict[str, int] = {}
    points: list[Point] = []
    for line in log.read_text(errors="replace").splitlines():
        matched = _LINE.match(line)
        if matched is None:
            continue
        call, rest = matched["call"], matched["rest"]
        counts[call] = counts.get(call, 0) + 1
        if str(root) in rest and _mutates(call, rest):
            points.append(Point(call, counts[call], rest.replace(str(root), "…")))
    return tuple(points)


def _mutates(call: str, rest: str) -> bool:
    if call in {"open", "openat"}:
        return "O_CREAT" in rest or "O_TRUNC" in rest
    # What is said about the site to the terminal changes nothing in it.
    return "write" not in call or not rest.startswith(("1<", "2<"))
