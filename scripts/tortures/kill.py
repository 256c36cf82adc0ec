"""Killed, or refused by the disk, at every mutating system call of install, rollback and prune."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from artifact import files, steps
from artifact.host.commands import prune, rollback
from artifact.host.inspecting import status
from artifact.host.records import releases, state
from tortures import place as places
from tortures import tracing
from tortures.place import NEW, OLD, OLDEST, Broken, Place
from tortures.tracing import Ended, Point

STRIKES = ("signal=KILL", "error=ENOSPC", "error=EIO", "error=EACCES")
TRIES = 3
"""Now and then a file more is opened before the one that is meant."""
_GONE = 100 * 86400.0


@dataclass(frozen=True, slots=True)
class Scenario:
    """A command, the site it begins with, and how it may end."""

    name: str
    prepare: Callable[[Place], None]
    command: Callable[[Place], list[str]]
    before: str
    """The live version before; "" for none."""
    after: str
    """And when it is done."""
    again: Callable[[Place], object]
    """Do the same once more, in this process."""
    recovers: bool = False
    """It ends as `after` whatever strikes it, at the latest by the next command."""


@dataclass(frozen=True, slots=True)
class Result:
    """What came of one strike."""

    scenario: str
    how: str
    point: Point
    code: int
    fault: str
    """"" when all is as it must be."""


def _two(place: Place) -> None:
    place.install(OLDEST)
    place.install(OLD)


def _three(place: Place) -> None:
    _two(place)
    place.install(NEW)
    unused = place.site.environment("f" * 32)
    (unused / "lib").mkdir(parents=True)
    (unused / "lib" / "module.py").write_text("x")
    (place.site.private / "unused.json").write_text(json.dumps({"f" * 32: time.time() - _GONE}))


def _interrupted(place: Place) -> None:
    """Have an install die when `current` points at the new release, which is not good yet."""
    _two(place)
    place.kill_install(NEW, at="finish")


def _installing(version: str) -> Callable[[Place], list[str]]:
    return lambda place: ["install", str(place.artifacts[version]), "--probation", "0s"]


def _roll_back(place: Place) -> object:
    # Recovery may have finished it: then there is nothing older.
    if releases.live_version(place.site) == OLDEST:
        return None
    return rollback.rollback(place.site, rollback.RollbackOptions(probation=0.0), steps.nobody)


SCENARIOS = (
    Scenario(
        "first install",
        lambda _place: None,
        _installing(OLDEST),
        "",
        OLDEST,
        lambda place: place.install(OLDEST),
    ),
    Scenario("install", _two, _installing(NEW), OLD, NEW, lambda place: place.install(NEW)),
    Scenario(
        "rollback",
        _two,
        lambda place: ["rollback", str(place.site.root), "--probation", "0s"],
        OLD,
        OLDEST,
        _roll_back,
    ),
    Scenario(
        "recover",
        _interrupted,
        lambda place: ["recover", str(place.site.root)],
        NEW,
        OLD,
        lambda place: place.recover(),
        recovers=True,
    ),
    Scenario(
        "prune",
        _three,
        lambda place: ["prune", str(place.site.root), "--keep", "1"],
        NEW,
        NEW,
        lambda place: prune.prune(place.site, 1, 0.0, steps.nobody),
    ),
)


def points_of(place: Place, scenario: Scenario) -> tuple[Point, ...]:
    """Run a scenario undisturbed and return its mutating calls; its beginning is kept."""
    files.remove_tree(place.site.root)
    place.site.root.mkdir()
    scenario.prepare(place)
    place.keep()
    place.put_back()  # a copy, as each run that is struck has: the same calls
    ended = tracing.run(scenario.command(place), place.site.root, log_of(place))
    if ended.code != 0:
        raise Broken(f"{scenario.name} undisturbed ends with {ended.code}: {ended.said}")
    return ended.points


def strike(place: Place, scenario: Scenario, point: Point, how: str) -> Result:
    """Run a scenario once, strike it at a call, and look at what is left and what comes next."""
    for _ in range(TRIES):
        place.put_back()
        ended = tracing.run(
            scenario.command(place), place.site.root, log_of(place), strike=point, how=how
        )
        if tracing.was_hit(ended, point):
            break
    try:
        _judge(place, scenario, point, ended)
    except Broken as broken:
        return Result(scenario.name, how, point, ended.code, str(broken))
    return Result(scenario.name, how, point, ended.code, "")


def _judge(place: Place, scenario: Scenario, point: Point, ended: Ended) -> None:
    site, artifacts = place.site, place.artifacts
    if not tracing.was_hit(ended, point):
        raise Broken("it was not hit: the calls are others this time")
    either = {scenario.before, scenario.after}
    live = releases.live_version(site)
    if live not in either:
        raise Broken(f"{live or 'nothing'} is live before recovery")
    if live:
        places.whole(site, live, artifacts)
    status.status_of(site)
    if ended.code != -signal.SIGKILL:
        _judge_answer(scenario, ended, live)
    if not site.private.is_dir():
        return  # nothing was begun
    try:
        place.recover()
        places.judge(site, artifacts, _afterwards(scenario, ended, live))
        scenario.again(place)
        places.judge(site, artifacts, {scenario.after})
    except Broken:
        raise
    except Exception as error:
        raise Broken(f"the next command: {error!r}") from error
    state.read(site.state)


def _afterwards(scenario: Scenario, ended: Ended, live: str) -> set[str]:
    """Return what may be live after recovery: a command that has answered was believed."""
    if scenario.recovers:
        return {scenario.after}
    return {scenario.before, scenario.after} if ended.code == -signal.SIGKILL else {live}


def _judge_answer(scenario: Scenario, ended: Ended, live: str) -> None:
    """A command that the disk refused something says so, and what is live is what it says."""
    codes = {0, 5, 8} if scenario.recovers else {0, 5, 7}
    if "Traceback" in ended.said or ended.code not in codes:
        raise Broken(f"exit {ended.code}: {ended.said[-600:]}")
    if scenario.recovers and ended.code != 0:
        return  # the next one recovers
    wanted = scenario.after if ended.code == 0 else scenario.before
    if live != wanted:
        raise Broken(f"exit {ended.code} and {live or 'nothing'} is live: {ended.said[-600:]}")


def log_of(place: Place) -> Path:
    """Return where strace writes for a place."""
    return place.machine.directory / "strace.log"


@dataclass(frozen=True, slots=True)
class Job:
    """One worker's share of the strikes at a scenario."""

    scenario: int
    how: str
    every: int
    seed: int
    share: int
    shares: int

    def choose(self, points: Sequence[Point]) -> list[Point]:
        """Return the points to strike at: all, or one of `every`, and of those our share."""
        count = -(-len(points) // self.every)
        chosen = points if self.every == 1 else random.Random(self.seed).sample(points, count)
        return list(chosen[self.share :: self.shares])


def jobs_of(
    hows: Sequence[str], only: Sequence[str], every: int, seed: int, processes: int
) -> list[Job]:
    """Return what the workers are to do for the scenarios with these names, or for all."""
    return [
        Job(number, how, every, seed, share, processes)
        for number, scenario in enumerate(SCENARIOS)
        if not only or scenario.name in only
        for how in hows
        for share in range(processes)
    ]


_warm: list[int] = []


def warm_up(place: Place) -> None:
    """Import what is imported late, here and not in some of the children: they are compared."""
    if os.getpid() in _warm:
        return
    _warm.append(os.getpid())
    for scenario in SCENARIOS:
        files.remove_tree(place.site.root)
        scenario.prepare(place)
        if place.site.private.is_dir():
            place.recover()
        scenario.again(place)
        places.judge(place.site, place.artifacts, {scenario.after})
        status.status_of(place.site)
    files.remove_tree(place.site.root)


def _work(job: Job) -> list[Result]:
    scenario = SCENARIOS[job.scenario]
    with places.scratch() as directory:
        place = places.make(directory)
        warm_up(place)
        points = job.choose(points_of(place, scenario))
        return [strike(place, scenario, point, job.how) for point in points]


def run(
    hows: Sequence[str], only: Sequence[str], every: int, seed: int, processes: int
) -> Iterator[Result]:
    """Strike the scenarios at all calls, or at one of `every`, chosen with the seed."""
    yield from spread(_work, jobs_of(hows, only, every, seed, processes), processes)


def spread(
    work: Callable[[Job], list[Result]], jobs: Sequence[Job], processes: int
) -> Iterator[Result]:
    """Have processes of their own do the jobs."""
    if processes == 1:
        for job in jobs:
            yield from work(job)
        return
    with ProcessPoolExecutor(processes) as pool:
        for results in pool.map(work, jobs):
            yield from results
