"""What a build is called, and who is said to have made it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from artifact import __version__, manifest
from artifact.building import source, version
from artifact.building.source import Snapshot
from artifact.errors import UsageError
from artifact.steps import nobody
from surroundings.repository import git


@pytest.fixture(autouse=True)
def no_job(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("CI", "GITLAB_", "GITHUB_", "JENKINS_", "BUILD_", "GIT_")):
            monkeypatch.delenv(name)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    git(tmp_path, "init", "--quiet")
    (tmp_path / "manage.py").touch()
    git(tmp_path, "add", ".")
    for message in ("one", "two", "three"):
        git(tmp_path, "commit", "--quiet", "--allow-empty", "-m", message)
    return tmp_path


def snapshot(project: Path) -> Snapshot:
    return source.take_snapshot(project, (), nobody)


def test_what_is_said_comes_before_the_job_and_git(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = snapshot(repository)
    git(repository, "tag", "1.2")
    assert version.choose("", now) == version.Version("1.2", 3, "git")
    monkeypatch.setenv("CI_PIPELINE_IID", "88")
    assert version.choose("", now) == version.Version("88", 88, "CI_PIPELINE_IID")
    monkeypatch.setenv("BUILD_NUMBER", "1337")
    assert version.choose("", now) == version.Version("1337", 1337, "BUILD_NUMBER")
    assert version.choose("2.0rc1", now) == version.Version("2.0rc1", 3, "--version")


def test_git_alone_gives_the_description_or_the_revision(repository: Path) -> None:
    revision = git(repository, "rev-parse", "--short", "HEAD")
    assert version.choose("", snapshot(repository)).text == revision
    git(repository, "tag", "release/7")
    assert version.choose("", snapshot(repository)).text == revision
    git(repository, "tag", "7.0", "HEAD~1")
    git(repository, "tag", "--delete", "release/7")
    assert version.choose("", snapshot(repository)).text == f"7.0-1-g{revision}"


def test_a_dirty_build_is_not_called_like_the_commit(repository: Path) -> None:
    git(repository, "tag", "7.0")
    (repository / "manage.py").write_text("changed")
    assert version.choose("", snapshot(repository)).text == "7.0-dirty"


def test_a_revision_of_digits_is_no_sequence(repository: Path) -> None:
    git(repository, "tag", "20240101")
    assert version.choose("", snapshot(repository)).sequence == 3


@pytest.mark.parametrize("text", ["1/2", "a..b", "current", "-1", "x" * 65, "1 2"])
def test_what_cannot_be_a_version_is_refused_with_the_rule(
    repository: Path, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BUILD_NUMBER", text)
    with pytest.raises(UsageError) as caught:
        version.choose("", snapshot(repository))
    assert caught.value.message == f"BUILD_NUMBER: {text!r} cannot be a version"
    assert "beginning with a letter or digit" in caught.value.hint


def test_without_anything_to_go_by_the_option_is_named(tmp_path: Path) -> None:
    (tmp_path / "manage.py").touch()
    with pytest.raises(UsageError) as caught:
        version.choose("", snapshot(tmp_path))
    assert "--version" in caught.value.hint
    assert version.choose("9", snapshot(tmp_path)).sequence == 9
    assert version.choose("9" * 30, snapshot(tmp_path)).sequence == 0


def test_the_job_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert version.built_by() == manifest.Built(tool=__version__)
    monkeypatch.setenv("JENKINS_URL", "https://ci.example.com/")
    monkeypatch.setenv("BUILD_URL", "https://ci.example.com/job/7/")
    assert version.built_by().job == "https://ci.example.com/job/7/"
    monkeypatch.setenv("GITLAB_CI", "true")
    monkeypatch.setenv("CI_JOB_URL", "https://user:secret@gitlab.example.com/-/jobs/7")
    assert version.built_by() == manifest.Built(
        tool=__version__, ci="gitlab", job="https://gitlab.example.com/-/jobs/7"
    )
