"""Being asked to stop."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

CLEANING = """
import os, signal, sys
from artifact import errors, signals
signals.raise_when_asked_to_stop()
try:
    try:
        os.kill(os.getpid(), int(sys.argv[1]))
    finally:
        for number in signals.STOPPING:
            os.kill(os.getpid(), number)
        print("cleaned up")
except errors.Stopped as stop:
    print("stopped by", stop.name)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_who_is_asked_twice_to_stop_still_cleans_up(number: signal.Signals) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", CLEANING, str(int(number))],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.stdout.splitlines() == ["cleaned up", f"stopped by {number.name}"], ran.stderr
