"""A network that fails in every way: what is there is verified, or nothing changed."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from artifact.configuration.store_section import StoreSection
from artifact.errors import ArtifactRejected
from artifact.stores import open_store
from artifact.stores.contract import AccessDenied, Store, StoreUnreachable
from artifact.transfer.download import Patience
from tests.transfer import proxy as proxies
from tests.transfer import webserver
from tests.transfer.proxy import Answer, Fault, Proxy
from tests.transfer.shelf import Shelf, packages

OLD = "a" * 32
SMALL = packages(OLD, count=16)
"""2.5 MB."""
QUICK = Patience(window=1.0, least=4096)
"""A drip is noticed within a second."""


@contextmanager
def served(shelf: Shelf, fault: Fault = proxies.whole, *, ranges: bool = True) -> Iterator[Proxy]:
    """Serve the shelf by nginx, through a proxy with a fault."""
    with (
        webserver.nginx(shelf.store_directory, shelf.directory / "nginx") as upstream,
        proxies.running(upstream, ranges=ranges) as proxy,
    ):
        proxy.fault = fault
        yield proxy


def through(proxy: Proxy) -> Store:
    return open_store(proxy.url, StoreSection())


def nothing_changed(shelf: Shelf) -> bool:
    return not any(shelf.site.environments.iterdir()) and not any(shelf.site.releases.iterdir())


SURVIVED: dict[str, Fault] = {
    "reset every 64 KiB": proxies.resetting(65536),
    "half of each body": proxies.truncating,
    "500 at first": proxies.saying(500, 2),
    "503 SlowDown at first": proxies.saying(503, 3, "SlowDown"),
    "no end": proxies.endless,
}


@pytest.mark.parametrize("fault", SURVIVED)
def test_a_fault_that_passes_costs_time_and_hardly_a_byte(shelf: Shelf, fault: str) -> None:
    path = shelf.publish("1", SMALL, OLD)
    with served(shelf, SURVIVED[fault]) as proxy:
        shelf.deploy("1", through(proxy), QUICK)
    assert shelf.site.environment(OLD).is_dir()
    if fault != "no end":
        assert received(shelf, path.stat().st_size) <= 1.1


def received(shelf: Shelf, size: int) -> float:
    """Return what the last deployment got, as a part of the artifact."""
    assert shelf.download is not None
    return (shelf.download.counted.fetched - 262_144) / size


ENDING: dict[str, tuple[Fault, type[Exception]]] = {
    "500 always": (proxies.saying(500, 10_000), StoreUnreachable),
    "503 always": (proxies.saying(503, 10_000, "SlowDown"), StoreUnreachable),
    "wrong bytes": (proxies.flipping, ArtifactRejected),
    "slow drip": (proxies.dripping(0.01), StoreUnreachable),
}


@pytest.mark.parametrize("fault", ENDING)
def test_a_fault_that_stays_ends_the_download_and_changes_nothing(shelf: Shelf, fault: str) -> None:
    shelf.publish("1", SMALL, OLD)
    send, expected = ENDING[fault]
    with served(shelf, send) as proxy:
        with pytest.raises(expected):
            shelf.deploy("1", through(proxy), QUICK)
        assert nothing_changed(shelf)
        # What it left does not stand in the way.
        proxy.fault = proxies.whole
        shelf.deploy("1", through(proxy), QUICK)


def test_a_server_without_ranges_is_asked_once(shelf: Shelf) -> None:
    path = shelf.publish("1", SMALL, OLD)
    with served(shelf, ranges=False) as proxy:
        shelf.deploy("1", through(proxy))
        assert len(proxy.requests) == 1
        assert proxy.sent == path.stat().st_size
    assert shelf.site.environment(OLD).is_dir()


def test_an_interrupted_download_goes_on_where_it_was(shelf: Shelf) -> None:
    path = shelf.publish("1", packages(OLD, count=60), OLD)
    size = path.stat().st_size
    # What is lost is the members that were under way: small ones, but these are few.
    patience = Patience(connections=2)

    def dying(answer: Answer, number: int, client: socket.socket) -> None:
        if proxy.sent < size // 2:
            proxies.whole(answer, number, client)
        else:
            proxies.saying(403, 10_000, "AccessDenied")(answer, number, client)

    with served(shelf) as proxy:
        proxy.fault = dying
        with pytest.raises(AccessDenied):
            shelf.deploy("1", through(proxy), patience)
        assert nothing_changed(shelf)
        assert shelf.download is not None
        first = shelf.download.counted
        proxy.fault = proxies.whole
        shelf.deploy("1", through(proxy), patience)
        second = shelf.download.counted
    assert first.fetched > size / 4
    assert second.resumed > size / 4
    # Each run fetches the tail anew.
    assert first.fetched + second.fetched - 262_144 <= 1.1 * size
