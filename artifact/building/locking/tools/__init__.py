"""The two toolchains: uv, and pip-tools with pip. Both resolve to and install from one format."""

from __future__ import annotations

from artifact.building.locking.tools.contract import Tools
from artifact.building.locking.tools.pip import Pip
from artifact.building.locking.tools.uv import Uv
from artifact.configuration import artifact_toml


def toolchain(name: artifact_toml.Tools) -> Tools:
    """Return the toolchain that `[requirements] tools` names."""
    return Pip() if name == "pip" else Uv()
