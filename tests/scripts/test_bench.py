"""`scripts/bench`: its arithmetic, what it prints, and the projects it makes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import figures, measuring, projects, report, workshop
from benchmarks.figures import Goal, Series
from benchmarks.measuring import BenchFailed
from benchmarks.projects import generated
from benchmarks.report import Report
from benchmarks.workshop import Workshop
from surroundings import repository

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command line without what `scripts/bench` prepares."""
    argv = [sys.executable, "-m", "benchmarks", *arguments]
    env = os.environ | {"PYTHONPATH": str(SCRIPTS)}
    return subprocess.run(argv, env=env, capture_output=True, text=True, timeout=60)


def seconds(*values: float) -> Series:
    return Series(values, "s")


def test_a_ratio_is_that_of_its_round_and_the_median_is_quoted_with_its_range() -> None:
    figure = figures.faster(
        "rebuild", seconds(1, 2, 1), seconds(10, 30, 12), "the recipe", Goal(">=", 10)
    )

    assert isinstance(figure.value, Series)
    assert list(figure.value.values) == [10, 15, 12]
    assert str(figure.value) == "12.0x (10.0–15.0)"
    assert figure.line == "rebuild: 12.0x, goal >= 10x, met"


def test_a_goal_is_compared_before_rounding_and_shown_with_the_digits_that_decide() -> None:
    figure = figures.times("size", seconds(1.010004), seconds(1), "tar czf", Goal("<=", 1.01))

    assert not figure.met
    assert figure.line == "size: 1.010004x, goal <= 1.01x, MISSED"


def test_a_figure_without_a_goal_is_in_the_table_and_has_no_line() -> None:
    figure = figures.faster("first build", seconds(2), seconds(3), "pex", None)

    assert figure.met
    assert figures.goal_lines([figure]) == []
    assert "1.50x" in figures.table([figure])[1]


def test_what_does_not_hold_is_missed() -> None:
    assert figures.holds("equal bytes", True).line == "equal bytes: yes, goal yes, met"
    assert figures.holds("equal bytes", False).line == "equal bytes: no, goal yes, MISSED"


def test_a_row_that_could_not_be_measured_is_a_goal_that_was_missed() -> None:
    met = figures.amount("memory", Series((100,), "MB"), Goal("<=", 300, "MB"))

    assert Report("build", {"CPU": "x"}, (met,), (), 1).met
    failed = Report("build", {"CPU": "x"}, (met,), ("same: it broke",), 1)
    assert not failed.met
    assert failed.lines()[-1] == "same: it broke: not measured, MISSED"


def test_rounds_alternate_between_the_contenders() -> None:
    order: list[str] = []

    def contender(name: str) -> float:
        order.append(name)
        return float(len(order))

    found = measuring.interleaved(
        {"a": lambda _: contender("a"), "b": lambda _: contender("b")}, 2, lambda _line: None
    )

    assert order == ["a", "b", "a", "b"]
    assert found["a"].values == (1, 3)


def test_a_program_that_fails_is_told_with_the_end_of_its_output(tmp_path: Path) -> None:
    argv = ["sh", "-c", "echo lost >&2; exit 3"]

    with pytest.raises(BenchFailed, match=r"(?s)exited with 3.*lost"):
        measuring.seconds(argv, cwd=tmp_path, env=dict(os.environ))


def test_memory_of_children_counts_unless_they_are_left_out(tmp_path: Path) -> None:
    hungry = tmp_path / "hungry"
    hungry.write_text("import time; x = b'x' * 80_000_000; time.sleep(2)")
    parent = f"import subprocess; subprocess.run([{sys.executable!r}, {str(hungry)!r}])"
    argv = [sys.executable, "-c", parent]
    env = dict(os.environ)

    counted = measuring.peak_memory(argv, frozenset(), cwd=tmp_path, env=env)
    left_out = measuring.peak_memory(argv, frozenset({"hungry"}), cwd=tmp_path, env=env)

    assert 90 < counted < 200
    assert left_out < 60


def test_a_page_gets_the_new_figures_between_its_marks(tmp_path: Path) -> None:
    page = tmp_path / "benchmarks.md"
    page.write_text("before\n<!-- begin scripts/bench build -->\nold\n")
    found = Report("build", {"CPU": "fast"}, (figures.holds("equal", True),), (), 12.3)

    with pytest.raises(ValueError, match="has no lines"):
        report.write_into(page, found)
    page.write_text(page.read_text() + "<!-- end scripts/bench build -->\nafter\n")
    report.write_into(page, found)

    text = page.read_text()
    assert "old" not in text
    assert "| equal | – | – | – | yes | yes | met |" in text
    assert text.startswith("before\n<!-- begin")
    assert text.endswith("-->\nafter\n")


def test_the_documented_page_has_the_marks() -> None:
    text = (SCRIPTS.parent / "docs" / "benchmarks.md").read_text()

    assert text.index("<!-- begin scripts/bench build -->") < text.index(
        "<!-- end scripts/bench build -->"
    )


def test_the_generated_project_has_2000_files_that_compile_and_are_always_the_same(
    tmp_path: Path,
) -> None:
    shop = Workshop(tmp_path, lambda _line: None)
    project = projects.make("b", shop)
    again = tmp_path / "again"
    generated.make(again, shop)

    tracked = repository.git(project.directory, "ls-files").split()
    assert len(tracked) == 2000 + len(["artifact.toml"])
    for path in tracked:
        content = (project.directory / path).read_bytes()
        if path != "artifact.toml":
            assert content == (again / path).read_bytes()
        if path.endswith(".py"):
            compile(content, path, "exec")


def test_a_change_is_a_commit_of_its_own(tmp_path: Path) -> None:
    project = projects.make("b", Workshop(tmp_path, lambda _line: None))

    projects.change(project, 1)

    assert repository.git(project.directory, "status", "--porcelain") == ""
    changed = repository.git(project.directory, "show", "--name-only", "--format=%s").split("\n")
    assert [line for line in changed if line] == ["change 1", project.module]


def test_everybody_gets_the_same_caches_and_nobody_those_of_the_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("UV_CACHE_DIR", "PIP_CACHE_DIR", "ARTIFACT_CACHE", "PEX_ROOT", "BUILD_NUMBER"):
        monkeypatch.setenv(name, "/somewhere")
    monkeypatch.setenv("PIP_INDEX_URL", "https://pypi.example.com/simple")

    found = Workshop(tmp_path, lambda _line: None).variables(tmp_path / "cache")

    assert "/somewhere" not in found.values()
    assert found["XDG_CACHE_HOME"] == str(tmp_path / "cache")
    assert found["PIP_INDEX_URL"] == "https://pypi.example.com/simple"


def test_a_temporary_workshop_is_removed_also_when_it_holds_read_only_trees() -> None:
    with workshop.opened(None, lambda _line: None, None) as shop:
        kept = shop.path("tree", "file")
        kept.touch()
        kept.parent.chmod(0o555)

    assert not shop.work.exists()


def test_the_command_line_lists_its_rows_and_refuses_others() -> None:
    listed = bench("build", "--list")
    refused = bench("build", "--only", "everything")
    unknown = bench("nothing")

    assert listed.stdout.startswith("rebuild ")
    assert listed.returncode == 0
    assert (refused.returncode, unknown.returncode) == (2, 2)
    assert "'everything' is none of rebuild, first-cold" in refused.stderr
