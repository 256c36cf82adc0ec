"""What people see: lines in CI, bars on terminals, sections on GitLab, secrets nowhere."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import termios

import pytest

from artifact import steps
from artifact.cli import terminal
from artifact.errors import BuildFailed

STORY = """
from artifact import steps
from artifact.cli.terminal import Listener
tell = Listener()
tell(steps.Started("pack", "pack the code"))
for done in (10, 50, 100):
    tell(steps.Progress("packing", done, 100))
tell(steps.Ended("pack", "pack the code", 1.25, "2.0 MB"))
"""


def test_without_a_terminal_there_are_lines_and_no_control_characters(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GITLAB_CI", raising=False)
    listener = terminal.Listener()
    listener(steps.Started("pack", "pack the code"))
    listener(steps.Progress("packing", 1, 2))
    listener(steps.Ended("pack", "pack the code", 1.25, "2.0 MB"))
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == "pack the code: 2.0 MB (1.2 s)\n"


def test_on_a_terminal_the_bar_is_drawn_and_removed() -> None:
    leader, follower = pty.openpty()
    termios.tcsetwinsize(follower, (24, 80))
    child = subprocess.Popen(
        [sys.executable, "-c", STORY],
        stderr=follower,
        env={**os.environ, "GITLAB_CI": "", "TERM": "xterm"},
    )
    os.close(follower)
    seen = b""
    while True:
        try:
            chunk = os.read(leader, 65536)
        except OSError:
            break
        if not chunk:
            break
        seen += chunk
    os.close(leader)
    assert child.wait() == 0
    assert b"packing" in seen
    last_screen_line = seen.decode().replace("\r\n", "\n").rstrip("\n").rpartition("\n")[2]
    assert last_screen_line.rpartition("\r")[2].endswith("pack the code: 2.0 MB (1.2 s)")


def test_on_gitlab_a_step_is_a_collapsible_section(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITLAB_CI", "true")
    listener = terminal.Listener()
    listener(steps.Started("asset-frontend", "run npm"))
    listener(steps.Ended("asset-frontend", "run npm", 2.0, ""))
    said = capsys.readouterr().err
    assert ":asset_frontend[collapsed=true]\r\x1b[0Krun npm" in said
    assert "section_end:" in said
    assert said.endswith("run npm (2.0 s)\n")


def test_quiet_leaves_only_warnings(capsys: pytest.CaptureFixture[str]) -> None:
    listener = terminal.Listener(quiet=True)
    listener(steps.Said("a fact"))
    listener(steps.Ended("x", "a step", 1.0, ""))
    listener(steps.Warned("careful", "do this"))
    assert capsys.readouterr().err == "warning: careful\nhint: do this\n"


def test_an_error_shows_the_childs_last_lines_then_the_sentence_then_the_hint(
    capsys: pytest.CaptureFixture[str],
) -> None:
    terminal.show_error(BuildFailed("npm failed", hint="run npm ci", output=("boom",)))
    assert capsys.readouterr().err == "  | boom\nerror: npm failed\nhint: run npm ci\n"


def test_talk_never_shows_credentials(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.talk("from https://bob:sesame@example.com/")
    assert "sesame" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (121_800_000, "121.8 MB"), (5e12, "5.0 TB")],
)
def test_sizes_are_for_people(count: float, text: str) -> None:
    assert terminal.size(count) == text
