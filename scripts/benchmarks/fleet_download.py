"""`scripts/bench fleet-download`: what 200 hosts ask of one store for a code-only release."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil

from artifact import steps
from artifact.configuration.store_section import StoreSection
from artifact.host.trees import reuse, unpack
from artifact.site import Site
from artifact.transfer import references
from benchmarks import storing, transfer
from benchmarks.figures import Figure, Goal, Series
from benchmarks.rows import Row
from benchmarks.workshop import Workshop, remove

_HOSTS = 200
_AT_ONCE = 16
_FLEET = 10_000
"""Too many for one machine to play."""
_LINE_BITS = 10e9
"""A second."""
_UNLIMITED = "0"


def _bring(reference: str, site: Site) -> None:
    """Bring a release into a site that has its environment; what the hosts check is their load."""
    source = references.find(reference, lambda _name: StoreSection())
    with references.open_artifact(source, keep=lambda _: site.downloads) as artifact:
        reuse.recall(artifact, site)
        unpack.unpack_release(artifact, site, (), (os.geteuid(), os.getegid()), steps.nobody)


def _host(root: Path, first: Site) -> Site:
    """Make a site with the first release of another, by links to its files."""
    site = Site(root)
    for path in (site.private, site.releases):
        path.mkdir(parents=True)
    site.environments.symlink_to(first.environments)
    shutil.copytree(first.release("1"), site.release("1"), symlinks=True, copy_function=os.link)
    return site


def hosts(shop: Workshop) -> Iterator[Figure]:
    """Let hosts fetch the second release from one nginx, and count what it serves."""
    root = shop.path("fleet", "x").parent
    remove(root)
    version = "2"
    size = transfer.artifact(shop, version).stat().st_size
    with storing.web(shop, transfer.store(shop), _UNLIMITED) as web:
        first = Site(root / "first")
        for path in (first.private, first.releases, first.environments):
            path.mkdir(parents=True)
        _bring(transfer.url(web, "1"), first)
        sites = [_host(root / f"host{number}", first) for number in range(_HOSTS)]
        before, spent, began = web.load(), _cpu(web), time.perf_counter()
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            list(pool.map(lambda site: _bring(transfer.url(web, version), site), sites))
        seconds = time.perf_counter() - began
        requests, sent = (now - then for now, then in zip(web.load(), before, strict=True))
        load = _cpu(web) - spent
    remove(root)
    shop.tell(f"  {_HOSTS} hosts in {seconds:.0f} s, {_AT_ONCE} at once")
    yield Figure("requests", Series((requests,), "requests"), Goal("<=", 3 * _HOSTS, "requests"))
    yield Figure("bytes", Series((sent / 1e6,), "MB"), Goal("<=", 0.01 * _HOSTS * size / 1e6, "MB"))
    yield Figure("the store's processor time", Series((load,), "s"))
    yield from _computed(requests, sent, load, size)


def _computed(requests: int, sent: int, load: float, size: int) -> Iterator[Figure]:
    """Give the figures of a large fleet: each host asks for the same, so all are proportional."""
    times = _FLEET / _HOSTS
    title = f"computed for {_FLEET:,} hosts:"
    yield Figure(f"{title} requests", Series((int(requests * times),), "requests"))
    whole = Series((_FLEET * size / 1e9,), "GB")
    yield Figure(
        f"{title} bytes",
        Series((sent * times / 1e9,), "GB"),
        peer=whole,
        against="whole artifacts",
    )
    line = Series((_FLEET * size * 8 / _LINE_BITS,), "s")
    yield Figure(
        f"{title} time of a line of 10 Gbit/s",
        Series((sent * times * 8 / _LINE_BITS,), "s"),
        peer=line,
        against="whole artifacts",
    )
    yield Figure(f"{title} nginx's processor time", Series((load * times,), "s"))


def described(_shop: Workshop) -> dict[str, str]:
    """Return the version of the server."""
    return {"servers": storing.versions()}


def _cpu(web: storing.Web) -> float:
    """Return the seconds that nginx and its worker have computed."""
    master = psutil.Process(web.pid)
    times = [one.cpu_times() for one in (master, *master.children())]
    return sum(one.user + one.system for one in times)


ROWS = (Row("hosts", f"{_HOSTS} hosts install a code-only release.", hosts),)
