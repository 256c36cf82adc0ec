"""Which store a server takes artifacts from: `[store]` of its `site.toml`, or the variables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from artifact.configuration import toml_document
from artifact.configuration.store_section import StoreSection
from artifact.host.records import find, settings
from artifact.site import Site


class _Document(msgspec.Struct, frozen=True):
    store: StoreSection = StoreSection()


def section(name: str, root: str = "") -> StoreSection:
    """Return how to reach the store: `ARTIFACT_STORE_URL` and its like over the site's settings.

    Args:
        name: the application's; empty where nobody knows it yet.
        root: its site; `/srv/NAME` when empty. Without both only the variables count.

    Raises:
        ConfigurationError: a setting or a variable is wrong; names it.
    """
    content: dict[str, Any] = {}
    label = "variables"
    if name or root:
        site = Site(Path(root) if root else find.SITES / name)
        content, label = {"store": settings.load(site).store}, str(site.settings)
    return toml_document.fit(content, _Document, label=label).store
