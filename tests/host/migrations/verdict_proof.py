"""Run the old code's queries on the new schema; run by the tests in an environment with Django.

Reads {"database": …, "cases": {name: source of the operations}} from stdin and writes, by name,
the verdict, what the queries said ("" when all went well), and the reason.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import django
from django.conf import settings
from django.contrib.postgres import operations as of_postgresql
from django.db import connection, migrations, models
from django.db.migrations.state import ProjectState
from django.db.models import functions

sys.path.insert(0, str(Path(__file__).parents[3] / "artifact" / "host"))

NAMES = {**vars(models), **vars(functions), **vars(migrations), **vars(of_postgresql)}
NAMES["__name__"] = "shop.migrations"

OLD = """
CreateModel("Shelf", [("id", AutoField(primary_key=True))]),
CreateModel("Tag", [("id", AutoField(primary_key=True))]),
CreateModel("Item", [
    ("id", AutoField(primary_key=True)),
    ("sku", CharField(max_length=10, unique=True)),
    ("name", CharField(max_length=20)),
    ("note", CharField(max_length=20, null=True)),
    ("text", TextField(default="", blank=True)),
    ("number", IntegerField()),
    ("count", PositiveIntegerField()),
    ("amount", DecimalField(max_digits=5, decimal_places=2)),
    ("stamp", IntegerField(db_default=5)),
    ("named", IntegerField(db_column="own_name", default=1)),
    ("indexed", IntegerField(db_index=True, default=1)),
    ("day", DateField(null=True)),
    ("shelf", ForeignKey("shop.Shelf", CASCADE, null=True)),
    ("loose", ForeignKey("shop.Shelf", CASCADE, null=True, db_constraint=False,
                         related_name="+")),
    ("tags", ManyToManyField("shop.Tag")),
], options={
    "unique_together": {("name", "sku")},
    "indexes": [Index(fields=["number"], name="number_index")],
    "constraints": [CheckConstraint(condition=Q(number__gte=-(2**31)), name="whole")],
}),
"""


def operations(source: str) -> list[Any]:
    found = eval(f"[{source}]", dict(NAMES))
    assert isinstance(found, list)
    return found


def apply(operation: Any, state: ProjectState) -> ProjectState:
    after = state.clone()
    operation.state_forwards("shop", after)
    with connection.schema_editor(atomic=getattr(operation, "atomic", None) is not False) as editor:
        operation.database_forwards("shop", editor, state, after)
    return after


def query(old: ProjectState) -> None:
    """Do what the old code may do: the extremes of all its columns, and the same twice."""
    item, shelf, tag = (old.apps.get_model("shop", name) for name in ("Item", "Shelf", "Tag"))
    list(item.objects.all())
    values = {
        "name": "n" * 20,
        "note": None,
        "text": "t" * 300,
        "number": -(2**31),
        "count": 2**31 - 1,
        "amount": "-999.99",
        "loose_id": 4711,
    }
    place, label = shelf.objects.create(), tag.objects.create()
    for number in range(2):
        made = item.objects.create(sku=f"new-{number}", shelf=place, **values)
        made.refresh_from_db()
        made.tags.add(label)
        assert list(made.tags.all()) == [label]
        assert made.stamp == 5
        made.save()
    item.objects.exclude(sku="old").update(**values)
    assert item.objects.filter(number=-(2**31), shelf=place, note=None).count() == 2
    made.delete()


def prove(source: str, number: int) -> dict[str, str]:
    if TYPE_CHECKING:
        from artifact.host.probes import verdicts
    else:
        from probes import verdicts

    with connection.cursor() as cursor:
        cursor.execute(f"CREATE SCHEMA proof_{number}")
        cursor.execute(f"SET search_path TO proof_{number}")
    state = ProjectState()
    for operation in operations(OLD):
        state = apply(operation, state)
    old = state.clone()
    item = old.apps.get_model("shop", "Item")
    # A row of before, so that operations meet a table with data; no extremes, which all keep.
    item.objects.create(sku="old", name="n", note="n", number=1, count=1, amount="1.00")
    query(old)
    item.objects.exclude(sku="old").delete()
    fresh, found = verdicts.nothing_fresh(), []
    for operation in operations(source):
        after = state.clone()
        operation.state_forwards("shop", after)
        place = verdicts.Place(connection, "shop", state, after, fresh)
        found.append(verdicts.judge(operation, place))
        state = apply(operation, state)
    verdict = verdicts.worst(found)
    said = ""
    try:
        query(old)
    except Exception as error:
        said = f"{type(error).__name__}: {error}".splitlines()[0]
    return {"risk": verdict.risk, "reason": verdict.reason, "lock": verdict.lock, "said": said}


def main() -> None:
    request = json.load(sys.stdin)
    settings.configure(DATABASES={"default": request["database"]}, INSTALLED_APPS=[], USE_TZ=True)
    django.setup()
    answer = {}
    for number, (name, source) in enumerate(request["cases"].items()):
        try:
            answer[name] = prove(source, number)
        except Exception as error:
            answer[name] = {"risk": "none", "reason": "", "lock": "", "said": repr(error)}
            connection.close()
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
