"""Judge a new or an altered column: can the old code still read from it and write to it?

Runs in a release's own interpreter, like `verdicts`, which it hands (risk, reason, lock).
"""

from __future__ import annotations

import re
from typing import Any, Optional, Tuple

Judged = Tuple[str, str, str]

# What only Django sees of a field; Field.non_db_attrs has most of it, from Django 4.1 on.
_NO_SCHEMA = frozenset(
    re.findall(
        r"\w+",
        """
        blank choices default editable error_messages help_text limit_choices_to on_delete
        related_name related_query_name validators verbose_name db_comment auto_now auto_now_add
        upload_to storage parent_link swappable allow_unicode path match recursive allow_files
        allow_folders protocol encoder decoder
        """,
    )
)
# Each holds all that those before it hold.
_WHOLE_NUMBERS = ("smallint", "integer", "bigint")
_NOTHING = object()
_SERIALS = {"smallserial": "smallint", "serial": "integer", "bigserial": "bigint"}


def added(field: Any, connection: Any) -> Judged:
    """Judge a column that a table gets which old code writes to."""
    if getattr(field, "many_to_many", False):
        return "safe", "the old code does not know the table of links", "short"
    if has_no_column(field, connection):
        return "safe", "it has no column", "none"
    lock = "writes" if field.unique or field.db_index else "short"
    if getattr(field, "generated", False):
        return "safe", "the database computes it", "table"
    if field.null:
        return "safe", "rows that the old code writes get NULL", lock
    if not _has_database_default(field):
        why = "the old code does not fill it, it takes no NULL and the database has no default"
        return "unsafe", why, lock
    if not field.unique:
        return "safe", "rows that the old code writes get the database's default", lock
    if hasattr(field.db_default, "resolve_expression"):
        return "unknown", "it is unique, and nobody knows whether its default is", lock
    return "unsafe", "it is unique, and every row of the old code gets the same default", lock


def altered(before: Any, after: Any, name: str, connection: Any) -> Judged:
    """Judge a column that changes; both fields are those of the states, not bound to a model."""
    links = [getattr(field, "many_to_many", False) for field in (before, after)]
    if all(links):
        return _links(before, after)
    columns = [_column(field, name) for field in (before, after)]
    if columns[0] != columns[1]:
        return "unsafe", f"the old code looks for the column under the name {columns[0]}", "short"
    changed = _changed(before, after)
    if not changed:
        return "safe", "it changes only what Django knows of the schema", "none"
    for check in (_null, _unique, _default, _reference, _collation):
        found: Optional[Judged] = check(before, after)
        if found is not None:
            return found
    return _type(before, after, connection)


def has_no_column(field: Any, connection: Any) -> bool:
    """Tell whether a field lives without a column, as a generic relation does."""
    if getattr(field, "many_to_many", False) or _is_reference(field):
        return False
    try:
        return field.db_type(connection) is None
    except (AttributeError, KeyError):
        return False  # its type depends on what a field of a state does not know


def _links(before: Any, after: Any) -> Judged:
    keys = ("to", "through", "db_table")
    one, other = (field.deconstruct()[3] for field in (before, after))
    if all(_lower(one.get(key)) == _lower(other.get(key)) for key in keys):
        return "safe", "it changes only what Django knows of the schema", "none"
    return "unsafe", "the old code looks for the links in another table", "short"


def _changed(before: Any, after: Any) -> bool:
    rows = []
    for field in (before, after):
        _, path, positional, keywords = field.deconstruct()
        shown = {key: _lower(keywords[key]) for key in sorted(keywords) if key not in _NO_SCHEMA}
        rows.append((path, positional, shown))
    return bool(rows[0] != rows[1])


def _null(before: Any, after: Any) -> Optional[Judged]:
    if before.null and not after.null:
        return "unsafe", "the old code may write NULL", "table"
    return None


def _unique(before: Any, after: Any) -> Optional[Judged]:
    if before.primary_key != after.primary_key:
        return "unsafe", "the old code relies on another primary key", "table"
    if after.unique and not before.unique:
        return "unsafe", "the old code may write a value twice", "writes"
    return None


def _default(before: Any, after: Any) -> Optional[Judged]:
    if _has_database_default(before) and not (_has_database_default(after) or after.null):
        return "unsafe", "the old code leaves the value to the database's default", "short"
    return None


def _reference(before: Any, after: Any) -> Optional[Judged]:
    if _is_reference(before) != _is_reference(after):
        why = "a reference and a plain column do not hold the same"
        if _is_reference(before):
            return "unknown", f"{why}, though the old code may do with it", "table"
        return "unsafe", f"{why}: the old code may write what refers to nothing", "table"
    if not _is_reference(before):
        return None
    one, other = (field.deconstruct()[3] for field in (before, after))
    if any(_lower(one.get(key)) != _lower(other.get(key)) for key in ("to", "to_field")):
        return "unsafe", "the old code writes references to another table", "table"
    if other.get("db_constraint", True) and not one.get("db_constraint", True):
        return "unsafe", "the old code may write what refers to nothing", "writes"
    return None


def _collation(before: Any, after: Any) -> Optional[Judged]:
    if getattr(before, "db_collation", None) != getattr(after, "db_collation", None):
        return "unknown", "another collation makes other values equal", "table"
    return None


def _type(before: Any, after: Any, connection: Any) -> Judged:
    if _is_reference(before):
        return "safe", "it takes all that the old code writes", "short"
    kinds = [field.get_internal_type() for field in (before, after)]
    if kinds == ["DecimalField", "DecimalField"]:
        return _decimal(before, after)
    if kinds[1].startswith("Positive") and not kinds[0].startswith("Positive"):
        return "unsafe", "the old code may write a number below zero", "table"
    types = [_database_type(field, connection) for field in (before, after)]
    lock = "writes" if after.db_index and not before.db_index else "short"
    if types[0] == types[1]:
        return "safe", "it takes all that the old code writes", lock
    lengths = [_length(text) for text in types]
    if all(length is not None for length in lengths):
        if lengths[0] <= lengths[1]:
            return "safe", "it takes longer values than before", lock
        return "unsafe", "the old code may write a longer value", "table"
    if all(text in _WHOLE_NUMBERS for text in types):
        if _WHOLE_NUMBERS.index(types[0]) < _WHOLE_NUMBERS.index(types[1]):
            return "safe", "it takes larger numbers than before", "table"
        return "unsafe", "the old code may write a larger number", "table"
    return "unsafe", f"{types[0] or kinds[0]} becomes {types[1] or kinds[1]}", "table"


def _decimal(before: Any, after: Any) -> Judged:
    whole = [field.max_digits - field.decimal_places for field in (before, after)]
    if whole[0] <= whole[1] and before.decimal_places <= after.decimal_places:
        lock = "short" if before.decimal_places == after.decimal_places else "table"
        return "safe", "it takes more digits than before", lock
    return "unsafe", "the old code may write more digits", "table"


def _length(text: str) -> Any:
    """Return how many characters a type of text takes; None for what is no text."""
    if text in {"text", "longtext"} or text in {"varchar", "character varying"}:
        return float("inf")
    found = re.fullmatch(r"(?:var)?char(?:acter varying)?\((\d+)\)", text)
    return float(found[1]) if found else None


def _database_type(field: Any, connection: Any) -> str:
    # Types of sizes refer to the column's name in their checks: any does.
    bound = field.clone()
    bound.set_attributes_from_name("column")
    text = str(bound.db_type(connection) or "")
    text = re.sub(r" (unsigned|auto_increment)\b.*", "", text, flags=re.IGNORECASE)
    return _SERIALS.get(text, text)


def _has_database_default(field: Any) -> bool:
    # Django's own word for "none" is a class, before Django 5.0 there is no attribute.
    given = getattr(field, "db_default", _NOTHING)
    return given is not _NOTHING and getattr(given, "__name__", "") != "NOT_PROVIDED"


def _is_reference(field: Any) -> bool:
    return bool(getattr(field, "remote_field", None)) and not field.many_to_many


def _column(field: Any, name: str) -> str:
    return str(field.db_column or (f"{name}_id" if _is_reference(field) else name))


def _lower(value: Any) -> Any:
    """Compare names of models as Django does, and everything by what it says."""
    if isinstance(value, str):
        return value.lower()
    if isinstance(value, dict):
        return {key: _lower(one) for key, one in value.items()}
    return value
