"""Real things, made cheap: one environment a session, one supervisord a test that needs it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.host.machine import Environment, Machine, make_environment


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    return make_environment(tmp_path_factory.mktemp("environment"))


@pytest.fixture
def machine(tmp_path: Path, environment: Environment) -> Iterator[Machine]:
    made = Machine(tmp_path, environment)
    try:
        yield made
    finally:
        made.stop_supervisord()
