"""Building and pushing: what the store has already is copied there, and never sent again."""

from __future__ import annotations

import json
import os
import random
import time
from pathlib import Path

import pytest

from artifact import steps
from artifact.archive import reader, writer
from artifact.stores.contract import Store
from artifact.transfer import arrival, publishing
from artifact.transfer.publishing import Published
from tests.archive import samples
from tests.integration.projects import Checkout
from tests.stores import shops
from tests.stores.shops import Bucket, Shop

PACKAGES = {
    f"virtualenv/lib/python3.11/site-packages/module{number}.so": random.Random(number).randbytes(
        200_000
    )
    for number in range(30)
}


def write(directory: Path, version: str, packages: dict[str, bytes]) -> Path:
    """Write an artifact with an environment of six megabytes."""
    work = directory / f"work-{version}"
    work.mkdir()
    path = directory / f"accounting-{version}.tgz"
    environment = samples.ENVIRONMENT | packages
    packed = [
        samples.pack(environment, work / "venv", links=samples.ENVIRONMENT_LINKS, name="venv"),
        samples.pack({"version.py": version.encode()}, work / "code", name="code"),
    ]
    writer.write(path, packed, samples.describe(version))
    return path


def publish(store: Store, path: Path) -> Published:
    with reader.open_artifact(path) as artifact:
        return publishing.publish(store, artifact, path, steps.nobody)


def test_of_a_code_only_release_the_environment_is_not_sent(bucket: Bucket, tmp_path: Path) -> None:
    store = shops.in_bucket(bucket).store
    assert publish(store, write(tmp_path, "9", PACKAGES)).copied == 0
    path = write(tmp_path, "10", PACKAGES)
    published = publish(store, path)
    assert published.copied > 6_000_000
    assert published.size - published.copied < 10_000
    assert store.read(published.name, 0, published.size).content() == path.read_bytes()
    with arrival.opened(store, published.name) as artifact:
        reader.verify(artifact)
    assert [version for version, _ in publishing.versions(store, "accounting")] == ["9", "10"]
    assert publish(store, path).was_there


def test_of_another_environment_all_is_sent(bucket: Bucket, tmp_path: Path) -> None:
    store = shops.in_bucket(bucket).store
    publish(store, write(tmp_path, "9", PACKAGES))
    path = write(tmp_path, "10", PACKAGES | {min(PACKAGES): b"changed"})
    published = publish(store, path)
    assert published.copied == 0
    assert store.read(published.name, 0, published.size).content() == path.read_bytes()


def test_a_damaged_artifact_in_the_store_does_not_keep_another_from_being_pushed(
    writable: Shop, tmp_path: Path
) -> None:
    writable.lay("accounting/artifacts/accounting-9.tgz", b"damaged")
    path = write(tmp_path, "10", {})
    published = publish(writable.store, path)
    assert writable.store.read(published.name, 0, 1 << 30).content() == path.read_bytes()


@pytest.mark.slow
def test_a_build_pushes_what_it_built(small: Checkout, tmp_path: Path) -> None:
    store = tmp_path / "store"
    store.mkdir()
    ran = small.build("--version", "7", "--push", "--json", ARTIFACT_STORE_URL=str(store))
    document = json.loads(ran.stdout)
    pushed = store / document["pushed"]["object"]
    assert pushed.read_bytes() == Path(document["artifact"]).read_bytes()
    assert document["pushed"]["digest"] == document["digest"]


def test_what_a_killed_upload_left_is_no_object_and_goes_after_a_day(tmp_path: Path) -> None:
    shop = shops.in_directory(tmp_path)
    path = write(tmp_path, "9", {})
    left = tmp_path / "store/accounting/artifacts/.accounting-9.tgz.host-1-2.new"
    fresh = left.with_name(".accounting-9.tgz.host-3-4.new")
    left.parent.mkdir(parents=True)
    for one in (left, fresh):
        one.write_bytes(b"a part of it")
    os.utime(left, (time.time() - 90_000,) * 2)
    assert list(shop.store.names("")) == []
    published = publish(shop.store, path)
    assert not published.was_there
    assert [name for name, _ in shop.store.names("")] == [published.name]
    assert not left.exists()
    assert fresh.exists()
