"""Building and pushing: what the store has already is copied there, and never sent again."""

from __future__ import annotations

import json
import os
import random
import time
from pathlib import Path

import pytest

from artifact import steps, stores
from artifact.archive import checking, opening, writer
from artifact.stores import parts
from artifact.stores.contract import SharedRange, Store
from artifact.transfer import publishing, remote
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
    with opening.open_artifact(path) as artifact:
        return publishing.publish(store, artifact, path, steps.nobody)


def test_of_a_code_only_release_the_environment_is_not_sent(bucket: Bucket, tmp_path: Path) -> None:
    store = shops.in_bucket(bucket).store
    assert publish(store, write(tmp_path, "9", PACKAGES)).copied == 0
    path = write(tmp_path, "10", PACKAGES)
    published = publish(store, path)
    assert published.copied > 6_000_000
    assert published.size - published.copied < 10_000
    assert store.read(published.name, 0, published.size).content() == path.read_bytes()
    with remote.open_artifact(store, published.name) as artifact:
        checking.verify(artifact)
    assert [version for version, _ in stores.versions(store, "accounting")] == ["9", "10"]
    assert publish(store, path).was_there


def test_of_a_changed_package_the_others_are_not_sent(bucket: Bucket, tmp_path: Path) -> None:
    store = shops.in_bucket(bucket).store
    first, middle = min(PACKAGES), sorted(PACKAGES)[4]
    more = PACKAGES | {f"{middle}.{number}": os.urandom(500_000) for number in range(20)}
    publish(store, write(tmp_path, "9", more))
    for version, changed in (("10", {first: b"changed"}), ("11", {middle: b"changed"})):
        path = write(tmp_path, version, more | changed)
        published = publish(store, path)
        # A part of an upload has 5 MiB at least.
        assert published.copied > published.size - 6_000_000
        assert store.read(published.name, 0, published.size).content() == path.read_bytes()


def test_of_another_environment_all_is_sent(bucket: Bucket, tmp_path: Path) -> None:
    store = shops.in_bucket(bucket).store
    publish(store, write(tmp_path, "9", PACKAGES))
    path = write(tmp_path, "10", {name: os.urandom(200_000) for name in PACKAGES})
    published = publish(store, path)
    assert published.copied == 0
    assert store.read(published.name, 0, published.size).content() == path.read_bytes()


@pytest.mark.parametrize("seed", range(20))
def test_the_parts_of_an_upload_are_its_bytes_and_none_is_too_small(seed: int) -> None:
    noise = random.Random(seed)
    there = noise.randbytes(1000)  # a byte here stands for 100,000
    unit, content, runs = 100_000, b"", []
    while len(content) < 1500:
        if noise.random() < 0.5:
            start = noise.randrange(900)
            piece = there[start : start + noise.choice((1, 20, 60, 300))]
            runs.append(SharedRange(len(content) * unit, len(piece) * unit, start * unit))
            content += piece
        content += noise.randbytes(noise.choice((0, 1, 30, 200)))
    size = len(content) * unit
    cut = parts.cut(size, runs)
    assert [part.number for part in cut] == list(range(1, len(cut) + 1))
    assert [part.start for part in cut] == [0, *(part.start + part.length for part in cut[:-1])]
    assert cut[-1].start + cut[-1].length == size
    assert all(part.length >= parts.SMALLEST_BYTES for part in cut[:-1])
    for part in cut:
        if part.source is None:
            continue
        # Offsets in the middle of a byte of the model: both sides must be as far into one.
        assert (part.start - part.source) % unit == 0
        length = part.length // unit
        begin, source = -(-part.start // unit), -(-part.source // unit)
        assert content[begin : begin + length] == there[source : source + length]


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
