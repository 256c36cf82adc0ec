"""What several test packages share: real things, made once.

Expensive fixtures stand in a directory that the xdist workers of a run share, under a lock.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from artifact import files
from surroundings import wheels as wheelmaker
from tests.integration import projects
from tests.integration.projects import Checkout

# A CI job in a shell's background, or under nohup, ignores these, and so would all that is started
# here: the tests of what a signal does would wait for nothing.
for _number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    if signal.getsignal(_number) is signal.SIG_IGN:
        _default = signal.default_int_handler if _number == signal.SIGINT else signal.SIG_DFL
        signal.signal(_number, _default)


@pytest.fixture(scope="session")
def shared_directory(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """A directory that all workers of this run share."""
    own = tmp_path_factory.getbasetemp()
    directory = (own if worker_id == "master" else own.parent) / "shared"
    directory.mkdir(exist_ok=True)
    return directory


@dataclass(frozen=True, slots=True)
class Built:
    """The sample project, built once in this run; tests must not change any of it."""

    checkout: Checkout
    path: Path
    """accounting-1337.tgz"""
    stdout: str
    stderr: str


@pytest.fixture(scope="session")
def accounting(shared_directory: Path) -> Built:
    """The artifact of the sample project."""
    directory = shared_directory / "accounting"
    # The first worker builds it; the others read what it wrote down.
    with files.locked(shared_directory / "accounting.lock", doing="building", wait=240):
        checkout = Checkout(
            directory / "checkout", directory / "site", directory / "cache", directory / "artifacts"
        )
        said, path = directory / "stderr", checkout.output / "accounting-1337.tgz"
        if not said.exists():
            projects.sample(
                checkout.path, root=checkout.root, cache=checkout.cache, output=checkout.output
            )
            ran = checkout.build("--version", "1337")
            (directory / "stdout").write_text(ran.stdout)
            said.write_text(ran.stderr)
        return Built(checkout, path, (directory / "stdout").read_text(), said.read_text())


@pytest.fixture
def check_out(accounting: Built, tmp_path: Path) -> Callable[[str], Checkout]:
    """Make another checkout of the sample, which shares the environment with `accounting`."""

    def make(name: str) -> Checkout:
        return projects.sample(
            tmp_path / name,
            root=accounting.checkout.root,
            cache=accounting.checkout.cache,
            output=tmp_path / f"{name}-artifacts",
        )

    return make


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of wheels, to install without an index: ledgerlib 1.0 and 1.1, otherlib 1.0."""
    directory = tmp_path_factory.mktemp("wheels")
    wheelmaker.write(directory, "ledgerlib", "1.0")
    wheelmaker.write(directory, "ledgerlib", "1.1")
    wheelmaker.write(directory, "otherlib", "1.0")
    return directory


@pytest.fixture
def small(tmp_path: Path, wheels: Path) -> Checkout:
    """A small project with one requirement; building it takes seconds and no network."""
    return projects.small(tmp_path / "small", wheels)
