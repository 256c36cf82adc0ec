"""Change the processes that share no listening socket: workers, schedulers, programs by hand.

A worker with two slots starts the new release first, and the old one's processes then finish their
tasks. The others, of which there may be only one, are stopped and started, one at a time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from artifact import steps
from artifact.host.processes import application_checks, servers, slots
from artifact.host.processes.slots import Program
from artifact.services.process_manager import TURN, Member

_POLL_SECONDS = 0.05
_SETTLED_SECONDS = 1.5
"""How long one that cannot be asked must stay up; supervisor's startsecs is 1."""
_START_SECONDS = 30.0


def change(program: Program) -> None:
    """Have a program run the new release, and nothing else; it is stopped where that has it not.

    Raises:
        ReleaseFailed: it does not stay up.
        ProcessManagerError: the process manager does not do what it is told.
    """
    members = program.members()
    if _has_slots(members):
        _swap(program)
    elif program.after is None:
        slots.stop(program, members)
    else:
        _one_by_one(program, members)


def take_back(program: Program, *, touched: bool) -> None:
    """Have a program run the old release again, where it does not; it is the program's `new` one.

    Args:
        touched: it may have been restarted. One configured by hand leaves no word of what it runs.
    """
    members = program.members()
    if _has_slots(members):
        _swap(program, believe=True)
        return
    stale = [one for one in members if _is_stale(program, one, touched=touched)]
    if program.after is not None:
        _one_by_one(program, stale)
    elif program.new is not None:
        slots.stop(program, stale)
    else:
        slots.restart(program, stale)  # it sleeps until there is a release


def wait_until_settled(
    program: Program, members: Sequence[Member], *, answered: Callable[[], bool] = lambda: True
) -> None:
    """Wait until processes have stayed up for a while.

    Args:
        answered: tells whether they have said that they are there. What says nothing, and does not
            end for a long time either, is taken to be at work.

    Raises:
        ReleaseFailed: one ends, or does not get up.
    """
    names = [member.name for member in members]
    deadline = time.monotonic() + application_checks.ANSWER_SECONDS + _START_SECONDS
    began: dict[str, tuple[int, float]] = {}
    while True:
        now = time.monotonic()
        found = [one for one in program.members() if one.name in names]
        for one in found:
            if one.state in {"BACKOFF", "FATAL", "EXITED"} or now >= deadline:
                what = f"is {one.state} {one.trouble}".rstrip()
                raise program.failure(one.name, what, one.name)
            if one.pid != began.get(one.name, (0, 0.0))[0]:
                began[one.name] = one.pid, now
        up = min((now - began[one.name][1] if one.pid else 0.0 for one in found), default=now)
        if up >= application_checks.ANSWER_SECONDS or (up >= _SETTLED_SECONDS and answered()):
            return
        time.sleep(_POLL_SECONDS)


def _swap(program: Program, *, believe: bool = False) -> None:
    """Start one slot in the release and put the other to sleep; which first depends on the worker.

    Args:
        believe: a slot that runs it already is as good as before.
    """
    slot = slots.choose_slot(program) if program.after is not None else None
    both = (program.before, program.after)
    beside = all(servers.overlaps(process) for process in both if process is not None)
    if not beside:
        slots.retire(program, slot)
    if slot is not None:
        slots.bring_up(program, slot, lambda mine: _wait(program, mine), believe=believe)
    if beside:
        slots.retire(program, slot)


def _wait(program: Program, members: Sequence[Member]) -> None:
    names = ", ".join(member.name for member in members)
    numbers = [int(member.process.removeprefix(TURN)) for member in members]
    site = program.target.site
    with (
        steps.waiting(program.tell, f"{names} had come up"),
        application_checks.answering(site, program.version, program.process, numbers) as answered,
    ):
        wait_until_settled(program, members, answered=answered)


def _one_by_one(program: Program, members: Sequence[Member]) -> None:
    for one in members:
        within = f"it finishes within {program.patience:g} s"
        program.tell(steps.Said(f"restarting {one.name}: {within}"))
        slots.restart(program, [one])
        with steps.waiting(program.tell, f"{one.name} had stayed up"):
            wait_until_settled(program, [one])


def _has_slots(members: Sequence[Member]) -> bool:
    return bool(members) and all(one.process.startswith(TURN) for one in members)


def _is_stale(program: Program, member: Member, *, touched: bool) -> bool:
    running = program.running(member)
    if member.up and running is not None:
        return running != program.version
    return touched or not member.up
