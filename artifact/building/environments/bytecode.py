"""Bytecode that is right wherever and whenever the tree is unpacked.

Timestamps in pycs are worthless in an archive that normalises times: every import would compile
anew. The environment, which nobody edits, gets unchecked-hash pycs; the application's code gets
checked-hash ones, so that a hot fix on a server still takes effect.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal

import msgspec

from artifact import process, steps, variables
from artifact.building.caches import Caches
from artifact.building.interpreter import Interpreter

CONSTANT = {"PYTHONHASHSEED": "0", "SOURCE_DATE_EPOCH": "315532800", "PYTHONUTF8": "1"}
"""Variables of whatever writes into an environment; 1980-01-01 is the first time a zip can hold."""

_PROBE = Path(__file__).parents[1] / "probes" / "compile.py"
_SECONDS = 3600.0
_PACKAGE_DEPTH = len(("lib", "python3.11", "site-packages", "django"))
_LARGE_PACKAGE = 2_000_000
"""In bytes of source. The directories of a larger package are compiled separately."""
_DAY = 86400.0
# The tests of packages stay in the environment, for some packages import them. They are not
# compiled, for no server process imports them. In a large environment they took a third of the
# compiler's time, and their pycs a tenth of the bytes.
_TESTS = "/tests/"


class Bytecode(msgspec.Struct, frozen=True):
    """A compiled file of the application, for the archive."""

    path: str
    """In the application: "accounting/__pycache__/models.cpython-311.pyc"."""
    source: str
    """Where its bytes are."""


class Broken(msgspec.Struct, frozen=True):
    """A file that is no Python of this version: a template, or of another version."""

    path: str
    reason: str


class _File(msgspec.Struct, frozen=True):
    """One file to compile."""

    source: str
    shown: str
    """The name tracebacks will show."""
    target: str


def compile_environment(
    root: Path, paths: Iterable[str], interpreter: Interpreter, tell: steps.Listener
) -> int:
    """Compile the Python files of an environment in place; return how many could not be.

    The bytes are the same under every key: a server that has another environment need not fetch
    those of packages that did not change. They hold the constant path `virtualenv/default`, and
    Python puts the real one in when it loads them.

    Args:
        root: the environment.
        paths: of its files, relative to it; all that are no Python files are passed over, and
            the tests of packages, which Python compiles in memory should somebody import them.

    Raises:
        ChildFailed: the compiler was killed, or could not write.
    """
    compiled = [path for path in sorted(paths) if path.endswith(".py") and _TESTS not in path]
    shown = root.with_name("default")
    jobs = [
        [
            _File(source, f"{shown}/{path}", _pyc_path(source, interpreter))
            for path in job
            for source in (os.path.join(root, path),)
        ]
        for job in _by_package(root, compiled)
    ]
    return len(_compile(jobs, "unchecked", interpreter, tell))


def _by_package(root: Path, paths: Sequence[str]) -> list[list[str]]:
    """Group files so that the bytes of a package depend on that package alone.

    The other files that a process compiled change the bytes, see `probes/compile.py`. Starting a
    process for each file would double the time. The largest groups come first, so that no
    processor is idle at the end.
    """
    found: list[tuple[int, list[str]]] = []
    left = [(_PACKAGE_DEPTH, list(paths))]
    while left:
        depth, several = left.pop()
        groups: dict[tuple[str, ...], list[str]] = {}
        for path in several:
            parts = path.split("/")
            # The files directly in a directory are one group. Each subdirectory is a group of its
            # own. A module beside the packages counts as a package.
            upto = depth if len(parts) <= _PACKAGE_DEPTH else min(depth, len(parts) - 1)
            groups.setdefault(tuple(parts[:upto]), []).append(path)
        for directory, group in groups.items():
            weight = sum(os.path.getsize(os.path.join(root, path)) for path in group)
            if weight > _LARGE_PACKAGE and len(directory) == depth:
                left.append((depth + 1, group))
            else:
                found.append((weight, group))
    found.sort(key=lambda one: (-one[0], one[1]))
    return [group for _, group in found]


def _pyc_path(path: str, interpreter: Interpreter) -> str:
    directory, name = os.path.split(path)
    return os.path.join(directory, "__pycache__", f"{name[:-3]}.{interpreter.cache_tag}.pyc")


def _compile(
    jobs: Sequence[Sequence[_File]],
    kind: Literal["checked", "unchecked"],
    interpreter: Interpreter,
    tell: steps.Listener,
) -> list[Broken]:
    """Compile jobs, each in a process of its own; return the files that could not be."""
    if not jobs:
        return []
    # Read here, for a probe is not importable by the other Python. Not -I nor -E: they would
    # switch off PYTHONHASHSEED, and it decides the order of sets in the bytecode.
    code = f"import sys; sys.path.pop(0); exec(compile(open({str(_PROBE)!r}).read(), 'c', 'exec'))"
    argv = [str(interpreter.path), "-s", "-S", "-B", "-W", "ignore", "-c", code]
    argv += [kind, str(len(os.sched_getaffinity(0)))]
    text = "".join(
        "".join(f"{file.source}\0{file.shown}\0{file.target}\0" for file in job) + "\0"
        for job in jobs
    )
    result = process.run(
        argv,
        env=_environment(),
        stdin=text,
        capture=True,
        timeout=_SECONDS,
        tell=_progress(sum(len(job) for job in jobs), tell),
    )
    rows = (json.loads(line) for line in result.stdout.splitlines())
    return sorted((Broken(*row) for row in rows), key=lambda broken: broken.path)


def _environment() -> dict[str, str]:
    """Return constant variables: what stands in them would be part of the compiler's state."""
    kept = {"LD_LIBRARY_PATH": variables.get("LD_LIBRARY_PATH")}
    return {name: value for name, value in kept.items() if value} | CONSTANT


def _progress(total: int, tell: steps.Listener) -> steps.Listener:
    done = 0

    def hear(event: steps.Event) -> None:
        nonlocal done
        if isinstance(event, steps.Output) and event.line.startswith("compiled "):
            done += int(event.line.rpartition(" ")[2])
            tell(steps.Progress("compiling", done, total, "files"))
        else:
            tell(event)

    return hear


def compile_sources(
    root: Path,
    paths: Iterable[str],
    shown_root: str,
    interpreter: Interpreter,
    caches: Caches,
    tell: steps.Listener,
) -> tuple[Bytecode, ...]:
    """Return the bytecode of the application's Python files, compiling those that are new.

    Args:
        root: where the files are.
        paths: of the application's files, relative to it; only Python files are compiled.
        shown_root: the directory that tracebacks show, constant over versions, so that an
            unchanged file keeps equal bytes: "/srv/accounting/releases/current".

    Files that are no Python of this version are warned about: templates of code are legal.

    Raises:
        ChildFailed: the compiler was killed, or could not write.
        OSError: a file cannot be read, or the cache cannot be written.
    """
    kept = _PycCache(caches.bytecode / _family(interpreter, shown_root))
    digests = {
        path: _digest(path, os.path.join(root, path)) for path in paths if path.endswith(".py")
    }
    missing = [path for path, digest in digests.items() if not kept.knows(digest)]
    if missing:
        kept.directory.mkdir(parents=True, exist_ok=True)
        # One job a file: its bytes must not depend on which others were compiled already.
        jobs = [
            [
                _File(
                    os.path.join(root, path),
                    f"{shown_root}/{path}",
                    str(kept.directory / f"{digests[path]}.{{size}}.pyc"),
                )
            ]
            for path in sorted(missing)
        ]
        broken = _compile(jobs, "checked", interpreter, tell)
        kept.mark_broken(
            {digests[found.path[len(shown_root) + 1 :]]: found.reason for found in broken}
        )
        kept.refresh()
    return tuple(_collect(digests, kept, interpreter, tell))


def _collect(
    digests: dict[str, str], kept: _PycCache, interpreter: Interpreter, tell: steps.Listener
) -> Iterable[Bytecode]:
    for path, digest in digests.items():
        reason = kept.broken_reason(digest)
        if reason is None:
            yield Bytecode(_pyc_path(path, interpreter), kept.use(digest))
        else:
            tell(steps.Warned(f"{path} cannot be compiled and is packed as it is: {reason}"))


def _family(interpreter: Interpreter, shown_root: str) -> str:
    """Return the name of the directory whose pycs may be used: same compiler, same root."""
    where = hashlib.sha256(shown_root.encode("utf-8", "surrogateescape")).hexdigest()[:16]
    return f"{interpreter.cache_tag}-{interpreter.version}-{interpreter.magic}-{where}"


def _digest(path: str, full: str) -> str:
    descriptor = os.open(full, os.O_RDONLY | os.O_CLOEXEC)
    try:
        size = os.fstat(descriptor).st_size
        content = os.read(descriptor, size + 1)
        while len(content) < size and (more := os.read(descriptor, size)):
            content += more
    finally:
        os.close(descriptor)
    name = path.encode("utf-8", "surrogateescape")
    return hashlib.sha256(name + b"\0" + content).hexdigest()[:40]


class _PycCache:
    """The pycs of one family: `<digest>.<size>.pyc`, or `<digest>.0.broken` with the reason.

    The size in the name shows a file that a power cut left empty or short.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._names: dict[str, str] = {}
        self.refresh()

    def refresh(self) -> None:
        """Read the directory."""
        self._names = {}
        with contextlib.suppress(FileNotFoundError):
            self._names = {name.partition(".")[0]: name for name in os.listdir(self.directory)}

    def knows(self, digest: str) -> bool:
        name = self._names.get(digest)
        return name is not None and (name.endswith(".broken") or self._whole(name))

    def mark_broken(self, reasons: dict[str, str]) -> None:
        for digest, reason in reasons.items():
            (self.directory / f"{digest}.0.broken").write_text(reason)

    def broken_reason(self, digest: str) -> str | None:
        name = self._names[digest]
        return (self.directory / name).read_text() if name.endswith(".broken") else None

    def use(self, digest: str) -> str:
        return os.path.join(self.directory, self._names[digest])

    def _whole(self, name: str) -> bool:
        path = os.path.join(self.directory, name)
        try:
            status = os.stat(path)
        except OSError:
            return False
        if status.st_size != int(name.split(".")[1]):
            return False
        if time.time() - status.st_mtime > _DAY:
            # `prune` goes by it. Another user's file cannot be touched, and need not be.
            with contextlib.suppress(OSError):
                os.utime(path)
        return True


def unused(caches: Caches, *, since: float) -> Iterator[tuple[Path, int]]:
    """Yield the application's pycs that no build used since a moment, with their sizes.

    Args:
        since: seconds since the epoch; uses are noted once a day.
    """
    for directory in sorted(caches.bytecode.glob("*/")):
        for path in sorted(directory.iterdir()):
            status = path.stat()
            if status.st_mtime < since:
                yield path, status.st_size
