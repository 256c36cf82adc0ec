"""Installing what lies in a store: by name, by channel, with as little fetched as can be."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from artifact.manifest import Install
from artifact.stores import addresses, channels
from artifact.stores.channels import Candidate
from artifact.stores.directory import DirectoryStore
from tests.host.machine import NAME, Machine

NOTHING_RUNS = Install(restart="none")


def put(machine: Machine, version: str, **options: object) -> Path:
    """Build an artifact of the machine's application and put it into its store."""
    built = machine.build(version, install=NOTHING_RUNS, **options)  # type: ignore[arg-type]
    path = machine.directory / "store" / addresses.artifact(NAME, version)
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(built, path)
    return path


def promote(machine: Machine, channel: str, version: str, digest: str) -> None:
    store = DirectoryStore(machine.directory / "store")
    channels.promote(store, Candidate(NAME, version, digest), channel)


@pytest.fixture
def stocked(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """A machine whose site.toml names a store with two releases."""
    monkeypatch.setenv("ARTIFACT_ROOT", str(machine.site.root))
    put(machine, "1")
    put(machine, "2")
    machine.site.root.mkdir()
    machine.site.settings.write_text(f'[store]\nurl = "{machine.directory}/store"\n')
    return machine


def digest_of(machine: Machine, version: str) -> str:
    path = machine.directory / "store" / addresses.artifact(NAME, version)
    return str(json.loads(machine.run("inspect", "--json", str(path)).stdout)["digest"])


def test_a_name_is_found_in_the_store_and_the_next_release_fetches_next_to_nothing(
    stocked: Machine,
) -> None:
    plan = stocked.run("install", "pages-1", "--plan")
    assert plan.returncode == 0, plan.stderr
    assert "to fetch" in plan.stdout
    assert not stocked.site.releases.exists()
    first = stocked.run("install", f"{NAME}-1.tgz", "--probation", "0s")
    assert first.returncode == 0, first.stderr
    assert "MB fetched" in first.stderr

    before = json.loads(stocked.run("install", "pages-2", "--plan", "--json").stdout)
    second = stocked.run("install", "pages-2", "--probation", "0s")

    assert second.returncode == 0, second.stderr
    assert 0 <= before["fetch"] < 20_000
    assert "reuse the environment" in second.stderr
    assert stocked.site.current.resolve().name == "2"
    assert list(stocked.site.downloads.iterdir()) == []
    assert stocked.leftovers() == []


def test_a_channel_is_installed_only_with_its_digest(stocked: Machine) -> None:
    promote(stocked, "staging", "1", digest_of(stocked, "1"))
    done = stocked.run("install", "pages@staging", "--probation", "0s")
    assert done.returncode == 0, done.stderr
    promote(stocked, "staging", "2", "sha256:" + "0" * 64)
    refused = stocked.run("install", "pages@staging", "--probation", "0s")
    assert refused.returncode == 4
    assert "pages@staging demands sha256:000" in refused.stderr
    assert stocked.site.current.resolve().name == "1"


@pytest.mark.parametrize(
    ("reference", "status", "said"),
    [
        ("pages@nowhere", 2, "no channel"),
        ("pages-99", 2, "pages-99"),
        ("no reference at all", 2, "nothing in a store is called so"),
        ("./pages-1.tgz", 2, "there is no file"),
    ],
)
def test_what_is_not_there_is_said_and_nothing_is_made(
    stocked: Machine, reference: str, status: int, said: str
) -> None:
    done = stocked.run("install", reference)
    assert done.returncode == status, done.stderr
    assert said in done.stderr
    assert not stocked.site.private.exists()


def test_a_damaged_artifact_in_the_store_changes_nothing(stocked: Machine) -> None:
    assert stocked.run("install", "pages-1", "--probation", "0s").returncode == 0
    path = put(stocked, "3", files={"noise.py": "x = 1\n" * 100_000})
    content = bytearray(path.read_bytes())
    # In the code, whose members follow the environment's.
    environment = stocked.environment.packed
    content[environment.data + environment.toc + 100] ^= 1
    path.write_bytes(content)
    done = stocked.run("install", "pages-3", "--probation", "0s")
    assert done.returncode == 4, done.stderr
    assert stocked.site.current.resolve().name == "1"
    assert not stocked.site.release("3").exists()
    assert stocked.leftovers() == []


def test_a_wrong_setting_of_the_store_is_named_with_its_key(stocked: Machine) -> None:
    stocked.site.settings.write_text('[store]\nurll = "/x"\n')
    done = stocked.run("install", "pages-1")
    assert done.returncode == 2
    assert "site.toml: store.urll" in done.stderr
