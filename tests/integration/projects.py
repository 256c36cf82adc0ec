"""Projects to build: the sample, and small ones whose wheels are made here, without an index."""

from __future__ import annotations

import base64
import hashlib
import shutil
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.integration.command import Ran, artifact, clean_environment, run

PROJECTS = Path(__file__).parents[1] / "projects"
_COMMITTER = ("-c", "user.name=Test", "-c", "user.email=test@example.com")


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
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", message)

    def git(self, *arguments: str) -> str:
        """Run git in the checkout and return what it printed."""
        return run(["git", *_COMMITTER, *arguments], cwd=self.path).stdout

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
    variables = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels)}
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


def wheel(
    directory: Path, name: str, version: str, files: Mapping[str, str | bytes] | None = None
) -> Path:
    """Write a pure wheel that holds these files, or one module of its name."""
    directory.mkdir(parents=True, exist_ok=True)
    content = dict(files) if files is not None else {f"{name}.py": f"version = {version!r}\n"}
    info = f"{name}-{version}.dist-info"
    content[f"{info}/METADATA"] = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    content[f"{info}/WHEEL"] = (
        "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    )
    record = []
    path = directory / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for member, text in content.items():
            data = text.encode() if isinstance(text, str) else text
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            record.append(f"{member},sha256={digest},{len(data)}")
            archive.writestr(zipfile.ZipInfo(member, (2026, 1, 1, 0, 0, 0)), data)
        record.append(f"{info}/RECORD,,")
        archive.writestr(f"{info}/RECORD", "\n".join(record) + "\n")
    return path


def _committed(checkout: Checkout) -> Checkout:
    checkout.git("init", "--quiet", "--initial-branch", "main")
    checkout.commit("The project")
    return checkout
