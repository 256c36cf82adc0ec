"""Turn INT, TERM and HUP into the exception `Stopped`, and hold them off while undoing."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from artifact.errors import Stopped

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def _raise_stopped(number: int, _frame: FrameType | None) -> None:
    # One is enough: a CI runner signals the group and then each child, and people press Ctrl-C
    # twice. The second must not end the cleaning up after the first.
    for stopping in STOPPING:
        if signal.getsignal(stopping) is _raise_stopped:
            signal.signal(stopping, _do_nothing)
    raise Stopped(number)


def raise_when_asked_to_stop() -> None:
    """Make every stopping signal raise `Stopped` in the main thread, once installed for good."""
    for number in STOPPING:
        # A parent that ignores HUP (nohup) or INT (a shell's background job) means it.
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _raise_stopped)


def _do_nothing(_number: int, _frame: FrameType | None) -> None:
    """Swallow a signal; unlike SIG_IGN, a handler is not inherited by children."""


@contextmanager
def ignored() -> Iterator[None]:
    """Ignore stopping signals inside the block: whoever undoes must get to the end."""
    before = {number: signal.signal(number, _do_nothing) for number in STOPPING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
