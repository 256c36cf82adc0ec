"""Judge migration operations: does the old code still work on the new schema, and what is locked.

Runs in a release's own interpreter, where Python 3.8 and Django 3.2 are enough, and in ours, where
there is no Django: `preview` has operations judged as their text has them, without any schema.
Operation objects are judged, not SQL: what an operation means for code stands in the object, in the
SQL only its effect.
"""

from __future__ import annotations

from typing import Any, Dict, List, NamedTuple, Optional, Set, Tuple

from . import alterations

SAFE, UNSAFE, UNKNOWN = "safe", "unsafe", "unknown"
_GRAVITY = (SAFE, UNKNOWN, UNSAFE)

NONE, SHORT, WRITES, TABLE = "none", "short", "writes", "table"
"""What a running application waits for: nothing, an instant, all its writes, the whole table."""

_NOT_KNOWN_YET = "the old code does not know this table"


class Verdict(NamedTuple):
    """What an operation does to those who still run the old code."""

    risk: str
    reason: str
    lock: str = NONE


_NOT_TOLD = Verdict(UNKNOWN, "only the schema tells", TABLE)


class Place(NamedTuple):
    """Where an operation stands: its application, and the schema before and after it.

    Where the states have no models, nothing is known of the schema.
    """

    connection: Any
    app: str
    before: Any
    after: Any
    fresh: Fresh


class Fresh(NamedTuple):
    """Tables and columns that the plan itself makes: no old code can use them."""

    models: Set[Tuple[str, str]]
    fields: Set[Tuple[str, str, str]]


def nothing_fresh() -> Fresh:
    """Return the state at the beginning of a plan."""
    return Fresh(set(), set())


def worst(verdicts: List[Verdict]) -> Verdict:
    """Return the gravest verdict, the first of several; a migration without operations is safe."""
    if not verdicts:
        return Verdict(SAFE, "it changes nothing")
    return max(verdicts, key=lambda verdict: _GRAVITY.index(verdict.risk))


def marked(migration: Any) -> Optional[Verdict]:
    """Return what a django-safemigrate marker says; None where there is none."""
    marker = getattr(migration, "safe", None)
    when = getattr(marker, "when", marker)
    text = str(getattr(when, "value", when)).lower().replace("-", "_")
    if text in {"before_deploy", "always"}:
        return Verdict(SAFE, f"its author marked it Safe.{text}()")
    if text == "after_deploy":
        return Verdict(UNSAFE, "its author marked it Safe.after_deploy()")
    return None


def judge(operation: Any, place: Place) -> Verdict:
    """Judge one operation, which those before it in the plan decide about, too.

    Never raises for an operation of an unknown kind.
    """
    kind = _kind(operation)
    judged = judge_kind(kind or type(operation).__name__, operation, place)
    if not _applies(operation, place):
        return Verdict(SAFE, f"nothing of it is for the database {place.connection.alias!r}")
    return judged


def judge_kind(kind: str, operation: Any, place: Place) -> Verdict:
    """Judge what has the attributes of one of Django's operations.

    Args:
        kind: the name of Django's own class.
    """
    if kind not in _JUDGES:
        return Verdict(UNKNOWN, f"nobody but its author knows what {kind} does", TABLE)
    judged: Verdict = _unseen(kind, operation, place) or _JUDGES[kind](operation, place)
    _remember(kind, operation, place.app, place.fresh)
    return judged


def names_of(kind: str) -> Tuple[str, ...]:
    """Return the parameters of an operation that name its table, then its column, in order."""
    if kind in _OF_NO_MODEL:
        return ()
    if kind in _OF_A_MODEL:
        return ("name",)
    return _RENAMING.get(kind, ("model_name", "name"))


def _remember(kind: str, operation: Any, app: str, fresh: Fresh) -> None:
    """Note what the operation makes that no old code knows."""
    if kind == "CreateModel":
        fresh.models.add((app, operation.name.lower()))
    elif kind == "RenameModel" and (app, operation.old_name.lower()) in fresh.models:
        fresh.models.add((app, operation.new_name.lower()))
    elif kind == "AddField":
        fresh.fields.add((app, operation.model_name.lower(), operation.name.lower()))
    elif kind == "RenameField":
        model = operation.model_name.lower()
        if (app, model, operation.old_name.lower()) in fresh.fields:
            fresh.fields.add((app, model, operation.new_name.lower()))


def _kind(operation: Any) -> Optional[str]:
    """Return the name of Django's own class that says how the operation acts on a database.

    A subclass counts as its base only where it leaves that base's way of acting alone.
    """
    own_class: Any = type(operation)
    for base in own_class.__mro__:
        if base.__name__ in _JUDGES and base.__module__.startswith("django."):
            own = own_class.database_forwards is base.database_forwards
            return base.__name__ if own else None
        if base.__name__ == "CreateExtension" and base.__module__.startswith("django."):
            return "CreateExtension"
    return None


def _applies(operation: Any, place: Place) -> bool:
    """Ask the project's database routers, as Django will."""
    from django.db import router

    kind = _kind(operation)
    if kind == "SeparateDatabaseAndState":
        return True
    names = names_of(kind) if kind else ("model_name",)
    table = getattr(operation, names[0], None) if names else None
    hints = {"model_name": table.lower()} if table else getattr(operation, "hints", {})
    return bool(router.allow_migrate(place.connection.alias, place.app, **hints))


def _field(place: Place, state: Any, operation: Any, name: str) -> Any:
    """Return a field of a schema; None where nobody knows the schema."""
    model = state.models.get((place.app, operation.model_name.lower()))
    return model and model.fields[name]


def _options(place: Place, name: str) -> Optional[List[Dict[str, Any]]]:
    """Return a model's options before and after; None where nobody knows the schema."""
    states = [state.models.get((place.app, name.lower())) for state in (place.before, place.after)]
    return None if any(one is None for one in states) else [one.options for one in states]


def _unseen(kind: str, operation: Any, place: Place) -> Optional[Verdict]:
    """Judge what acts on a table or a column that old code cannot see, or that is not Django's."""
    names = [getattr(operation, name) for name in names_of(kind) if hasattr(operation, name)]
    key = (place.app, *(name.lower() for name in names[:2]))
    if not names:
        return None
    if key[:2] in place.fresh.models:
        return Verdict(SAFE, _NOT_KNOWN_YET)
    if kind in _OF_OLD_COLUMNS and key in place.fresh.fields:
        return Verdict(SAFE, "the old code does not know this column")
    model = place.before.models.get(key[:2]) or place.after.models.get(key[:2])
    if model is not None and not model.options.get("managed", True):
        return Verdict(SAFE, "Django does not manage this table")
    if model is not None and model.options.get("proxy"):
        return Verdict(SAFE, "a proxy has no table of its own")
    return None


def _create_model(operation: Any, place: Place) -> Verdict:
    related = any(field.remote_field for _, field in operation.fields)
    return Verdict(SAFE, _NOT_KNOWN_YET, SHORT if related else NONE)


def _delete_model(operation: Any, place: Place) -> Verdict:
    why = f"the old code still reads and writes the table of {operation.name}"
    return Verdict(UNSAFE, why, SHORT)


def _rename_model(operation: Any, place: Place) -> Verdict:
    model = place.before.models.get((place.app, operation.old_name.lower()))
    if model is not None and model.options.get("db_table") and not _many_to_many(model):
        return Verdict(SAFE, "the table has a name of its own and keeps it")
    return Verdict(
        UNSAFE, f"the old code looks for the table under the name {operation.old_name}", SHORT
    )


def _many_to_many(model: Any) -> bool:
    return any(getattr(field, "many_to_many", False) for field in model.fields.values())


def _rename_field(operation: Any, place: Place) -> Verdict:
    field = _field(place, place.before, operation, operation.old_name)
    if field is not None and field.db_column:
        return Verdict(SAFE, "the column has a name of its own and keeps it")
    return Verdict(
        UNSAFE, f"the old code looks for the column under the name {operation.old_name}", SHORT
    )


def _alter_table(operation: Any, place: Place) -> Verdict:
    options = _options(place, operation.name)
    if options is None:
        return _NOT_TOLD
    before, after = (one.get("db_table") or None for one in options)
    if before == after:
        return Verdict(SAFE, "the table keeps its name")
    return Verdict(UNSAFE, "the old code looks for the table under its old name", SHORT)


def _add_field(operation: Any, place: Place) -> Verdict:
    if operation.field is None:
        return _NOT_TOLD
    return Verdict(*alterations.added(operation.field, place.connection))


def _remove_field(operation: Any, place: Place) -> Verdict:
    field = _field(place, place.before, operation, operation.name)
    if field is not None and alterations.has_no_column(field, place.connection):
        return Verdict(SAFE, "it has no column")
    what = "table of links" if getattr(field, "many_to_many", False) else "column"
    return Verdict(UNSAFE, f"the old code names the {what} of {operation.name}", SHORT)


def _alter_field(operation: Any, place: Place) -> Verdict:
    before, after = (
        _field(place, state, operation, operation.name) for state in (place.before, place.after)
    )
    if before is None or after is None:
        return _NOT_TOLD
    return Verdict(*alterations.altered(before, after, operation.name, place.connection))


def _add_constraint(operation: Any, place: Place) -> Verdict:
    name = getattr(operation.constraint, "name", "")
    return Verdict(UNSAFE, f"the old code may write what {name} forbids", WRITES)


def _unique_together(operation: Any, place: Place) -> Verdict:
    options = _options(place, operation.name)
    if options is None:
        return _NOT_TOLD
    before, after = ({tuple(row) for row in one.get("unique_together", ())} for one in options)
    if after - before:
        return Verdict(UNSAFE, "the old code may write what it makes unique", WRITES)
    return Verdict(SAFE, "it only takes a constraint away", SHORT)


def _code(operation: Any, place: Place) -> Verdict:
    if getattr(operation.code, "__qualname__", "") == "RunPython.noop":
        return Verdict(SAFE, "going forwards it does nothing")
    if str(getattr(operation.code, "__module__", "")).startswith("django.contrib."):
        return Verdict(SAFE, "Django itself wrote it for code of both ages", SHORT)
    name = getattr(operation.code, "__name__", "its function")
    return Verdict(UNKNOWN, f"nobody but its author knows what {name}() changes", TABLE)


def _sql(operation: Any, place: Place) -> Verdict:
    if operation.sql == "":  # RunSQL.noop
        return Verdict(SAFE, "going forwards it does nothing")
    return Verdict(UNKNOWN, "nobody but its author knows what its SQL changes", TABLE)


def _separate(operation: Any, place: Place) -> Verdict:
    if operation.database_operations is None:
        return _NOT_TOLD
    if not operation.database_operations:
        return Verdict(SAFE, "it changes only what Django knows of the schema")
    judged, before = [], place.before
    for part in operation.database_operations:
        after = before.clone()
        part.state_forwards(place.app, after)
        judged.append(judge(part, place._replace(before=before, after=after)))
        before = after
    return worst(judged)


def _always(risk: str, reason: str, lock: str = NONE) -> Any:
    return lambda _operation, _place: Verdict(risk, reason, lock)


_ONLY_DJANGO = _always(SAFE, "it changes only what Django knows of the schema")

_JUDGES: Dict[str, Any] = {
    "CreateModel": _create_model,
    "DeleteModel": _delete_model,
    "RenameModel": _rename_model,
    "AlterModelTable": _alter_table,
    "AlterModelTableComment": _always(SAFE, "a comment changes no answer", SHORT),
    "AlterModelOptions": _ONLY_DJANGO,
    "AlterModelManagers": _ONLY_DJANGO,
    "AlterOrderWithRespectTo": _always(
        UNSAFE, "the column _order comes or goes, and the old code does not follow", SHORT
    ),
    "AlterUniqueTogether": _unique_together,
    "AlterIndexTogether": _always(SAFE, "an index changes no answer", WRITES),
    "AddField": _add_field,
    "RemoveField": _remove_field,
    "AlterField": _alter_field,
    "RenameField": _rename_field,
    "AddIndex": _always(SAFE, "an index changes no answer", WRITES),
    "AddIndexConcurrently": _always(SAFE, "an index changes no answer"),
    "RemoveIndex": _always(SAFE, "an index changes no answer", SHORT),
    "RemoveIndexConcurrently": _always(SAFE, "an index changes no answer"),
    "RenameIndex": _always(SAFE, "an index changes no answer", SHORT),
    "AddConstraint": _add_constraint,
    "AddConstraintNotValid": _add_constraint,
    "ValidateConstraint": _always(SAFE, "new rows obey the constraint already"),
    "AlterConstraint": _ONLY_DJANGO,
    "RemoveConstraint": _always(SAFE, "it only takes a constraint away", SHORT),
    "RunPython": _code,
    "RunSQL": _sql,
    "SeparateDatabaseAndState": _separate,
    "CreateExtension": _always(SAFE, "an extension changes no table"),
    "CreateCollation": _always(SAFE, "a new collation changes no table"),
    "RemoveCollation": _always(UNSAFE, "the old code may use the collation"),
}
_OF_OLD_COLUMNS = frozenset({"RemoveField", "AlterField", "RenameField"})
_OF_NO_MODEL = frozenset(
    {
        *("RunPython", "RunSQL", "SeparateDatabaseAndState"),
        *("CreateExtension", "CreateCollation", "RemoveCollation"),
    }
)
_OF_A_MODEL = frozenset(
    {
        *("CreateModel", "DeleteModel", "AlterModelTable", "AlterModelTableComment"),
        *("AlterModelOptions", "AlterModelManagers", "AlterOrderWithRespectTo"),
        *("AlterUniqueTogether", "AlterIndexTogether"),
    }
)
_RENAMING = {
    "RenameModel": ("old_name", "new_name"),
    "RenameField": ("model_name", "old_name", "new_name"),
}
