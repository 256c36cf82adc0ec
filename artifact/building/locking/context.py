"""What getting and building packages takes, whatever the package and the tool."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from artifact import steps, variables
from artifact.building.caches import Caches
from artifact.building.interpreter import Interpreter
from artifact.building.locking import indexes
from artifact.building.locking.indexes import Indexes


@dataclass(frozen=True, slots=True)
class BuildContext:
    """The interpreter, the indexes, the variables of builds, and where wheels are kept."""

    interpreter: Interpreter
    indexes: Indexes = field(repr=False)
    declared: Mapping[str, str] = field(repr=False)
    """The `build-env` variables: builds see them beside the basic ones, and no others."""
    caches: Caches
    tell: steps.Listener


def pip_environment(context: BuildContext) -> dict[str, str]:
    """Return all variables of a pip that builds."""
    return _basic() | indexes.for_pip(context.indexes) | dict(context.declared)


def uv_environment(context: BuildContext) -> dict[str, str]:
    """Return all variables of a uv that builds nothing but metadata of sdists."""
    return _basic() | indexes.for_uv(context.indexes) | dict(context.declared)


def _basic() -> dict[str, str]:
    return indexes.base(variables.everything())
