"""`--json`: one document whatever happens, and what is printed is what is promised."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from artifact import files
from artifact.cli import COMMANDS, answers, group, run
from artifact.cli.answers import Answer
from artifact.errors import BuildFailed
from artifact.site import Site
from tests.cli import schemas
from tests.integration.command import PROGRAM, clean_environment


def commands_with_json() -> Iterator[str]:
    context = click.Context(group)
    for name in COMMANDS:
        command = group.get_command(context, name)
        under = command.commands if isinstance(command, click.Group) else {"": command}
        for word, one in under.items():
            assert one is not None
            if any("--json" in parameter.opts for parameter in one.params):
                yield f"{name} {word}".strip()


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory with no project, site or store; nothing outside of it is meant either."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("ARTIFACT_")]:
        monkeypatch.delenv(name)


def test_the_schemas_are_those_of_the_structs() -> None:
    texts = {path.name: path.read_text("utf-8") for path in schemas.DIRECTORY.iterdir()}
    assert texts == schemas.generate(), "run `python -m tests.cli.schemas`"
    assert set(texts) == {schemas.path(name).name for name in commands_with_json()}


@pytest.mark.parametrize("command", [*commands_with_json()])
def test_a_wrong_option_is_answered_in_json(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*command.split(), "--json", "--no-such-option"]) == 2
    said = capsys.readouterr()
    document = schemas.check(said.out)
    assert (document["command"], document["ok"]) == (command, False)
    assert "--no-such-option" in document["error"]["message"]
    assert document["error"]["message"] in said.err
    assert f"artifact {command} --help" in document["error"]["hint"]


@pytest.mark.parametrize(
    "command",
    [
        *("status ./x", "releases ./x", "doctor ./x", "prune ./x", "recover ./x", "rollback ./x"),
        *("migrations ./x", "migrate ./x", "install x.tgz", "setup x.tgz", "inspect x.tgz"),
        *("verify x.tgz", "diff x.tgz y.tgz", "push x.tgz", "pull x", "ls x", "promote 1 --to x"),
        *("build", "cache ls"),
    ],
)
@pytest.mark.usefixtures("nowhere")
def test_a_command_that_fails_answers_in_json(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code = run([*command.split(), "--json"])
    said = capsys.readouterr()
    error = schemas.check(said.out)["error"]
    assert code == error["code"] != 0
    assert f"error: {error['message']}\n" in said.err
    assert error["kind"] in {"ArtifactRejected", "ConfigurationError", "Refused", "UsageError"}


def test_a_command_that_a_signal_stops_answers_in_json(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.private.mkdir()
    with files.locked(site.lock, doing="testing"):
        child = subprocess.Popen(
            [PROGRAM, "recover", str(tmp_path), "--json"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=clean_environment(),
        )
        assert child.stderr is not None
        assert "testing" in child.stderr.readline(), "it waits"
        child.terminate()
        out, err = child.communicate(timeout=60)
    assert child.returncode == 128 + signal.SIGTERM
    assert schemas.check(out)["error"] == {
        "code": 143,
        "kind": "Stopped",
        "message": "stopped by SIGTERM",
        "hint": "",
        "output": [],
    }
    assert "stopped by SIGTERM" in err


@pytest.mark.usefixtures("nowhere")
def test_no_secret_is_in_the_answer(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEPLOY_TOKEN", "open-sesame")
    assert run(["status", "./open-sesame", "--json"]) == 2
    said = capsys.readouterr()
    assert "sesame" not in said.out + said.err
    error = answers.explain(BuildFailed("npm", hint="https://bob:pw@x/", output=("open-sesame",)))
    assert (error.hint, error.output) == ("https://[redacted]@x/", ("[redacted]",))


def test_a_bug_is_answered_in_json_too() -> None:
    error = answers.explain(KeyError("web"))
    assert (error.code, error.kind, error.message) == (1, "Bug", "KeyError: 'web'")


def test_help_is_no_document(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["status", "--json", "--help"]) == 0
    assert capsys.readouterr().out.startswith("Usage:")


def test_every_character_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    text = "".join(map(chr, range(0x100)))
    Answer("status", as_json=True).finish(answers.Error(5, "Refused", text, ""))
    out = capsys.readouterr().out
    assert json.loads(out)["error"]["message"] == text
    assert out.isprintable() or set(out) - {"\n"} <= {chr(code) for code in range(0x20, 0x7F)}
