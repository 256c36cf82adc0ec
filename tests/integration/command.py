"""The real `artifact` command in a child process, with an environment that no machine bends."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.cli import schemas

PROGRAM = Path(sys.executable).with_name("artifact")

# What a CI server or a developer has set must not decide what a test sees.
_FOREIGN = (
    "ARTIFACT_",
    "BUILD_",
    "CI",
    "GITLAB_",
    "JENKINS_",
    "JOB_",
    "GIT_",
    "PYTHON",
    "VIRTUAL_ENV",
)


@dataclass(frozen=True, slots=True)
class Ran:
    """How a command ended and what it said."""

    status: int
    stdout: str
    stderr: str


def clean_environment(**more: str) -> dict[str, str]:
    """Return this process's environment without what a CI job, a shell or a user's git added."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}
    kept["PATH"] = f"{PROGRAM.parent}:{kept['PATH']}"
    return {**kept, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", **more}


def artifact(
    *arguments: str | Path,
    cwd: Path,
    env: Mapping[str, str] | None = None,
    status: int | None = 0,
    timeout: float = 240,
) -> Ran:
    """Run `artifact ARGUMENTS` to its end; `status` is what it must exit with, None anything."""
    ran = run([PROGRAM, *arguments], cwd=cwd, env=env, status=status, timeout=timeout)
    schemas.check_answer(tuple(map(str, arguments)), ran.stdout, ran.status)
    return ran


def run(
    argv: Sequence[str | Path],
    *,
    cwd: Path,
    env: Mapping[str, str] | None = None,
    status: int | None = 0,
    timeout: float = 240,
) -> Ran:
    """Run any program to its end, as `artifact` does."""
    done = subprocess.run(
        [str(word) for word in argv],
        cwd=cwd,
        env=clean_environment() if env is None else dict(env),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="surrogateescape",
        timeout=timeout,
    )
    ran = Ran(done.returncode, done.stdout, done.stderr)
    if status is not None:
        assert ran.status == status, f"{argv} exited with {ran.status}\n{ran.stdout}\n{ran.stderr}"
    return ran
