"""The toolchain that is fast: uv resolves and installs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path

import uv
from packaging.pylock import Package, Pylock, PylockValidationError

from artifact import files, process, steps, variables
from artifact.building.locking import complaints, indexes, tags, wheelhouse
from artifact.building.locking.context import BuildContext, uv_environment
from artifact.building.locking.pins import Lock, Pin
from artifact.building.locking.tools.compiling import compile_requirements
from artifact.building.locking.tools.contract import ResolveRequest
from artifact.configuration.toml_document import read_toml
from artifact.errors import BuildFailed, ConfigurationError

_SECONDS = 3600.0
# How uv says that `--no-build` stopped it.
_NO_WHEEL = re.compile(r"has no usable wheels|no wheels? (?:are|is) usable|--no-build|only-binary")


class Uv:
    """uv, from its package on PyPI."""

    @property
    def version(self) -> str:
        """Name and version, for the environment's key."""
        return f"uv {metadata.version('uv')}"

    def resolve(self, request: ResolveRequest) -> str:
        """Return a requirements file of pinned versions with hashes; raises BuildFailed."""
        command = _compiler(request.context)
        return compile_requirements(request, command, uv_environment(request.context))

    def install(self, lock: Lock, python: Path, context: BuildContext) -> None:
        """Install a lock into the empty environment of a Python; raises BuildFailed."""
        if not lock.pins:
            return
        wheelhouse.build_wanted(lock, context)
        try:
            _install(lock, python, context)
        except BuildFailed as error:
            # Only now is it worth asking which packages have no wheel: most locks never need it,
            # and the wheelhouse knows those of earlier builds.
            missing = _without_wheel(lock, context, error.output)
            if not missing:
                raise
            for pin, sdist in missing:
                wheelhouse.build_sdist(pin, sdist, context)
            _install(lock, python, context)


def export(
    project: Path, extras: Iterable[str], groups: Iterable[str], context: BuildContext
) -> str:
    """Return a uv.lock as a requirements file with hashes, without the project itself.

    Raises:
        ConfigurationError: uv cannot read it, or it has no such extra or group.
    """
    argv = _uv("export", "--frozen", "--no-emit-project", "--no-editable", "--no-default-groups")
    argv += ["--format", "requirements.txt", "--no-header", "--no-annotate", "--quiet"]
    argv += ["--python", str(context.interpreter.path)]
    for extra in extras:
        argv += ["--extra", extra]
    for group in groups:
        argv += ["--group", group]
    environment = indexes.base(variables.everything()) | {"UV_PYTHON_DOWNLOADS": "never"}
    try:
        with complaints.explained("reading uv.lock", context) as hear:
            return _run(argv, environment, project, hear)
    except BuildFailed as error:
        raise ConfigurationError(
            error.message,
            hint="`uv lock` writes it anew; extras and groups are those of pyproject.toml",
            output=error.output,
        ) from error


def _install(lock: Lock, python: Path, context: BuildContext) -> None:
    with files.scratch() as directory:
        wheels = directory / "wheels"
        text = wheelhouse.substitute(lock, context, wheels)
        (directory / "requirements.lock").write_text(text)
        argv = _uv("pip", "install", "--python", str(python), "-r", "requirements.lock")
        # Without --quiet, which keeps the best hints back.
        argv += ["--require-hashes", "--no-deps", "--no-build", "--no-config"]
        # Environments are made read-only: with hardlinks that would reach into uv's cache.
        argv += ["--link-mode", "copy"]
        argv += indexes.uv_flags(context.indexes.options)
        environment = uv_environment(context)
        known = environment.get("UV_FIND_LINKS")
        environment["UV_FIND_LINKS"] = f"{wheels},{known}" if known else str(wheels)
        with complaints.explained(f"installing {lock.origin}", context) as hear:
            _run(argv, environment, directory, hear)


def _without_wheel(
    lock: Lock, context: BuildContext, output: Iterable[str]
) -> list[tuple[Pin, str]]:
    """Return the packages that have no wheel for the interpreter, each with its sdist's hash."""
    if not _NO_WHEEL.search("\n".join(output)):
        return []
    pinned = {pin.name: pin for pin in lock.pins if not pin.source}
    with files.scratch() as directory:
        # Without hashes, which would only be repeated; the versions are pinned.
        lines = [f"{pin.name}=={pin.version}\n" for pin in pinned.values()]
        (directory / "requirements.in").write_text("".join(lines))
        argv = [*_compiler(context), "requirements.in", "--output-file", "pylock.toml"]
        argv += ["--format", "pylock.toml", "--no-deps", "--no-header"]
        try:
            _run(argv, uv_environment(context), directory, context.tell)
            found = Pylock.from_dict(read_toml(directory / "pylock.toml"))
        except (process.ChildFailed, PylockValidationError):
            return []
    supported = tags.supported(context.interpreter)
    sdists = []
    for package in found.packages:
        pin = pinned[package.name]
        digest = _sha256(package.sdist.hashes) if package.sdist else ""
        if digest in pin.hashes and not _has_wheel(package, pin.hashes, supported):
            sdists.append((pin, digest))
    return sdists


def _has_wheel(package: Package, hashes: Sequence[str], supported: frozenset[str]) -> bool:
    return any(
        _sha256(wheel.hashes) in hashes and tags.fits(wheel.filename, supported)
        for wheel in package.wheels or ()
    )


def _sha256(hashes: Mapping[str, str]) -> str:
    return f"sha256:{hashes.get('sha256', '')}"


def _compiler(context: BuildContext) -> list[str]:
    argv = _uv("pip", "compile", "--python", str(context.interpreter.path))
    return [*argv, *indexes.uv_flags(context.indexes.options)]


def _uv(*arguments: str) -> list[str]:
    return [uv.find_uv_bin(), "--color", "never", *arguments]


def _run(
    argv: Sequence[str], environment: Mapping[str, str], directory: Path, tell: steps.Listener
) -> str:
    return process.run(
        argv, cwd=directory, env=environment, timeout=_SECONDS, capture=True, tell=tell
    ).stdout
