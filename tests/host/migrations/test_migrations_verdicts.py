"""The verdicts are proven: the old code's queries on the new schema, on a real PostgreSQL."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from artifact import files
from tests.host import databases

CASES = {
    # What old code does not notice.
    "a new table": ("safe", "CreateModel('New', [('id', AutoField(primary_key=True))])"),
    "a new table that refers to an old one": (
        "safe",
        (
            "CreateModel('New', [('id', AutoField(primary_key=True)),"
            " ('item', ForeignKey('shop.Item', CASCADE))])"
        ),
    ),
    "a new table that changes in the same plan": (
        "safe",
        (
            "CreateModel('New', [('id', AutoField(primary_key=True))]),"
            "AddField('New', 'size', IntegerField(default=1)), RenameModel('New', 'Newer'),"
            "RemoveField('Newer', 'size'), DeleteModel('Newer')"
        ),
    ),
    "a column that takes NULL": ("safe", "AddField('Item', 'x', IntegerField(null=True))"),
    "a unique column that takes NULL": (
        "safe",
        "AddField('Item', 'x', IntegerField(null=True, unique=True))",
    ),
    "a reference that takes NULL": (
        "safe",
        "AddField('Item', 'x', ForeignKey('shop.Tag', CASCADE, null=True))",
    ),
    "a column with the database's default": (
        "safe",
        "AddField('Item', 'x', IntegerField(db_default=1))",
    ),
    "a column with a computed default": (
        "safe",
        "AddField('Item', 'x', DateTimeField(db_default=Now()))",
    ),
    "a generated column": (
        "safe",
        (
            "AddField('Item', 'x', GeneratedField(expression=F('count') / 2,"
            " output_field=IntegerField(), db_persist=True))"
        ),
    ),
    "more links": ("safe", "AddField('Item', 'x', ManyToManyField('shop.Tag', related_name='+'))"),
    "a column that comes and goes": (
        "safe",
        (
            "AddField('Item', 'x', IntegerField(null=True)), RenameField('Item', 'x', 'y'),"
            "RemoveField('Item', 'y')"
        ),
    ),
    "a longer text": ("safe", "AlterField('Item', 'name', CharField(max_length=40))"),
    "a text without a limit": ("safe", "AlterField('Item', 'name', TextField())"),
    "a larger number": ("safe", "AlterField('Item', 'number', BigIntegerField())"),
    "a larger key": ("safe", "AlterField('Tag', 'id', BigAutoField(primary_key=True))"),
    "more digits": (
        "safe",
        "AlterField('Item', 'amount', DecimalField(max_digits=9, decimal_places=4))",
    ),
    "a number that may be below zero": ("safe", "AlterField('Item', 'count', IntegerField())"),
    "NULL allowed": ("safe", "AlterField('Item', 'name', CharField(max_length=20, null=True))"),
    "not unique any more": ("safe", "AlterField('Item', 'sku', CharField(max_length=10))"),
    "choices and a default": (
        "safe",
        "AlterField('Item', 'name', CharField(max_length=20, choices=[('a', 'A')], default='a'))",
    ),
    "a database default of its own": (
        "safe",
        "AlterField('Item', 'number', IntegerField(db_default=9))",
    ),
    "an index for a column": ("safe", "AlterField('Item', 'number', IntegerField(db_index=True))"),
    "a column's index dropped": ("safe", "AlterField('Item', 'indexed', IntegerField(default=1))"),
    "a reference without a constraint": (
        "safe",
        (
            "AlterField('Item', 'shelf', ForeignKey('shop.Shelf', CASCADE, null=True,"
            " db_constraint=False))"
        ),
    ),
    "a field renamed whose column is not": (
        "safe",
        "RenameField('Item', 'named', 'other')",
    ),
    "an index": ("safe", "AddIndex('Item', Index(fields=['count'], name='c'))"),
    "an index, concurrently": (
        "safe",
        "AddIndexConcurrently('Item', Index(fields=['count'], name='c'))",
    ),
    "an index renamed": ("safe", "RenameIndex('Item', 'renamed', old_name='number_index')"),
    "an index dropped": ("safe", "RemoveIndex('Item', 'number_index')"),
    "a constraint dropped": ("safe", "RemoveConstraint('Item', 'whole')"),
    "nothing unique together any more": ("safe", "AlterUniqueTogether('Item', set())"),
    "options": ("safe", "AlterModelOptions('Item', {'ordering': ['name']})"),
    "a comment": ("safe", "AlterModelTableComment('Item', 'what is on shelves')"),
    "state alone": (
        "safe",
        "SeparateDatabaseAndState(state_operations=[RemoveField('Item', 'name')])",
    ),
    "code that does nothing": ("safe", "RunPython(RunPython.noop)"),
    # What old code falls over.
    "a column dropped": ("unsafe", "RemoveField('Item', 'text')"),
    "a reference dropped": ("unsafe", "RemoveField('Item', 'shelf')"),
    "links dropped": ("unsafe", "RemoveField('Item', 'tags')"),
    "a table dropped": ("unsafe", "RemoveField('Item', 'tags'), DeleteModel('Tag')"),
    "a table renamed": ("unsafe", "RenameModel('Item', 'Thing')"),
    "a table with another name": ("unsafe", "AlterModelTable('Item', 'things')"),
    "a column renamed": ("unsafe", "RenameField('Item', 'name', 'title')"),
    "a column with another name": (
        "unsafe",
        "AlterField('Item', 'number', IntegerField(db_column='other'))",
    ),
    "a column that must be filled": ("unsafe", "AddField('Item', 'x', IntegerField(default=1))"),
    "a blank text": (
        "unsafe",
        "AddField('Item', 'x', CharField(max_length=9, default='', blank=True))",
    ),
    "a unique column with one default": (
        "unsafe",
        "AddField('Item', 'x', IntegerField(db_default=1, unique=True))",
    ),
    "NULL forbidden": (
        "unsafe",
        "AlterField('Item', 'note', CharField(max_length=20, default=''))",
    ),
    "a shorter text": ("unsafe", "AlterField('Item', 'name', CharField(max_length=19))"),
    "a text with a limit": ("unsafe", "AlterField('Item', 'text', CharField(max_length=200))"),
    "a smaller number": ("unsafe", "AlterField('Item', 'number', SmallIntegerField())"),
    "a number not below zero": ("unsafe", "AlterField('Item', 'number', PositiveIntegerField())"),
    "fewer digits": (
        "unsafe",
        "AlterField('Item', 'amount', DecimalField(max_digits=4, decimal_places=2))",
    ),
    "digits moved behind the point": (
        "unsafe",
        "AlterField('Item', 'amount', DecimalField(max_digits=5, decimal_places=3))",
    ),
    "unique": ("unsafe", "AlterField('Item', 'name', CharField(max_length=20, unique=True))"),
    "unique together": ("unsafe", "AlterUniqueTogether('Item', {('name', 'number')})"),
    "a unique constraint": (
        "unsafe",
        "AddConstraint('Item', UniqueConstraint(fields=['name'], name='u'))",
    ),
    "a check": (
        "unsafe",
        "AddConstraint('Item', CheckConstraint(condition=Q(amount__gt=0), name='k'))",
    ),
    "a check for new rows": (
        "unsafe",
        "AddConstraintNotValid('Item', CheckConstraint(condition=Q(amount__gt=0), name='k'))",
    ),
    "the database's default dropped": ("unsafe", "AlterField('Item', 'stamp', IntegerField())"),
    "a reference that is checked": (
        "unsafe",
        (
            "AlterField('Item', 'loose', ForeignKey('shop.Shelf', CASCADE, null=True,"
            " related_name='+'))"
        ),
    ),
    "a reference that is unique": (
        "unsafe",
        "AlterField('Item', 'shelf', OneToOneField('shop.Shelf', CASCADE, null=True))",
    ),
    "an order": ("unsafe", "AlterOrderWithRespectTo('Item', 'shelf')"),
    "a column dropped beside the state": (
        "unsafe",
        "SeparateDatabaseAndState([RemoveField('Item', 'name')], [])",
    ),
    # What nobody can tell.
    "code": ("unknown", "RunPython(lambda apps, editor: None)"),
    "SQL": ("unknown", "RunSQL('SELECT 1')"),
    "code beside the state": (
        "unknown",
        "SeparateDatabaseAndState([RunSQL('SELECT 1')], [])",
    ),
}

PROOF = Path(__file__).with_name("verdict_proof.py")


@pytest.fixture(scope="session")
def proofs(django: Path, shared_directory: Path) -> dict[str, dict[str, str]]:
    """What came of every case, in one process and one database, once for all workers."""
    path = shared_directory / "proofs.json"
    with files.locked(shared_directory / "proofs.lock", doing="proving", wait=240):
        if not path.exists():
            path.write_text(prove(django))
    answer: dict[str, dict[str, str]] = json.loads(path.read_text())
    return answer


def prove(django: Path) -> str:
    cases = {name: source for name, (_, source) in CASES.items()}
    with databases.postgresql() as settings:
        ran = subprocess.run(
            [django, PROOF],
            input=json.dumps({"database": settings, "cases": cases}),
            capture_output=True,
            text=True,
            timeout=120,
        )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


@pytest.mark.parametrize("name", CASES)
def test_the_old_code_on_the_new_schema_agrees_with_the_verdict(
    proofs: dict[str, dict[str, str]], name: str
) -> None:
    expected, _ = CASES[name]
    found = proofs[name]
    assert found["risk"] == expected, found
    assert found["reason"]
    if expected == "safe":
        assert found["said"] == "", found
    if expected == "unsafe":
        assert found["said"] != "", found
