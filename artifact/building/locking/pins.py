"""What a lock is: pins, their one canonical text, and what the environment's key takes of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import msgspec

from artifact.building.interpreter import Interpreter
from artifact.building.locking.indexes import Indexes
from artifact.building.locking.requirement import Requirement


class Pin(msgspec.Struct, frozen=True):
    """One package of a lock, as it will be installed."""

    name: str
    """Normalised."""
    version: str
    hashes: tuple[str, ...]
    """Of every file that may be installed for it, sorted: "sha256:…"."""
    source: str = ""
    """What a wheel of ours was built from: "git+https://…@<commit>", "./libs/ledger sha256:…";
    empty for a package of an index."""
    settings: tuple[str, ...] = ()
    """Configuration settings for its build, "KEY=VALUE"."""

    @property
    def identity(self) -> tuple[str, ...]:
        """What decides the installed content; the environment's key is made of these.

        A wheel built here is known by what it was built from: building it again may give other
        bytes, but not another package.
        """
        chosen = (self.source,) if self.source else self.hashes
        return (self.name, self.version, *chosen, *self.settings)


@dataclass(frozen=True, slots=True)
class Lock:
    """Everything that will be installed, and how to get it."""

    pins: tuple[Pin, ...]
    """Those whose marker applies to the interpreter, sorted by name."""
    text: str
    """The requirements file for the installers, canonical."""
    origin: str
    """The file it comes from: "requirements.lock", "requirements.txt"."""
    resolved: bool
    """Whether it was worked out from an unpinned file, now or in an earlier build."""
    interpreter: Interpreter = field(repr=False)
    indexes: Indexes = field(repr=False)

    @property
    def flags(self) -> tuple[str, ...]:
        """`--no-binary` and the like, for the environment's key."""
        return self.indexes.flags

    @property
    def identities(self) -> tuple[tuple[str, ...], ...]:
        """Return what decides the content of an environment made from this lock, sorted."""
        return tuple(sorted(pin.identity for pin in self.pins))


def text_of(pins: Iterable[Pin]) -> str:
    """Return the requirements file both toolchains install from; equal pins give equal text."""
    return "".join(_lines(pin) for pin in sorted(pins, key=lambda pin: (pin.name, pin.version)))


def _lines(pin: Pin) -> str:
    origin = f"# built from {pin.source}\n" if pin.source else ""
    return origin + _wrapped(f"{pin.name}=={pin.version}", pin.settings, pin.hashes)


def portable_text(entries: Iterable[Requirement]) -> str:
    """Return the lock that is committed. Links stay links: each machine builds its own wheel.

    Entries from an index must be pinned.
    """
    lines = {
        (entry.name or entry.written, entry.version): _wrapped(
            _portable(entry), entry.settings, entry.hashes if entry.kind != "vcs" else ()
        )
        for entry in entries
    }
    return "".join(lines[key] for key in sorted(lines))


def _portable(entry: Requirement) -> str:
    if entry.kind == "path":
        return entry.written
    if entry.kind == "index":
        return f"{entry.name}=={entry.version}"
    # The hash stands behind it as an option; twice it would confuse uv.
    link = entry.written if entry.kind == "vcs" else entry.written.partition("#sha")[0]
    return f"{entry.name} @ {link}" if entry.name else link


def _wrapped(head: str, settings: Iterable[str], hashes: Iterable[str]) -> str:
    options = [f'--config-settings "{setting}"' for setting in settings]
    options += [f"--hash={hash_}" for hash_ in sorted(hashes)]
    return " \\\n    ".join([head, *options]) + "\n"
