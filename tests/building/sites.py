"""Sites to compile environments for, from wheels made here, without an index."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wheel.wheelfile import WheelFile

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
        self.wheels.mkdir(parents=True, exist_ok=True)
        path = self.wheels / f"{name}-{version}-py3-none-any.whl"
        path.unlink(missing_ok=True)
        info = f"{name}-{version}.dist-info"
        about = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        about += "".join(f"Requires-Dist: {line}\n" for line in requires)
        kind = "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        with WheelFile(path, "w") as archive:
            for member, content in (files or {f"{name}.py": f"version = {version!r}\n"}).items():
                archive.writestr(member, content)
            archive.writestr(f"{info}/METADATA", about)
            archive.writestr(f"{info}/WHEEL", kind)
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
