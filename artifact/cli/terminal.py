"""What people and programs get to see: stdout is data, stderr is talk.

On a terminal a bar shows what takes long and is removed when done; in CI only lines are written,
without control characters, except for GitLab's own section markers.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec

from artifact import steps, variables
from artifact.errors import ArtifactError
from artifact.redaction import redact

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def data(text: str) -> None:
    """Write one line of the command's answer to stdout, or several.

    Control characters are escaped: what others wrote into an artifact must not drive a terminal.
    """
    print(_CONTROL.sub(lambda found: repr(found[0])[1:-1], text), flush=True)


def document(content: Mapping[str, Any]) -> None:
    """Write the answer of `--json` to stdout: one document."""
    # JSON's own escapes leave out one control character.
    print(json.dumps(content, indent=2).replace("\x7f", "\\u007f"), flush=True)


def talk(text: str) -> None:
    """Write one line to the person who watches."""
    print(redact(text), file=sys.stderr, flush=True)


def show_error(error: ArtifactError) -> None:
    """Write an error, the end of its child's output, and its hint."""
    for line in error.output:
        talk(f"  | {line}")
    talk(f"{_paint('error:', 31)} {error}")
    if error.hint:
        talk(f"{_paint('hint:', 36)} {error.hint}")


def show_bug(trace: str) -> None:
    """Write the traceback of a bug in this program."""
    talk(trace.rstrip())
    talk(f"{_paint('error:', 31)} this is a bug in artifact; please report it with the lines above")


def discard_stdout() -> None:
    """Let the interpreter's last flush go nowhere instead of complaining about a closed pipe."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def size(count: float) -> str:
    """Return bytes for people: "512 B", "3.4 kB", "121.8 MB"."""
    if count < 1000:
        return f"{count:.0f} B"
    for unit in ("kB", "MB", "GB"):
        count /= 1000
        if count < 1000:
            return f"{count:.1f} {unit}"
    return f"{count / 1000:.1f} TB"


def table(rows: Sequence[tuple[str, ...]], *, header: tuple[str, ...] = ()) -> list[str]:
    """Return lines with the columns aligned; none, not even the header, where there is no row."""
    shown = [header, *rows] if header and rows else rows
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in shown
    ]


class _Bar(Protocol):
    """What is used of tqdm, which is imported late."""

    n: float

    def update(self, n: float) -> bool | None: ...
    def close(self) -> None: ...


class Listener(msgspec.Struct):
    """Draws the events of a run."""

    quiet: bool = False
    verbose: bool = False
    bars: bool = True
    _bar: _Bar | None = None
    _label: str = ""
    _section: str = ""
    _gitlab: bool = msgspec.field(default_factory=lambda: bool(variables.get("GITLAB_CI")))

    def __call__(self, event: steps.Event) -> None:
        """Draw one event; the signature of `steps.Listener`."""
        match event:
            case steps.Progress():
                self._draw(event)
            case steps.Started(name=name, summary=summary):
                self._open_section(name, summary)
            case steps.Ended(summary=summary, seconds=seconds, note=note):
                self._close_section()
                if not self.quiet:
                    talk(f"{summary}{': ' + note if note else ''} ({seconds:.1f} s)")
            case steps.Failed(summary=summary, seconds=seconds):
                self._close_section()
                if not self.quiet:
                    talk(f"{summary}: {_paint('failed', 31)} ({seconds:.1f} s)")
            case steps.Undone(summary=summary):
                if not self.quiet:
                    talk(f"taken back: {summary}")
            case steps.Said(text=text):
                self._clear()
                if not self.quiet:
                    talk(text)
            case steps.Warned(text=text, hint=hint):
                self._clear()
                talk(f"{_paint('warning:', 33)} {text}")
                if hint:
                    talk(f"{_paint('hint:', 36)} {hint}")
            case steps.Ran(command=command):
                if self.verbose:
                    self._clear()
                    talk(f"  $ {command}")
            case steps.Output(line=line):
                if self.verbose:
                    self._clear()
                    talk(f"  | {line}")

    def _draw(self, event: steps.Progress) -> None:
        if self.quiet or not self.bars or not sys.stderr.isatty():
            return
        if self._bar is None or self._label != event.label:
            self._clear()
            # Imported late: it costs 30 ms, and most commands draw nothing.
            from tqdm import tqdm

            self._label = event.label
            self._bar = tqdm(
                total=event.total or None,
                desc=event.label,
                unit=event.unit,
                unit_scale=True,
                leave=False,
                file=sys.stderr,
                dynamic_ncols=True,
            )
        self._bar.update(event.done - self._bar.n)

    def _clear(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _open_section(self, name: str, summary: str) -> None:
        self._clear()
        if self._gitlab and not self.quiet:
            self._section = re.sub(r"[^a-z0-9_]", "_", name.lower())
            _marker(f"section_start:{int(time.time())}:{self._section}[collapsed=true]", summary)

    def _close_section(self) -> None:
        self._clear()
        if self._section:
            _marker(f"section_end:{int(time.time())}:{self._section}", "")
            self._section = ""


def _marker(marker: str, header: str) -> None:
    # https://docs.gitlab.com/ci/jobs/job_logs/#custom-collapsible-sections
    sys.stderr.write(f"\x1b[0K{marker}\r\x1b[0K{header}" + ("\n" if header else ""))
    sys.stderr.flush()


def _paint(text: str, color: int) -> str:
    if variables.get("NO_COLOR") or not sys.stderr.isatty():
        return text
    return f"\x1b[{color}m{text}\x1b[0m"
