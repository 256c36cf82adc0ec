"""A server's own settings: `site.toml`, what it overrides in the manifest, and the `env` file."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from artifact import variables
from artifact.errors import ConfigurationError
from artifact.manifest import Install
from artifact.site import Site

DEFAULT_SUPERVISOR = "unix:///var/run/supervisor.sock"


class _Section(
    msgspec.Struct, frozen=True, kw_only=True, rename="kebab", forbid_unknown_fields=True
):
    """Base of every table: keys in kebab-case, unknown ones are errors."""


class SupervisorSection(_Section, frozen=True, kw_only=True):
    """`[supervisor]`"""

    url: str = DEFAULT_SUPERVISOR
    """ "unix:///path" or "http://host:port", with "user:password@" where it asks for them."""


class InstallSection(_Section, frozen=True, kw_only=True):
    """`[install]`: what is set here overrides the manifest."""

    restart: Literal["slots", "graceful", "none"] | None = None
    migrations: Literal["list", "stop", "run"] | None = None
    keep: int | None = None
    shared: tuple[str, ...] | None = None
    static: str | None = None


class Settings(_Section, frozen=True, kw_only=True):
    """A whole `site.toml`; a site without one has the defaults."""

    user: str = ""
    """Who the processes run as when supervisor starts them as root."""
    signers: str = ""
    """An allowed_signers file, see ssh-keygen(1): only what one of them signed is installed."""
    pinned: tuple[str, ...] = ()
    """Versions that are never pruned."""
    supervisor: SupervisorSection = SupervisorSection()
    install: InstallSection = InstallSection()
    store: dict[str, Any] = {}
    """Where `artifact install NAME` and `NAME@CHANNEL` find artifacts; `host.store` reads it."""

    def merged(self, install: Install) -> Install:
        """Return the manifest's settings with this server's own on top."""
        own = {
            field: value
            for field in InstallSection.__struct_fields__
            if (value := getattr(self.install, field)) is not None
        }
        return msgspec.structs.replace(install, **own)


def load(site: Site) -> Settings:
    """Read `site.toml`, with `ARTIFACT_SUPERVISOR_URL` on top.

    Raises:
        ConfigurationError: it is not TOML, or holds what nobody knows; names the key.
    """
    content: dict[str, Any] = {}
    if site.settings.exists():
        from artifact.configuration.toml_document import read_toml

        content = read_toml(site.settings)
    try:
        settings = msgspec.convert(content, Settings)
    except msgspec.ValidationError as error:
        raise ConfigurationError(f"{site.settings}: {error}") from error
    url = variables.get("ARTIFACT_SUPERVISOR_URL")
    if url:
        return msgspec.structs.replace(settings, supervisor=SupervisorSection(url=url))
    return settings


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
        found[name.strip()] = value.strip()
    return found
