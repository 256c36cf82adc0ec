"""`artifact ci report`: what a pipeline and the page of a build are told."""

from __future__ import annotations

import json
from pathlib import Path

from tests.integration.command import Ran, artifact
from tests.integration.projects import Checkout


def build(checkout: Checkout, number: int, *, gitlab: str = "") -> Path:
    """Build as a job does, of GitLab at an address, and return what the build printed."""
    told = checkout.path.parent / f"build-{number}.json"
    told.write_text(
        checkout.build(
            "--json", BUILD_NUMBER=str(number), GITLAB_CI=gitlab, CI_JOB_URL=gitlab
        ).stdout
    )
    return told


def report(checkout: Checkout, told: Path, *options: str, status: int = 0) -> Ran:
    """Run the command where the artifacts' directory is."""
    return artifact("ci", "report", told, *options, cwd=checkout.output.parent, status=status)


def test_the_page_tells_what_changed_since_the_last_artifact(small: Checkout, wheels: Path) -> None:
    first = report(small, build(small, 7), "--last", "kept/last.json")
    assert first.stdout.startswith("## small-7: ")
    assert "compiled: first environment of this site" in first.stdout
    assert "Nothing is known of an earlier artifact" in first.stdout

    same = report(small, build(small, 8), "--last", "kept/last.json").stdout
    assert "### Since 7" in same
    assert "No change of packages or migrations or settings." in same
    assert "reused" in same

    small.write({"requirements.txt": "ledgerlib==1.1\notherlib==1.0\n"})
    changed = report(small, build(small, 9), "--last", "kept/last.json").stdout
    assert "### Since 8" in changed
    assert "| changed | ledgerlib | 1.0 | 1.1 |" in changed
    assert "| added | otherlib |  | 1.0 |" in changed
    assert "ledgerlib 1.0 → 1.1" in changed, "why the environment was compiled"
    assert "| venv |" in changed
    assert "| environment |" in changed, "seconds by step"


def test_the_dotenv_file_says_which_artifact_it_was(small: Checkout) -> None:
    told = build(small, 7, gitlab="https://gitlab.example.com/-/jobs/99")
    digest = json.loads(told.read_text())["digest"]
    page = report(small, told, "--dotenv", "artifact.env").stdout
    assert (small.output.parent / "artifact.env").read_text() == (
        f"ARTIFACT_PATH=artifacts/small-7.tgz\nARTIFACT_DIGEST={digest}\nARTIFACT_VERSION=7\n"
    )
    assert "- job: https://gitlab.example.com/-/jobs/99" in page
    # The variables reach later jobs, builds among them, whose configuration they must not bend.
    small.build(ARTIFACT_PATH="x", ARTIFACT_DIGEST="y", ARTIFACT_VERSION="z", BUILD_NUMBER="8")


def test_what_a_shell_and_gitlab_would_read_differently_is_refused(
    small: Checkout, tmp_path: Path
) -> None:
    odd = Checkout(small.path, small.root, small.cache, tmp_path / "a dir; x", small.variables)
    ran = report(odd, build(odd, 7), "--dotenv", "artifact.env", "--last", "last", status=2)
    assert "'a dir; x/small-7.tgz' cannot stand in a dotenv file" in ran.stderr
    assert ran.stdout == ""
    assert not (tmp_path / "artifact.env").exists()


def test_a_damaged_memory_is_said_and_mended(small: Checkout) -> None:
    last = small.output.parent / "last.json"
    last.write_text('{"format": 1')
    told = build(small, 7)
    assert (
        f"warning: {last} is not compared with" in report(small, told, "--last", str(last)).stderr
    )
    assert report(small, told, "--last", str(last)).stderr == ""


def test_another_file_than_a_builds_answer_is_refused_with_the_command(small: Checkout) -> None:
    wrong = small.output.parent / "wrong.json"
    wrong.write_text("[]")
    ran = report(small, wrong, status=2)
    assert "is not what `artifact build --json` prints" in ran.stderr
    assert "hint: artifact build --json" in ran.stderr
    assert "cannot be read: No such file" in report(small, Path("no.json"), status=2).stderr


def test_a_page_about_another_file_is_refused(small: Checkout) -> None:
    first = build(small, 7)
    small.write({"small.py": "import ledgerlib  # otherwise\n"})
    small.build(BUILD_NUMBER="7")
    assert "but the build made sha256:" in report(small, first, status=2).stderr


def test_markdown_of_others_stays_text(small: Checkout, wheels: Path) -> None:
    small.git("checkout", "--quiet", "-b", "a|b_<i>_`c`")
    page = report(small, build(small, 7)).stdout
    assert r"on a\|b\_\<i\>\_\`c\`" in page


def test_the_memory_of_another_application_is_not_compared_with(
    small: Checkout, wheels: Path
) -> None:
    report(small, build(small, 7), "--last", "last")
    small.write({"artifact.toml": 'name = "other"\n'})
    ran = report(small, build(small, 8), "--last", "last")
    assert "is of small, not other" in ran.stderr
    assert "Nothing is known of an earlier artifact" in ran.stdout
