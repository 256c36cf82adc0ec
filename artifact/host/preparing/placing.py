"""Files and directories: what is there, and the step that makes it as it should be."""

from __future__ import annotations

import contextlib
import os
import pwd
import stat
from pathlib import Path

from artifact import files
from artifact.errors import Refused
from artifact.host.preparing.lines import Line
from artifact.host.records import generated
from artifact.host.records.generated import Whose
from artifact.host.records.problem import Problem
from artifact.steps import Run, Step


def whose(path: Path, content: str) -> Whose:
    """Tell who wrote a file.

    Raises:
        Refused: it cannot be read.
    """
    try:
        return generated.whose(path, content)
    except OSError as error:
        raise Refused(f"{path} cannot be read: {error.strerror}", hint="run as root") from error


def write(name: str, path: Path, content: str, mode: int, *, group: str = "") -> Line | Problem:
    """Plan to write a file that is ours, or that nobody has written yet.

    Args:
        group: the user whose group may read it, where we are root.
    """
    fault = unwritable(path.parent)
    if fault:
        return fault

    def do(_run: Run) -> None:
        put(path, content, mode)
        if group and os.geteuid() == 0:
            os.chown(path, -1, pwd.getpwnam(group).pw_gid)

    verb = "replace" if path.exists() else "write"
    summary = f"{verb} {path} ({mode:04o})"
    step = Step(name, summary, do, undo=restoring(path))
    return Line(name, summary, step, str(path), content)


def put(path: Path, content: str, mode: int = 0o644) -> None:
    """Write a file, and remove what a killed run left beside it; under the site's lock."""
    for left in path.parent.glob(f".{path.name}.*.new"):
        left.unlink(missing_ok=True)
    files.write(path, content, mode=mode)


def restoring(*paths: Path) -> _Restoring:
    """Remember files as they are now; calling the result makes them so again."""
    return _Restoring(paths)


class _Restoring:
    """The content or target of each path at one moment."""

    def __init__(self, paths: tuple[Path, ...]) -> None:
        self._kept = [(path, _kept(path)) for path in paths]

    def __call__(self, _run: Run) -> None:
        for path, kept in reversed(self._kept):
            if kept is None:
                path.unlink(missing_ok=True)
            elif isinstance(kept, str):
                files.replace_link(path, kept)
            else:
                files.write(path, kept[0], mode=kept[1])


def _kept(path: Path) -> str | tuple[bytes, int] | None:
    if path.is_symlink():
        return os.readlink(path)
    if path.exists():
        return path.read_bytes(), stat.S_IMODE(path.stat().st_mode)
    return None


def directory(path: Path, mode: int, *, owner: str = "") -> Line | Problem:
    """Plan a directory.

    Args:
        mode: a new one gets it; one that is there is only closed, where it is to be private.
        owner: the user it is made for, where we are root.
    """
    if path.is_dir():
        if not mode & 0o077:
            return closed(path, mode, "the private directory")
        # One that a person opened for a group, or closed, stays as it is; `doctor` judges it.
        return Line("directory", f"the directory {path}")
    if os.path.lexists(path):
        return Problem(f"{path} is in the way: it is not a directory", "move it away, then repeat")
    fault = unwritable(path.parent)
    if fault:
        return fault
    missing = [one for one in (path, *path.parents) if not one.exists()]

    def do(_run: Run) -> None:
        path.mkdir(mode=mode, parents=True, exist_ok=True)
        path.chmod(mode)  # whatever the umask is
        if owner and os.geteuid() == 0:
            account = pwd.getpwnam(owner)
            os.chown(path, account.pw_uid, account.pw_gid)

    def undo(_run: Run) -> None:
        for one in missing:
            with contextlib.suppress(OSError):  # somebody has put something there meanwhile
                one.rmdir()

    summary = f"make the directory {path} ({mode:04o}{f', for {owner}' if owner else ''})"
    return Line("directory", summary, Step("directory", summary, do, undo))


def closed(path: Path, most: int, what: str) -> Line | Problem:
    """Plan to take what a file's or directory's mode grants beyond `most`."""
    info = path.stat()
    found = stat.S_IMODE(info.st_mode)
    wanted = found & most
    if found == wanted:
        return Line("mode", f"{what} {path} ({found:04o})")
    if os.geteuid() not in {0, info.st_uid}:
        return Problem(
            f"{path} has mode {found:04o} and belongs to uid {info.st_uid}",
            f"sudo chmod {wanted:04o} {path}",
        )
    summary = f"close {path}: {wanted:04o} (was {found:04o})"
    step: Step[Run] = Step(
        "mode", summary, lambda _run: path.chmod(wanted), lambda _run: path.chmod(found)
    )
    return Line("mode", summary, step)


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
