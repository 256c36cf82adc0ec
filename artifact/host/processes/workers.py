"""Change the processes that share no listening socket: workers, schedulers, programs by hand.

Where supervisor has two sets of a worker, the new release's starts first and the old one's then
finishes its tasks. The others, of which there may be only one, are stopped and started, one at a
time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import msgspec

from artifact import steps
from artifact.errors import ReleaseFailed
from artifact.host.processes import application_checks, servers
from artifact.host.records import state
from artifact.manifest import Process
from artifact.services.process_manager import SLOTS, TURN, Member, program_name
from artifact.services.supervisor import Supervisor
from artifact.site import Site

_POLL_SECONDS = 0.05
_SETTLED_SECONDS = 1.5
"""How long one that cannot be asked must stay up; supervisor's startsecs is 1."""
_START_SECONDS = 30.0


class Program(msgspec.Struct, frozen=True):
    """A program of supervisor's that is to change from one release to another."""

    site: Site
    url: str
    """Supervisor's."""
    application: str
    process: str
    old: Process | None
    """As the release has it that is left; None where it has not."""
    new: Process | None
    tell: steps.Listener

    def members(self) -> list[Member]:
        """Return what supervisor has of it."""
        program = program_name(self.application, self.process)
        return [one for one in Supervisor(self.url).members() if one.program == program]

    @property
    def patience(self) -> float:
        """Seconds that what runs may take to finish its tasks."""
        return max(one.stop_timeout for one in (self.old, self.new) if one is not None)


def change(program: Program, version: str) -> None:
    """Have a program run a release, and nothing else.

    Args:
        version: "" where the release does not have the process: it is stopped.

    Raises:
        ReleaseFailed: it does not stay up.
        ProcessManagerError: supervisor does not do what it is told.
    """
    members = program.members()
    if members and all(one.process.startswith(TURN) for one in members):
        _take_turns(program, members, version)
    elif program.new is None:
        _stop(program, members)
    else:
        _one_by_one(program, members, version)


def take_back(program: Program, version: str, *, touched: bool) -> None:
    """Have a program run the old release again, where it does not; `new` is the old release's.

    Args:
        version: "" where nothing was live.
        touched: it may have been restarted. One configured by hand leaves no word of what it runs.
    """
    members = program.members()
    if members and all(one.process.startswith(TURN) for one in members):
        _take_turns(program, members, version if program.new is not None else "", believe=True)
        return
    stale = [one for one in members if _is_stale(program, one, version, touched=touched)]
    if program.new is None:
        _stop(program, stale)
        if not version:
            for one in stale:
                Supervisor(program.url).start(one.name)  # it sleeps until there is a release
    else:
        _one_by_one(program, stale, version)


def wait_until_settled(
    program: Program,
    names: Sequence[str],
    version: str = "",
    *,
    answered: Callable[[], bool] = lambda: True,
) -> None:
    """Wait until processes have stayed up for a while.

    Args:
        names: supervisor's.
        version: of the release that fails when they do not.
        answered: tells whether they have said that they are there. What says nothing, and does not
            end for a long time either, is taken to be at work.

    Raises:
        ReleaseFailed: one ends, or does not get up.
    """
    deadline = time.monotonic() + application_checks.ANSWER_SECONDS + _START_SECONDS
    began: dict[str, tuple[int, float]] = {}
    while True:
        now = time.monotonic()
        found = [one for one in Supervisor(program.url).members() if one.name in names]
        for one in found:
            if one.state in {"BACKOFF", "FATAL", "EXITED"} or now >= deadline:
                raise _failure(program, version, one)
            if one.pid != began.get(one.name, (0, 0.0))[0]:
                began[one.name] = one.pid, now
        up = min((now - began[one.name][1] if one.pid else 0.0 for one in found), default=now)
        if up >= application_checks.ANSWER_SECONDS or (up >= _SETTLED_SECONDS and answered()):
            return
        time.sleep(_POLL_SECONDS)


def _take_turns(
    program: Program, members: Sequence[Member], version: str, *, believe: bool = False
) -> None:
    """Start one set in the release and put the other to sleep; which first depends on the worker.

    Args:
        believe: a set that runs it already is as good as before.
    """
    turn = None
    now = state.read(program.site.state)
    if version:
        turn = now.slot_of(program.process, version)
        if turn is None:
            versions = now.slots.get(program.process, (state.IDLE, state.IDLE))
            turn = versions.index(state.IDLE) if state.IDLE in versions else 0
    beside = all(servers.overlaps(one) for one in (program.old, program.new) if one is not None)
    if not beside:
        _put_to_sleep(program, members, turn)
    if turn is not None:
        _wake(program, members, turn, version, believe=believe)
    if beside:
        _put_to_sleep(program, members, turn)


def _wake(
    program: Program, members: Sequence[Member], turn: int, version: str, *, believe: bool
) -> None:
    now = state.read(program.site.state)
    state.write(program.site.state, now.with_slot(program.process, turn, version))
    mine = [one for one in members if _turn(one) == turn]
    stale = [one for one in mine if not _runs(program, one, version)]
    if stale:
        started = ", ".join(one.name for one in stale)
        program.tell(steps.Said(f"starting {version} in {started}"))
        _stop(program, stale)
        for one in stale:
            Supervisor(program.url).start(one.name)
    elif believe:
        return
    names, numbers = [one.name for one in mine], [_number(one) for one in mine]
    with (
        steps.waiting(program.tell, f"{', '.join(names)} had come up"),
        application_checks.answering(program.site, version, program.process, numbers) as answered,
    ):
        wait_until_settled(program, names, version, answered=answered)


def _put_to_sleep(program: Program, members: Sequence[Member], turn: int | None) -> None:
    """Have every set but one finish its tasks and go to sleep."""
    now = state.read(program.site.state)
    for other in range(SLOTS):
        if other != turn:
            now = now.with_slot(program.process, other, state.IDLE)
    state.write(program.site.state, now)
    awake = [one for one in members if _turn(one) != turn and not _runs(program, one, state.IDLE)]
    if awake:
        names = ", ".join(one.name for one in awake)
        program.tell(steps.Said(f"{names}: finishing tasks, for {program.patience:g} s at most"))
        _stop(program, awake)
        for one in awake:
            Supervisor(program.url).start(one.name)


def _one_by_one(program: Program, members: Sequence[Member], version: str) -> None:
    for one in members:
        within = f"it finishes within {program.patience:g} s"
        program.tell(steps.Said(f"restarting {one.name}: {within}"))
        _stop(program, [one])
        Supervisor(program.url).start(one.name)
        with steps.waiting(program.tell, f"{one.name} had stayed up"):
            wait_until_settled(program, [one.name], version)


def _stop(program: Program, members: Sequence[Member]) -> None:
    """Stop processes, all at the same time, and wait until the last has finished its task."""
    up = [one for one in members if one.state not in {"STOPPED", "EXITED", "FATAL"}]
    if not up:
        return
    with steps.waiting(program.tell, f"{', '.join(one.name for one in up)} ended"):
        for one in up:
            Supervisor(program.url).begin_stop(one.name)
        for one in up:
            Supervisor(program.url).stop(one.name, program.patience)


def _turn(member: Member) -> int:
    return _number(member) % SLOTS


def _number(member: Member) -> int:
    number = member.process.removeprefix(TURN)
    return int(number) if number.isdigit() else 0


def _runs(program: Program, member: Member, version: str) -> bool:
    running = state.read_running(program.site.running(program.process, member.process))
    return member.up and running == state.Running(pid=member.pid, version=version)


def _is_stale(program: Program, member: Member, version: str, *, touched: bool) -> bool:
    if not member.up:
        return True
    running = state.read_running(program.site.running(program.process, member.process))
    if running is not None and running.pid == member.pid:
        return running.version != version
    return touched


def _failure(program: Program, version: str, member: Member) -> ReleaseFailed:
    what = f"is {member.state} {member.trouble}".rstrip()
    return ReleaseFailed(
        f"{member.name} of {program.application}-{version} {what}",
        hint="the last lines it printed stand above",
        output=Supervisor(program.url).log_tail(member.name),
    )
