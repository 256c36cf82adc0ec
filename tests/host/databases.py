"""Real PostgreSQL and MariaDB on unix sockets in directories of their own, and Django for them."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from surroundings.waiting import await_

DJANGO = "5.2.*"


def make_environment(path: Path) -> None:
    """Make a virtualenv with Django, Alembic and the drivers of both databases; needs PyPI."""
    uv = str(Path(sys.executable).with_name("uv"))
    make = [uv, "venv", "--quiet", "--python", os.path.realpath(sys.executable), str(path)]
    subprocess.run(make, check=True, capture_output=True)
    python = path / "bin" / "python"
    install = [uv, "pip", "install", "--quiet", "--python", str(python), f"django=={DJANGO}"]
    subprocess.run(
        [*install, "--compile-bytecode", "psycopg[binary]", "pymysql", "alembic", "sqlalchemy"],
        check=True,
        capture_output=True,
    )


@dataclass
class Server:
    """A database server that runs as an unprivileged user, for as long as a block."""

    directory: Path
    user: str
    programs: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def run(self, argv: Sequence[str], **options: Any) -> subprocess.CompletedProcess[str]:
        ran = subprocess.run(argv, capture_output=True, text=True, **self._as_user(), **options)
        assert ran.returncode == 0, ran.stderr + ran.stdout
        return ran

    def start(self, argv: Sequence[str]) -> None:
        log = (self.directory / "log").open("wb")
        with log:
            child = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **self._as_user()
            )
        self.programs.append(child)

    def stop(self) -> None:
        for child in self.programs:
            child.send_signal(signal.SIGINT if self.user == "postgres" else signal.SIGTERM)
            child.wait(30)
        shutil.rmtree(self.directory)

    def _as_user(self) -> dict[str, Any]:
        if os.geteuid() != 0:
            return {"cwd": self.directory}
        found = pwd.getpwnam(self.user)
        return {
            "cwd": self.directory,
            "user": found.pw_uid,
            "group": found.pw_gid,
            "extra_groups": [],
        }


@contextmanager
def _server(user: str) -> Iterator[Server]:
    # Not pytest's directory: only its owner may enter it, and a socket's path must be short.
    directory = Path(tempfile.mkdtemp(prefix=f"{user}-"))
    if os.geteuid() == 0:
        shutil.chown(directory, user)
    server = Server(directory, user)
    try:
        yield server
    finally:
        server.stop()


def _program(name: str, package: str) -> str:
    places = [os.environ.get("PATH", ""), "/usr/sbin"]
    places += sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin")), reverse=True)
    found = shutil.which(name, path=os.pathsep.join(places))
    assert found, f"{name} is missing: sudo apt-get install {package}"
    return found


@contextmanager
def postgresql() -> Iterator[dict[str, object]]:
    """Run PostgreSQL; yields Django's settings for the database `postgres` in it."""
    with _server("postgres") as server:
        data, name = server.directory / "data", "postgres"
        make = ["--auth=trust", "--no-sync", "--username=tester", f"--pgdata={data}"]
        server.run([_program("initdb", "postgresql"), *make])
        settings = ["-c", "listen_addresses=", "-c", f"unix_socket_directories={server.directory}"]
        settings += ["-c", "fsync=off", "-c", "max_connections=100"]
        server.start([_program("postgres", "postgresql"), "-D", str(data), *settings])
        ready = [_program("pg_isready", "postgresql"), "-q", "-h", str(server.directory)]
        await_("postgres", lambda: subprocess.run(ready).returncode == 0)
        host = str(server.directory)
        engine = "django.db.backends.postgresql"
        yield {"ENGINE": engine, "NAME": name, "USER": "tester", "HOST": host}


@contextmanager
def mariadb() -> Iterator[dict[str, object]]:
    """Run MariaDB; yields Django's settings for an empty database in it."""
    with _server("mysql") as server:
        data, socket = server.directory / "data", server.directory / "socket"
        # The option comes first: it keeps the machine's own settings away.
        make = ["--no-defaults", f"--datadir={data}", "--auth-root-authentication-method=normal"]
        server.run([_program("mariadb-install-db", "mariadb-server"), *make, "--skip-test-db"])
        settings = ["--no-defaults", f"--datadir={data}", f"--socket={socket}", "--skip-networking"]
        server.start([_program("mariadbd", "mariadb-server"), *settings])
        ask = [_program("mariadb", "mariadb-client"), "--no-defaults", f"--socket={socket}"]
        ask += ["--user=root", "--execute", "CREATE DATABASE IF NOT EXISTS shop"]
        await_("mariadb", lambda: subprocess.run(ask, capture_output=True).returncode == 0)
        engine = "django.db.backends.mysql"
        yield {"ENGINE": engine, "NAME": "shop", "USER": "root", "HOST": str(socket)}
