"""Files that we write and people may edit: whose is it now?"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Literal

_MARK = (
    "# written by `artifact setup` (sha256:{digest}); once edited it is yours, and never replaced\n"
)
_MARKED = re.compile(r"# written by `artifact setup` \(sha256:([0-9a-f]{64})\)[^\n]*\n")

Whose = Literal["nobody", "same", "ours", "edited"]
"""It is missing; it holds the very content; another that we wrote; or what a person wrote."""


def marked(body: str) -> str:
    """Return a file's content with a first line that tells whether the rest was edited since.

    "#" begins a comment for supervisor, nginx, TOML and env files alike.
    """
    return _MARK.format(digest=_digest(body)) + body


def whose(path: Path, content: str) -> Whose:
    """Compare a file with what we would write; raises OSError where it cannot be read."""
    try:
        found = path.read_bytes().decode("utf-8", "surrogateescape")
    except FileNotFoundError:
        return "nobody"
    if found == content:
        return "same"
    return "edited" if _edited(found) else "ours"


def _edited(found: str) -> bool:
    mark = _MARKED.match(found)
    return mark is None or mark[1] != _digest(found[mark.end() :])


def _digest(body: str) -> str:
    return hashlib.sha256(body.encode("utf-8", "surrogateescape")).hexdigest()
