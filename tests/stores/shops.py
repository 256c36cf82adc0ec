"""Stores of every kind, each with what a test needs behind its back."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from artifact import stores
from artifact.configuration.store_section import StoreSection
from artifact.stores.contract import Store
from artifact.stores.s3 import S3Store


@dataclass(frozen=True)
class Shop:
    """A store to test, and ways around it."""

    kind: str
    store: Store
    lay: Callable[[str, bytes], None]
    """Puts or replaces an object, as nobody should."""
    lost: Store
    """One of the same kind whose bucket or directory does not exist."""


def lay_in(directory: Path) -> Callable[[str, bytes], None]:
    """Return a function that replaces files in a directory."""

    def lay(name: str, content: bytes) -> None:
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(".beside")
        beside.write_bytes(content)
        beside.chmod(0o644)
        os.replace(beside, path)

    return lay


@dataclass(frozen=True)
class Bucket:
    """The bucket of the S3 server."""

    store: S3Store
    client: Any
    """boto3's own, to look behind our back."""


def in_directory(tmp_path: Path) -> Shop:
    """Return an empty directory as a store."""
    root = tmp_path / "store"
    root.mkdir()
    lost = stores.open_store(str(tmp_path / "absent"), StoreSection())
    return Shop("directory", stores.open_store(str(root), StoreSection()), lay_in(root), lost)


def in_bucket(bucket: Bucket) -> Shop:
    """Return a part of the bucket that nobody else uses."""
    prefix = f"{uuid.uuid4().hex}/"
    store = msgspec.structs.replace(bucket.store, prefix=prefix)

    def lay(name: str, content: bytes) -> None:
        bucket.client.put_object(Bucket=store.bucket, Key=prefix + name, Body=content)

    return Shop("s3", store, lay, msgspec.structs.replace(store, bucket="absent-bucket"))


def on_web(address: str, root: Path) -> Shop:
    """Return a directory of the web server that nobody else uses."""
    own, other = uuid.uuid4().hex, uuid.uuid4().hex
    store = stores.open_store(f"{address}/{own}", StoreSection())
    lost = stores.open_store(f"{address}/{other}", StoreSection())
    return Shop("http", store, lay_in(root / own), lost)
