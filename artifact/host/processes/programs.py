"""The programs that supervisor has for a site: are they there, and do they end as they should?"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
from collections.abc import Iterator, Sequence

from artifact.host.processes import orphans, servers
from artifact.host.processes.target import Target
from artifact.host.records.problem import Problem
from artifact.manifest import Manifest, Process
from artifact.services import supervisor, supervisor_files
from artifact.services.supervisor import Manner, Member
from artifact.site import Site


def problems(target: Target, command: str = "") -> Iterator[Problem]:
    """Find what would lose requests or keep a switch from working.

    Args:
        command: path of the `artifact` that supervisor is to run, for the program that a hint
            shows; none is shown without it.

    That a process is stopped roughly is left to `details`: an install that worked until now is not
    refused for it.
    """
    url = target.settings.supervisor.url
    try:
        members = supervisor.members(url)
        manners = supervisor.manners(url)
    except supervisor.SupervisorError as error:
        yield _silent(target.site, error)
        return
    for name, process in target.manifest.processes.items():
        program = supervisor.program_name(target.manifest.name, name)
        yield from _known(target, name, [one for one in members if one.program == program], command)
        manner = next((one for one in manners if one.program == program), None)
        if manner is not None:
            yield from _signal(target.manifest, name, process, manner)
            yield from _patience(process, manner)
    yield from ports(target)


def _silent(site: Site, error: supervisor.SupervisorError) -> Problem:
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
        SupervisorError: supervisor does not answer.
    """
    daemon = supervisor.daemon_pid(target.settings.supervisor.url)
    for name, process in target.manifest.processes.items():
        by = holder(process.listen, daemon)
        if by:
            yield Problem(
                f"processes.{name} is to listen on {process.listen}, which {by} does already",
                "end that, or give the process another address in artifact.toml",
            )


def holder(listen: str, daemon: int) -> str:
    """Return who listens on a port: "nginx (pid 80)"; empty for nobody, and for supervisor's own.

    Whose sockets are not ours to see counts as nobody.

    Args:
        daemon: supervisord's pid; 0 where none runs.
    """
    import psutil  # 20 ms

    host, _, port = listen.rpartition(":")
    if not port.isdigit():
        return ""

    def is_wanted(status: str, address: tuple[object, ...]) -> bool:
        if status != psutil.CONN_LISTEN or not address:
            return False
        return address[1] == int(port) and _meet(host.strip("[]"), str(address[0]))

    # Supervisor holds the sockets of slots itself, and its are few; all of a machine's take long.
    with contextlib.suppress(psutil.Error):
        own = psutil.Process(daemon).net_connections("tcp") if daemon else ()
        if any(is_wanted(one.status, one.laddr) for one in own):
            return ""
    for one in psutil.net_connections("tcp"):
        if one.pid is None or not is_wanted(one.status, one.laddr):
            continue
        with contextlib.suppress(psutil.Error):
            found = psutil.Process(one.pid)
            if daemon not in {found.pid, *(parent.pid for parent in found.parents())}:
                return f"{found.name()} (pid {found.pid})"
    return ""


def _meet(one: str, other: str) -> bool:
    """Tell whether two hosts cannot both have a port."""
    everywhere = {"", "0.0.0.0", "::"}  # noqa: S104
    return one == other or one in everywhere or other in everywhere


def details(target: Target) -> Iterator[Problem]:
    """Find what an install can do without, but an operator should know.

    Raises:
        SupervisorError: supervisor does not answer.
    """
    url = target.settings.supervisor.url
    manners = supervisor.manners(url)
    main = supervisor_files.main_of(supervisor.daemon_pid(url))
    written = {
        name: content
        for name, _, content in (supervisor_files.layout(main).programs() if main else ())
    }
    for name in target.manifest.processes:
        program = supervisor.program_name(target.manifest.name, name)
        manner = next((one for one in manners if one.program == program), None)
        if manner is not None:
            yield from _groups(manner, written.get(program, {}))
            yield from _command(manner)


def _known(target: Target, name: str, members: Sequence[Member], command: str) -> Iterator[Problem]:
    program = supervisor.program_name(target.manifest.name, name)
    found = [member.process for member in members]
    slots = target.in_slots(name)
    if not found:
        remedy = _remedy(target, name, command)
        yield Problem(f"program {program} is not known to supervisor", remedy)
    elif slots and sorted(found) != [f"slot_{n}" for n in range(supervisor.SLOTS)]:
        yield Problem(
            f"program {program} has the processes {', '.join(sorted(found))}, not two slots",
            'make it the [fcgi-program] of docs, or site.toml: [install] restart = "graceful"',
        )


def _remedy(target: Target, name: str, command: str) -> str:
    if not command:
        return f"artifact setup {target.site.root}"
    block = supervisor.program(
        target.site,
        target.manifest,
        name,
        command=command,
        slots=target.side_by_side(name),
        user=target.settings.user,
        stop_signal=servers.stop_signal(target.manifest, target.manifest.processes[name]),
    )
    setup = f"`artifact setup {target.manifest.reference}.tgz` adds it; or"
    return f"{setup} add this to its configuration, then `supervisorctl update`:\n{block}"


def _signal(manifest: Manifest, name: str, process: Process, manner: Manner) -> Iterator[Problem]:
    right = servers.graceful_signal(manifest, process)
    if right and manner.stop_signal != signal.Signals[f"SIG{right}"]:
        server = process.server if process.server != "other" else "uwsgi"
        version = manifest.environment.packages.get(server, "")
        has = signal.Signals(manner.stop_signal).name.removeprefix("SIG")
        yield Problem(
            f"program {manner.program} is stopped with {has}, on which "
            f"{f'{server} {version}'.strip()} drops its requests",
            f"set stopsignal = {right}, then `supervisorctl update {manner.program}`",
        )
    if servers.is_uwsgi(process) and "die-on-term" not in process.command:
        yield Problem(
            f"processes.{name}: TERM makes uWSGI reload, not end",
            "add --die-on-term to its command in artifact.toml",
        )


def _patience(process: Process, manner: Manner) -> Iterator[Problem]:
    if manner.stop_seconds > process.stop_timeout:
        return
    yield Problem(
        f"supervisor kills {manner.program} after {manner.stop_seconds:g} s, and it may take "
        f"{process.stop_timeout:g} s to finish its requests",
        f"set stopwaitsecs = {int(process.stop_timeout) + 15}, "
        f"then `supervisorctl update {manner.program}`",
    )


def _groups(manner: Manner, written: dict[str, str]) -> Iterator[Problem]:
    then = f", then `supervisorctl update {manner.program}`"
    if not manner.kills_group:
        yield Problem(
            f"when supervisor kills {manner.program}, what it started lives on",
            f"set killasgroup = true{then}",
        )
    if written.get("stopasgroup", "").strip().lower() in {"true", "yes", "on", "1"}:
        yield Problem(
            f"supervisor stops the workers of {manner.program} together with their master, "
            "which is the one to let them finish",
            f"set stopasgroup = false and killasgroup = true{then}",
        )


def _command(manner: Manner) -> Iterator[Problem]:
    try:
        program = (shlex.split(manner.command) or [""])[0]
    except ValueError:
        program = ""
    if program.startswith("/") and not os.access(program, os.X_OK):
        yield Problem(
            f"program {manner.program} runs {program}, which is not there",
            "`artifact setup` writes the path of the `artifact` that runs it; "
            f"or set it in the command, then `supervisorctl update {manner.program}`",
        )
