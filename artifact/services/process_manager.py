"""What a site needs of the program that starts and stops its processes."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from artifact.manifest import Manifest
from artifact.site import Site

SLOTS = 2
"""One slot is live, the other sleeps and keeps the socket open."""

SLOT = "slot_"
"""The processes of a program with slots are "slot_0" and "slot_1"."""

TURN = "turn_"
"""The processes of a program whose even and odd processes take turns are "turn_0", "turn_1" …"""


class ProcessManagerError(Exception):
    """The process manager could not be asked or refused; only the caller knows the consequences."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class ManagerUnreachable(ProcessManagerError):
    """Nobody answers at the process manager's address."""


class Member(NamedTuple):
    """One process of a program, as the process manager sees it."""

    program: str
    """The group: "accounting-web"."""
    process: str
    """ "slot_0"; equal to the program where it has one process only."""
    state: str
    """STOPPED, STARTING, RUNNING, BACKOFF, STOPPING, EXITED, FATAL or UNKNOWN.

    RUNNING means up for a second, never healthy.
    """
    pid: int
    """0 while it does not run."""
    since: int
    """When it was started, seconds since the epoch."""
    trouble: str
    """Why it could not be started; empty when it could."""

    @property
    def name(self) -> str:
        """What the process manager calls it: "accounting-web:slot_0"."""
        return f"{self.program}:{self.process}"

    @property
    def up(self) -> bool:
        """Tell whether it runs or is on its way to."""
        return self.state in {"STARTING", "RUNNING"}


class ProgramConfig(NamedTuple):
    """How the process manager starts and stops one process."""

    program: str
    process: str
    command: str
    stop_signal: int
    stop_seconds: float
    """After which it kills."""
    kills_group: bool
    """When it kills a process, it kills what that has started as well."""


class ProcessManager(Protocol):
    """Starts, stops and watches the processes of sites.

    All methods but `render_program` raise `ManagerUnreachable` where nobody answers, and
    `ProcessManagerError` where the answer is a refusal or makes no sense.
    """

    def members(self, program: str = "") -> tuple[Member, ...]:
        """Return every process of a program; without one, every process there is."""

    def member(self, name: str) -> Member:
        """Return the process of that `Member.name`."""

    def start(self, name: str) -> None:
        """Tell a process to start and do not wait; one that runs is left alone."""

    def begin_stop(self, name: str) -> None:
        """Send a process its stop signal and do not wait; one that does not run is fine."""

    def stop(self, name: str, timeout: float) -> None:
        """Stop a process and wait until it is gone.

        Args:
            timeout: seconds it may take to finish its requests; it may be killed earlier.

        Raises:
            ProcessManagerError: it is still there after that and a margin for the kill.
        """

    def log_tail(self, name: str, lines: int = 20) -> tuple[str, ...]:
        """Return the end of what a process printed, redacted; nothing where it has no log.

        Never raises.
        """

    def program_configs(self) -> tuple[ProgramConfig, ...]:
        """Return how each process is configured; nothing where that cannot be known."""

    def stopped_as_group(self) -> frozenset[str]:
        """Return the programs whose stop signal goes to the workers as well as to their master."""

    def port_holder(self, listen: str) -> str:
        """Return who else listens on a port: "nginx (pid 80)".

        Empty for nobody, and for the manager and what it has started.
        """

    def reread(self) -> tuple[frozenset[str], frozenset[str]]:
        """Have the manager read its files again; running processes are not touched.

        Returns:
            The programs that are new, and those that changed but keep running as they were.
        """

    def add(self, program: str) -> None:
        """Make a program known that was found by `reread`, and start it."""

    def remove(self, program: str) -> None:
        """Stop a program and forget it; one nobody knows is fine."""

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
        """Render the configuration for one process of a site.

        It holds no release: an install never has to change it.

        Args:
            command: path of the `artifact` that the manager is to run.
            slots: the old and the new release run beside each other while they change: around the
                listening socket that the manager keeps open, or as two sets of workers.
            user: recorded as owner of a unix socket; `artifact exec` drops the privileges itself.
            stop_signal: the one on which it finishes its requests.
        """


def program_name(name: str, process: str) -> str:
    """Return what the program of an application's process is called: "accounting-web"."""
    return f"{name}-{process}"
