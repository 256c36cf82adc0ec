"""What a site remembers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from artifact import steps
from artifact.host.records import journal


def begin(path: Path, version: str = "1337") -> journal.Journal:
    return journal.begin(path, command="install", version=version, digest="sha256:1", previous="")


def test_a_run_is_told_line_by_line_with_a_sequence_that_only_grows(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    for version in ("1336", "1337"):
        record = begin(path, version)
        record.hear(steps.Started("unpack", "unpack it"))
        record.hear(steps.Progress("unpack", 1, 2))
        record.hear(steps.Ended("unpack", "unpack it", 0.51234, "2 files"))
        record.release(version, "good")
        record.over(0, "done")
    lines = list(journal.read(path))
    assert [line.sequence for line in lines] == list(range(1, 11))
    assert [line.event for line in lines[5:]] == ["began", "started", "ended", "release", "over"]
    run = journal.last_run(path)
    assert run is not None
    assert (run.began.version, run.began.pid, run.over) == ("1337", os.getpid(), lines[-1])
    assert run.reached("unpack")
    assert not run.reached("switch")


def test_a_missing_journal_is_an_empty_one(tmp_path: Path) -> None:
    assert list(journal.read(tmp_path / "none")) == []
    assert journal.last_run(tmp_path / "none") is None


def test_a_line_torn_by_a_crash_is_skipped_and_does_not_swallow_the_next(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    begin(path).hear(steps.Started("unpack", "unpack it"))
    path.write_bytes(path.read_bytes()[:-20])
    begin(path, "1338").over(0, "done")
    assert [line.event for line in journal.read(path)] == ["began", "began", "over"]
    assert [line.sequence for line in journal.read(path)] == [1, 2, 3]


def test_a_full_disk_leaves_no_half_line(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    record = begin(path)
    code = f"""
import resource, signal, pathlib
from artifact.host.records import journal
path = pathlib.Path({str(path)!r})
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
size = path.stat().st_size
resource.setrlimit(resource.RLIMIT_FSIZE, (size + 30, size + 30))
journal.Journal(path, "1", 1).over(0, "done")
"""
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "File too large" in child.stderr
    assert path.read_bytes().endswith(b"}\n")
    record.over(0, "done")
    assert [line.event for line in journal.read(path)] == ["began", "over"]


def test_the_last_run_is_found_in_a_long_journal_without_reading_all_of_it(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    begin(path).over(0, "done")
    line = path.read_bytes().splitlines(keepends=True)[1]
    with path.open("ab") as stream:
        stream.write(b" " * 50_000_000 + b"\n" + line)
    record = begin(path, "1338")
    for _ in range(2000):  # longer than one block
        record.hear(steps.Warned("w" * 100))
    run = journal.last_run(path)
    assert run is not None
    assert (run.began.version, len(run.lines)) == ("1338", 2001)
    assert run.over is None


def test_every_line_is_on_the_disk_before_the_run_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    code = f"""
import os, signal, pathlib
from artifact import steps
from artifact.host.records import journal
record = journal.begin(pathlib.Path({str(path)!r}), command="install", version="1", digest="",
                       previous="")
record.hear(steps.Started("switch", "point current at 1"))
os.kill(os.getpid(), signal.SIGKILL)
"""
    child = subprocess.run([sys.executable, "-c", code], capture_output=True)
    assert child.returncode == -signal.SIGKILL
    run = journal.last_run(path)
    assert run is not None
    assert run.reached("switch")
    assert run.over is None
    journal.resume(path, run).over(7, "undone")
    again = journal.last_run(path)
    assert again is not None
    assert again.over is not None


def test_the_newest_state_of_every_release_counts(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    record = begin(path)
    record.release("1337", "staged", digest="sha256:1")
    record.release("1337", "good")
    record.release("1338", "failed", reason="answers 500")
    states = journal.release_states(path)
    assert {version: line.state for version, line in states.items()} == {
        "1337": "good",
        "1338": "failed",
    }


def test_secrets_do_not_get_into_the_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "journal.jsonl"
    monkeypatch.setenv("STORE_TOKEN", "hunter2hunter2")
    begin(path).over(5, "https://me:pass@host/x said hunter2hunter2")
    text = path.read_text()
    assert "hunter2" not in text
    assert "me:pass" not in text
