"""The commented examples of artifact.toml and site.toml, and how they are filled in."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

Value = str | int | float | bool | Sequence[str] | Mapping[str, str]

ARTIFACT_TOML = Path(__file__).with_name("example.artifact.toml")
SITE_TOML = Path(__file__).with_name("example.site.toml")
_NAME = "accounting"


class Table(msgspec.Struct, frozen=True):
    """Values for one table of the configuration."""

    header: str
    """As it stands in the example: "", "[python]", "[[assets]]", "[processes.web]"."""
    values: Mapping[str, Value]
    """By key; what is not among them stays a comment."""


def fill(example: Path, name: str, tables: Sequence[Table]) -> str:
    """Return an example for an application of this name, with these values set."""
    lines = [line.replace(_NAME, name) for line in example.read_text().splitlines()]
    for table in tables:
        start, end = _span(lines, table.header, name)
        lines[start:end] = _filled(lines[start:end], table)
    return "\n".join(lines) + "\n"


def uncommented(example: Path) -> str:
    """Return an example with every key set."""
    return "\n".join(map(_uncomment, example.read_text().splitlines())) + "\n"


def _span(lines: Sequence[str], header: str, name: str) -> tuple[int, int]:
    """Return where a table begins and ends; the one before the first header is ""."""
    wanted = header.replace(_NAME, name)
    headers = [i for i, line in enumerate(lines) if _uncomment(line).startswith("[")]
    if not header:
        return 0, headers[0]
    start = next(i for i in headers if _uncomment(lines[i]) == wanted)
    return start, next((i for i in headers if i > start), len(lines))


def _filled(lines: Sequence[str], table: Table) -> list[str]:
    filled = [_uncomment(line) if line == f"#{table.header}" else line for line in lines]
    for key, value in table.values.items():
        at = next(i for i, line in enumerate(filled) if _uncomment(line).startswith(f"{key} = "))
        filled[at] = f"{key} = {toml(value)}"
    return filled


def toml(value: Value) -> str:
    """Return a value in TOML; its strings are JSON's, which are a part of TOML's."""
    if isinstance(value, Mapping):
        inner = ", ".join(f"{key} = {toml(item)}" for key, item in value.items())
        return f"{{ {inner} }}"
    if isinstance(value, str | bool | int | float):
        return json.dumps(value, ensure_ascii=False)
    return f"[{', '.join(map(toml, value))}]"


def _uncomment(line: str) -> str:
    # "# words" explain, "#key = value" sets.
    return line[1:] if line[:1] == "#" and line[1:2] not in ("", " ") else line
