"""Runs commands that die: reads one from each line of stdin, and answers how its process ended.

A line is JSON: [events until SIGKILL, "install", FILE] or [events, "rollback" or "prune", SITE].
Every command runs in a child of its own; this process has no threads, so that it may fork.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

from artifact import steps
from artifact.errors import Refused
from artifact.host.commands import install, prune, rollback
from artifact.site import Site


def run(events: int, command: str, path: str) -> None:
    """Do it, and kill this process when so many events were told."""
    left = [events]

    def hear(_event: steps.Event) -> None:
        left[0] -= 1
        if left[0] <= 0:
            os.kill(os.getpid(), signal.SIGKILL)

    if command == "install":
        options = install.InstallOptions(command="artifact", probation=0.0, wait=0.0)
        install.install(Path(path), options, hear)
    elif command == "rollback":
        rollback.rollback(Site(Path(path)), rollback.RollbackOptions(probation=0.0), hear)
    else:
        prune.prune(Site(Path(path)), 1, 0.0, hear)


def main() -> None:
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                run(*json.loads(line))
                code = 0
            except Refused:
                code = Refused.code
            finally:
                os._exit(code)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
