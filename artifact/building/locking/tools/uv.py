"""The toolchain that is fast: uv resolves and installs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path

import uv
from packaging.pylock import Package, Pylock, PylockValidationError

from artifact import files, process, steps, variables
from artifact.building.environments.interpreter import Interpreter
from artifact.building.locking import indexes, tags, wheelhouse
from artifact.building.locking.indexes import Indexes
from artifact.building.locking.pins import Lock
from artifact.building.locking.tools import Wanted, complaints
from artifact.building.locking.wheelhouse import Sdist
from artifact.building.places import Places
from artifact.configuration.toml_document import read_toml
from artifact.errors import ConfigurationError

_SECONDS = 3600.0
# How uv says that `--no-build` stopped it.
_NO_WHEEL = re.compile(r"has no usable wheels|no wheels? (?:are|is) usable|--no-build|only-binary")


class Uv:
    """uv, from its package on PyPI."""

    @property
    def name(self) -> str:
        """As `[requirements] tools` has it."""
        return "uv"

    @property
    def version(self) -> str:
        """Name and version, for the environment's key."""
        return f"uv {metadata.version('uv')}"

    def resolve(self, wanted: Wanted, places: Places, tell: steps.Listener) -> str:
        """Return a requirements file of pinned versions with hashes; raises BuildFailed."""
        with files.scratch() as directory:
            (directory / "requirements.in").write_text(wanted.requirements)
            (directory / "requirements.lock").write_text(wanted.existing)
            argv = ["pip", "compile", "requirements.in", "--output-file", "requirements.lock"]
            if wanted.constraints:
                (directory / "constraints.txt").write_text(wanted.constraints)
                argv += ["--constraints", "constraints.txt"]
            argv += ["--python", str(wanted.interpreter.path)]
            argv += ["--generate-hashes", "--no-header", "--no-annotate"]
            argv += indexes.uv_flags(wanted.indexes.options)
            argv += ["--upgrade"] if wanted.upgrade else []
            for name in wanted.upgrade_names:
                argv += ["--upgrade-package", name]
            try:
                _run(argv, _environment(wanted.indexes, wanted.variables), directory, tell)
            except process.ChildFailed as error:
                raise complaints.failed(
                    error, f"resolving {wanted.origin}", wanted.interpreter
                ) from error
            return (directory / "requirements.lock").read_text()

    def install(
        self,
        lock: Lock,
        python: Path,
        places: Places,
        variables: Mapping[str, str],
        tell: steps.Listener,
    ) -> None:
        """Install a lock into the empty environment of a Python; raises BuildFailed."""
        if not lock.pins:
            return
        wheelhouse.build_wanted(lock, places, variables, tell)
        try:
            _install(lock, python, places, variables, tell)
        except process.ChildFailed as error:
            # Only now is it worth asking which packages have no wheel: most locks never need it,
            # and the wheelhouse knows those of earlier builds.
            missing = _without_wheel(lock, error, tell)
            if not missing:
                raise _failed(error, lock) from error
            for sdist in missing:
                wheelhouse.build_sdist(sdist, lock, places, variables, tell)
            try:
                _install(lock, python, places, variables, tell)
            except process.ChildFailed as again:
                raise _failed(again, lock) from again


def export(
    project: Path, extras: Sequence[str], groups: Sequence[str], interpreter: Interpreter
) -> str:
    """Return a uv.lock as a requirements file with hashes, without the project itself.

    Raises:
        ConfigurationError: uv cannot read it, or it has no such extra or group.
    """
    argv = ["export", "--frozen", "--no-emit-project", "--no-editable", "--no-default-groups"]
    argv += ["--format", "requirements.txt", "--no-header", "--no-annotate", "--quiet"]
    argv += ["--python", str(interpreter.path)]
    for extra in extras:
        argv += ["--extra", extra]
    for group in groups:
        argv += ["--group", group]
    environment = indexes.base(variables.everything()) | {"UV_PYTHON_DOWNLOADS": "never"}
    try:
        return process.read([uv.find_uv_bin(), *argv], cwd=project, env=environment)
    except process.ChildFailed as error:
        complaint = complaints.failed(error, "reading uv.lock", interpreter)
        raise ConfigurationError(
            complaint.message,
            hint="`uv lock` writes it anew; extras and groups are those of pyproject.toml",
            output=complaint.output,
        ) from error


def _install(
    lock: Lock,
    python: Path,
    places: Places,
    declared: Mapping[str, str],
    tell: steps.Listener,
) -> None:
    with files.scratch() as directory:
        wheels = directory / "wheels"
        text = wheelhouse.substitute(lock, places, declared, wheels)
        (directory / "requirements.lock").write_text(text)
        argv = ["pip", "install", "--python", str(python), "--requirements", "requirements.lock"]
        argv += ["--require-hashes", "--no-deps", "--no-build", "--no-config"]
        # Environments are made read-only: with hardlinks that would reach into uv's cache.
        argv += ["--link-mode", "copy"]
        argv += indexes.uv_flags(lock.indexes.options)
        environment = _environment(lock.indexes, {})
        known = environment.get("UV_FIND_LINKS")
        environment["UV_FIND_LINKS"] = f"{wheels},{known}" if known else str(wheels)
        _run(argv, environment, directory, tell)


def _failed(error: process.ChildFailed, lock: Lock) -> Exception:
    return complaints.failed(error, f"installing {lock.origin}", lock.interpreter)


def _without_wheel(
    lock: Lock, error: process.ChildFailed, tell: steps.Listener
) -> tuple[Sdist, ...]:
    """Return the sdists of the packages that have no wheel for the interpreter."""
    if not _NO_WHEEL.search("\n".join(error.tail)):
        return ()
    pinned = {pin.name: pin for pin in lock.pins if not pin.source}
    with files.scratch() as directory:
        # Without hashes, which would only be repeated; the versions are pinned.
        lines = [f"{pin.name}=={pin.version}\n" for pin in pinned.values()]
        (directory / "requirements.in").write_text("".join(lines))
        argv = ["pip", "compile", "requirements.in", "--output-file", "pylock.toml"]
        argv += ["--format", "pylock.toml", "--no-deps", "--no-header"]
        argv += ["--python", str(lock.interpreter.path)]
        argv += indexes.uv_flags(lock.indexes.options)
        try:
            _run(argv, _environment(lock.indexes, {}), directory, tell)
            found = Pylock.from_dict(read_toml(directory / "pylock.toml"))
        except (process.ChildFailed, PylockValidationError):
            return ()
    supported = tags.supported(lock.interpreter)
    sdists = []
    for package in found.packages:
        pin = pinned[package.name]
        digest = _sdist_hash(package)
        if digest in pin.hashes and not _has_wheel(package, pin.hashes, supported):
            sdists.append(Sdist(pin, digest))
    return tuple(sdists)


def _sdist_hash(package: Package) -> str:
    if package.sdist is None:
        return ""
    return f"sha256:{package.sdist.hashes.get('sha256', '')}"


def _has_wheel(package: Package, hashes: Sequence[str], supported: frozenset[str]) -> bool:
    return any(
        f"sha256:{wheel.hashes.get('sha256', '')}" in hashes
        and tags.fits(wheel.filename, supported)
        for wheel in package.wheels or ()
    )


def _environment(settings: Indexes, declared: Mapping[str, str]) -> dict[str, str]:
    return {
        **indexes.base(variables.everything()),
        **indexes.for_uv(settings),
        **declared,
    }


def _run(
    argv: Sequence[str], environment: Mapping[str, str], directory: Path, tell: steps.Listener
) -> None:
    command = [uv.find_uv_bin(), *argv, "--color", "never"]
    # Without --quiet, which keeps the best hints back; but `pip compile` prints the whole lock.
    process.run(command, cwd=directory, env=environment, timeout=_SECONDS, capture=True, tell=tell)
