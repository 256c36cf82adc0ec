"""The power cut at every mutating system call, on a small file system of its own.

The site stands on an ext4 in a file. At the chosen call the command is killed, which writes
nothing, and the file is copied as it is: it has what the kernel has handed to the disk by then, and
none of what it still keeps in memory. The copy is mounted in its place, as after a reboot. The
mount options are harsh: no data is written because of a rename, and no journal before it is asked.
What a disk itself loses of its cache against the kernel's flushes is not tried.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from artifact import files
from artifact.host.records import releases
from tortures import kill, tracing
from tortures import place as places
from tortures.kill import SCENARIOS, Job, Result, Scenario
from tortures.place import Broken, Place
from tortures.tracing import Point

OPTIONS = "loop,noauto_da_alloc,data=writeback,commit=600"
_BYTES = 64 << 20
HOW = "power cut"
AFTERWARDS = Point("exit", 0, "the command has answered")


class Impossible(Exception):
    """This machine mounts no file systems for us."""


@dataclass
class Disk:
    """An image, where it is mounted, and the copies that are made of it."""

    directory: Path

    @property
    def mount(self) -> Path:
        return self.directory / "m"

    @property
    def image(self) -> Path:
        return self.directory / "image"

    @property
    def template(self) -> Path:
        return self.directory / "template"

    def format(self) -> None:
        with self.image.open("wb") as stream:
            stream.truncate(_BYTES)
        _do(["mkfs.ext4", "-q", "-F", str(self.image)])
        self.mount.mkdir()
        self.attach()

    def attach(self) -> None:
        _do(["mount", "-o", OPTIONS, str(self.image), str(self.mount)])

    def detach(self) -> None:
        _do(["umount", str(self.mount)])

    def keep(self) -> None:
        """Remember what is on the disk, for `put_back`."""
        self.detach()
        shutil.copyfile(self.image, self.template)
        self.attach()

    def put_back(self) -> None:
        self.detach()
        shutil.copyfile(self.template, self.image)
        self.attach()

    def cut(self) -> None:
        """Go on with what the disk has at this moment."""
        survived = self.directory / "survived"
        shutil.copyfile(self.image, survived)
        self.detach()
        survived.replace(self.image)
        self.attach()


def _do(argv: Sequence[str]) -> None:
    try:
        subprocess.run(argv, check=True, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise Impossible(f"{argv[0]} is missing") from error
    except subprocess.CalledProcessError as error:
        raise Impossible(f"{' '.join(argv)}: {error.stderr.strip()}") from error


@contextmanager
def _opened() -> Iterator[tuple[Disk, Place]]:
    """Yield a place whose site is on a disk of its own."""
    with places.scratch() as directory:
        disk = Disk(directory)
        disk.format()
        try:
            (directory / "artifacts").mkdir()
            yield disk, places.make(directory / "artifacts", root=disk.mount / "site")
        finally:
            disk.detach()


def points_of(disk: Disk, place: Place, scenario: Scenario) -> tuple[Point, ...]:
    """Run a scenario undisturbed and return its mutating calls; its beginning is kept."""
    files.remove_tree(place.site.root)
    place.site.root.mkdir()
    scenario.prepare(place)
    disk.keep()
    ended = tracing.run(scenario.command(place), place.site.root, kill.log_of(place))
    if ended.code != 0:
        raise Broken(f"{scenario.name} undisturbed ends with {ended.code}: {ended.said}")
    return ended.points


def strike(disk: Disk, place: Place, scenario: Scenario, point: Point) -> Result:
    """Run a scenario, cut the power at a call, and look at what is there when it is back."""
    at = None if point == AFTERWARDS else point
    for _ in range(kill.TRIES):
        disk.put_back()
        ended = tracing.run(
            scenario.command(place),
            place.site.root,
            kill.log_of(place),
            strike=at,
            how="signal=KILL",
        )
        if at is None or tracing.was_hit(ended, at):
            break
    disk.cut()
    fault = ""
    try:
        if at is not None and not tracing.was_hit(ended, at):
            raise Broken("it was not hit: the calls are others this time")
        _judge(place, scenario, finished=at is None)
    except Broken as broken:
        fault = str(broken)
    code = ended.code if at is None else -signal.SIGKILL
    return Result(scenario.name, HOW, point, code, fault)


def _judge(place: Place, scenario: Scenario, *, finished: bool) -> None:
    site, artifacts = place.site, place.artifacts
    either = {scenario.after} if finished else {scenario.before, scenario.after}
    live = releases.live_version(site)
    if live not in either:
        raise Broken(f"{live or 'nothing'} is live after the power came back")
    if live:
        places.whole(site, live, artifacts)
    if not site.private.is_dir():
        return  # nothing was begun
    try:
        did = place.recover()
        if finished and did != "nothing":
            raise Broken(f"it had answered, and recovery {did} it")
        places.judge(site, artifacts, {scenario.after} if scenario.recovers else either)
        scenario.again(place)
        places.judge(site, artifacts, {scenario.after})
    except Broken:
        raise
    except Exception as error:
        raise Broken(f"the next command: {error!r}") from error


def _work(job: Job) -> list[Result]:
    """Strike at this worker's share, and after the end as well."""
    scenario = SCENARIOS[job.scenario]
    with _opened() as (disk, place):
        kill.warm_up(place)
        points = points_of(disk, place, scenario)
        return [strike(disk, place, scenario, point) for point in [*job.choose(points), AFTERWARDS]]


def run(only: Sequence[str], every: int, seed: int, processes: int) -> Iterator[Result]:
    """Cut the power at all calls of the scenarios, or at one of `every`, and after their end.

    Raises:
        Impossible: nothing can be mounted here.
    """
    with _opened():
        pass
    yield from kill.spread(_work, kill.jobs_of([HOW], only, every, seed, processes), processes)
