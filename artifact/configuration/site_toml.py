"""The settings of one server: `site.toml` of a site.

The example that `artifact setup` writes documents every key.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import msgspec

from artifact.configuration import checks, schema, store_section, toml_document
from artifact.configuration.schema import KeyProblem
from artifact.configuration.store_section import StoreSection
from artifact.configuration.toml_document import Section
from artifact.manifest import Install, Keep, MigrationPolicy, Restart, StaticPolicy


class SupervisorSection(Section, frozen=True, kw_only=True):
    """`[supervisor]`"""

    url: str = "unix:///var/run/supervisor.sock"
    """ "unix:///path" or "http://host:port", with "user:password@" where it asks for them."""


class ProxySection(Section, frozen=True, kw_only=True):
    """`[proxy]`: what `artifact setup --nginx` writes nginx's block with"""

    server_name: str = ""
    """ "example.com" or "example.com:8080"; empty where nginx was never set up."""
    certificate: str = ""
    """Path of the chain that TLS is served with; empty for plain HTTP."""
    certificate_key: str = ""


class InstallSection(Section, frozen=True, kw_only=True):
    """`[install]`: what is set here goes before the artifact's own"""

    restart: Restart | None = None
    migrations: MigrationPolicy | None = None
    keep: Keep | None = None
    shared: tuple[str, ...] | None = None
    static: StaticPolicy | None = None


class Settings(Section, frozen=True, kw_only=True):
    """A whole `site.toml`; a site without one has the defaults."""

    user: str = ""
    """Who the processes run as when supervisor starts them as root."""
    signers: str = ""
    """An allowed_signers file, see ssh-keygen(1): only what one of them signed is installed."""
    pass_env: tuple[str, ...] = ()
    """Variables of whoever starts a process that its code may see; it sees no others of them."""
    pinned: tuple[str, ...] = ()
    """Versions that are never pruned."""
    supervisor: SupervisorSection = SupervisorSection()
    proxy: ProxySection = ProxySection()
    install: InstallSection = InstallSection()
    store: StoreSection = StoreSection()
    """Where `artifact install NAME` and `NAME@CHANNEL` find artifacts."""

    def merged(self, install: Install) -> Install:
        """Return the manifest's settings with this server's own on top."""
        own = {
            field: value
            for field in InstallSection.__struct_fields__
            if (value := getattr(self.install, field)) is not None
        }
        return msgspec.structs.replace(install, **own)


def load(path: Path, *, overridable: Collection[str]) -> Settings:
    """Return the settings in a file; one that is not there has the defaults.

    Args:
        overridable: the tables whose variables go before the file.

    Raises:
        ConfigurationError: with a line for every problem, each beginning with the key's path.
    """
    return toml_document.load(path, Settings, overridable=overridable, check=_problems)


def load_for_processes(path: Path) -> Settings:
    """Return what decides how application code is started, and the defaults of all else.

    A mistake in another key does not keep a process that crashed from being started again.

    Raises:
        ConfigurationError: the file is not TOML, or one of these keys is wrong.
    """
    content = toml_document.read_toml(path) if path.exists() else {}
    needed: dict[str, Any] = {
        key: value for key, value in content.items() if key in {"user", "pass-env"}
    }
    return toml_document.fit(needed, Settings, label=str(path), overridable=(), check=_problems)


def _problems(settings: Settings) -> Iterator[KeyProblem]:
    """Yield the problems that types cannot express."""
    proxy = settings.proxy
    paths = {
        ("signers",): settings.signers,
        ("proxy", "certificate"): proxy.certificate,
        ("proxy", "certificate-key"): proxy.certificate_key,
    }
    for key, path in paths.items():
        if path and not path.startswith("/"):
            yield KeyProblem(key, f"expected an absolute path, got {schema.shown(path, key)}")
    for i, name in enumerate(settings.pass_env):
        if wrong := checks.variable(name):
            yield KeyProblem(("pass-env", i), f'{wrong}, got "{name}"')
    if bool(proxy.certificate) != bool(proxy.certificate_key):
        yield KeyProblem(("proxy",), "certificate and certificate-key belong together")
    yield from store_section.problems(settings.store)
