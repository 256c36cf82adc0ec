"""Run programs one at a time and say how long they took and how much memory they had."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from benchmarks.figures import Series

_SAMPLE_SECONDS = 0.01
_TIMEOUT_SECONDS = 1800


class BenchFailed(Exception):
    """Something that was to be measured did not work; the message has the end of its output."""


def run(argv: Sequence[object], *, cwd: Path, env: Mapping[str, str]) -> str:
    """Run a program to its end and return its stdout.

    Raises:
        BenchFailed: it cannot be started, ended with another status than 0, or took half an hour.
    """
    return _finish(_start(argv, cwd, env), argv)


def seconds(argv: Sequence[object], *, cwd: Path, env: Mapping[str, str]) -> float:
    """Return how long a program took from its start to its end; raises as `run`."""
    began = time.perf_counter()
    run(argv, cwd=cwd, env=env)
    return time.perf_counter() - began


def peak_memory(
    argv: Sequence[object], leave_out: frozenset[str], *, cwd: Path, env: Mapping[str, str]
) -> float:
    """Return the most memory, in MB, that a program and what it started had at one time.

    Resident memory is looked at every hundredth of a second; the kernel's own high-water mark of
    the program itself closes the gaps. Raises as `run`.

    Args:
        leave_out: names of programs that do not count, nor what they start.
    """
    child = _start(argv, cwd, env)
    peaks = [0]
    over = threading.Event()
    watcher = threading.Thread(target=_watch, args=(child.pid, leave_out, peaks, over))
    watcher.start()
    try:
        _finish(child, argv)
    finally:
        over.set()
        watcher.join()
    return peaks[0] / 1e6


def interleaved(
    contenders: Mapping[str, Callable[[int], float]],
    rounds: int,
    tell: Callable[[str], None],
    *,
    unit: str = "s",
) -> dict[str, Series]:
    """Measure A B A B …: what slows the machine down for a while then slows down both."""
    found: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds):
        for name, measure in contenders.items():
            value = measure(number)
            found[name].append(value)
            tell(f"  round {number + 1} of {rounds}: {name} {value:.3f} {unit}")
    return {name: Series(tuple(values), unit) for name, values in found.items()}


def _start(argv: Sequence[object], cwd: Path, env: Mapping[str, str]) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            [str(word) for word in argv],
            cwd=cwd,
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as error:
        raise BenchFailed(f"{argv[0]} cannot be started: {error}") from error


def _finish(child: subprocess.Popen[bytes], argv: Sequence[object]) -> str:
    try:
        out, err = child.communicate(timeout=_TIMEOUT_SECONDS)
    except BaseException:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        raise
    if child.returncode != 0:
        tail = "\n".join((out + err).decode("utf-8", "replace").splitlines()[-30:])
        command = " ".join(str(word) for word in argv)
        raise BenchFailed(f"{command}\nexited with {child.returncode}:\n{tail}")
    return out.decode("utf-8", "replace")


def _watch(pid: int, leave_out: frozenset[str], peaks: list[int], over: threading.Event) -> None:
    with suppress(psutil.NoSuchProcess):
        root = psutil.Process(pid)
        while not over.is_set():
            peaks[0] = max(peaks[0], _resident(root, leave_out), _high_water(pid))
            over.wait(_SAMPLE_SECONDS)


def _resident(process: psutil.Process, leave_out: frozenset[str]) -> int:
    """Return the resident bytes of a process and its descendants."""
    try:
        words = {Path(word).name for word in process.cmdline()[:4]}
        if words & leave_out:
            return 0
        own = int(process.memory_info().rss)
        children = process.children()
    except psutil.Error:
        return 0
    return own + sum(_resident(child, leave_out) for child in children)


def _high_water(pid: int) -> int:
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0
