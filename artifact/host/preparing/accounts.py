"""The user that a site's processes run as."""

from __future__ import annotations

import grp
import os
import pwd
import re
from collections.abc import Iterator

from artifact import process
from artifact.errors import Refused
from artifact.host.preparing.findings import Goal, Part, SetupFinding
from artifact.host.records.problem import Problem
from artifact.steps import Run, Step

_NAME = re.compile(r"[a-z_][a-z0-9_-]{0,31}")
_SECONDS = 60.0


def check_user(goal: Goal) -> Iterator[SetupFinding]:
    """Say whether the user is there; root can make it."""
    user = goal.user
    if not user:
        who = pwd.getpwuid(os.geteuid()).pw_name
        yield Part("user", f"the processes run as {who}")
    elif not _NAME.fullmatch(user):
        yield Problem(f"{user!r} cannot name a user", "small letters, digits, - and _")
    elif _exists(user):
        yield from _there(user)
    elif os.geteuid() != 0:
        yield Problem(f"there is no user {user!r}, and only root can make one", "use sudo")
    else:
        yield _make(goal)


def _there(user: str) -> Iterator[SetupFinding]:
    if os.geteuid() not in {0, pwd.getpwnam(user).pw_uid}:
        yield Problem(f"only root can have the processes run as {user!r}", "use sudo")
    else:
        yield Part("user", f"user {user}")


def _make(goal: Goal) -> Part:
    user = goal.user
    group = ["--gid", user] if _group_exists(user) else ["--user-group"]
    home = ["--home-dir", str(goal.site.root), "--no-create-home"]
    argv = [
        process.in_sbin("useradd"),
        "--system",
        *group,
        *home,
        "--shell",
        "/usr/sbin/nologin",
        user,
    ]

    def do(_run: Run) -> None:
        try:
            process.run(argv, timeout=_SECONDS)
        except process.ChildFailed as error:
            if not _exists(user):
                raise Refused(f"the user cannot be made: {error}", output=error.tail) from error

    def undo(_run: Run) -> None:
        if _exists(user):
            process.run([process.in_sbin("userdel"), user], timeout=_SECONDS)

    summary = f"make the system user {user}"
    return Part("user", summary, Step("user", summary, do, undo))


def _exists(user: str) -> bool:
    try:
        pwd.getpwnam(user)
    except KeyError:
        return False
    return True


def _group_exists(group: str) -> bool:
    try:
        grp.getgrnam(group)
    except KeyError:
        return False
    return True
