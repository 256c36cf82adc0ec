"""The whole build, from a checkout to one file: observed, planned, run."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import msgspec

from artifact import files, manifest
from artifact.archive import writer
from artifact.archive.grouping import Entry
from artifact.archive.packed import Packed, codec
from artifact.building import places, source, version
from artifact.building.assets.plan import Assets, AssetTree
from artifact.building.environments import bytecode, environment, interpreter, migrations
from artifact.building.locking import lock, tools, wheelhouse
from artifact.configuration import artifact_toml
from artifact.errors import BuildFailed, UsageError
from artifact.manifest import Component, Manifest
from artifact.process import ChildFailed
from artifact.site import Site
from artifact.steps import Listener, Run, Step, run

_WORK = ".artifact-build-"


class Request(msgspec.Struct, frozen=True, kw_only=True):
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
    places: places.Places
    interpreter: interpreter.Interpreter
    snapshot: source.Snapshot
    version: version.Version

    @property
    def reference(self) -> str:
        """ "accounting-1337"."""
        return f"{self.config.name}-{self.version.text}"


class Built(msgspec.Struct):
    """What the steps of a build hand on; whole once all have run."""

    lock: lock.Lock | None = None
    environment: environment.Environment | None = None
    assets: AssetTree | None = None
    packed: list[Packed] = msgspec.field(default_factory=list)
    path: Path | None = None
    digest: str = ""


def observe(request: Request, tell: Listener) -> Observed:
    """Read the configuration, the interpreter and the source; change nothing.

    Raises:
        UsageError: the configuration, the version or the interpreter is wrong.
        BuildFailed: the source cannot be packed.
    """
    project = request.project.resolve()
    if not project.is_dir():
        raise UsageError(f"there is no directory {request.project}")
    settings = artifact_toml.load(project, name=request.name, root=request.root)
    caches = places.places(settings.root)
    python = interpreter.find(settings.python.interpreter, caches, project=project)
    own = _our_own(request, settings.name)
    snapshot = source.read(project, settings.source.exclude, tell, own=own)
    return Observed(settings, caches, python, snapshot, version.choose(request.version, snapshot))


def _our_own(request: Request, name: str) -> Callable[[str], bool]:
    """Return what tells the paths that builds leave in the project, which no build should pack."""
    ends = []
    places_of_output = ((request.output, f"{name}-", ".tgz"), (request.wheelhouse, "", ""))
    for path, prefix, suffix in places_of_output:
        with contextlib.suppress(ValueError):
            if path is not None:
                inside = path.resolve().relative_to(request.project.resolve()).as_posix()
                ends.append((f"{inside}/{prefix}", suffix))
    return lambda path: any(path.startswith(head) and path.endswith(tail) for head, tail in ends)


def foresee(request: Request, tell: Listener) -> tuple[Observed, lock.Lock, environment.Found]:
    """Return what a build would find and so do; raises as `build`.

    Unpinned requirements that were never resolved are resolved for it, and that is kept; nothing
    else is written.
    """
    observed = observe(request, tell)
    locked = find_lock(observed, request, tell)
    chosen = tools.named(observed.config.requirements.tools)
    return (
        observed,
        locked,
        environment.observe(observed.config, locked, observed.interpreter, chosen, observed.places),
    )


def build(request: Request, tell: Listener) -> Built:
    """Build the artifact of a checkout.

    Raises:
        UsageError: nothing was tried.
        BuildFailed: no artifact was made, and nothing half-done is left.
        Locked: another build makes the same environment, for longer than we may wait.
    """
    observed = observe(request, tell)
    built = Built()
    try:
        with _work_directory(request.output) as work, ExitStack() as held:
            run(_Building(observed, request, built, work, held, tell).steps(), Run(tell))
    except ChildFailed as error:
        raise BuildFailed(str(error), output=error.tail) from error
    except OSError as error:
        raise _unwritable(error) from error
    return built


def _unwritable(error: OSError) -> BuildFailed:
    where = f"{error.filename}: " if error.filename else ""
    hint = "look at the permissions and at the state of the disk, then build again"
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        hint = "make room (`artifact cache prune` removes old environments), then build again"
    return BuildFailed(f"the build stopped: {where}{error.strerror or error}", hint=hint)


class _Building(msgspec.Struct, frozen=True):
    """One build on its way."""

    observed: Observed
    request: Request
    built: Built
    work: Path
    """For packs, on the file system of the output."""
    held: ExitStack
    tell: Listener

    def steps(self) -> Iterator[Step[Run]]:
        """Yield the steps; those after the environment are planned when that is known."""
        yield Step("requirements", "requirements", lambda _run: self._find_lock())
        if self.request.wheelhouse is not None:
            yield Step("wheelhouse", "wheelhouse", lambda _run: self._write_wheelhouse())
        yield Step("environment", "environment", lambda _run: self._make_environment())
        there = self.observed
        made = self._environment
        produced = Assets(
            there.snapshot, there.config, made.path, made.key, there.places, self.tell
        )
        yield from produced.plan()
        yield Step("pack", "pack", lambda _run: self._pack(produced.tree()))
        yield Step("write", f"write {self._artifact.name}", lambda _run: self._write())

    @property
    def _environment(self) -> environment.Environment:
        assert self.built.environment is not None
        return self.built.environment

    @property
    def _artifact(self) -> Path:
        return self.request.output / f"{self.observed.reference}.tgz"

    def _find_lock(self) -> str:
        self.built.lock = find_lock(self.observed, self.request, self.tell)
        return f"{len(self.built.lock.pins)} packages from {self.built.lock.origin}"

    def _write_wheelhouse(self) -> str:
        assert self.built.lock is not None
        assert self.request.wheelhouse is not None
        declared = lock.build_variables(self.observed.config.requirements)
        count = wheelhouse.write_wheelhouse(
            self.built.lock, self.observed.places, declared, self.request.wheelhouse, self.tell
        )
        return f"{count} wheels in {self.request.wheelhouse}"

    def _make_environment(self) -> str:
        assert self.built.lock is not None
        there = self.observed
        made = environment.ensure(
            there.config,
            self.built.lock,
            there.interpreter,
            tools.named(there.config.requirements.tools),
            there.places,
            self.tell,
            workspace=there.snapshot.root,
            lock_timeout=self.request.lock_timeout,
            verify=self.request.verify,
        )
        self.held.enter_context(environment.in_use(made, there.places))
        self.built.environment = made
        how = "reused" if made.reused else "from the store" if made.fetched else "compiled"
        return f"{made.key[:12]} {how}"

    def _pack(self, produced: AssetTree) -> str:
        there = self.observed
        self.built.assets = produced
        self.built.packed = [
            environment.packed(self._environment, there.places, self.request.level, self.tell),
            self._component("assets", _asset_entries(produced)),
            self._component("code", self._code_entries(produced)),
        ]
        return ", ".join(f"{packed.name} {packed.raw:,} bytes" for packed in self.built.packed)

    def _component(self, name: str, entries: Iterable[Entry]) -> Packed:
        return writer.pack(
            entries,
            self.work / name,
            name=name,
            level=self.request.level,
            tell=self.tell,
        )

    def _code_entries(self, produced: AssetTree) -> Iterator[Entry]:
        """Yield the application's own files and their bytecode, less what asset steps wrote."""
        there = self.observed
        root = str(there.snapshot.root)
        kept = [file for file in there.snapshot.files if file.path not in produced.paths]
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
            there.places,
            self.tell,
        ):
            yield Entry(compiled.path, "file", source=compiled.source)

    def _write(self) -> str:
        sign = None
        if self.request.signing_key is not None:
            from artifact.archive import signature

            sign = partial(signature.sign, key=self.request.signing_key)
        self.built.digest = writer.write(
            self._artifact,
            self.built.packed,
            self._describe,
            self.tell,
            sign=sign,
        )
        self.built.path = self._artifact
        return f"{self._artifact.stat().st_size:,} bytes, {self.built.digest}"

    def _describe(self, components: tuple[Component, ...]) -> Manifest:
        there, made, produced = self.observed, self._environment, self.built.assets
        assert produced is not None
        paths = [file.path for file in there.snapshot.files]
        own = migrations.scan(there.snapshot.root, paths)
        return Manifest(
            name=there.config.name,
            version=there.version.text,
            sequence=there.version.sequence,
            created=there.snapshot.created,
            source=self._source(),
            built=None if self.request.reproducible else version.built(),
            root=there.config.root,
            python=made.python,
            environment=manifest.Environment(
                key=made.key, inputs=made.inputs, packages=made.packages
            ),
            codec=codec(self.request.level),
            components=components,
            migrations={**made.migrations, **own},
            migration_commands=artifact_toml.migration_commands(there.config),
            processes=artifact_toml.processes(there.config),
            install=there.config.install,
            django=produced.settings,
            static=produced.static,
            assets=produced.steps,
        )

    def _source(self) -> manifest.Source:
        found = self.observed.snapshot.source
        if not self.request.reproducible:
            return found
        # One commit is checked out under many branch names and from many mirrors.
        return manifest.Source(revision=found.revision, dirty=found.dirty)


def find_lock(observed: Observed, request: Request, tell: Listener) -> lock.Lock:
    """Return the lock of the project, resolving what was never resolved; raises as `lock_for`."""
    return lock.lock_for(
        observed.snapshot.root,
        observed.config.requirements,
        observed.interpreter,
        observed.places,
        tell,
        upgrade=request.upgrade,
    )


def _asset_entries(produced: AssetTree) -> Iterator[Entry]:
    for file in produced.files:
        content = str(file.source) if file.kind == "file" else None
        yield Entry(file.path, file.kind, file.mode, file.target, content)


@contextmanager
def _work_directory(output: Path) -> Iterator[Path]:
    """Make a directory beside the artifact for packs: on its file system they need no copy."""
    output.mkdir(parents=True, exist_ok=True)
    with files.scratch(output, prefix=_WORK) as work:
        yield work
