"""Sites to compile environments for, from wheels made here, without an index."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from artifact import steps
from artifact.archive.packed import Packed
from artifact.building.caches import Caches
from artifact.building.environments import environment
from artifact.building.environments.environment import Environment
from artifact.building.environments.spec import EnvironmentSpec, specify
from artifact.building.interpreter import Interpreter
from artifact.building.locking.lock import LockRequest, lock_for
from artifact.building.locking.pins import Lock
from artifact.configuration.artifact_toml import Config, RequirementsSection
from artifact.configuration.store_section import StoreSection
from surroundings import wheels


@dataclass(slots=True)
class Bench:
    """A checkout with a lock, a directory of wheels, and a site to compile for."""

    base: Path
    interpreter: Interpreter
    name: str = "accounting"
    section: RequirementsSection = field(default_factory=RequirementsSection)
    store: StoreSection = field(default_factory=StoreSection)
    events: list[steps.Event] = field(default_factory=list)
    also: steps.Listener = steps.nobody
    """Hears every event, too."""

    def tell(self, event: steps.Event) -> None:
        self.events.append(event)
        self.also(event)

    @property
    def checkout(self) -> Path:
        return self.base / "checkout"

    @property
    def wheels(self) -> Path:
        return self.base / "wheels"

    @property
    def caches(self) -> Caches:
        return Caches(str(self.base / "site"), self.base / "cache")

    @property
    def said(self) -> list[str]:
        kinds = (steps.Said, steps.Warned)
        return [event.text for event in self.events if isinstance(event, kinds)]

    def wheel(
        self,
        name: str,
        version: str,
        files: Mapping[str, str | bytes] | None = None,
        requires: Sequence[str] = (),
    ) -> str:
        """Write a wheel; return the line that locks it."""
        path = wheels.write(self.wheels, name, version, files, requires=requires)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        return f"{name}=={version} --hash=sha256:{digest}\n"

    def require(self, *lines: str) -> None:
        """Write the checkout's lock."""
        self.checkout.mkdir(exist_ok=True)
        (self.checkout / "requirements.lock").write_text("".join(lines))

    def locked(self) -> Lock:
        request = LockRequest(self.checkout, self.section, self.interpreter, self.caches, self.tell)
        return lock_for(request)

    @property
    def config(self) -> Config:
        root = self.caches.root
        return Config(name=self.name, root=root, requirements=self.section, store=self.store)

    def ensure(self, **options: Any) -> Environment:
        """Make or reuse the environment of the lock."""
        spec = self.specify(options.pop("workspace", None))
        return environment.ensure(spec, self.tell, **options)

    def specify(self, workspace: Path | None = None) -> EnvironmentSpec:
        """Return the environment that the lock asks for."""
        return specify(self.config, self.locked(), self.caches, workspace or self.checkout)

    def pack(self, made: Environment) -> Packed:
        """Pack an environment."""
        return environment.packed(made, self.caches, 6, self.tell)
