"""Ask a release's application whether it is in order, in its own interpreter and as its user."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from artifact import files, process, steps
from artifact.errors import Refused
from artifact.host.processes import launch, servers
from artifact.host.records import releases
from artifact.host.records.releases import Release
from artifact.manifest import Manifest
from artifact.site import Site

_PROBE = Path(__file__).parents[1] / "probes" / "checks.py"
_SECONDS = 300.0
ANSWER_SECONDS = 30.0
"""How long a worker may take to answer that it is there; one that is at work does not answer."""


class _Check(msgspec.Struct):
    """What one of Django's system checks found."""

    id: str
    text: str
    serious: bool


class _Answer(msgspec.Struct):
    failing: dict[str, int]
    """Process to the status of its command."""
    checks: list[_Check]
    tasks: dict[str, int]
    """Process to how many tasks it knows."""
    broken: dict[str, str]
    """What does not load, and why."""


def check(site: Site, manifest: Manifest, tell: steps.Listener) -> list[str]:
    """Run `manage.py check --deploy`, celery's imports, and the checks servers have of their own.

    Returns:
        A note for each thing that was asked.

    Raises:
        Refused: something does not load, or Django's checks found an error.
    """
    request = _request(site, manifest)
    if not any(request.values()):
        return []
    found = releases.read(site, manifest.version)
    answer, tail = _ask(found, site, request, tell)
    _judge(manifest, site, answer, tail)
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
        numbers: which workers of the process, as `servers.named` names them.
    """
    found = releases.read(site, version)
    described = found.manifest.processes[name]
    application = _application(described.command)
    if not application or servers.named([], described, name, 0) == []:
        yield lambda: True
        return
    names = [servers.node(name, number) for number in numbers]
    request = {"application": application, "names": names, "seconds": ANSWER_SECONDS}
    environment, user = _variables(found, site)
    argv = [str(found.environment / "bin" / "python"), str(_PROBE)]
    argv += [msgspec.json.encode({**request, "user": user}).decode()]
    site.failures.mkdir(mode=0o700, exist_ok=True)
    log = site.failures / f"{version}-{name}-asked.log"
    with process.running(argv, log=log, cwd=found.directory, env=environment) as child:
        yield lambda: bool(child.failure)
    files.remove_tree(log)


def _variables(found: Release, site: Site) -> tuple[dict[str, str], dict[str, Any] | None]:
    """Return what the application sees, and the user to become; None for who we are."""
    user = launch.user_of(site)
    environment = launch.environment_variables(site, found, user)
    if found.manifest.django:
        # The site's env file has the last word, as it has for the processes.
        environment.setdefault("DJANGO_SETTINGS_MODULE", found.manifest.django)
    return environment, launch.to_become(user)


def _request(site: Site, manifest: Manifest) -> dict[str, Any]:
    release = site.release(manifest.version).resolve()
    environment = release / "virtualenv"
    return {
        # Elsewhere than at the top, it may do to sys.path what nobody here knows.
        "django": (release / "manage.py").is_file()
        and bool(manifest.django or "django" in manifest.environment.packages),
        "celery": {
            name: application
            for name, process in manifest.processes.items()
            if process.server == "celery" and (application := _application(process.command))
        },
        # One that takes slots is booted and asked, which tells more.
        "commands": {
            name: [*servers.argv(manifest, name, environment, sockets=0), "--check-config"]
            for name, process in manifest.processes.items()
            if process.server == "gunicorn" and not servers.takes_slots(process)
        },
    }


def _application(command: str) -> str:
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
    found: Release, site: Site, request: dict[str, Any], tell: steps.Listener
) -> tuple[_Answer, tuple[str, ...]]:
    environment, user = _variables(found, site)
    try:
        ran = process.run(
            [str(found.environment / "bin" / "python"), str(_PROBE)],
            cwd=found.directory,
            env=environment,
            stdin=msgspec.json.encode({**request, "user": user}).decode(),
            capture=True,
            timeout=_SECONDS,
            tell=tell,
        )
    except process.ChildFailed as error:
        raise Refused(
            f"{found.manifest.reference} cannot be checked: {error}", output=error.tail
        ) from error
    return msgspec.json.decode(ran.stdout.encode(), type=_Answer), ran.tail


def _judge(manifest: Manifest, site: Site, answer: _Answer, tail: tuple[str, ...]) -> None:
    for what, why in answer.broken.items():
        raise Refused(
            f"{what} of {manifest.reference} does not load: {why}",
            hint=f"are all the variables it needs in {site.variables}?",
            output=tail,
        )
    for name, status in answer.failing.items():
        raise Refused(
            f"{name} of {manifest.reference} is refused by gunicorn --check-config, "
            f"which {process.describe(status)}",
            hint="the last lines it printed stand above",
            output=tail,
        )
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
