"""Whatever runs code of a release runs it as the site's user, and in one environment."""

from __future__ import annotations

import json
import os
import pwd
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import artifact
from artifact.host.processes import application
from artifact.host.records import releases
from artifact.manifest import Health, MigrationCommands, Process
from tests.host import databases
from tests.host.machine import GUNICORN, make_environment, open_interpreter
from tests.host.shop import INITIAL, Shop, sources

USER = pwd.getpwnam("nobody") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())

SPY = """
import json, os, sys, tempfile
found = {{"argv": open("/proc/self/cmdline").read().split(chr(0)), "environ": dict(os.environ),
          "uids": os.getresuid(), "gids": os.getresgid(), "groups": os.getgroups()}}
with tempfile.NamedTemporaryFile("w", dir={seen!r}, prefix="{name}-", delete=False) as file:
    json.dump(found, file)
"""

CALLER = {
    "PATH": "/of/the/caller:/usr/bin:/bin",
    "HOME": "/of/the/caller",
    "VIRTUAL_ENV": "/of/the/caller",
    "LC_CTYPE": "C.UTF-8",
    "TZ": "Europe/Athens",
    "LISTED": "in pass-env",
    "DB_NAME": "other",
    "DATABASES": "other",
    "DJANGO_SETTINGS_MODULE": "other",
    "AWS_SECRET_ACCESS_KEY": "of-the-caller",
    "CI_JOB_TOKEN": "of-the-caller",
    "SSH_AUTH_SOCK": "/of/the/caller",
    "SUPERVISOR_ENABLED": "1",
    "LISTEN_FDNAMES": "other",
    "PYTHONHASHSEED": "1",
}
DOCUMENTED = {
    *("PATH", "HOME", "USER", "LOGNAME", "LANG", "TZ", "VIRTUAL_ENV", "PWD"),
    *("ARTIFACT_VERSION", "PYTHONDONTWRITEBYTECODE", "DJANGO_SETTINGS_MODULE"),
}

CHECK = """
import sys
from pathlib import Path
from artifact import steps
from artifact.host.processes import application_checks, check
from artifact.host.records import releases
from artifact.site import Site
site = Site(Path(sys.argv[1]))
"""
TRY = f"{CHECK}print(check.check(site, releases.read(site, '1').manifest, steps.nobody))"
PING = f"""{CHECK}
import time
with application_checks.answering(site, "worker", "worker", [0]) as answered:
    while not answered():
        time.sleep(0.05)
"""

TOOL = [sys.executable, "-m", "artifact"]
WAYS: dict[str, tuple[list[str], set[str]]] = {
    "the checks before a switch": (
        [sys.executable, "-c", TRY, "ROOT"],
        {"-I -c pass", "- checks", "--check-config", "gunicorn settings:application"},
    ),
    "celery's answer": ([sys.executable, "-c", PING, "ROOT"], {"- celery_ping"}),
    "pending migrations": ([*TOOL, "migrations", "ROOT"], {"- migrations"}),
    "running migrations": ([*TOOL, "migrate", "ROOT"], {"- migrations"}),
    "an application's own migration commands": (
        [*TOOL, "migrate", "ROOT", "--release", "own"],
        {"-c 'list'", "-c 'run'"},
    ),
    "a process": ([*TOOL, "exec", "ROOT", "--process", "job"], {"-c 'job'"}),
}
"""What is run, and what of the application's starts by that; ROOT is the site's."""


@dataclass
class Spied:
    """A site whose interpreter writes down each of its starts, before it does what it is told."""

    shop: Shop
    seen: Path
    ours: Path
    """Where the tool is installed: closed to the site's user."""

    def run(self, argv: list[str]) -> None:
        """Run the tool as an operator does who has the shell full of variables."""
        root = str(self.shop.site.root)
        done = subprocess.run(
            [root if word == "ROOT" else word for word in argv],
            env={**CALLER, "PYTHONPATH": str(self.ours)},
            cwd="/",
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr

    def starts(self) -> list[dict[str, Any]]:
        return [json.loads(path.read_text()) for path in self.seen.iterdir()]


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment with Django and gunicorn, that the site's user can run."""
    packages = (f"django=={databases.DJANGO}", f"gunicorn=={GUNICORN}")
    directory = tmp_path_factory.mktemp("django")
    made = make_environment(directory, *packages, interpreter=open_interpreter())
    return made.path / "bin" / "python"


@pytest.fixture
def spied(tmp_path: Path, python: Path) -> Spied:
    for parent in (python.parents[2], *tmp_path.parents[:-2], tmp_path):
        parent.chmod(0o755)
    seen, ours = tmp_path / "seen", tmp_path / "root"
    shutil.copytree(Path(artifact.__file__).parent, ours / "artifact")
    ours.chmod(0o700)
    shop = Shop(tmp_path / "shop", python)
    for path in (seen, shop.directory):
        path.mkdir(exist_ok=True)
        path.chmod(0o777)
    shop.site.settings.write_text(f'user = "{USER.pw_name}"\npass-env = ["LISTED"]\n')
    with shop.site.variables.open("a") as file:
        file.write(f"PYTHONPATH={tmp_path}/path\nOWN=in env\n")
    (tmp_path / "path").mkdir()
    (tmp_path / "path" / "sitecustomize.py").write_text(SPY.format(seen=str(seen), name="path"))
    (tmp_path / "pth.py").write_text(SPY.format(seen=str(seen), name="pth"))
    (packages,) = python.parents[1].glob("lib/python*/site-packages")
    (packages / "spy.pth").write_text(f"import sys; exec(open('{tmp_path}/pth.py').read())\n")
    place(shop)
    return Spied(shop, seen, ours)


def place(shop: Shop) -> None:
    serving = "\ndef application(environ, start):\n    start('200 OK', [])\n    return [b'']\n"
    content = sources({"0001_initial": INITIAL})
    content["settings.py"] += serving
    web = Process(
        command="python -m gunicorn settings:application",
        listen="127.0.0.1:1",
        server="gunicorn",
        health=Health(path="/", timeout=30),
    )
    processes = {
        "web": web,
        "own": Process(command=f"{web.command} --bind 127.0.0.1:1", server="gunicorn"),
        "worker": Process(command="celery -A settings worker", server="celery"),
        "job": Process(command="python -c \"'job'\""),
    }
    described = {"django": "settings", "migrations": {"shop": ("0001_initial",)}}
    tried = {name: one for name, one in processes.items() if name != "worker"}
    shop.place("1", content, processes=tried, **described)
    commands = MigrationCommands(list="python -c \"'list'; print('1')\"", run="python -c \"'run'\"")
    shop.place("own", {}, processes={}, migration_commands=commands)
    shop.place("worker", content, processes=processes, **described)


@pytest.mark.parametrize("way", WAYS)
def test_code_of_a_release_starts_as_the_sites_user_and_sees_what_is_documented(
    spied: Spied, way: str
) -> None:
    argv, expected = WAYS[way]
    spied.run(argv)
    starts = spied.starts()
    lines = {" ".join(one["argv"]) for one in starts}
    for words in expected:
        assert any(words in line for line in lines), f"{words} is not in {lines}"
    for one in starts:
        line, seen = " ".join(one["argv"]), one["environ"]
        assert set(one["uids"]) == {USER.pw_uid}, line
        assert set(one["gids"]) == {USER.pw_gid}, line
        assert set(one["groups"]) == set(os.getgrouplist(USER.pw_name, USER.pw_gid)), line
        assert seen.items() >= expected_variables(spied).items(), line
        # What a server gets with its sockets.
        own = {"LISTEN_FDS", "LISTEN_PID", "ARTIFACT_READY"} if "gunicorn" in line else set()
        assert seen.keys() - own <= expected_variables(spied).keys() | DOCUMENTED, line
    assert {path.name.partition("-")[0] for path in spied.seen.iterdir()} == {"pth", "path"}


def expected_variables(spied: Spied) -> Mapping[str, str]:
    return {
        "HOME": USER.pw_dir,
        "USER": USER.pw_name,
        "LOGNAME": USER.pw_name,
        "LANG": "C.UTF-8",
        "LC_CTYPE": "C.UTF-8",
        "TZ": "Europe/Athens",
        "PATH": f"{spied.shop.python.parent}:{application.PATH}",
        "VIRTUAL_ENV": str(spied.shop.python.parents[1]),
        "PYTHONDONTWRITEBYTECODE": "1",
        "LISTED": "in pass-env",
        "OWN": "in env",
        "DATABASES": json.dumps(spied.shop.databases),
        "PYTHONPATH": str(spied.ours.with_name("path")),
    }


def test_the_env_file_decides_over_the_manifest_and_over_pass_env(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = Shop(tmp_path / "shop", Path(sys.executable))
    shop.release("1", {"0001_initial": INITIAL})
    release = releases.read(shop.site, "1")
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "of_the_caller")
    monkeypatch.setenv("PATH", "/of/the/caller")

    def seen(name: str) -> str:
        return application.environment_of(shop.site, release)[name]

    assert seen("DJANGO_SETTINGS_MODULE") == "settings"
    shop.site.settings.write_text('pass-env = ["DJANGO_SETTINGS_MODULE", "PATH", "NOT_SET"]\n')
    assert seen("DJANGO_SETTINGS_MODULE") == "of_the_caller"
    assert seen("PATH") == f"{release.environment}/bin:{application.PATH}"
    shop.site.variables.write_text("DJANGO_SETTINGS_MODULE=settings.own\nPATH=/own\n")
    assert seen("DJANGO_SETTINGS_MODULE") == "settings.own"
    assert seen("PATH") == "/own"


def test_the_table_of_variables_in_the_docs_is_whole() -> None:
    text = (Path(artifact.__file__).parents[1] / "docs" / "operations.md").read_text("utf-8")
    section = text.partition("What application code sees")[2].partition("\n#")[0]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    assert {*re.findall(r"`(\w+)", " ".join(rows))} == DOCUMENTED | {"LANGUAGE", "LC_"}
