"""Virtualenvs of our own for the application's interpreter, in which pip and pip-tools run.

The application's Python may be another than this tool's, and pip resolves and builds for the
Python it runs in. They are made once and kept in the machine's cache.
"""

from __future__ import annotations

import hashlib
import sys
from importlib import metadata
from pathlib import Path

from artifact import files, process, variables
from artifact.building.caches import Caches
from artifact.building.interpreter import Interpreter
from artifact.building.locking import indexes
from artifact.building.locking.indexes import Indexes
from artifact.errors import BuildFailed

_SECONDS = 600.0
_LOCK_SECONDS = 900.0


def python_with_pip(interpreter: Interpreter, caches: Caches) -> Path:
    """Return the Python of a virtualenv that holds pip alone; made without network.

    Raises:
        BuildFailed: it cannot be made.
    """
    return _helper("pip", "", interpreter, caches, None)


def python_with_pip_tools(interpreter: Interpreter, settings: Indexes, caches: Caches) -> Path:
    """Return the Python of a virtualenv that holds pip-tools; made once with the index's help.

    Raises:
        BuildFailed: it cannot be made.
    """
    # Older Pythons get the newest pip-tools that knows them.
    requirement = f"pip-tools<={metadata.version('pip-tools')}"
    return _helper("pip-tools", requirement, interpreter, caches, settings)


def _helper(
    name: str, requirement: str, interpreter: Interpreter, caches: Caches, settings: Indexes | None
) -> Path:
    decides = f"{interpreter.path} {interpreter.version} {interpreter.abi} {requirement} "
    decides += metadata.version("virtualenv")
    digest = hashlib.sha256(decides.encode()).hexdigest()[:16]
    directory = caches.shared / "helpers" / f"{name}-{digest}"
    python, done = directory / "bin" / "python", directory / ".complete"
    if done.exists():
        return python
    directory.parent.mkdir(parents=True, exist_ok=True)
    lock = directory.with_name(f"{directory.name}.lock")
    with files.locked(lock, doing=f"making a virtualenv for {name}", wait=_LOCK_SECONDS):
        if done.exists():
            return python
        # What a killed run left.
        files.remove_tree(directory)
        environment = indexes.base(variables.everything())
        argv = [sys.executable, "-m", "virtualenv", "--no-download", "--no-periodic-update"]
        argv += ["--python", str(interpreter.path), "--quiet", str(directory)]
        try:
            process.run(argv, env=environment, timeout=_SECONDS)
            if settings is not None:
                environment |= indexes.for_pip(settings)
                argv = [str(python), "-m", "pip", "install", "--quiet", requirement]
                process.run(argv, env=environment, timeout=_SECONDS)
        except process.ChildFailed as error:
            raise BuildFailed(
                f"a virtualenv with {name} for {interpreter.path} cannot be made: "
                f"{error.command} {error.reason}",
                hint='pip must reach its index; or set [requirements] tools = "uv"'
                if settings is not None
                else "`python -m virtualenv` must work for this interpreter",
                output=error.tail,
            ) from error
        done.touch()
    return python
