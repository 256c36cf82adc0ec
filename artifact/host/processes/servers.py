"""The command lines of application servers: what each must be told to serve from given sockets.

Traps and their sources are in docs; the options are added only where the command has no own ones.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from packaging.version import InvalidVersion, Version

from artifact.errors import ConfigurationError
from artifact.manifest import Manifest, Process
from artifact.site import Site

INHERITING = frozenset({"gunicorn", "uvicorn"})
"""Servers that take sockets which somebody else has opened."""

FIRST_DESCRIPTOR = 3
"""Where inherited sockets begin: systemd's convention, sd_listen_fds(3)."""

DRAINING = Path(__file__).with_name("draining.py")
"""What uvicorn is started through; says why."""

_WORKER_CLASS = ("-k", "--worker-class")
# Options that name a file or a way of running of which there can be only one; two slots are two.
_GUNICORN_SINGLE = {"-p": 1, "--pid": 1, "-D": 0, "--daemon": 0}


def takes_slots(process: Process) -> bool:
    """Tell whether two of it can share a socket that supervisor holds open."""
    return bool(process.listen) and process.server in INHERITING


def overlaps(process: Process) -> bool:
    """Tell whether workers of two releases may run at the same time.

    Celery's share a queue; but whatever sends tasks by the clock would send each of them twice, and
    a file that only one may have open says that there is to be one.
    """
    if process.server != "celery" or process.listen:
        return False
    words = process.command.split()
    alone = ("-B", "--beat", "-s", "--schedule", "--pidfile", "-S", "--statedb")
    return "worker" in words and not _has_option(words, *alone)


def side_by_side(process: Process) -> bool:
    """Tell whether supervisor gets programs for two releases at a time."""
    return takes_slots(process) or overlaps(process)


def with_worker_name(words: list[str], process: Process, name: str, number: int) -> list[str]:
    """Return a worker's command line with a name of its own, for celery tells workers by them."""
    if process.server != "celery" or _has_option(words, "-n", "--hostname"):
        return words
    return [*words, "--hostname", f"{worker_name(name, number)}@%h"]


def worker_name(name: str, number: int) -> str:
    """Return the name of a worker before the host's: "worker-1"."""
    return f"{name}-{number}"


def answers_privately(process: Process) -> bool:
    """Tell whether it can serve a second, private socket beside the shared one."""
    return process.server == "gunicorn"


def is_booting(site: Site, name: str, slot: int) -> bool:
    """Tell whether a server that would say when it accepts has not said so yet."""
    try:
        return site.ready(name, slot).stat().st_size == 0
    except FileNotFoundError:
        return False


def graceful_signal(manifest: Manifest, process: Process) -> str:
    """Return the signal on which it finishes its requests and ends; "" where nobody knows.

    gunicorn swapped QUIT and TERM in 19.0. uWSGI reloads on TERM unless told `die-on-term`, which
    the caller has to see to.
    """
    if process.server == "gunicorn":
        known = manifest.environment.packages.get("gunicorn", "")
        return "TERM" if not known or _is_at_least(manifest, "gunicorn", "19") else "QUIT"
    if process.server in {"uvicorn", "celery"} or is_uwsgi(process):
        return "TERM"
    return ""


def stop_signal(manifest: Manifest, process: Process) -> str:
    """Return what to write into supervisor's program."""
    return graceful_signal(manifest, process) or "TERM"


def is_uwsgi(process: Process) -> bool:
    """Tell whether the command starts uWSGI."""
    return re.search(r"(^|/)uwsgi(\s|$)", process.command) is not None


def argv(manifest: Manifest, name: str, environment: Path, *, sockets: int) -> list[str]:
    """Return the command line of a process of a release.

    Args:
        environment: the release's own environment, not a link to it.
        sockets: how many sockets it inherits from descriptor 3 on; 0 leaves listening to it.

    Raises:
        ConfigurationError: the command cannot be read.
    """
    process = manifest.processes[name]
    words = _words(name, process)
    program = environment / "bin" / words[0]
    if "/" not in words[0] and program.exists():
        words[0] = str(program)
    if process.server == "gunicorn":
        words = _gunicorn(words, manifest, process, inherits=sockets > 0)
    if process.server == "uvicorn":
        words = _uvicorn(words, manifest, process, inherits=sockets > 0)
    if process.server == "uvicorn" or _has_uvicorn_workers(words, process):
        words = _draining(words, process.server, environment)
    return words


def with_one_worker(words: list[str], server: str) -> list[str]:
    """Return the command line with one worker only, enough to see whether it serves."""
    return [*words, "--workers", "1"] if server in INHERITING else words


def _words(name: str, process: Process) -> list[str]:
    try:
        words = shlex.split(process.command)
    except ValueError as error:
        raise ConfigurationError(f"processes.{name}.command: {error}") from error
    if not words:
        raise ConfigurationError(f"processes.{name}.command: it is empty")
    return words


def _gunicorn(
    words: list[str], manifest: Manifest, process: Process, *, inherits: bool
) -> list[str]:
    if inherits:
        words = _without_options(words, _GUNICORN_SINGLE)
    elif not _has_option(words, "-b", "--bind"):
        words = [*words, "--bind", process.listen]
    if not _has_option(words, "--graceful-timeout"):
        words = [*words, "--graceful-timeout", str(int(process.stop_timeout))]
    # From 24 on, one idle kept-alive connection makes a gthread worker's TERM last the whole
    # graceful timeout; and a request sent just then would be lost. To uvicorn's workers 0 means
    # another thing: they say "keep-alive", and close the connection all the same.
    if not _has_option(words, "--keep-alive") and not _has_uvicorn_workers(words, process):
        words = [*words, "--keep-alive", "0"]
    # From 25.1 on, two masters of one user unlink each other's control socket.
    if _is_at_least(manifest, "gunicorn", "25.1") and not _has_option(words, "--control-socket"):
        words = [*words, "--no-control-socket"]
    return words


def _uvicorn(
    words: list[str], manifest: Manifest, process: Process, *, inherits: bool
) -> list[str]:
    if inherits:
        words = _without_options(words, {"--host": 1, "--port": 1, "--uds": 1, "--reload": 0})
        words = [*words, "--fd", str(FIRST_DESCRIPTOR)]
    elif not _has_option(words, "--host", "--port", "--uds", "--fd"):
        if process.listen.startswith("unix:"):
            words = [*words, "--uds", process.listen.removeprefix("unix:")]
        else:
            host, _, port = process.listen.rpartition(":")
            words = [*words, "--host", host or "0.0.0.0", "--port", port]  # noqa: S104
    known = manifest.environment.packages.get("uvicorn", "")
    if not _has_option(words, "--timeout-graceful-shutdown") and (
        not known or _is_at_least(manifest, "uvicorn", "0.22")
    ):
        words = [*words, "--timeout-graceful-shutdown", str(int(process.stop_timeout))]
    return words


def _has_uvicorn_workers(words: list[str], process: Process) -> bool:
    before = ["", *words]
    return process.server == "gunicorn" and any(
        "uvicorn" in word
        for option, word in zip(before, words, strict=False)
        if option in _WORKER_CLASS or word.startswith(_WORKER_CLASS)
    )


def _draining(words: list[str], name: str, environment: Path) -> list[str]:
    """Start a server through `DRAINING` where it is clear which interpreter runs it."""
    place = next((i for i, word in enumerate(words) if Path(word).name == name), None)
    if place is None:
        return words
    if place > 0 and words[place - 1] == "-m":
        return [*words[: place - 1], str(DRAINING), *words[place:]]
    ours = environment / "bin" / name
    if words[place] not in {name, str(ours)} or not ours.exists():
        return words
    python = str(environment / "bin" / "python")
    return [*words[:place], python, str(DRAINING), name, *words[place + 1 :]]


def _has_option(words: list[str], *options: str) -> bool:
    return any(
        word == option or (word.startswith(f"{option}=") and option.startswith("--"))
        for word in words
        for option in options
    )


def _without_options(words: list[str], options: dict[str, int]) -> list[str]:
    """Drop options together with as many words as they take."""
    kept: list[str] = []
    skip = 0
    for word in words:
        if skip:
            skip -= 1
        elif word in options:
            skip = options[word]
        elif word.partition("=")[0] not in options:
            kept.append(word)
    return kept


def _is_at_least(manifest: Manifest, package: str, version: str) -> bool:
    try:
        return Version(manifest.environment.packages.get(package, "0")) >= Version(version)
    except InvalidVersion:
        return False
