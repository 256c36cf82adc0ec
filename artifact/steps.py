"""The one loop that runs a plan, and the events by which everything is told.

A plan is a tuple of steps written from observed facts. Code that reads changes nothing, code that
acts decides nothing; `--plan` prints the tuple instead of running it. A plan knows nothing of the
run that will carry it out: each step is handed that when it is done, or undone.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Generic, NamedTuple, TypeVar

import msgspec

from artifact import signals
from artifact.errors import RollbackFailed

_NO_WAIT_SECONDS = 0.005


class Run(msgspec.Struct):
    """A run at work: what its steps are handed."""

    tell: Listener
    """Hears every event of the run."""
    held: contextlib.ExitStack = msgspec.field(default_factory=contextlib.ExitStack)
    """What ends with the run: signals are held off in it when a step has committed."""


RunT = TypeVar("RunT", bound=Run, contravariant=True)


class Step(msgspec.Struct, Generic[RunT], frozen=True):
    """One thing to do and how to take it back."""

    name: str
    """Stable: journal, --json and tests know the step by it."""
    summary: str
    """What it will do, in the user's words: "point current at 1337 (was 1336)"."""
    do: Callable[[RunT], str | None]
    """Does it; returns a note such as "reused, 0 bytes"."""
    undo: Callable[[RunT], None] | None = None
    """Takes it back; idempotent, and also called when `do` failed half way."""
    commits: bool = False
    """Once it is done nothing of the plan is undone, whatever strikes; signals wait meanwhile."""


class RunBegan(NamedTuple):
    """A run of a command that changes a site began."""

    run: str
    """Its number in the site's journal."""
    command: str
    """ "install", "rollback", "prune"…"""
    site: str
    version: str
    """Of the release it is about; empty where it is about none."""
    previous: str
    """The version that was live before; empty when none was."""


class RunOver(NamedTuple):
    """A run ended, well or not."""

    run: str
    command: str
    code: int
    """The exit code: what state things are in."""
    text: str
    seconds: float


class Started(NamedTuple):
    """A step began."""

    name: str
    summary: str


class Ended(NamedTuple):
    """A step is done."""

    name: str
    summary: str
    seconds: float
    note: str


class Failed(NamedTuple):
    """A step failed; what was done before is about to be undone."""

    name: str
    summary: str
    seconds: float
    error: BaseException


class Undone(NamedTuple):
    """A step was taken back."""

    name: str
    summary: str


class Progress(NamedTuple):
    """How far something long has come; `total` is 0 when nobody can know."""

    label: str
    done: int
    total: int
    unit: str = "B"


class Said(NamedTuple):
    """A fact worth a line."""

    text: str


class Warned(NamedTuple):
    """Something the user should know though it stops nothing."""

    text: str
    hint: str = ""


class Ran(NamedTuple):
    """Another program was started; shown with --verbose."""

    command: str
    """Its command line, already redacted."""


class Output(NamedTuple):
    """A line a child printed, already redacted; shown with --verbose."""

    line: str


Event = (
    RunBegan | RunOver | Started | Ended | Failed | Undone | Progress | Said | Warned | Ran | Output
)
Listener = Callable[[Event], None]


def nobody(_event: Event) -> None:
    """Listen to nothing."""


def everybody(*listeners: Listener) -> Listener:
    """Tell each listener in turn."""

    def tell(event: Event) -> None:
        for listener in listeners:
            listener(event)

    return tell


@contextlib.contextmanager
def waiting(tell: Listener, until: str) -> Iterator[None]:
    """Say how long the block took, which does nothing but wait until something is so.

    Args:
        until: "1337 was up in accounting-web:slot_1".
    """
    began = time.monotonic()
    try:
        yield
    except BaseException:
        with contextlib.suppress(Exception):
            tell(Said(f"waited {time.monotonic() - began:.2f} s and gave up before {until}"))
        raise
    seconds = time.monotonic() - began
    if seconds >= _NO_WAIT_SECONDS:
        tell(Said(f"waited {seconds:.2f} s until {until}"))


def run(steps: Iterable[Step[RunT]], at_work: RunT) -> None:
    """Do the steps in order; when one fails or a signal comes, undo them in reverse and re-raise.

    Raises:
        RollbackFailed: undoing a step failed as well; the steps before it were still tried.
    """
    done: list[Step[RunT]] = []
    began = time.monotonic()
    tell = at_work.tell
    # All of it is guarded: a signal, or a journal on a full disk, may strike between two steps.
    try:
        for step in steps:
            done.append(step)
            began = time.monotonic()
            tell(Started(step.name, step.summary))
            if step.commits:
                _commit(step, done, began, at_work)
                continue
            note = step.do(at_work)
            tell(Ended(step.name, step.summary, time.monotonic() - began, note or ""))
    except BaseException as error:
        with signals.ignored():
            _take_back(done, error, time.monotonic() - began, at_work)
        raise


def _commit(step: Step[RunT], done: list[Step[RunT]], began: float, at_work: RunT) -> None:
    # Until the run is over: what comes after the commit must not be called stopped.
    with contextlib.ExitStack() as held:
        held.enter_context(signals.ignored())
        note = step.do(at_work)
        done.clear()
        at_work.held.push(held.pop_all())
    # It is done, whether that can be told or not: a full disk must not take it back now.
    with contextlib.suppress(OSError):
        at_work.tell(Ended(step.name, step.summary, time.monotonic() - began, note or ""))


def _take_back(
    done: Sequence[Step[RunT]], cause: BaseException, seconds: float, at_work: RunT
) -> None:
    def say(event: Event) -> None:
        # A listener that cannot go on (its disk is full) must not stop what is left to undo.
        with contextlib.suppress(Exception):
            at_work.tell(event)

    if done:
        say(Failed(done[-1].name, done[-1].summary, seconds, cause))
    failures: list[str] = []
    for step in reversed(done):
        if step.undo is None:
            continue
        try:
            step.undo(at_work)
        except Exception as error:  # - the other steps must still be undone
            failures.append(f"{step.name}: {error}")
        else:
            say(Undone(step.name, step.summary))
    if failures:
        raise RollbackFailed(
            f"{cause}; and taking it back failed as well: {'; '.join(failures)}",
            hint="run `artifact status`, repair what it names, then run the same command again",
        ) from cause
