"""An index, and a project whose requirements come from it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

import pytest
from msgspec.structs import replace

from artifact import process, steps
from artifact.building import interpreter
from artifact.building.caches import Caches
from artifact.building.interpreter import Interpreter
from artifact.building.locking import indexes, pip_virtualenvs
from artifact.building.locking.context import BuildContext
from artifact.building.locking.lock import LockRequest, lock_for
from artifact.building.locking.pins import Lock
from artifact.building.locking.tools import toolchain
from artifact.configuration.artifact_toml import RequirementsSection, Tools
from surroundings.index import Index
from tests.building.sites import Bench


@dataclass(frozen=True, slots=True)
class Machine:
    """What a build machine has from the second build on: its helpers."""

    interpreter: Interpreter
    helpers: Path


@pytest.fixture(scope="session")
def machine(shared_directory: Path) -> Machine:
    """The interpreter of the tests, and the helpers' virtualenvs, made with the ambient index."""
    cache = shared_directory / "requirements-cache"
    caches = Caches(str(shared_directory / "no-site"), cache)
    found = interpreter.find(sys.executable, caches)
    pip_virtualenvs.python_with_pip(found, caches)
    settings = indexes.read_settings(indexes.Options(), dict(os.environ))
    pip_virtualenvs.python_with_pip_tools(found, settings, caches)
    return Machine(found, cache / "helpers")


@pytest.fixture
def index(tmp_path: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> Iterator[Index]:
    """An empty index, the only one that pip is configured to use."""
    # After `machine`, whose helpers come from the index this machine is configured for.
    for name in os.environ:
        if name.startswith(("PIP_", "UV_")):
            monkeypatch.delenv(name)
    found = Index(tmp_path / "index")
    with found.running():
        monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
        monkeypatch.setenv("PIP_INDEX_URL", found.url)
        monkeypatch.setenv("PIP_CACHE_DIR", str(tmp_path / "pip-cache"))
        monkeypatch.setenv("PIP_RETRIES", "0")
        monkeypatch.setenv("UV_HTTP_RETRIES", "0")
        monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv-cache"))
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
        yield found


@dataclass(slots=True)
class Project:
    """A checkout with requirements, and a machine to build it on."""

    path: Path
    interpreter: Interpreter
    caches: Caches
    section: RequirementsSection = field(default_factory=RequirementsSection)
    events: list[steps.Event] = field(default_factory=list)

    @property
    def said(self) -> str:
        """Everything that was told, warnings and children's lines included."""
        return "\n".join(str(event) for event in self.events)

    def write(self, name: str, text: str) -> None:
        """Write a file of the project."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def use(self, **changes: object) -> None:
        """Change `[requirements]`."""
        values = {name: getattr(self.section, name) for name in self.section.__struct_fields__}
        self.section = RequirementsSection(**{**values, **changes})

    def lock(self, *, upgrade: bool = False, version: str = "") -> Lock:
        """Lock it; `version` pretends another patch release of Python."""
        found = replace(self.interpreter, version=version) if version else self.interpreter
        request = LockRequest(self.path, self.section, found, self.caches, self.events.append)
        return lock_for(request, upgrade=upgrade)

    def context(self, locked: Lock, declared: Mapping[str, str] | None = None) -> BuildContext:
        """Return what it takes to build the packages of a lock."""
        settings = locked.indexes
        return BuildContext(
            locked.interpreter, settings, declared or {}, self.caches, self.events.append
        )

    def install(
        self, locked: Lock, name: Tools = "uv", declared: Mapping[str, str] | None = None
    ) -> dict[str, str]:
        """Install a lock with a toolchain into a new environment; return name to version."""
        target = self.path.parent / f"environment-{len(list(self.path.parent.iterdir()))}"
        argv = [sys.executable, "-m", "virtualenv", "--quiet", "--no-download", "--no-pip"]
        argv += ["--no-setuptools", "--python", str(self.interpreter.path), str(target)]
        process.run(argv)
        python = target / "bin" / "python"
        toolchain(name).install(locked, python, self.context(locked, declared))
        site = next((target / "lib").glob("python*/site-packages"))
        assert not list(site.rglob("*.pyc")), "installers compile nothing"
        found = metadata.distributions(path=[str(site)])
        return {one.metadata["Name"]: one.version for one in found if "pip" not in one.name}


@pytest.fixture
def project(tmp_path: Path, machine: Machine, index: Index) -> Project:
    """A project without requirements, on a machine that has built nothing yet."""
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / "helpers").symlink_to(machine.helpers)
    path = tmp_path / "project"
    path.mkdir()
    return Project(path, machine.interpreter, Caches(str(tmp_path / "site"), cache))


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """A site for which nothing has been compiled yet; its lock asks for `ledger` 1.0."""
    for name in os.environ:
        if name.startswith(("PIP_", "UV_", "VIRTUALENV_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv-cache"))
    # A wheel made twice is the same wheel.
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    caches = Caches(str(tmp_path / "site"), tmp_path / "cache")
    made = Bench(tmp_path, interpreter.find(sys.executable, caches))
    made.require(made.wheel("ledger", "1.0"))
    return made
