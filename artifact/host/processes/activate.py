"""Switch a site from one release to another, and back: processes and the one link, in order.

What is meant to run stands in `state.json` before anything is restarted, and what does run each
process says itself, so that going on and going back are the same few functions after a crash too.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

import msgspec

from artifact import files, steps
from artifact.errors import ReleaseFailed
from artifact.host.processes import health, servers, workers
from artifact.host.processes.health import Answer
from artifact.host.processes.target import Target
from artifact.host.records import state
from artifact.manifest import Process
from artifact.services.process_manager import SLOTS, Member, program_name
from artifact.services.supervisor import Supervisor
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
    def name(self) -> str:
        return self.new.manifest.name

    @property
    def url(self) -> str:
        return self.new.settings.supervisor.url

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
            Supervisor(self.url).members()  # whether it answers, before it has to
        self.begun = True
        for name in self._slotted(self.new):
            self._bring_up(self.new, name)
        files.replace_link(self.site.current, self.new.version)
        for name in self._slotted(self.new):
            self._retire(name, self.new)
        for name in self._workers(self.new, self.old):
            self.restarted.add(name)
            self._change_worker(name)
        slots = state.read(self.site.state)
        return ", ".join(
            f"{name} in slot {slots.slot_of(name, self.new.version)}"
            for name in self._slotted(self.new)
        )

    def back(self) -> None:
        """Make the old release live again, however far `go` came; does no more than it must."""
        if not self.begun:
            return
        if self.old is not None:
            for name in self._slotted(self.old):
                self._bring_up(self.old, name, believe=True)
            files.replace_link(self.site.current, self.old.version)
        else:
            self.site.current.unlink(missing_ok=True)
        for name in dict.fromkeys([*self._slotted(self.new), *self._slotted(self.old)]):
            self._retire(name, self.old)
        for name in self._workers(self.old, self.new):
            program = self._worker(name, self.new, self.old)
            version = self.old.version if self.old is not None else ""
            workers.take_back(program, version, touched=name in self.restarted)

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
        before = {member.name: member.pid for _, member in self._processes()}
        deadline = time.monotonic() + seconds
        asked = 0
        while asked < health.ENOUGH or time.monotonic() < deadline:
            if asked:
                time.sleep(_POLL_SECONDS if asked < health.ENOUGH else _WATCH_SECONDS)
            for name, process in self.new.processes.items():
                if process.listen:
                    self._ask_publicly(name, process)
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

    def _bring_up(self, release: Target, name: str, *, believe: bool = False) -> None:
        """Make one slot of a process run a release and wait until it is healthy there.

        Args:
            believe: one that runs it already is as good as before, and not asked.
        """
        now = state.read(self.site.state)
        slot = now.slot_of(name, release.version)
        if slot is None:
            slot = self._free_slot(now, name, release)
            state.write(self.site.state, now.with_slot(name, slot, release.version))
        member = self._member(name, slot)
        if not self._runs(member, name, slot, release.version):
            seconds = health.health_of(release.processes[name]).timeout
            within = f"it is to serve within {seconds:g} s"
            self.tell(steps.Said(f"starting {release.version} in {member.name}: {within}"))
            self._restart(member, release.processes[name].stop_timeout)
        elif believe:
            return
        with steps.waiting(self.tell, f"{release.version} was up in {member.name}"):
            self._wait_until_healthy(release, name, slot)

    def _free_slot(self, now: state.State, name: str, release: Target) -> int:
        """Return the slot to use: the idle one, or else the one that the other side had."""
        other = self.old if release is self.new else self.new
        left = other.version if other is not None else ""
        versions = now.slots.get(name, (state.IDLE, state.IDLE))
        for wanted in (state.IDLE, *(v for v in versions if v != left)):
            if wanted in versions:
                return versions.index(wanted)
        return 0

    def _retire(self, name: str, keep: Target | None) -> None:
        """Send the slots to sleep that are not the kept release's; requests are finished first."""
        now = state.read(self.site.state)
        live = now.slot_of(name, keep.version) if keep is not None else None
        for slot in range(SLOTS):
            if slot == live:
                continue
            now = now.with_slot(name, slot, state.IDLE)
        state.write(self.site.state, now)
        for slot in range(SLOTS):
            member = self._member(name, slot)
            if slot != live and not self._runs(member, name, slot, state.IDLE):
                process = _processes(self.old).get(name) or self.new.processes[name]
                within = f"within {process.stop_timeout:g} s"
                self.tell(
                    steps.Said(f"{member.name} finishes its requests {within} and goes to sleep")
                )
                self._restart(member, process.stop_timeout)

    def _runs(self, member: Member, name: str, slot: int, version: str) -> bool:
        running = state.read_running(self.site.running(name, slot))
        return member.up and running == state.Running(pid=member.pid, version=version)

    def _restart(self, member: Member, stop_timeout: float) -> None:
        # One in BACKOFF counts as started, and would not be until its pause is over.
        if member.state in {"STARTING", "RUNNING", "BACKOFF", "STOPPING"}:
            with steps.waiting(self.tell, f"{member.name} finished its requests and ended"):
                Supervisor(self.url).stop(member.name, stop_timeout)
        Supervisor(self.url).start(member.name)

    def _worker(self, name: str, old: Target | None, new: Target | None) -> workers.Program:
        return workers.Program(
            site=self.site,
            url=self.url,
            application=self.name,
            process=name,
            old=_processes(old).get(name),
            new=_processes(new).get(name),
            tell=self.tell,
        )

    def _change_worker(self, name: str) -> None:
        """Have a process without slots run the new release; one that this has not is stopped."""
        process = self.new.processes.get(name)
        program = self._worker(name, self.old, self.new)
        workers.change(program, self.new.version if process else "")
        if process is not None and process.listen:
            self._wait_until_answering(self.new, name, process)

    def _wait_until_healthy(self, release: Target, name: str, slot: int) -> None:
        process = release.processes[name]
        wish = health.health_of(process)
        deadline = time.monotonic() + wish.timeout
        good = wrong = 0
        answer = Answer(ok=False, text="not started")
        while good < health.ENOUGH:
            member = self._member(name, slot)
            if not member.up and member.state != "STOPPING":
                raise self._failure(name, f"is {member.state}", member.name)
            if self._runs(member, name, slot, release.version):
                if servers.is_booting(self.site, name, slot):
                    # The old one must not leave before: visitors would wait for this one's boot.
                    answer = Answer(ok=False, text="it has not finished booting")
                elif not servers.answers_privately(process):
                    program = self._worker(name, release, release)
                    workers.wait_until_settled(program, [member.name], release.version)
                    return
                else:
                    answer = health.ask(self.site.health_socket(name, slot), wish)
                    good = good + 1 if answer.ok else 0
                    wrong = wrong + 1 if answer.wrong else 0
            if time.monotonic() >= deadline or wrong >= health.ENOUGH:
                raise self._unhealthy(release, name, wish.path, answer, member.name)
            time.sleep(_POLL_SECONDS)

    def _wait_until_answering(self, release: Target, name: str, process: Process) -> None:
        with steps.waiting(self.tell, f"{name} of {release.version} answered"):
            self._ask_until_answered(name, process)

    def _ask_until_answered(self, name: str, process: Process) -> None:
        deadline = time.monotonic() + health.health_of(process).timeout
        while True:
            try:
                self._ask_publicly(name, process)
            except ReleaseFailed:
                if time.monotonic() >= deadline:
                    raise
                time.sleep(_POLL_SECONDS)
            else:
                return

    def _ask_publicly(self, name: str, process: Process) -> None:
        wish = health.health_of(process)
        address = health.connectable(process.listen)
        answer = health.ask(address, wish)
        if not answer.ok:
            where = f"{wish.path} at {address}"
            member = next((m.name for m in self._members(name)), "")
            raise self._unhealthy(self.new, name, where, answer, member)

    def _unhealthy(
        self, release: Target, name: str, where: str, answer: Answer, member: str
    ) -> ReleaseFailed:
        return ReleaseFailed(
            f"{name} of {self.name}-{release.version} does not serve {where}: {answer.text}",
            hint=answer.hint or "the last lines it printed stand above",
            output=Supervisor(self.url).log_tail(member) if member else (),
        )

    def _failure(self, name: str, what: str, member: str) -> ReleaseFailed:
        return ReleaseFailed(
            f"{name} of {self.name}-{self.new.version} {what}",
            hint="the last lines it printed stand above",
            output=Supervisor(self.url).log_tail(member),
        )

    def _members(self, name: str) -> list[Member]:
        program = program_name(self.name, name)
        return [member for member in Supervisor(self.url).members() if member.program == program]

    def _member(self, name: str, slot: int) -> Member:
        program = program_name(self.name, name)
        return Supervisor(self.url).member(f"{program}:slot_{slot}")

    def _processes(self) -> list[tuple[str, Member]]:
        """Return what supervisor has for the new release, each with the name of its process."""
        programs = {program_name(self.name, name): name for name in self.new.processes}
        return [
            (programs[member.program], member)
            for member in Supervisor(self.url).members()
            if member.program in programs
        ]

    def _see_running(self, before: Mapping[str, int]) -> None:
        """See that every process is the one that was there before, and in the right release."""
        for name, member in self._processes():
            if member.pid != before.get(member.name):
                what = f"did not keep running (pid {before.get(member.name)})"
                raise self._failure(member.name, what, member.name)
            called = member.process.removeprefix("slot_")
            running = state.read_running(self.site.running(name, called))
            if running is None or running.pid != member.pid:
                continue  # configured by hand, it leaves no word
            if running.version not in {state.IDLE, self.new.version}:
                raise self._failure(member.name, f"still runs {running.version}", member.name)


def _processes(release: Target | None) -> dict[str, Process]:
    return release.processes if release is not None else {}
