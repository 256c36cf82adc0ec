"""Going back where the databases have migrations that the older release does not know."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from artifact.host.records import journal
from tests.host import interrupted
from tests.host.shop import INITIAL, Shop

NOTE = 'migrations.AddField("Item", "note", CharField(max_length=20, null=True))'
DROP = 'migrations.RemoveField("Item", "name")'
FIRST = {"0001_initial": INITIAL}
ADDED = {**FIRST, "0002_note": NOTE}
DROPPED = {**ADDED, "0003_drop": DROP}
CODE = {**ADDED, "0003_code": "migrations.RunPython(lambda apps, editor: None)"}


@pytest.fixture
def shop(tmp_path: Path, django: Path) -> Shop:
    """A site whose release 1 is live, with its migrations applied."""
    made = Shop(tmp_path / "shop", django)
    made.release("1", FIRST)
    made.go_live("1")
    return made


def migrated(shop: Shop, version: str, migrations: dict[str, str]) -> None:
    """Put a release live with all its migrations applied."""
    shop.release(version, migrations)
    allowed = [word for name in migrations for word in ("--allow-unsafe", f"shop.{name}")]
    done = shop.run("migrate", "--release", version, *allowed)
    assert done.returncode == 0, done.stderr
    shop.go_live(version)


def live(shop: Shop) -> str:
    return os.readlink(shop.site.current)


def columns(shop: Shop) -> set[str]:
    code = "cursor = connection.cursor(); cursor.execute('PRAGMA table_info(shop_item)')"
    return set(shop.execute(f"{code}; print(*[row[1] for row in cursor])").split())


def test_what_only_added_is_named_and_left(shop: Shop) -> None:
    migrated(shop, "2", ADDED)
    planned = shop.run("rollback", "--plan")
    assert "it does not know shop.0002_note" in planned.stdout, planned.stderr
    done = shop.run("rollback")
    assert done.returncode == 0, done.stderr
    assert "1 does not know shop.0002_note" in done.stderr
    assert (live(shop), columns(shop)) == ("1", {"id", "name", "note"})


def test_what_the_older_code_does_not_work_with_is_refused(shop: Shop) -> None:
    migrated(shop, "2", DROPPED)
    for option in ("--json", "--plan"):
        refused = shop.run("rollback", option)
        assert refused.returncode == 5, refused.stderr
        assert "shop.0003_drop (Remove field name from Item)" in refused.stderr
        assert "Add field note" not in refused.stderr
        assert "--with-migrations" in refused.stderr
    assert live(shop) == "2"
    both = shop.run("rollback", "--with-migrations", "--ignore-migrations")
    assert both.returncode == 2
    done = shop.run("rollback", "--ignore-migrations", "--json")
    assert done.returncode == 0, done.stderr
    assert "may not work with shop.0003_drop" in done.stderr
    unknown = ["shop.0003_drop", "shop.0002_note"]
    assert json.loads(done.stdout)["unknown_migrations"] == unknown
    assert (live(shop), columns(shop)) == ("1", {"id", "note"})


def test_exactly_what_it_does_not_know_is_taken_back_before_the_switch(shop: Shop) -> None:
    migrated(shop, "2", ADDED)
    migrated(shop, "3", {**ADDED, "0003_size": NOTE.replace("note", "size"), "0004_drop": DROP})
    planned = shop.run("rollback", "--with-migrations", "--plan", "--json")
    steps = [step["name"] for step in json.loads(planned.stdout)["steps"]]
    assert steps == ["check", "compare-migrations", "reverse-migrations", "switch", "finish"]
    done = shop.run("rollback", "--with-migrations")
    assert done.returncode == 0, done.stderr
    assert (live(shop), columns(shop)) == ("2", {"id", "name", "note"})
    lines = [line for line in journal.read(shop.site.journal) if line.event == "applied"]
    every = "default: shop.0001_initial shop.0002_note"
    assert [(line.step, line.text) for line in lines[-4:]] == [
        ("before", f"{every} shop.0003_size shop.0004_drop"),
        ("taking back", "default: shop.0004_drop"),
        ("taking back", "default: shop.0003_size"),
        ("after", every),
    ]
    forth = shop.run("rollback", "3")
    assert forth.returncode == 0, forth.stderr
    assert "3 goes live with shop.0003_size, shop.0004_drop pending" in forth.stderr


def test_nothing_is_taken_back_when_one_cannot_be(shop: Shop) -> None:
    migrated(shop, "2", CODE)
    refused = shop.run("rollback", "--with-migrations")
    assert refused.returncode == 5, refused.stderr
    assert "shop.0003_code cannot be reversed" in refused.stderr
    assert (live(shop), columns(shop)) == ("2", {"id", "name", "note"})


def test_who_migrated_last_is_asked_though_it_is_not_live(shop: Shop) -> None:
    migrated(shop, "2", ADDED)
    migrated(shop, "3", DROPPED)
    assert shop.run("rollback", "--ignore-migrations").returncode == 0
    assert live(shop) == "2"
    refused = shop.run("rollback")
    assert refused.returncode == 5, refused.stderr
    assert "shop.0003_drop (Remove field name from Item)" in refused.stderr
    shop.site.release("3").rename(shop.directory / "gone")
    refused = shop.run("rollback", "--with-migrations")
    assert refused.returncode == 5, refused.stderr
    assert "shop.0003_drop: no release here has it" in refused.stderr


def test_a_squashed_migration_is_no_news_to_who_knows_what_it_stands_for(shop: Shop) -> None:
    migrated(shop, "2", ADDED)
    replaced = 'replaces = [("shop", "0001_initial"), ("shop", "0002_note")]'
    squashed = {"0001_squashed": f"{INITIAL}, {NOTE}"}
    shop.release("3", squashed, extra={"0001_squashed": replaced})
    assert shop.run("migrate", "--release", "3").returncode == 0
    shop.go_live("3")
    refused = shop.run("rollback", "1", "--with-migrations")
    assert refused.returncode == 5, refused.stderr
    assert "shop.0001_squashed cannot be reversed" in refused.stderr
    done = shop.run("rollback", "--with-migrations")
    assert done.returncode == 0, done.stderr
    assert "does not know" not in done.stderr
    assert (live(shop), columns(shop)) == ("2", {"id", "name", "note"})


def test_a_database_that_cannot_be_asked_is_a_refusal_with_a_way_out(shop: Shop) -> None:
    migrated(shop, "2", ADDED)
    shop.site.variables.write_text(
        'DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "/no/where/db"}}\n'
    )
    refused = shop.run("rollback")
    assert refused.returncode == 5
    assert "nobody can tell whether the databases suit 1" in refused.stderr
    assert "--ignore-migrations" in refused.stderr
    done = shop.run("rollback", "--ignore-migrations")
    assert done.returncode == 0, done.stderr
    assert live(shop) == "1"


@pytest.mark.parametrize(
    ("number", "where"),
    [
        ("SIGKILL", "ended:reverse-migrations"),
        ("SIGKILL", "started:switch"),
        ("SIGTERM", "started:switch"),
    ],
)
def test_a_rollback_that_is_stopped_leaves_code_and_schema_of_one_release(
    shop: Shop, number: str, where: str
) -> None:
    migrated(shop, "2", DROPPED)
    child = interrupted.strike(number, where, "rollback", str(shop.site.root), "--with-migrations")
    if number == "SIGKILL":
        assert child.returncode == -signal.SIGKILL, child.stderr
        assert shop.outcome() == "pending"
        recovered = shop.run("recover")
        assert recovered.returncode == 0, recovered.stderr
        assert "ran shop.0002_note, shop.0003_drop again" in recovered.stderr
    else:
        assert child.returncode == 128 + signal.SIGTERM, child.stderr
    assert (live(shop), columns(shop)) == ("2", {"id", "note"})
    assert shop.outcome() == "current"
