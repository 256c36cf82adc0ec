"""A server's own settings: `site.toml`, the variables that go before it, and the `env` file."""

from __future__ import annotations

import os
from pathlib import Path

from artifact.configuration import site_toml
from artifact.configuration.site_toml import Settings
from artifact.configuration.store_section import StoreSection
from artifact.errors import ConfigurationError
from artifact.host.records import find
from artifact.site import Site


def load(site: Site) -> Settings:
    """Return the settings of a site; `ARTIFACT_SUPERVISOR_URL` goes before its `site.toml`.

    Raises:
        ConfigurationError: a setting or the variable is wrong; names every one that is.
    """
    return site_toml.load(site.settings, overridable=["supervisor"])


def load_for_processes(site: Site) -> Settings:
    """Return what decides how application code is started: `user` and `pass-env`.

    Raises:
        ConfigurationError: one of these is wrong; the rest of `site.toml` is not looked at.
    """
    return site_toml.load_for_processes(site.settings)


def load_store(name: str, root: str = "") -> StoreSection:
    """Return how to reach the store; `ARTIFACT_STORE_URL` and its like go before `site.toml`.

    Args:
        name: the application's; empty where nobody knows it yet.
        root: its site; `/srv/NAME` when empty. Without both only the variables count.

    Raises:
        ConfigurationError: a setting or a variable is wrong; names every one that is.
    """
    site = Site(Path(root) if root else find.SITES / name)
    # Without a name that is /srv/site.toml, which is nobody's.
    path = site.settings if name or root else Path(os.devnull)
    return site_toml.load(path, overridable=["store"]).store


def application_variables(site: Site) -> dict[str, str]:
    """Read the site's `env` file: `KEY=value` lines, empty lines and `#` comments.

    There is no shell: a value is everything behind the first `=`, quotes and `$` included.

    Raises:
        ConfigurationError: a line is none of these, or the file cannot be read.
    """
    try:
        text = site.variables.read_text("utf-8")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{site.variables} cannot be read: {error}") from error
    found: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, equals, value = line.partition("=")
        if not equals or not name.strip().isidentifier():
            # The line itself may be a secret: only its number is shown.
            raise ConfigurationError(
                f"{site.variables}:{number}: expected KEY=value",
                hint="no `export`, no spaces in the name, one variable a line",
            )
        if "\0" in value:
            raise ConfigurationError(
                f"{site.variables}:{number}: a variable cannot hold a NUL byte",
                hint="is the file in UTF-16? write it in UTF-8",
            )
        found[name.strip()] = value.strip()
    return found
