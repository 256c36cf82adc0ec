"""`artifact status`: what is told, and when it calls a site degraded."""

from __future__ import annotations

import json
import shutil

from artifact import files
from artifact.host.records import journal, state
from artifact.manifest import Install
from artifact.services.supervisor import Supervisor
from surroundings.waiting import await_
from tests.host.machine import Machine


def degraded(machine: Machine) -> str:
    """Return what status complains of; empty when all is well."""
    found = machine.run("status", str(machine.site.root), "--json")
    document = json.loads(found.stdout)
    assert found.returncode == (5 if document["problems"] else 0), found.stderr
    assert document["ok"] is not bool(document["problems"])
    return "; ".join(document["problems"])


def test_a_site_in_order_is_told_and_one_in_disorder_named(machine: Machine) -> None:
    machine.start_supervisord()
    assert machine.install(machine.build("1")).returncode == 0
    told = machine.run("status", str(machine.site.root))
    assert told.returncode == 0, told.stderr
    for part in ("live", "runs 1", "asleep", "200 OK", "install 1 by", ": done"):
        assert part in told.stdout

    Supervisor(machine.url).stop("pages-web:slot_0", 5)
    assert "pages-web:slot_0 is STOPPED; web does not answer well" in degraded(machine)
    Supervisor(machine.url).start("pages-web:slot_0")
    await_("health", lambda: not degraded(machine))


def test_a_slot_that_runs_another_release_than_the_live_one_is_named(machine: Machine) -> None:
    machine.start_supervisord()
    for version in ("1", "2"):
        assert machine.install(machine.build(version)).returncode == 0
    files.replace_link(machine.site.current, "1")
    assert "pages-web:slot_1 still runs 2" in degraded(machine)


def test_what_only_a_look_at_the_disk_can_tell(machine: Machine) -> None:
    machine.site.private.mkdir(parents=True)
    assert degraded(machine) == f"{machine.site.root} has no live release"
    none = Install(restart="none")
    assert machine.install(machine.build("1", install=none)).returncode == 0
    assert degraded(machine) == ""
    journal.begin(machine.site.journal, command="install", version="2", digest="", previous="1")
    assert degraded(machine).startswith("the install of 2 did not end")
    with files.locked(machine.site.lock, doing="installing pages-2"):
        assert degraded(machine) == ""
        assert "at work just now" in machine.run("status", str(machine.site.root)).stdout
    files.remove_tree(machine.site.release("1"))
    assert "release 1 of" in degraded(machine)


def test_supervisor_that_does_not_answer_is_a_problem(machine: Machine) -> None:
    machine.start_supervisord()
    assert machine.install(machine.build("1")).returncode == 0
    machine.stop_supervisord()
    assert "supervisor does not answer at" in degraded(machine)


def test_a_damaged_state_is_for_a_person(machine: Machine) -> None:
    machine.start_supervisord()
    assert machine.install(machine.build("1")).returncode == 0
    machine.site.state.write_text("{")
    failed = machine.install(machine.build("2"))
    assert failed.returncode == 8
    assert f"{machine.site.state} cannot be read" in failed.stderr
    state.write(machine.site.state, state.State(slots={"web": ("1", "")}))
    assert machine.install(machine.build("2")).returncode == 0


def test_a_live_release_that_somebody_deleted_does_not_stop_the_next(machine: Machine) -> None:
    none = Install(restart="none")
    assert machine.install(machine.build("1", install=none)).returncode == 0
    shutil.move(machine.site.release("1"), machine.directory / "gone")
    done = machine.install(machine.build("2", install=none))
    assert done.returncode == 0
    assert "there is no way back to it" in done.stderr
