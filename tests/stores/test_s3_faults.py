"""An S3 server behind a network that fails: what is there is verified, or nothing changed."""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from artifact import files, stores
from artifact.configuration.store_section import StoreSection
from artifact.errors import ArtifactError, ArtifactRejected
from artifact.stores import addresses
from artifact.stores.contract import Store, StoreUnreachable
from artifact.transfer.download import Patience
from tests.stores import seaweed
from tests.stores.seaweed import Seaweed
from tests.transfer import proxy as proxies
from tests.transfer.proxy import Fault, Proxy
from tests.transfer.shelf import NAME, Shelf, packages

KEY = "a" * 32
SMALL = packages(KEY, count=16)
"""2.5 MB."""
QUICK = Patience(window=1.0, least=4096)


@dataclass(frozen=True)
class Behind:
    """A shelf whose artifact is in a bucket, and the proxy before that."""

    shelf: Shelf
    proxy: Proxy
    store: Store
    size: int

    def deploy(self) -> None:
        self.shelf.deploy("1", self.store, QUICK)

    @property
    def changed(self) -> bool:
        site = self.shelf.site
        return any(site.environments.iterdir()) or any(site.releases.iterdir())


@pytest.fixture
def behind(keys: Seaweed) -> Iterator[Behind]:
    with _shelf() as shelf, proxies.running(keys.endpoint.removeprefix("http://")) as proxy:
        path = shelf.publish("1", SMALL, KEY)
        prefix = uuid.uuid4().hex
        with path.open("rb") as body:
            keys.client().put_object(
                Bucket=seaweed.BUCKET, Key=f"{prefix}/{addresses.artifact(NAME, '1')}", Body=body
            )
        section = StoreSection(endpoint=proxy.url)
        store = stores.open_store(f"s3://{seaweed.BUCKET}/{prefix}", section)
        yield Behind(shelf, proxy, store, path.stat().st_size)


@contextmanager
def _shelf() -> Iterator[Shelf]:
    directory = Path(tempfile.mkdtemp(prefix="artifact-tests-", dir="/dev/shm"))
    try:
        yield Shelf(directory)
    finally:
        files.remove_tree(directory)


@pytest.mark.parametrize(
    "fault",
    [
        proxies.resetting(65536),
        proxies.truncating,
        proxies.saying(500, 2),
        proxies.saying(503, 2, "SlowDown"),
        proxies.endless,
    ],
    ids=["reset every 64 KiB", "half of each body", "500 at first", "503 at first", "no end"],
)
def test_a_fault_that_passes_costs_time_and_hardly_a_byte(behind: Behind, fault: Fault) -> None:
    behind.proxy.fault = fault
    behind.deploy()
    assert behind.shelf.site.environment(KEY).is_dir()
    assert behind.shelf.download is not None
    if fault is not proxies.endless:
        assert behind.shelf.download.counted.fetched - 262_144 <= 1.1 * behind.size


@pytest.mark.parametrize(
    ("fault", "error", "status"),
    [
        (proxies.saying(500, 10_000), StoreUnreachable, 5),
        (proxies.saying(503, 10_000, "SlowDown"), StoreUnreachable, 5),
        (proxies.flipping, ArtifactRejected, 4),
        (proxies.dripping(0.002), StoreUnreachable, 5),
    ],
    ids=["500 always", "503 always", "wrong bytes", "slow drip"],
)
def test_a_fault_that_stays_ends_the_download_and_changes_nothing(
    behind: Behind, fault: Fault, error: type[ArtifactError], status: int
) -> None:
    behind.proxy.fault = fault
    with pytest.raises(error) as raised:
        behind.deploy()
    assert raised.value.code == status
    assert not behind.changed
    # What it left does not stand in the way.
    behind.proxy.fault = proxies.whole
    behind.deploy()
    assert behind.shelf.site.environment(KEY).is_dir()
