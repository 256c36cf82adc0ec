"""Sites to compile environments for, from wheels made here, without an index."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from artifact import steps
from artifact.archive.packed import Packed
from artifact.building.environments import environment
from artifact.building.environments.environment import Environment, Found
from artifact.building.environments.interpreter import Interpreter
from artifact.building.locking import lock, tools
from artifact.building.locking.lock import Lock
from artifact.building.places import Places
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
    def places(self) -> Places:
        return Places(str(self.base / "site"), self.base / "cache")

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
        return lock.lock_for(self.checkout, self.section, self.interpreter, self.places, self.tell)

    @property
    def config(self) -> Config:
        root = self.places.root
        return Config(name=self.name, root=root, requirements=self.section, store=self.store)

    def ensure(self, **options: Any) -> Environment:
        """Make or reuse the environment of the lock."""
        return environment.ensure(
            self.config,
            self.locked(),
            self.interpreter,
            tools.named(self.section.tools),
            self.places,
            self.tell,
            workspace=options.pop("workspace", self.checkout),
            **options,
        )

    def observe(self) -> Found:
        """Look what a build would reuse."""
        return environment.observe(
            self.config,
            self.locked(),
            self.interpreter,
            tools.named(self.section.tools),
            self.places,
        )

    def pack(self, made: Environment) -> Packed:
        """Pack an environment."""
        return environment.packed(made, self.places, 6, self.tell)
