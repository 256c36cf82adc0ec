"""The command line as a whole: help, exit codes, errors as sentences."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from artifact import errors
from artifact.cli import COMMANDS, group, run

README = Path(__file__).parents[2] / "README.md"


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from artifact.cli import run; run(['--help']); "
        "heavy = {'boto3', 'virtualenv', 'pip', 'piptools', 'uv', 'tqdm', 'elftools', 'urllib3'};"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert child.stderr.strip() == "[]"
    assert "Build the artifact of this checkout" in child.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_the_line_in_the_overview_is_the_commands_own(name: str) -> None:
    import click

    command = group.get_command(click.Context(group), name)
    assert command is not None
    assert command.get_short_help_str(200) == COMMANDS[name]


def test_a_mistyped_command_is_answered_with_the_nearest(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["instal"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "there is no command 'instal'" in said.err
    assert "did you mean `artifact install`?" in said.err


def test_a_wrong_option_names_the_help_that_explains_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["build", "--no-such-option"]) == 2
    assert "artifact build --help" in capsys.readouterr().err


def test_the_readme_has_the_exit_codes_of_the_classes() -> None:
    text = README.read_text()
    for code, meaning in errors.table():
        assert f"| {code} | {meaning} |" in text
