"""Files that setup writes and people may edit: whose is one now, and the step that writes it."""

from __future__ import annotations

import hashlib
import os
import pwd
import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from artifact import files
from artifact.errors import Refused
from artifact.host.preparing.findings import Part
from artifact.host.records.problem import Problem
from artifact.steps import Run, Step

_MARK = (
    "# written by `artifact setup` (sha256:{digest}); once edited it is yours, and never replaced\n"
)
_MARKED = re.compile(r"# written by `artifact setup` \(sha256:([0-9a-f]{64})\)[^\n]*\n")

Ownership = Literal["nobody", "same", "ours", "edited"]
"""It is missing; it holds the very content; another that we wrote; or what a person wrote."""


def marked(body: str) -> str:
    """Return a file's content with a first line that tells whether the rest was edited since.

    "#" begins a comment for supervisor, nginx, TOML and env files alike.
    """
    return _MARK.format(digest=_digest(body)) + body


def ownership(path: Path, content: str) -> Ownership:
    """Compare a file with what we would write.

    Raises:
        Refused: it cannot be read.
    """
    try:
        found = path.read_bytes().decode("utf-8", "surrogateescape")
    except FileNotFoundError:
        return "nobody"
    except OSError as error:
        raise Refused(f"{path} cannot be read: {error.strerror}", hint="run as root") from error
    if found == content:
        return "same"
    mark = _MARKED.match(found)
    edited = mark is None or mark[1] != _digest(found[mark.end() :])
    return "edited" if edited else "ours"


def edited(path: Path, command: str) -> Problem:
    """Return that a person's file stands in the way of what it would be now."""
    return Problem(
        f"{path} was edited, and is not what it would be now",
        f"`{command} --plan` shows what it would hold; change it by hand, or move it away",
    )


def write(name: str, path: Path, content: str, mode: int, *, group: str = "") -> Part | Problem:
    """Plan to write a file that is ours, or that nobody has written yet.

    Args:
        group: the user whose group may read it, where we are root.
    """
    fault = unwritable(path.parent)
    if fault:
        return fault

    def do(_run: Run) -> None:
        replace(path, content, mode)
        if group and os.geteuid() == 0:
            os.chown(path, -1, pwd.getpwnam(group).pw_gid)

    verb = "replace" if path.exists() else "write"
    summary = f"{verb} {path} ({mode:04o})"
    step = Step(name, summary, do, undo=restorer(path))
    return Part(name, summary, step, str(path), content)


def replace(path: Path, content: str, mode: int = 0o644) -> None:
    """Write a file, and remove what a killed run left beside it; under the site's lock."""
    for left in path.parent.glob(f".{path.name}.*.new"):
        left.unlink(missing_ok=True)
    files.write(path, content, mode=mode)


def restorer(*paths: Path) -> Callable[[Run], None]:
    """Remember files and links as they are now; calling the result makes them so again."""
    kept = [(path, _content(path)) for path in paths]

    def restore(_run: Run) -> None:
        for path, content in reversed(kept):
            if content is None:
                path.unlink(missing_ok=True)
            elif isinstance(content, str):
                files.replace_link(path, content)
            else:
                files.write(path, content[0], mode=content[1])

    return restore


def _content(path: Path) -> str | tuple[bytes, int] | None:
    """Return where a link points, or the content and the mode of a file."""
    if path.is_symlink():
        return os.readlink(path)
    if path.exists():
        return path.read_bytes(), stat.S_IMODE(path.stat().st_mode)
    return None


def unwritable(path: Path) -> Problem | None:
    """Return why nothing can be written below a path; None when it can."""
    there = path
    while not there.exists():
        there = there.parent
    if not there.is_dir():
        return Problem(f"{there} is in the way: it is not a directory", "move it away, then repeat")
    if os.access(there, os.W_OK | os.X_OK):
        return None
    return Problem(f"{there} cannot be written by uid {os.geteuid()}", "repeat it with sudo")


def _digest(body: str) -> str:
    return hashlib.sha256(body.encode("utf-8", "surrogateescape")).hexdigest()
