"""The user that a site's processes run as."""

from __future__ import annotations

import grp
import os
import pwd
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from artifact import process
from artifact.errors import Refused
from artifact.host.preparing.findings import Goal, Part, SetupFinding
from artifact.host.records.problem import Problem
from artifact.steps import Run, Step

_NAME = re.compile(r"[a-z_][a-z0-9_-]{0,31}")
_SECONDS = 60.0


def check_user(goal: Goal) -> Iterator[SetupFinding]:
    """Say whether the user is there; root can make it."""
    user, mine = goal.user, os.geteuid()
    if not user:
        yield Part("user", f"the processes run as {pwd.getpwuid(mine).pw_name}")
    elif not _NAME.fullmatch(user):
        yield Problem(f"{user!r} cannot name a user", "small letters, digits, - and _")
    elif not _exists(pwd.getpwnam, user) and mine == 0:
        yield _plan_user(user, goal.site.root)
    elif not _exists(pwd.getpwnam, user):
        yield Problem(f"there is no user {user!r}, and only root can make one", "use sudo")
    elif mine not in {0, pwd.getpwnam(user).pw_uid}:
        yield Problem(f"only root can have the processes run as {user!r}", "use sudo")
    else:
        yield Part("user", f"user {user}")


def _plan_user(user: str, home: Path) -> Part:
    group = ["--gid", user] if _exists(grp.getgrnam, user) else ["--user-group"]
    options = ["--system", *group, "--home-dir", str(home), "--no-create-home"]
    argv = [process.in_sbin("useradd"), *options, "--shell", "/usr/sbin/nologin", user]

    def do(_run: Run) -> None:
        try:
            process.run(argv, timeout=_SECONDS)
        except process.ChildFailed as error:
            if not _exists(pwd.getpwnam, user):
                raise Refused(f"the user cannot be made: {error}", output=error.tail) from error

    def undo(_run: Run) -> None:
        if _exists(pwd.getpwnam, user):
            process.run([process.in_sbin("userdel"), user], timeout=_SECONDS)

    summary = f"make the system user {user}"
    return Part("user", summary, Step("user", summary, do, undo))


def _exists(lookup: Callable[[str], object], name: str) -> bool:
    try:
        lookup(name)
    except KeyError:
        return False
    return True
