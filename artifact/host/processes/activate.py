"""Switch a site from one release to another, and back: processes and the one link, in order.

What is meant to run stands in `state.json` before anything is restarted, and what does run each
process says itself, so that going on and going back are the same few functions after a crash too.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import msgspec

from artifact import files, steps
from artifact.errors import ReleaseFailed
from artifact.host.processes import health, servers, slots, workers
from artifact.host.processes.health import Answer
from artifact.host.processes.slots import Program
from artifact.host.processes.target import Target
from artifact.host.records import state
from artifact.manifest import Process
from artifact.services.process_manager import Member
from artifact.site import Site

_POLL_SECONDS = 0.05
_WATCH_SECONDS = 0.5


class Switch(msgspec.Struct):
    """The way from one release to another of the same site."""

    old: Target | None
    """What is live; None for nothing, or for what is not whole."""
    new: Target
    tell: steps.Listener
    begun: bool = False
    """Something live may have changed by now."""
    restarted: set[str] = msgspec.field(default_factory=set)
    """Processes without slots that may be running the new release by now."""

    @property
    def site(self) -> Site:
        return self.new.site

    @property
    def restart(self) -> str:
        """The new release's word counts for both."""
        return self.new.install.restart

    def go(self) -> str:
        """Bring the new release up, point `current` at it, retire the old one.

        Raises:
            ReleaseFailed: the new release does not serve.
            ProcessManagerError: supervisor does not do what it is told.
        """
        if self.restart != "none" and self.new.processes:
            self.new.manager.members()  # whether it answers, before it has to
        self.begun = True
        for name in self._slotted(self.new):
            self._bring_up(self._forth(name))
        files.replace_link(self.site.current, self.new.version)
        for name in self._slotted(self.new):
            self._retire(self._forth(name))
        for name in self._workers(self.new, self.old):
            self.restarted.add(name)
            self._change_worker(self._forth(name))
        found = state.read(self.site.state)
        return ", ".join(
            f"{name} in slot {found.slot_of(name, self.new.version)}"
            for name in self._slotted(self.new)
        )

    def back(self) -> None:
        """Make the old release live again, however far `go` came; does no more than it must."""
        if not self.begun:
            return
        if self.old is not None:
            for name in self._slotted(self.old):
                self._bring_up(self._back(name), believe=True)
            files.replace_link(self.site.current, self.old.version)
        else:
            self.site.current.unlink(missing_ok=True)
        for name in dict.fromkeys([*self._slotted(self.new), *self._slotted(self.old)]):
            self._retire(self._back(name))
        for name in self._workers(self.old, self.new):
            workers.take_back(self._back(name), touched=name in self.restarted)

    def watch(self, seconds: float) -> str:
        """See that the new release keeps serving at its public address.

        Args:
            seconds: how long; it is asked at least three times.

        Raises:
            ReleaseFailed: a process restarted, or the address does not answer well.
        """
        if self.restart == "none":
            return "nothing to watch: supervisor does not run it"
        with steps.waiting(self.tell, f"{self.new.version} had proved itself for {seconds:g} s"):
            return f"asked {self._watch(seconds)} times"

    def _watch(self, seconds: float) -> int:
        before = {member.name: member.pid for _, member in self._members()}
        deadline = time.monotonic() + seconds
        asked = 0
        while asked < health.ENOUGH or time.monotonic() < deadline:
            if asked:
                time.sleep(_POLL_SECONDS if asked < health.ENOUGH else _WATCH_SECONDS)
            for name, process in self.new.processes.items():
                if process.listen:
                    _ask_publicly(self._forth(name), process)
            self._see_running(before)
            asked += 1
        return asked

    def _slotted(self, release: Target | None) -> list[str]:
        if self.restart != "slots":
            return []
        return [n for n, process in _processes(release).items() if servers.takes_slots(process)]

    def _unslotted(self, release: Target | None) -> list[str]:
        if self.restart == "none":
            return []
        return [n for n in _processes(release) if n not in self._slotted(release)]

    def _workers(self, first: Target | None, second: Target | None) -> list[str]:
        """Return the processes without slots of the first, and what only the second has."""
        there = _processes(first)
        gone = [name for name in self._unslotted(second) if name not in there]
        return [*self._unslotted(first), *gone]

    def _forth(self, name: str) -> Program:
        return Program(name, self.old, self.new, self.tell)

    def _back(self, name: str) -> Program:
        return Program(name, self.new, self.old, self.tell)

    def _bring_up(self, program: Program, *, believe: bool = False) -> None:
        """Make one slot of a process run a release and wait until it is healthy there."""
        slot = slots.choose_slot(program)

        def wait(members: Sequence[Member]) -> None:
            name = members[0].name
            with steps.waiting(self.tell, f"{program.version} was up in {name}"):
                _wait_until_healthy(program, slot, name)

        slots.bring_up(program, slot, wait, believe=believe)

    def _retire(self, program: Program) -> None:
        """Send the slots to sleep that are not the kept release's."""
        found = state.read(self.site.state)
        keep = found.slot_of(program.process, program.version) if program.version else None
        slots.retire(program, keep)

    def _change_worker(self, program: Program) -> None:
        """Have a process without slots run the new release; one that this has not is stopped."""
        workers.change(program)
        if program.after is not None and program.after.listen:
            with steps.waiting(self.tell, f"{program.process} of {program.version} answered"):
                _wait_until_answering(program, program.after)

    def _see_running(self, before: Mapping[str, int]) -> None:
        """See that every process is the one that was there before, and in the right release."""
        for program, member in self._members():
            if member.pid != before.get(member.name):
                what = f"did not keep running (pid {before.get(member.name)})"
                raise program.failure(member.name, what, member.name)
            running = program.running(member)
            # One configured by hand leaves no word.
            if running not in {None, state.IDLE, self.new.version}:
                raise program.failure(member.name, f"still runs {running}", member.name)

    def _members(self) -> list[tuple[Program, Member]]:
        """Return the processes of the new release, as the process manager has them."""
        programs = {self.new.program(name): self._forth(name) for name in self.new.processes}
        return [
            (programs[member.program], member)
            for member in self.new.manager.members()
            if member.program in programs
        ]


def _wait_until_healthy(program: Program, slot: int, name: str) -> None:
    site, process = program.target.site, program.target.processes[program.process]
    wanted = health.health_of(process)
    deadline = time.monotonic() + wanted.timeout
    good = wrong = 0
    answer = Answer(ok=False, text="not started")
    while good < health.ENOUGH:
        member = program.target.manager.member(name)
        if not member.up and member.state != "STOPPING":
            raise program.failure(program.process, f"is {member.state}", name)
        if member.up and program.running(member) == program.version:
            if servers.is_booting(site, program.process, slot):
                # The old one must not leave before: visitors would wait for this one's boot.
                answer = Answer(ok=False, text="it has not finished booting")
            elif not servers.answers_privately(process):
                workers.wait_until_settled(program, [member])
                return
            else:
                answer = health.ask(site.health_socket(program.process, slot), wanted)
                good = good + 1 if answer.ok else 0
                wrong = wrong + 1 if answer.wrong else 0
        if time.monotonic() >= deadline or wrong >= health.ENOUGH:
            raise _unhealthy(program, wanted.path, answer, name)
        time.sleep(_POLL_SECONDS)


def _wait_until_answering(program: Program, process: Process) -> None:
    deadline = time.monotonic() + health.health_of(process).timeout
    while True:
        try:
            _ask_publicly(program, process)
        except ReleaseFailed:
            if time.monotonic() >= deadline:
                raise
            time.sleep(_POLL_SECONDS)
        else:
            return


def _ask_publicly(program: Program, process: Process) -> None:
    wanted = health.health_of(process)
    address = health.connectable(process.listen)
    answer = health.ask(address, wanted)
    if not answer.ok:
        member = next((member.name for member in program.members()), "")
        raise _unhealthy(program, f"{wanted.path} at {address}", answer, member)


def _unhealthy(program: Program, where: str, answer: Answer, member: str) -> ReleaseFailed:
    what = f"does not serve {where}: {answer.text}"
    return program.failure(program.process, what, member, hint=answer.hint)


def _processes(release: Target | None) -> dict[str, Process]:
    return release.processes if release is not None else {}
