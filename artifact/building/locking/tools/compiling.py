"""How both toolchains resolve: `pip-compile` and `uv pip compile` share their options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from artifact import files, process
from artifact.building.locking import complaints
from artifact.building.locking.tools.contract import ResolveRequest

_SECONDS = 7200.0


def compile_requirements(
    request: ResolveRequest, command: Sequence[str], environment: Mapping[str, str]
) -> str:
    """Run a compiler of requirements files; return the lock it wrote.

    Args:
        command: the program and its own options.

    Raises:
        BuildFailed: there is no solution, or an index cannot be reached.
    """
    argv = [*command, "requirements.in", "--output-file", "requirements.lock"]
    argv += ["--generate-hashes", "--no-header", "--no-annotate"]
    argv += ["--constraint", "constraints.txt"] if request.constraints else []
    argv += ["--upgrade"] if request.upgrade else []
    for name in request.upgrade_names:
        argv += ["--upgrade-package", name]
    doing = f"resolving {request.origin}"
    with files.scratch() as directory, complaints.explained(doing, request.context) as hear:
        (directory / "requirements.in").write_text(request.requirements)
        (directory / "constraints.txt").write_text(request.constraints)
        (directory / "requirements.lock").write_text(request.existing)
        # Captured, for both print the whole lock.
        process.run(argv, cwd=directory, env=environment, timeout=_SECONDS, capture=True, tell=hear)
        return (directory / "requirements.lock").read_text()
