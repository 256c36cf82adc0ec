"""Ask a release's application whether it is in order, in its own interpreter and as its user."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec

from artifact import files, process, steps
from artifact.errors import Refused
from artifact.host.processes import application, servers
from artifact.host.records import releases
from artifact.host.records.releases import Release
from artifact.manifest import Manifest
from artifact.site import Site

_SECONDS = 300.0
ANSWER_SECONDS = 30.0
"""How long a worker may take to answer that it is there; one that is at work does not answer."""


class _Check(msgspec.Struct):
    """What one of Django's system checks found."""

    id: str
    text: str
    serious: bool


class _Answer(msgspec.Struct):
    checks: list[_Check] = []
    tasks: dict[str, int] = {}
    """Process to how many tasks it knows."""
    failed: dict[str, str] = {}
    """What does not load, and why."""


def check(site: Site, manifest: Manifest, tell: steps.Listener) -> list[str]:
    """Run `manage.py check --deploy`, celery's imports, and the checks servers have of their own.

    Returns:
        A note for each thing that was asked.

    Raises:
        Refused: something does not load, or Django's checks found an error.
    """
    found = releases.read(site, manifest.version)
    request = _request(found)
    answer = _Answer()
    if any(request.values()):
        answer, tail = _ask(site, found, request, tell)
        _refuse_broken(manifest, site, answer, tail)
    _start_servers(site, found, tell)
    _refuse_errors(manifest, answer)
    notes = [f"{name} has {count} tasks" for name, count in answer.tasks.items()]
    if request["django"]:
        notes.append(_deployment(answer, tell))
    return notes


@contextmanager
def answering(
    site: Site, version: str, name: str, numbers: Sequence[int]
) -> Iterator[Callable[[], bool]]:
    """Ask celery's workers whether they are there, for as long as the block lasts.

    Yields a function that tells whether waiting for an answer is over: all have answered, or they
    cannot be asked.

    Args:
        numbers: which workers of the process, as `servers.with_worker_name` names them.
    """
    found = releases.read(site, version)
    described = found.manifest.processes[name]
    app = _celery_app(described.command)
    if not app or servers.with_worker_name([], described, name, 0) == []:
        yield lambda: True
        return
    names = [servers.worker_name(name, number) for number in numbers]
    request = {"application": app, "names": names, "seconds": ANSWER_SECONDS}
    site.failures.mkdir(mode=0o700, exist_ok=True)
    log = site.failures / f"{version}-{name}-asked.log"
    with application.asking(site, found, "celery_ping", request, log=log) as child:
        yield lambda: bool(child.failure)
    files.remove_tree(log)


def _request(found: Release) -> dict[str, Any]:
    manifest = found.manifest
    return {
        # Elsewhere than at the top, it may do to sys.path what nobody here knows.
        "django": (found.directory / "manage.py").is_file()
        and bool(manifest.django or "django" in manifest.environment.packages),
        "celery": {
            name: app
            for name, described in manifest.processes.items()
            if described.server == "celery" and (app := _celery_app(described.command))
        },
    }


def _celery_app(command: str) -> str:
    """Return what a celery command names as its application; empty where it names none here."""
    words = shlex.split(command)
    if any(word.partition("=")[0] == "--workdir" for word in words):
        return ""
    for word, following in zip(words, [*words[1:], ""], strict=True):
        if word in {"-A", "--app"}:
            return following
        if word.startswith("--app="):
            return word.partition("=")[2]
        if word.startswith("-A") and not word.startswith("--"):
            return word[2:]
    return ""


def _ask(
    site: Site, found: Release, request: dict[str, Any], tell: steps.Listener
) -> tuple[_Answer, tuple[str, ...]]:
    try:
        ran = application.ask(site, found, "checks", request, timeout=_SECONDS, tell=tell)
    except process.ChildFailed as error:
        raise Refused(
            f"{found.manifest.reference} cannot be checked: {error}", output=error.tail
        ) from error
    return msgspec.json.decode(ran.stdout, type=_Answer), ran.tail


def _start_servers(site: Site, found: Release, tell: steps.Listener) -> None:
    """Have servers check their own configuration, where they are not booted and asked anyway."""
    for name, described in found.manifest.processes.items():
        if described.server != "gunicorn" or servers.takes_slots(described):
            continue
        argv = servers.argv(found.manifest, name, found.environment, sockets=0)
        argv.append("--check-config")
        try:
            application.run(site, found, argv, timeout=_SECONDS, tell=tell)
        except process.ChildFailed as error:
            raise Refused(
                f"{name} of {found.manifest.reference} is refused by gunicorn --check-config, "
                f"which {error.reason}",
                hint="the last lines it printed stand above",
                output=error.tail,
            ) from error


def _refuse_broken(manifest: Manifest, site: Site, answer: _Answer, tail: tuple[str, ...]) -> None:
    for what, why in answer.failed.items():
        raise Refused(
            f"{what} of {manifest.reference} does not load: {why}",
            hint=f"are all the variables it needs in {site.variables}?",
            output=tail,
        )


def _refuse_errors(manifest: Manifest, answer: _Answer) -> None:
    serious = [f"({one.id}) {one.text}" for one in answer.checks if one.serious]
    if serious:
        raise Refused(
            f"manage.py check of {manifest.reference} finds {len(serious)} "
            f"error{'s' if len(serious) > 1 else ''}: {'; '.join(serious)}",
            hint="repair it, or list its id in SILENCED_SYSTEM_CHECKS, and build again",
        )


def _deployment(answer: _Answer, tell: steps.Listener) -> str:
    for one in answer.checks:
        tell(steps.Output(f"({one.id}) {one.text}"))
    names = ", ".join(sorted({one.id for one in answer.checks}))
    count = len(answer.checks)
    if not count:
        return "check --deploy finds nothing"
    return f"check --deploy: {count} warning{'s' if count > 1 else ''} ({names})"
