"""The door to environment variables."""

from __future__ import annotations

import os
from collections.abc import Mapping


def get(name: str, default: str = "") -> str:
    """Return the value of a variable; an empty one counts as unset."""
    return os.environ.get(name) or default


def everything() -> Mapping[str, str]:
    """Return a copy of the environment, the ground a child's environment is built on."""
    return dict(os.environ)
