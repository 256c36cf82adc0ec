"""Pack a directory tree as an artifact would be, without any cache: pack.py TREE OUTPUT.

The tree is an unpacked artifact; the manifest is the one it came with.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import msgspec

from artifact import manifest
from artifact.archive import writer
from artifact.archive.grouping import Entry
from artifact.manifest import Component, Manifest

# In the order of an artifact: the environment, what asset steps wrote (nothing here), the code.
_VENV = "virtualenv"


def _entries(tree: Path, top: str) -> Iterator[Entry]:
    for directory, names, files in os.walk(tree / top):
        for name in (*names, *files):
            path = f"{directory}/{name}"
            inside = os.path.relpath(path, tree)
            if os.path.islink(path):
                yield Entry(inside, "link", 0o777, os.readlink(path))
            elif name in files:
                yield Entry(inside, "file", os.stat(path).st_mode & 0o777, source=path)


def _code(tree: Path) -> Iterator[Entry]:
    for path in sorted(tree.iterdir()):
        if path.name in {_VENV, ".artifact"}:
            continue
        if path.is_dir():
            yield from _entries(tree, path.name)
        else:
            yield Entry(path.name, "file", path.stat().st_mode & 0o777, source=path)


def _describe(known: Manifest, components: tuple[Component, ...]) -> Manifest:
    return msgspec.structs.replace(known, components=components)


def main(tree: Path, output: Path) -> None:
    """Pack, then join what was packed."""
    known = manifest.decode((tree / ".artifact" / "manifest.json").read_bytes())
    packs = [output.with_suffix(f".{name}") for name in ("venv", "code")]
    packed = [
        writer.pack(_entries(tree, _VENV), packs[0], name="venv", mtime=0),
        writer.pack(_code(tree), packs[1], name="code", mtime=known.created),
    ]
    writer.write(output, packed, partial(_describe, known))
    for path in packs:
        path.unlink()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
