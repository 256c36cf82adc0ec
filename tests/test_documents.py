"""The documents for developers keep up with the tree, and messages keep to their words."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]
ARCHITECTURE = PROJECT / "docs" / "architecture.md"
GLOSSARY = PROJECT / "CONTRIBUTING.md"
ROOMS = ("", "artifact", "artifact/building", "artifact/host", "docs")
"""Where a path in the document may begin."""


def named_paths() -> list[str]:
    code = re.findall(r"`([a-z_]+(?:/[a-z_.]*)+|[a-z_]+\.py)`", ARCHITECTURE.read_text())
    return sorted(set(code))


def test_every_path_that_the_architecture_names_is_there() -> None:
    assert len(named_paths()) > 40
    planned = {"artifact/fleet/"}
    for path in named_paths():
        found = [room for room in ROOMS if (PROJECT / room / path).exists()]
        alone = path.endswith(".py") and list((PROJECT / "artifact").rglob(path))
        assert found or alone or path in planned, f"there is no {path}"


def test_every_room_stands_in_the_architecture() -> None:
    text = ARCHITECTURE.read_text()
    packages = [path.parent for path in (PROJECT / "artifact").rglob("__init__.py")]
    rooms = [path for path in packages if path.parent == PROJECT / "artifact"]
    rooms += [path for path in packages if path.parent == PROJECT / "artifact" / "host"]
    for room in rooms:
        assert f"{room.name}/" in text, f"{room.name} is not in {ARCHITECTURE.name}"


def sentences(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the texts in a module that a person may see: strings with a space, no docstrings."""
    tree = ast.parse(path.read_text())
    documentation = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.Constant) or not isinstance(node.value, str):
            continue
        if id(node) not in documentation and " " in node.value:
            yield node.lineno, node.value


def unused_words() -> list[str]:
    line = re.search(r"^Words that messages do not use: (.*)$", GLOSSARY.read_text(), re.MULTILINE)
    assert line is not None
    return re.findall(r"\*([a-z ]+)\*", line[1])


@pytest.mark.parametrize("word", unused_words())
def test_messages_use_the_words_of_the_glossary(word: str) -> None:
    found = [
        f"{path.relative_to(PROJECT)}:{number}: {text}"
        for path in sorted((PROJECT / "artifact").rglob("*.py"))
        for number, text in sentences(path)
        if re.search(rf"\b{word}s?\b", text, re.IGNORECASE)
    ]
    assert found == []
