"""SIGKILL at any moment of a switch between real servers, which visitors ask all the while."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from artifact.host.records import history, journal, releases, state
from tests.host import machine as machines
from tests.host.machine import Machine
from tortures import place as places
from tortures.place import Broken

_SECONDS = 120.0
_LONGEST_SECONDS = 1.5
"""Of a switch of so small an application, and the watching behind it."""
_POLL_SECONDS = 0.001
_FIRST = 4
"""Releases to begin with, for there is to be something to go back to."""


@dataclass
class Seen:
    """What became of the strikes."""

    after: Counter[tuple[str, str]] = field(default_factory=Counter)
    """What was live when a command was killed, "old" or "new", by the command."""
    recovered: Counter[str] = field(default_factory=Counter)
    """Which command came next."""
    answers: int = 0
    """Requests of the visitors, all of which were answered."""


def run(rounds: int = 50, seed: int = 1) -> Seen:
    """Kill an install or a rollback in each round, and have some command find what it left.

    Raises:
        Broken: a request was lost, or a site is not what it must be.
    """
    seen, chosen = Seen(), random.Random(seed)
    with places.scratch() as directory:
        (directory / "machine").mkdir()
        environment = machines.make_environment(directory / "environment")
        machine = Machine(directory / "machine", environment)
        machine.start_supervisord()
        try:
            for number in range(_FIRST):
                _expect(machine, "install", str(machine.build(f"{number}")), "--probation", "0s")
            with machines.load(machine, threads=3, pause=0.02) as load:
                for number in range(_FIRST, _FIRST + rounds):
                    _strike(machine, number, chosen, seen)
        finally:
            machine.stop_supervisord()
    if load.failures:
        raise Broken(f"{len(load.failures)} requests were lost: {load.failures[0]}")
    seen.answers = sum(load.bodies.values())
    return seen


def _strike(machine: Machine, number: int, chosen: random.Random, seen: Seen) -> None:
    old, new = releases.live_version(machine.site), str(number)
    artifact = str(machine.build(new))
    root, short = str(machine.site.root), ("--probation", "1s")
    going_back = chosen.random() < 1 / 3 and _can_go_back(machine)
    command = ["rollback", root, *short] if going_back else ["install", artifact, *short]
    child = machine.popen(*command)
    _await(lambda: _is_switching(machine, child), f"{command[0]} to begin its switch")
    time.sleep(chosen.uniform(0, _LONGEST_SECONDS))
    child.send_signal(signal.SIGKILL)
    child.communicate()
    live = releases.live_version(machine.site)
    if not (machine.site.release(live) / "app.py").is_file():
        raise Broken(f"{live} is live and not whole")
    seen.after[command[0], "old" if live == old else "new"] += 1
    # Whatever it is, it recovers first. What is installed, later rounds can go back to.
    nexts = [["install", artifact, *short]]
    if _can_go_back(machine):
        nexts += [["recover", root], ["prune", root], ["rollback", root, *short]]
    then = chosen.choice(nexts)
    _expect(machine, *then)
    seen.recovered[then[0]] += 1
    _judge(machine)


def _can_go_back(machine: Machine) -> bool:
    """Tell whether there is something to go back to, also when recovery goes back first."""
    live = releases.live_version(machine.site)
    return len(history.good_before(history.records_of(machine.site), live)) > 1


def _is_switching(machine: Machine, child: subprocess.Popen[str]) -> bool:
    if child.poll() is not None:
        raise Broken(f"it ended by itself: {child.communicate()[1]}")
    run = journal.last_run(machine.site.journal)
    return run is not None and run.began.pid == child.pid and run.reached("switch")


def _judge(machine: Machine) -> None:
    """See that one release is live, serves, is alone, and that nothing is left to do."""
    live = releases.live_version(machine.site)
    now = state.read(machine.site.state).slots["web"]
    if sorted(now) != sorted((state.IDLE, live)):
        raise Broken(f"{live} is live, and the slots are to run {now}")
    if machine.get() != live:
        raise Broken(f"{live} is live, and {machine.get()} answers")
    _await(lambda: _asleep(machine) == 1, "the other slot to sleep")
    if left := machine.leftovers():
        raise Broken(f"left behind: {left}")
    places.agreed(machine.site)
    _expect(machine, "status", str(machine.site.root))


def _asleep(machine: Machine) -> int:
    pids = [member.pid for member in machine.members().values() if member.pid]
    return sum(Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"sleep\0") for pid in pids)


def _expect(machine: Machine, *command: str) -> None:
    done = machine.run(*command)
    if done.returncode != 0:
        raise Broken(f"{' '.join(command)} ends with {done.returncode}: {done.stderr}")


def _await(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + _SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise Broken(f"waited {_SECONDS:g} s in vain for {what}")
        time.sleep(_POLL_SECONDS)
