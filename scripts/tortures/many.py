"""5,000 releases in a site: every command stays within a second of its time with five."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tortures import place as places
from tortures.place import NEW, OLD, OLDEST, Broken, Place

FEW, MANY = 5, 5000
LIMIT = 1.0
"""Seconds that a command may take longer."""


@dataclass(frozen=True, slots=True)
class Timed:
    """A command with few and with many releases; processor seconds, the best of some rounds."""

    command: str
    few: float
    many: float

    @property
    def fine(self) -> bool:
        return self.many - self.few <= LIMIT


def run(count: int = MANY, rounds: int = 3) -> Iterator[Timed]:
    """Time the commands in a site with five releases and with so many."""
    with places.scratch() as directory:
        place = places.make(directory)
        few = _times(place, FEW, rounds)
        many = _times(place, count, rounds)
    for command in few:
        yield Timed(command, few[command], many[command])


def _times(place: Place, count: int, rounds: int) -> dict[str, float]:
    if place.site.root.exists():
        subprocess.run(["rm", "-rf", str(place.site.root)], check=True)
    place.install(OLDEST)
    _multiply(place, count - 2)
    place.install(OLD)
    root = str(place.site.root)
    commands = {
        "status": ["status", root],
        "releases": ["releases", root],
        "prune --plan": ["prune", root, "--keep", "1000000", "--plan"],
        "prune": ["prune", root, "--keep", "1000000"],
        "rollback --plan": ["rollback", root, "--plan"],
        "recover": ["recover", root],
    }
    times = {
        name: min(_seconds(command) for _ in range(rounds)) for name, command in commands.items()
    }
    times["install"] = _seconds(["install", str(place.artifacts[NEW]), "--probation", "0s"])
    return times


def _seconds(command: list[str]) -> float:
    """Return the processor's seconds of a command: those on a clock depend on who else works."""
    before = os.times()
    done = subprocess.run(
        [sys.executable, "-m", "artifact", *command], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise Broken(f"{' '.join(command)} ends with {done.returncode}: {done.stderr}")
    after = os.times()
    spent = after.children_user - before.children_user
    return spent + after.children_system - before.children_system


def _multiply(place: Place, count: int) -> None:
    """Copy the first release often, with a run in the journal for each, as long as a real one."""
    site = place.site
    run = [json.loads(line) for line in site.journal.read_bytes().splitlines()]
    lines: list[str] = []
    for number in range(count):
        version = f"many-{number}"
        release = site.release(version)
        shutil.copytree(site.release(OLDEST), release, symlinks=True)
        _rename(release, version)
        for line in run:
            changed = {**line, "run": f"{version}", "sequence": len(lines) + len(run) + 1}
            if "version" in line:
                changed["version"] = version
            lines.append(json.dumps(changed))
    with site.journal.open("a") as stream:
        stream.write("".join(f"{line}\n" for line in lines))


def _rename(release: Path, version: str) -> None:
    manifest = release / ".artifact" / "manifest.json"
    content = manifest.read_text().replace('"version":"1"', f'"version":"{version}"')
    release.chmod(0o755)
    manifest.parent.chmod(0o755)
    manifest.unlink()
    manifest.write_text(content)
