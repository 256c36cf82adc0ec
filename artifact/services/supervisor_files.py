"""The files supervisor reads: where its configuration is, what it includes, what stands there.

The API tells neither; and not every setting of a program.
"""

from __future__ import annotations

import configparser
import fnmatch
import glob
import os
import platform
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

USUAL = (Path("/etc/supervisor/supervisord.conf"), Path("/etc/supervisord.conf"))
"""Debian's, and where supervisor looks by itself when it is told nothing."""

_PROGRAM = re.compile(r"(?:fcgi-)?program:(.+)")


class Layout(msgspec.Struct, frozen=True):
    """A main configuration file and what it includes."""

    main: Path
    patterns: tuple[str, ...]
    """Of [include], as absolute globs."""

    @property
    def files(self) -> tuple[Path, ...]:
        """All files that are read now, the main one first."""
        found = [Path(name) for pattern in self.patterns for name in sorted(glob.glob(pattern))]
        return (self.main, *found)

    def includes(self, path: Path) -> bool:
        """Tell whether a file at that path would be read."""
        return any(fnmatch.fnmatch(str(path), pattern) for pattern in self.patterns)

    def place_for(self, name: str) -> Path | None:
        """Return where a file of that name, without suffix, is read; None where nothing fits."""
        for pattern in self.patterns:
            parent, _, last = pattern.rpartition("/")
            if last.startswith("*") and not glob.has_magic(parent + last[1:]):
                return Path(parent, name + last[1:])
        return None

    def programs(self) -> Iterator[tuple[str, Path, dict[str, str]]]:
        """Yield every program with the file it stands in and its settings."""
        for path in self.files:
            for section, content in read(path).items():
                if matched := _PROGRAM.fullmatch(section):
                    yield matched[1].strip(), path, content


def layout(main: Path) -> Layout:
    """Read what a main file includes."""
    text = read(main).get("include", {}).get("files", "")
    expanded = text.replace("%(here)s", str(main.parent)).replace(
        "%(host_node_name)s", platform.node()
    )
    return Layout(main, tuple(str(main.parent / pattern) for pattern in expanded.split()))


def read(path: Path) -> dict[str, dict[str, str]]:
    """Return the sections of a file; nothing of one that cannot be read, as it may be another's."""
    parser = configparser.RawConfigParser(
        strict=False, inline_comment_prefixes=(";", "#"), allow_no_value=True
    )
    try:
        parser.read_string(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, configparser.Error):
        return {}
    return {
        section: {key: value or "" for key, value in parser[section].items()}
        for section in parser.sections()
    }


def main_of(pid: int) -> Path | None:
    """Return the main file of a running supervisord; None where it cannot be known."""
    import psutil  # see listening.py

    try:
        daemon = psutil.Process(pid)
        words, directory = daemon.cmdline(), daemon.cwd()
    except psutil.Error:
        return usual()
    named = _option(words)
    if named:
        return Path(directory, named)
    program = next((word for word in words if os.path.basename(word) == "supervisord"), "")
    return _searched(Path(directory, program), Path(directory))


def running() -> tuple[str, ...]:
    """Return the addresses of the supervisords that run here, as far as we may see them.

    PyPI's has its socket wherever its configuration says.
    """
    import psutil  # see listening.py

    found: dict[str, None] = {}
    for daemon in psutil.process_iter(["cmdline"]):
        words: list[str] = daemon.info["cmdline"] or []
        if any(os.path.basename(word) == "supervisord" for word in words[:2]):
            main = main_of(daemon.pid)
            if main is not None and (url := address(main)):
                found[url] = None
    return tuple(found)


def address(main: Path) -> str:
    """Return the URL of the unix socket that a main file names; empty where it names none."""
    section = read(main).get("unix_http_server", {})
    path = section.get("file", "").replace("%(here)s", str(main.parent))
    if not path:
        return ""
    user, password = section.get("username", ""), section.get("password", "")
    return f"unix://{f'{user}:{password}@' if user else ''}{main.parent / path}"


def usual() -> Path | None:
    """Return the file at its usual place; None where there is none."""
    return next((path for path in USUAL if path.is_file()), None)


def _option(words: Sequence[str]) -> str:
    for word, following in zip(words, [*words[1:], ""], strict=True):
        if word in {"-c", "--configuration"}:
            return following
        if word.startswith("--configuration="):
            return word.partition("=")[2]
        if word.startswith("-c") and not word.startswith("--"):
            return word[2:]
    return ""


def _searched(program: Path, directory: Path) -> Path | None:
    # The order is that of supervisor.options.Options.__init__.
    above = program.parent.parent
    places = [above / "etc", above, directory, directory / "etc", Path("/etc")]
    found = [place / "supervisord.conf" for place in places]
    return next((path for path in (*found, USUAL[0]) if path.is_file()), None)
