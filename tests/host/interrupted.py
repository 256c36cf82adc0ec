"""Run a command in this process and send it a signal at one exact event.

`python -m … SIGNAL WHERE COMMAND…`, or `strike` from a test.

WHERE is "started:STEP", "ended:STEP", "progress", "said:WORD" or "after:WORD", which is the event
that follows it; with a "!" behind it the signal is sent again at every event that follows.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
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


def strike(
    number: str, where: str, *command: str, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command that is sent a signal there; return its status and what it said on stderr."""
    # Not pipes: what a killed command has started lives on, and would keep them open.
    with tempfile.TemporaryFile("w+") as errors:
        ran = subprocess.run(
            [sys.executable, "-m", __name__, number, where, *command],
            env=env,
            cwd=Path(__file__).parents[2],
            stdout=subprocess.DEVNULL,
            stderr=errors,
            check=False,
            timeout=90,
        )
        errors.seek(0)
        return subprocess.CompletedProcess(ran.args, ran.returncode, None, errors.read())


def main() -> None:
    number, where, *command = sys.argv[1:]
    send = at(where, signal.Signals[number])
    draw = terminal.Listener.__call__

    def both(self: terminal.Listener, event: steps.Event) -> None:
        draw(self, event)
        send(event)

    terminal.Listener.__call__ = both  # type: ignore[method-assign]  # to be told of every event
    signals.raise_when_asked_to_stop()
    sys.exit(cli.run(command))


if __name__ == "__main__":
    main()
