"""Supervisor as process manager: its XML-RPC API, and the programs it is given to run.

Never supervisorctl: its output is for people, and its exit status says little.
"""

from __future__ import annotations

import shlex
import time
import xmlrpc.client
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse, RemoteDisconnected
from typing import Any, TypeVar
from urllib.parse import quote, unquote, urlsplit
from xml.parsers.expat import ExpatError
from xmlrpc.client import ResponseError

import msgspec

from artifact import redaction
from artifact.errors import ConfigurationError
from artifact.manifest import Manifest, Process
from artifact.services import listening, supervisor_files
from artifact.services.http_connection import DeadlineConnection
from artifact.services.process_manager import (
    SLOT,
    SLOTS,
    TURN,
    ManagerUnreachable,
    Member,
    ProcessManagerError,
    ProgramConfig,
    program_name,
)
from artifact.site import Site

T = TypeVar("T")
_Row = dict[str, object]

# The fields of `Member` and of `ProgramConfig` in getProcessInfo and getAllConfigInfo.
_MEMBER = ("group", "name", "statename", "pid", "start", "spawnerr")
_CONFIG = ("group", "name", "command", "stopsignal", "stopwaitsecs", "killasgroup")

_ANSWER_SECONDS = 30.0
_LONGEST_ANSWER_BYTES = 32 << 20
_POLL_SECONDS = 0.05
_LOG_BYTES, _LINE_BYTES = 16384, 400
# supervisor kills after its stopwaitsecs and only then calls a process stopped.
_KILL_MARGIN_SECONDS = 15

# Faults of supervisor.xmlrpc that we know: http://supervisord.org/api.html
_UNKNOWN_METHOD, _BAD_NAME, _ALREADY_STARTED, _NOT_RUNNING, _ALREADY_ADDED = 1, 10, 60, 70, 90
_DOWN = frozenset({"STOPPED", "EXITED", "FATAL", "BACKOFF", "UNKNOWN"})

# A program's log may hold any byte; XML has no way to write most control characters.
_NOT_XML = bytes(number for number in range(32) if number not in b"\t\n\r")
_READABLE = bytes.maketrans(_NOT_XML, b"?" * len(_NOT_XML))


class SupervisorFault(ProcessManagerError):
    """Supervisor understood and refused: a fault of its API."""

    def __init__(self, message: str, *, hint: str, code: int) -> None:
        super().__init__(message, hint=hint)
        self.code = code


class _Transport(xmlrpc.client.Transport):
    """Carries calls over TCP or a unix socket, each within one deadline."""

    user_agent = "artifact"

    def __init__(self, address: str, seconds: float) -> None:
        super().__init__(use_builtin_types=True)
        self._address = address
        self._seconds = seconds

    def make_connection(self, host: Any) -> DeadlineConnection:
        _, self._extra_headers, _ = self.get_host_info(host)
        connection = DeadlineConnection(self._address, self._seconds)
        self._connection = host, connection
        return connection

    def parse_response(self, response: HTTPResponse) -> Any:
        """Read an answer's one value.

        Raises:
            Fault: it is one.
            ResponseError: it is no answer.
        """
        with response:
            body = response.read(_LONGEST_ANSWER_BYTES + 1)
        if len(body) > _LONGEST_ANSWER_BYTES:
            raise ResponseError(f"an answer of more than {_LONGEST_ANSWER_BYTES >> 20} MiB")
        if response.length:
            raise ResponseError("its answer ends half way")
        # Bytes that are no UTF-8 come from a program's log as well.
        text = body.translate(_READABLE).decode("utf-8", "replace")
        if "<!DOCTYPE" in text:
            raise ResponseError("its answer declares entities")
        try:
            return xmlrpc.client.loads(text, use_builtin_types=True)[0]
        except (ExpatError, ResponseError, ValueError, TypeError, LookupError) as error:
            raise ResponseError(f"its answer is not XML-RPC: {error}") from error


@dataclass(frozen=True, slots=True)
class Supervisor:
    """The `ProcessManager` that supervisor is."""

    url: str
    """ "unix:///path" or "http://host:port", with "user:password@" where it asks for them."""
    answer_seconds: float = _ANSWER_SECONDS
    """How long one call may take."""

    def members(self, program: str = "") -> tuple[Member, ...]:
        rows = self._call(list[_Row], "getAllProcessInfo")
        found = _picked(rows, _MEMBER, tuple[Member, ...])
        return tuple(one for one in found if program in {"", one.program})

    def member(self, name: str) -> Member:
        return _picked([self._call(_Row, "getProcessInfo", name)], _MEMBER, tuple[Member])[0]

    def start(self, name: str) -> None:
        # Waiting would not help: supervisor says "started" of a program that dies a second later.
        with _tolerating(_ALREADY_STARTED):
            self._call(object, "startProcess", name, False)  # noqa: FBT003

    def begin_stop(self, name: str) -> None:
        with _tolerating(_NOT_RUNNING):
            self._call(object, "stopProcess", name, False)  # noqa: FBT003

    def stop(self, name: str, timeout: float) -> None:
        self.begin_stop(name)
        limit = timeout + 2 * _KILL_MARGIN_SECONDS
        deadline = time.monotonic() + limit
        pause = _POLL_SECONDS / 10  # a slot that sleeps is gone at once
        while (found := self.member(name)).state not in _DOWN:
            if time.monotonic() >= deadline:
                raise ProcessManagerError(
                    f"{name} (pid {found.pid}) is still {found.state} {limit:g} s after it was "
                    "told to stop",
                    hint="lower the program's stopwaitsecs, or look at what it waits for",
                )
            time.sleep(pause)
            pause = min(2 * pause, _POLL_SECONDS)

    def log_tail(self, name: str, lines: int = 20) -> tuple[str, ...]:
        length = max(_LOG_BYTES, lines * _LINE_BYTES)
        methods = ("tailProcessStdoutLog", "tailProcessStderrLog")
        try:
            tails = [self._call(tuple[str, int, bool], one, name, 0, length) for one in methods]
        except ProcessManagerError:
            return ()
        text = "".join(tail for tail, _, _ in tails)
        return tuple(redaction.redact(text).splitlines()[-lines:])

    def program_configs(self) -> tuple[ProgramConfig, ...]:
        rows: list[_Row] = []
        with _tolerating(_UNKNOWN_METHOD):  # by a supervisor older than 4.0
            rows = self._call(list[_Row], "getAllConfigInfo")
        return _picked(rows, _CONFIG, tuple[ProgramConfig, ...])

    def stopped_as_group(self) -> frozenset[str]:
        main = supervisor_files.main_of(self.daemon_pid())
        programs = supervisor_files.layout(main).programs() if main else ()
        return frozenset(
            name
            for name, _, settings in programs
            if settings.get("stopasgroup", "").strip().lower() in {"true", "yes", "on", "1"}
        )

    def port_holder(self, listen: str) -> str:
        return listening.port_holder(listen, self.daemon_pid())

    def daemon_pid(self) -> int:
        """Return the pid of supervisord itself."""
        return self._call(int, "getPID")

    def reread(self) -> tuple[frozenset[str], frozenset[str]]:
        found = self._call(list[tuple[list[str], list[str], list[str]]], "reloadConfig")
        added, changed, _ = found[0] if found else ([], [], [])
        return frozenset(added), frozenset(changed)

    def add(self, program: str) -> None:
        with _tolerating(_ALREADY_ADDED):
            self._call(object, "addProcessGroup", program)

    def remove(self, program: str) -> None:
        with _tolerating(_BAD_NAME):
            self._call(object, "stopProcessGroup", program)
            self._call(object, "removeProcessGroup", program)

    def render_program(
        self,
        site: Site,
        manifest: Manifest,
        process: str,
        *,
        command: str,
        slots: bool,
        user: str = "",
        stop_signal: str = "TERM",
    ) -> str:
        settings = manifest.processes[process]
        name = program_name(manifest.name, process)
        start = f"{shlex.join([command, 'exec', str(site.root), '--process', process])}"
        kind = "fcgi-program" if slots and settings.listen else "program"
        lines = [f"[{kind}:{name}]"]
        if slots and settings.listen:
            lines += _socket(settings.listen, user)
            lines += [f"command = {_escape(start)} --slot %(process_num)d"]
            lines += [f"process_name = {SLOT}%(process_num)d", f"numprocs = {SLOTS}"]
        elif slots:
            lines += [f"command = {_escape(start)} --worker %(process_num)d"]
            lines += [f"process_name = {TURN}%(process_num)d"]
            lines += [f"numprocs = {SLOTS * settings.instances}"]
        else:
            lines += [f"command = {_escape(start)}"]
            if settings.instances > 1:
                lines += ["process_name = %(program_name)s_%(process_num)d"]
                lines += [f"numprocs = {settings.instances}"]
        return "\n".join([*lines, *_stopping(settings, stop_signal)]) + "\n"

    def _call(self, kind: type[T], method: str, *parameters: str | int) -> T:
        """Call one of supervisor's methods and put what goes wrong into words.

        Args:
            kind: what it returns; `object` where that is of no interest.
        """
        where = redaction.strip_credentials(self.url)
        address, url = parse_url(self.url)
        try:
            with xmlrpc.client.ServerProxy(url, _Transport(address, self.answer_seconds)) as proxy:
                return _converted(getattr(proxy, f"supervisor.{method}")(*parameters), kind)
        except xmlrpc.client.Fault as fault:
            raise _fault(fault) from fault
        except xmlrpc.client.ProtocolError as error:
            hint = "give its user and password in the URL: unix://user:password@/path"
            raise ProcessManagerError(
                f"supervisor at {where} answered {error.errcode} {error.errmsg}".rstrip(),
                hint=hint if error.errcode == 401 else "",
            ) from None  # its own words name the password
        except (HTTPException, ResponseError) as error:  # some of the first are an OSError too
            raise ProcessManagerError(
                f"what answers at {where} is not supervisor: {_words(error)}"
            ) from error
        except OSError as error:
            raise ManagerUnreachable(
                f"supervisor does not answer at {where}: {error.strerror or error}",
                hint=_advice(error),
            ) from error


def parse_url(url: str) -> tuple[str, str]:
    """Return the address to connect to and the URL for HTTP, credentials included.

    Raises:
        ConfigurationError: it is neither of a unix socket nor of HTTP.
    """
    scheme, _, rest = url.partition("://")
    if scheme == "unix":
        credentials, at, path = ("", "/", rest[1:]) if rest[:1] == "/" else rest.partition("@/")
        if at:
            # As it is a path, a password there may hold what would end the host of a URL.
            credentials = quote(unquote(credentials), safe=":")
            return f"unix:/{path}", f"http://{f'{credentials}@' if credentials else ''}localhost"
    if scheme == "http":
        try:
            parts = urlsplit(url)
            if parts.hostname:
                return f"{parts.hostname}:{parts.port or 80}", url.rstrip("/")
        except ValueError:
            pass
    raise ConfigurationError(
        f"supervisor's URL {url!r} is neither unix:///path/of/supervisor.sock nor http://host:port"
    )


def _converted(value: object, kind: type[T]) -> T:
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise ProcessManagerError(f"supervisor gave an answer of no sense: {error}") from error


def _picked(rows: Sequence[_Row], keys: Sequence[str], kind: type[T]) -> T:
    return _converted([[row.get(key) for key in keys] for row in rows], kind)


def _socket(listen: str, user: str) -> list[str]:
    if listen.startswith("unix:"):
        path = "/" + listen.removeprefix("unix:").lstrip("/")
        lines = [f"socket = unix://{_escape(path)}", "socket_mode = 0666"]
        return lines + ([f"socket_owner = {user}"] if user else [])
    host, _, port = listen.rpartition(":")
    return [f"socket = tcp://{host or '0.0.0.0'}:{port}", "socket_backlog = 2048"]  # noqa: S104


def _stopping(settings: Process, stop_signal: str) -> list[str]:
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


@contextmanager
def _tolerating(code: int) -> Iterator[None]:
    try:
        yield
    except SupervisorFault as error:
        if error.code != code:
            raise


def _fault(fault: xmlrpc.client.Fault) -> SupervisorFault:
    hints = {
        _BAD_NAME: "add its program to supervisor's configuration, then `supervisorctl update`",
        _UNKNOWN_METHOD: "add [rpcinterface:supervisor] to supervisor's configuration",
    }
    return SupervisorFault(
        f"supervisor says {fault.faultString}",
        hint=hints.get(fault.faultCode, ""),
        code=fault.faultCode,
    )


def _words(error: Exception) -> str:
    if isinstance(error, HTTPException):
        return f"its answer is {'empty' if isinstance(error, RemoteDisconnected) else 'not HTTP'}"
    return str(error)


def _advice(error: OSError) -> str:
    if isinstance(error, PermissionError):
        return "run as a user who may write to that socket (chown in its [unix_http_server])"
    return 'start supervisord, or name its socket in site.toml: [supervisor] url = "unix://…"'
