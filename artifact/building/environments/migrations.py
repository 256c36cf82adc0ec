"""Which migrations of Django applications a tree holds, read without importing anything."""

from __future__ import annotations

import ast
import os
import posixpath
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

_DIRECTORY = "migrations"
_MIGRATION = re.compile(rb"^class Migration\s*\(", re.MULTILINE)


def scan(root: Path, paths: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Return the names of the migrations of every application, by the application's label.

    Args:
        root: where the files are.
        paths: of the files, relative to it, with slashes.

    Raises:
        OSError: a file cannot be read.
    """
    every = frozenset(paths)
    found: dict[str, set[str]] = {}
    for package, modules in _candidates(every).items():
        # As Django does it: a directory without __init__.py holds no migrations.
        if posixpath.join(package, _DIRECTORY, "__init__.py") not in every:
            continue
        names = {name for name, path in modules if _is_migration(os.path.join(root, path))}
        if names:
            found.setdefault(_label(root, package, every), set()).update(names)
    return {label: tuple(sorted(found[label])) for label in sorted(found)}


def _candidates(paths: Iterable[str]) -> dict[str, list[tuple[str, str]]]:
    """Return the modules in every `migrations` directory, by the package above it."""
    found: dict[str, list[tuple[str, str]]] = {}
    for path in paths:
        directory, name = posixpath.split(path)
        package, last = posixpath.split(directory)
        # Django's own rule for what is no migration: MigrationLoader.load_disk.
        if last == _DIRECTORY and name.endswith(".py") and name[0] not in "_~":
            found.setdefault(package, []).append((name[:-3], path))
    return found


def _is_migration(path: str) -> bool:
    # Alembic's directories, for one, have the same name, and so has Django's own machinery, which
    # holds such a line in a template of code.
    with open(path, "rb") as stream:
        source = stream.read()
    if not _MIGRATION.search(source):
        return False
    if os.path.basename(path)[0].isdigit():
        return True
    try:
        return any(node.name == "Migration" for node in _classes(ast.parse(source)))
    except (SyntaxError, ValueError):
        return False


def _label(root: Path, package: str, paths: frozenset[str]) -> str:
    """Return an application's label: what its AppConfig says, else the package's last name."""
    name = posixpath.basename(package)
    apps = posixpath.join(package, "apps.py")
    if apps not in paths:
        return name
    try:
        tree = ast.parse((root / apps).read_bytes())
    except (SyntaxError, ValueError):
        return name
    dotted = package.replace("/", ".")
    configs = [
        config
        for config in map(_assignments, _classes(tree))
        # A module may configure other packages, too; the tree may lie in a `src` directory.
        if "name" in config and f".{dotted}".endswith(f".{config['name']}")
    ]
    # Django takes the one marked as default, where there are several.
    chosen = next((config for config in configs if config.get("default")), None)
    if chosen is None:
        chosen = next(iter(configs), {})
    return str(chosen.get("label", name))


def _classes(tree: ast.Module) -> Iterator[ast.ClassDef]:
    return (node for node in tree.body if isinstance(node, ast.ClassDef))


def _assignments(config: ast.ClassDef) -> dict[str, object]:
    """Return the constants that a class's body assigns to names."""
    found: dict[str, object] = {}
    for node in config.body:
        if isinstance(node, ast.Assign):
            targets, value = node.targets, node.value
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            targets, value = [node.target], node.value
        else:
            continue
        for target in targets:
            if isinstance(target, ast.Name) and isinstance(value, ast.Constant):
                found[target.id] = value.value
    return found
