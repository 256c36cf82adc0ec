"""The JSON Schemas of `docs/json`, and documents held against them.

`python -m tests.cli.schemas` writes them anew. They come from the structs of the commands, whose
docstrings are the descriptions.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import msgspec

from artifact.cli import COMMANDS
from artifact.cli.answers import Document, Error

DIRECTORY = Path(__file__).parents[2] / "docs" / "json"

Schema = dict[str, Any]


def generate() -> dict[str, str]:
    """Return every file's name and text."""
    for name in COMMANDS:
        importlib.import_module(f"artifact.cli.{name}")
    kinds: dict[str, list[type[Document]]] = {}
    for kind in _subclasses(Document):
        tag = str(kind.__struct_config__.tag)
        if tag != kind.__name__:  # a base of others has no command
            kinds.setdefault(tag, []).append(kind)
    return {
        path(command).name: json.dumps(_schema(command, found), indent=2, ensure_ascii=False) + "\n"
        for command, found in kinds.items()
    }


def path(command: str) -> Path:
    """Return where the schema of a command stands: "cache ls" in cache-ls.schema.json."""
    return DIRECTORY / f"{command.replace(' ', '-')}.schema.json"


def check(stdout: str) -> Schema:
    """Return the one document on stdout; fails where it is not what the schema promises."""
    document: Schema = json.loads(stdout)
    schema = json.loads(path(document["command"]).read_text("utf-8"))
    jsonschema.Draft202012Validator(schema).validate(document)
    return document


def check_answer(arguments: tuple[str, ...], stdout: str, code: int) -> None:
    """Check the answer of a command line that has `--json`; a signal may have cut it off."""
    if "--json" in arguments and "--help" not in arguments and code >= 0:
        document = check(stdout)
        assert document["ok"] is (code == 0)
        assert document.get("error", {"code": 0})["code"] == code


def _subclasses(kind: type[Document]) -> Iterator[type[Document]]:
    for one in kind.__subclasses__():
        yield one
        yield from _subclasses(one)


def _schema(command: str, kinds: list[type[Document]]) -> Schema:
    references, definitions = msgspec.json.schema_components(
        [*kinds, Error], ref_template="#/$defs/{name}"
    )
    for definition in definitions.values():
        _complete(definition)
    for kind in _structs(kinds):
        found = definitions[kind.__name__ if kind.__name__ in definitions else _long_name(kind)]
        for name, text in _descriptions(kind).items():
            found["properties"][name]["description"] = text
    failure = {
        "title": "Failure",
        "description": "The command failed before it had anything else to tell.",
        "type": "object",
        "properties": {
            "version": {"const": 1},
            "command": {"const": command},
            "ok": {"const": False},
            "error": {"$ref": "#/$defs/Error"},
        },
        "required": ["version", "command", "ok", "error"],
        "additionalProperties": False,
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"artifact {command} --json",
        "anyOf": [*references[:-1], {"$ref": "#/$defs/Failure"}],
        "$defs": {**definitions, "Failure": failure},
    }


def _complete(definition: Schema) -> None:
    """Say that fields with a default are printed as well; they are optional to a reader only."""
    required = definition.setdefault("required", [])
    for name, field in definition.get("properties", {}).items():
        if "default" in field:
            del field["default"]
            required.append(name)


def _structs(kinds: list[type[Document]]) -> Iterator[type[msgspec.Struct]]:
    """Yield every struct that is in the documents."""
    seen = set[type]()
    waiting: list[object] = list(msgspec.inspect.multi_type_info(kinds))
    while waiting:
        one = waiting.pop()
        if isinstance(one, msgspec.inspect.StructType):
            if one.cls in seen:
                continue
            seen.add(one.cls)
            yield one.cls
            waiting += [field.type for field in one.fields]
        elif isinstance(one, msgspec.inspect.UnionType):
            waiting += one.types
        elif isinstance(one, msgspec.inspect.VarTupleType):
            waiting.append(one.item_type)
        elif isinstance(one, msgspec.inspect.DictType):
            waiting.append(one.value_type)


def _long_name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _descriptions(kind: type[msgspec.Struct]) -> dict[str, str]:
    """Return the encoded names of fields to the docstrings below them, those of bases included."""
    texts: dict[str, str] = {}
    for one in reversed(kind.__mro__):
        if not issubclass(one, msgspec.Struct) or one is msgspec.Struct:
            continue
        (definition,) = ast.parse(textwrap.dedent(inspect.getsource(one))).body
        assert isinstance(definition, ast.ClassDef)
        for field, below in zip(definition.body, definition.body[1:], strict=False):
            match field, below:
                case (
                    ast.AnnAssign(target=ast.Name(id=name)),
                    ast.Expr(value=ast.Constant(value=str(text))),
                ):
                    texts[name] = inspect.cleandoc(text)
                case _:
                    pass
    encoded = dict(zip(kind.__struct_fields__, kind.__struct_encode_fields__, strict=True))
    return {encoded[name]: text for name, text in texts.items()}


def main() -> None:
    """Write the files."""
    DIRECTORY.mkdir(exist_ok=True)
    for name, text in generate().items():
        (DIRECTORY / name).write_text(text, "utf-8")


if __name__ == "__main__":
    main()
