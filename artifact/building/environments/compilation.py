"""Make an environment at its final path, from nothing to the marker.

Nothing is moved or rewritten after the fact: scripts and bytecode hold the path they were made at.
"""

from __future__ import annotations

import errno
import os
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from artifact import files, manifest, process, variables
from artifact.building.caches import Caches
from artifact.building.environments import (
    bytecode,
    cleanup,
    dependency_check,
    inspection,
    marker,
    migrations,
)
from artifact.building.environments.inspection import InspectionResult
from artifact.building.environments.marker import Marker
from artifact.building.environments.spec import EnvironmentSpec
from artifact.building.interpreter import Interpreter
from artifact.errors import BuildFailed
from artifact.steps import Listener, Said, Warned

_SECONDS = 600.0
_FULL = {errno.ENOSPC, errno.EDQUOT}
_FULL_WORDS = ("No space left on device", "Disk quota exceeded")
_CHECK = "import encodings, site, sys; print(sys.prefix); print(sys.base_prefix)"
_SHOWN = 10


def make(spec: EnvironmentSpec, tell: Listener) -> Marker:
    """Make the environment; whatever lay at its path before is removed first.

    The caller holds its lock. When it fails, nothing is left at its path.

    Raises:
        BuildFailed: a requirement cannot be installed, a check failed, or the disk is full.
    """
    with _as_build_failures(spec.root):
        remove(spec.caches, spec.key)
        try:
            return _make(spec, tell)
        except BaseException:
            remove(spec.caches, spec.key)
            raise


def remove(caches: Caches, key: str) -> None:
    """Remove an environment, its pack and its stamp, and what interrupted removals of it left.

    The marker is removed first. After a crash nobody takes the rest for a finished environment.
    """
    root = caches.environment(key)
    if root.is_dir():
        root.chmod(0o755)
        (root / marker.NAME).unlink(missing_ok=True)
    files.remove_tree(root)
    for rest in caches.environments.glob(f".removing-{key}-*"):
        files.remove_tree(rest)
    caches.pack(key).unlink(missing_ok=True)
    caches.stamp(key).unlink(missing_ok=True)


def _make(spec: EnvironmentSpec, tell: Listener) -> Marker:
    clock = _Clock()
    _virtualenv(spec, tell)
    clock.lap("virtualenv")
    python = spec.root / "bin" / "python"
    spec.tools.install(spec.lock, python, spec.build_context(tell))
    clock.lap("installing")
    paths = cleanup.clean(spec.root)
    findings = _compile_and_inspect(spec, paths, tell)
    clock.lap("bytecode and inspection")
    site_packages = sorted(spec.root.glob("lib*/*/site-packages"))
    packages = dependency_check.installed_packages(site_packages)
    _refuse(spec, findings, dependency_check.problems(packages, spec.interpreter.markers))
    try_out(spec)
    _warn(findings, tell)
    made = Marker(
        key=spec.key,
        inputs=dict(spec.inputs),
        packages={package.name: package.version for package in packages},
        python=_python(spec.interpreter, findings),
        migrations=_migrations(spec.root, site_packages, paths),
    )
    files.make_read_only(spec.root)
    # Its marker is still to come.
    spec.root.chmod(0o755)
    marker.seal(spec.root, spec.caches, made)
    clock.lap("checking and sealing")
    tell(Said(f"environment {spec.key[:12]}: {len(packages)} packages, {clock}"))
    return made


class _Clock:
    """What took how long."""

    def __init__(self) -> None:
        self._since = time.monotonic()
        self._laps: list[str] = []

    def lap(self, name: str) -> None:
        now = time.monotonic()
        self._laps.append(f"{name} {now - self._since:.1f} s")
        self._since = now

    def __str__(self) -> str:
        return ", ".join(self._laps)


def _virtualenv(spec: EnvironmentSpec, tell: Listener) -> None:
    argv = [sys.executable, "-P", "-m", "virtualenv", "--no-download", "--no-periodic-update"]
    argv += ["--no-seed", "--no-vcs-ignore", "--creator", "builtin", "--symlinks"]
    argv += ["--activators", "bash,cshell,fish,python", "--no-venv-redirect"]
    # The prompt does not hold the key. A shell would show its 32 digits on every line.
    argv += ["--prompt", Path(spec.caches.root).name or "artifact"]
    argv += ["--python", str(spec.interpreter.path), str(spec.root)]
    # A user's own settings for virtualenv must not decide what everybody's environment is.
    environment = {
        name: value
        for name, value in variables.everything().items()
        if not name.startswith("VIRTUALENV_") and name != "PYTHONHOME"
    }
    environment |= {"VIRTUALENV_CONFIG_FILE": os.devnull, **bytecode.CONSTANT}
    process.run(argv, env=environment, timeout=_SECONDS, tell=tell, cwd=spec.caches.environments)


def _compile_and_inspect(
    spec: EnvironmentSpec, paths: Sequence[str], tell: Listener
) -> InspectionResult:
    """Do both at once: the compiler keeps the processors busy, the inspection waits for files."""
    stop = threading.Event()
    with ThreadPoolExecutor(1, thread_name_prefix="inspect") as pool:
        inspecting = pool.submit(
            inspection.inspect, spec.root, paths, spec.interpreter, spec.workspace, stop.is_set
        )
        try:
            bytecode.compile_environment(spec.root, paths, spec.interpreter, tell)
            return inspecting.result()
        except BaseException:
            stop.set()
            raise


def _refuse(spec: EnvironmentSpec, findings: InspectionResult, problems: Sequence[str]) -> None:
    """Raise for what must not reach a server."""
    if problems:
        raise BuildFailed(
            f"the installed packages do not fit together: {_first_lines(problems)}",
            hint=f"correct {spec.lock.origin}; `artifact lock` resolves it into one that fits",
        )
    # A checkout in /app or /src says nothing: packages have such paths in their texts.
    if findings.holding and len(spec.workspace.parts) > 2:
        raise BuildFailed(
            f"files of the environment hold the path of the checkout, {spec.workspace}, which no "
            f"server has: {_first_lines(findings.holding)}",
            hint="such a package was built from a path inside the checkout: build it as a wheel "
            "that does not record where",
        )


def try_out(spec: EnvironmentSpec) -> None:
    """Run the environment's Python as the application will be run.

    Raises:
        BuildFailed: it belongs to another environment than its own.
        ChildFailed: it does not run.
    """
    argv = [str(spec.root / "bin" / "python"), "-I", "-c", _CHECK]
    said = process.run(argv, capture=True, timeout=_SECONDS)
    expected = [str(spec.root), spec.interpreter.base_prefix]
    if said.stdout.splitlines() != expected:
        raise BuildFailed(
            f"{argv[0]} says it belongs to {said.stdout.split()}, not to {expected}",
            hint="look for a sitecustomize module or a .pth file that changes sys.prefix",
            output=said.tail,
        )


def _warn(findings: InspectionResult, tell: Listener) -> None:
    for library, path in findings.missing.items():
        tell(
            Warned(
                f"{path} needs {library}, which is neither in the environment nor on this machine",
                hint="if the application imports it: install the library here and on the servers",
            )
        )
    if findings.holding:
        # Not reached but for a checkout right below the root directory.
        tell(Warned(f"these files may hold the checkout's path: {_first_lines(findings.holding)}"))


def _python(interpreter: Interpreter, findings: InspectionResult) -> manifest.Python:
    return manifest.Python(
        implementation=interpreter.implementation,
        version=interpreter.version,
        abi=interpreter.abi,
        platform=interpreter.platform,
        interpreter=str(interpreter.path),
        libc=interpreter.libc,
        glibc=findings.glibc,
        libraries=findings.libraries,
    )


def _migrations(
    root: Path, site_packages: Sequence[Path], paths: Sequence[str]
) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for directory in site_packages:
        prefix = str(directory.relative_to(root)) + "/"
        below = [path[len(prefix) :] for path in paths if path.startswith(prefix)]
        found |= migrations.scan(directory, below)
    return found


def _first_lines(lines: Sequence[str]) -> str:
    more = len(lines) - _SHOWN
    return "; ".join(lines[:_SHOWN]) + (f"; and {more} more" if more > 0 else "")


@contextmanager
def _as_build_failures(root: Path) -> Iterator[None]:
    """Turn errors of the disk and of programs into errors for the operator."""
    try:
        yield
    except BuildFailed as error:
        if not _is_full("\n".join((error.message, *error.output))):
            raise
        raise _full(root, error.output) from error
    except process.ChildFailed as error:
        if _is_full("\n".join(error.tail)):
            raise _full(root, error.tail) from error
        raise BuildFailed(
            f"compiling the environment {root} failed: a command {error.reason}",
            hint=f"the command was: {error.command}",
            output=error.tail,
        ) from error
    except OSError as error:
        if error.errno in _FULL:
            raise _full(root, ()) from error
        raise BuildFailed(
            f"compiling the environment {root} failed: {error.filename or root}: {error.strerror}",
            hint="nothing is left of it; correct that and build again",
        ) from error


def _is_full(text: str) -> bool:
    return any(words in text for words in _FULL_WORDS)


def _full(root: Path, output: tuple[str, ...]) -> BuildFailed:
    return BuildFailed(
        f"the disk is full: the environment {root} does not fit",
        hint=f"`df -h {root.parent}` shows what is free, `artifact cache prune` removes old "
        "environments; nothing is left of this one",
        output=output,
    )
