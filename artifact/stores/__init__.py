"""Where artifacts are kept: directories, S3 and web servers, behind one contract."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from artifact.errors import ConfigurationError

if TYPE_CHECKING:
    from artifact.configuration.store_section import StoreSection
    from artifact.stores.contract import Store


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
        from artifact.stores.directory import DirectoryStore

        return DirectoryStore(Path(address).absolute())
    if scheme == "s3":
        from artifact.stores.s3 import open_s3

        return open_s3(address, section)
    if scheme in {"http", "https"}:
        from artifact.stores.http import open_http

        return open_http(address)
    raise ConfigurationError(
        f"{scheme}:// is no kind of store", hint="s3://bucket/prefix, https://… or a directory"
    )
