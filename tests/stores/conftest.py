"""One S3 server and one web server for all tests of a worker."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from botocore import handlers

from artifact import stores
from artifact.configuration.store_section import StoreSection
from artifact.stores.s3 import S3Store
from tests.stores import seaweed, shops
from tests.stores.seaweed import Seaweed
from tests.stores.shops import Bucket, Shop
from tests.transfer import webserver


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seaweed]:
    with seaweed.server(tmp_path_factory.mktemp("seaweed")) as running:
        yield running


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """An address of nginx and the directory it serves."""
    root = tmp_path_factory.mktemp("served")
    with webserver.nginx(root, tmp_path_factory.mktemp("nginx") / "own") as address:
        yield f"http://{address}", root


@pytest.fixture
def keys(s3: Seaweed, monkeypatch: pytest.MonkeyPatch) -> Seaweed:
    """The S3 server, with the administrator's key in the environment."""
    for name, value in s3.admin.variables().items():
        monkeypatch.setenv(name, value)
    return s3


@pytest.fixture(scope="session")
def bucket(s3: Seaweed) -> Bucket:
    """Clients cost a second each: all tests share these."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in s3.admin.variables().items():
            patch.setenv(name, value)
        section = StoreSection(endpoint=s3.endpoint)
        store = stores.open_store(f"s3://{seaweed.BUCKET}", section)
    assert isinstance(store, S3Store)
    # This server is at times late with its "100 Continue", for which botocore waits a second.
    store.client.meta.events.unregister("before-call.s3", handlers.add_expect_header)
    return Bucket(store, s3.client())


@pytest.fixture(params=["directory", "s3", "http"])
def shop(request: pytest.FixtureRequest, tmp_path: Path) -> Shop:
    """Every kind of store, empty."""
    if request.param == "http":
        return shops.on_web(*request.getfixturevalue("served"))
    return _writable(request, tmp_path)


@pytest.fixture(params=["directory", "s3"])
def writable(request: pytest.FixtureRequest, tmp_path: Path) -> Shop:
    """Every kind of store that can be written, empty."""
    return _writable(request, tmp_path)


def _writable(request: pytest.FixtureRequest, tmp_path: Path) -> Shop:
    if request.param == "directory":
        return shops.in_directory(tmp_path)
    return shops.in_bucket(request.getfixturevalue("bucket"))
