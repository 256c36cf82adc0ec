"""Fit parsed TOML to typed structures, naming the exact key of everything that is wrong."""

from __future__ import annotations

import difflib
import json
import types
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import msgspec

from artifact import redaction

Key = tuple[str | int, ...]
"""Where a value stands: ("processes", "web", "stop-timeout"), ("assets", 0, "outputs")."""

Kind = TypeVar("Kind", bound=msgspec.Struct)

_WRONG = object()
_LONGEST_SHOWN = 60
_NAMES: dict[object, tuple[str, str]] = {
    str: ("a string", "strings"),
    int: ("a whole number", "whole numbers"),
    float: ("a number", "numbers"),
    bool: ("true or false", "booleans"),
}


class KeyProblem(msgspec.Struct, frozen=True):
    """One thing that is wrong with the value of one key."""

    key: Key
    text: str


def dotted(key: Key) -> str:
    """Return the key as people write it: `processes.web.stop-timeout`, `assets[0].outputs`."""
    text = ""
    for part in key:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            plain = part.replace("-", "").replace("_", "").isalnum() and part.isascii()
            text += ("." if text else "") + (part if plain else json.dumps(part))
    return text


def fit(document: object, kind: type[Kind]) -> tuple[Kind | None, list[KeyProblem]]:
    """Return the document as an instance of `kind`, or None and every problem it has.

    `kind` is a msgspec struct of structs, `dict[str, …]`, `tuple[…, ...]`, unions and literals. The
    `msgspec.Meta(description=…)` of a field is how errors name what was expected.
    """
    problems: list[KeyProblem] = []
    value = _fit(document, kind, (), problems)
    return (None if problems else value), problems


def choices(values: Iterable[str]) -> str:
    """Return `"slots", "graceful" or "none"`."""
    *first, last = [json.dumps(value) for value in values]
    return f"{', '.join(first)} or {last}" if first else last


def nearest(word: str, known: Iterable[str]) -> str:
    """Return `, did you mean "…"?`, or nothing when no known word is near."""
    near = difflib.get_close_matches(word, list(known), n=1)
    return f', did you mean "{near[0]}"?' if near else ""


def alternatives(kind: Any) -> tuple[Any, ...]:
    """Return the members of a union but for None; of anything else, the thing itself."""
    if get_origin(kind) in (Union, types.UnionType):
        return tuple(member for member in get_args(kind) if member is not type(None))
    return (kind,)


def struct_of(kind: Any) -> type[msgspec.Struct] | None:
    """Return the struct among the alternatives, if there is one."""
    for member in alternatives(kind):
        if isinstance(member, type) and issubclass(member, msgspec.Struct):
            return member
    return None


def _fit(value: object, kind: Any, key: Key, problems: list[KeyProblem]) -> Any:
    struct = struct_of(kind)
    if struct is not None and (isinstance(value, dict) or alternatives(kind) == (struct,)):
        return _fit_struct(value, struct, key, problems)
    if get_origin(kind) is dict and isinstance(value, dict):
        inner = get_args(kind)[1]
        return {name: _fit(item, inner, (*key, name), problems) for name, item in value.items()}
    if get_origin(kind) is tuple and isinstance(value, list):
        inner = get_args(kind)[0]
        return tuple(_fit(item, inner, (*key, i), problems) for i, item in enumerate(value))
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError:
        problems.append(KeyProblem(key, f"expected {_expected(kind)}, got {shown(value, key)}"))
        return _WRONG


def _fit_struct(
    value: object, struct: type[msgspec.Struct], key: Key, problems: list[KeyProblem]
) -> Any:
    if not isinstance(value, Mapping):
        problems.append(KeyProblem(key, f"expected a table, got {shown(value, key)}"))
        return _WRONG
    before = len(problems)
    fields = {field.encode_name: field for field in msgspec.structs.fields(struct)}
    problems += [
        KeyProblem((*key, name), f"unknown key{nearest(name, fields)}")
        for name in value
        if name not in fields
    ]
    arguments: dict[str, Any] = {}
    for name, one in fields.items():
        if name in value:
            arguments[one.name] = _fit(value[name], one.type, (*key, name), problems)
        elif one.required:
            problems.append(KeyProblem((*key, name), f"is missing: expected {_expected(one.type)}"))
    return struct(**arguments) if len(problems) == before else _WRONG


def _expected(kind: Any) -> str:
    if get_origin(kind) is Annotated:
        inner, *metas = get_args(kind)
        described = [meta.description for meta in metas if isinstance(meta, msgspec.Meta)]
        return next((text for text in described if text), _expected(inner))
    if get_origin(kind) is Literal:
        return choices(get_args(kind))
    if get_origin(kind) is tuple:
        return f"a list of {_NAMES.get(get_args(kind)[0], ('', 'tables'))[1]}"
    if get_origin(kind) is dict or struct_of(kind) is kind:
        return "a table"
    if kind in _NAMES:
        return _NAMES[kind][0]
    return " or ".join(_expected(member) for member in alternatives(kind))


def shown(value: object, key: Key) -> str:
    """Return a value for a message: as TOML writes it, short, and never a secret."""
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list):
        return "a list"
    # Variables, and keys named like secrets, may hold secrets: only the type is shown.
    if "env" in key or any(redaction.names_a_secret(str(part)) for part in key):
        return _NAMES.get(type(value), ("a date or time", ""))[0]
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _LONGEST_SHOWN else text[: _LONGEST_SHOWN - 1] + "…"
