"""`push`, `pull`, `ls`, `promote` and `inspect` on a store."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from artifact.archive import opening
from artifact.cli import run
from artifact.stores import channels
from artifact.stores.directory import DirectoryStore
from tests.archive import samples
from tests.cli import schemas

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Artifacts by version; 1337b is another artifact of version 1337."""
    found = {}
    for name in ("1336", "1337", "1338", "1337b"):
        version = name.rstrip("b")
        path = tmp_path_factory.mktemp(name) / f"accounting-{version}.tgz"
        samples.build(path, version=version, code={"name": name.encode()})
        found[name] = path
    return found


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory of the configured store; the working directory is an empty one."""
    root, here = tmp_path / "store", tmp_path / "here"
    root.mkdir()
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setenv("ARTIFACT_STORE_URL", str(root))
    monkeypatch.setenv("ARTIFACT_NAME", "accounting")
    return root


@pytest.fixture
def artifact(root: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command; returns its exit code, stdout and stderr."""

    def call(*arguments: object) -> tuple[int, str, str]:
        code = run([str(one) for one in arguments])
        said = capsys.readouterr()
        schemas.check_answer(tuple(map(str, arguments)), said.out, code)
        return code, said.out, said.err

    return call


def test_a_pushed_artifact_is_listed_inspected_and_pulled(
    artifact: Run, built: dict[str, Path], tmp_path: Path
) -> None:
    code, out, err = artifact("push", built["1337"])
    assert (code, out) == (0, "accounting/artifacts/accounting-1337.tgz\n"), err
    code, out, _ = artifact("ls")
    assert out.splitlines()[1].split()[0] == "accounting-1337"
    code, out, err = artifact("inspect", "accounting-1337.tgz")
    assert (code, out.splitlines()[0]) == (0, "accounting 1337"), err
    code, out, err = artifact("pull", "accounting-1337", "--output", tmp_path)
    assert (code, out) == (0, f"{tmp_path}/accounting-1337.tgz\n"), err
    assert (tmp_path / "accounting-1337.tgz").read_bytes() == built["1337"].read_bytes()
    assert artifact("pull", "accounting-1337", "--output", tmp_path)[0] == 0
    assert not list(tmp_path.glob(".*"))


def test_a_version_is_never_replaced(artifact: Run, built: dict[str, Path], root: Path) -> None:
    assert artifact("push", built["1337"])[0] == 0
    code, _, err = artifact("push", built["1337"])
    assert code == 0
    assert "was there already" in err
    code, out, err = artifact("push", built["1337b"])
    assert (code, out) == (5, "")
    assert "has another accounting-1337 already: sha256:" in err
    stored = root / "accounting/artifacts/accounting-1337.tgz"
    assert stored.read_bytes() == built["1337"].read_bytes()


def test_what_is_damaged_is_neither_pushed_nor_pulled(
    artifact: Run, built: dict[str, Path], root: Path, tmp_path: Path
) -> None:
    content = bytearray(built["1337"].read_bytes())
    content[200] ^= 1
    damaged = tmp_path / "accounting-1337.tgz"
    damaged.write_bytes(content)
    assert artifact("push", damaged)[0] == 4
    assert not list(root.rglob("*.tgz"))
    assert artifact("push", built["1337"])[0] == 0
    (root / "accounting/artifacts/accounting-1337.tgz").write_bytes(content)
    assert artifact("pull", "accounting-1337")[0] == 4
    assert list(Path().iterdir()) == []


def test_a_channel_remembers_who_promoted_what_and_why(
    artifact: Run, built: dict[str, Path]
) -> None:
    for version in ("1336", "1337"):
        artifact("push", built[version])
        code, _, err = artifact(
            "promote", version, "--to", "production", "--reason", f"release {version}"
        )
        assert code == 0, err
    assert "is 1337 already" in artifact("promote", "accounting-1337", "--to", "production")[2]
    code, out, _ = artifact("ls", "accounting@production", "--json")
    there = json.loads(out)["now"]
    assert (there["digest"], there["sequence"]) == (_digest(built["1337"]), 2)
    assert there["reason"] == "release 1337"
    assert [(one["version"], one["reason"]) for one in there["history"]] == [
        ("1336", "release 1336")
    ]
    assert there["by"]
    _, out, _ = artifact("ls")
    assert out.splitlines()[1].split()[-1] == "production"
    code, out, err = artifact("pull", "accounting@production")
    assert (code, Path(out.strip()).name) == (0, "accounting-1337.tgz"), err


def _digest(path: Path) -> str:
    with opening.open_artifact(path) as opened:
        return opened.digest


def test_what_a_channel_points_to_must_have_its_digest(
    artifact: Run, built: dict[str, Path], root: Path
) -> None:
    artifact("push", built["1337"])
    artifact("promote", "1337", "--to", "production")
    (root / "accounting/artifacts/accounting-1337.tgz").write_bytes(built["1337b"].read_bytes())
    code, _, err = artifact("pull", "accounting@production")
    assert code == 4
    assert "accounting@production demands sha256:" in err


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("promote", "9", "--to", "production"), 2, "has no accounting/artifacts/accounting-9.tgz"),
        (("promote", "1337", "--to", "Production"), 2, "cannot be a channel's name"),
        (("promote", "../x", "--to", "production"), 2, "cannot be a version"),
        (("promote", "1337", "--to", "x", "--digest", "sha256:0"), 4, "not sha256:0"),
        (("promote", "1337", "--to", "x", "--good"), 5, "accounting@x is nothing, not 1337"),
        (("pull", "accounting@nowhere"), 2, "has no channel accounting@nowhere"),
        (("ls", "accounting@nowhere"), 2, "has no channel accounting@nowhere"),
        (("ls", "--prune"), 2, "--keep"),
        (("ls", "Bad Name"), 2, "cannot be an application's name"),
        (("push", "/nonexistent.tgz"), 2, "there is no file"),
    ],
)
def test_what_cannot_be_is_said_and_changes_nothing(
    artifact: Run,
    built: dict[str, Path],
    root: Path,
    arguments: tuple[str, ...],
    code: int,
    said: str,
) -> None:
    artifact("push", built["1337"])
    got, out, err = artifact(*arguments)
    assert (got, out) == (code, ""), err
    assert said in err
    assert "hint:" in err
    assert not list(root.rglob("*.json"))


def test_without_a_store_nothing_is_built_or_pushed(
    artifact: Run, built: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ARTIFACT_STORE_URL")
    for arguments in (("push", built["1337"]), ("ls",), ("build", "--push")):
        code, out, err = artifact(*arguments)
        assert (code, out) == (2, "")
        assert "no store is configured" in err


def test_a_gate_demands_that_it_was_good_elsewhere_for_long_enough(
    artifact: Run, built: dict[str, Path], root: Path
) -> None:
    Path("artifact.toml").write_text(
        'name = "accounting"\n[store.gates]\nproduction = { channel = "staging", hours = 1 }\n'
    )
    for version in ("1336", "1337"):
        artifact("push", built[version])
    to_production = ("promote", "1337", "--to", "production")

    def refused(why: str) -> None:
        code, _, err = artifact(*to_production)
        assert code == 5
        assert why in err

    refused("staging has nothing")
    artifact("promote", "1336", "--to", "staging")
    refused("staging has 1336")
    artifact("promote", "1337", "--to", "staging")
    refused("nobody has said that 1337 is good there")
    assert artifact("promote", "1337", "--to", "staging", "--good")[0] == 0
    refused("1337 is so since")
    _make_good_earlier(DirectoryStore(root), timedelta(minutes=61))
    code, _, err = artifact(*to_production)
    assert code == 0, err


def _make_good_earlier(store: DirectoryStore, by: timedelta) -> None:
    there = channels.read_channel(store, "accounting", "staging")
    found = store.pointer("accounting/channels/staging.json")
    assert there is not None
    assert found is not None
    earlier = (datetime.now(UTC) - by).strftime("%Y-%m-%dT%H:%M:%SZ")
    changed = msgspec.structs.replace(there, good_at=earlier)
    content = msgspec.json.encode(changed)
    assert store.swap("accounting/channels/staging.json", content, found[1])


def test_pruning_keeps_the_newest_and_what_a_channel_points_to(
    artifact: Run, built: dict[str, Path], root: Path
) -> None:
    for version in ("1338", "1336", "1337"):  # in no order of time
        artifact("push", built[version])
    artifact("promote", "1336", "--to", "production")
    shared = root / "accounting/environments/abc.json"
    shared.parent.mkdir()
    shared.write_text('{"artifact": "accounting/artifacts/accounting-1337.tgz"}')
    code, planned, _ = artifact("ls", "--prune", "--keep", "1", "--plan")
    assert code == 0
    assert len(list(root.rglob("*.tgz"))) == 3
    code, out, _ = artifact("ls", "--prune", "--keep", "1")
    assert (code, out) == (0, planned)
    assert [line.split(" (")[0] for line in out.splitlines()] == [
        "keep accounting-1338",
        "delete accounting-1337",
        "keep accounting-1336",
    ]
    left = {path.name for path in root.rglob("*.tgz")}
    assert left == {"accounting-1336.tgz", "accounting-1338.tgz"}
    assert not shared.exists()


def test_what_cannot_be_read_is_never_pruned(
    artifact: Run, built: dict[str, Path], root: Path
) -> None:
    artifact("push", built["1337"])
    (root / "accounting/artifacts/accounting-1000.tgz").write_bytes(b"not an artifact")
    code, out, err = artifact("ls", "--prune", "--keep", "1")
    assert code == 0
    assert "keep accounting-1000" in out
    assert "warning:" in err
