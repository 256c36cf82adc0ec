"""Going back: to which release, what is refused, and what a crash leaves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from artifact import files
from artifact.host.records import history, journal
from artifact.manifest import Install, Python
from surroundings.waiting import await_
from tests.host import interrupted
from tests.host.machine import Machine, load
from tests.host.shop import Shop

NONE = Install(restart="none")


def installed(machine: Machine, *versions: str) -> None:
    for version in versions:
        done = machine.install(machine.build(version, install=NONE))
        assert done.returncode == 0, done.stderr


def rollback(machine: Machine, *options: str) -> subprocess.CompletedProcess[str]:
    return machine.run("rollback", str(machine.site.root), "--probation", "0s", *options)


def live(machine: Machine) -> str:
    return os.readlink(machine.site.current)


def states(machine: Machine) -> dict[str, str]:
    return {version: record.state for version, record in history.records_of(machine.site).items()}


@pytest.mark.slow
def test_no_request_is_lost_on_the_way_back(machine: Machine) -> None:
    machine.start_supervisord()
    for version in ("1", "2"):
        assert machine.install(machine.build(version)).returncode == 0
    with load(machine, "/", "/slow", threads=4) as seen:
        await_("an answer of 2", lambda: "2" in seen.bodies)
        done = rollback(machine)
        assert done.returncode == 0, done.stderr
        assert "pages-1 is live again" in done.stderr
        await_("an answer of 1", lambda: "1" in seen.bodies)
    assert seen.failures == []
    assert machine.get() == "1"
    assert states(machine) == {"2": "rolled-back", "1": "good"}
    assert machine.run("status", str(machine.site.root)).returncode == 0


def test_it_goes_to_the_newest_good_one_in_the_order_of_installs(machine: Machine) -> None:
    installed(machine, "1.10", "1.9", "1.11")
    os.utime(machine.site.release("1.10"), (2_000_000_000, 2_000_000_000))
    assert rollback(machine).returncode == 0
    assert live(machine) == "1.9"
    assert os.readlink(machine.site.previous) == "1.10"
    assert rollback(machine).returncode == 0
    assert live(machine) == "1.10"
    assert not machine.site.previous.is_symlink()
    assert states(machine) == {"1.11": "rolled-back", "1.9": "rolled-back", "1.10": "good"}

    refused = rollback(machine)
    assert refused.returncode == 5
    assert "no good release older than 1.10" in refused.stderr
    assert "1.11 (rolled-back), 1.9 (rolled-back)" in refused.stderr
    assert live(machine) == "1.10"


def test_what_was_left_is_not_chosen_again_and_can_be_named(machine: Machine) -> None:
    installed(machine, "1", "2", "3")
    assert rollback(machine).returncode == 0
    installed(machine, "4")
    assert rollback(machine).returncode == 0
    assert live(machine) == "2"
    named = rollback(machine, "3")
    assert named.returncode == 0, named.stderr
    assert "3 is rolled-back, not good" in named.stderr
    assert live(machine) == "3"
    assert states(machine)["3"] == "good"


def test_after_going_far_back_a_newer_one_is_not_chosen(machine: Machine) -> None:
    installed(machine, "1", "2", "3")
    assert rollback(machine, "1").returncode == 0
    refused = rollback(machine)
    assert refused.returncode == 5, refused.stderr
    assert "2 (good)" in refused.stderr
    assert live(machine) == "1"


def test_an_install_after_a_rollback_makes_it_good_again(machine: Machine) -> None:
    installed(machine, "1", "2")
    assert rollback(machine).returncode == 0
    installed(machine, "2")
    assert states(machine) == {"2": "good", "1": "good"}
    assert rollback(machine).returncode == 0
    assert live(machine) == "1"


def test_a_release_that_failed_is_passed_over(machine: Machine) -> None:
    installed(machine, "1", "2", "3")
    record = journal.begin(
        machine.site.journal, command="install", version="2", digest="", previous="3"
    )
    record.release("2", "failed", reason="it did not boot")
    record.over(5, "it did not boot")
    assert rollback(machine).returncode == 0
    assert live(machine) == "1"


def test_the_plan_changes_nothing_and_says_what_would_be(machine: Machine) -> None:
    installed(machine, "1", "2")
    before = machine.site.journal.read_bytes()
    planned = rollback(machine, "--plan")
    assert planned.returncode == 0, planned.stderr
    assert "back to 1 (was 2)" in planned.stdout
    document = json.loads(rollback(machine, "--plan", "--json").stdout)
    assert (document["release"], document["left"]) == ("1", "2")
    assert [step["name"] for step in document["steps"]] == ["check", "switch", "finish"]
    assert (live(machine), machine.site.journal.read_bytes()) == ("2", before)


def test_the_live_release_and_one_that_is_not_here_are_said(machine: Machine) -> None:
    installed(machine, "1")
    same = rollback(machine, "1")
    assert same.returncode == 0
    assert "already live" in same.stderr
    missing = rollback(machine, "7")
    assert missing.returncode == 5
    assert "release 7 is not in" in missing.stderr
    alone = rollback(machine)
    assert alone.returncode == 5
    assert "no good release older than 1" in alone.stderr


def test_an_older_release_that_does_not_serve_any_more_changes_nothing(machine: Machine) -> None:
    machine.start_supervisord()
    gone = "import os\nassert not os.path.exists('{}')\n"
    flag = machine.directory / "flag"
    code = gone.format(flag) + "def application(e, s):\n    s('200 OK', [])\n    return [b'1']\n"
    assert machine.install(machine.build("1", files={"app.py": code})).returncode == 0
    assert machine.install(machine.build("2")).returncode == 0
    flag.touch()
    failed = rollback(machine)
    assert failed.returncode == 5, failed.stderr
    assert machine.get() == "2"
    assert states(machine) == {"2": "good", "1": "failed"}
    assert "no good release older" in rollback(machine).stderr


def test_all_that_keeps_the_older_release_from_running_is_told_at_once(
    tmp_path: Path, django: Path
) -> None:
    shop = Shop(tmp_path / "shop", django)
    wrong = Python(
        implementation="cpython", version="3.1.4", abi="", platform="", interpreter=str(django)
    )
    install = Install(restart="none", shared=(".env",))
    shop.place("1", {}, python=wrong, install=install)
    shop.place("2", {})
    for version in ("1", "2"):
        shop.go_live(version)
    refused = shop.run("rollback")
    assert refused.returncode == 5, refused.stderr
    assert "for 2 reasons" in refused.stderr
    assert "the environment was compiled for cpython 3.1.4" in refused.stderr
    assert f"{shop.site.shared}/.env is missing" in refused.stderr
    assert os.readlink(shop.site.current) == "2"


def test_a_damaged_live_release_does_not_keep_one_from_going_back(machine: Machine) -> None:
    installed(machine, "1", "2")
    files.remove_tree(machine.site.release("2"))
    done = rollback(machine)
    assert done.returncode == 0, done.stderr
    assert "2 is not whole" in done.stderr
    assert live(machine) == "1"


@pytest.mark.parametrize(
    ("where", "ends_at"),
    [
        ("started:check", "2"),
        ("started:switch", "2"),
        ("ended:switch", "2"),
        ("ended:finish", "1"),
    ],
)
def test_a_killed_rollback_is_recovered(machine: Machine, where: str, ends_at: str) -> None:
    installed(machine, "0", "1", "2")
    child = interrupted.strike(
        *("SIGKILL", where, "rollback", str(machine.site.root), "--probation", "0s"),
        env=machine.variables(),
    )
    assert child.returncode == -signal.SIGKILL, child.stderr
    recovered = machine.run("recover", str(machine.site.root))
    assert recovered.returncode == 0, recovered.stderr
    assert "the interrupted rollback of 1 by" in recovered.stdout
    assert live(machine) == ends_at
    left = "rolled-back" if ends_at == "1" else "good"
    assert states(machine) == {"2": left, "1": "good", "0": "good"}
    assert os.readlink(machine.site.previous) == ("0" if ends_at == "1" else "1")
    assert machine.leftovers() == []
    again = machine.run("recover", str(machine.site.root), "--json")
    assert json.loads(again.stdout)["recovered"] is None
