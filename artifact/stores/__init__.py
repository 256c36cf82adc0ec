"""Where artifacts are kept: directories, S3 and web servers, behind one contract."""

from __future__ import annotations

import re
from pathlib import Path

from artifact.configuration.store_section import StoreSection
from artifact.errors import ConfigurationError
from artifact.stores import addresses
from artifact.stores.contract import ObjectInfo, Store
from artifact.stores.directory import DirectoryStore

_DIGITS = re.compile(r"(\d+)")


def open_store(address: str, section: StoreSection) -> Store:
    """Return the store at an address; nothing is asked of it yet.

    Args:
        address: "s3://bucket/prefix", "https://…" or the path of a directory.
        section: how to reach it; its own `url` does not count.

    Raises:
        ConfigurationError: it is no address of a store.
    """
    scheme = address.partition("://")[0].lower() if "://" in address else ""
    if not address:
        raise ConfigurationError(
            "no store is configured",
            hint="set url in [store] of artifact.toml (on servers: site.toml), "
            "or ARTIFACT_STORE_URL",
        )
    if not scheme:
        return DirectoryStore(Path(address).absolute())
    if scheme == "s3":
        from artifact.stores.s3 import open_s3  # boto3 takes 0.3 s

        return open_s3(address, section)
    if scheme in {"http", "https"}:
        from artifact.stores.http import open_http  # urllib3 takes 0.1 s

        return open_http(address)
    raise ConfigurationError(
        f"{scheme}:// is no kind of store", hint="s3://bucket/prefix, https://… or a directory"
    )


def versions(store: Store, name: str) -> list[tuple[str, ObjectInfo]]:
    """Return the versions of an application in a store, as people count: 9, 10, 11."""
    found = [
        (version, one)
        for object_name, one in store.names(addresses.artifacts(name))
        if (version := addresses.version_of(name, object_name))
    ]
    return sorted(found, key=lambda one: _natural(one[0]))


def _natural(version: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in _DIGITS.split(version)]
