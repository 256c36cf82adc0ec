"""The programs that supervisor runs for a site: one file that holds every process."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import msgspec

from artifact import steps
from artifact.errors import Refused
from artifact.host.preparing import placing
from artifact.host.preparing.lines import Aim, Found, Line
from artifact.host.processes import servers
from artifact.host.records.generated import Whose, marked
from artifact.host.records.problem import Problem
from artifact.services import listening, supervisor_files
from artifact.services.process_manager import ManagerUnreachable, ProcessManagerError, program_name
from artifact.services.supervisor import Supervisor
from artifact.services.supervisor_files import Layout
from artifact.steps import Run, Step, Warned


class _Facts(msgspec.Struct, frozen=True):
    """What was found of supervisor."""

    url: str
    path: Path
    content: str
    whose: Whose
    programs: frozenset[str]
    """Those that stand in the file."""
    known: frozenset[str] | None
    """Programs supervisor has; None where it does not answer."""


def find(aim: Aim) -> Iterator[Found]:
    """Say whether supervisor has every process, and in which file they stand or would."""
    if not aim.target.managed:
        yield Line("supervisor", "no programs for supervisor: there is nothing it is to restart")
        return
    url = aim.target.settings.supervisor.url
    known: frozenset[str] | None = None
    daemon = 0
    try:
        known = frozenset(member.program for member in Supervisor(url).members())
        daemon = Supervisor(url).daemon_pid()
        main = supervisor_files.main_of(daemon)
    except ManagerUnreachable as error:
        main = supervisor_files.usual()
        yield Warned(f"{error}; it reads its programs when it starts", error.hint)
    except ProcessManagerError as error:
        yield Problem(str(error), error.hint)
        return
    layout = supervisor_files.layout(main) if main else None
    path = _place(aim, layout, answers=known is not None)
    if isinstance(path, Problem):
        yield path
        return
    elsewhere = _elsewhere(layout, path)
    for program, where in elsewhere.items():
        if program in _names(aim):
            yield Line("supervisor", f"program {program} in {where}: it stays as it is")
    wanted = [name for name, program in _names_of(aim) if program not in elsewhere]
    if wanted:
        yield from _taken(aim, wanted, daemon)
        yield _file(_facts(aim, url, path, wanted, known))


def _taken(aim: Aim, names: list[str], daemon: int) -> Iterator[Problem]:
    for name in names:
        listen = aim.manifest.processes[name].listen
        by = listening.port_holder(listen, daemon)
        if by:
            yield Problem(
                f"{name} is to listen on {listen}, which {by} does already",
                "end that, or give the process another address in artifact.toml",
            )


def _names_of(aim: Aim) -> list[tuple[str, str]]:
    return [(name, program_name(aim.manifest.name, name)) for name in aim.manifest.processes]


def _names(aim: Aim) -> set[str]:
    return {program for _, program in _names_of(aim)}


def _place(aim: Aim, layout: Layout | None, *, answers: bool) -> Path | Problem:
    """Return the file for our programs.

    Args:
        answers: supervisor is there; else the layout may be that of another one.
    """
    name, chosen = aim.manifest.name, aim.wishes.supervisor_directory
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


def _facts(
    aim: Aim, url: str, path: Path, names: list[str], known: frozenset[str] | None
) -> _Facts:
    blocks = [
        Supervisor(url).render_program(
            aim.site,
            aim.manifest,
            name,
            command=aim.wishes.command,
            slots=aim.target.side_by_side(name),
            user=aim.user,
            stop_signal=servers.stop_signal(aim.manifest, aim.manifest.processes[name]),
        )
        for name in names
    ]
    content = marked("\n".join(blocks))
    programs = frozenset(program_name(aim.manifest.name, name) for name in names)
    return _Facts(url, path, content, placing.whose(path, content), programs, known)


def _file(facts: _Facts) -> Line | Problem:
    path, new = facts.path, sorted(facts.programs - (facts.known or frozenset()))
    if facts.whose == "edited":
        return Problem(
            f"{path} was edited, and is not what it would be now",
            "`artifact setup --plan` shows what it would hold; change it by hand, or move it away",
        )
    if facts.whose == "same" and (facts.known is None or not new):
        return Line("supervisor", f"{path} with {', '.join(sorted(facts.programs))}")
    fault = None if facts.whose == "same" else placing.unwritable(path.parent)
    if fault:
        return fault
    summary = f"write {path}" if facts.whose != "same" else f"have {path} read"
    if facts.known is not None and new:
        summary += f" and start {', '.join(new)}"
    # What was not known before is what is taken back.
    restore = placing.restoring(path)

    def undo(run: Run) -> None:
        restore(run)
        if facts.known is None:
            return
        with contextlib.suppress(ManagerUnreachable):  # then it will read what is there
            for program in new:
                Supervisor(facts.url).remove(program)
            # It may have refused because of somebody else's file, and would again.
            with contextlib.suppress(ProcessManagerError):
                Supervisor(facts.url).reread()

    step: Step[Run] = Step("supervisor", summary, lambda run: _write(facts, new, run.tell), undo)
    return Line("supervisor", summary, step, str(path), facts.content)


def _write(facts: _Facts, new: list[str], tell: steps.Listener) -> str:
    if facts.whose != "same":
        facts.path.parent.mkdir(parents=True, exist_ok=True)
        placing.put(facts.path, facts.content)
    if facts.known is None:
        return "read when supervisor starts"
    try:
        added, changed = Supervisor(facts.url).reread()
        unread = sorted(set(new) - added)
        if unread:
            raise Refused(
                f"supervisor has read its files, and {', '.join(unread)} is not in them",
                hint=f"does its [include] name {facts.path}?",
            )
        for program in new:
            Supervisor(facts.url).add(program)
    except ProcessManagerError as error:
        raise Refused(str(error), hint=error.hint) from error
    for program in sorted(changed & facts.programs):
        tell(
            Warned(
                f"{program} runs on as it was configured before",
                f"`supervisorctl update {program}` restarts it: requests are lost meanwhile",
            )
        )
    return f"{len(new)} added" if new else ""
