"""A sample of what `scripts/torture` does in full."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]


def torture(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command line without what `scripts/torture` prepares."""
    path = os.pathsep.join([str(PROJECT), str(PROJECT / "scripts")])
    return subprocess.run(
        [sys.executable, "-m", "tortures", *arguments],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=280,
    )


@pytest.mark.slow
def test_a_command_struck_at_any_system_call_harms_nothing() -> None:
    done = torture("kill", "--every", "20", "--seed", "7", "--processes", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    for scenario in ("first install", "install", "rollback", "recover", "prune"):
        for how in ("signal=KILL", "error=ENOSPC", "error=EIO", "error=EACCES"):
            assert f"{scenario:14} {how}" in done.stdout


@pytest.mark.slow
def test_a_power_cut_at_any_system_call_leaves_a_whole_release() -> None:
    done = torture("power", "--every", "20", "--seed", "7", "--processes", "1")
    if done.returncode == 3:  # no file system can be mounted here, and it says why
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stdout + done.stderr
    for scenario in ("first install", "install", "rollback", "recover", "prune"):
        assert f"{scenario:14} power cut        killed" in done.stdout
        assert f"{scenario:14} power cut        exit 0" in done.stdout


@pytest.mark.slow
def test_installs_and_prunes_at_once_are_as_if_one_after_the_other() -> None:
    done = torture("concurrent", "--installs", "8", "--rounds", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "install  exit 0     8" in done.stdout
    assert "none failed" in done.stdout


@pytest.mark.slow
def test_a_worker_that_drains_imports_what_it_likes_while_releases_are_pruned() -> None:
    done = torture("drain", "--rounds", "3")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 workers drained, 75 late imports" in done.stdout
