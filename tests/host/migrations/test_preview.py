"""What new migrations do is told before a release is unpacked, as far as their text tells it."""

from __future__ import annotations

import ast

import pytest

from artifact.host.migrations import preview
from artifact.host.probes.verdicts import nothing_fresh
from artifact.manifest import Install
from tests.host.machine import Machine
from tests.host.migrations.test_migrations_verdicts import CASES
from tests.host.shop import sources

AT_WORST = {
    "a field renamed whose column is not": "unsafe",
}
"""Cases of which only the schema knows that they are harmless."""
TOP = "from django.db import migrations, models\n"


def text(operations: str) -> bytes:
    """Write a migration as Django's own `makemigrations` imports what it needs."""
    listed = ast.parse(f"[{operations}]", mode="eval").body
    assert isinstance(listed, ast.List)
    kinds = {
        one.func.id
        for one in listed.elts
        if isinstance(one, ast.Call) and isinstance(one.func, ast.Name)
    }
    calls = [node.func for node in ast.walk(listed) if isinstance(node, ast.Call)]
    others = {one.id for one in calls if isinstance(one, ast.Name)} - kinds
    lines = [f"from django.db.migrations import {', '.join(sorted(kinds))}"]
    lines += [f"from django.db.models import {', '.join(sorted(others))}"] if others else []
    return "\n".join(
        [*lines, f"class Migration(migrations.Migration):\n    operations = [{operations}]\n"]
    ).encode()


@pytest.mark.parametrize("name", CASES)
def test_what_the_text_tells_is_what_the_schema_tells(name: str) -> None:
    proven, operations = CASES[name]
    risk, _, kinds = preview.judge(text(operations), nothing_fresh()).partition(": ")
    assert risk in {proven, "unknown", AT_WORST.get(name, proven)}, operations
    assert (risk == "safe") == (kinds == "")


def test_what_comes_and_goes_is_told_though_few_alterations_are() -> None:
    told = [
        preview.judge(text(source), nothing_fresh()).partition(":")[0]
        for _, source in CASES.values()
    ]
    wanted = [risk for risk, _ in CASES.values()]
    assert sum(a == b for a, b in zip(told, wanted, strict=True)) >= 30


@pytest.mark.parametrize(
    ("operations", "risk"),
    [
        ("migrations.AddField('a', 'b', models.IntegerField(null=True))", "safe"),
        ("migrations.AddField('a', 'b', field=models.IntegerField())", "unsafe: AddField"),
        ("migrations.AddField('a', 'b', own.Field())", "unknown: AddField"),
        ("migrations.AddField('a', 'b', models.IntegerField(**options))", "unknown: AddField"),
        ("migrations.RunPython(forth), migrations.DeleteModel('a')", "unsafe: DeleteModel"),
        ("own.CreateModel('a')", "unknown: CreateModel"),
        ("*more", "unknown: what nobody but its author knows"),
        ("", "safe"),
        ("(", "unknown"),
    ],
)
def test_only_what_is_surely_djangos_is_judged(operations: str, risk: str) -> None:
    source = (
        f"{TOP}import own\nclass Migration(migrations.Migration):\n  operations = [{operations}]"
    )
    assert preview.judge(source.encode(), nothing_fresh()) == risk
    marked = f"{source}\n  safe = Safe.before_deploy()"
    assert preview.judge(marked.encode(), nothing_fresh()) == "unknown"


def test_what_an_earlier_migration_made_no_old_code_knows() -> None:
    fresh = nothing_fresh()
    assert preview.judge(text("CreateModel('New', [])"), fresh) == "safe"
    assert preview.judge(text("RenameModel('New', 'Newer')"), fresh) == "safe"
    assert preview.judge(text("RemoveField('newer', 'x')"), fresh) == "safe"
    assert preview.judge(text("RemoveField('old', 'x')"), fresh) == "unsafe: RemoveField"


def test_the_plan_tells_the_risk_of_what_is_new(machine: Machine) -> None:
    drop = "migrations.RemoveField('Item', 'note')"
    code = {
        "0001_initial": "migrations.CreateModel('Item', [])",
        "0002_note": "migrations.AddField('Item', 'note', models.TextField(null=True))",
        "0003_drop": drop.replace("note", "name"),
        "0004_python": "migrations.RunPython(insert)",
    }
    before = {"shop": ("0001_initial",), "auth": ("0001_initial",)}
    after = {"shop": tuple(code), "auth": ("0001_initial", "0002_elsewhere")}
    quiet = Install(restart="none")
    old = machine.build("1", processes={}, install=quiet, migrations=before)
    assert machine.install(old).returncode == 0
    # Another application has a migration of that name.
    more = {"other/migrations/0002_note.py": TOP, **sources(code)}
    new = machine.build("2", processes={}, install=quiet, migrations=after, files=more)
    planned = machine.install(new, "--plan")
    assert planned.returncode == 0, planned.stderr

    def told(output: str) -> set[str]:
        return set(output.partition("new in it: ")[2].partition("\n")[0].split(", "))

    assert told(planned.stdout) == {
        "shop.0002_note (safe)",
        "shop.0003_drop (unsafe: RemoveField)",
        "shop.0004_python (unknown: RunPython)",
        "auth.0002_elsewhere",
    }
    assert not machine.site.release("2").exists()
    assert machine.run("install", "--stage", str(new)).returncode == 0
    switching = machine.run("switch", str(machine.site.root), "--plan")
    assert told(switching.stdout) == told(planned.stdout)
