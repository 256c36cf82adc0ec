"""`artifact migrate`: run what is pending, as far as it is safe or allowed."""

from __future__ import annotations

import click
import msgspec

from artifact import steps
from artifact.cli import migrations, options
from artifact.cli.answers import Answer, Document
from artifact.host.commands import migrate
from artifact.host.migrations import pending, runner
from artifact.host.migrations.pending import Database, Migration, Skipped
from artifact.host.migrations.runner import Failure
from artifact.site import Site


class Migrated(Document, frozen=True, kw_only=True, tag="migrate"):
    """What a run of migrations did, database by database."""

    databases: tuple[Database, ...]
    """As they were before."""
    skipped: tuple[Skipped, ...]
    refused: tuple[Migration, ...]
    """Not run, because they are not safe."""
    ran: dict[str, tuple[str, ...]]
    """Alias to the migrations that were run."""
    after: dict[str, tuple[str, ...]]
    """Alias to all that is applied now."""
    failed: Failure | None
    unmatched: tuple[str, ...]
    busy: str


class MigrationPlan(migrations.PendingMigrations, frozen=True, kw_only=True, tag="migrate"):
    """What is pending; the answer with `--plan`."""


@click.command()
@options.site
@options.release
@options.allow_unsafe
@click.option("--only-safe", is_flag=True, help="Run what is safe and leave the rest.")
@options.duration("--lock-timeout", "5s", "How long a statement may wait for a table.")
@options.wait
@options.plan
@options.json
@options.verbosity
def command(
    *,
    site: Site,
    release: str,
    allow_unsafe: tuple[str, ...],
    only_safe: bool,
    lock_timeout: float,
    wait: float,
    plan: bool,
    answer: Answer,
    tell: steps.Listener,
) -> None:
    """Run the pending migrations that are safe while the old code runs.

    When one of them is not safe, none is run. The error names it, and --allow-unsafe lets exactly
    that one through.
    """
    version = migrations.version_of(site, release)
    if plan:
        migrations.show(pending.of_version(site, version, tell), MigrationPlan, answer)
        return
    options = runner.MigrationOptions(allow_unsafe, only_safe, wait, lock_timeout)
    outcome = migrate.migrate(site, version, options, tell)
    answer(Migrated(**msgspec.structs.asdict(outcome)), outcome.names)
    for one in outcome.refused:
        tell(steps.Warned(f"left: {one.named}"))
    tell(steps.Said(f"{len(outcome.names)} applied" if outcome.names else "nothing to do"))
