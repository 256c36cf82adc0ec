"""Migrations in an install: how it ends when one fails, and when it is killed while one runs."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Mapping
from pathlib import Path

import pytest

from artifact.host.records import journal
from artifact.manifest import Install, MigrationPolicy
from tests.host import interrupted
from tests.host.machine import Machine
from tests.host.shop import INITIAL, sources

FIRST = {"0001_initial": INITIAL}
NOTE = 'migrations.AddField("Item", "note", CharField(max_length=20, null=True))'
TWICE = 'migrations.AddField("Item", "name", IntegerField(null=True))'
MARKED = 'safe = Safe("always")'


@pytest.fixture
def server(machine: Machine, django: Path) -> Machine:
    """A server without supervisor whose site brings Django along, and a database."""
    machine.site.root.mkdir()
    (packages,) = django.parents[1].glob("lib/python*/site-packages")
    database = {"ENGINE": "django.db.backends.sqlite3", "NAME": str(machine.directory / "db")}
    variables = {"DATABASES": json.dumps({"default": database}), "PYTHONPATH": str(packages)}
    machine.site.variables.write_text("".join(f"{k}={v}\n" for k, v in variables.items()))
    return machine


def built(
    server: Machine,
    version: str,
    migrations: Mapping[str, str],
    *,
    extra: Mapping[str, str] | None = None,
    policy: MigrationPolicy = "run",
) -> Path:
    return server.build(
        version,
        files=sources(migrations, extra=extra),
        processes={},
        install=Install(restart="none", migrations=policy),
        django="settings",
    )


def ended(server: Machine) -> int:
    """Return the exit code that the journal has of the last run."""
    run = journal.last_run(server.site.journal)
    assert run is not None
    assert run.over is not None
    return run.over.code


def test_an_install_whose_migration_fails_ends_with_what_is_true(server: Machine) -> None:
    failed = server.install(built(server, "1", {**FIRST, "0002_twice": TWICE}))
    assert (failed.returncode, ended(server)) == (7, 7), failed.stderr
    assert "run before it: shop.0001_initial" in failed.stderr
    assert not server.site.current.exists()

    # Now it is the first one that fails.
    failed = server.install(built(server, "2", {**FIRST, "0002_twice": TWICE}))
    assert (failed.returncode, ended(server)) == (5, 5), failed.stderr
    assert "nothing changed" in failed.stderr

    half = {**FIRST, "0002_half": f"{NOTE}, migrations.RunPython(lambda apps, editor: 1 / 0)"}
    marks = {"0002_half": f"atomic = False; {MARKED}"}
    failed = server.install(built(server, "3", half, extra=marks))
    assert (failed.returncode, ended(server)) == (8, 8), failed.stderr
    assert "part of it may have stayed" in failed.stderr
    assert "nothing live has changed" not in failed.stderr

    done = server.install(built(server, "4", FIRST))
    assert done.returncode == 0, done.stderr
    assert os.readlink(server.site.current) == "4"


def test_an_install_runs_what_is_asked_for_on_its_command_line(server: Machine) -> None:
    drop = {**FIRST, "0002_drop": 'migrations.RemoveField("Item", "name")'}
    first = server.install(built(server, "1", FIRST, policy="list"), "--migrate")
    assert first.returncode == 0, first.stderr
    path = built(server, "2", drop, policy="list")
    neither = server.install(path, "--allow-unsafe", "shop.0002")
    assert neither.returncode == 2, neither.stderr
    assert "add --migrate" in neither.stderr
    refused = server.install(path, "--migrate")
    assert refused.returncode == 5, refused.stderr
    assert "shop.0002_drop (Remove field name from Item)" in refused.stderr
    assert os.readlink(server.site.current) == "1"
    done = server.install(path, "--migrate", "--allow-unsafe", "shop.0002")
    assert done.returncode == 0, done.stderr
    assert "applying shop.0002_drop on default" in done.stderr
    assert os.readlink(server.site.current) == "2"


def test_who_comes_after_a_killed_install_waits_for_its_migration_and_says_what_it_did(
    server: Machine,
) -> None:
    assert server.install(built(server, "1", FIRST)).returncode == 0
    goes_on = server.directory / "goes-on"
    there = f"__import__('os').path.exists({str(goes_on)!r})"
    wait = f"[time.sleep(0.05) for _ in iter(lambda: {there}, True)]"
    slow = {
        **FIRST,
        "0002_slow": f"migrations.RunPython(lambda apps, editor: {wait}), {NOTE}",
        "0003_more": NOTE.replace("note", "more"),
    }
    path = built(server, "2", slow, extra={"0002_slow": MARKED})
    child = interrupted.strike(
        *("SIGKILL", "said:applying shop.0002_slow"),
        *("install", str(path), "--probation", "0s"),
        env=server.variables(),
    )
    assert child.returncode == -signal.SIGKILL, child.stderr
    site = str(server.site.root)
    busy = server.run("recover", site, "--wait", "0s")
    assert busy.returncode == 6, busy.stderr
    goes_on.touch()
    recovered = server.run("recover", site)
    assert recovered.returncode == 0, recovered.stderr
    assert "it had run shop.0002_slow" in recovered.stdout
    assert ended(server) == 7
    listed = server.run("migrations", site, "--release", "2")
    assert "shop.0003_more" in listed.stdout
    again = server.install(path)
    assert again.returncode == 0, again.stderr
    assert os.readlink(server.site.current) == "2"


def test_the_plan_names_what_is_new_before_anything_is_unpacked(server: Machine) -> None:
    def with_migrations(*names: str) -> Path:
        return server.build(
            str(len(names)),
            processes={},
            install=Install(restart="none"),
            migrations={"shop": names, "auth": ("0001_initial",)},
        )

    server.install(with_migrations("0001_initial"))
    planned = server.install(with_migrations("0001_initial", "0002_note", "0003_more"), "--plan")
    assert "new in it: shop.0002_note, shop.0003_more\n" in planned.stdout
    assert "0001" not in planned.stdout
    assert not server.site.release("3").exists()
