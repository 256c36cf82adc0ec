"""The toolchain for sites that need pip's own behaviour: pip-tools resolves, pip installs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path

from artifact import files, process, steps, variables
from artifact.building.locking import helper, indexes, wheelhouse
from artifact.building.locking.indexes import Indexes
from artifact.building.locking.pins import Lock
from artifact.building.locking.tools import Wanted, complaints
from artifact.building.places import Places

_SECONDS = 7200.0


class Pip:
    """pip-tools and pip, in virtualenvs of ours for the application's interpreter."""

    @property
    def name(self) -> str:
        """As `[requirements] tools` has it."""
        return "pip"

    @property
    def version(self) -> str:
        """Name and version, for the environment's key: pip is the one virtualenv brings along."""
        return f"pip of virtualenv {metadata.version('virtualenv')}"

    def resolve(self, wanted: Wanted, places: Places, tell: steps.Listener) -> str:
        """Return a requirements file of pinned versions with hashes; raises BuildFailed."""
        python = helper.with_pip_tools(wanted.interpreter, wanted.indexes, places)
        with files.scratch() as directory:
            (directory / "requirements.in").write_text(wanted.requirements)
            (directory / "constraints.txt").write_text(wanted.constraints)
            (directory / "requirements.lock").write_text(wanted.existing)
            argv = [str(python), "-m", "piptools", "compile", "requirements.in"]
            argv += ["--constraint", "constraints.txt", "--output-file", "requirements.lock"]
            argv += ["--generate-hashes", "--strip-extras", "--allow-unsafe", "--no-config"]
            argv += ["--no-emit-index-url", "--no-emit-trusted-host", "--no-emit-find-links"]
            argv += ["--no-emit-options", "--no-header", "--no-annotate"]
            argv += ["--newline", "lf"]
            argv += ["--upgrade"] if wanted.upgrade else []
            for name in wanted.upgrade_names:
                argv += ["--upgrade-package", name]
            ear = complaints.Ear(tell)
            try:
                _run(argv, _environment(wanted.indexes, wanted.variables), directory, ear)
            except process.ChildFailed as error:
                raise complaints.failed(
                    error, f"resolving {wanted.origin}", wanted.interpreter, ear
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
        with files.scratch() as directory:
            text = wheelhouse.collect(lock, places, variables, directory / "wheels", tell)
            (directory / "requirements.lock").write_text(text)
            tool = helper.with_pip(lock.interpreter, places)
            argv = [str(tool), "-m", "pip", "--python", str(python), "install", "--no-deps"]
            argv += ["--require-hashes", "--no-compile", "--no-index", "--find-links", "wheels"]
            argv += ["--no-warn-script-location", "-r", "requirements.lock"]
            environment = indexes.base(_variables()) | indexes.for_pip(indexes.nowhere())
            try:
                _run(argv, environment, directory, tell)
            except process.ChildFailed as error:
                raise complaints.failed(
                    error, f"installing {lock.origin}", lock.interpreter
                ) from error


def _variables() -> Mapping[str, str]:
    return variables.everything()


def _environment(settings: Indexes, declared: Mapping[str, str]) -> dict[str, str]:
    return {**indexes.base(_variables()), **indexes.for_pip(settings), **declared}


def _run(
    argv: Sequence[str], environment: Mapping[str, str], directory: Path, tell: steps.Listener
) -> None:
    process.run(argv, cwd=directory, env=environment, timeout=_SECONDS, tell=tell)
