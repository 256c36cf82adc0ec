"""`artifact build`: from a checkout to one versioned file."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Literal

import click
import msgspec
from msgspec import UNSET, UnsetType

from artifact import steps
from artifact.building import pipeline
from artifact.building.assets import plan as asset_plan
from artifact.cli import options, push, store, terminal
from artifact.cli.answers import Answer, Document


class Environment(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the environment, or would become of it."""

    key: str
    path: str
    reused: bool
    reasons: tuple[str, ...]
    """Why it was not reused."""


class BuiltEnvironment(Environment, frozen=True, kw_only=True):
    """What became of the environment."""

    fetched: bool
    """It comes from the store."""


class Component(msgspec.Struct, frozen=True, kw_only=True):
    """A part of the artifact."""

    name: str
    tree: str
    """The digest of its entries."""
    entries: int
    raw: int
    """Bytes unpacked."""
    bytes: int
    """Bytes in the artifact."""


class TimedStep(msgspec.Struct, frozen=True):
    """A step of the build and what it cost."""

    name: str
    seconds: float
    note: str


class Build(Document, frozen=True, kw_only=True, tag="build"):
    """What a build made."""

    artifact: str
    """Its path."""
    digest: str
    bytes: int
    seconds: float
    environment: BuiltEnvironment
    components: tuple[Component, ...]
    steps: tuple[TimedStep, ...]
    pushed: push.Upload | UnsetType = UNSET
    """What the store has now; with `--push` only."""


class BuildPlan(Document, frozen=True, kw_only=True, tag="build"):
    """What a build would do; the answer with `--plan`."""

    plan: Literal[True] = True
    name: str
    release: str
    """The version."""
    requirements: str
    """Where they come from."""
    packages: int
    environment: Environment
    files: int
    assets: tuple[str, ...]
    """The asset steps that would be run."""


@click.command()
@click.option(
    "--version",
    metavar="V",
    default="",
    help="The version; that of the CI job or of git if left out.",
)
@click.option(
    "--output",
    type=options.PATH,
    default=Path("dist"),
    show_default=True,
    help="Directory to write the artifact into.",
)
@click.option("--name", default="", help="Name of the application; overrides artifact.toml.")
@click.option("--root", default="", help="The site on servers; overrides artifact.toml.")
@options.plan
@click.option(
    "--reproducible",
    is_flag=True,
    help="Leave out what differs between two jobs: one commit gives equal bytes.",
)
@click.option(
    "--wheelhouse",
    type=options.PATH,
    help="Also write all wheels and their lock into this directory, for pip install --no-index.",
)
@click.option("--upgrade", is_flag=True, help="Resolve requirements that are not pinned again.")
@click.option("--verify", is_flag=True, help="Check a cached environment byte for byte.")
@options.duration("--lock-timeout", "30m", "How long to wait for a build of the same environment.")
@click.option(
    "--level",
    type=click.IntRange(1, 12),
    default=6,
    show_default=True,
    help="Level of compression, from 1 (fast) to 12 (small).",
)
@click.option(
    "--sign", "signing_key", type=options.PATH, help="Sign with this SSH key (ssh-keygen -Y)."
)
@click.option("--push", "pushes", is_flag=True, help="Also put it into the store of [store].")
@options.json
@options.verbosity
def command(
    *, plan: bool, pushes: bool, answer: Answer, tell: steps.Listener, **chosen: Any
) -> None:
    """Build the artifact of this checkout and print its path.

    Compiles the environment where it will be in production, or reuses it when nothing that
    decides it changed; runs the asset steps whose inputs changed; packs what changed and joins it
    into NAME-VERSION.tgz. stdout has the path of that file and nothing else.
    """
    # Absolute, for whoever gets the path may stand elsewhere.
    chosen["output"] = chosen["output"].resolve()
    request = pipeline.BuildRequest(project=Path.cwd(), **chosen)
    if plan:
        _show_plan(request, answer, tell)
        return
    if pushes:
        store.opened(request.name)  # a wrong [store] is said before anything is built
    began = time.monotonic()
    timed = list[TimedStep]()

    def note(event: steps.Event) -> None:
        if isinstance(event, steps.Ended):
            timed.append(TimedStep(event.name, round(event.seconds, 3), event.note))

    built = pipeline.build(request, steps.everybody(tell, note))
    document = _document(built, time.monotonic() - began, tuple(timed))
    for line in _summary(document):
        tell(steps.Said(line))
    if pushes:
        upload = push.publish(Path(document.artifact), tell)
        document = msgspec.structs.replace(document, pushed=upload)
    answer(document, [document.artifact])


def _document(built: pipeline.Built, seconds: float, timed: tuple[TimedStep, ...]) -> Build:
    environment = built.environment
    return Build(
        artifact=str(built.path),
        digest=built.digest,
        bytes=built.path.stat().st_size,
        seconds=round(seconds, 3),
        environment=BuiltEnvironment(
            key=environment.key,
            path=str(environment.path),
            reused=environment.reused,
            fetched=environment.fetched,
            reasons=environment.reasons,
        ),
        components=tuple(
            Component(
                name=packed.name,
                tree=packed.tree,
                entries=packed.entries,
                raw=packed.raw,
                bytes=packed.data + packed.toc,
            )
            for packed in built.packed
        ),
        steps=timed,
    )


def _summary(build: Build) -> list[str]:
    """Return what the build made and what that cost."""
    rows = [
        (
            f"  {component.name}",
            terminal.size(component.bytes),
            f"of {terminal.size(component.raw)}",
            f"{component.entries:,} entries",
        )
        for component in build.components
    ]
    reasons = "; ".join(build.environment.reasons)
    how = "from the store" if build.environment.fetched else "compiled"
    why = f"{how}: {reasons}" if reasons else "reused"
    name, size = Path(build.artifact).name, terminal.size(build.bytes)
    return [
        *terminal.table(rows),
        f"environment {build.environment.key[:12]} {why}",
        f"built {name} in {build.seconds:.1f} s: {size}, {build.digest}",
    ]


def _show_plan(request: pipeline.BuildRequest, answer: Answer, tell: steps.Listener) -> None:
    """Answer with what a build would do, from what was observed."""
    preview = pipeline.preview(request, tell)
    observed, spec, found = preview.observed, preview.spec, preview.finding
    packages = frozenset(pin.name for pin in spec.lock.pins)
    asset_steps = asset_plan.possible_steps(observed.config, observed.snapshot, packages)
    document = BuildPlan(
        name=observed.config.name,
        release=observed.version.text,
        requirements=spec.lock.origin,
        packages=len(packages),
        environment=Environment(
            key=spec.key, path=str(spec.root), reused=found.reusable, reasons=found.reasons
        ),
        files=len(observed.snapshot.files),
        assets=asset_steps,
    )
    declared = {step.name: step.run for step in observed.config.assets}
    environment = f"{'reuse' if found.reusable else 'compile'} {spec.root}"
    rows = [
        ("version", f"{observed.version.text}, from {observed.version.origin}"),
        ("python", f"{observed.interpreter.version} ({observed.interpreter.path})"),
        ("requirements", f"{document.packages} packages from {spec.lock.origin}"),
        ("environment", environment),
        *(("", f"because: {reason}") for reason in found.reasons),
        ("code", f"{document.files} files"),
        *(("assets", f"{name}: {declared.get(name, 'by manage.py')}") for name in asset_steps),
        ("artifact", f"{observed.reference}.tgz"),
    ]
    answer(document, terminal.table(rows))
