"""Reads artifacts: opens them from their tail, checks every byte, unpacks components."""

from __future__ import annotations

from artifact.archive.checking import verify
from artifact.archive.opening import (
    Artifact,
    FileSource,
    Source,
    from_source,
    naming,
    open_artifact,
)
from artifact.archive.unpacking import extract

__all__ = [
    "Artifact",
    "FileSource",
    "Source",
    "extract",
    "from_source",
    "naming",
    "open_artifact",
    "verify",
]
