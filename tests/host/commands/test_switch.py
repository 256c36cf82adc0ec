"""Staging and switching apart: what stands ready, what changes when, and what is refused."""

from __future__ import annotations

import json
import os
import subprocess

from artifact.host.commands import prune
from artifact.host.records import history, journal
from artifact.manifest import Install
from surroundings.waiting import await_
from tests.host import interrupted
from tests.host.machine import Machine, load

NONE = Install(restart="none")


def stage(machine: Machine, version: str, *options: str) -> subprocess.CompletedProcess[str]:
    return machine.run("install", "--stage", str(machine.build(version, install=NONE)), *options)


def switch(machine: Machine, *options: str) -> subprocess.CompletedProcess[str]:
    return machine.run("switch", str(machine.site.root), "--probation", "0s", *options)


def live(machine: Machine) -> str:
    return os.readlink(machine.site.current) if machine.site.current.is_symlink() else ""


def state(machine: Machine, version: str) -> str:
    return history.records_of(machine.site)[version].state


def pids(machine: Machine) -> dict[str, int]:
    return {name: member.pid for name, member in machine.members().items()}


def test_a_staged_release_serves_nobody_until_the_switch(machine: Machine) -> None:
    machine.start_supervisord()
    assert machine.install(machine.build("1")).returncode == 0
    before = (live(machine), machine.site.state.read_bytes(), pids(machine))
    with load(machine, "/", threads=2) as seen:
        staged = machine.run("install", "--stage", str(machine.build("2")))
        assert staged.returncode == 0, staged.stderr
        assert "pages-2 is staged in" in staged.stderr
        assert (live(machine), machine.site.state.read_bytes(), pids(machine)) == before
        assert set(seen.bodies) == {"1"}
        assert state(machine, "2") == "checked"
        done = switch(machine)
        assert done.returncode == 0, done.stderr
        assert "pages-2 is live in" in done.stderr
        await_("an answer of 2", lambda: "2" in seen.bodies)
    assert seen.failures == []
    assert (live(machine), os.readlink(machine.site.previous)) == ("2", "1")
    assert state(machine, "2") == "good"


def test_a_release_that_fails_its_check_is_not_staged(machine: Machine) -> None:
    machine.start_supervisord()
    assert machine.install(machine.build("1")).returncode == 0
    refused = machine.run("install", "--stage", str(machine.build("2", health="500 Oops")))
    assert refused.returncode == 5, refused.stderr
    assert state(machine, "2") == "failed"
    assert machine.get() == "1"
    nothing = switch(machine)
    assert nothing.returncode == 5
    assert "nothing is staged in" in nothing.stderr
    assert "artifact install --stage" in nothing.stderr


def test_the_release_staged_last_is_meant_or_the_one_that_is_named(machine: Machine) -> None:
    assert machine.install(machine.build("1", install=NONE)).returncode == 0
    for version in ("2", "3"):
        assert stage(machine, version).returncode == 0
    assert history.staged(machine.site) == ["2", "3"]
    planned = switch(machine, "--plan")
    assert planned.returncode == 0, planned.stderr
    assert f"switch {machine.site.current} to 3 (was 1)" in planned.stdout
    assert live(machine) == "1"
    unknown = switch(machine, "4")
    assert unknown.returncode == 5
    assert "4 is not staged in" in unknown.stderr
    assert "staged: 2, 3" in unknown.stderr
    assert switch(machine, "2").returncode == 0
    assert live(machine) == "2"
    assert history.staged(machine.site) == ["3"]
    assert switch(machine).returncode == 0
    assert live(machine) == "3"
    again = switch(machine)
    assert again.returncode == 5
    assert f"nothing is staged in {machine.site.root}; 3 is live" in again.stderr
    assert f"artifact rollback {machine.site.root} 2" in switch(machine, "2").stderr


def test_a_rollback_after_a_switch_goes_to_what_was_live_before(machine: Machine) -> None:
    assert machine.install(machine.build("1", install=NONE)).returncode == 0
    assert stage(machine, "2").returncode == 0
    # Installed after it was staged, and yet the older one: the switch makes 2 the newest.
    assert machine.install(machine.build("3", install=NONE)).returncode == 0
    assert switch(machine, "2").returncode == 0
    back = machine.run("rollback", str(machine.site.root), "--probation", "0s")
    assert back.returncode == 0, back.stderr
    assert live(machine) == "3"


def test_a_switch_to_an_older_release_is_asked_twice(machine: Machine) -> None:
    old = machine.build("1", install=NONE, sequence=1)
    staged = machine.run("install", "--stage", str(old))
    assert staged.returncode == 0, staged.stderr
    assert machine.install(machine.build("2", install=NONE, sequence=2)).returncode == 0
    refused = switch(machine)
    assert refused.returncode == 5
    assert "pages-1 is older than the live 2" in refused.stderr
    assert live(machine) == "2"
    assert switch(machine, "--allow-downgrade").returncode == 0
    assert live(machine) == "1"


def test_a_frozen_site_stages_and_switches_nothing(machine: Machine) -> None:
    assert stage(machine, "1").returncode == 0
    assert machine.run("freeze", "inventory", str(machine.site.root)).returncode == 0
    for refused in (switch(machine), stage(machine, "2")):
        assert refused.returncode == 5
        assert "inventory" in refused.stderr
    assert machine.run("thaw", str(machine.site.root)).returncode == 0
    assert switch(machine).returncode == 0
    assert live(machine) == "1"


def test_what_is_staged_is_kept_and_said_to_be(machine: Machine) -> None:
    assert machine.install(machine.build("1", install=NONE)).returncode == 0
    assert stage(machine, "2").returncode == 0
    late = history.records_of(machine.site)["2"].time
    kept = {one.version: one.reason for one in prune.plan(machine.site, 1, now=4e9).kept}
    assert kept == {"1": "current", "2": "staged"}, late
    assert "staged" in machine.run("releases", str(machine.site.root)).stdout


def test_staging_that_is_killed_leaves_nothing_staged_and_can_be_repeated(
    machine: Machine,
) -> None:
    assert machine.install(machine.build("1", install=NONE)).returncode == 0
    path = str(machine.build("2", install=NONE))
    for where in ("started:unpack-release", "started:check"):
        struck = interrupted.strike(
            "SIGKILL", where, "install", "--stage", path, env=machine.variables()
        )
        assert struck.returncode == -9, struck.stderr
        assert history.staged(machine.site) == []
        recovered = machine.run("recover", str(machine.site.root))
        assert "cleaned up after the interrupted stage of 2" in recovered.stdout
        assert machine.leftovers() == []
    assert machine.run("install", "--stage", path).returncode == 0
    assert history.staged(machine.site) == ["2"]


def test_a_switch_that_is_killed_is_taken_back_and_can_be_repeated(machine: Machine) -> None:
    assert machine.install(machine.build("1", install=NONE)).returncode == 0
    assert stage(machine, "2").returncode == 0
    command = ("switch", str(machine.site.root), "--probation", "0s")
    struck = interrupted.strike("SIGKILL", "started:check", *command, env=machine.variables())
    assert struck.returncode == -9, struck.stderr
    assert switch(machine, "--plan").returncode == 0  # before the switch: it is staged as it was
    struck = interrupted.strike("SIGKILL", "ended:switch", *command, env=machine.variables())
    assert struck.returncode == -9, struck.stderr
    assert machine.run("recover", str(machine.site.root)).returncode == 0
    assert (live(machine), state(machine, "2")) == ("1", "rolled-back")
    assert switch(machine).returncode == 5
    assert stage(machine, "2").returncode == 0
    assert switch(machine).returncode == 0
    assert live(machine) == "2"


def test_both_answer_in_json(machine: Machine) -> None:
    staged = json.loads(stage(machine, "1", "--json").stdout)
    assert [step["name"] for step in staged["steps"]][-1] == "check"
    planned = json.loads(switch(machine, "--plan", "--json").stdout)
    done = json.loads(switch(machine, "--json").stdout)
    assert planned["problems"] == []
    assert (done["command"], done["release"], done["previous"]) == ("switch", "1", "")
    assert [step["name"] for step in done["steps"]] == ["check", "migrations", "switch", "finish"]


def test_what_changed_since_it_was_staged_is_refused_and_staged_again(machine: Machine) -> None:
    assert machine.install(machine.build("1", install=NONE)).returncode == 0
    assert stage(machine, "2").returncode == 0
    code = machine.site.release("2") / "lazy.py"
    code.chmod(0o644)
    code.write_text("VERSION = 'evil'\n")
    refused = switch(machine)
    assert refused.returncode == 5
    assert "pages-2 is not as it was staged: lazy.py" in refused.stderr
    assert live(machine) == "1"
    assert stage(machine, "2").returncode == 0
    assert switch(machine).returncode == 0
    assert code.read_text() == 'VERSION = "2"\n'


def test_a_shared_path_that_a_server_adds_later_is_linked_before_the_switch(
    machine: Machine,
) -> None:
    assert stage(machine, "1").returncode == 0
    machine.site.settings.write_text('[install]\nrestart = "none"\nshared = ["media/"]\n')
    refused = switch(machine)
    assert refused.returncode == 5
    assert "media is not the link to shared/media" in refused.stderr
    assert stage(machine, "1").returncode == 0
    assert switch(machine).returncode == 0
    assert (machine.site.current / "media").resolve() == machine.site.shared / "media"


def test_signers_that_a_server_adds_later_are_asked_at_the_switch(machine: Machine) -> None:
    assert stage(machine, "1").returncode == 0
    signers = machine.directory / "signers"
    signers.write_text("")
    machine.site.settings.write_text(f'signers = "{signers}"\n[install]\nrestart = "none"\n')
    refused = switch(machine)
    assert refused.returncode == 4, refused.stderr
    assert "is not signed" in refused.stderr
    assert live(machine) == ""


def test_what_became_live_waits_no_more_nor_what_was_staged_before_it(machine: Machine) -> None:
    for version in ("1", "2", "3"):
        assert stage(machine, version).returncode == 0
    assert switch(machine, "2").returncode == 0
    assert history.staged(machine.site) == ["3"]
    again = switch(machine, "2")
    assert (again.returncode, "pages-2 is already live in" in again.stderr) == (0, True)
    assert machine.install(machine.build("3", install=NONE)).returncode == 0
    assert history.staged(machine.site) == []


def test_a_release_whose_check_fails_at_the_switch_stays_staged(machine: Machine) -> None:
    assert stage(machine, "1").returncode == 0
    python = machine.site.release("1").resolve() / "virtualenv" / "bin" / "python"
    broken = python.resolve()
    machine.site.variables.write_text("no line at all\n")
    assert switch(machine).returncode in {2, 5}, broken
    assert history.staged(machine.site) == ["1"]
    machine.site.variables.write_text("")
    assert switch(machine).returncode == 0


def test_staging_that_died_when_all_was_done_is_finished(machine: Machine) -> None:
    path = str(machine.build("1", install=NONE))
    struck = interrupted.strike(
        "SIGKILL", "ended:check", "install", "--stage", path, env=machine.variables()
    )
    assert struck.returncode == -9, struck.stderr
    recovered = machine.run("recover", str(machine.site.root))
    assert "finished the interrupted stage of 1" in recovered.stdout
    assert history.staged(machine.site) == ["1"]
    assert switch(machine).returncode == 0


def test_a_signal_after_the_commit_does_not_call_it_stopped(machine: Machine) -> None:
    path = str(machine.build("1", install=NONE))
    struck = interrupted.strike(
        "SIGTERM", "ended:finish", "install", path, "--probation", "0s", env=machine.variables()
    )
    assert struck.returncode == 0, struck.stderr
    assert (live(machine), state(machine, "1")) == ("1", "good")
    last = journal.last_run(machine.site.journal)
    assert last is not None
    assert last.over is not None
    assert last.over.code == 0


def test_migrations_belong_to_the_switch(machine: Machine) -> None:
    refused = stage(machine, "1", "--migrate")
    assert refused.returncode == 2
    assert "--stage runs no migrations" in refused.stderr
