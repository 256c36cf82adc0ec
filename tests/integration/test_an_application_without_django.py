"""An application without Django, from its checkout to two releases and back: tests/projects."""

from __future__ import annotations

import json
import os
import pwd
import sqlite3
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from surroundings.waiting import await_
from tests.host import prepared
from tests.host.machine import Environment, Machine, load
from tests.integration import projects
from tests.integration.projects import Checkout

AUTHOR = '''"""Author"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("entry", sa.Column("author", sa.String(80)))


def downgrade() -> None:
    op.drop_column("entry", "author")
'''


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Machine]:
    """A machine with supervisor and nothing of ours."""
    nothing: Environment = None  # type: ignore[assignment]  # what is built brings its own
    made = Machine(tmp_path, nothing)
    with prepared.supervisord(made):
        yield made


@pytest.fixture
def checkout(server: Machine) -> Checkout:
    made = projects.sample(
        server.directory / "checkout",
        root=server.site.root,
        cache=server.directory / "cache",
        output=server.directory / "artifacts",
        project="guestbook",
    )
    configuration = (made.path / "artifact.toml").read_text()
    listen = configuration.replace("127.0.0.1:8000", f"127.0.0.1:{server.port}")
    made.write({"artifact.toml": listen})
    return made


def built(checkout: Checkout, version: str) -> Path:
    return Path(checkout.build("--version", version).stdout.strip())


def columns(server: Machine) -> list[str]:
    connection = sqlite3.connect(server.directory / "db")
    rows = connection.execute("PRAGMA table_info(entry)").fetchall()
    connection.close()
    return [row[1] for row in rows]


@pytest.mark.slow
def test_two_releases_are_installed_under_load_and_one_gone_back_from(
    server: Machine, checkout: Checkout
) -> None:
    site = str(server.site.root)
    first = built(checkout, "1")
    done = server.run("setup", str(first), "--user", pwd.getpwuid(os.geteuid()).pw_name)
    assert done.returncode == 0, done.stderr
    server.site.variables.write_text(f"DATABASE_URL=sqlite:///{server.directory}/db\n")
    done = server.install(first)
    assert done.returncode == 0, done.stderr
    assert "applying 0001 on default" in done.stderr
    assert json.loads(server.get("/healthz")) == {"version": "1"}
    wrote = urllib.request.Request(
        f"http://127.0.0.1:{server.port}/entries?text=Hello", method="POST"
    )
    with urllib.request.urlopen(wrote, timeout=10) as answer:
        assert answer.status == 201

    checkout.write({"schema/versions/0002_author.py": AUTHOR})
    second = built(checkout, "2")
    with load(server, "/entries", "/healthz", threads=2, pause=0.1) as seen:
        done = server.install(second)
        assert done.returncode == 0, done.stderr
        await_("an answer of 2", lambda: '{"version":"2"}' in seen.bodies)
        refused = server.run("rollback", site)
        assert refused.returncode == 5, refused.stderr
        assert "0002 (Author): nobody but its author knows" in refused.stderr
        assert columns(server) == ["id", "text", "author"]
        done = server.run("rollback", site, "--with-migrations", "--probation", "0s")
        assert done.returncode == 0, done.stderr
        await_("nobody is left in 2", lambda: "1" in server.get("/healthz"))
    assert seen.failures == []
    assert os.readlink(server.site.current) == "1"
    assert columns(server) == ["id", "text"]
    assert json.loads(server.get("/entries")) == ["Hello"]
    listed = server.run("migrations", site)
    assert "default (sqlite): nothing pending" in listed.stdout, listed.stderr
    assert server.run("status", site).returncode == 0
