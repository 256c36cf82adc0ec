"""Makes artifacts that lie. It shares nothing with the product but docs/format.md, so that it can
write what the product's writer would refuse to."""

from __future__ import annotations

import gzip
import hashlib
import json
import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.archive.independent_reader import MEMBER, header, pad

MTIME = 1_700_000_000
INTERPRETER = "/usr/local/bin/python3.11"

_KINDS = {"f": b"0", "l": b"2", "d": b"5"}


@dataclass(frozen=True)
class Node:
    """One entry, and how it lies."""

    letter: str
    path: str
    content: bytes = b""
    target: str = ""
    mode: int | None = None
    line: str | None = None
    """Stands in the table of contents instead of the true line."""
    blocks: bytes | None = None
    """Stand in the tar instead of the true header, content and padding."""

    @property
    def listed(self) -> str:
        if self.line is not None:
            return self.line
        mode = self.mode or {"f": 0o644, "d": 0o755, "l": 0o777}[self.letter]
        sha256 = hashlib.sha256(self.content).hexdigest() if self.letter == "f" else "-"
        fields = [self.letter, f"{mode:04o}", str(len(self.content)), sha256, self.path]
        return "\t".join(fields + [self.target] * (self.letter == "l")) + "\n"

    @property
    def packed(self) -> bytes:
        if self.blocks is not None:
            return self.blocks
        mode = self.mode or {"f": 0o644, "d": 0o755, "l": 0o777}[self.letter]
        name = self.path.encode("utf-8", "surrogateescape") + b"/" * (self.letter == "d")
        kind, target = _KINDS[self.letter], self.target.encode("utf-8", "surrogateescape")
        return header(kind, name, mode, len(self.content), MTIME, target) + pad(self.content)


def file(path: str, content: bytes = b"content", **lies: Any) -> Node:
    return Node("f", path, content, **lies)


def directory(path: str, **lies: Any) -> Node:
    return Node("d", path, **lies)


def link(path: str, target: str, **lies: Any) -> Node:
    return Node("l", path, target=target, **lies)


def member(raw: bytes) -> bytes:
    """Return a gzip member."""
    squeezed = bytearray(gzip.compress(raw, mtime=0))
    squeezed[:10] = MEMBER
    return bytes(squeezed)


def stored(content: bytes) -> bytes:
    """Return a gzip member that holds up to 65,535 bytes as they are."""
    blocks = struct.pack("<BHH", 1, len(content), len(content) ^ 0xFFFF) + content
    return MEMBER + blocks + struct.pack("<II", zlib.crc32(content), len(content))


def _same(value: Any) -> Any:
    return value


def craft(
    path: Path,
    code: Sequence[Node] = (Node("f", "manage.py", b"print()"),),
    *,
    venv: Sequence[Node] = (),
    assets: Sequence[Node] = (),
    data: Callable[[bytes], bytes] = _same,
    group: Callable[[str], str] = _same,
    lines: Callable[[str], str] = _same,
    toc: Callable[[bytes], bytes] = _same,
    manifest: Callable[[dict[str, Any]], object] = _same,
    content: Callable[[bytes], bytes] = _same,
    before_manifest: bytes = b"",
    beside_manifest: bytes = b"",
    manifest_member: Callable[[bytes], bytes] = stored,
    footer: Callable[[bytes], bytes] = _same,
    after: bytes = b"",
) -> Path:
    """Write an artifact; every keyword is a place to lie at.

    Args:
        data: what becomes of the member of the code's entries.
        group: of its `g` line.
        lines: of the code's table of contents, before anything is computed from it.
        toc: of the member that holds it.
        manifest: changes the manifest, a dict of Python values, in place.
        content: what becomes of its JSON.
        before_manifest: stands between the last component and the manifest.
        beside_manifest: tar entries that follow manifest.json.
        manifest_member: makes the manifest's member of its tar.
    """
    whole = b""
    components = []
    for name, nodes in {"venv": venv, "assets": assets, "code": code}.items():
        own = name == "code"
        entries = sorted(nodes, key=lambda node: node.path) if not own else list(nodes)
        raw = b"".join(node.packed for node in entries)
        packed = member(raw)
        packed = data(packed) if own else packed
        digest = hashlib.sha256(packed).hexdigest()
        ending = f"g\t{len(packed)}\t{len(raw)}\t{digest}\n"
        text = "".join(node.listed for node in entries)
        text += group(ending) if own else ending
        if not nodes:
            packed, text = b"", ""
        text = lines(text) if own else text
        encoded = text.encode("utf-8", "surrogateescape")
        title = f".artifact/{name}.toc".encode()
        contents = member(header(b"0", title, 0o644, len(encoded), MTIME) + pad(encoded))
        contents = toc(contents) if own else contents
        tree = "".join(line for line in text.splitlines(True) if not line.startswith("g\t"))
        start = len(whole)
        components.append(
            {
                "name": name,
                "tree": hashlib.sha256(tree.encode("utf-8", "surrogateescape")).hexdigest(),
                "entries": len(tree.splitlines()),
                "raw": sum(len(node.content) for node in nodes),
                "mtime": MTIME,
                "data": {"offset": start, "length": len(packed)},
                "toc": {"offset": start + len(packed), "length": len(contents)},
                "toc-sha256": hashlib.sha256(contents).hexdigest(),
            }
        )
        whole += packed + contents
    whole += before_manifest
    described = _manifest(components)
    manifest(described)
    shown = content(json.dumps(described, sort_keys=True, separators=(",", ":")).encode())
    entry = header(b"0", b".artifact/manifest.json", 0o644, len(shown), MTIME) + pad(shown)
    last = manifest_member(entry + beside_manifest + bytes(1024))
    end = bytes.fromhex("1f8b08040000000000ff") + struct.pack("<H2sHH", 54, b"AR", 50, 1)
    end += struct.pack("<QQ", len(whole), len(last)) + hashlib.sha256(shown).digest()
    path.write_bytes(whole + last + footer(end + b"\x03\0" + bytes(8)) + after)
    return path


def _manifest(components: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "format": 1,
        "name": "accounting",
        "version": "1337",
        "sequence": 1337,
        "created": MTIME,
        "source": {},
        "root": "/srv/accounting",
        "python": {
            "implementation": "cpython",
            "version": "3.11.7",
            "abi": "cpython-311-x86_64-linux-gnu",
            "platform": "linux-x86_64",
            "interpreter": INTERPRETER,
        },
        "environment": {"key": "0" * 32},
        "codec": {"name": "zlib", "version": "1.2.13", "level": 9},
        "components": components,
    }
