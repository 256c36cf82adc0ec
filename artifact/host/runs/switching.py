"""Carry out a plan that makes another release live: an install, a switch or a rollback."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from artifact import steps
from artifact.errors import MigrationFailed, Refused, ReleaseFailed
from artifact.host.processes.activate import Switch
from artifact.host.processes.target import Target
from artifact.host.records import problem
from artifact.host.records.problem import Problem
from artifact.host.runs import failure_report, recording
from artifact.host.runs.failure_report import FailureReport
from artifact.host.runs.run import SwitchingRun
from artifact.services.process_manager import ProcessManagerError
from artifact.steps import Step, Warned


class Plan(msgspec.Struct, frozen=True):
    """What would be done to make a release live, and what stands in the way."""

    command: str
    """ "install", "stage", "switch" or "rollback": what the journal calls the run."""
    target: Target
    """The release that is to become live."""
    digest: str
    live: str
    """The version that is live now; empty when none is."""
    old: Target | None
    """The live release; None where none is, or it is not whole: then no way leads back to it."""
    stages: tuple[tuple[Step[SwitchingRun], ...], ...] = ()
    """What fails in one stage is undone; the stages before it stay. None where nothing is to do."""
    problems: tuple[Problem, ...] = ()
    refusal: str = ""
    """What the problems keep from being: "accounting-7 cannot be installed in /srv/accounting"."""
    warnings: tuple[Warned, ...] = ()

    @property
    def steps(self) -> tuple[Step[SwitchingRun], ...]:
        """All that would be done; empty where the release is live already."""
        return tuple(step for stage in self.stages for step in stage)


def carry_out(plan: Plan, lock: int, tell: steps.Listener) -> None:
    """Do what a plan says, as a run in the site's journal; the caller holds the site's lock.

    Raises:
        Refused: a problem, or a check, said no; nothing live changed.
        ReleaseFailed: the release does not serve, and what was live before is so again.
        RollbackFailed: going back failed as well.
    """
    report = FailureReport(plan.target)
    with (
        failure_report.mentioned(report),
        recording.recorded(
            plan.target.site,
            lock,
            [report.hear, tell],
            command=plan.command,
            version=plan.target.version,
            digest=plan.digest,
            previous=plan.live,
        ) as recorded,
    ):
        for warning in plan.warnings:
            recorded.tell(warning)
        problem.refuse(plan.problems, plan.refusal, recorded.tell)
        switch = Switch(plan.old, plan.target, recorded.tell)
        run = SwitchingRun(
            recorded.tell, recorded.held, record=recorded.record, lock=lock, switch=switch
        )
        with _explained(plan, switch):
            for stage in plan.stages:
                steps.run(stage, run)


@contextmanager
def _explained(plan: Plan, switch: Switch) -> Iterator[None]:
    """Say what a failure means; the steps have been undone when it gets here."""
    try:
        yield
    except MigrationFailed:
        raise  # a database has changed, though nothing that serves has
    except (OSError, ProcessManagerError, ReleaseFailed) as error:
        hint: str = getattr(error, "hint", "")
        output: tuple[str, ...] = getattr(error, "output", ())
        if not switch.begun:
            raise Refused(f"{error}; nothing live has changed", hint=hint, output=output) from error
        again = f"{plan.live} is live again" if plan.old else "nothing was live before"
        raise ReleaseFailed(f"{error}; {again}", hint=hint, output=output) from error
