"""The directories of a site, and those its sockets lie in."""

from __future__ import annotations

import contextlib
import os
import pwd
import stat
from collections.abc import Iterator
from pathlib import Path

from artifact.host.preparing.findings import Goal, Part, SetupFinding
from artifact.host.preparing.generated_files import unwritable
from artifact.host.records.problem import Problem
from artifact.host.trees.links import shared_paths
from artifact.steps import Run, Step, Warned


def check_directories(goal: Goal) -> Iterator[SetupFinding]:
    """Yield a plan for each directory: make it, restrict its mode, or leave it."""
    site = goal.site
    for path in (site.root, site.releases, site.environments, site.shared, site.static):
        yield plan_directory(path, 0o755)
    yield plan_directory(site.private, 0o700)
    for relative, is_directory in shared_paths(goal.target.install.shared):
        if is_directory:
            yield plan_directory(site.shared / relative, 0o755, owner=goal.user)
    for process in goal.manifest.processes.values():
        if process.listen.startswith("unix:"):
            yield from _socket_directory(
                Path(process.listen.removeprefix("unix:")).parent, goal.user
            )


def _socket_directory(path: Path, user: str) -> Iterator[SetupFinding]:
    yield plan_directory(path, 0o755, owner=user)
    if {"/run", "/var/run"} & {str(one) for one in path.parents}:
        name = user or "root"
        yield Warned(
            f"{path} is gone after a reboot",
            f"echo 'd {path} 0755 {name} {name}' > /etc/tmpfiles.d/{path.name}.conf",
        )


def plan_directory(path: Path, mode: int, *, owner: str = "") -> Part | Problem:
    """Plan a directory.

    Args:
        mode: the mode of a new directory. An existing one is only restricted to a private mode.
        owner: the user it is made for, where we are root.
    """
    if path.is_dir():
        if not mode & 0o077:
            return plan_restricting(path, mode, "the private directory")
        # One that a person opened for a group, or closed, stays as it is; `doctor` judges it.
        return Part("directory", f"the directory {path}")
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
    return Part("directory", summary, Step("directory", summary, do, undo))


def plan_restricting(path: Path, allowed_mode: int, label: str) -> Part | Problem:
    """Plan to remove the permissions of a file or directory that `allowed_mode` does not have."""
    info = path.stat()
    found = stat.S_IMODE(info.st_mode)
    wanted = found & allowed_mode
    if found == wanted:
        return Part("mode", f"{label} {path} ({found:04o})")
    if os.geteuid() not in {0, info.st_uid}:
        return Problem(
            f"{path} has mode {found:04o} and belongs to uid {info.st_uid}",
            f"sudo chmod {wanted:04o} {path}",
        )
    summary = f"restrict {path} to mode {wanted:04o} (was {found:04o})"
    step: Step[Run] = Step(
        "mode", summary, lambda _run: path.chmod(wanted), lambda _run: path.chmod(found)
    )
    return Part("mode", summary, step)
