"""How the demo is stopped: a signal becomes an exception, but never while a child is started."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopped(BaseException):
    """One of SIGNALS came."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.code = 128 + number
        self.name = signal.Signals(number).name


def raise_when_asked() -> None:
    """Turn the signals into `Stopped` from now on."""

    def stop(number: int, _frame: FrameType | None) -> None:
        raise Stopped(number)

    for number in SIGNALS:
        signal.signal(number, stop)


@contextmanager
def later() -> Iterator[None]:
    """Let a signal wait for the end of the block.

    Starting a child takes milliseconds; an exception in the middle of them would leave it running
    with nobody who knows of it.
    """
    came: list[int] = []
    before = {
        number: signal.signal(number, lambda number, _frame: came.append(number))
        for number in SIGNALS
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if came:
        raise Stopped(came[0])


@contextmanager
def never() -> Iterator[None]:
    """Ignore the signals during the block: cleaning up is not interrupted."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
