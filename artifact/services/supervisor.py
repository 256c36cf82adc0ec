"""The door to supervisor: its XML-RPC API, and the programs it is given to run.

Never supervisorctl: its output is for people, and its exit status says little.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from artifact import redaction
from artifact.manifest import Manifest, Process
from artifact.services import xml_rpc
from artifact.services.xml_rpc import Value
from artifact.site import Site

SLOTS = 2
"""One slot is live, the other sleeps and keeps the socket open."""

TURN = "turn_"
"""What the processes are called of which the even and the odd ones take turns."""

_POLL_SECONDS = 0.05
_LOG_BYTES, _LINE_BYTES = 16384, 400
# supervisor kills after its stopwaitsecs and only then calls a process stopped.
_KILL_MARGIN_SECONDS = 15

# Faults of supervisor.xmlrpc that we know: http://supervisord.org/api.html
_UNKNOWN_METHOD, _BAD_NAME, _ALREADY_STARTED, _NOT_RUNNING, _ALREADY_ADDED = 1, 10, 60, 70, 90
_UP = frozenset({"STARTING", "RUNNING"})
_DOWN = frozenset({"STOPPED", "EXITED", "FATAL", "BACKOFF", "UNKNOWN"})


class SupervisorError(Exception):
    """Supervisor could not be asked or said no; only the caller knows what state things are in."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class Unreachable(SupervisorError):
    """Nobody answers at supervisor's address."""


class SaidNo(SupervisorError):
    """Supervisor understood and refused: a fault of its API."""

    def __init__(self, message: str, *, hint: str, code: int) -> None:
        super().__init__(message, hint=hint)
        self.code = code


# Both are tuples, not dataclasses: those would cost every `artifact status` 2 ms.


class Member(NamedTuple):
    """One process of a program, as supervisor sees it."""

    program: str
    """The group: "accounting-web"."""
    process: str
    """ "slot_0"; equal to the program where it has one process only."""
    state: str
    """ "RUNNING" means up for `startsecs`, never healthy."""
    pid: int
    """0 while it does not run."""
    since: int
    """When it was started, seconds since the epoch."""
    trouble: str
    """Why it could not be spawned; empty when it could."""

    @property
    def name(self) -> str:
        """What the API calls it: "accounting-web:slot_0"."""
        return f"{self.program}:{self.process}"

    @property
    def up(self) -> bool:
        """Tell whether it runs or is on its way to."""
        return self.state in _UP


class Manner(NamedTuple):
    """How supervisor starts and stops one process."""

    program: str
    process: str
    command: str
    stop_signal: int
    stop_seconds: float
    """After which it kills: stopwaitsecs."""
    kills_group: bool


def members(url: str) -> tuple[Member, ...]:
    """Return every process that supervisor knows.

    Raises:
        Unreachable: nobody answers at `url`.
        SupervisorError: somebody else does.
    """
    return tuple(_member(row) for row in _rows(_call(url, "getAllProcessInfo")))


def member(url: str, name: str) -> Member:
    """Return one process, known by `Member.name`; raises as `members`."""
    return _member(_row(_call(url, "getProcessInfo", name)))


def manners(url: str) -> tuple[Manner, ...]:
    """Return how each process is configured; nothing where supervisor is older than 4.0.

    Raises as `members`.
    """
    rows: list[dict[str, Value]] = []
    with _tolerating(_UNKNOWN_METHOD):
        rows = _rows(_call(url, "getAllConfigInfo"))
    return tuple(
        Manner(
            program=str(row["group"]),
            process=str(row["name"]),
            command=str(row["command"]),
            stop_signal=int(str(row["stopsignal"])),
            stop_seconds=float(str(row["stopwaitsecs"])),
            kills_group=bool(row["killasgroup"]),
        )
        for row in rows
    )


def daemon_pid(url: str) -> int:
    """Return the pid of supervisord itself; raises as `members`."""
    return int(str(_call(url, "getPID")))


def reread(url: str) -> tuple[frozenset[str], frozenset[str]]:
    """Have supervisor read its files again; nothing that runs is touched.

    Returns:
        The programs that are new, and those that changed but keep running as they were.
    """
    match _call(url, "reloadConfig"):
        case [[list(added), list(changed), _]]:
            return frozenset(map(str, added)), frozenset(map(str, changed))
        case answer:
            raise _senseless(answer)


def add(url: str, program: str) -> None:
    """Make a program known that stands in a file read again, and start it; raises as `members`."""
    with _tolerating(_ALREADY_ADDED):
        _call(url, "addProcessGroup", program)


def remove(url: str, program: str) -> None:
    """Stop a program and forget it; one nobody knows is fine."""
    with _tolerating(_BAD_NAME):
        _call(url, "stopProcessGroup", program)
        _call(url, "removeProcessGroup", program)


def start(url: str, name: str) -> None:
    """Tell supervisor to start a process, and do not wait; one that runs is left alone.

    Nor would waiting help: supervisor says "started" of a program that dies one second later.
    """
    with _tolerating(_ALREADY_STARTED):
        _call(url, "startProcess", name, wait=False)


def stop(url: str, name: str, timeout: float) -> None:
    """Stop a process with the signal supervisor has for it, and wait until it is gone.

    Args:
        timeout: seconds it may take to finish its requests; supervisor may kill it earlier.

    Raises:
        SupervisorError: it is still there after that and a margin for supervisor's own kill.
    """
    begin_stop(url, name)
    deadline = time.monotonic() + timeout + 2 * _KILL_MARGIN_SECONDS
    pause = _POLL_SECONDS / 10  # a slot that sleeps is gone at once
    while (found := member(url, name)).state not in _DOWN:
        if time.monotonic() >= deadline:
            raise SupervisorError(
                f"{name} (pid {found.pid}) is still {found.state} "
                f"{timeout + 2 * _KILL_MARGIN_SECONDS:g} s after it was told to stop",
                hint="lower the program's stopwaitsecs, or look at what it waits for",
            )
        time.sleep(pause)
        pause = min(2 * pause, _POLL_SECONDS)


def begin_stop(url: str, name: str) -> None:
    """Send a process the signal to stop and do not wait; one that does not run is fine."""
    with _tolerating(_NOT_RUNNING):
        _call(url, "stopProcess", name, wait=False)


def log_tail(url: str, name: str, lines: int = 20) -> tuple[str, ...]:
    """Return the end of what a process printed, redacted; nothing where it has no log."""
    length = max(_LOG_BYTES, lines * _LINE_BYTES)
    try:
        output = _call(url, "tailProcessStdoutLog", name, 0, length)
        errors = _call(url, "tailProcessStderrLog", name, 0, length)
    except SupervisorError:
        return ()
    text = "".join(str(part[0]) for part in (output, errors) if isinstance(part, list))
    return tuple(redaction.redact(text).splitlines()[-lines:])


def program_name(name: str, process: str) -> str:
    """Return what a process's program is called in supervisor: "accounting-web"."""
    return f"{name}-{process}"


def program(
    site: Site,
    manifest: Manifest,
    process: str,
    *,
    command: str,
    slots: bool,
    user: str = "",
    stop_signal: str = "TERM",
) -> str:
    """Render the block of supervisor's configuration for one process of a site.

    It holds no release: an install never has to change it.

    Args:
        command: path of the `artifact` that supervisor is to run.
        slots: the old and the new release run beside each other while they change: around the
            listening socket that supervisor keeps open, or as two sets of workers.
        user: recorded as owner of a unix socket; `artifact exec` drops the privileges itself.
        stop_signal: the one on which it finishes its requests.
    """
    settings = manifest.processes[process]
    name = program_name(manifest.name, process)
    start = f"{shlex.join([command, 'exec', str(site.root), '--process', process])}"
    kind = "fcgi-program" if slots and settings.listen else "program"
    lines = [f"[{kind}:{name}]"]
    if slots and settings.listen:
        lines += _socket(settings.listen, user)
        lines += [f"command = {_escape(start)} --slot %(process_num)d"]
        lines += ["process_name = slot_%(process_num)d", f"numprocs = {SLOTS}"]
    elif slots:
        lines += [f"command = {_escape(start)} --worker %(process_num)d"]
        lines += [f"process_name = {TURN}%(process_num)d"]
        lines += [f"numprocs = {SLOTS * settings.instances}"]
    else:
        lines += [f"command = {_escape(start)}"]
        if settings.instances > 1:
            lines += ["process_name = %(program_name)s_%(process_num)d"]
            lines += [f"numprocs = {settings.instances}"]
    return "\n".join([*lines, *_manner(settings, stop_signal)]) + "\n"


def _socket(listen: str, user: str) -> list[str]:
    if listen.startswith("unix:"):
        path = "/" + listen.removeprefix("unix:").lstrip("/")
        lines = [f"socket = unix://{_escape(path)}", "socket_mode = 0666"]
        return lines + ([f"socket_owner = {user}"] if user else [])
    host, _, port = listen.rpartition(":")
    return [f"socket = tcp://{host or '0.0.0.0'}:{port}", "socket_backlog = 2048"]  # noqa: S104


def _manner(settings: Process, stop_signal: str) -> list[str]:
    return [
        "autostart = true",
        "autorestart = true",
        # The pauses grow by a second each: a database that comes up minutes later is waited for.
        "startretries = 20",
        f"stopsignal = {stop_signal}",
        f"stopwaitsecs = {int(settings.stop_timeout) + _KILL_MARGIN_SECONDS}",
        # TERM goes to the master alone, which lets its workers finish; a kill goes to all.
        "stopasgroup = false",
        "killasgroup = true",
        "redirect_stderr = true",
    ]


def _escape(text: str) -> str:
    return text.replace("%", "%%")


def _member(row: dict[str, Value]) -> Member:
    try:
        return Member(
            program=str(row["group"]),
            process=str(row["name"]),
            state=str(row["statename"]),
            pid=int(str(row["pid"])),
            since=int(str(row["start"])),
            trouble=str(row["spawnerr"]),
        )
    except (KeyError, ValueError):
        raise _senseless(row) from None


def _row(answer: Value) -> dict[str, Value]:
    if not isinstance(answer, dict):
        raise _senseless(answer)
    return answer


def _rows(answer: Value) -> list[dict[str, Value]]:
    if not isinstance(answer, list):
        raise _senseless(answer)
    return [_row(row) for row in answer]


def _senseless(answer: Value) -> SupervisorError:
    return SupervisorError(f"supervisor gave an answer of no sense: {answer!r:.200}")


@contextmanager
def _tolerating(code: int) -> Iterator[None]:
    try:
        yield
    except SaidNo as error:
        if error.code != code:
            raise


def _call(url: str, method: str, *parameters: str | int, wait: bool | None = None) -> Value:
    """Call one of supervisor's methods and put what goes wrong into words.

    Args:
        wait: the last parameter of those that start and stop.
    """
    given = parameters if wait is None else (*parameters, wait)
    where = redaction.strip_credentials(url)
    try:
        return xml_rpc.call(url, f"supervisor.{method}", *given)
    except xml_rpc.Fault as fault:
        raise _said_no(fault) from fault
    except xml_rpc.Unwelcome as error:
        hint = "give its user and password in the URL: unix://user:password@/path"
        raise SupervisorError(
            f"supervisor at {where} answered {error}", hint=hint if error.status == 401 else ""
        ) from error
    except OSError as error:
        raise Unreachable(
            f"supervisor does not answer at {where}: {error.strerror or error}", hint=_advice(error)
        ) from error
    except xml_rpc.Garbled as error:
        raise SupervisorError(f"what answers at {where} is not supervisor: {error}") from error


def _said_no(fault: xml_rpc.Fault) -> SaidNo:
    hints = {
        _BAD_NAME: "add its program to supervisor's configuration, then `supervisorctl update`",
        _UNKNOWN_METHOD: "add [rpcinterface:supervisor] to supervisor's configuration",
    }
    return SaidNo(f"supervisor says {fault.text}", hint=hints.get(fault.code, ""), code=fault.code)


def _advice(error: OSError) -> str:
    if isinstance(error, PermissionError):
        return "run as a user who may write to that socket (chown in its [unix_http_server])"
    return 'start supervisord, or name its socket in site.toml: [supervisor] url = "unix://…"'
