"""Find the application's interpreter on the build machine and learn what it is.

One subprocess asks it; the answer is kept until the executable changes, so that a warm build
starts no process for it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import re
import shutil
from pathlib import Path
from typing import Any

import msgspec

from artifact import files, process, variables
from artifact.building.caches import Caches
from artifact.errors import ConfigurationError

OLDEST = (3, 8)
"""virtualenv's wheels and our probes need it."""

_PROBE = Path(__file__).parent / "probes" / "identity.py"
_PROBE_SECONDS = 60.0
# Any Python can run this; sys.path[0] goes, for a project may well hold a platform.py.
_ASK = """
import sys
sys.path.pop(0)
if sys.version_info < (3, 8):
    print('{"too_old": "%d.%d.%d"}' % sys.version_info[:3])
else:
    exec(compile(open(sys.argv[1]).read(), sys.argv[1], "exec"))
"""
_NAME = re.compile(r"(?:python|pypy)3(?:\.\d+)?t?")


class Interpreter(msgspec.Struct, frozen=True):
    """A base interpreter, as `probes/identity.py` describes it: never a shim or a virtualenv's."""

    executable: str = msgspec.field(name="path")
    """Absolute path, with every link resolved."""
    implementation: str
    """ "cpython"."""
    version: str
    """With the patch release: "3.11.7"."""
    abi: str
    """SOABI: "cpython-311-x86_64-linux-gnu"."""
    platform: str
    """ "linux-x86_64"."""
    base_prefix: str
    libc: str
    """ "glibc 2.36"."""
    cache_tag: str
    """Middle part of the names of its pycs: "cpython-311"."""
    magic: str
    """Magic number of its pycs, as hex digits."""
    markers: dict[str, str]
    """The environment for `packaging.markers`."""
    libraries: tuple[str, ...]
    """Files beside the executable that decide what it is."""
    system: str = ""
    """Id and version from os-release: "debian 12"."""

    @property
    def path(self) -> Path:
        """The executable."""
        return Path(self.executable)

    @property
    def feature(self) -> str:
        """The version without the patch release: "3.11"."""
        return self.markers["python_version"]


class _Watched(msgspec.Struct, frozen=True):
    """A file whose change makes the answer stale."""

    path: str
    mtime_ns: int
    size: int


class _Kept(msgspec.Struct, frozen=True):
    """An answer, and the state of the machine in which it was given."""

    situation: str
    watched: tuple[_Watched, ...]
    answer: Interpreter


def find(command: str, caches: Caches, *, project: Path | None = None) -> Interpreter:
    """Return the base interpreter behind a command or path.

    Args:
        command: as in `[python] interpreter`: "python3.11", "/usr/bin/python3".
        project: the directory in which pyenv looks for `.python-version`; the current one when
            left out.

    Raises:
        ConfigurationError: there is none, it is older than 3.8, or it is not a Python at all.
    """
    directory = (project or Path.cwd()).absolute()
    found = _on_path(command, directory)
    situation = _situation(found, directory)
    system = _system()
    kept_at = caches.interpreters / f"{_digest(str(found))}.json"
    if situation is not None:
        situation += "\n" + system
        kept = _load(kept_at, situation)
        if kept is not None:
            return _on_this_machine(kept.answer, system)
    answer = _ask(command, found, directory)
    if situation is not None:
        _keep(kept_at, _Kept(situation, _watch(found, answer), answer))
    return _on_this_machine(answer, system)


def _on_path(command: str, directory: Path) -> Path:
    expanded = os.path.expanduser(command)
    if os.sep in expanded:
        expanded = os.path.join(directory, expanded)
    found = shutil.which(expanded, path=variables.get("PATH", os.defpath))
    if found is None:
        raise ConfigurationError(
            f"python.interpreter: there is no {command!r} on this machine's PATH",
            hint=_others(command),
        )
    return Path(os.path.abspath(found))


def _others(command: str) -> str:
    names: set[str] = set()
    for directory in variables.get("PATH", os.defpath).split(os.pathsep):
        with contextlib.suppress(OSError), os.scandir(directory or ".") as entries:
            names.update(entry.name for entry in entries if _NAME.fullmatch(entry.name))
    names.discard(command)
    if not names:
        return "install the interpreter that the servers have, or give its path"
    listed = ", ".join(sorted(names, key=_by_version))
    return f"name the interpreter that the servers have; on PATH here: {listed}"


def _by_version(name: str) -> tuple[str, list[int]]:
    return (name.rstrip("0123456789.t"), [int(number) for number in re.findall(r"\d+", name)])


def _situation(found: Path, directory: Path) -> str | None:
    """Return what else decides the answer, beside the watched files; None when that is unknown.

    An executable is always itself. A pyenv shim is a script that picks an interpreter by
    variables and by files in and above the directory; any other script might do anything.
    """
    try:
        with found.open("rb") as stream:
            if stream.read(2) != b"#!":
                return "executable"
    except OSError:
        return None
    root = found.parent.parent
    if found.parent.name != "shims" or not (root / "versions").is_dir():
        return None
    parts = [f"{name}={variables.get(name)}" for name in ("PYENV_VERSION", "PYENV_DIR", "PATH")]
    parts += sorted(os.listdir(root / "versions"))
    started = [directory, Path(variables.get("PYENV_DIR", str(directory)))]
    choices = [above / ".python-version" for at in started for above in (at, *at.parents)]
    for path in [*choices, root / "version"]:
        with contextlib.suppress(OSError):
            parts.append(f"{path}={path.read_text('utf-8', 'replace')}")
    return _digest("\n".join(parts))


def _system() -> str:
    """Return id and version of the distribution: "debian 12"."""
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        return platform.system().lower()
    return f"{release.get('ID', 'linux')} {release.get('VERSION_ID', '')}".strip()


def _load(path: Path, situation: str) -> _Kept | None:
    try:
        kept = msgspec.json.decode(path.read_bytes(), type=_Kept)
        fresh = all(_state(watched.path) == watched for watched in kept.watched)
    except (OSError, msgspec.MsgspecError):
        return None
    return kept if fresh and kept.situation == situation else None


def _keep(path: Path, kept: _Kept) -> None:
    # A cache that cannot be written costs a process at the next build, nothing else.
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write(path, msgspec.json.encode(kept))


def _watch(found: Path, answer: Interpreter) -> tuple[_Watched, ...]:
    virtualenv = found.parent.parent / "pyvenv.cfg"
    paths = [str(found), answer.executable, *answer.libraries, _libc_file()]
    paths += [str(virtualenv)] if virtualenv.is_file() else []
    return tuple(_state(path) for path in dict.fromkeys(paths) if path)


def _libc_file() -> str:
    """Return the C library's file: upgrading it changes the key, but not the interpreter's file."""
    with contextlib.suppress(OSError), open("/proc/self/maps", encoding="utf-8") as maps:
        for line in maps:
            path = line.rstrip().rpartition(" ")[2]
            if re.search(r"/(libc\.so\.6|libc-[\d.]+\.so|ld-musl-[^/]+)$", path):
                return path
    return ""


def _state(path: str) -> _Watched:
    status = os.stat(path)
    return _Watched(path, status.st_mtime_ns, status.st_size)


def _ask(command: str, found: Path, directory: Path) -> Interpreter:
    # -E and -s: neither PYTHON* variables nor the user's site-packages say what it is. -I would
    # be stricter, but Python 2 does not know it and could then not even tell its version.
    argv = [str(found), "-E", "-s", "-B", "-c", _ASK, str(_PROBE)]
    try:
        result = process.run(argv, cwd=directory, capture=True, timeout=_PROBE_SECONDS)
    except process.ChildFailed as error:
        raise ConfigurationError(
            f"python.interpreter: {command!r} ({found}) does not work: it {error.reason}",
            hint=_others(command),
            output=error.tail,
        ) from error
    try:
        said = msgspec.json.decode(result.stdout, type=dict[str, Any])
        if too_old := said.get("too_old"):
            raise ConfigurationError(
                f"python.interpreter: {command!r} is Python {too_old}; "
                f"the oldest supported is {OLDEST[0]}.{OLDEST[1]}",
                hint=_others(command),
            )
        return msgspec.convert(said, type=Interpreter)
    except msgspec.MsgspecError as error:
        raise ConfigurationError(
            f"python.interpreter: {command!r} ({found}) is not a Python interpreter",
            hint=_others(command),
        ) from error


def _on_this_machine(answer: Interpreter, system: str) -> Interpreter:
    """Add what is not kept: a new kernel or a new release of the system asks no interpreter."""
    kernel = os.uname()
    now = {"platform_release": kernel.release, "platform_version": kernel.version}
    return msgspec.structs.replace(answer, system=system, markers={**answer.markers, **now})


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:32]
