"""The whole build, from a checkout to one file: observed, planned, run."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Generic, TypeVar

import msgspec

from artifact import files, manifest
from artifact.archive import signature, writer
from artifact.archive.grouping import Entry
from artifact.archive.packed import Packed, codec
from artifact.building import interpreter, source, version
from artifact.building.assets.plan import Assets, AssetTree
from artifact.building.caches import Caches, find_caches
from artifact.building.environments import bytecode, environment, migrations
from artifact.building.environments.environment import Environment, ReuseCheck
from artifact.building.environments.marker import Marker
from artifact.building.environments.spec import EnvironmentSpec, specify
from artifact.building.locking import wheelhouse
from artifact.building.locking.lock import LockRequest, lock_for
from artifact.building.locking.pins import Lock
from artifact.configuration import artifact_toml
from artifact.errors import BuildFailed, UsageError
from artifact.manifest import Component, Manifest
from artifact.process import ChildFailed
from artifact.site import Site
from artifact.steps import Listener, Run, Step, run

Made = TypeVar("Made")

_WORK = ".artifact-build-"


class BuildRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line asks of a build."""

    project: Path
    output: Path
    """Directory the artifact is written into."""
    name: str = ""
    root: str = ""
    version: str = ""
    """Empty: from the CI job's variables or git."""
    reproducible: bool = False
    """Leave out what differs between two jobs that build one commit."""
    wheelhouse: Path | None = None
    """Where to write all wheels and the lock as well."""
    upgrade: bool = False
    """Resolve unpinned requirements again."""
    verify: bool = False
    """Check a cached environment by digest, not only by size and time."""
    lock_timeout: float = 1800.0
    """Seconds to wait for another build of the same environment."""
    level: int = 6
    signing_key: Path | None = None


class Observed(msgspec.Struct, frozen=True):
    """What is there before anything is done."""

    config: artifact_toml.Config
    caches: Caches
    interpreter: interpreter.Interpreter
    snapshot: source.Snapshot
    version: version.Version

    @property
    def reference(self) -> str:
        """ "accounting-1337"."""
        return f"{self.config.name}-{self.version.text}"


class Built(msgspec.Struct, frozen=True, kw_only=True):
    """What a build made."""

    environment: Environment
    packed: tuple[Packed, ...]
    """The components, in the order they have in the artifact."""
    path: Path
    digest: str


class Preview(msgspec.Struct, frozen=True):
    """What a build would do."""

    observed: Observed
    spec: EnvironmentSpec
    finding: ReuseCheck
    """Whether the environment would be reused."""


def observe(request: BuildRequest, tell: Listener) -> Observed:
    """Read the configuration, the interpreter and the source; change nothing.

    Raises:
        UsageError: the configuration, the version or the interpreter is wrong.
        BuildFailed: the source cannot be packed.
    """
    project = request.project.resolve()
    if not project.is_dir():
        raise UsageError(f"there is no directory {request.project}")
    settings = artifact_toml.load(project, name=request.name, root=request.root)
    caches = find_caches(settings.root)
    python = interpreter.find(settings.python.interpreter, caches, project=project)
    snapshot = source.take_snapshot(
        project,
        settings.source.exclude,
        tell,
        is_build_output=_our_own(request, settings.name),
    )
    return Observed(settings, caches, python, snapshot, version.choose(request.version, snapshot))


def _our_own(request: BuildRequest, name: str) -> Callable[[str], bool]:
    """Return a function that knows what earlier builds wrote into the project; it is not packed."""
    ends = []
    outputs = ((request.output, f"{name}-", ".tgz"), (request.wheelhouse, "", ""))
    for path, prefix, suffix in outputs:
        with contextlib.suppress(ValueError):
            if path is not None:
                inside = path.resolve().relative_to(request.project.resolve()).as_posix()
                ends.append((f"{inside}/{prefix}", suffix))
    return lambda path: any(path.startswith(head) and path.endswith(tail) for head, tail in ends)


def preview(request: BuildRequest, tell: Listener) -> Preview:
    """Return what a build would do; raises as `build`.

    Unpinned requirements that were never resolved are resolved for it, and that is kept; nothing
    else is written.
    """
    observed = observe(request, tell)
    spec = _specify(observed, find_lock(observed, request, tell))
    return Preview(observed, spec, environment.observe(spec))


def build(request: BuildRequest, tell: Listener) -> Built:
    """Build the artifact of a checkout.

    Raises:
        UsageError: nothing was tried.
        BuildFailed: no artifact was made, and nothing half-done is left.
        Locked: another build makes the same environment, for longer than we may wait.
    """
    observed = observe(request, tell)
    try:
        request.output.mkdir(parents=True, exist_ok=True)
        # Beside the artifact, so that packs are joined without leaving its file system.
        with files.scratch(request.output, prefix=_WORK) as work, ExitStack() as held:
            return _run(_Building(observed, request, work, held).steps(tell), Run(tell))
    except ChildFailed as error:
        raise BuildFailed(str(error), output=error.tail) from error
    except OSError as error:
        raise _unwritable(error) from error


def _run(steps: Generator[Step[Run], None, Made], run_: Run) -> Made:
    """Run the steps that a generator yields; return what it returns after the last one."""
    results: list[Made] = []

    def relayed() -> Iterator[Step[Run]]:
        results.append((yield from steps))

    run(relayed(), run_)
    return results[0]


def _unwritable(error: OSError) -> BuildFailed:
    where = f"{error.filename}: " if error.filename else ""
    hint = "look at the permissions and at the state of the disk, then build again"
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        hint = "make room (`artifact cache prune` removes old environments), then build again"
    return BuildFailed(f"the build stopped: {where}{error.strerror or error}", hint=hint)


class _Result(Generic[Made]):
    """What a step makes, for the steps after it."""

    def __init__(self, make: Callable[[Run], Made], note: Callable[[Made], str]) -> None:
        """Take what makes it, and what is said of it then."""
        self._make = make
        self._note = note

    def do(self, run_: Run) -> str:
        self.value = self._make(run_)
        return self._note(self.value)


class _Building(msgspec.Struct, frozen=True):
    """One build on its way."""

    observed: Observed
    request: BuildRequest
    work: Path
    """For packs, on the file system of the output."""
    held: ExitStack

    def steps(self, tell: Listener) -> Generator[Step[Run], None, Built]:
        """Yield the steps; those after the environment are planned when that is known."""
        there, request = self.observed, self.request
        locked = _Result(lambda run_: find_lock(there, request, run_.tell), _origin)
        yield Step("requirements", "requirements", locked.do)
        spec = _specify(there, locked.value)
        if request.wheelhouse is not None:
            write_wheelhouse = partial(self._write_wheelhouse, spec, request.wheelhouse)
            yield Step("wheelhouse", "wheelhouse", write_wheelhouse)
        made = _Result(partial(self._make_environment, spec), _how_made)
        yield Step("environment", "environment", made.do)
        path, key = made.value.path, made.value.key
        assets = Assets(there.snapshot, there.config, path, key, there.caches, tell)
        yield from assets.plan()
        tree = assets.tree()
        packed = _Result(partial(self._pack, made.value, tree), _sizes)
        yield Step("pack", "pack", packed.do)
        artifact = request.output / f"{there.reference}.tgz"
        describe = partial(self._describe, made.value.marker, tree)
        digest = _Result(
            partial(self._write, artifact, packed.value, describe),
            lambda digest: f"{artifact.stat().st_size:,} bytes, {digest}",
        )
        yield Step("write", f"write {artifact.name}", digest.do)
        return Built(
            environment=made.value, packed=packed.value, path=artifact, digest=digest.value
        )

    def _write_wheelhouse(self, spec: EnvironmentSpec, destination: Path, run_: Run) -> str:
        context = spec.build_context(run_.tell)
        count = wheelhouse.write_wheelhouse(spec.lock, context, destination)
        return f"{count} wheels in {destination}"

    def _make_environment(self, spec: EnvironmentSpec, run_: Run) -> Environment:
        timeout, verify = self.request.lock_timeout, self.request.verify
        made = environment.ensure(spec, run_.tell, lock_timeout=timeout, verify=verify)
        self.held.enter_context(environment.in_use(made, spec.caches))
        return made

    def _pack(self, made: Environment, tree: AssetTree, run_: Run) -> tuple[Packed, ...]:
        return (
            environment.packed(made, self.observed.caches, self.request.level, run_.tell),
            self._component("assets", tree.files, run_.tell),
            self._component("code", self._code_entries(tree, run_.tell), run_.tell),
        )

    def _component(self, name: str, entries: Iterable[Entry], tell: Listener) -> Packed:
        return writer.pack(
            entries,
            self.work / name,
            name=name,
            level=self.request.level,
            tell=tell,
        )

    def _code_entries(self, tree: AssetTree, tell: Listener) -> Iterator[Entry]:
        """Yield the application's own files and their bytecode, less what asset steps wrote."""
        there = self.observed
        root = str(there.snapshot.root)
        kept = [file for file in there.snapshot.files if file.path not in tree.paths]
        for file in kept:
            content = f"{root}/{file.path}" if file.kind == "file" else None
            yield Entry(file.path, file.kind, file.mode, file.target, content)
        # Constant over versions, so that unchanged sources keep equal bytecode; Python puts the
        # real path in when it loads it.
        shown = str(Site(Path(there.config.root)).current)
        for compiled in bytecode.compile_sources(
            there.snapshot.root,
            [file.path for file in kept if file.kind == "file"],
            shown,
            there.interpreter,
            there.caches,
            tell,
        ):
            yield Entry(compiled.path, "file", source=compiled.source)

    def _write(
        self,
        path: Path,
        packed: Sequence[Packed],
        describe: Callable[[tuple[Component, ...]], Manifest],
        run_: Run,
    ) -> str:
        key = self.request.signing_key
        sign = partial(signature.sign, key=key) if key is not None else None
        return writer.write(path, packed, describe, run_.tell, sign=sign)

    def _describe(
        self, made: Marker, tree: AssetTree, components: tuple[Component, ...]
    ) -> Manifest:
        there = self.observed
        paths = [file.path for file in there.snapshot.files]
        own = migrations.scan(there.snapshot.root, paths)
        return Manifest(
            name=there.config.name,
            version=there.version.text,
            sequence=there.version.sequence,
            created=there.snapshot.created,
            source=self._source(),
            built=None if self.request.reproducible else version.built_by(),
            root=there.config.root,
            python=made.python,
            environment=manifest.Environment(
                key=made.key, inputs=made.inputs, packages=made.packages
            ),
            codec=codec(self.request.level),
            components=components,
            migrations={**made.migrations, **own},
            migration_commands=there.config.migrations,
            processes=artifact_toml.processes(there.config),
            install=there.config.install,
            django=tree.settings,
            static=tree.static,
            assets=tree.steps,
        )

    def _source(self) -> manifest.Source:
        found = self.observed.snapshot.source
        if not self.request.reproducible:
            return found
        # One commit is checked out under many branch names and from many mirrors.
        return manifest.Source(revision=found.revision, dirty=found.dirty)


def find_lock(observed: Observed, request: BuildRequest, tell: Listener) -> Lock:
    """Return the lock of the project, resolving what was never resolved; raises as `lock_for`."""
    wanted = LockRequest(
        observed.snapshot.root,
        observed.config.requirements,
        observed.interpreter,
        observed.caches,
        tell,
    )
    return lock_for(wanted, upgrade=request.upgrade)


def _specify(observed: Observed, locked: Lock) -> EnvironmentSpec:
    return specify(observed.config, locked, observed.caches, observed.snapshot.root)


def _origin(locked: Lock) -> str:
    return f"{len(locked.pins)} packages from {locked.origin}"


def _how_made(made: Environment) -> str:
    how = "reused" if made.reused else "from the store" if made.fetched else "compiled"
    return f"{made.key[:12]} {how}"


def _sizes(components: Iterable[Packed]) -> str:
    return ", ".join(f"{packed.name} {packed.raw:,} bytes" for packed in components)
