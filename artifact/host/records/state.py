"""Which slot of which process runs which release: read by `artifact exec`, written by a switch."""

from __future__ import annotations

from pathlib import Path

import msgspec

from artifact import files
from artifact.errors import RollbackFailed

FORMAT = 1
IDLE = ""


class State(msgspec.Struct, frozen=True, kw_only=True):
    """What is meant to run; `Running` says what does."""

    format: int = FORMAT
    slots: dict[str, tuple[str, str]] = {}
    """Process to the versions of its two slots; "" is an idle one."""

    def versions(self, process: str) -> tuple[str, str]:
        """Return what the two slots of a process are to run."""
        return self.slots.get(process, (IDLE, IDLE))

    def slot_of(self, process: str, version: str) -> int | None:
        """Return the slot that is to run a version; None when none is."""
        versions = self.versions(process)
        return versions.index(version) if version in versions else None

    def with_slot(self, process: str, slot: int, version: str) -> State:
        """Return the state with one slot changed."""
        versions = list(self.versions(process))
        versions[slot] = version
        return msgspec.structs.replace(
            self, slots={**self.slots, process: (versions[0], versions[1])}
        )


class Running(msgspec.Struct, frozen=True, kw_only=True):
    """What a process was when it became the server: its pid proves that it still is."""

    pid: int
    version: str


def read(path: Path) -> State:
    """Return the state; that of a site without releases when there is none.

    Raises:
        RollbackFailed: somebody has damaged it.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=State)
    except FileNotFoundError:
        return State()
    except msgspec.MsgspecError as error:
        raise RollbackFailed(
            f"{path} cannot be read: {error}",
            hint="delete it and restart the slots; both sleep until the next install",
        ) from error


def write(path: Path, state: State) -> None:
    """Replace the state in one step."""
    files.write(path, msgspec.json.encode(state) + b"\n")


def read_running(path: Path) -> Running | None:
    """Return what a slot said it became; None when it said nothing."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Running)
    except (OSError, msgspec.MsgspecError):
        return None


def write_running(path: Path, running: Running) -> None:
    """Say what this process is about to become."""
    files.write(path, msgspec.json.encode(running))
