"""`artifact lock`"""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from surroundings.index import Index
from tests.building.conftest import Project, index, machine, project
from tests.cli import schemas

__all__ = ["index", "machine", "project"]


def run(project: Project, *arguments: str, status: int = 0) -> subprocess.CompletedProcess[str]:
    ran = subprocess.run(
        [sys.executable, "-m", "artifact", "lock", *arguments],
        cwd=project.path,
        check=False,
        capture_output=True,
        text=True,
    )
    assert ran.returncode == status, ran.stderr
    schemas.check_answer(arguments, ran.stdout, status)
    return ran


@pytest.fixture
def ours(project: Project, index: Index, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project that requires ledger and money, with ledger 1.0 and money 1.0 on the index."""
    monkeypatch.setenv("ARTIFACT_CACHE", str(project.caches.shared))
    project.write("artifact.toml", f'name = "x"\n[python]\ninterpreter = "{sys.executable}"\n')
    project.write("requirements.in", "ledger\nmoney\n")
    index.wheel("ledger", "1.0")
    index.wheel("money", "1.0")
    return project


@pytest.mark.parametrize("tools", ["uv", "pip"])
def test_versions_are_kept_until_they_are_asked_to_change(
    ours: Project, index: Index, tools: str
) -> None:
    with (ours.path / "artifact.toml").open("a") as stream:
        stream.write(f'[requirements]\ntools = "{tools}"\n')
    lock = ours.path / "requirements.lock"
    assert run(ours).stdout == "+ ledger 1.0\n+ money 1.0\n"
    assert lock.read_text().startswith("ledger==1.0 \\\n    --hash=sha256:")
    index.wheel("ledger", "1.1")
    index.wheel("money", "1.1")
    index.wheel("tax", "1.0")
    assert run(ours).stdout == ""
    ours.write("requirements.in", "ledger\nmoney\ntax\n")
    assert run(ours).stdout == "+ tax 1.0\n"
    assert run(ours, "-P", "Money").stdout == "money 1.0 → 1.1\n"
    assert run(ours, "--upgrade").stdout == "ledger 1.0 → 1.1\n"
    ours.write("requirements.in", "ledger\nmoney<1.1\n")
    ran = run(ours)
    assert ran.stdout == "money 1.1 → 1.0\n- tax 1.0\n"
    assert "wrote requirements.lock: 2 packages of requirements.in" in ran.stderr


def test_a_plan_writes_nothing(ours: Project) -> None:
    ran = run(ours, "--plan")
    assert ran.stdout == "+ ledger 1.0\n+ money 1.0\n"
    assert "would write requirements.lock" in ran.stderr
    assert not (ours.path / "requirements.lock").exists()


def test_json_is_one_document(ours: Project) -> None:
    found = json.loads(run(ours, "--json").stdout)
    assert found["version"] == 1
    assert found["written"] is True
    assert found["packages"] == {"ledger": "1.0", "money": "1.0"}
    assert found["changes"][0] == {"name": "ledger", "old": "", "new": "1.0"}
    assert json.loads(run(ours, "--json").stdout)["written"] is False


def test_a_failure_leaves_the_old_lock(ours: Project) -> None:
    run(ours)
    before = (ours.path / "requirements.lock").read_text()
    ours.write("requirements.in", "ledger\nnosuchthing\n")
    ran = run(ours, status=3)
    assert "error: resolving requirements.in failed: there is no package nosuchthing" in ran.stderr
    assert "hint: " in ran.stderr
    assert (ours.path / "requirements.lock").read_text() == before


def test_what_cannot_be_locked_is_refused(ours: Project) -> None:
    ran = run(ours, "-P", "nosuchthing", status=2)
    assert "-P nosuchthing: requirements.in does not require it" in ran.stderr
    ours.write("uv.lock", "version = 1\n")
    assert "is locked by uv.lock" in run(ours, status=2).stderr
    (ours.path / "uv.lock").unlink()
    (ours.path / "requirements.in").unlink()
    assert "has no requirements file" in run(ours, status=2).stderr
