"""A tree with every kind of name and size that packs in its own way, and artifacts made of it."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Sequence
from pathlib import Path

from artifact import manifest
from artifact.archive import format as layout
from artifact.archive import writer
from artifact.archive.grouping import Entry
from artifact.archive.packed import Packed, codec
from artifact.manifest import Component, Manifest

INTERPRETER = "/usr/local/bin/python3.11"
CREATED = 1_700_000_000

ENVIRONMENT = {
    "virtualenv/bin/activate": b"# a script\n",
    "virtualenv/lib/python3.11/site-packages/django/__init__.py": b"VERSION = (5, 2, 8)\n",
    "virtualenv/lib/python3.11/site-packages/empty.py": b"",
}
ENVIRONMENT_LINKS = {
    "virtualenv/bin/python": INTERPRETER,
    "virtualenv/bin/python3": "python",
    "virtualenv/lib64": "lib",
}
CODE = {
    "manage.py": b"#!/usr/bin/env python3\n",
    "accounting/views.py": b"def version(request): ...\n",
    "accounting/templates/übersicht mit leerzeichen.html": "<p>größe</p>\n".encode(),
}


def awkward() -> dict[str, bytes]:
    """Return files whose names or sizes lie on a limit, path to content."""
    noise = random.Random(0).randbytes
    return {
        "empty": b"",
        ".hidden/..almost": b"dots",
        "block": b"x" * 512,
        "more-than-a-block": b"x" * 513,
        "a-group": noise(layout.GROUP_BYTES),
        "two-of-these-are-more-than-a-group-1": noise(150_000),
        "two-of-these-are-more-than-a-group-2": noise(150_000),
        "a-piece": b"p" * layout.PIECE_BYTES,
        "more-than-a-piece": b"q" * (layout.PIECE_BYTES + 1),
        "ends-with-a-piece": b"r" * (2 * layout.PIECE_BYTES - 512),
        "many-pieces": noise(1000) * 9000,
        "n" * 100: b"fits the name field",
        "n" * 101: b"does not",
        "d" * 60 + "/" + "n" * 60: b"needs the prefix field",
        "p" * 155 + "/" + "n" * 100: b"fills name and prefix",
        "p" * 156 + "/" + "n" * 100: b"is one too long",
        "u" * 255: b"the longest part",
        "deep/" * 203 + "x" * 9: b"the longest path",
        "ü" * 127: b"not ASCII and long",
        "name with spaces, 'quotes', $dollars; and \\": b"for shells",
        "-rf": b"for careless commands",
        "日本語/файл": b"scripts",
    }


def entries_of(contents: dict[str, bytes], links: dict[str, str], root: Path) -> list[Entry]:
    """Write the contents below `root` and return the entries to pack them."""
    root.mkdir(parents=True, exist_ok=True)
    found = []
    for number, (path, content) in enumerate(contents.items()):
        source = root / f"{len(list(root.iterdir()))}-{number}"
        source.write_bytes(content)
        mode = 0o755 if path.endswith(("manage.py", "activate")) else 0o640
        found.append(Entry(path, "file", mode, source=source))
    found += [Entry(path, "link", 0o777, target) for path, target in links.items()]
    return found


def pack(
    contents: dict[str, bytes],
    sink: Path,
    *,
    links: dict[str, str] | None = None,
    name: str = "code",
    level: int = 6,
    threads: int | None = None,
) -> Packed:
    """Pack contents as a component."""
    entries = entries_of(contents, links or {}, sink.with_suffix(".sources"))
    return writer.pack(entries, sink, name=name, level=level, threads=threads)


def describe(
    version: str = "1337", **changes: object
) -> Callable[[tuple[Component, ...]], Manifest]:
    """Return what makes a manifest of the components."""

    def make(components: tuple[Component, ...]) -> Manifest:
        whole = Manifest(
            name="accounting",
            version=version,
            sequence=int(version),
            created=CREATED,
            source=manifest.Source(revision="4be1a93c00ff", branch="main"),
            root="/srv/accounting",
            python=manifest.Python(
                implementation="cpython",
                version="3.11.7",
                abi="cpython-311-x86_64-linux-gnu",
                platform="linux-x86_64",
                interpreter=INTERPRETER,
            ),
            environment=manifest.Environment(key="0" * 32, packages={"django": "5.2.8"}),
            codec=codec(6),
            components=components,
            migrations={"ledger": ("0001_initial",)},
            processes={"web": manifest.Process(command="gunicorn accounting.wsgi")},
        )
        import msgspec

        return msgspec.structs.replace(whole, **changes)

    return make


def build(
    output: Path,
    *,
    code: dict[str, bytes] | None = None,
    version: str = "1337",
    sign: Callable[[bytes], bytes] | None = None,
    **changes: object,
) -> str:
    """Write a small artifact with all three components and return its digest."""
    work = output.with_suffix(".work")
    work.mkdir()
    packed: Sequence[Packed] = [
        pack(ENVIRONMENT, work / "venv", links=ENVIRONMENT_LINKS, name="venv"),
        pack({"static/app.1234.js": b"let x = 1;\n"}, work / "assets", name="assets"),
        pack(CODE if code is None else code, work / "code", links={"latest.py": "manage.py"}),
    ]
    return writer.write(output, packed, describe(version, **changes), sign=sign)


def tree(root: Path) -> dict[str, tuple[str, int, bytes]]:
    """Return what is below a directory: path to kind, mode, and content or target."""
    found: dict[str, tuple[str, int, bytes]] = {}
    for parent, directories, names in os.walk(root):
        for name in directories + names:
            path = Path(parent, name)
            shown = str(path.relative_to(root))
            mode = path.lstat().st_mode & 0o7777
            if path.is_symlink():
                found[shown] = ("link", 0o777, os.readlink(path).encode())
            elif path.is_dir():
                found[shown] = ("directory", mode, b"")
            else:
                found[shown] = ("file", mode, path.read_bytes())
    return found
