"""Which environments of a site were found to be what an artifact says, and are untouched since.

With a mark, the next install need not read the table of contents of an environment, nor look at
each of its 30,000 files. A mark holds the inode and the time of last change of the directories that
Python loads from. Whoever adds, removes, renames or replaces a file changes that time, and nobody
can set it back. A mark does not show a file that root wrote to in place, nor a translation that
somebody deleted; `artifact doctor` reads every file.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from artifact import files
from artifact.archive.format import ENVIRONMENT_COMPONENT, ENVIRONMENT_PREFIX
from artifact.archive.opening import Artifact
from artifact.archive.toc import Record
from artifact.manifest import Manifest
from artifact.site import Site


def mark(artifact: Artifact, site: Site) -> None:
    """Remember that an environment is what an artifact says; the caller has just compared it.

    What is on the disk must be durable by now. A crash leaves no mark, or a whole one. An error of
    the disk is ignored: without a mark the next install only takes longer.
    """
    key = artifact.manifest.environment.key
    paths = sorted(_loaded_from(artifact.toc(ENVIRONMENT_COMPONENT).records))
    with suppress(OSError):
        state = _state(site.environment(key), paths)
        site.verified.mkdir(mode=0o700, exist_ok=True)
        _sweep(site)
        text = "\n".join([_compared_with(artifact.manifest), state, *paths])
        files.write(site.verified / key, text)


def is_marked(manifest: Manifest, site: Site) -> bool:
    """Tell whether an environment was compared with this very content and is untouched since."""
    key = manifest.environment.key
    try:
        compared, state, *paths = (site.verified / key).read_text("utf-8").split("\n")
        return compared == _compared_with(manifest) and state == _state(
            site.environment(key), paths
        )
    except (OSError, ValueError):
        return False  # then it is compared


def _loaded_from(records: Iterable[Record]) -> set[str]:
    """Return the directories that hold what is loaded or run, and those above them.

    The others are nine of ten, for translations mostly, and would take nine tenths of the time.
    """
    found: set[str] = set()
    for record in records:
        if record.path.endswith((".py", ".so")) or (record.mode == 0o755 and record.kind == "file"):
            above = record.path.rpartition("/")[0]
            while len(above) > len(ENVIRONMENT_PREFIX) and above not in found:
                found.add(above)
                above = above.rpartition("/")[0]
    return {path.removeprefix(ENVIRONMENT_PREFIX) for path in found}


def _compared_with(manifest: Manifest) -> str:
    """Return what tells one content from another; the interpreter is where `bin/python` leads."""
    return f"1 {manifest.component(ENVIRONMENT_COMPONENT).tree} {manifest.python.interpreter}"


def _state(root: Path, paths: Sequence[str]) -> str:
    """Return what tells directories from others, and from themselves at another time."""
    top = f"{root}/"
    found = [os.lstat(root), *(os.lstat(top + path) for path in paths)]
    numbers = [number for one in found for number in (one.st_ino, one.st_ctime_ns)]
    return hashlib.sha256(str(numbers).encode()).hexdigest()


def _sweep(site: Site) -> None:
    """Delete the marks of environments that are gone."""
    for path in site.verified.iterdir():
        if not site.environment(path.name).is_dir():
            path.unlink()
