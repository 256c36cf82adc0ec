"""Bring what virtualenv and the installers wrote into one form.

What is dropped says how and where the environment was made, not what is in it: two compiles from
the same wheels must give the same tree, and no path of the build machine may travel to a server.
"""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

# Of uv and virtualenv, at the top: a lock, and tags that make backup tools and `tar
# --exclude-caches` leave the environment out.
_NOISE = frozenset({".lock", "CACHEDIR.TAG", ".gitignore"})
# Of uv, in a .dist-info: when its cache entry was made, and from which file.
_RECORDS_OF_CACHES = frozenset({"uv_cache.json", "uv_build.json"})
# Holds the command line, and with it the path of the tool that made the environment.
_UNWANTED_SETTINGS = frozenset({"command"})


def clean(environment: Path) -> list[str]:
    """Clean up a freshly installed environment; return the paths of its files, sorted.

    Raises:
        OSError: the disk says no.
    """
    for name in _NOISE:
        (environment / name).unlink(missing_ok=True)
    _clean_settings(environment / "pyvenv.cfg")
    found: list[str] = []
    records: list[str] = []
    for path in _files(str(environment)):
        directory, name = os.path.split(path)
        if directory.endswith(".dist-info"):
            if _is_noise(path, name):
                os.unlink(path)
                continue
            if name == "RECORD":
                records.append(path)
        found.append(os.path.relpath(path, environment))
    for path in records:
        _clean_record(path)
    return sorted(found)


def _clean_settings(settings: Path) -> None:
    lines = settings.read_text().splitlines(keepends=True)
    kept = [line for line in lines if line.partition("=")[0].strip() not in _UNWANTED_SETTINGS]
    settings.write_text("".join(kept))


def _files(directory: str) -> Iterator[str]:
    with os.scandir(directory) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            if entry.is_dir(follow_symlinks=False):
                if entry.name == "__pycache__":
                    # Wheels with bytecode exist; it is of the wrong kind, or of another Python.
                    shutil.rmtree(entry.path)
                else:
                    yield from _files(entry.path)
                continue
            status = entry.stat(follow_symlinks=False)
            if status.st_nlink > 1 and stat.S_ISREG(status.st_mode):
                _own(entry.path)
            yield entry.path


def _own(path: str) -> None:
    """Replace a hardlink into an installer's cache by a copy: ours becomes read-only."""
    beside = f"{path}.new"
    shutil.copy2(path, beside)
    os.replace(beside, path)


def _is_noise(path: str, name: str) -> bool:
    return name in _RECORDS_OF_CACHES or (name == "direct_url.json" and _is_local(path))


def _clean_record(path: str) -> None:
    # Sorted, for uv and pip list in the order in which threads finished; without what was dropped.
    top = os.path.dirname(os.path.dirname(path))
    with open(path, encoding="utf-8", newline="") as stream:
        rows = sorted(row for row in csv.reader(stream) if row)
    kept = [row for row in rows if os.path.lexists(os.path.join(top, row[0]))]
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(kept)
    with open(path, "w", encoding="utf-8", newline="") as stream:
        stream.write(text.getvalue())


def _is_local(path: str) -> bool:
    """Tell whether a package says it came from a file of this machine (our wheelhouse)."""
    with open(path, "rb") as stream:
        try:
            url = json.load(stream).get("url", "")
        except (ValueError, AttributeError):
            return False
    return str(url).startswith("file:")
