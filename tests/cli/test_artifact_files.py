"""`inspect`, `verify` and `diff`: what they print, and what they say to what is no artifact."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from artifact import manifest
from artifact.archive import signature
from artifact.cli import run
from tests.archive import samples
from tests.archive.test_signature import allow, make_key
from tests.cli import schemas


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("old") / "accounting-1337.tgz"
    samples.build(path)
    return path


@pytest.fixture(scope="module")
def new(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The next version: signed, with a changed setting, package, migration and file."""
    directory = tmp_path_factory.mktemp("new")
    key = make_key(directory / "key")
    allow(directory / "allowed_signers", key)
    path = directory / "accounting-1338.tgz"
    code = samples.CODE | {"accounting/views.py": b"changed\n", "accounting/new.py": b""}
    del code["accounting/templates/übersicht mit leerzeichen.html"]
    samples.build(
        path,
        code=code,
        version="1338",
        sign=lambda content: signature.sign(content, key),
        source=manifest.Source(revision="77aa", branch="main", dirty=True),
        environment=manifest.Environment(
            key="1" * 32, packages={"django": "5.2.9", "celery": "5.5"}
        ),
        migrations={"ledger": ("0001_initial", "0002_account_iban")},
        processes={"web": manifest.Process(command="gunicorn accounting.wsgi --workers 4")},
    )
    return path


# --- inspect ---------------------------------------------------------------------------------


def test_inspect_says_what_matters_first(new: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["inspect", str(new)]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    lines = said.out.splitlines()
    assert lines[0] == "accounting 1338"
    assert lines[1].split()[0] == "digest"
    assert lines[1].split()[1].startswith("sha256:")
    assert "77aa on main (with uncommitted changes)" in said.out
    assert "/srv/accounting" in said.out
    assert "2 packages" in said.out
    assert "2 in 1 application\n" in said.out
    assert "gunicorn accounting.wsgi --workers 4" in said.out
    assert not any(line != line.rstrip() for line in lines)


def test_inspect_lists_packages_as_requirements(
    new: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["inspect", "--packages", str(new)]) == 0
    assert capsys.readouterr().out == "celery==5.5\ndjango==5.2.9\n"


def test_inspect_lists_files(old: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["inspect", "--files", str(old)]) == 0
    rows = [line.split(maxsplit=3) for line in capsys.readouterr().out.splitlines()]
    assert ["-0755", "23", "code", "manage.py"] in rows
    assert ["l0777", "0", "venv", "virtualenv/lib64 -> lib"] in rows
    assert ["d0755", "0", "assets", "static"] in rows


def test_inspect_gives_the_manifest_as_json(new: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["inspect", "--json", "--files", str(new)]) == 0
    found = schemas.check(capsys.readouterr().out)
    assert found["version"] == 1
    assert found["command"] == "inspect"
    assert found["signed"] is True
    assert found["size"] == new.stat().st_size
    assert found["manifest"]["name"] == "accounting"
    assert found["manifest"]["processes"]["web"]["stop-timeout"] == 35.0
    assert {"manage.py", "static/app.1234.js"} < {entry["path"] for entry in found["files"]}


def test_inspect_reads_the_tail_alone(
    old: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged = tmp_path / "damaged.tgz"
    damaged.write_bytes(bytes(20) + old.read_bytes()[20:])
    assert run(["inspect", "--files", str(damaged)]) == 0
    assert run(["verify", str(damaged)]) == 4


def test_a_manifest_cannot_drive_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.tgz"
    samples.build(path, source=manifest.Source(revision="\x1b[2J\x07", branch="a\nb"))
    assert run(["inspect", str(path)]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "\\x1b[2J\\x07" in out


# --- verify ----------------------------------------------------------------------------------


def test_verify_prints_the_digest(old: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["verify", str(old)]) == 0
    said = capsys.readouterr()
    digest = said.out.strip()
    assert digest.startswith("sha256:")
    assert "accounting-1337.tgz is intact: 20 entries" in said.err
    assert run(["verify", "--quiet", "--digest", digest, str(old)]) == 0
    assert capsys.readouterr().err == ""


def test_verify_demands_the_digest_it_is_given(
    old: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["verify", "--digest", "sha256:" + "0" * 64, str(old)]) == 4
    assert "accounting-1337.tgz: its digest is sha256:" in capsys.readouterr().err
    assert run(["verify", "--digest", "md5:0", str(old)]) == 2


def test_verify_says_who_signed(new: Path, capsys: pytest.CaptureFixture[str]) -> None:
    signers = new.with_name("allowed_signers")
    assert run(["verify", "--signers", str(signers), "--json", str(new)]) == 0
    said = capsys.readouterr()
    assert "signed by ci@example.com" in said.err
    assert schemas.check(said.out)["signer"] == "ci@example.com"
    assert run(["verify", str(new)]) == 0
    assert capsys.readouterr().err.rstrip().endswith(", signed")


def test_verify_refuses_what_is_not_signed_by_those_it_is_given(
    old: Path, new: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    signers = new.with_name("allowed_signers")
    assert run(["verify", "--signers", str(signers), str(old)]) == 4
    assert "accounting-1337.tgz: it is not signed" in capsys.readouterr().err
    others = allow(tmp_path / "others", make_key(tmp_path / "key"))
    assert run(["verify", "--signers", str(others), str(new)]) == 4
    assert "its signer is not allowed to sign" in capsys.readouterr().err
    assert run(["verify", "--signers", str(tmp_path / "absent"), str(new)]) == 2


def test_verify_checks_a_signature_nobody_asked_about(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key = make_key(tmp_path / "key")
    path = tmp_path / "a.tgz"
    samples.build(path, sign=lambda content: signature.sign(content + b" ", key))
    assert run(["verify", str(path)]) == 4
    assert "a.tgz: its signature is not valid" in capsys.readouterr().err


# --- diff ------------------------------------------------------------------------------------


def test_diff_shows_what_changed(old: Path, new: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["diff", str(old), str(new)]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    lines = [" ".join(line.split()) for line in said.out.splitlines()]
    assert lines[0] == "accounting 1337 → accounting 1338"
    for line in (
        "source 4be1a93c00ff → 77aa",
        "1338 holds uncommitted changes",
        "~ processes.web.command gunicorn accounting.wsgi → gunicorn accounting.wsgi --workers 4",
        "packages: 1 changed, 1 added",
        "~ django 5.2.8 → 5.2.9",
        "+ celery 5.5",
        "+ ledger.0002_account_iban",
        "files of code: 1 changed, 1 added, 2 removed",
        "~ accounting/views.py 26 B → 8 B",
        "+ accounting/new.py 0 B",
        "- accounting/templates directory",
    ):
        assert line in lines
    (venv,) = [line for line in lines if line.startswith("venv ")]
    assert venv.split()[1] == "same"


def test_diff_gives_everything_as_json(
    old: Path, new: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["diff", "--json", str(old), str(new)]) == 0
    found = schemas.check(capsys.readouterr().out)
    assert found["old"]["version"] == "1337"
    assert found["packages"][0] == {"name": "celery", "old": None, "new": "5.5"}
    assert found["migrations"] == {"added": ["ledger.0002_account_iban"], "removed": []}
    (change,) = [file for file in found["files"] if file["path"] == "accounting/new.py"]
    assert (change["old"], change["new"]["size"]) == (None, 0)
    assert [size["same"] for size in found["sizes"]] == [True, True, False]


def test_diff_of_an_artifact_with_itself_is_empty(
    old: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["diff", str(old), str(old)]) == 0
    assert capsys.readouterr().out.splitlines()[1:] == ["the same artifact"]


# --- files that are no artifact --------------------------------------------------------------

WRONG: dict[str, tuple[bytes | None, int, str]] = {
    "absent": (None, 2, "there is no file"),
    "empty": (b"", 4, "wrong.tgz: is empty"),
    "text": (b"hello\n", 4, "wrong.tgz: it is no artifact, not even a gzip file"),
    "foreign": (
        gzip.compress(b"x", mtime=0),
        4,
        "wrong.tgz: it is no artifact, but a .tgz of another",
    ),
}


@pytest.mark.parametrize("kind", [*WRONG, "directory", "truncated", "flipped"])
@pytest.mark.parametrize("command", ["inspect", "verify", "diff", "diff to"])
def test_what_is_no_artifact_is_answered_with_a_sentence_and_a_hint(
    command: str, kind: str, old: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "wrong.tgz"
    code, saying = 4, ""
    if kind == "directory":
        path.mkdir()
        saying = "is a directory, not an artifact"
    elif kind == "truncated":
        path.write_bytes(old.read_bytes()[:-100])
        saying = "wrong.tgz: it has no footer"
    elif kind == "flipped":
        content = bytearray(old.read_bytes())
        content[-200] ^= 1  # in the manifest
        path.write_bytes(content)
        saying = "wrong.tgz: its manifest's member is damaged"
    else:
        written, code, saying = WRONG[kind]
        if written is not None:
            path.write_bytes(written)
    both = {"diff": [str(path), str(old)], "diff to": [str(old), str(path)]}
    assert run([command.split()[0], *both.get(command, [str(path)])]) == code
    said = capsys.readouterr()
    assert said.out == ""
    error, hint = said.err.splitlines()
    assert error.startswith("error: ")
    assert saying in error
    assert hint.startswith("hint: ")


def test_a_file_that_cannot_be_opened_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["inspect", "n" * 300]) == 2
    assert "cannot be read: File name too long" in capsys.readouterr().err
