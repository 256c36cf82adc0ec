"""The programs that supervisor runs for a site: one file that holds every process."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import msgspec

from artifact import steps
from artifact.errors import Refused
from artifact.host.preparing import generated_files
from artifact.host.preparing.findings import Goal, Part, SetupFinding
from artifact.host.preparing.generated_files import Ownership, marked
from artifact.host.processes import servers
from artifact.host.records.problem import Problem
from artifact.services import listening, supervisor_files
from artifact.services.process_manager import (
    ManagerUnreachable,
    ProcessManager,
    ProcessManagerError,
)
from artifact.services.supervisor import Supervisor
from artifact.services.supervisor_files import Layout
from artifact.steps import Run, Step, Warned


class _File(msgspec.Struct, frozen=True):
    """The file of our programs, and what supervisor has of it."""

    path: Path
    content: str
    owner: Ownership
    programs: frozenset[str]
    """Those that stand in the file."""
    known: frozenset[str] | None
    """Programs supervisor has; None where it does not answer."""


def check_programs(goal: Goal) -> Iterator[SetupFinding]:
    """Say whether supervisor has every process, and in which file they stand or would."""
    if not goal.target.managed:
        yield Part("supervisor", "no programs for supervisor: there is nothing it is to restart")
        return
    supervisor = Supervisor(goal.target.settings.supervisor.url)
    known: frozenset[str] | None = None
    daemon = 0
    try:
        known = frozenset(member.program for member in supervisor.members())
        daemon = supervisor.daemon_pid()
        main = supervisor_files.main_of(daemon)
    except ManagerUnreachable as error:
        main = supervisor_files.usual()
        yield Warned(f"{error}; it reads its programs when it starts", error.hint)
    except ProcessManagerError as error:
        yield Problem(str(error), error.hint)
        return
    layout = supervisor_files.layout(main) if main else None
    path = _place(goal, layout, answers=known is not None)
    if isinstance(path, Problem):
        yield path
        return
    elsewhere = _elsewhere(layout, path)
    wanted = []
    for name in goal.target.processes:
        program = goal.target.program(name)
        if program in elsewhere:
            where = elsewhere[program]
            yield Part("supervisor", f"program {program} in {where}: it stays as it is")
        else:
            wanted.append(name)
    if wanted:
        yield from _taken(goal, wanted, daemon)
        yield _plan_file(supervisor, _file(goal, path, wanted, known))


def _taken(goal: Goal, names: list[str], daemon: int) -> Iterator[Problem]:
    for name in names:
        listen = goal.manifest.processes[name].listen
        by = listening.port_holder(listen, daemon)
        if by:
            yield Problem(
                f"{name} is to listen on {listen}, which {by} does already",
                "end that, or give the process another address in artifact.toml",
            )


def _place(goal: Goal, layout: Layout | None, *, answers: bool) -> Path | Problem:
    """Return the file for our programs.

    Args:
        answers: supervisor is there; else the layout may be that of another one.
    """
    name, chosen = goal.manifest.name, goal.options.supervisor_directory
    if chosen is not None:
        path = chosen.absolute() / f"{name}.conf"
        if layout is None or not answers or layout.includes(path):
            return path
        return Problem(
            f"supervisor does not read {path}",
            f"add to {layout.main}: [include] files = {path.parent}/*.conf",
        )
    if layout is None:
        return Problem(
            "supervisor's configuration is nowhere to be found",
            "start supervisord, or name the directory of its programs: --supervisor-dir",
        )
    found = layout.place_for(name)
    if found is not None:
        return found
    return Problem(
        f"{layout.main} includes no directory for programs",
        f"add to it: [include] files = {layout.main.parent}/conf.d/*.conf, then repeat",
    )


def _elsewhere(layout: Layout | None, path: Path) -> dict[str, Path]:
    """Return the programs that a person wrote into another file."""
    if layout is None:
        return {}
    return {name: where for name, where, _ in layout.programs() if where != path}


def _file(goal: Goal, path: Path, names: list[str], known: frozenset[str] | None) -> _File:
    blocks = [
        goal.target.manager.render_program(
            goal.site,
            goal.manifest,
            name,
            command=goal.options.command,
            slots=goal.target.side_by_side(name),
            user=goal.user,
            stop_signal=servers.stop_signal(goal.manifest, goal.manifest.processes[name]),
        )
        for name in names
    ]
    content = marked("\n".join(blocks))
    programs = frozenset(map(goal.target.program, names))
    return _File(path, content, generated_files.ownership(path, content), programs, known)


def _plan_file(manager: ProcessManager, file: _File) -> Part | Problem:
    path, new = file.path, sorted(file.programs - (file.known or frozenset()))
    if file.owner == "edited":
        return generated_files.edited(path, "artifact setup")
    if file.owner == "same" and (file.known is None or not new):
        return Part("supervisor", f"{path} with {', '.join(sorted(file.programs))}")
    fault = None if file.owner == "same" else generated_files.unwritable(path.parent)
    if fault:
        return fault
    summary = f"write {path}" if file.owner != "same" else f"have {path} read"
    if file.known is not None and new:
        summary += f" and start {', '.join(new)}"
    # What was not known before is what is taken back.
    restore = generated_files.restorer(path)

    def undo(run: Run) -> None:
        restore(run)
        if file.known is None:
            return
        with contextlib.suppress(ManagerUnreachable):  # then it will read what is there
            for program in new:
                manager.remove(program)
            # It may have refused because of somebody else's file, and would again.
            with contextlib.suppress(ProcessManagerError):
                manager.reread()

    def do(run: Run) -> str:
        return _write(manager, file, new, run.tell)

    step = Step("supervisor", summary, do, undo)
    return Part("supervisor", summary, step, str(path), file.content)


def _write(manager: ProcessManager, file: _File, new: list[str], tell: steps.Listener) -> str:
    if file.owner != "same":
        file.path.parent.mkdir(parents=True, exist_ok=True)
        generated_files.replace(file.path, file.content)
    if file.known is None:
        return "read when supervisor starts"
    try:
        added, changed = manager.reread()
        unread = sorted(set(new) - added)
        if unread:
            raise Refused(
                f"supervisor has read its files, and {', '.join(unread)} is not in them",
                hint=f"does its [include] name {file.path}?",
            )
        for program in new:
            manager.add(program)
    except ProcessManagerError as error:
        raise Refused(str(error), hint=error.hint) from error
    for program in sorted(changed & file.programs):
        tell(
            Warned(
                f"{program} runs on as it was configured before",
                f"`supervisorctl update {program}` restarts it: requests are lost meanwhile",
            )
        )
    return f"{len(new)} added" if new else ""
