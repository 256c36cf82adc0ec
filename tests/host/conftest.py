"""Real things, made cheap: one environment a session, one supervisord a test that needs it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from artifact import files
from tests.host import databases
from tests.host.machine import Environment, Machine, make_environment, open_interpreter


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    return make_environment(tmp_path_factory.mktemp("environment"))


@pytest.fixture(scope="session")
def open_environment(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """One whose interpreter every user of this machine can run."""
    directory = tmp_path_factory.mktemp("open")
    return make_environment(directory, interpreter=open_interpreter())


@pytest.fixture
def machine(tmp_path: Path, environment: Environment) -> Iterator[Machine]:
    made = Machine(tmp_path, environment)
    try:
        yield made
    finally:
        made.stop_supervisord()


@pytest.fixture(scope="session")
def django(shared_directory: Path) -> Path:
    """The Python of an environment with Django and drivers for both databases."""
    python = shared_directory / "django" / "bin" / "python"
    with files.locked(shared_directory / "django.lock", doing="installing", wait=240):
        if not (shared_directory / "django.made").exists():
            databases.make_environment(shared_directory / "django")
            (shared_directory / "django.made").touch()
    return python


@pytest.fixture(scope="session")
def postgresql() -> Iterator[dict[str, object]]:
    with databases.postgresql() as settings:
        yield settings


@pytest.fixture(scope="session")
def mariadb() -> Iterator[dict[str, object]]:
    with databases.mariadb() as settings:
        yield settings
