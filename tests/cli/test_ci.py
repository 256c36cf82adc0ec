"""`artifact ci report`: what a pipeline and the page of a build are told."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.integration import projects
from tests.integration.command import Ran, artifact
from tests.integration.projects import Checkout

JOB = "https://gitlab.example.com/-/jobs/99"


@dataclass(frozen=True, slots=True)
class Done:
    """A build that a job has done."""

    checkout: Checkout
    told: Path
    """What it printed."""


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, wheels: Path) -> Done:
    """A build of version 7 from a branch with an odd name; tests leave it as it is."""
    checkout = projects.small(tmp_path_factory.mktemp("report"), wheels)
    checkout.git("checkout", "--quiet", "-b", "a|b_<i>_`c`")
    return Done(checkout, build(checkout, 7, gitlab=JOB))


def build(checkout: Checkout, number: int, *, gitlab: str = "") -> Path:
    """Build as a job does, of GitLab at an address, and return what the build printed."""
    told = checkout.path.parent / f"build-{number}.json"
    ran = checkout.build("--json", BUILD_NUMBER=str(number), GITLAB_CI=gitlab, CI_JOB_URL=gitlab)
    told.write_text(ran.stdout)
    return told


def report(done: Done, *options: str | Path, told: Path | None = None, status: int = 0) -> Ran:
    """Run the command where the artifacts' directory is."""
    argv = ["ci", "report", told or done.told, *options]
    return artifact(*argv, cwd=done.checkout.output.parent, status=status)


def test_the_page_tells_what_changed_since_the_last_artifact(small: Checkout, wheels: Path) -> None:
    first = report(Done(small, build(small, 7)), "--last", "kept/last.json")
    assert first.stdout.startswith("## small-7: ")
    assert "compiled: first environment of this site" in first.stdout
    assert "Nothing is known of an earlier artifact" in first.stdout

    same = report(Done(small, build(small, 8)), "--last", "kept/last.json").stdout
    assert "### Since 7" in same
    assert "No change of packages or migrations or settings." in same
    assert "reused" in same

    small.write({"requirements.txt": "ledgerlib==1.1\notherlib==1.0\n"})
    changed = report(Done(small, build(small, 9)), "--last", "kept/last.json").stdout
    assert "### Since 8" in changed
    assert "| changed | ledgerlib | 1.0 | 1.1 |" in changed
    assert "| added | otherlib |  | 1.0 |" in changed
    assert "ledgerlib 1.0 → 1.1" in changed, "why the environment was compiled"
    assert "| venv |" in changed
    assert "| environment |" in changed, "seconds by step"


def test_the_dotenv_file_says_which_artifact_it_was(done: Done, tmp_path: Path) -> None:
    page = report(done, "--dotenv", tmp_path / "artifact.env").stdout
    digest = json.loads(done.told.read_text())["digest"]
    assert (tmp_path / "artifact.env").read_text() == (
        f"ARTIFACT_PATH=artifacts/small-7.tgz\nARTIFACT_DIGEST={digest}\nARTIFACT_VERSION=7\n"
    )
    assert f"- job: {JOB}" in page
    # The variables reach later jobs, builds among them, whose configuration they must not bend.
    done.checkout.build("--plan", ARTIFACT_PATH="x", ARTIFACT_DIGEST="y", ARTIFACT_VERSION="z")


def test_what_a_shell_and_gitlab_would_read_differently_is_refused(
    done: Done, tmp_path: Path
) -> None:
    odd = tmp_path / "a dir; x"
    odd.mkdir()
    shutil.copy(done.checkout.output / "small-7.tgz", odd)
    told = tmp_path / "build.json"
    path = str(odd / "small-7.tgz")
    told.write_text(json.dumps({**json.loads(done.told.read_text()), "artifact": path}))
    options = ("--dotenv", tmp_path / "artifact.env", "--last", tmp_path / "last")
    ran = report(done, *options, told=told, status=2)
    assert f"{path!r} cannot stand in a dotenv file" in ran.stderr
    assert ran.stdout == ""
    assert {one.name for one in tmp_path.iterdir()} == {"a dir; x", "build.json"}


def test_a_damaged_memory_is_said_and_mended(done: Done, tmp_path: Path) -> None:
    last = tmp_path / "last.json"
    last.write_text('{"format": 1')
    assert f"warning: {last} is not compared with" in report(done, "--last", last).stderr
    assert report(done, "--last", last).stderr == ""


def test_the_memory_of_another_application_is_not_compared_with(done: Done, tmp_path: Path) -> None:
    last = tmp_path / "last.json"
    report(done, "--last", last)
    last.write_text(last.read_text().replace('"name":"small"', '"name":"other"'))
    ran = report(done, "--last", last)
    assert "is of other, not small" in ran.stderr
    assert "Nothing is known of an earlier artifact" in ran.stdout


def test_another_file_than_a_builds_answer_is_refused_with_the_command(
    done: Done, tmp_path: Path
) -> None:
    wrong = tmp_path / "wrong.json"
    wrong.write_text("[]")
    ran = report(done, told=wrong, status=2)
    assert "is not what `artifact build --json` prints" in ran.stderr
    assert "hint: artifact build --json" in ran.stderr
    assert "cannot be read: No such file" in report(done, told=Path("no.json"), status=2).stderr


def test_a_page_about_another_file_is_refused(done: Done, tmp_path: Path) -> None:
    told = tmp_path / "build.json"
    told.write_text(json.dumps({**json.loads(done.told.read_text()), "digest": "sha256:0"}))
    assert "but the build made sha256:0" in report(done, told=told, status=2).stderr


def test_markdown_of_others_stays_text(done: Done) -> None:
    assert r"on a\|b\_\<i\>\_\`c\`" in report(done).stdout
