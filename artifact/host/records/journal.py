"""What a site remembers: one JSON line an event, durable before the next thing is done.

The journal is append-only and the truth about what was tried and how it ended; its sequence, never
the clock, gives the order. A crash can tear the last line at most: readers skip it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal

import msgspec

from artifact import files, redaction, steps

_BLOCK_BYTES = 64 << 10

Event = Literal[
    "began", "started", "ended", "failed", "undone", "warned", "release", "applied", "over"
]
ReleaseState = Literal["staged", "checked", "live", "good", "failed", "rolled-back", "removed"]


class Line(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One event of a run."""

    sequence: int
    run: str
    time: str
    """UTC, ISO 8601, for people; order comes from `sequence`."""
    event: str
    command: str = ""
    who: str = ""
    pid: int = 0
    version: str = ""
    digest: str = ""
    previous: str = ""
    """In "began": the version that was live before; empty when none was."""
    step: str = ""
    text: str = ""
    """The step's summary, its note, the warning, or the error; in "applied" the migrations that a
    database has, before or after (`step`)."""
    seconds: float = 0.0
    state: str = ""
    """In "release": what the version became."""
    code: int = 0
    """In "over": the exit code."""


class Run(msgspec.Struct, frozen=True):
    """One run as the journal tells it."""

    lines: tuple[Line, ...]

    @property
    def began(self) -> Line:
        return self.lines[0]

    @property
    def over(self) -> Line | None:
        """How it ended; None for one that is still at it, or was killed."""
        return next((line for line in self.lines if line.event == "over"), None)

    def reached(self, step: str) -> bool:
        """Tell whether a step began, whatever became of it."""
        return any(line.event == "started" and line.step == step for line in self.lines)


def read(path: Path) -> Iterator[Line]:
    """Yield all lines in order; torn ones are skipped, a missing journal is empty."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return
    yield from _decode(content)


def last_run(path: Path) -> Run | None:
    """Return the newest run, reading no more of the file's end than it takes."""
    try:
        stream = path.open("rb")
    except FileNotFoundError:
        return None
    with stream:
        size = stream.seek(0, os.SEEK_END)
        span = _BLOCK_BYTES
        while True:
            start = max(0, size - span)
            stream.seek(start)
            run = _newest(list(_decode(stream.read(size - start))))
            if run is not None or start == 0:
                return run
            span *= 4


def release_states(path: Path) -> dict[str, Line]:
    """Return the newest "release" line of every version, in the order of the first ones."""
    states: dict[str, Line] = {}
    for line in read(path):
        if line.event == "release":
            states[line.version] = line
    return states


class Journal:
    """Appends the events of one run; its `hear` is a `steps.Listener`."""

    def __init__(self, path: Path, run: str, sequence: int) -> None:
        self.path = path
        self.run = run
        self._sequence = sequence

    def hear(self, event: steps.Event) -> None:
        """Write down what matters of an event; progress and talk do not."""
        match event:
            case steps.Started(name=name, summary=summary):
                self.add("started", step=name, text=summary)
            case steps.Ended(name=name, note=note, seconds=seconds):
                self.add("ended", step=name, text=note, seconds=round(seconds, 3))
            case steps.Failed(name=name, error=error, seconds=seconds):
                text = str(error) or type(error).__name__
                self.add("failed", step=name, text=text, seconds=round(seconds, 3))
            case steps.Undone(name=name, summary=summary):
                self.add("undone", step=name, text=summary)
            case steps.Warned(text=text):
                with suppress(OSError):  # a warning is no reason to fail
                    self.add("warned", text=text)
            case _:
                pass

    def release(
        self, version: str, state: ReleaseState, *, digest: str = "", reason: str = ""
    ) -> None:
        """Write down what a release has become."""
        self.add("release", version=version, state=state, digest=digest, text=reason)

    def rolled_back(self, to: str, *, digest: str, left: str) -> None:
        """Write down where a rollback led to and, in the same write, what it left."""
        lines = [self._line("release", version=to, state="good", digest=digest)]
        if left:
            text = f"left by a rollback to {to}"
            lines.append(self._line("release", version=left, state="rolled-back", text=text))
        _append(self.path, b"\n".join(lines))

    def over(self, code: int, text: str) -> None:
        """Write down how the run ended; the last line of a run."""
        self.add("over", code=code, text=text)

    def add(self, event: Event, **facts: str | float) -> None:
        """Append one line; the names of the facts are those of `Line`."""
        _append(self.path, self._line(event, **facts))

    def _line(self, event: Event, **facts: str | float) -> bytes:
        self._sequence += 1
        if "text" in facts:
            facts["text"] = redaction.redact(str(facts["text"]))
        place = {"sequence": self._sequence, "run": self.run, "time": _clock(), "event": event}
        return msgspec.json.encode({**place, **facts})


def begin(path: Path, *, command: str, version: str, digest: str, previous: str) -> Journal:
    """Start a run; the caller holds the site's lock, for runs do not interleave."""
    sequence = _last_sequence(path)
    journal = Journal(path, f"{sequence + 1:06d}", sequence)
    journal.add(
        "began",
        command=command,
        who=files.whoami(),
        pid=os.getpid(),
        version=version,
        digest=digest,
        previous=previous,
    )
    return journal


def resume(path: Path, run: Run) -> Journal:
    """Go on writing an interrupted run, to say how recovery ended it."""
    return Journal(path, run.began.run, _last_sequence(path))


def _append(path: Path, line: bytes) -> None:
    fresh = not path.exists()
    descriptor = os.open(
        path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o640
    )
    try:
        size = os.fstat(descriptor).st_size
        # A line torn by a crash is closed first, else it would swallow this one too.
        torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
        data = (b"\n" if torn else b"") + line + b"\n"
        try:
            written = os.write(descriptor, data)
            if written != len(data):
                written += os.write(descriptor, data[written:])
            os.fsync(descriptor)
        except OSError:
            os.ftruncate(descriptor, size)  # a full disk leaves no half line, nor one we deny
            raise
    finally:
        os.close(descriptor)
    if fresh:
        files.sync_directory(path.parent)


def _decode(content: bytes) -> Iterator[Line]:
    decoder = msgspec.json.Decoder(Line)
    for raw in content.split(b"\n"):
        try:
            yield decoder.decode(raw)
        except msgspec.MsgspecError:
            continue


def _newest(lines: Sequence[Line]) -> Run | None:
    for line in reversed(lines):
        if line.event == "began":
            return Run(tuple(other for other in lines if other.run == line.run))
    return None


def _last_sequence(path: Path) -> int:
    run = last_run(path)
    return run.lines[-1].sequence if run is not None else 0


def _clock() -> str:
    now = time.time()
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now * 1000) % 1000:03d}Z"
