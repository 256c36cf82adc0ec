"""The programs that supervisor has for a site: are they there, and do they end as they should?"""

from __future__ import annotations

import os
import shlex
import signal
from collections.abc import Iterator, Sequence

from artifact.host.processes import orphans, servers
from artifact.host.processes.target import Target
from artifact.host.records.problem import Problem
from artifact.manifest import Manifest, Process
from artifact.services.process_manager import (
    SLOTS,
    Member,
    ProcessManagerError,
    ProgramConfig,
)
from artifact.site import Site


def problems(target: Target, command: str = "") -> Iterator[Problem]:
    """Find what would lose requests or keep a switch from working.

    Args:
        command: path of the `artifact` that supervisor is to run, for the program that a hint
            shows; none is shown without it.

    That a process is stopped roughly is left to `details`: an install that worked until now is not
    refused for it.
    """
    try:
        members = target.manager.members()
        configs = target.manager.program_configs()
    except ProcessManagerError as error:
        yield _silent(target.site, error)
        return
    for name, process in target.processes.items():
        program = target.program(name)
        yield from _known(target, name, [one for one in members if one.program == program], command)
        config = next((one for one in configs if one.program == program), None)
        if config is not None:
            yield from _signal(target.manifest, name, process, config)
            yield from _patience(process, config)
    yield from ports(target)


def _silent(site: Site, error: ProcessManagerError) -> Problem:
    """Put into words that supervisor cannot be asked, and what keeps it from being started."""
    if left := " ".join(str(pid) for pid in orphans.pids(site)):
        return Problem(
            f"{error}; what it had started still runs: pid {left.replace(' ', ', ')}",
            f"`kill {left}`, then start supervisord: it cannot open the ports that these hold "
            "(between the two, nobody is served)",
        )
    hint = 'or, to switch links only, site.toml: [install] restart = "none"'
    return Problem(str(error), f"{error.hint}; {hint}" if error.hint else hint)


def ports(target: Target) -> Iterator[Problem]:
    """Find addresses that another program than supervisor, or what it started, listens on.

    Raises:
        ProcessManagerError: supervisor does not answer.
    """
    for name, process in target.processes.items():
        by = target.manager.port_holder(process.listen)
        if by:
            yield Problem(
                f"processes.{name} is to listen on {process.listen}, which {by} does already",
                "end that, or give the process another address in artifact.toml",
            )


def details(target: Target) -> Iterator[Problem]:
    """Find what an install can do without, but an operator should know.

    Raises:
        ProcessManagerError: supervisor does not answer.
    """
    configs = target.manager.program_configs()
    as_group = target.manager.stopped_as_group()
    for name in target.processes:
        program = target.program(name)
        config = next((one for one in configs if one.program == program), None)
        if config is not None:
            yield from _groups(config, stopped_as_group=program in as_group)
            yield from _command(config)


def _known(target: Target, name: str, members: Sequence[Member], command: str) -> Iterator[Problem]:
    program = target.program(name)
    found = [member.process for member in members]
    slots = target.in_slots(name)
    if not found:
        remedy = _remedy(target, name, command)
        yield Problem(f"program {program} is not known to supervisor", remedy)
    elif slots and sorted(found) != [f"slot_{n}" for n in range(SLOTS)]:
        yield Problem(
            f"program {program} has the processes {', '.join(sorted(found))}, not two slots",
            'make it the [fcgi-program] of docs, or site.toml: [install] restart = "graceful"',
        )


def _remedy(target: Target, name: str, command: str) -> str:
    if not command:
        return f"artifact setup {target.site.root}"
    block = target.manager.render_program(
        target.site,
        target.manifest,
        name,
        command=command,
        slots=target.side_by_side(name),
        user=target.settings.user,
        stop_signal=servers.stop_signal(target.manifest, target.processes[name]),
    )
    setup = f"`artifact setup {target.manifest.reference}.tgz` adds it; or"
    return f"{setup} add this to its configuration, then `supervisorctl update`:\n{block}"


def _signal(
    manifest: Manifest, name: str, process: Process, config: ProgramConfig
) -> Iterator[Problem]:
    right = servers.graceful_signal(manifest, process)
    if right and config.stop_signal != signal.Signals[f"SIG{right}"]:
        server = process.server if process.server != "other" else "uwsgi"
        version = manifest.environment.packages.get(server, "")
        has = signal.Signals(config.stop_signal).name.removeprefix("SIG")
        yield Problem(
            f"program {config.program} is stopped with {has}, on which "
            f"{f'{server} {version}'.strip()} drops its requests",
            f"set stopsignal = {right}, then `supervisorctl update {config.program}`",
        )
    if servers.is_uwsgi(process) and "die-on-term" not in process.command:
        yield Problem(
            f"processes.{name}: TERM makes uWSGI reload, not end",
            "add --die-on-term to its command in artifact.toml",
        )


def _patience(process: Process, config: ProgramConfig) -> Iterator[Problem]:
    if config.stop_seconds > process.stop_timeout:
        return
    yield Problem(
        f"supervisor kills {config.program} after {config.stop_seconds:g} s, and it may take "
        f"{process.stop_timeout:g} s to finish its requests",
        f"set stopwaitsecs = {int(process.stop_timeout) + 15}, "
        f"then `supervisorctl update {config.program}`",
    )


def _groups(config: ProgramConfig, *, stopped_as_group: bool) -> Iterator[Problem]:
    then = f", then `supervisorctl update {config.program}`"
    if not config.kills_group:
        yield Problem(
            f"when supervisor kills {config.program}, what it started lives on",
            f"set killasgroup = true{then}",
        )
    if stopped_as_group:
        yield Problem(
            f"supervisor stops the workers of {config.program} together with their master, "
            "which is the one to let them finish",
            f"set stopasgroup = false and killasgroup = true{then}",
        )


def _command(config: ProgramConfig) -> Iterator[Problem]:
    try:
        program = (shlex.split(config.command) or [""])[0]
    except ValueError:
        program = ""
    if program.startswith("/") and not os.access(program, os.X_OK):
        yield Problem(
            f"program {config.program} runs {program}, which is not there",
            "`artifact setup` writes the path of the `artifact` that runs it; "
            f"or set it in the command, then `supervisorctl update {config.program}`",
        )
