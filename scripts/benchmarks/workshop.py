"""The directory everything is measured in, and the environment variables everybody gets.

Caches are told apart by `XDG_CACHE_HOME`: pip, uv, virtualenv and artifact all keep theirs below
it, so a fresh one is a cold start for each of them.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks import machine

_PROJECT = Path(__file__).parents[2]
_MEMORY = Path("/dev/shm")  # a tmpfs on every Linux
_BYTES_NEEDED = 12 * 10**9
# What would move a cache elsewhere, or change what a build does.
_NOT_PASSED_ON = (
    *("UV_", "ARTIFACT_", "PIP_CACHE_DIR", "PEX_", "SHIV_", "XDG_", "VIRTUAL", "PYTHON"),
    *("BUILD_NUMBER", "CI_", "GIT_", "SOURCE_DATE_EPOCH", "DJANGO_"),
)


@dataclass(frozen=True, slots=True)
class Workshop:
    """Where a run works, what it says while it does, and how often it repeats."""

    work: Path
    tell: Callable[[str], None]
    rounds: int | None = None
    """Overrides every row's own number of rounds."""

    @property
    def python(self) -> Path:
        """The interpreter of every environment that is built, ours and the peers'."""
        return machine.base_interpreter()

    @property
    def artifact(self) -> Path:
        """The command under test, installed as its users do."""
        return self.work / "tool" / "bin" / "artifact"

    @property
    def installed(self) -> Path:
        """The interpreter the command under test runs in."""
        return self.artifact.with_name("python")

    def path(self, *parts: str) -> Path:
        """Return a path of the work directory whose parent exists."""
        found = self.work.joinpath(*parts)
        found.parent.mkdir(parents=True, exist_ok=True)
        return found

    def repeats(self, usual: int) -> int:
        return self.rounds or usual

    def variables(self, cache: Path) -> dict[str, str]:
        """Return the environment of a measured program.

        What configures indexes and certificates is passed on to all of them alike.
        """
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(_NOT_PASSED_ON)
        }
        scratch = self.path("tmp", "x").parent
        return kept | {
            "PATH": f"{self.python.parent}:{kept.get('PATH', os.defpath)}",
            "XDG_CACHE_HOME": str(cache),
            "XDG_DATA_HOME": str(cache / "data"),
            "TMPDIR": str(scratch),
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "LC_ALL": "C.UTF-8",
        }


@contextmanager
def opened(
    work: Path | None, tell: Callable[[str], None], rounds: int | None
) -> Iterator[Workshop]:
    """Open a workshop: in the given directory, which stays, or in a temporary one.

    The temporary one is in memory when there is room for it: root file systems of small cloud
    machines are erratic.
    """
    if work is not None:
        work.mkdir(parents=True, exist_ok=True)
        yield _equipped(Workshop(work.resolve(), tell, rounds))
        return
    above = None
    if _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free >= _BYTES_NEEDED:
        above = _MEMORY
    else:
        tell(f"less than {_BYTES_NEEDED // 10**9} GB are free in {_MEMORY}: measuring on disk")
    made = Path(tempfile.mkdtemp(prefix="artifact-bench-", dir=above))
    try:
        yield _equipped(Workshop(made.resolve(), tell, rounds))
    finally:
        remove(made)


def _equipped(shop: Workshop) -> Workshop:
    """Install the tool: what a checkout's environment has besides would slow every start."""
    home = shop.path("tool")
    make = [sys.executable, "-m", "virtualenv", "--quiet", "--clear", "--python", str(shop.python)]
    subprocess.run([*make, str(home)], check=True, cwd=shop.work)
    pip = [str(home / "bin" / "pip"), "install", "--quiet", str(_PROJECT)]
    subprocess.run(pip, check=True, cwd=shop.work)
    return shop


def remove(*paths: Path) -> None:
    """Remove trees, also read-only ones."""
    for path in paths:
        if path.is_symlink() or path.is_file():
            path.unlink()
            continue
        for directory, _, _ in os.walk(path):
            with suppress(OSError):
                Path(directory).chmod(stat.S_IRWXU)
        shutil.rmtree(path, ignore_errors=True)
