"""`artifact migrations` and `artifact migrate`: outcomes, refusals, one run at a time."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from artifact import steps
from artifact.errors import Refused
from artifact.host.commands import migrate
from artifact.host.migrations import pending, runner
from artifact.host.migrations.runner import MigrationOptions
from artifact.host.records import journal, releases
from artifact.host.runs.run import SiteRun
from surroundings.waiting import await_
from tests.host import interrupted
from tests.host.shop import INITIAL, Shop

NOTE = 'migrations.AddField("Item", "note", CharField(max_length=20, null=True))'
DROP = 'migrations.RemoveField("Item", "name")'
FIRST = {"0001_initial": INITIAL}
SECOND = {**FIRST, "0002_note": NOTE}
THIRD = {**SECOND, "0003_drop": DROP}

ROUNDS = int(os.environ.get("MIGRATE_ROUNDS", "1"))
"""Of many hosts at once; more take a second or two each."""

Settings = Mapping[str, object]


@pytest.fixture
def shop(tmp_path: Path, django: Path) -> Shop:
    return Shop(tmp_path / "shop", django)


@pytest.fixture
def on(tmp_path: Path, django: Path) -> Callable[[Settings], Shop]:
    """Make a shop on a database server, in a database of its own."""

    def make(settings: Settings) -> Shop:
        name = re.sub(r"\W", "_", tmp_path.name).lower()[:50]
        outer = Shop(tmp_path / "outer", django, {"default": settings})
        outer.release("0", FIRST)
        outer.execute(f"connection.cursor().execute('CREATE DATABASE {name}')")
        return Shop(tmp_path / "shop", django, {"default": {**settings, "NAME": name}})

    return make


def test_five_things_that_can_be_so_of_a_database_are_told_apart(shop: Shop) -> None:
    shop.release("1", FIRST)
    assert shop.outcome() == "pending"
    done = shop.run("migrate")
    assert (done.returncode, done.stdout) == (0, "shop.0001_initial\n"), done.stderr
    assert shop.outcome() == "current"
    shop.release("2", SECOND)
    assert shop.run("migrate", "--release", "2").returncode == 0
    assert shop.pending()["outcome"] == "ahead"
    assert shop.pending()["ahead"] == ["shop.0002_note"]

    fork = {**SECOND, "0002_other": 'migrations.AlterModelOptions("Item", {})'}
    shop.release("3", fork, after={"0002_other": "0001_initial"})
    told = shop.run("migrations", "--release", "3")
    assert told.returncode == 5
    assert "0002_note, 0002_other of shop" in told.stderr
    assert shop.outcome("--release", "3") == "conflict"
    refused = shop.run("migrate", "--release", "3")
    assert refused.returncode == 5
    assert "contradict each other" in refused.stderr

    shop.site.variables.write_text(
        'DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "/no/where/db"}}\n'
    )
    assert shop.outcome() == "unreachable"
    assert shop.run("migrate").returncode == 5


def test_what_is_left_of_squashed_and_removed_ones_does_not_mean_ahead(shop: Shop) -> None:
    shop.release("1", SECOND)
    assert shop.run("migrate").returncode == 0
    code = """
from django.db.migrations.recorder import MigrationRecorder
recorder = MigrationRecorder(connection)
recorder.record_applied("removed", "0001_initial")
rows = recorder.Migration.objects
rows.filter(name="0001_initial", app="shop").update(name="0000_squashed")
rows.create(app="shop", name="0001_initial")
"""
    shop.execute(code)
    found = shop.pending()
    assert found["outcome"] == "current"
    assert found["leftover"] == ["shop.0000_squashed", "removed.0001_initial"]


def test_an_unsafe_one_is_named_and_nothing_is_run(shop: Shop) -> None:
    shop.release("1", FIRST)
    assert shop.run("migrate").returncode == 0
    shop.release("2", THIRD)
    refused = shop.run("migrate", "--release", "2")
    assert refused.returncode == 5
    assert refused.stdout == ""
    assert "shop.0003_drop (Remove field name from Item): the old code names" in refused.stderr
    assert "--allow-unsafe shop.0003_drop" in refused.stderr
    assert len(shop.pending("--release", "2")["pending"]) == 2  # type: ignore[arg-type]

    planned = shop.run("migrate", "--release", "2", "--plan")
    assert planned.returncode == 0
    assert "shop.0002_note: safe" in planned.stdout
    assert "Remove field name from Item: unsafe" in planned.stdout
    some = shop.run("migrate", "--release", "2", "--only-safe")
    assert (some.returncode, some.stdout) == (0, "shop.0002_note\n"), some.stderr
    assert "left: shop.0003_drop" in some.stderr

    wrong = shop.run("migrate", "--release", "2", "--allow-unsafe", "shop.0009")
    assert wrong.returncode == 2
    assert "shop.0009" in wrong.stderr
    let = shop.run("migrate", "--release", "2", "--allow-unsafe", "shop.0003", "--json")
    assert let.returncode == 0, let.stderr
    assert json.loads(let.stdout)["ran"] == {"default": ["shop.0003_drop"]}
    again = shop.run("migrate", "--release", "2", "--allow-unsafe", "shop.0003")
    assert (again.returncode, again.stdout) == (0, "")


def test_what_depends_on_one_that_is_left_is_left_as_well(shop: Shop) -> None:
    shop.release("1", FIRST)
    assert shop.run("migrate").returncode == 0
    shop.release("2", {**FIRST, "0002_drop": DROP, "0003_note": NOTE})
    some = shop.run("migrate", "--release", "2", "--only-safe")
    assert (some.returncode, some.stdout) == (0, "")


def test_the_authors_own_marks_decide(shop: Shop) -> None:
    shop.release("1", FIRST)
    assert shop.run("migrate").returncode == 0
    marks = {"0002_note": 'safe = Safe("after_deploy")', "0003_drop": 'safe = Safe("always")'}
    shop.release("2", THIRD, extra=marks)
    found = shop.pending("--release", "2")["pending"]
    assert isinstance(found, list)
    assert [one["risk"] for one in found] == ["unsafe", "safe"]
    assert "Safe.after_deploy()" in found[0]["reason"]


def test_the_journal_has_what_was_applied_before_and_after(shop: Shop) -> None:
    shop.release("1", SECOND)
    assert shop.run("migrate").returncode == 0
    lines = [line for line in journal.read(shop.site.journal) if line.event == "applied"]
    told = [(line.step, line.text) for line in lines]
    assert told == [
        ("before", "default:"),
        ("applying", "default: shop.0001_initial"),
        ("applying", "default: shop.0002_note"),
        ("after", "default: shop.0001_initial shop.0002_note"),
    ]
    run = journal.last_run(shop.site.journal)
    assert run is not None
    assert run.over is not None
    assert run.over.code == 0


def test_an_application_that_does_not_load_is_a_sentence(shop: Shop) -> None:
    shop.release("1", FIRST)
    (shop.site.release("1") / "settings.py").write_text("import nowhere")
    for command in ("migrations", "migrate"):
        failed = shop.run(command)
        assert failed.returncode == 5
        assert "No module named 'nowhere'" in failed.stderr
        assert "bug in artifact" not in failed.stderr


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("import os; os._exit(0)", "did not answer as it should"),
        ("import os; os.fork()", ""),
        (r"raise OSError('no file \udcff')", "OSError: no file ?"),
    ],
    ids=["it ends the probe", "two answer", "no JSON can hold it"],
)
def test_an_application_that_keeps_the_probe_from_answering_is_a_sentence(
    shop: Shop, line: str, said: str
) -> None:
    shop.release("1", FIRST)
    (shop.site.release("1") / "settings.py").write_text(line)
    failed = shop.run("migrations")
    assert failed.returncode == 5, failed.stderr
    assert said in failed.stderr


def test_recovery_ends_though_the_application_does_not_answer(shop: Shop) -> None:
    shop.release("1", FIRST)
    (shop.site.release("1") / "settings.py").write_text("import os; os._exit(0)")
    died = journal.begin(shop.site.journal, command="migrate", version="1", digest="", previous="1")
    died.add("applied", step="applying", version="1", text="default: shop.0001_initial")
    recovered = shop.run("recover")
    assert recovered.returncode == 0, recovered.stderr
    assert "it had begun shop.0001_initial: " in recovered.stdout
    run = journal.last_run(shop.site.journal)
    assert run is not None
    assert run.over is not None
    assert run.over.code == 8


def test_one_that_fails_says_what_has_become_of_the_others(
    on: Callable[[Settings], Shop], postgresql: Settings
) -> None:
    shop = on(postgresql)
    bad = 'migrations.AlterModelTableComment("Item", "x"), migrations.AddField("Item", "name",'
    bad += "IntegerField(null=True))"
    shop.release("1", {**FIRST, "0002_bad": bad})
    failed = shop.run("migrate")
    assert failed.returncode == 7
    assert "shop.0002_bad failed" in failed.stderr
    assert "run before it: shop.0001_initial" in failed.stderr
    again = shop.run("migrate")
    assert again.returncode == 5
    assert "nothing changed" in again.stderr


def test_what_may_have_stayed_half_is_for_a_person(
    on: Callable[[Settings], Shop], mariadb: Settings
) -> None:
    shop = on(mariadb)
    half = f"{NOTE}, migrations.RunPython(lambda apps, editor: 1 / 0)"
    shop.release("1", {**FIRST, "0002_half": half})
    failed = shop.run("migrate")
    assert failed.returncode == 8, failed.stderr
    assert "part of it may have stayed" in failed.stderr


def test_a_migrate_that_is_killed_half_way_is_for_a_person_too(shop: Shop) -> None:
    end = "__import__('os').kill(__import__('os').getpid(), 9)"
    end = f"migrations.RunPython(lambda apps, editor: {end})"
    marked = {"0002_half": 'atomic = False; safe = Safe("always")'}
    shop.release("1", FIRST)
    assert shop.run("migrate").returncode == 0
    shop.release("2", {**FIRST, "0002_half": f"{NOTE}, {end}"}, extra=marked)
    killed = interrupted.strike(
        *("SIGKILL", "said:applying shop.0002_half"),
        *("migrate", str(shop.site.root), "--release", "2"),
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    recovered = shop.run("recover")
    assert "part of shop.0002_half may have stayed" in recovered.stdout, recovered.stderr
    run = journal.last_run(shop.site.journal)
    assert run is not None
    assert run.over is not None
    assert run.over.code == 8

    shop.release("3", {**FIRST, "0002_ends": end})
    died = shop.run("migrate", "--release", "3", "--allow-unsafe", "shop.0002")
    assert died.returncode == 8, died.stderr
    assert "was killed by SIGKILL, in shop.0002_ends" in died.stderr


@pytest.mark.parametrize("server", ["postgresql", "mariadb"])
def test_a_table_that_is_held_is_not_waited_for(
    on: Callable[[Settings], Shop], server: str, request: pytest.FixtureRequest
) -> None:
    shop = on(request.getfixturevalue(server))
    shop.release("1", FIRST)
    assert shop.run("migrate").returncode == 0
    shop.release("2", SECOND)
    held, stop = threading.Event(), shop.directory / "stop"
    code = f"""
import os, time
from django.db import transaction
with transaction.atomic():
    cursor = connection.cursor()
    cursor.execute("INSERT INTO shop_item (name) VALUES ('x')")
    cursor.execute("SELECT * FROM shop_item")
    open({str(stop) + ".held"!r}, "w").close()
    while not os.path.exists({str(stop)!r}):
        time.sleep(0.05)
"""

    def hold() -> None:
        shop.execute(code)
        held.set()

    holder = threading.Thread(target=hold)
    holder.start()
    try:
        await_("the table is held", Path(f"{stop}.held").exists)
        failed = shop.run("migrate", "--release", "2", "--lock-timeout", "1s")
    finally:
        stop.touch()
        holder.join()
    assert held.is_set()
    assert failed.returncode in {5, 8}, failed.stderr
    assert "--lock-timeout" in failed.stderr or failed.returncode == 8
    assert "timeout" in failed.stderr.lower()
    assert shop.outcome("--release", "2") == "pending"


def in_parallel(shops: list[Shop]) -> list[subprocess.CompletedProcess[str]]:
    children = [
        shop.popen("migrate", "--release", "2", "--allow-unsafe", "shop.0003") for shop in shops
    ]
    said = [child.communicate(timeout=120) for child in children]
    return [
        subprocess.CompletedProcess([], child.returncode, output, errors)
        for child, (output, errors) in zip(children, said, strict=True)
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("server", "rounds", "hosts"),
    [("postgresql", ROUNDS, 8), ("mariadb", ROUNDS, 3), ("sqlite", 1, 3)],
)
def test_many_hosts_migrate_one_database_and_each_is_applied_once(
    on: Callable[[Settings], Shop],
    shop_of: Callable[[int, Mapping[str, Settings]], Shop],
    tmp_path: Path,
    server: str,
    rounds: int,
    hosts: int,
    request: pytest.FixtureRequest,
) -> None:
    if server == "sqlite":
        databases: dict[str, Settings] = {
            "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": str(tmp_path / "db")}
        }
        first = shop_of(99, databases)
    else:
        first = on(request.getfixturevalue(server))
        databases = dict(first.databases)
    first.release("1", FIRST)
    assert first.run("migrate").returncode == 0
    work = {**SECOND, "0003_insert": "migrations.RunPython(lambda apps, editor: insert(apps, 0))"}
    # Sites of their own: nothing but the database is common to these hosts.
    shops = [shop_of(number, databases) for number in range(hosts)]
    for shop in shops:
        shop.release("2", work)
    for number in range(rounds):
        ran = in_parallel(shops)
        assert {one.returncode for one in ran} == {0}, [one.stderr for one in ran]
        applied = [line for one in ran for line in one.stdout.splitlines()]
        assert sorted(applied) == ["shop.0002_note", "shop.0003_insert"]
        assert sum("waiting for another run" in one.stderr for one in ran) >= 1
        count = "cursor = connection.cursor(); cursor.execute('SELECT count(*) FROM shop_item')"
        assert first.execute(f"{count}; print(cursor.fetchone()[0])") == str(number + 1)
        first.execute(
            "cursor = connection.cursor()\n"
            "cursor.execute(\"DELETE FROM django_migrations WHERE name > '0002'\")\n"
            "cursor.execute('ALTER TABLE shop_item DROP COLUMN note')"
        )


@pytest.fixture
def shop_of(tmp_path: Path, django: Path) -> Callable[[int, Mapping[str, Settings]], Shop]:
    return lambda number, databases: Shop(tmp_path / f"host-{number}", django, databases)


def test_a_release_is_asked_what_another_does_not_know(shop: Shop) -> None:
    shop.release("1", FIRST)
    shop.release("2", {**THIRD, "0004_code": "migrations.RunPython(lambda apps, editor: None)"})
    allowed = ("--allow-unsafe", "shop.0003", "--allow-unsafe", "shop.0004")
    assert shop.run("migrate").returncode == 0
    assert shop.run("migrate", "--release", "2", *allowed).returncode == 0
    target = pending.of_version(shop.site, "1").known
    (database,) = pending.of_version(shop.site, "2", beside=target).databases
    found = [(one.name, one.risk, one.reversible) for one in database.difference]
    assert found == [
        ("shop.0004_code", "unknown", False),
        ("shop.0003_drop", "unsafe", True),
        ("shop.0002_note", "safe", True),
    ]


def test_exactly_the_difference_is_taken_back_when_all_of_it_can_be(shop: Shop) -> None:
    nullable = 'migrations.AddField("Item", "size", IntegerField(null=True))'
    shop.release("1", FIRST)
    shop.release("2", {**SECOND, "0003_size": nullable})
    shop.release(
        "3",
        {
            **SECOND,
            "0003_size": nullable,
            "0004_code": "migrations.RunPython(migrations.RunPython.noop)",
        },
    )
    assert shop.run("migrate", "--release", "2").returncode == 0
    record = journal.begin(
        shop.site.journal, command="rollback", version="1", digest="", previous="2"
    )
    site, options = shop.site, runner.MigrationOptions()
    newer = releases.read(site, "2")
    target = pending.of_version(site, "1").known
    outcome = runner.reverse(site, newer, target, options, steps.nobody, record)
    assert outcome.names == ("shop.0003_size", "shop.0002_note")
    assert shop.outcome() == "current"

    assert shop.run("migrate", "--release", "3").returncode == 0
    with pytest.raises(Refused, match="0004_code cannot be reversed"):
        runner.reverse(site, releases.read(site, "3"), target, options, steps.nobody, record)
    assert shop.outcome("--release", "3") == "current"


def test_an_install_lists_stops_at_or_runs_what_is_pending(shop: Shop) -> None:
    shop.release("1", FIRST)
    said: list[steps.Event] = []
    record = journal.begin(
        shop.site.journal, command="install", version="1", digest="", previous=""
    )
    lock = os.open(shop.site.lock, os.O_RDWR | os.O_CREAT)

    def follow(policy: str, version: str = "1", options: MigrationOptions | None = None) -> str:
        said.clear()
        run = SiteRun(said.append, record=record, lock=lock)
        return migrate.follow_policy(shop.site, version, policy, options or MigrationOptions(), run)

    try:
        listed = follow("list")
        assert listed == f"1 pending; `artifact migrate {shop.site.root}` runs what is safe"
        assert any("pending, safe: shop.0001_initial" in str(event) for event in said)
        with pytest.raises(Refused, match=r"shop\.0001_initial is pending"):
            follow("stop")
        assert follow("run") == "ran shop.0001_initial"
        assert follow("stop") == "nothing pending"
        shop.release("2", THIRD)
        with pytest.raises(Refused, match="0003_drop"):
            follow("run", "2")
        assert follow("run", "2", MigrationOptions(only_safe=True)) == "ran shop.0002_note"
        assert follow("stop") == "nothing pending"
        assert "1 does not know shop.0002_note, which default has already" in str(said)

        shop.site.variables.write_text(
            'DATABASES={"default": '
            '{"ENGINE": "django.db.backends.sqlite3", "NAME": "/no/where/db"}}\n'
        )
        assert follow("list") == "not known"
        assert "cannot be reached" in str(said)
        for policy in ("stop", "run"):
            with pytest.raises(Refused, match="cannot be reached"):
                follow(policy)
    finally:
        os.close(lock)


def test_databases_that_are_not_ours_are_left_alone(tmp_path: Path, django: Path) -> None:
    engine = "django.db.backends.sqlite3"
    settings: dict[str, Settings] = {
        "default": {"ENGINE": engine, "NAME": str(tmp_path / "one")},
        "other": {"ENGINE": engine, "NAME": str(tmp_path / "two")},
        "twin": {"ENGINE": engine, "NAME": str(tmp_path / "one")},
        "mirror": {"ENGINE": engine, "NAME": "x", "TEST": {"MIRROR": "default"}},
    }
    shop = Shop(tmp_path / "shop", django, settings)
    shop.release("1", FIRST)
    told = shop.run("migrate", "--json")
    document = json.loads(told.stdout)
    assert document["ran"] == {"default": ["shop.0001_initial"]}
    assert {one["alias"] for one in document["skipped"]} == {"other", "twin", "mirror"}
