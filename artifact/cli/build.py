"""`artifact build`: from a checkout to one versioned file."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from artifact import steps
from artifact.cli import push as pushing
from artifact.cli import store, terminal

if TYPE_CHECKING:
    from artifact.building.environments.environment import Found
    from artifact.building.locking.lock import Lock
    from artifact.building.pipeline import Built, Observed

_PATH = click.Path(path_type=Path)


@click.command()
@click.option("--version", metavar="V", default="", help="Else the CI job's number, else git's.")
@click.option(
    "--output",
    type=_PATH,
    default=Path("dist"),
    show_default=True,
    help="Directory to write the artifact into.",
)
@click.option("--name", default="", help="Name of the application; overrides artifact.toml.")
@click.option("--root", default="", help="The site on servers; overrides artifact.toml.")
@click.option("--plan", is_flag=True, help="Print what would be done and why, and stop.")
@click.option(
    "--reproducible",
    is_flag=True,
    help="Leave out what differs between two jobs: one commit gives equal bytes.",
)
@click.option(
    "--wheelhouse",
    type=_PATH,
    help="Also write all wheels and their lock into this directory, for pip install --no-index.",
)
@click.option("--upgrade", is_flag=True, help="Resolve requirements that are not pinned again.")
@click.option("--verify", is_flag=True, help="Check a cached environment byte for byte.")
@click.option(
    "--lock-timeout",
    type=click.FloatRange(min=0),
    default=1800.0,
    show_default="1800",
    metavar="SECONDS",
    help="How long to wait for another build of the same environment.",
)
@click.option(
    "--level",
    type=click.IntRange(1, 12),
    default=6,
    show_default=True,
    help="Of compression, 1 (fast) to 12 (small).",
)
@click.option("--sign", "signing_key", type=_PATH, help="Sign with this SSH key (ssh-keygen -Y).")
@click.option("--push", is_flag=True, help="Also put it into the store of [store].")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document, not the path.")
@terminal.talking
def command(*, plan: bool, push: bool, as_json: bool, tell: steps.Listener, **options: Any) -> None:
    """Build the artifact of this checkout and print its path.

    Compiles the environment where it will be in production, or reuses it when nothing that
    decides it changed; runs the asset steps whose inputs changed; packs what changed and joins it
    into NAME-VERSION.tgz. stdout has the path of that file and nothing else.
    """
    from artifact.building import pipeline

    # Absolute, for whoever gets the path may stand elsewhere.
    options["output"] = options["output"].resolve()
    request = pipeline.Request(project=Path.cwd(), **options)
    if plan:
        _show_plan(*pipeline.foresee(request, tell), as_json=as_json)
        return
    if push:
        store.opened(request.name)  # a wrong [store] is said before anything is built
    began = time.monotonic()
    timed = list[steps.Ended]()

    def note(event: steps.Event) -> None:
        if isinstance(event, steps.Ended):
            timed.append(event)

    built = pipeline.build(request, steps.everybody(tell, note))
    seconds = time.monotonic() - began
    for line in _summary(built, seconds):
        tell(steps.Said(line))
    pushed = {}
    if push:
        assert built.path is not None
        pushed = {"pushed": pushing.document(pushing.publish(built.path, tell))}
    if as_json:
        terminal.document("build", _document(built, seconds, timed) | pushed)
    else:
        terminal.data(str(built.path))


def _summary(built: Built, seconds: float) -> list[str]:
    """Return what the build made and what that cost."""
    assert built.environment is not None
    assert built.path is not None
    rows = [
        (
            f"  {packed.name}",
            terminal.size(packed.data + packed.toc),
            f"of {terminal.size(packed.raw)}",
            f"{packed.entries:,} entries",
        )
        for packed in built.packed
    ]
    reasons = "; ".join(built.environment.reasons)
    how = "from the store" if built.environment.fetched else "compiled"
    why = f"{how}: {reasons}" if reasons else "reused"
    size = terminal.size(built.path.stat().st_size)
    return [
        *terminal.table(rows),
        f"environment {built.environment.key[:12]} {why}",
        f"built {built.path.name} in {seconds:.1f} s: {size}, {built.digest}",
    ]


def _document(built: Built, seconds: float, timed: list[steps.Ended]) -> dict[str, Any]:
    assert built.environment is not None
    assert built.path is not None
    return {
        "artifact": str(built.path),
        "digest": built.digest,
        "bytes": built.path.stat().st_size,
        "seconds": round(seconds, 3),
        "environment": {
            "key": built.environment.key,
            "path": str(built.environment.path),
            "reused": built.environment.reused,
            "fetched": built.environment.fetched,
            "reasons": list(built.environment.reasons),
        },
        "components": [
            {
                "name": packed.name,
                "tree": packed.tree,
                "entries": packed.entries,
                "raw": packed.raw,
                "bytes": packed.data + packed.toc,
            }
            for packed in built.packed
        ],
        "steps": [
            {"name": step.name, "seconds": round(step.seconds, 3), "note": step.note}
            for step in timed
        ],
    }


def _show_plan(observed: Observed, locked: Lock, found: Found, *, as_json: bool) -> None:
    """Print what a build would do, from what was observed."""
    from artifact.building.assets import plan as assets

    reasons = list(found.reasons)
    packages = frozenset(pin.name for pin in locked.pins)
    asset_steps = assets.foreseen(observed.config, observed.snapshot, packages)
    if as_json:
        terminal.document(
            "build",
            {
                "plan": True,
                "name": observed.config.name,
                "version": observed.version.text,
                "requirements": locked.origin,
                "packages": len(locked.pins),
                "environment": {
                    "key": found.key,
                    "path": str(found.path),
                    "reused": found.reusable,
                    "reasons": reasons,
                },
                "files": len(observed.snapshot.files),
                "assets": list(asset_steps),
            },
        )
        return
    declared = {step.name: step.run for step in observed.config.assets}
    environment = f"reuse {found.path}" if found.reusable else f"compile {found.path}"
    rows = [
        ("version", f"{observed.version.text}, from {observed.version.origin}"),
        ("python", f"{observed.interpreter.version} ({observed.interpreter.path})"),
        ("requirements", f"{len(locked.pins)} packages from {locked.origin}"),
        ("environment", environment),
        *(("", f"because: {reason}") for reason in reasons),
        ("code", f"{len(observed.snapshot.files)} files"),
        *(("assets", f"{name}: {declared.get(name, 'by manage.py')}") for name in asset_steps),
        ("artifact", f"{observed.reference}.tgz"),
    ]
    for line in terminal.table(rows):
        terminal.data(line)
