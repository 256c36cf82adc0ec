"""`artifact cache`: what it lists, explains, finds and removes."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from artifact import files
from artifact.building.environments import environment, marker
from artifact.building.environments.environment import Environment
from artifact.cli import run
from tests.building.sites import Bench
from tests.cli import schemas


@pytest.fixture
def site(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """A bench whose caches are those of the command line, in an empty directory."""
    monkeypatch.setenv("ARTIFACT_CACHE", str(bench.caches.shared))
    monkeypatch.chdir(bench.base)
    return bench


def cache(site: Bench, *arguments: str) -> int:
    return run(["cache", *arguments, "--root", site.caches.root])


def document(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    return schemas.check(capsys.readouterr().out)


def make(site: Bench, *versions: str) -> list[Environment]:
    made = []
    for days, version in enumerate(versions):
        site.require(site.wheel("ledger", version))
        made.append(site.ensure())
        site.pack(made[-1])
        # Each was last used a week after the one before; the last one now.
        when = time.time() - (len(versions) - 1 - days) * 7 * 86400
        os.utime(site.caches.used(made[-1].key, site.name), (when, when))
    return made


def left(site: Bench) -> set[str]:
    return set(marker.keys(site.caches))


def test_ls_lists_the_newest_first(site: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    old, new = make(site, "1.0", "1.1")
    assert cache(site, "ls") == 0
    header, first, second = capsys.readouterr().out.splitlines()
    assert header.split() == ["KEY", "PYTHON", "PACKAGES", "SIZE", "LAST", "USED", "BY"]
    assert first.startswith(new.key[:12])
    assert first.endswith("accounting")
    assert second.startswith(old.key[:12])
    assert cache(site, "ls", "--json") == 0
    listed = document(capsys)["environments"]
    assert [one["key"] for one in listed] == [new.key, old.key]
    assert listed[0]["packages"] == {"ledger": "1.1"}
    assert listed[0]["bytes"] > site.caches.pack(new.key).stat().st_size


def test_ls_of_nothing_is_nothing(site: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    assert cache(site, "ls") == 0
    assert capsys.readouterr().out == ""


def test_why_repeats_the_reasons_of_the_last_miss(
    site: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cache(site, "why") == 0
    assert "no build on this machine" in capsys.readouterr().err
    old, new = make(site, "1.0", "1.1")
    site.ensure()
    assert cache(site, "why") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith(f"accounting compiled {new.key[:12]}")
    assert old.key[:12] in lines[1]
    assert lines[2:] == ["  ledger 1.0 → 1.1"]
    assert cache(site, "why", "--json") == 0
    assert document(capsys)["why"]["reasons"] == ["ledger 1.0 → 1.1"]


def test_verify_finds_one_changed_byte_whatever_its_time(
    site: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new = make(site, "1.0", "1.1")
    assert cache(site, "verify") == 0
    assert capsys.readouterr().out.count("intact") == 2
    path = next(old.path.rglob("ledger.py"))
    before = path.stat()
    path.chmod(0o644)
    path.write_text(path.read_text().replace("1.0", "1.7"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert cache(site, "verify") == 5
    printed = capsys.readouterr()
    assert f"{old.key[:12]}  {path.relative_to(old.path)} was changed" in printed.out
    assert "1 of 2 environments" in printed.err
    assert cache(site, "verify", new.key[:8]) == 0
    assert cache(site, "verify", "nothing") == 2


def test_prune_keeps_the_newest_and_what_was_used_lately(
    site: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    made = make(site, "1.0", "1.1", "1.2", "1.3")
    keys = [one.key for one in made]
    assert cache(site, "prune", "--keep", "1", "--days", "10", "--plan") == 0
    assert capsys.readouterr().out.count("would be removed") == 2
    assert left(site) == set(keys)
    assert cache(site, "prune", "--keep", "1", "--days", "10") == 0
    assert left(site) == set(keys[2:])
    assert capsys.readouterr().out.count(": removed") == 2
    assert not list(site.caches.beside.glob(f"{keys[0]}.[psu]*")), "pack, stamp, uses"
    assert cache(site, "prune", "--keep", "1", "--days", "0") == 0
    assert left(site) == {keys[3]}


def test_prune_spares_what_a_build_uses_or_makes(
    site: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    used, built = make(site, "1.0", "1.1")
    (built.path).chmod(0o755)
    (built.path / marker.NAME).unlink()
    with (
        environment.in_use(used, site.caches),
        files.locked(site.caches.lock(built.key), doing="building"),
    ):
        assert cache(site, "prune", "--keep", "0", "--days", "0") == 0
        assert left(site) == {used.key, built.key}
    assert capsys.readouterr().out.count("stays, in use") == 2
    assert cache(site, "prune", "--keep", "0", "--days", "0") == 0
    assert left(site) == set()


def test_prune_spares_what_a_release_on_this_machine_runs_from(site: Bench) -> None:
    (made,) = make(site, "1.0")
    release = Path(site.caches.root) / "releases" / "1337"
    release.mkdir(parents=True)
    (release / "virtualenv").symlink_to(f"../../virtualenv/{made.key}")
    assert cache(site, "prune", "--keep", "0", "--days", "0") == 0
    assert left(site) == {made.key}


def test_prune_removes_the_unfinished_and_what_lies_about_but_nothing_of_others(
    site: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    (made,) = make(site, "1.0")
    unfinished = site.caches.environment("0" * 32)
    (unfinished / "lib").mkdir(parents=True)
    orphan = site.caches.pack("1" * 32)
    orphan.touch()
    foreign = site.caches.environments / "venv"
    foreign.mkdir()
    assert cache(site, "prune", "--json") == 0
    removed = document(capsys)["removals"]
    assert {one["path"]: one["reason"] for one in removed} == {
        str(unfinished): "not finished",
        str(orphan): "its environment is gone",
    }
    assert left(site) == {made.key}
    assert foreign.is_dir()
    assert not orphan.exists()


def test_prune_refuses_negative_numbers(site: Bench) -> None:
    assert cache(site, "prune", "--keep", "-1") == 2
