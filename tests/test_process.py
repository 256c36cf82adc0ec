"""The door to other programs."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from artifact import process, steps

PYTHON = sys.executable


def test_captured_stdout_is_data_and_stderr_is_talk() -> None:
    told: list[steps.Event] = []
    code = "import sys; print('data'); print('talk', file=sys.stderr)"
    result = process.run([PYTHON, "-c", code], capture=True, tell=told.append)
    assert result.stdout == "data\n"
    assert result.tail == ("talk",)
    ran, said = told
    assert isinstance(ran, steps.Ran)
    assert ran.command.startswith(f"{PYTHON} -c")
    assert said == steps.Output("talk")


def test_a_failure_brings_the_last_lines_and_the_status() -> None:
    code = "import sys\nfor i in range(100): print('line', i)\nsys.exit(3)"
    with pytest.raises(process.ChildFailed) as failed:
        process.run([PYTHON, "-c", code])
    assert failed.value.reason == "exited with status 3"
    assert failed.value.tail == tuple(f"line {i}" for i in range(80, 100))


def test_a_program_that_is_missing_is_named() -> None:
    with pytest.raises(process.ProgramMissing, match="no-such-program"):
        process.run(["no-such-program"])


def test_what_no_program_can_be_given_is_a_failure_to_start_it() -> None:
    with pytest.raises(process.ProgramMissing, match="embedded null byte"):
        process.run(["true"], env={"A": "a\0b"})
    with pytest.raises(process.ProgramMissing, match="embedded null byte"):
        process.become(["true", "\0"], {})


def test_a_child_that_takes_too_long_is_ended_with_its_own_children(tmp_path: Path) -> None:
    mark = tmp_path / "grandchild"
    script = f"sleep 300 & echo $! > {mark}; echo waiting; wait"
    with pytest.raises(process.ChildFailed, match=r"took longer than 0\.5 s") as failed:
        process.run(["sh", "-c", script], timeout=0.5)
    assert failed.value.tail == ("waiting",)
    assert _is_gone(int(mark.read_text()))


def test_a_daemon_that_keeps_the_pipes_open_does_not_keep_us(tmp_path: Path) -> None:
    mark = tmp_path / "daemon"
    began = time.monotonic()
    process.run(["sh", "-c", f"sleep 60 & echo $! > {mark}"])
    assert time.monotonic() - began < 30
    os.kill(int(mark.read_text()), 9)


def test_secrets_of_the_childs_environment_are_not_in_what_it_says(tmp_path: Path) -> None:
    told: list[steps.Event] = []
    log = tmp_path / "log"
    env = {"PATH": os.environ["PATH"], "DEPLOY_TOKEN": "hunter2hunter2"}
    script = "echo with $DEPLOY_TOKEN at https://bob:sesame@example.com/simple"
    result = process.run(["sh", "-c", script], env=env, tell=told.append, log=log)
    everything = f"{result} {told} {log.read_text()}"
    assert "hunter2" not in everything
    assert "sesame" not in everything
    assert "example.com/simple" in everything


def test_text_given_as_stdin_reaches_the_child_whole() -> None:
    text = "x" * 1_000_000
    assert process.run(["cat"], stdin=text, capture=True).stdout == text


def test_a_progress_bar_redrawn_with_carriage_returns_is_one_line() -> None:
    result = process.run(["printf", "10%%\\r50%%\\r100%%\\n"])
    assert result.tail == ("100%",)


def _is_gone(pid: int) -> bool:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            stat = Path(f"/proc/{pid}/stat").read_text()
        except (FileNotFoundError, ProcessLookupError):
            return True
        if stat.rpartition(")")[2].split()[0] == "Z":
            return True
    return False
