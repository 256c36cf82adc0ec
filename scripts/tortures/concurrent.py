"""Installs of same and different versions at once, a prune in a loop, a reader of `current`."""

from __future__ import annotations

import itertools
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from artifact.host.records import history, journal, releases
from artifact.manifest import Install
from tests.host.machine import Machine
from tortures import place as places
from tortures.place import Broken

VERSIONS = tuple(f"v{number}" for number in range(6))
LEAST_RATE = 1000
"""Reads a second below which a path that is gone for a moment may be overlooked."""
_SECONDS = 600


@dataclass
class Seen:
    """What the reader of `current` and the commands saw."""

    reads: int = 0
    seconds: float = 0.0
    pause: float = 0.0
    """The longest that nothing was read, in seconds: others had the processors."""
    missing: list[str] = field(default_factory=list)
    exits: Counter[tuple[str, int]] = field(default_factory=Counter)
    installed: int = 0
    """Runs of install in the journal."""
    pruned: int = 0

    @property
    def rate(self) -> float:
        """Reads in a second."""
        return self.reads / self.seconds if self.seconds else 0.0


def run(installs: int = 20, rounds: int = 1, seed: int = 1) -> Seen:
    """Run them, and look whether it was as if one had come after the other.

    Raises:
        Broken: it was not.
    """
    seen = Seen()
    with places.scratch() as directory:
        machine = Machine(directory, places.tiny_environment(directory, python="exit 0"))
        quiet = Install(restart="none", keep=100)
        artifacts = {
            version: machine.build(version, install=quiet, processes={}) for version in VERSIONS
        }
        first = machine.install(artifacts[VERSIONS[0]])
        if first.returncode != 0:
            raise Broken(first.stderr)
        chosen = random.Random(seed)
        with _reading(machine, seen):
            for _ in range(rounds):
                _at_once(machine, [chosen.choice(VERSIONS) for _ in range(installs)], seen)
        _judge(machine, artifacts, seen)
    return seen


def _at_once(machine: Machine, versions: list[str], seen: Seen) -> None:
    commands = [
        ["install", str(machine.directory / f"pages-{version}.tgz"), "--probation", "0s"]
        for version in versions
    ]
    children = [(command, _start(machine, command)) for command in commands]
    prune = ["prune", str(machine.site.root), "--keep", "1"]
    while any(child.poll() is None for _, child in children):
        done = _start(machine, prune)
        _, errors = done.communicate(timeout=_SECONDS)
        seen.exits["prune", done.returncode] += 1
        if done.returncode != 0:
            raise Broken(f"prune ends with {done.returncode}: {errors}")
    for command, child in children:
        _, errors = child.communicate(timeout=_SECONDS)
        seen.exits["install", child.returncode] += 1
        if child.returncode != 0:
            raise Broken(f"{' '.join(command)} ends with {child.returncode}: {errors}")


def _start(machine: Machine, command: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "artifact", *command],
        env=machine.variables(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


@contextmanager
def _reading(machine: Machine, seen: Seen) -> Iterator[None]:
    """Read through `current` all the time, in a process of its own."""
    child = subprocess.Popen(
        [sys.executable, "-c", _READER, str(machine.site.current / "app.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield
    finally:
        output, _ = child.communicate("\n", timeout=_SECONDS)
        reads, seconds, pause, *seen.missing = output.splitlines()
        seen.reads, seen.seconds, seen.pause = int(reads), float(seconds), float(pause)


_READER = """
import os, select, sys, time
path, reads, missing = sys.argv[1], 0, []
began = latest = time.monotonic()
pause = 0.0
# Bursts, for on a busy machine every sleep is answered by other programs' turns.
while not select.select([sys.stdin], [], [], 0.0002)[0]:
    for _ in range(50):
        reads += 1
        try:
            opened = os.open(path, os.O_RDONLY)
            if b"VERSION" not in os.read(opened, 4096):
                missing.append("something else was read")
            os.close(opened)
        except OSError as error:
            missing.append(repr(error))
    now = time.monotonic()
    pause, latest = max(pause, now - latest), now
print(reads, latest - began, pause, *missing, sep="\\n")
"""


def _judge(machine: Machine, artifacts: dict[str, Path], seen: Seen) -> None:
    site = machine.site
    places.judge(site, artifacts, set(VERSIONS))
    if seen.missing:
        raise Broken(f"{len(seen.missing)} of {seen.reads} reads failed: {seen.missing[0]}")
    lines = list(journal.read(site.journal))
    numbers = [line.sequence for line in lines]
    if numbers != list(range(1, len(numbers) + 1)):
        raise Broken("the journal's sequence has gaps")
    runs = [name for name, _ in itertools.groupby(lines, key=lambda line: line.run)]
    if len(runs) != len(set(runs)):
        raise Broken("runs are mixed in the journal")
    began = {line.run: line for line in lines if line.event == "began"}
    live = ""
    for line in lines:
        if line.event == "began" and line.previous != live:
            raise Broken(f"{line.run} began with {line.previous}, and {live} was live")
        if line.event == "release" and line.state == "good":
            live = line.version
    if live != releases.live_version(site):
        raise Broken("the last install is not live")
    seen.installed = sum(line.command == "install" for line in began.values())
    seen.pruned = sum(line.command == "prune" for line in began.values())
    if not set(history.versions_on_disk(site)) <= set(VERSIONS):
        raise Broken("something else is there")
