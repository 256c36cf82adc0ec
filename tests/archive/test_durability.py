"""What reaches the disk in which order, as strace sees it: a power cut finds old or new, whole."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.archive import samples

UNFINISHED = " <unfinished ...>"
_RUN = """
import sys
from pathlib import Path
from artifact.archive import opening, unpacking
from tests.archive import samples
root = Path(sys.argv[1])
samples.build(root / "a.tgz")
with opening.open_artifact(root / "a.tgz") as artifact:
    unpacking.extract(artifact, ["venv", "assets", "code"], root / "out")
"""


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The system calls of building and unpacking, in order, with the paths of descriptors."""
    root = tmp_path_factory.mktemp("strace")
    log = root / "log"
    names = "fsync,syncfs,rename,openat,symlinkat,fchmod"
    argv = ["strace", "-f", "-y", "-o", str(log), "-e", f"trace={names}"]
    project = Path(samples.__file__).parents[2]
    subprocess.run([*argv, sys.executable, "-c", _RUN, str(root)], check=True, cwd=project)
    return [line for line in _whole(log.read_text().splitlines()) if str(root) in line]


def _whole(lines: list[str]) -> Iterator[str]:
    """Yield one line a call, where it returned; strace splits those that another thread cuts in."""
    begun: dict[str, str] = {}
    for line in lines:
        thread = line.split(maxsplit=1)[0]
        if line.endswith(UNFINISHED):
            begun[thread] = line.removesuffix(UNFINISHED)
        elif " resumed>" in line:
            yield begun.pop(thread) + line.partition(" resumed>")[2]
        else:
            yield line


def _first(calls: list[str], pattern: str) -> int:
    return next(at for at, line in enumerate(calls) if re.search(pattern, line))


@pytest.mark.parametrize("name", ["code", "a.tgz"])
def test_a_file_is_on_the_disk_before_it_has_its_name(name: str, calls: list[str]) -> None:
    flushed = _first(calls, rf"fsync\(.*/\.{name}\.[\d-]+\.new>\)")
    named = _first(calls, rf'rename\(".*/\.{name}\.[\d-]+\.new", ".*/{name}"\)')
    kept = next(at for at in range(named, len(calls)) if re.search(r"fsync\(.*\) = 0", calls[at]))
    assert flushed < named < kept


def test_what_was_unpacked_is_flushed_once_and_last(calls: list[str]) -> None:
    last_file = max(at for at, line in enumerate(calls) if "O_EXCL" in line and "/out" in line)
    last_link = max(at for at, line in enumerate(calls) if "symlinkat(" in line)
    flushes = [at for at, line in enumerate(calls) if re.search(r"syncfs\(.*/out>\) += 0", line)]
    assert len(flushes) == 1
    opened = _first(calls, r"fchmod\(.*/out>, 0755\)")
    assert last_file < last_link < opened < flushes[0]
    assert not [line for line in calls if "fsync(" in line and "/out/" in line]
