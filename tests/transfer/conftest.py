"""A shelf for every test, in memory: making trees durable on a busy disk takes seconds each."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from artifact import files
from tests.transfer.shelf import Shelf


@pytest.fixture
def shelf() -> Iterator[Shelf]:
    directory = Path(tempfile.mkdtemp(prefix="artifact-tests-", dir="/dev/shm"))
    try:
        yield Shelf(directory)
    finally:
        files.remove_tree(directory)
