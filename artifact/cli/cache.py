"""`artifact cache`: the environments of a build machine."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import click
import msgspec

from artifact import steps
from artifact.building import caches
from artifact.building.caches import Caches
from artifact.building.environments import cached, environment
from artifact.building.environments.cached import Cached
from artifact.building.environments.environment import Why
from artifact.cli import options, terminal
from artifact.cli.answers import Answer, Document
from artifact.configuration import artifact_toml
from artifact.errors import Refused, UsageError

_SHOWN_DIGITS = 12


class CachedEnvironment(msgspec.Struct, frozen=True, kw_only=True, rename="kebab"):
    """An environment on this machine."""

    key: str
    path: str
    finished: bool
    python: str | None
    """The version; null where it is not finished."""
    packages: dict[str, str]
    """Name to version."""
    bytes: int
    last_used: float | None
    """Seconds since the epoch."""
    used_by: tuple[str, ...]
    """The applications that used it."""


class Environments(Document, frozen=True, kw_only=True, tag="cache ls"):
    """The environments on this machine, the one used last first."""

    environments: tuple[CachedEnvironment, ...]


class LastMiss(Document, frozen=True, kw_only=True, tag="cache why"):
    """Why the last build that compiled an environment did not reuse one."""

    why: Why | None
    """Null where no build on this machine has compiled one."""


class Verified(msgspec.Struct, frozen=True):
    """An environment and what is wrong with it."""

    key: str
    faults: tuple[str, ...]


class VerifiedEnvironments(Document, frozen=True, kw_only=True, tag="cache verify"):
    """What became of the environments' files."""

    environments: tuple[Verified, ...]


class Removed(msgspec.Struct, frozen=True, kw_only=True):
    """Something that was removed, or would be."""

    path: str
    key: str | None
    """Of the environment; null for other files."""
    bytes: int
    reason: str
    stays: str | None
    """Why it could not be removed."""


class Removals(Document, frozen=True, kw_only=True, tag="cache prune"):
    """What was removed, or would be."""

    plan: bool
    removals: tuple[Removed, ...]


_root = click.option(
    "--root", default="", metavar="PATH", help="The site; that of the project here if left out."
)


@click.group()
def command() -> None:
    """List, explain, check and prune the environments on this machine.

    They lie in the directory `virtualenv` of the site they are compiled for. The project in the
    current directory names that site, or --root does.
    """


@command.command("ls")
@_root
@options.json
def list_(*, root: str, answer: Answer) -> None:
    """List the environments, the one used last first."""
    found = cached.environments(_places(root))
    header = ("KEY", "PYTHON", "PACKAGES", "SIZE", "LAST USED", "BY")
    document = Environments(environments=tuple(map(_described, found)))
    answer(document, terminal.table(list(map(_row, found)), header=header))


@command.command()
@_root
@options.json
def why(*, root: str, answer: Answer) -> None:
    """Say why the last build that compiled an environment did not reuse one."""
    where = _places(root)
    found = environment.last_miss(where)
    answer(LastMiss(why=found), _reasons(found) if found else ())
    if found is None:
        terminal.talk(f"no build on this machine has compiled an environment in {where.root}")


def _reasons(found: Why) -> Iterator[str]:
    yield f"{_when(found.when)} {found.name} compiled {found.key[:_SHOWN_DIGITS]}"
    if found.compared and found.compared != found.key:
        yield f"compared with {found.compared[:_SHOWN_DIGITS]}, the newest until then"
    yield from (f"  {reason}" for reason in found.reasons)


@command.command()
@click.argument("keys", metavar="[KEY]...", nargs=-1)
@_root
@options.json
@options.verbosity
def verify(*, keys: tuple[str, ...], root: str, answer: Answer, tell: steps.Listener) -> None:
    """Compare every file of the environments with what was packed; exit 5 when one differs.

    KEY may be the beginning of a key. An environment that no build has packed yet is compared by
    the sizes and times of its files.
    """
    where = _places(root)
    chosen = _chosen(cached.environments(where), keys)
    results = list[Verified]()
    for one in chosen:
        tell(steps.Progress("verifying", len(results), len(chosen), "environments"))
        results.append(Verified(one.key, cached.faults(where, one.key)))
    lines = (f"{one.key[:_SHOWN_DIGITS]}  {'; '.join(one.faults) or 'intact'}" for one in results)
    answer(VerifiedEnvironments(environments=tuple(results)), lines)
    damaged = sum(1 for one in results if one.faults)
    if damaged:
        raise Refused(
            f"{damaged} of {len(results)} environments in {where.environments} are not as they "
            "were made",
            hint="the next build that needs one compiles it again",
        )


@command.command()
@click.option("--keep", default=3, show_default=True, help="How many stay whatever their age.")
@click.option("--days", default=14.0, show_default=True, help="What was used since then stays.")
@options.plan
@_root
@options.json
@options.verbosity
def prune(
    *, keep: int, days: float, plan: bool, root: str, answer: Answer, tell: steps.Listener
) -> None:
    """Remove old environments; what a build is using stays.

    Also removes unfinished environments and bytecode of applications that no build used lately.
    """
    if keep < 0 or days < 0:
        raise UsageError("--keep and --days cannot be negative")
    where = _places(root)
    removals = cached.plan_prune(where, keep=keep, days=days)
    done = [(one, "") for one in removals] if plan else list(cached.prune(where, removals))
    removed = tuple(
        Removed(
            path=str(one.path),
            key=one.key or None,
            bytes=one.size,
            reason=one.reason,
            stays=stays or None,
        )
        for one, stays in done
    )
    answer(
        Removals(plan=plan, removals=removed),
        (_removal(one, plan=plan) for one in removed if one.key),
    )
    freed = cached.total([one for one, stays in done if not stays])
    tell(steps.Said(f"{terminal.size(freed)} {'would be' if plan else 'were'} set free"))


def _removal(one: Removed, *, plan: bool) -> str:
    became = f"stays, {one.stays}" if one.stays else "would be removed" if plan else "removed"
    return f"{one.path}  {terminal.size(one.bytes)}  {one.reason}: {became}"


def _places(root: str) -> Caches:
    # The application's name decides nothing but the root, and with --root not even that.
    settings = artifact_toml.load(Path.cwd(), name="cache" if root else "", root=root)
    return caches.find_caches(settings.root)


def _chosen(found: tuple[Cached, ...], keys: tuple[str, ...]) -> list[Cached]:
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


def _described(one: Cached) -> CachedEnvironment:
    return CachedEnvironment(
        key=one.key,
        path=str(one.path),
        finished=one.marker is not None,
        python=one.marker.python.version if one.marker else None,
        packages=one.marker.packages if one.marker else {},
        bytes=one.size,
        last_used=one.used or None,
        used_by=one.names,
    )


def _when(moment: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(moment))
