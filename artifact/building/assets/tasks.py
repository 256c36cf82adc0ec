"""How an asset step runs on a copy of the source, and when its outputs come from the cache.

Each step starts from the source and the outputs of the steps before it and nothing else, whether
those ran or came from the cache: so both give the same artifact.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import msgspec

from artifact import files, manifest, process, steps, variables
from artifact.building import patterns
from artifact.building.assets import outputs, workspace
from artifact.building.assets.outputs import Output, Outputs
from artifact.building.caches import Caches
from artifact.building.source import Snapshot, SourceFile
from artifact.errors import BuildFailed

SCHEMA = 1
"""Part of every digest: change it when the same inputs would give other outputs."""

# Set by whoever calls the build; they would make a step see other modules than the server has.
_FOREIGN = frozenset({
    "PYTHONPATH", "PYTHONHOME", "PYTHONSAFEPATH", "PYTHONSTARTUP", "PYTHONWARNINGS",
    "PYTHONOPTIMIZE", "__PYVENV_LAUNCHER__", "DJANGO_SETTINGS_MODULE", "DJANGO_CONFIGURATION",
})  # fmt: skip


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """One step, with all that decides what it writes."""

    name: str
    argv: tuple[str, ...]
    directory: str = ""
    """Where it runs, relative to the project."""
    inputs: tuple[str, ...] = ()
    """Patterns; the whole source when empty."""
    outputs: tuple[str, ...]
    variables: Mapping[str, str]
    """Declared ones only: what CI happens to set decides nothing."""
    timeout: float
    extra: str = ""
    """What else it depends on."""
    prepare: Callable[[Path], None] = lambda _work: None
    declared: bool = False
    """Every pattern of the outputs must be matched by something."""


class Workshop(msgspec.Struct):
    """Where the steps of one build run, one after the other."""

    name: str
    """Of the application, for those who wait for our lock."""
    snapshot: Snapshot
    environment: Path
    """The compiled environment; `bin` comes first on every step's PATH."""
    key: str
    """The environment's."""
    caches: Caches
    tell: steps.Listener
    done: list[tuple[manifest.AssetStep, Outputs]] = msgspec.field(default_factory=list)
    _lines: dict[str, str] = msgspec.field(default_factory=dict)

    @property
    def python(self) -> Path:
        return self.environment / "bin" / "python"

    def produce(self, task: Task) -> str:
        """Take the step's outputs from the cache or run it; returns the step's note."""
        digest = self.digest(task)
        made = outputs.load(self.caches, digest)
        reused = made is not None
        if made is None:
            doing = f"{task.name} of {self.name}"
            wait = task.timeout + 60
            with outputs.workplace(self.caches, digest, doing=doing, wait=wait) as work:
                # Another job may have made them while we waited.
                made = outputs.load(self.caches, digest) or self._run(task, digest, work)
        self.done.append((manifest.AssetStep(name=task.name, inputs=digest), made))
        count = len(made.files)
        note = f"{count} file{'s' * (count != 1)}"
        return f"{note}, inputs unchanged" if reused else note

    def _run(self, task: Task, digest: str, work: Path) -> Outputs:
        workspace.fill(work, self.snapshot, [made for _, made in self.done])
        task.prepare(work)
        before = workspace.states(work, task.outputs)
        log = outputs.log_path(self.caches, digest)
        log.unlink(missing_ok=True)
        try:
            result = process.run(
                task.argv,
                cwd=work / task.directory,
                env=self.variables(task.variables),
                timeout=task.timeout,
                tell=self.tell,
                log=log,
            )
        except process.ChildFailed as failure:
            raise _failed(task, failure, log) from failure
        after = workspace.states(work, task.outputs)
        if task.declared:
            _demand_outputs(task, after, result.tail)
        written = [path for path, state in after.items() if before.get(path) != state]
        if task.declared and not written:
            self.tell(
                steps.Warned(
                    f"asset step {task.name} left its outputs as they are in the source",
                    hint="are they committed by mistake?",
                )
            )
        return outputs.publish(self.caches, digest, work, written)

    def digest(self, task: Task) -> str:
        """Return the identity of what a step depends on, given the steps done before it."""
        lines = {file.path: self.line(file) for file in self.snapshot.files}
        for _, made in self.done:
            lines.update({output.path: _line(output, output.sha256) for output in made.files})
        paths: Iterable[str] = lines
        if task.inputs:
            paths = patterns.below(task.inputs, f"inputs of {task.name}").match_files(lines)
        # The Python that runs is the environment's, and the key is the environment's content.
        argv = [part.replace(str(self.environment), "") for part in task.argv]
        decides = [task.name, argv, task.directory, task.inputs, task.outputs, task.extra]
        return self.hash(decides, task.variables, [lines[path] for path in sorted(paths)])

    def hash(
        self, decides: Sequence[object], declared: Mapping[str, str], lines: Iterable[str]
    ) -> str:
        """Return a digest of the environment's key, declared variables, files' lines and more."""
        head = json.dumps([SCHEMA, self.key, decides, sorted(declared.items())])
        digest = hashlib.sha256(head.encode())
        for line in lines:
            digest.update(line.encode())
        return digest.hexdigest()

    def line(self, file: SourceFile) -> str:
        """Return what a digest has of a source file: git's id of the content, where it has one.

        The size stands beside it because the file may be what a filter made of that content, and
        a pointer of git LFS has the same id before and after it was fetched.
        """
        line = self._lines.get(file.path)
        if line is None:
            content = f"git:{file.blob}"
            if not file.blob and file.kind == "file":
                # No Path: there are thousands, and joining one costs as much as hashing it.
                content = files.sha256(f"{self.snapshot.root}/{file.path}")
            line = self._lines[file.path] = _line(file, content)
        return line

    def variables(self, declared: Mapping[str, str]) -> dict[str, str]:
        """Return a step's variables: the caller's, our own, and last the declared ones."""
        inherited = {
            name: value for name, value in variables.everything().items() if name not in _FOREIGN
        }
        return {
            **inherited,
            "PATH": f"{self.environment / 'bin'}{os.pathsep}{inherited.get('PATH', os.defpath)}",
            "VIRTUAL_ENV": str(self.environment),
            # No __pycache__ among the outputs, and equal outputs from equal inputs.
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONHASHSEED": "0",
            "PYTHONUNBUFFERED": "1",
            "SOURCE_DATE_EPOCH": str(self.snapshot.created),
            **declared,
        }


def _line(file: SourceFile | Output, content: str) -> str:
    facts = f"{file.kind}\t{file.mode:o}\t{file.size}\t{content}"
    return f"{facts}\t{file.path}\t{file.target}\n"


def _failed(task: Task, failure: process.ChildFailed, log: Path) -> BuildFailed:
    hint = f"everything it printed is in {log}"
    if failure.reason.startswith("took longer"):
        where = f"[[assets]] {task.name}" if task.declared else "[django]"
        hint = f"`timeout` in {where} allows more; {hint}"
    return BuildFailed(f"asset step {task.name} {failure.reason}", hint=hint, output=failure.tail)


def _demand_outputs(task: Task, found: Iterable[str], tail: tuple[str, ...]) -> None:
    present = list(found)
    for pattern in task.outputs:
        matcher = patterns.below([pattern], f"outputs of {task.name}")
        if not any(map(matcher.match_file, present)):
            raise BuildFailed(
                f"asset step {task.name} ended well but wrote nothing that matches {pattern!r}",
                hint=f"correct `run` or `outputs` of [[assets]] {task.name}; "
                "outputs are counted from the project's top",
                output=tail,
            )
