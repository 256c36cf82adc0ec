"""Run a command in this process and send it a signal at one exact event.

`python -m … FILE SIGNAL WHERE` installs; `python -m … SIGNAL WHERE COMMAND…` runs another command.

WHERE is "started:STEP", "ended:STEP", "progress", "said:WORD" or "after:WORD", which is the event
that follows it; with a "!" behind it the signal is sent again at every event that follows.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from artifact import cli, signals, steps
from artifact.cli import terminal


def at(where: str, number: signal.Signals) -> Callable[[steps.Event], None]:
    """Return a listener that sends the signal at the first event of that kind."""
    again = where.endswith("!")
    kind, _, which = where.removesuffix("!").partition(":")
    sent: list[bool] = []
    heard: list[str] = []

    def hear(event: steps.Event) -> None:
        before = heard[-1] if heard else ""
        heard.append(event.text if isinstance(event, steps.Said) else "")
        match event:
            case _ if kind == "after":
                hit = which in before
            case steps.Started(name=name):
                hit = (kind, which) == ("started", name)
            case steps.Ended(name=name):
                hit = (kind, which) == ("ended", name)
            case steps.Progress(done=done):
                hit = kind == "progress" and done > 0
            case steps.Said(text=text):
                hit = kind == "said" and which in text
            case _:
                hit = False
        if (hit and not sent) or (sent and again):
            sent.append(True)
            os.kill(os.getpid(), number)

    return hear


def main() -> None:
    if sys.argv[1].startswith("SIG"):
        number, where, *command = sys.argv[1:]
    else:
        path, number, where = sys.argv[1:]
        command = ["install", str(Path(path)), "--probation", "0s"]
    strike = at(where, signal.Signals[number])
    draw = terminal.Listener.__call__

    def both(self: terminal.Listener, event: steps.Event) -> None:
        draw(self, event)
        strike(event)

    terminal.Listener.__call__ = both  # type: ignore[method-assign]  # to be told of every event
    signals.raise_when_asked_to_stop()
    sys.exit(cli.run(command))


main()
