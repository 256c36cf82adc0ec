"""A frozen site stays as it is, and one that would go backwards is asked twice."""

from __future__ import annotations

import os

from artifact.manifest import Install
from tests.host.machine import Machine

NONE = Install(restart="none")


def test_a_frozen_site_refuses_and_says_who_and_why(machine: Machine) -> None:
    root = str(machine.site.root)
    for version in ("1", "2"):
        assert machine.install(machine.build(version, install=NONE)).returncode == 0
    frozen = machine.run("freeze", "inventory until Monday", root)
    assert frozen.returncode == 0, frozen.stderr
    third = machine.build("3", install=NONE)
    for refused in (
        machine.install(third),
        machine.install(third, "--plan"),
        machine.run("rollback", root),
    ):
        assert refused.returncode == 5
        assert "is frozen by " in refused.stderr
        assert "inventory until Monday" in refused.stderr
    assert os.readlink(machine.site.current) == "2"
    assert not machine.site.release("3").exists()

    other = machine.run("freeze", "another reason", root)
    assert other.returncode == 5
    assert "inventory until Monday" in other.stderr
    assert machine.run("freeze", "inventory until Monday", root).returncode == 0

    urgent = machine.run("rollback", root, "--despite-freeze")
    assert urgent.returncode == 0, urgent.stderr
    assert "rolled back all the same" in urgent.stderr
    assert os.readlink(machine.site.current) == "1"
    assert "inventory until Monday" in machine.run("status", root).stdout

    thawed = machine.run("thaw", root)
    assert "it was frozen by" in thawed.stderr
    assert "was not frozen" in machine.run("thaw", root).stderr
    assert machine.install(third).returncode == 0


def test_what_cannot_be_read_freezes_as_well(machine: Machine) -> None:
    assert machine.install(machine.build("1", install=NONE)).returncode == 0
    (machine.site.private / "frozen.json").write_text("{")
    refused = machine.install(machine.build("2", install=NONE))
    assert refused.returncode == 5
    assert "frozen.json" in refused.stderr
    assert machine.run("thaw", str(machine.site.root)).returncode == 0
    assert machine.install(machine.build("2", install=NONE)).returncode == 0


def test_an_older_artifact_is_not_installed_by_mistake(machine: Machine) -> None:
    newer = machine.build("5", install=NONE, sequence=5)
    older = machine.build("4", install=NONE, sequence=4)
    unknown = machine.build("0", install=NONE, sequence=0)
    assert machine.install(newer).returncode == 0
    for refused in (machine.install(older), machine.install(older, "--plan")):
        assert refused.returncode == 5
        assert "pages-4 is older than the live 5" in refused.stderr
        assert "--allow-downgrade" in refused.stderr
    assert not machine.site.release("4").exists()
    assert machine.install(older, "--allow-downgrade").returncode == 0
    assert os.readlink(machine.site.current) == "4"
    assert machine.install(unknown).returncode == 0
