"""A site with a tiny Django application of many migrations, without the servers around it."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from artifact import files, manifest
from artifact.host.records import journal, releases
from artifact.manifest import Install, Manifest
from artifact.site import Site
from tests.cli import schemas
from tests.host.machine import ARTIFACT

SETTINGS = """
import json, os
try:
    import pymysql
    pymysql.version_info = (2, 2, 1, "final", 0)
    pymysql.install_as_MySQLdb()
except ImportError:
    pass
SECRET_KEY = "for tests"
INSTALLED_APPS = ["shop"]
DATABASES = json.loads(os.environ["DATABASES"])
USE_TZ = True
print("settings print, too")
"""

MANAGE = """
import os
from django.core import management
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings")
if __name__ == "__main__":
    management.execute_from_command_line()
"""

MIGRATION = """
from django.db import migrations, models
from django.db.models import *
import time

class Safe:
    def __init__(self, when):
        self.when = when

class Migration(migrations.Migration):
    {extra}
    dependencies = {dependencies}
    operations = [{operations}]

def insert(apps, schema_editor):
    apps.get_model("shop", "Item").objects.create(name="twice?")
    time.sleep(1)  # long enough for the others to come and find the lock taken
"""

INITIAL = (
    'migrations.CreateModel("Item", [("id", AutoField(primary_key=True)),'
    '("name", CharField(max_length=20))])'
)


def sources(
    migrations: Mapping[str, str],
    *,
    extra: Mapping[str, str] | None = None,
    after: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Return the files of the application by their paths.

    Args:
        migrations: name to source of its operations, each after the one before.
        extra: name to a line more of its class.
        after: name to the migration that it depends on instead.
    """
    found = {"settings.py": SETTINGS, "manage.py": MANAGE}
    found |= {"shop/__init__.py": "", "shop/migrations/__init__.py": ""}
    last = ""
    for name, operations in migrations.items():
        before = (after or {}).get(name, last)
        found[f"shop/migrations/{name}.py"] = MIGRATION.format(
            extra=(extra or {}).get(name, "pass"),
            dependencies=[("shop", before)] if before else [],
            operations=operations,
        )
        last = name
    return found


@dataclass
class Shop:
    """A site whose releases are written without unpacking anything."""

    directory: Path
    python: Path
    databases: Mapping[str, Mapping[str, object]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        self.site.private.mkdir(parents=True)
        self.site.releases.mkdir()
        if not self.databases:
            name = str(self.directory / "db.sqlite3")
            self.databases = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": name}}
        self.site.variables.write_text(f"DATABASES={json.dumps(self.databases)}\n")

    @property
    def site(self) -> Site:
        return Site(self.directory / "site")

    def release(
        self,
        version: str,
        migrations: Mapping[str, str],
        *,
        extra: Mapping[str, str] | None = None,
        after: Mapping[str, str] | None = None,
    ) -> None:
        """Write a release, as `sources` has it; it becomes the live one where none is."""
        self.place(
            version,
            sources(migrations, extra=extra, after=after),
            django="settings",
            migrations={"shop": tuple(migrations)},
        )

    def place(self, version: str, content: Mapping[str, str], **changes: object) -> None:
        """Write a release of these files, with these changes to its manifest."""
        release = self.site.release(version)
        (release / ".artifact").mkdir(parents=True)
        for path, text in content.items():
            (release / path).parent.mkdir(parents=True, exist_ok=True)
            (release / path).write_text(text)
        (release / "virtualenv").symlink_to(self.python.parents[1])
        described = msgspec.structs.replace(self._manifest(version), **changes)
        (release / ".artifact" / "manifest.json").write_bytes(manifest.encode(described))
        if not self.site.current.is_symlink():
            files.replace_link(self.site.current, version)

    def go_live(self, version: str) -> None:
        """Make a release live and good, as an install without processes leaves it."""
        before = releases.live_version(self.site)
        record = journal.begin(
            self.site.journal, command="install", version=version, digest="", previous=before
        )
        files.replace_link(self.site.current, version)
        record.release(version, "good")
        record.over(0, "done")

    def popen(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [ARTIFACT, arguments[0], str(self.site.root), *arguments[1:]],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        child = self.popen(*arguments)
        output, errors = child.communicate(timeout=90)
        schemas.check_answer(arguments, output, child.returncode)
        return subprocess.CompletedProcess(arguments, child.returncode, output, errors)

    def pending(self, *arguments: str) -> dict[str, object]:
        """Return what `artifact migrations --json` says of the default database."""
        told = self.run("migrations", "--json", *arguments)
        database: dict[str, object] = json.loads(told.stdout)["databases"][0]
        return database

    def outcome(self, *arguments: str) -> str:
        return str(self.pending(*arguments)["outcome"])

    def execute(self, code: str) -> str:
        """Run lines of Python in the live release, with `connection` at hand."""
        ran = subprocess.run(
            [
                self.python,
                "-c",
                f"import django; django.setup(); from django.db import connection\n{code}",
            ],
            cwd=self.site.current,
            env={
                **os.environ,
                "DJANGO_SETTINGS_MODULE": "settings",
                "DATABASES": json.dumps(self.databases),
            },
            capture_output=True,
            text=True,
        )
        assert ran.returncode == 0, ran.stderr
        return ran.stdout.removeprefix("settings print, too\n").strip()

    def _manifest(self, version: str) -> Manifest:
        return Manifest(
            name="shop",
            version=version,
            sequence=1,
            created=1,
            source=manifest.Source(),
            root=str(self.site.root),
            python=manifest.Python(
                implementation=sys.implementation.name,
                version=platform.python_version(),
                abi=str(sysconfig.get_config_var("SOABI")),
                platform=f"linux-{platform.machine()}",
                interpreter=str(self.python),
            ),
            environment=manifest.Environment(key="e"),
            codec=manifest.Codec(name="", version="", level=0),
            components=(),
            install=Install(restart="none"),
        )
