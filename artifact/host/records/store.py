"""Which store a server takes artifacts from: `[store]` of its `site.toml`, or the variables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from artifact import variables
from artifact.configuration import overrides, schema
from artifact.configuration.artifact_toml import StoreSection
from artifact.errors import ConfigurationError
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
    document: dict[str, Any] = {}
    origin = ""
    if name or root:
        site = Site(Path(root) if root else find.SITES / name)
        document, origin = {"store": settings.load(site).store}, f"{site.settings}: "
    laid = overrides.lay_over(document, _Document, variables.everything())
    fitting = schema.fit(laid.document, _Document)
    lines = [f"{variable}: {text}" for variable, text in laid.problems]
    for problem in fitting.problems:
        place = laid.origins.get(problem.key, origin + schema.dotted(problem.key))
        lines.append(f"{place}: {problem.text}")
    if lines:
        raise ConfigurationError("\n".join(lines))
    assert isinstance(fitting.value, _Document)
    return fitting.value.store
