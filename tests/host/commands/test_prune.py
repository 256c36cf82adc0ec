"""What a prune deletes, and above all what it never does."""

from __future__ import annotations

import calendar
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from artifact.host.commands import prune as pruning
from artifact.host.records import history, journal, state
from artifact.manifest import Install
from surroundings.waiting import await_
from tests.host import interrupted
from tests.host.machine import Machine

NONE = Install(restart="none", keep=100)
NOW = time.time()
DAY = 86400.0


def installed(machine: Machine, *versions: str, install: Install = NONE) -> None:
    for version in versions:
        done = machine.install(machine.build(version, install=install))
        assert done.returncode == 0, done.stderr


def prune(machine: Machine, *options: str) -> subprocess.CompletedProcess[str]:
    return machine.run("prune", str(machine.site.root), *options)


def here(machine: Machine) -> set[str]:
    return set(history.versions_on_disk(machine.site))


def judge(machine: Machine, version: str, verdict: journal.ReleaseState) -> None:
    """Write a verdict on a release into the journal, as an install of it would have."""
    site = machine.site
    record = journal.begin(site.journal, command="install", version=version, digest="", previous="")
    record.release(version, verdict, reason="for the test")
    record.over(5, "for the test")


@contextmanager
def leased(machine: Machine, version: str) -> Iterator[None]:
    """Have a process of a release live, as far as anybody can tell."""
    path = machine.site.lease(version)
    path.parent.mkdir(exist_ok=True)
    with path.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_SH)
        yield


def test_the_newest_good_ones_stay_and_the_rest_goes(machine: Machine) -> None:
    installed(machine, "9", "8", "7", "6", "5")
    os.utime(machine.site.release("9"), (NOW + DAY, NOW + DAY))
    before = here(machine)
    planned = prune(machine, "--keep", "3", "--plan")
    assert planned.returncode == 0, planned.stderr
    assert "good, but not among the newest 3" in planned.stdout
    assert "current" in planned.stdout
    assert here(machine) == before

    document = json.loads(prune(machine, "--keep", "3", "--json").stdout)
    assert [one["name"] for one in document["delete"]] == ["8", "9"]
    assert all(one["size"] > 0 for one in document["delete"])
    assert here(machine) == {"7", "6", "5"}
    assert machine.leftovers() == []
    told = history.tell_of(journal.read(machine.site.journal))
    assert {v for v, record in told.items() if record.state == "removed"} == {"8", "9"}
    assert "nothing to do" in prune(machine, "--keep", "3").stderr


def test_what_is_in_use_stays_whatever_is_asked(machine: Machine) -> None:
    installed(machine, "1", "2", "3", "4", "5")
    state.write(machine.site.state, state.State(slots={"web": ("1", "")}))
    with leased(machine, "2"):
        assert prune(machine, "--keep", "1").returncode == 0
        # Slot, lease, previous, current.
        assert here(machine) == {"1", "2", "4", "5"}
        listed = machine.run("releases", str(machine.site.root), "--json")
        uses = {row["release"]: row["uses"] for row in json.loads(listed.stdout)["releases"]}
        assert uses == {
            "5": ["current"],
            "4": ["previous"],
            "2": ["leased"],
            "1": ["slot 0 of web"],
        }
    assert prune(machine, "--keep", "1").returncode == 0
    assert here(machine) == {"1", "4", "5"}


@pytest.mark.slow
def test_a_worker_that_drains_keeps_its_release(machine: Machine) -> None:
    """It imports from it as late as it likes; the lease is inherited by all that it starts."""
    machine.start_supervisord()
    installed(machine, "1", install=Install())
    worker = subprocess.Popen(
        [
            *[sys.executable, "-m", "artifact", "exec", str(machine.site.root)],
            "--process",
            "web",
            "--trial",
            "1",
        ],
        env=machine.variables(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        await_(
            "the worker", lambda: b"gunicorn" in Path(f"/proc/{worker.pid}/cmdline").read_bytes()
        )
        installed(machine, "2", "3", install=Install(keep=1))
        assert here(machine) == {"1", "2", "3"}
    finally:
        worker.terminate()
        worker.wait(20)
    assert prune(machine, "--keep", "1").returncode == 0
    assert here(machine) == {"2", "3"}
    assert machine.get() == "3"


def test_failed_ones_stay_for_a_week(machine: Machine) -> None:
    installed(machine, "bad", "left", "1", "2")
    judge(machine, "bad", "failed")
    judge(machine, "left", "rolled-back")
    kept = {one.version: one.reason for one in pruning.plan(machine.site, 1).kept}
    assert kept["bad"] == "failed, for 7 days"
    later = pruning.plan(machine.site, 1, now=NOW + 7 * DAY + 3600)
    assert {one.name for one in later.doomed if one.kind == "release"} == {"bad", "left"}
    assert pruning.plan(machine.site, 1, now=NOW - 30 * DAY).doomed == ()


def test_what_the_journal_does_not_know_is_left_alone(machine: Machine) -> None:
    installed(machine, "1")
    (machine.site.releases / "by-hand").mkdir()
    planned = prune(machine, "--keep", "1", "--plan")
    assert "not in the journal" in planned.stdout
    assert prune(machine, "--keep", "1").returncode == 0
    assert "by-hand" in here(machine)


def test_an_environment_goes_a_day_after_its_last_release(machine: Machine) -> None:
    installed(machine, "1")
    used = machine.site.environment("e" * 32)
    unused = machine.site.environment("f" * 32)
    unused.mkdir()
    (unused / "file").write_text("x")
    assert prune(machine).returncode == 0
    assert unused.exists()
    at = calendar.timegm(time.gmtime())
    planned = pruning.plan(machine.site, 1, now=at + DAY + 60)
    assert [(one.kind, one.path) for one in planned.doomed] == [("environment", unused)]
    (machine.site.private / "unused.json").write_text(json.dumps({"f" * 32: at - DAY - 60}))
    assert prune(machine).returncode == 0
    assert (used.exists(), unused.exists()) == (True, False)
    assert machine.leftovers() == []


def test_an_install_prunes_to_what_its_configuration_says(machine: Machine) -> None:
    installed(machine, "1", "2", "3", "4", install=Install(restart="none", keep=2))
    assert here(machine) == {"3", "4"}
    machine.site.settings.write_text("[install]\nkeep = 3\n")
    installed(machine, "5", "6", install=Install(restart="none", keep=2))
    assert here(machine) == {"4", "5", "6"}


def test_a_killed_prune_leaves_whole_releases_only(machine: Machine) -> None:
    installed(machine, "1", "2", "3", "4")
    child = interrupted.strike(
        *("SIGKILL", "progress", "prune", str(machine.site.root), "--keep", "1"),
        env=machine.variables(),
    )
    assert child.returncode == -signal.SIGKILL, child.stderr
    assert machine.leftovers() != []
    recovered = machine.run("recover", str(machine.site.root))
    assert recovered.returncode == 0, recovered.stderr
    assert machine.leftovers() == []
    assert here(machine) == {"3", "4"}
    told = history.tell_of(journal.read(machine.site.journal))
    assert {v for v, record in told.items() if record.state != "removed"} == here(machine)


def test_five_thousand_releases_cost_no_more_than_a_second(machine: Machine) -> None:
    installed(machine, "1", "2")

    def seconds() -> float:
        # The processor's: those on a clock depend on who else works.
        began = os.times()
        assert machine.run("releases", str(machine.site.root)).returncode == 0
        assert prune(machine, "--keep", "10000", "--plan").returncode == 0
        ended = os.times()
        spent = ended.children_user - began.children_user
        return spent + ended.children_system - began.children_system

    few = seconds()
    manifest = (machine.site.release("1") / ".artifact" / "manifest.json").read_bytes()
    lines = []
    for number in range(5000):
        version = f"many-{number}"
        private = machine.site.release(version) / ".artifact"
        private.mkdir(parents=True)
        (private / "manifest.json").write_bytes(manifest)
        (private.parent / "virtualenv").symlink_to(f"../../virtualenv/{'e' * 32}")
        place = {"sequence": 1000 + number, "run": "x", "time": "2026-01-01T00:00:00.000Z"}
        lines.append(json.dumps({**place, "event": "release", "version": version, "state": "good"}))
    with machine.site.journal.open("a") as stream:
        stream.write("\n".join(lines) + "\n")
    many = seconds()
    assert many < few + 2 * 1.0, f"{many:.1f} s instead of {few:.1f}"


def test_a_download_that_did_not_end_waits_a_day_or_for_the_next_install(machine: Machine) -> None:
    installed(machine, "1")
    left = machine.site.downloads / ("a" * 64)
    left.parent.mkdir(exist_ok=True)
    with left.open("wb") as stream:
        stream.seek(50_000_000)
        stream.write(b"what arrived")
    assert prune(machine).returncode == 0
    assert left.exists()
    old = time.time() - DAY - 60
    os.utime(left, (old, old))
    planned = prune(machine, "--plan")
    assert f"download {'a' * 12}" in planned.stdout
    assert "nobody has gone on with this download for 24 hours" in planned.stdout
    assert left.exists()
    assert prune(machine).returncode == 0
    assert not left.exists()

    left.write_bytes(b"what arrived of a release that was given up")
    installed(machine, "2")
    assert not left.exists()
