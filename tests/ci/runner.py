"""Runs pipelines: `gitlab-ci-local` with the shell executor, each job in a directory of its own."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from surroundings import repository
from tests.integration.command import clean_environment, run

PROJECT = Path(__file__).parents[2]
NODE_PROGRAMS = Path(sys.executable).parents[1] / "node_modules" / ".bin"
_OURS = shutil.ignore_patterns(
    *(".git", ".venv", ".cache", "dist", "reports", "__pycache__", "*.egg-info", "node_modules"),
    *(".*_cache", ".hypothesis", ".coverage", "db.sqlite3", "staticfiles", "*.mo"),
)
# https://docs.gitlab.com/ci/jobs/job_logs/#custom-collapsible-sections
_SECTION = re.compile(r"\x1b\[0Ksection_(start|end):\d+:\w+(\[collapsed=true\])?\r\x1b\[0K")


@dataclass(frozen=True, slots=True)
class Runner:
    """A checkout whose pipelines run here, and what its jobs are given."""

    checkout: Path
    variables: dict[str, str]
    home: Path

    @property
    def state(self) -> Path:
        return self.checkout / ".cache" / "ci"

    def pipeline(self, number: int, *jobs: str) -> str:
        """Run these jobs, or all that are not manual, to their end; return what was said."""
        ran = run(self.command(number, *jobs), cwd=self.checkout, env=environment(), timeout=600)
        return ran.stdout + ran.stderr

    def start(self, number: int, *jobs: str) -> subprocess.Popen[bytes]:
        """Run these jobs beside us, as the leader of a session."""
        return subprocess.Popen(
            self.command(number, *jobs),
            cwd=self.checkout,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def command(self, number: int, *jobs: str) -> list[str]:
        """Return the command line of a pipeline."""
        argv = [
            *("gitlab-ci-local", "--force-shell-executor", "--shell-isolation"),
            *("--state-dir", ".cache/ci", "--home", str(self.home)),
        ]
        # It would count only pipelines that are run as a whole.
        for name, value in {**self.variables, "CI_PIPELINE_IID": str(number)}.items():
            argv += ["--variable", f"{name}={value}"]
        return [*argv, *jobs]

    def kept(self, job: str, path: str) -> Path:
        """Return a file that a job's artifacts hold."""
        return self.state / "artifacts" / job / path

    def log(self, job: str) -> str:
        """Return what a job printed, without GitLab's section markers, which are not shown."""
        return _SECTION.sub("", (self.state / "output" / f"{job}.log").read_bytes().decode())


def environment() -> dict[str, str]:
    """Return what a runner has: the programs of this environment on PATH, and no CI's variables."""
    env = clean_environment(NO_COLOR="1")
    return {**env, "PATH": f"{NODE_PROGRAMS}:{env['PATH']}"}


def clean_clone(directory: Path) -> Path:
    """Return a clone of this project as it stands here, with nothing but what is its own."""
    origin, clone = directory / "origin", directory / "clone"
    shutil.copytree(PROJECT, origin, ignore=_OURS)
    repository.create(origin)
    repository.git(directory, "clone", "--quiet", str(origin), str(clone))
    return clone
