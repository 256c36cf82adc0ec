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
from collections.abc import Mapping
from typing import Any, Literal, get_args, get_origin

import msgspec

from artifact.configuration import schema

PREFIX = "ARTIFACT"
_BOOLEANS = {
    **dict.fromkeys(("true", "yes", "on", "1"), True),
    **dict.fromkeys(("false", "no", "off", "0"), False),
}
# Nearer than this, an unknown ARTIFACT_<SECTION>_… is a mistyped key; else it is not ours to judge.
_MISTYPED = 0.85


class Overridden(msgspec.Struct):
    """A document with the variables' values laid over it, and which key came from which."""

    document: dict[str, Any]
    origins: dict[schema.Key, str] = msgspec.field(default_factory=dict)
    problems: list[tuple[str, str]] = msgspec.field(default_factory=list)
    """(variable, what is wrong with its name)."""


def lay_over(
    document: Mapping[str, Any], kind: type[msgspec.Struct], environment: Mapping[str, str]
) -> Overridden:
    """Return the document with the environment's overrides of the schema `kind` laid over it."""
    result = Overridden(copy.deepcopy(dict(document)))
    known: set[str] = set()
    sections: set[str] = set()
    _walk(result, kind, (PREFIX,), (), environment, known, sections)
    for name, value in environment.items():
        if not value or name in known or not name.startswith(tuple(f"{s}_" for s in sections)):
            continue
        import difflib

        near = difflib.get_close_matches(name, known, n=1, cutoff=_MISTYPED)
        if near:
            result.problems.append((name, f"is no key's variable; did you mean {near[0]}?"))
    return result


def _walk(
    result: Overridden,
    kind: type[msgspec.Struct],
    prefix: tuple[str, ...],
    key: schema.Key,
    environment: Mapping[str, str],
    known: set[str],
    sections: set[str],
) -> None:
    for one in msgspec.structs.fields(kind):
        here = (*key, one.encode_name)
        variable = "_".join((*prefix, _capitals(one.encode_name)))
        struct = schema.struct_of(one.type)
        if struct is not None and schema.alternatives(one.type) == (struct,):
            sections.add(variable)
            _walk(result, struct, (variable,), here, environment, known, sections)
        elif get_origin(one.type) is dict:
            sections.add(variable)
            _walk_table(result, one.type, variable, here, environment, known, sections)
        elif get_origin(one.type) is tuple and schema.struct_of(get_args(one.type)[0]):
            continue
        else:
            known.add(variable)
            if environment.get(variable):
                _set(result, here, _parse(environment[variable], one.type), variable)


def _walk_table(
    result: Overridden,
    kind: Any,
    variable: str,
    key: schema.Key,
    environment: Mapping[str, str],
    known: set[str],
    sections: set[str],
) -> None:
    struct = schema.struct_of(get_args(kind)[1])
    if struct is None:
        for name, value in environment.items():
            if name.startswith(f"{variable}_") and value:
                known.add(name)
                _set(result, (*key, name[len(variable) + 1 :]), value, name)
        return
    present: Any = result.document
    for part in key:
        present = present.get(part) if isinstance(present, dict) else None
    for name in list(present) if isinstance(present, dict) else []:
        prefix = f"{variable}_{_capitals(name)}"
        _walk(result, struct, (prefix,), (*key, name), environment, known, sections)


def _set(result: Overridden, key: schema.Key, value: object, variable: str) -> None:
    table: dict[Any, Any] = result.document
    for part in key[:-1]:
        inner = table.setdefault(part, {})
        if not isinstance(inner, dict):
            return  # the file has something else there, which is reported with the file's key
        table = inner
    table[key[-1]] = value
    result.origins[key] = variable


def _capitals(name: str) -> str:
    return name.upper().replace("-", "_")


def _parse(text: str, kind: Any) -> object:
    """Return what TOML would have held; the schema refuses text that does not parse."""
    if get_origin(kind) is tuple:
        return [part.strip() for part in text.split(",") if part.strip()]
    leaves = [_bare(member) for member in schema.alternatives(kind)]
    if bool in leaves and text.lower() in _BOOLEANS:
        return _BOOLEANS[text.lower()]
    for number in (int, float):
        if number in leaves or (number is int and float in leaves):
            try:
                return number(text)
            except ValueError:
                continue
    return text


def _bare(kind: Any) -> Any:
    """Return what is annotated: `float` of `Annotated[float, …]`."""
    if get_origin(kind) is Literal:
        return kind
    return getattr(kind, "__origin__", kind)
