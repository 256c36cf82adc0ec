"""What became of the migrations of a run that was killed."""

from __future__ import annotations

import msgspec

from artifact import steps
from artifact.errors import MigrationFailed, MigrationHalfDone, Refused
from artifact.host.migrations import pending, runner
from artifact.host.records.journal import Run
from artifact.site import Site


class Aftermath(msgspec.Struct, frozen=True):
    """How a run left the databases."""

    text: str = ""
    """Empty where it had begun no migration."""
    code: int = Refused.code
    """With which the run would have ended, had it come to that."""


def of_run(site: Site, run: Run, tell: steps.Listener) -> Aftermath:
    """Compare what a run began, as its journal has it, with what the databases have now."""
    began = runner.begun(run.lines, runner.APPLYING)
    if not began:
        return Aftermath()
    version = run.began.version
    try:
        seen = pending.of_version(site, version, tell)
    except Refused as error:
        return Aftermath(f"it had begun {_names(began)}: {error.message}", MigrationHalfDone.code)
    if seen.troubles:
        text = f"it had begun {_names(began)}: {'; '.join(seen.troubles)}"
        return Aftermath(text, MigrationHalfDone.code)
    atomic = {
        (one.alias, migration.name): migration.atomic
        for one in seen.databases
        for migration in one.pending
    }
    ran = [one for one in began if one not in atomic]
    half = [one for one in began if not atomic.get(one, True)]
    said = f"it had run {_names(ran)}" if ran else "no migration was run"
    if half:
        tell(
            steps.Warned(
                f"part of {_names(half)} may have stayed, for it does not run in a transaction",
                "compare the schema with the migration, and repair it",
            )
        )
        return Aftermath(f"{said}; part of {_names(half)} may have stayed", MigrationHalfDone.code)
    return Aftermath(said, MigrationFailed.code if ran else Refused.code)


def _names(rows: list[tuple[str, str]]) -> str:
    return ", ".join(dict.fromkeys(name for _, name in rows))
