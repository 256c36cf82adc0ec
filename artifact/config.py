"""The configuration of a build: `artifact.toml`, or `[tool.artifact]` in `pyproject.toml`."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, Literal

import msgspec

from artifact.errors import ConfigurationError
from artifact.manifest import Health, Install


class _Section(
    msgspec.Struct, frozen=True, kw_only=True, rename="kebab", forbid_unknown_fields=True
):
    """Base of every table: keys in kebab-case, unknown ones are errors."""


class PythonSection(_Section, frozen=True, kw_only=True):
    """`[python]`"""

    interpreter: str = "python3"
    """A command on the build machine's PATH, or a path; servers must have the same one."""


class RequirementsSection(_Section, frozen=True, kw_only=True):
    """`[requirements]`"""

    files: tuple[str, ...] = ()
    """Requirement files; the project's own are found when left out."""
    extras: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    tools: Literal["uv", "pip"] = "uv"
    build_env: tuple[str, ...] = ()
    """Variables that builds of sdists may see; part of the key."""
    salt: str = ""
    """Change it to force a new environment."""


class SourceSection(_Section, frozen=True, kw_only=True):
    """`[source]`"""

    exclude: tuple[str, ...] = ()


class AssetSection(_Section, frozen=True, kw_only=True):
    """One `[[assets]]` step"""

    name: str
    run: str
    """A shell command line; the environment's `bin` comes first on PATH."""
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...]
    env: dict[str, str] = {}
    timeout: float = 1800.0


class DjangoSection(_Section, frozen=True, kw_only=True):
    """`[django]`, present by default where `manage.py` is"""

    settings: str = ""
    manage: str = "manage.py"
    collectstatic: bool = True
    compress: bool | Literal["auto"] = "auto"
    compilemessages: bool | Literal["auto"] = "auto"
    env: dict[str, str] = {}
    timeout: float = 1800.0


class ProcessSection(_Section, frozen=True, kw_only=True):
    """One `[processes.NAME]`"""

    command: str
    listen: str = ""
    server: str = ""
    """Found from the command when left out."""
    health: str | Health | None = None
    instances: int = 1
    stop_timeout: float = 35.0


class StoreSection(_Section, frozen=True, kw_only=True):
    """`[store]`"""

    url: str = ""


class Config(_Section, frozen=True, kw_only=True):
    """A whole configuration."""

    name: str
    root: str = ""
    """The site on servers; `/srv/NAME` when left out."""
    python: PythonSection = PythonSection()
    requirements: RequirementsSection = RequirementsSection()
    source: SourceSection = SourceSection()
    assets: tuple[AssetSection, ...] = ()
    django: DjangoSection | None = None
    processes: dict[str, ProcessSection] = {}
    install: Install = Install()
    store: StoreSection = StoreSection()


def read_toml(path: Path) -> dict[str, Any]:
    """Return the content of a TOML file.

    Raises:
        ConfigurationError: it is not TOML, and where; or it cannot be read.
    """
    try:
        return tomllib.loads(path.read_text("utf-8-sig"))
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} is not TOML: {error}") from error
