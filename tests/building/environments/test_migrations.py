"""Migrations are found by reading, as Django would find them by importing."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from artifact.building.environments import migrations
from tests.building.sites import Bench
from tests.conftest import Built

MIGRATION = "from django.db import migrations\n\nclass Migration(migrations.Migration):\n    pass\n"
SEVERAL = """\
class A(AppConfig):
    name = 'shop'
    label = 'a'

class B(AppConfig):
    name = 'shop'
    label = 'b'
    default = True
"""
PACKAGE = {"shop/__init__.py": "", "shop/migrations/__init__.py": ""}


def scan(root: Path, files: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    for path, content in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(content)
    return migrations.scan(root, files)


def test_names_are_sorted_and_what_is_no_migration_is_left_out(tmp_path: Path) -> None:
    found = scan(
        tmp_path,
        {
            **PACKAGE,
            "shop/migrations/0002_more.py": MIGRATION,
            "shop/migrations/0001_initial.py": MIGRATION,
            "shop/migrations/squashed.py": MIGRATION,
            "shop/migrations/_helpers.py": MIGRATION,
            "shop/migrations/operations.py": "def f(): pass\n",
            "shop/migrations/0003_data.json": "{}",
            "shop/migrations/deep/0001_initial.py": MIGRATION,
        },
    )
    assert found == {"shop": ("0001_initial", "0002_more", "squashed")}


def test_a_directory_without_init_holds_none(tmp_path: Path) -> None:
    assert not scan(tmp_path, {"shop/migrations/0001_initial.py": MIGRATION})


def test_the_migrations_of_other_tools_and_templates_of_them_are_none(tmp_path: Path) -> None:
    template = f'TEMPLATE = """\\\n{MIGRATION}"""\n'
    files = {"shop/migrations/env.py": "import alembic\n", "shop/migrations/writer.py": template}
    assert not scan(tmp_path, {**PACKAGE, **files})


@pytest.mark.parametrize(
    ("apps", "label"),
    [
        ("class Shop(AppConfig):\n    name = 'shop'\n    label = 'store'\n", "store"),
        ("class Shop(AppConfig):\n    name = 'shop'\n", "shop"),
        ("class Shop(AppConfig):\n    name: str = 'shop'\n    label: str = 'store'\n", "store"),
        ("class Other(AppConfig):\n    name = 'shop.till'\n    label = 'till'\n", "shop"),
        (SEVERAL, "b"),
        ("{{ not python }}", "shop"),
    ],
)
def test_the_label_is_what_the_configuration_of_the_application_says(
    tmp_path: Path, apps: str, label: str
) -> None:
    files = {**PACKAGE, "shop/apps.py": apps, "shop/migrations/0001_initial.py": MIGRATION}
    assert scan(tmp_path, files) == {label: ("0001_initial",)}


def test_a_source_directory_is_no_part_of_the_name(tmp_path: Path) -> None:
    apps = "class Shop(AppConfig):\n    name = 'acme.shop'\n    label = 's'\n"
    files = {
        "src/acme/shop/apps.py": apps,
        "src/acme/shop/migrations/__init__.py": "",
        "src/acme/shop/migrations/0001_initial.py": MIGRATION,
    }
    assert scan(tmp_path, files) == {"s": ("0001_initial",)}


def test_those_of_installed_packages_are_known_to_a_warm_build(bench: Bench) -> None:
    files = {**PACKAGE, "shop/migrations/0001_initial.py": MIGRATION}
    bench.require(bench.wheel("shop", "1.0", files))
    assert bench.ensure().marker.migrations == {"shop": ("0001_initial",)}
    assert bench.ensure().marker.migrations == {"shop": ("0001_initial",)}


SETTINGS = (
    "import django, json; from django.conf import settings;"
    "apps = ['django.contrib.' + n for n in ('admin', 'auth', 'contenttypes', 'flatpages',"
    "'redirects', 'sessions', 'sites')];"
    "settings.configure(INSTALLED_APPS=apps, DATABASES={}); django.setup();"
    "from django.db.migrations.loader import MigrationLoader;"
    "loader = MigrationLoader(None, ignore_no_migrations=True);"
    "found = {};"
    "[found.setdefault(app, []).append(name) for app, name in sorted(loader.disk_migrations)];"
    "print(json.dumps([found, django.__path__[0]]))"
)


def test_django_itself_finds_the_same(accounting: Built) -> None:
    (python,) = accounting.checkout.root.glob("virtualenv/*/bin/python")
    argv = [str(python), "-c", SETTINGS]
    run = subprocess.run(argv, capture_output=True, text=True, check=True)
    expected, package = json.loads(run.stdout)
    root = Path(package).parent
    paths = [str(path.relative_to(root)) for path in Path(package).rglob("*.py") if path.is_file()]
    found = migrations.scan(root, paths)
    assert {label: list(names) for label, names in found.items()} == expected
