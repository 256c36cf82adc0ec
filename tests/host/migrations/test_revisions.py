"""Migrations without Django: Alembic's revisions, and what an application's own commands tell."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from artifact.host.records import journal
from artifact.manifest import Environment, MigrationCommands
from tests.host.shop import Shop

ENV = """
import os
from alembic import context
from sqlalchemy import create_engine, pool

engine = create_engine(os.environ["URL"], poolclass=pool.NullPool)
with engine.connect() as connection:
    context.configure(connection=connection)
    with context.begin_transaction():
        context.run_migrations()
print("env.py prints, too")
"""
REVISION = '''"""{name}"""
import time
import sqlalchemy as sa
from alembic import op

revision = "{name}"
down_revision = {down!r}

def upgrade():
    {up}

def downgrade():
    {back}
'''
TABLE = ('op.create_table("item", sa.Column("id", sa.Integer))', 'op.drop_table("item")')
NOTE = ('op.add_column("item", sa.Column("note", sa.Text))', 'op.drop_column("item", "note")')
ONE_WAY = ('op.execute("DELETE FROM item")', "pass")
BAD = ('op.add_column("item", sa.Column("note", sa.Text))', "pass")

Settings = Mapping[str, object]


def sources(revisions: Mapping[str, tuple[str, str]]) -> dict[str, str]:
    """Return the files of an application whose revisions follow each other."""
    found = {"alembic.ini": "[alembic]\nscript_location = schema\n", "schema/env.py": ENV}
    down = None
    for name, (up, back) in revisions.items():
        text = REVISION.format(name=name, down=down, up=up, back=back)
        found[f"schema/versions/{name}.py"] = text
        down = name
    return found


def place(shop: Shop, version: str, content: Mapping[str, str]) -> None:
    shop.place(version, content, environment=Environment(key="e", packages={"alembic": "1"}))


@pytest.fixture
def site_at(tmp_path: Path, django: Path) -> Callable[[str], Shop]:
    """Make a site whose application finds its database at a URL."""

    def make(url: str, name: str = "shop") -> Shop:
        made = Shop(tmp_path / name, django)
        made.site.variables.write_text(f"URL={url}\n")
        return made

    return make


@pytest.fixture
def shop(site_at: Callable[[str], Shop], tmp_path: Path) -> Shop:
    return site_at(f"sqlite:///{tmp_path}/db")


@pytest.fixture
def url(request: pytest.FixtureRequest, tmp_path: Path, django: Path) -> str:
    """The address of an empty database on the server that the test names."""
    server = str(request.param)
    if server == "sqlite":
        return f"sqlite:///{tmp_path}/db"
    settings: dict[str, object] = request.getfixturevalue(server)
    outer = Shop(tmp_path / "outer", django, {"default": settings})
    outer.release("0", {})
    name = re.sub(r"\W", "_", f"{tmp_path.name}_{tmp_path.parent.name}").lower()[-50:]
    outer.execute(f"connection.cursor().execute('CREATE DATABASE {name}')")
    if server == "postgresql":
        return f"postgresql+psycopg://{settings['USER']}@/{name}?host={settings['HOST']}"
    return f"mysql+pymysql://{settings['USER']}@/{name}?unix_socket={settings['HOST']}"


def live(shop: Shop) -> str:
    return os.readlink(shop.site.current)


@pytest.mark.parametrize(("url", "half"), [("postgresql", 5), ("mariadb", 8)], indirect=["url"])
def test_revisions_are_listed_and_run_and_one_that_fails_says_what_stayed(
    site_at: Callable[[str], Shop], url: str, half: int
) -> None:
    shop = site_at(url)
    place(shop, "1", sources({"aa": TABLE, "bb": NOTE}))
    listed = shop.run("migrations")
    assert listed.returncode == 0, listed.stderr
    assert "default" in listed.stdout
    assert "bb: unknown: nobody but its author knows what it changes" in listed.stdout
    done = shop.run("migrate")
    assert (done.returncode, done.stdout) == (0, "aa\nbb\n"), done.stderr
    again = shop.run("migrate")
    assert (again.returncode, again.stdout) == (0, ""), again.stderr
    lines = [line for line in journal.read(shop.site.journal) if line.event == "applied"]
    told = [(line.step, line.text) for line in lines[:4]]
    applying = [("applying", "default: aa"), ("applying", "default: bb")]
    assert told == [("before", "default:"), *applying, ("after", "default: aa bb")]

    place(shop, "2", sources({"aa": TABLE, "bb": NOTE, "cc": BAD}))
    failed = shop.run("migrate", "--release", "2")
    assert failed.returncode == half, failed.stderr
    assert "cc failed on default" in failed.stderr
    assert shop.outcome() == "current"
    assert shop.outcome("--release", "2") == "pending"


def test_what_can_be_so_of_a_database_is_told_apart(shop: Shop) -> None:
    place(shop, "1", sources({"aa": TABLE}))
    place(shop, "2", sources({"aa": TABLE, "bb": NOTE}))
    assert shop.run("migrate", "--release", "2").returncode == 0
    assert shop.pending()["outcome"] == "ahead"
    assert shop.pending()["ahead"] == ["bb"]

    fork = sources({"aa": TABLE, "bb": NOTE})
    fork["schema/versions/cc.py"] = REVISION.format(name="cc", down="aa", up="pass", back="pass")
    place(shop, "3", fork)
    told = shop.run("migrations", "--release", "3")
    assert told.returncode == 5
    assert "none comes after the other: bb, cc" in told.stderr
    assert shop.run("migrate", "--release", "3").returncode == 5

    shop.site.variables.write_text("URL=sqlite:////no/where/db\n")
    assert shop.outcome() == "unreachable"
    assert shop.run("migrate").returncode == 5


def test_a_rollback_takes_back_exactly_what_the_older_release_does_not_know(shop: Shop) -> None:
    place(shop, "1", sources({"aa": TABLE}))
    place(shop, "2", sources({"aa": TABLE, "bb": NOTE, "cc": ("pass", "pass")}))
    place(shop, "3", sources({"aa": TABLE, "bb": NOTE, "cc": ("pass", "pass"), "dd": ONE_WAY}))
    shop.go_live("1")
    assert shop.run("migrate", "--release", "2").returncode == 0
    shop.go_live("2")
    refused = shop.run("rollback")
    assert refused.returncode == 5, refused.stderr
    assert "bb: nobody but its author knows" in refused.stderr.replace(" (bb)", "")
    done = shop.run("rollback", "--with-migrations")
    assert done.returncode == 0, done.stderr
    assert "taking back cc on default" in done.stderr
    assert live(shop) == "1"
    assert shop.outcome() == "current"

    assert shop.run("migrate", "--release", "3").returncode == 0
    shop.go_live("3")
    refused = shop.run("rollback", "1", "--with-migrations")
    assert refused.returncode == 5, refused.stderr
    assert "dd cannot be reversed" in refused.stderr
    assert live(shop) == "3"


@pytest.mark.parametrize("url", ["postgresql", "sqlite"], indirect=True)
def test_of_several_hosts_at_once_one_runs_the_revisions(
    site_at: Callable[..., Shop], url: str
) -> None:
    slow = (f"{TABLE[0]}; time.sleep(1)", TABLE[1])
    shops = [site_at(url, f"host-{number}") for number in range(3)]
    for shop in shops:
        place(shop, "1", sources({"aa": slow, "bb": NOTE}))
    children = [shop.popen("migrate") for shop in shops]
    said = [child.communicate(timeout=90) for child in children]
    assert [child.returncode for child in children] == [0, 0, 0], said
    assert sorted(output for output, _ in said) == ["", "", "aa\nbb\n"]
    assert sum("waiting for another run" in errors for _, errors in said) >= 1


def test_an_applications_own_commands_list_and_run(shop: Shop) -> None:
    own = """
import os, pathlib, sys
done = pathlib.Path(os.environ["URL"].removeprefix("sqlite:///"))
if sys.argv[1] == "pending" and not done.exists():
    print("widen the ledger\\n\\nclose the books")
elif sys.argv[1] == "upgrade":
    print("upgrading")
    done.touch()
sys.exit(3 if done.suffix else 0)
"""
    commands = MigrationCommands(list="python schema.py pending", run="python schema.py upgrade")
    shop.place("1", {"schema.py": own}, migration_commands=commands)
    listed = shop.run("migrations", "--json")
    assert listed.returncode == 0, listed.stderr
    (database,) = json.loads(listed.stdout)["databases"]
    assert [one["name"] for one in database["pending"]] == ["widen the ledger", "close the books"]
    done = shop.run("migrate")
    assert (done.returncode, done.stdout) == (0, "widen the ledger\nclose the books\n"), done.stderr
    assert (shop.run("migrate").stdout, shop.outcome()) == ("", "current")

    shop.site.variables.write_text(f"URL={shop.directory}/x.broken\n")
    failed = shop.run("migrations")
    assert failed.returncode == 5
    assert "`python schema.py pending` exited with status 3" in failed.stderr


@pytest.mark.parametrize(
    ("commands", "said"),
    [
        (MigrationCommands(list="echo 'x", run="true"), "migrations.list: No closing quotation"),
        (MigrationCommands(list="echo x", run="true 'x"), "migrations.run: No closing quotation"),
        (MigrationCommands(list=" ", run="true"), "migrations.list: it is empty"),
    ],
)
def test_a_command_that_cannot_be_read_is_refused_before_it_counts_as_begun(
    shop: Shop, commands: MigrationCommands, said: str
) -> None:
    shop.place("1", {}, migration_commands=commands)
    failed = shop.run("migrate")
    assert failed.returncode == 5, failed.stderr
    assert said in failed.stderr
    assert '"applied"' not in shop.site.journal.read_text()
