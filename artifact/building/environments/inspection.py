"""Look into every file of a new environment: does it need or name what servers do not have?"""

from __future__ import annotations

import os
import posixpath
import re
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec

from artifact import process, variables
from artifact.building.environments import elf
from artifact.building.environments.elf import Binary
from artifact.building.interpreter import Interpreter

_PATH_CHARACTER = re.compile(rb"[\w.\-]")
_ALSO_ON_PATH = "/sbin:/usr/sbin"
_WITHOUT_LDCONFIG = ("/lib", "/usr/lib", "/usr/local/lib")
_READ_BYTES = 8 * 1024 * 1024


class InspectionResult(msgspec.Struct, frozen=True):
    """What was found."""

    glibc: str = ""
    """Highest glibc symbol version needed: "2.28"."""
    libraries: tuple[str, ...] = ()
    """Shared libraries that come from the system; not those of the C library itself."""
    missing: dict[str, str] = msgspec.field(default_factory=dict)
    """Libraries that are nowhere, with a file that needs each."""
    holding: tuple[str, ...] = ()
    """Files that hold the workspace's path."""


def inspect(
    root: Path,
    paths: Iterable[str],
    interpreter: Interpreter,
    workspace: Path,
    stopped: Callable[[], bool],
) -> InspectionResult:
    """Read every file once.

    Args:
        paths: the environment's files, relative to it.
        workspace: the checkout's path, which no server has.
        stopped: asked before each file; when it says yes, what was found so far is returned.

    Raises:
        OSError: a file cannot be read.
    """
    platform = elf.platform_of(interpreter.path)
    search = _Search(workspace, (str(root), interpreter.base_prefix, str(interpreter.path)))
    binaries: list[Binary] = []
    holding: list[str] = []
    for path in paths:
        if stopped():
            break
        full = os.path.join(root, path)
        if os.path.islink(full):
            continue
        compiled, holds = _look(full, search)
        if holds:
            holding.append(path)
        if compiled and (binary := elf.read_binary(root, path, platform)):
            binaries.append(binary)
    libraries, missing = _resolve(root, binaries, interpreter)
    return InspectionResult(
        glibc=elf.highest([binary.glibc for binary in binaries if binary.glibc]),
        libraries=libraries,
        missing=missing,
        holding=tuple(holding),
    )


def _look(path: str, search: _Search) -> tuple[bool, bool]:
    """Return whether a file is an ELF file, and whether it holds the workspace's path."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        content = os.read(descriptor, _READ_BYTES)
        compiled = content.startswith(elf.MAGIC)
        holds = search.finds_in(content)
        while not holds and len(content) >= _READ_BYTES:
            # The pieces overlap, or a path on the border would be missed.
            kept = content[-search.reach :]
            content = kept + os.read(descriptor, _READ_BYTES)
            if len(content) == len(kept):
                break
            holds = search.finds_in(content)
    finally:
        os.close(descriptor)
    return compiled, holds


class _Search:
    """Looks for the workspace's path, but not for paths that rightly begin with it."""

    def __init__(self, workspace: Path, rightful: Iterable[str]) -> None:
        self._path = os.fsencode(workspace)
        # The demonstration's site lies in the checkout, and so may the interpreter.
        self._rightful = tuple(
            os.fsencode(path) for path in rightful if Path(path).is_relative_to(workspace)
        )
        self.reach = max(len(path) for path in (self._path, *self._rightful)) + 2
        self._off = workspace == Path("/")

    def finds_in(self, content: bytes) -> bool:
        at = -1 if self._off else content.find(self._path)
        while at >= 0:
            end = at + len(self._path)
            # "/app" is not meant by "/webapp" nor by "/application".
            whole = not _PATH_CHARACTER.match(content, end) and not (
                at and _PATH_CHARACTER.match(content, at - 1)
            )
            if whole and not content.startswith(self._rightful, at):
                return True
            at = content.find(self._path, end)
        return False


def _resolve(
    root: Path, binaries: Iterable[Binary], interpreter: Interpreter
) -> tuple[tuple[str, ...], dict[str, str]]:
    binaries = tuple(binaries)
    inside = {posixpath.basename(binary.path) for binary in binaries}
    # One that was loaded earlier satisfies a need by its soname, wherever it lies: PyPI's CUDA
    # packages load each other so.
    inside |= {binary.soname for binary in binaries}
    wanted = {
        name: binary
        for binary in binaries
        for name in binary.needed
        if name not in inside and not elf.is_glibc(name) and not _beside(root, binary, name)
    }
    if not wanted:
        return (), {}
    system = _system_libraries()
    own = Path(interpreter.base_prefix) / "lib"
    libraries, missing = [], {}
    for name, binary in sorted(wanted.items()):
        if name in system or _in_absolute(binary, name):
            libraries.append(name)
        elif not (own / name).exists():
            missing[name] = binary.path
    return tuple(libraries), missing


def _beside(root: Path, binary: Binary, name: str) -> bool:
    """Tell whether a library is where the binary's RPATH leads inside the environment.

    It need not be among the binaries: a link to one is none.
    """
    return any((root / directory / name).exists() for directory in elf.search_directories(binary))


def _in_absolute(binary: Binary, name: str) -> bool:
    return any(Path(path, name).exists() for path in binary.search if path.startswith("/"))


def _system_libraries() -> frozenset[str]:
    """Return the names of the shared libraries the dynamic loader finds by itself."""
    found: set[str] = set()
    directories = [path for path in variables.get("LD_LIBRARY_PATH").split(":") if path]
    ldconfig = shutil.which("ldconfig", path=f"{variables.get('PATH')}:{_ALSO_ON_PATH}")
    if ldconfig:
        for line in process.read([ldconfig, "-p"]).splitlines():
            name, arrow, _path = line.strip().partition(" (")
            if arrow:
                found.add(name)
    else:
        directories += _WITHOUT_LDCONFIG
    for directory in directories:
        if os.path.isdir(directory):
            found.update(os.listdir(directory))
    return frozenset(found)
