"""The copy of the source that an asset step runs in: the source and the outputs before it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from artifact.building import patterns, source
from artifact.building.assets.outputs import GATHERED, Outputs
from artifact.building.source import Snapshot

State = tuple[int, int, int]
"""Inode, size and change time: a write changes at least one of them."""

_WILD = frozenset("*?[")
_BYTECODE = ("__pycache__",)


def fill(work: Path, snapshot: Snapshot, earlier: Iterable[Outputs]) -> None:
    """Copy the source into an empty directory, then the outputs of earlier steps over it.

    Every file gets the snapshot's time, for there are tools that make names of files from it.
    """
    source.copy(snapshot, work)
    for outputs in earlier:
        for output in outputs.files:
            destination = work / output.path
            destination.parent.mkdir(parents=True, exist_ok=True)
            destination.unlink(missing_ok=True)
            if output.kind == "link":
                destination.symlink_to(output.target)
            else:
                shutil.copyfile(outputs.directory / output.path, destination)
                destination.chmod(output.mode)
                os.utime(destination, (snapshot.created, snapshot.created))


def states(work: Path, outputs: Sequence[str]) -> dict[str, State]:
    """Return the files that match output patterns, and the state they are in."""
    matcher = patterns.below(outputs, "outputs")
    found: dict[str, State] = {}
    for top in _tops(outputs):
        for path, entry in _walk(work, top):
            if path not in found and matcher.match_file(path):
                facts = entry.stat(follow_symlinks=False)
                found[path] = (facts.st_ino, facts.st_size, facts.st_ctime_ns)
    return found


def _tops(outputs: Sequence[str]) -> list[str]:
    """Return the directories above which no output is: a node_modules elsewhere is not walked."""
    tops = set()
    for pattern in outputs:
        parts = pattern.removeprefix("./").rstrip("/").split("/")
        literal = []
        for part in parts[:-1] if pattern[-1] != "/" else parts:
            if _WILD & set(part):
                break
            literal.append(part)
        tops.add("/".join(literal))
    return sorted(tops)


def _walk(work: Path, top: str) -> Iterable[tuple[str, os.DirEntry[str]]]:
    pending = [top]
    while pending:
        below = pending.pop()
        directory = work / below
        if directory.is_symlink() or not directory.is_dir():
            continue
        for entry in os.scandir(directory):
            path = f"{below}/{entry.name}" if below else entry.name
            if entry.name in _BYTECODE or path == GATHERED:
                continue
            if entry.is_dir(follow_symlinks=False):
                pending.append(path)
            else:
                yield path, entry
