"""Which store a command means, and of which application: the checkout's, or the server's."""

from __future__ import annotations

from pathlib import Path

import msgspec

from artifact import stores, variables
from artifact.configuration import artifact_toml
from artifact.configuration.artifact_toml import Config
from artifact.configuration.store_section import StoreSection
from artifact.errors import UsageError
from artifact.host.records import settings
from artifact.manifest import is_name
from artifact.stores.contract import Store


class Opened(msgspec.Struct, frozen=True):
    """A store and the application a command is about."""

    store: Store
    name: str
    section: StoreSection


def section(name: str) -> StoreSection:
    """Return how to reach the store of an application; of the one here when the name is empty.

    In a checkout its `[store]` counts, elsewhere that of the site's `site.toml`; the variables
    `ARTIFACT_STORE_…` override both.

    Raises:
        ConfigurationError: a setting or a variable is wrong; names it.
    """
    found = _configuration_here()
    if found is not None and name in {"", found.name}:
        return found.store
    return settings.load_store(name)


def opened(name: str) -> Opened:
    """Open the configured store.

    Args:
        name: the application's; found from the checkout or `ARTIFACT_NAME` when empty.

    Raises:
        UsageError: nobody says which application is meant.
    """
    chosen = name or variables.get("ARTIFACT_NAME")
    if not chosen and (here := _configuration_here()) is not None:
        chosen = here.name
    if not is_name(chosen):
        raise UsageError(
            f"{chosen!r} cannot be an application's name"
            if chosen
            else "which application is meant?",
            hint="name it, set ARTIFACT_NAME, or run this in its checkout",
        )
    found = section(chosen)
    return Opened(stores.open_store(found.url, found), chosen, found)


def _configuration_here() -> Config | None:
    here = Path.cwd()
    if (here / artifact_toml.FILE).is_file() or artifact_toml.in_pyproject(here) is not None:
        return artifact_toml.load(here)
    return None
