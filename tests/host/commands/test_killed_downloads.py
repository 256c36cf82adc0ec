"""An install that is killed in the middle of its download goes on where it was."""

from __future__ import annotations

import random
import shutil
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from artifact.manifest import Install
from artifact.stores import addresses
from surroundings.waiting import await_
from tests.host.machine import NAME, Machine
from tests.stores import seaweed
from tests.stores.seaweed import BUCKET
from tests.transfer import proxy as proxies
from tests.transfer import webserver
from tests.transfer.proxy import Answer

OBJECT = addresses.artifact(NAME, "1")
_PIECE = 32 * 1024


@dataclass
class Slow:
    """Sends answers a little at a time, and counts what the client took."""

    pause: float
    """Seconds after each 32 KiB."""
    taken: int = 0

    def __call__(self, answer: Answer, _number: int, client: socket.socket) -> None:
        client.sendall(answer.head())
        for at in range(0, len(answer.body), _PIECE):
            piece = answer.body[at : at + _PIECE]
            client.sendall(piece)
            self.taken += len(piece)
            time.sleep(self.pause)


@dataclass(frozen=True)
class Upstream:
    """A store that has an artifact."""

    kind: str
    address: str
    size: int
    """Bytes of the artifact."""


@pytest.fixture(params=["http", "s3"])
def upstream(
    request: pytest.FixtureRequest, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Upstream]:
    """A store of each kind, with an artifact of twelve megabytes."""
    noise = random.Random(3)
    files = {f"data/{number}.txt": noise.randbytes(20_000).hex() for number in range(600)}
    built = machine.build("1", install=Install(restart="none"), files=files)
    size = built.stat().st_size
    with _served(request.param, machine.directory, built, monkeypatch) as address:
        yield Upstream(request.param, address, size)


@contextmanager
def _served(
    kind: str, directory: Path, built: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    if kind == "http":
        path = directory / "store" / OBJECT
        path.parent.mkdir(parents=True)
        shutil.move(built, path)
        with webserver.nginx(directory / "store", directory / "nginx") as address:
            yield address
        return
    (directory / "s3").mkdir()
    with seaweed.server(directory / "s3") as server:
        with built.open("rb") as body:
            server.client().put_object(Bucket=BUCKET, Key=OBJECT, Body=body)
        for name, value in server.admin.variables().items():
            monkeypatch.setenv(name, value)
        yield server.endpoint.removeprefix("http://")


def test_it_ends_verified_and_hardly_a_byte_crosses_the_network_twice(
    machine: Machine, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = Slow(pause=0.05)
    with proxies.running(upstream.address) as proxy:
        proxy.fault = slow
        reference = f"{proxy.url}/{OBJECT}"
        if upstream.kind == "s3":
            monkeypatch.setenv("ARTIFACT_STORE_ENDPOINT", proxy.url)
            reference = f"s3://{BUCKET}/{OBJECT}"
        killed = machine.popen("install", reference, "--probation", "0s")
        await_("half of the download", lambda: slow.taken > upstream.size / 2)
        killed.send_signal(signal.SIGKILL)
        killed.communicate(timeout=30)
        assert list(machine.site.downloads.iterdir()) != []
        assert list(machine.site.releases.iterdir()) == []

        slow.pause = 0.0
        done = machine.run("install", reference, "--probation", "0s")
    assert done.returncode == 0, done.stderr
    assert "deleted" not in done.stderr
    assert machine.site.current.resolve().name == "1"
    assert list(machine.site.downloads.iterdir()) == []
    assert machine.leftovers() == []
    # Each run fetches the tail; what eight connections had under way, in buffers too, is lost.
    assert slow.taken - 262_144 <= 1.1 * upstream.size + 8 * 131_072
