"""The toolchain for sites that need pip's own behaviour: pip-tools resolves, pip installs."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

from artifact import files, process, variables
from artifact.building.locking import complaints, indexes, pip_virtualenvs, wheelhouse
from artifact.building.locking.context import BuildContext, pip_environment
from artifact.building.locking.pins import Lock
from artifact.building.locking.tools.compiling import compile_requirements
from artifact.building.locking.tools.contract import ResolveRequest

_SECONDS = 7200.0


class Pip:
    """pip-tools and pip, in virtualenvs of ours for the application's interpreter."""

    @property
    def version(self) -> str:
        """Name and version, for the environment's key: pip is the one virtualenv brings along."""
        return f"pip of virtualenv {metadata.version('virtualenv')}"

    def resolve(self, request: ResolveRequest) -> str:
        """Return a requirements file of pinned versions with hashes; raises BuildFailed."""
        context = request.context
        python = pip_virtualenvs.python_with_pip_tools(
            context.interpreter, context.indexes, context.caches
        )
        command = [str(python), "-m", "piptools", "compile", "--strip-extras", "--allow-unsafe"]
        command += ["--no-config", "--no-emit-index-url", "--no-emit-trusted-host"]
        command += ["--no-emit-find-links", "--no-emit-options", "--newline", "lf"]
        return compile_requirements(request, command, pip_environment(context))

    def install(self, lock: Lock, python: Path, context: BuildContext) -> None:
        """Install a lock into the empty environment of a Python; raises BuildFailed."""
        if not lock.pins:
            return
        wheelhouse.build_wanted(lock, context)
        with files.scratch() as directory:
            text = wheelhouse.collect(lock, context, directory / "wheels")
            (directory / "requirements.lock").write_text(text)
            tool = pip_virtualenvs.python_with_pip(context.interpreter, context.caches)
            argv = [str(tool), "-m", "pip", "--python", str(python), "install", "--no-deps"]
            argv += ["--require-hashes", "--no-compile", "--no-index", "--find-links", "wheels"]
            argv += ["--no-warn-script-location", "-r", "requirements.lock"]
            environment = indexes.base(variables.everything())
            environment |= indexes.for_pip(indexes.nowhere())
            with complaints.explained(f"installing {lock.origin}", context) as hear:
                process.run(argv, cwd=directory, env=environment, timeout=_SECONDS, tell=hear)
