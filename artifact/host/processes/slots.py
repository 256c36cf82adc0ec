"""Two slots of a program: one runs the live release, the other sleeps; a switch swaps them.

A slot of a server is one process; both slots share the listening socket. A slot of a worker is a
set of processes: those with even numbers, or those with odd ones. What is to run stands in
`state.json` before anything is restarted, so that going on and going back both find it after a
crash.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from artifact import steps
from artifact.errors import ReleaseFailed
from artifact.host.processes import health
from artifact.host.processes.target import Target
from artifact.host.records import state
from artifact.manifest import Process
from artifact.services.process_manager import SLOT, SLOTS, TURN, Member


class Program(msgspec.Struct, frozen=True):
    """A program of the process manager that is to change from one release to another."""

    process: str
    old: Target | None
    """The release that is left; None for nothing."""
    new: Target | None
    """The release that it is to run; None for nothing."""
    tell: steps.Listener

    @property
    def target(self) -> Target:
        """The release that it is to run, else the one that is left."""
        target = self.new or self.old
        assert target is not None
        return target

    @property
    def name(self) -> str:
        """ "accounting-web"."""
        return self.target.program(self.process)

    @property
    def version(self) -> str:
        """Of the release that it is to run; "" for nothing."""
        return self.new.version if self.new is not None else ""

    @property
    def before(self) -> Process | None:
        """As the release has it that is left; None where it has not."""
        return self.old.processes.get(self.process) if self.old is not None else None

    @property
    def after(self) -> Process | None:
        """As the release has it that it is to run; None where it has not."""
        return self.new.processes.get(self.process) if self.new is not None else None

    @property
    def patience(self) -> float:
        """Seconds that what runs may take to finish its requests or tasks."""
        both = (self.before, self.after)
        return max(process.stop_timeout for process in both if process is not None)

    def members(self) -> tuple[Member, ...]:
        """Return what the process manager has of it."""
        return self.target.manager.members(self.name)

    def in_slot(self, slot: int) -> list[Member]:
        """Return the processes of one slot.

        Raises:
            ProcessManagerError: the process manager does not have it.
        """
        found = [member for member in self.members() if slot_of(member) == slot]
        return found or [self.target.manager.member(f"{self.name}:{SLOT}{slot}")]

    def running(self, member: Member) -> str | None:
        """Return the version that a process says it runs; None where it says nothing."""
        name = member.process.removeprefix(SLOT)
        running = state.read_running(self.target.site.running(self.process, name))
        return running.version if running is not None and running.pid == member.pid else None

    def failure(self, who: str, what: str, member: str, *, hint: str = "") -> ReleaseFailed:
        """Return the error of a process that does not do what it should, with its last lines.

        Args:
            member: whose log to show; "" for none.
        """
        return ReleaseFailed(
            f"{who} of {self.target.reference} {what}",
            hint=hint or "the last lines it printed stand above",
            output=self.target.manager.log_tail(member) if member else (),
        )


def slot_of(member: Member) -> int | None:
    """Return the slot that a process belongs to; None for one of a program without slots."""
    for prefix in (SLOT, TURN):
        number = member.process.removeprefix(prefix)
        if number != member.process and number.isdigit():
            return int(number) % SLOTS
    return None


def choose_slot(program: Program) -> int:
    """Return the slot for the new release: its own, else the idle one, else the one not left."""
    versions = state.read(program.target.site.state).versions(program.process)
    leaving = program.old.version if program.old is not None else state.IDLE
    others = [version for version in versions if version != leaving]
    return next(
        (versions.index(one) for one in (program.version, state.IDLE, *others) if one in versions),
        0,
    )


def bring_up(
    program: Program,
    slot: int,
    wait: Callable[[Sequence[Member]], None],
    *,
    believe: bool = False,
) -> None:
    """Make one slot run the new release and wait until it is well there.

    Args:
        wait: waits for these processes of the slot, and raises where they do not become well.
        believe: a slot that runs the release already is as good as before, and not waited for.
    """
    path, version = program.target.site.state, program.version
    now = state.read(path)
    if now.slot_of(program.process, version) != slot:
        state.write(path, now.with_slot(program.process, slot, version))
    mine = program.in_slot(slot)
    stale = [member for member in mine if not _runs(program, member, version)]
    if stale:
        within = ""
        if _serve(stale) and program.after is not None:
            within = f": it is to serve within {health.health_of(program.after).timeout:g} s"
        program.tell(steps.Said(f"starting {version} in {_names(stale)}{within}"))
        restart(program, stale)
    if stale or not believe:
        wait(mine)


def retire(program: Program, keep: int | None) -> None:
    """Send all slots but one to sleep; they finish their requests or tasks first."""
    path = program.target.site.state
    others = [slot for slot in range(SLOTS) if slot != keep]
    now = state.read(path)
    for slot in others:
        now = now.with_slot(program.process, slot, state.IDLE)
    state.write(path, now)
    for slot in others:
        awake = [one for one in program.in_slot(slot) if not _runs(program, one, state.IDLE)]
        if awake:
            program.tell(steps.Said(_farewell(program, awake)))
            restart(program, awake)


def restart(program: Program, members: Sequence[Member]) -> None:
    """Stop processes and start them again; they run what the site's state says by then."""
    stop(program, members)
    for member in members:
        program.target.manager.start(member.name)


def stop(program: Program, members: Sequence[Member]) -> None:
    """Stop processes, all at the same time, and wait until the last has finished its work."""
    # One in BACKOFF counts as started, and would not be until its pause is over.
    up = [member for member in members if member.state not in {"STOPPED", "EXITED", "FATAL"}]
    if not up:
        return
    work = "finished its requests and " if _serve(up) else ""
    with steps.waiting(program.tell, f"{_names(up)} {work}ended"):
        for member in up:
            program.target.manager.begin_stop(member.name)
        for member in up:
            program.target.manager.stop(member.name, program.patience)


def _runs(program: Program, member: Member, version: str) -> bool:
    return member.up and program.running(member) == version


def _farewell(program: Program, members: Sequence[Member]) -> str:
    names, seconds = _names(members), f"{program.patience:g} s"
    if _serve(members):
        return f"{names} finishes its requests within {seconds} and goes to sleep"
    return f"{names}: finishing tasks, for {seconds} at most"


def _serve(members: Sequence[Member]) -> bool:
    return all(member.process.startswith(SLOT) for member in members)


def _names(members: Sequence[Member]) -> str:
    return ", ".join(member.name for member in members)
