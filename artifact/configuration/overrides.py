"""Environment variables that override configuration keys: `ARTIFACT_<SECTION>_<KEY>`.

The rule, for every key of the schema: the key's path in capitals, joined and hyphenated by `_`.

    name                       ARTIFACT_NAME
    python.interpreter         ARTIFACT_PYTHON_INTERPRETER
    requirements.files         ARTIFACT_REQUIREMENTS_FILES=base.txt,prod.txt
    django.env.SECRET_KEY      ARTIFACT_DJANGO_ENV_SECRET_KEY
    processes.web.stop-timeout ARTIFACT_PROCESSES_WEB_STOP_TIMEOUT=50   (of a configured process)

An empty variable counts as unset. `[[assets]]` are a list without names in the key: not overridden.
"""

from __future__ import annotations

import copy
import difflib
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, get_args, get_origin

import msgspec
from msgspec.structs import FieldInfo

from artifact.configuration import schema

PREFIX = "ARTIFACT"
_BOOLEANS = {
    **dict.fromkeys(("true", "yes", "on", "1"), True),
    **dict.fromkeys(("false", "no", "off", "0"), False),
}
# An unknown ARTIFACT_<SECTION>_… that is nearer than this is a mistyped key; others are not ours.
_MISTYPED = 0.85


class Overridden(msgspec.Struct):
    """A document with variables laid over it, and the variable that each key came from."""

    document: dict[str, Any]
    origins: dict[schema.Key, str] = msgspec.field(default_factory=dict)
    problems: list[tuple[str, str]] = msgspec.field(default_factory=list)
    """(variable, what is wrong with its name)."""


class _Variable(NamedTuple):
    """A variable that overrides a key."""

    name: str
    key: schema.Key
    kind: Any
    """The type of the key's value."""


def lay_over(
    document: Mapping[str, Any],
    kind: type[msgspec.Struct],
    environment: Mapping[str, str],
    overridable: Collection[str] | None = None,
) -> Overridden:
    """Return the document with the environment's overrides of the schema `kind` laid over it.

    Args:
        overridable: the keys at the top that have variables; None: all.
    """
    result = Overridden(copy.deepcopy(dict(document)))
    top = [
        field
        for field in msgspec.structs.fields(kind)
        if overridable is None or field.encode_name in overridable
    ]
    known: set[str] = set()
    for variable in _variables(top, PREFIX, (), document, environment):
        known.add(variable.name)
        if text := environment.get(variable.name):
            _set(result, variable.key, _parse(text, variable.kind), variable.name)
    tables = tuple(f"{_join(PREFIX, field.encode_name)}_" for field in top if _is_table(field.type))
    for name, value in environment.items():
        if value and name not in known and name.startswith(tables):
            near = difflib.get_close_matches(name, known, n=1, cutoff=_MISTYPED)
            if near:
                result.problems.append((name, f"is no key's variable; did you mean {near[0]}?"))
    return result


def _variables(
    fields: Iterable[FieldInfo],
    prefix: str,
    key: schema.Key,
    table: object,
    environment: Mapping[str, str],
) -> Iterator[_Variable]:
    """Yield the variables of a struct's keys, those of the tables below it included."""
    for field in fields:
        name, below = _join(prefix, field.encode_name), (*key, field.encode_name)
        content = table.get(field.encode_name) if isinstance(table, Mapping) else None
        struct = schema.struct_of(field.type)
        if get_origin(field.type) is dict:
            yield from _table_variables(field.type, name, below, content, environment)
        elif struct is not None and _is_table(field.type):
            inner = msgspec.structs.fields(struct)
            yield from _variables(inner, name, below, content, environment)
        elif get_origin(field.type) is not tuple or not schema.struct_of(get_args(field.type)[0]):
            yield _Variable(name, below, field.type)


def _table_variables(
    kind: Any, prefix: str, key: schema.Key, table: object, environment: Mapping[str, str]
) -> Iterator[_Variable]:
    """Yield the variables of a table whose keys the user chooses."""
    struct = schema.struct_of(get_args(kind)[1])
    if struct is None:
        for name in environment:
            if name.startswith(f"{prefix}_"):
                yield _Variable(name, (*key, name.removeprefix(f"{prefix}_")), str)
    elif isinstance(table, Mapping):
        for name, content in table.items():
            inner = msgspec.structs.fields(struct)
            yield from _variables(inner, _join(prefix, name), (*key, name), content, environment)


def _is_table(kind: Any) -> bool:
    """Tell whether a value of this type is always a table: not `str | Health`."""
    return get_origin(kind) is dict or schema.alternatives(kind) == (schema.struct_of(kind),)


def _join(prefix: str, name: str) -> str:
    return f"{prefix}_{name.upper().replace('-', '_')}"


def _set(result: Overridden, key: schema.Key, value: object, variable: str) -> None:
    table: dict[Any, Any] = result.document
    for part in key[:-1]:
        inner = table.setdefault(part, {})
        if not isinstance(inner, dict):
            return  # the file has something else there, which is reported with the file's key
        table = inner
    table[key[-1]] = value
    result.origins[key] = variable


def _parse(text: str, kind: Any) -> object:
    """Return what TOML would have held; the schema refuses text that does not parse."""
    if get_origin(kind) is tuple:
        return [part.strip() for part in text.split(",") if part.strip()]
    # `float` of `Annotated[float, …]`
    leaves = [getattr(member, "__origin__", member) for member in schema.alternatives(kind)]
    if bool in leaves and text.lower() in _BOOLEANS:
        return _BOOLEANS[text.lower()]
    for number in (int, float):
        if number in leaves or (number is int and float in leaves):
            try:
                return number(text)
            except ValueError:
                continue
    return text
