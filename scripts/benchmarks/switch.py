"""`scripts/bench switch`: what visitors notice of installs, rollbacks and bad releases."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from benchmarks import figures, switch_load, switch_site
from benchmarks.figures import Figure, Goal, Series
from benchmarks.measuring import BenchFailed
from benchmarks.rows import Row
from benchmarks.switch_site import Command, Host
from benchmarks.workshop import Workshop

SWITCHES = 21
"""Installs and rollbacks in a row: every third is a rollback."""
_REST_SECONDS = 10.0
_RESTARTS = 3
_RESTART_PAUSE_SECONDS = 4.0
_LEAST_RATE = 200
_BAD = ("does not import", "answers 500", "hangs")
_SLOW = frozenset(kind.name for kind in switch_load.SLOW)
_WAYS: Mapping[str, Callable[[Host], tuple[int, int]]] = {
    "directly": lambda host: (host.port, host.plain),
    "through nginx": lambda host: (host.proxy, host.plain_proxy),
    "through HAProxy": lambda host: (host.haproxy, host.plain_haproxy),
}
"""How visitors come: to which ports, of the site and of the plain program."""
_NONE_LOST = Goal("<=", 0, "lost")

Request = tuple[float, float, str, str]


@dataclass(frozen=True, slots=True)
class Span:
    """A time by the machine's monotonic clock."""

    began: float
    ended: float

    def of(self, requests: Sequence[Request]) -> list[Request]:
        """Return the requests that were under way in it."""
        return [one for one in requests if one[0] <= self.ended and one[0] + one[1] >= self.began]


@dataclass(frozen=True, slots=True)
class Told:
    """What the visitors of one address tell."""

    requests: list[Request]
    rest: Span
    switches: list[Span]
    bad: Span
    restarted: list[Request]
    restarts: list[Span]


def described(_shop: Workshop) -> dict[str, str]:
    """Return the versions of the servers that were switched, and of those around them."""
    return {"servers": ", ".join(switch_site.versions())}


def lost(way: str, name: str, shop: Workshop) -> Iterator[Figure]:
    """Measure one server, asked directly or through nginx."""
    with switch_site.opened(shop, name) as host:
        title = f"{host.server.title}, {way}"
        count = shop.repeats(SWITCHES)
        found = _measure(host, count, *_WAYS[way](host))
        yield from _figures(title, found, count)


def _measure(host: Host, count: int, port: int, plain_port: int) -> Told:
    _expect(host.install(host.build("1")), 0)
    with switch_site.visited(port) as requests:
        began = time.monotonic()
        time.sleep(_REST_SECONDS)
        rest = Span(began, time.monotonic())
        switches = _switch(host, count)
        bad = _go_through_bad_days(host, count)
    host.start_plain()
    with switch_site.visited(plain_port) as restarted:
        restarts = []
        for _ in range(_RESTARTS):
            time.sleep(_RESTART_PAUSE_SECONDS)
            done = _expect(host.restart_plainly(), 0)
            restarts.append(Span(done.began, done.ended + 1))
        time.sleep(_RESTART_PAUSE_SECONDS)
    return Told(requests, rest, switches, bad, restarted, restarts)


def _switch(host: Host, count: int) -> list[Span]:
    spans = []
    for number in range(count):
        back = number % 3 == 2
        done = _expect(host.rollback() if back else host.install(host.build(f"2.{number}")), 0)
        host.shop.tell(f"  switch {number + 1} of {count}: {done.ended - done.began:.1f} s")
        spans.append(Span(done.began, done.ended))
    return spans


def _go_through_bad_days(host: Host, count: int) -> Span:
    """Install releases that must not get through, and kill what serves."""
    began = time.monotonic()
    for manner in _BAD:
        done = _expect(host.install(host.build(f"3.{manner.replace(' ', '-')}", manner)), 5)
        host.shop.tell(f"  a release that {manner}: refused after {done.ended - done.began:.1f} s")
    _expect(host.install_killing_its_trial(host.build("3.killed")), 5)
    host.kill_the_live_one()
    _expect(host.install(host.build(f"4.{count}")), 0)
    host.kill_the_live_one()
    time.sleep(2 * switch_load.SLOW_SECONDS)
    return Span(began, time.monotonic())


def _expect(done: Command, status: int) -> Command:
    if done.status != status:
        raise BenchFailed(f"exit {done.status} instead of {status}:\n{done.said[-2000:]}")
    return done


def _figures(title: str, told: Told, count: int) -> Iterator[Figure]:
    plainly = "supervisorctl restart"
    before_bad = Span(0, told.bad.began).of(told.requests)
    restarted = _lost(told.restarted)
    yield _amount(
        f"lost in {count} switches, {title}",
        _lost(before_bad),
        "lost",
        _NONE_LOST,
        Series((restarted,), "lost"),
        f"{len(told.restarts)} x {plainly}",
    )
    _explain(before_bad)
    yield _amount(
        f"lost in bad days, {title}", _lost(told.bad.of(told.requests)), "lost", _NONE_LOST
    )
    yield _amount(
        f"requests, {title}",
        len(told.requests),
        "requests",
        peer=Series((len(told.restarted),), "requests"),
        against=plainly,
    )
    rate = len(told.rest.of(told.requests)) / (told.rest.ended - told.rest.began)
    yield _amount(f"load, {title}", rate, "/s", Goal(">=", _LEAST_RATE, "/s"))
    quick = [one for one in told.requests if one[2] not in _SLOW and not one[3]]
    resting = _latencies(told.rest.of(quick))
    for share, called in ((0.5, "p50"), (0.99, "p99"), (1.0, "max")):
        switching = _latencies([one for span in told.switches for one in span.of(quick)])
        plain = [one for one in told.restarted if one[2] not in _SLOW and not one[3]]
        restarting = _latencies([one for span in told.restarts for one in span.of(plain)])
        for word, values in (("while switching", switching), (f"in {plainly}", restarting)):
            if values:
                yield figures.times(
                    f"{called} {word}, {title}",
                    Series((_percentile(values, share),), "ms"),
                    Series((_percentile(resting, share),), "ms"),
                    "at rest",
                    None,
                )


def _explain(requests: Sequence[Request]) -> None:
    """Say on stderr what was lost: a missed goal is no use without."""
    import sys

    for (kind, error), times in Counter((one[2], one[3]) for one in requests if one[3]).items():
        print(f"  {times} x {kind}: {error}", file=sys.stderr)


def _amount(
    name: str,
    value: float,
    unit: str,
    goal: Goal | None = None,
    peer: Series | None = None,
    against: str = "",
) -> Figure:
    series = Series((value,), unit)
    return Figure(name, series, goal, series, peer, against)


def _lost(requests: Sequence[Request]) -> int:
    return sum(1 for one in requests if one[3])


def _latencies(requests: Sequence[Request]) -> list[float]:
    return sorted(one[1] * 1000 for one in requests)


def _percentile(values: Sequence[float], share: float) -> float:
    return values[min(int(share * len(values)), len(values) - 1)]


def overhead(shop: Workshop) -> Iterator[Figure]:
    """Measure what an install takes beyond unpacking and waiting, its environment being there.

    It waits for as long as it says it did, and no longer: whatever it is silent about is its own.
    """
    values: dict[str, list[float]] = {"own": [], "unpack": [], "waited": [], "whole": []}
    with switch_site.opened(shop, "sync") as host:
        _expect(host.install(host.build("1")), 0)
        for number in range(shop.repeats(7)):
            done = _expect(host.install(host.build(f"2.{number}")), 0)
            whole, unpack = done.ended - done.began, host.last_steps()["unpack-release"]
            values["own"].append(whole - unpack - done.waited)
            values["unpack"].append(unpack)
            values["waited"].append(done.waited)
            values["whole"].append(whole)
    own = Series(tuple(values["own"]), "s")
    unpack_series = Series(tuple(values["unpack"]), "s")
    yield Figure(
        "install, without waits, beyond unpacking",
        own,
        Goal("<=", 0.5, "s"),
        own,
        unpack_series,
        "unpacking of what changed",
    )
    whole_series = Series(tuple(values["whole"]), "s")
    waits = Series(tuple(values["waited"]), "s")
    yield Figure(
        "all of that install", whole_series, None, whole_series, waits, "of these it waited"
    )


def _rows() -> Iterator[Row]:
    for name, server in switch_site.SERVERS.items():
        for way in _WAYS:
            suffix = way.removeprefix("directly").replace("through ", "-").lower()
            summary = f"Requests lost while {server.title} is switched, asked {way}."
            yield Row(f"{name}{suffix}", summary, partial(lost, way, name))
    yield Row("overhead", "Seconds of an install beyond unpacking and waiting.", overhead)


ROWS = tuple(_rows())
