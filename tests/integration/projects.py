"""Projects to build: the sample, and small ones whose wheels are made here, without an index."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from surroundings import repository
from tests.integration.command import Ran, artifact, clean_environment

PROJECTS = Path(__file__).parents[1] / "projects"


@dataclass(frozen=True, slots=True)
class Checkout:
    """A git checkout of a project, and where its builds keep their things."""

    path: Path
    root: Path
    """The site root its environments are compiled for."""
    cache: Path
    output: Path
    variables: Mapping[str, str] = field(default_factory=dict)

    @property
    def environment_variables(self) -> dict[str, str]:
        return clean_environment(
            ARTIFACT_ROOT=str(self.root), ARTIFACT_CACHE=str(self.cache), **self.variables
        )

    def build(self, *arguments: str, status: int | None = 0, **more: str) -> Ran:
        """Run `artifact build`; `more` are environment variables."""
        return artifact(
            "build",
            "--output",
            self.output,
            *arguments,
            cwd=self.path,
            env={**self.environment_variables, **more},
            status=status,
        )

    def commit(self, message: str = "Change") -> None:
        """Commit everything."""
        repository.commit(self.path, message)

    def git(self, *arguments: str) -> str:
        """Run git in the checkout and return what it printed."""
        return repository.git(self.path, *arguments)

    def write(self, files: Mapping[str, str]) -> None:
        """Write files, and commit them."""
        for name, content in files.items():
            path = self.path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        self.commit()


def sample(
    path: Path, *, root: Path, cache: Path, output: Path, project: str = "accounting"
) -> Checkout:
    """Check a sample project out at a path."""
    ignored = shutil.ignore_patterns("__pycache__", ".venv", "db.sqlite3", "staticfiles", "*.mo")
    shutil.copytree(PROJECTS / project, path, ignore=ignored)
    return _committed(Checkout(path, root, cache, output))


def small(directory: Path, wheels: Path, *, requirements: str = "ledgerlib==1.0\n") -> Checkout:
    """Return a project of one module whose requirements come from a directory of wheels."""
    path = directory / "checkout"
    path.mkdir(parents=True)
    variables = {
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(wheels),
        # Tests build it as another user, too, who may not reach the cache of a CI job.
        "UV_CACHE_DIR": str(directory / "uv-cache"),
    }
    checkout = Checkout(
        path, directory / "site", directory / "cache", directory / "artifacts", variables
    )
    files = {
        "artifact.toml": 'name = "small"\n',
        "requirements.txt": requirements,
        "small.py": "import ledgerlib\n",
    }
    for name, content in files.items():
        (path / name).write_text(content)
    return _committed(checkout)


def _committed(checkout: Checkout) -> Checkout:
    repository.create(checkout.path)
    return checkout
