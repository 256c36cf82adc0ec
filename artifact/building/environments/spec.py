"""An environment that a build wants: everything that decides its content, and where it belongs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from artifact.building.caches import Caches
from artifact.building.environments import key
from artifact.building.interpreter import Interpreter
from artifact.building.locking.context import BuildContext
from artifact.building.locking.lock import build_variables
from artifact.building.locking.pins import Lock
from artifact.building.locking.tools import toolchain
from artifact.building.locking.tools.contract import Tools
from artifact.configuration.artifact_toml import Config
from artifact.steps import Listener


class EnvironmentSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What an environment is to be made of, and where."""

    config: Config
    lock: Lock
    tools: Tools
    declared: Mapping[str, str]
    """The variables that builds of sdists may see."""
    caches: Caches
    workspace: Path
    """The checkout, whose path must not be found in the environment."""
    inputs: Mapping[str, Any]
    """All that decides the content, ready for JSON."""
    key: str
    """The digest of the inputs."""

    @property
    def root(self) -> Path:
        """Where the environment is, or will be."""
        return self.caches.environment(self.key)

    @property
    def interpreter(self) -> Interpreter:
        """The interpreter it is compiled for."""
        return self.lock.interpreter

    def build_context(self, tell: Listener) -> BuildContext:
        """Return what it takes to build and get the packages of its lock."""
        return BuildContext(self.interpreter, self.lock.indexes, self.declared, self.caches, tell)


def specify(config: Config, lock: Lock, caches: Caches, workspace: Path) -> EnvironmentSpec:
    """Return the environment that a configuration and a lock ask for; reads and changes nothing."""
    section = config.requirements
    tools, declared = toolchain(section.tools), build_variables(section)
    inputs = key.inputs(caches.root, lock, tools, declared, section.salt)
    return EnvironmentSpec(
        config=config,
        lock=lock,
        tools=tools,
        declared=declared,
        caches=caches,
        workspace=workspace.resolve(),
        inputs=inputs,
        key=key.key_of(inputs),
    )
