"""`artifact cache`: the environments of a build machine."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from artifact import steps
from artifact.cli import terminal

if TYPE_CHECKING:
    from artifact.building.environments.cached import Cached, Removal
    from artifact.building.places import Places

_SHOWN_DIGITS = 12

_root = click.option(
    "--root", default="", metavar="PATH", help="The site; that of the project here when left out."
)
_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")


@click.group()
def command() -> None:
    """List, explain, check and prune the environments on this machine.

    They lie in the directory `virtualenv` of the site they are compiled for, which the project
    in the current directory names, or --root.
    """


@command.command("ls")
@_root
@_json
def list_(*, root: str, as_json: bool) -> None:
    """List the environments, the one used last first."""
    from artifact.building.environments import cached

    found = cached.environments(_places(root))
    if as_json:
        terminal.document("cache ls", {"environments": [_described(one) for one in found]})
        return
    rows = [_row(one) for one in found]
    header = ("KEY", "PYTHON", "PACKAGES", "SIZE", "LAST USED", "BY")
    for line in terminal.table(rows, header=header) if rows else []:
        terminal.data(line)


@command.command()
@_root
@_json
def why(*, root: str, as_json: bool) -> None:
    """Say why the last build that compiled an environment did not reuse one."""
    from artifact.building.environments import environment

    where = _places(root)
    found = environment.last_miss(where)
    if as_json:
        content: dict[str, Any] = {"why": None}
        if found is not None:
            content["why"] = {
                "name": found.name,
                "key": found.key,
                "compared": found.compared,
                "reasons": list(found.reasons),
                "when": found.when,
            }
        terminal.document("cache why", content)
    elif found is None:
        terminal.talk(f"no build on this machine has compiled an environment in {where.root}")
    else:
        terminal.data(f"{_when(found.when)} {found.name} compiled {found.key[:_SHOWN_DIGITS]}")
        if found.compared and found.compared != found.key:
            terminal.data(f"compared with {found.compared[:_SHOWN_DIGITS]}, the newest until then")
        for reason in found.reasons:
            terminal.data(f"  {reason}")


@command.command()
@click.argument("keys", metavar="[KEY]...", nargs=-1)
@_root
@_json
@terminal.talking
def verify(*, keys: tuple[str, ...], root: str, as_json: bool, tell: steps.Listener) -> None:
    """Compare every file of the environments with what was packed; exit 5 when one differs.

    KEY may be the beginning of a key. An environment that no build has packed yet is compared by
    the sizes and times of its files.
    """
    from artifact.building.environments import cached
    from artifact.errors import Refused

    where = _places(root)
    chosen = _chosen(cached.environments(where), keys)
    results: dict[str, tuple[str, ...]] = {}
    for one in chosen:
        tell(steps.Progress("verifying", len(results), len(chosen), "environments"))
        results[one.key] = cached.faults(where, one.key)
    if as_json:
        rows = [{"key": key, "faults": list(faults)} for key, faults in results.items()]
        terminal.document("cache verify", {"environments": rows})
    else:
        for key, faults in results.items():
            terminal.data(f"{key[:_SHOWN_DIGITS]}  {'; '.join(faults) if faults else 'intact'}")
    damaged = [key for key, faults in results.items() if faults]
    if damaged:
        raise Refused(
            f"{len(damaged)} of {len(results)} environments in {where.environments} are not as "
            "they were made",
            hint="the next build that needs one compiles it again",
        )


@command.command()
@click.option("--keep", default=3, show_default=True, help="How many stay whatever their age.")
@click.option("--days", default=14.0, show_default=True, help="What was used since then stays.")
@click.option("--plan", is_flag=True, help="Print what would be removed, and remove nothing.")
@_root
@_json
@terminal.talking
def prune(
    *, keep: int, days: float, plan: bool, root: str, as_json: bool, tell: steps.Listener
) -> None:
    """Remove old environments; what a build is using stays.

    Also removes unfinished environments and bytecode of applications that no build used lately.
    """
    from artifact.building.environments import cached
    from artifact.errors import UsageError

    if keep < 0 or days < 0:
        raise UsageError("--keep and --days cannot be negative")
    where = _places(root)
    removals = cached.plan_prune(where, keep=keep, days=days)
    done = [(one, "") for one in removals] if plan else list(cached.prune(where, removals))
    if as_json:
        rows = [_removed(one, stays) for one, stays in done]
        terminal.document("cache prune", {"plan": plan, "removals": rows})
        return
    for one, stays in done:
        if one.key:
            what = f"stays, {stays}" if stays else "would be removed" if plan else "removed"
            terminal.data(f"{one.path}  {terminal.size(one.size)}  {one.reason}: {what}")
    freed = cached.total([one for one, stays in done if not stays])
    tell(steps.Said(f"{terminal.size(freed)} {'would be' if plan else 'were'} set free"))


def _places(root: str) -> Places:
    from artifact.building import places
    from artifact.configuration import artifact_toml

    # The application's name decides nothing but the root, and with --root not even that.
    settings = artifact_toml.load(Path.cwd(), name="cache" if root else "", root=root)
    return places.places(settings.root)


def _chosen(found: tuple[Cached, ...], keys: tuple[str, ...]) -> list[Cached]:
    from artifact.errors import UsageError

    for key in keys:
        if not any(one.key.startswith(key) for one in found):
            raise UsageError(
                f"there is no environment {key!r}", hint="`artifact cache ls` lists them"
            )
    return [one for one in found if not keys or one.key.startswith(keys)]


def _row(one: Cached) -> tuple[str, ...]:
    key = one.key[:_SHOWN_DIGITS]
    used = _when(one.used) if one.used else "-"
    by = ", ".join(one.names) or "-"
    if one.marker is None:
        return (key, "-", "-", "not finished", used, by)
    count = str(len(one.marker.packages))
    return (key, one.marker.python.version, count, terminal.size(one.size), used, by)


def _described(one: Cached) -> dict[str, Any]:
    return {
        "key": one.key,
        "path": str(one.path),
        "finished": one.marker is not None,
        "python": one.marker.python.version if one.marker else None,
        "packages": one.marker.packages if one.marker else {},
        "bytes": one.size,
        "last-used": one.used or None,
        "used-by": list(one.names),
    }


def _removed(one: Removal, stays: str) -> dict[str, Any]:
    return {
        "path": str(one.path),
        "key": one.key or None,
        "bytes": one.size,
        "reason": one.reason,
        "stays": stays or None,
    }


def _when(moment: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(moment))
