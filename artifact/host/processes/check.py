"""See whether a release works before anything live is touched."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from artifact import files, process, steps
from artifact.errors import Refused
from artifact.host.processes import application, application_checks, health, launch, servers
from artifact.host.records import releases
from artifact.manifest import Manifest
from artifact.site import Site

_POLL_SECONDS = 0.05
_ENVIRONMENT_SECONDS = 60


def check(site: Site, manifest: Manifest, tell: steps.Listener) -> str:
    """Start the environment, check the application, boot a small server where one can be private.

    Raises:
        Refused: the interpreter does not start, the application is not in order, or a server does
            not answer its health path.
    """
    with steps.waiting(tell, "the environment's interpreter had started"):
        _interpreter_starts(site, manifest, tell)
    with steps.waiting(tell, f"{manifest.reference} had checked itself"):
        asked = application_checks.check(site, manifest, tell)
    for name, described in manifest.processes.items():
        if servers.takes_slots(described):
            with steps.waiting(tell, f"{name} had answered on a private socket"):
                asked.append(f"{name} {_try_server(site, manifest, name)}")
        elif described.server != "celery":
            tell(steps.Output(f"{name} is not tried before it is live: it takes no socket of ours"))
    return ", ".join(asked) or "the environment starts"


def _interpreter_starts(site: Site, manifest: Manifest, tell: steps.Listener) -> None:
    found = releases.read(site, manifest.version)
    python = application.python_of(found)
    try:
        application.run(
            site, found, [python, "-I", "-c", "pass"], timeout=_ENVIRONMENT_SECONDS, tell=tell
        )
    except process.ChildFailed as error:
        raise Refused(
            f"the environment of {manifest.reference} does not start: {error}",
            hint=f"{python} should run; is the interpreter it was compiled for still there?",
            output=error.tail,
        ) from error


def _try_server(site: Site, manifest: Manifest, name: str) -> str:
    """Boot one worker on a private socket and ask it: a bad release must not reach a visitor."""
    wanted = health.health_of(manifest.processes[name])
    began = time.monotonic()
    with _booted(site, manifest, name) as child:
        answer, wrong = health.Answer(ok=False, text="it did not open its socket"), 0
        while not answer.ok:
            late = time.monotonic() - began >= wanted.timeout
            if late or wrong >= health.ENOUGH or child.failure:
                what = f"does not serve {wanted.path}: {answer.text}"
                if child.failure:
                    what = f"{child.failure} when it was tried"
                raise _refused(manifest, name, what, child, answer.hint)
            time.sleep(_POLL_SECONDS)
            answer = health.ask(site.health_socket(name, launch.TRIAL), wanted)
            wrong = wrong + 1 if answer.wrong else 0
    return f"answers {answer.text} after {time.monotonic() - began:.1f} s"


@contextmanager
def _booted(site: Site, manifest: Manifest, name: str) -> Iterator[process.Child]:
    arguments = ["exec", str(site.root), "--process", name, "--trial", manifest.version]
    arguments += ["--parent", str(os.getpid())]
    site.failures.mkdir(mode=0o700, exist_ok=True)
    log = site.failures / f"{manifest.version}-{name}.log"
    socket = site.health_socket(name, launch.TRIAL)
    socket.unlink(missing_ok=True)  # an old one would answer "connection refused" for ever
    argv = [sys.executable, "-m", "artifact", *arguments]
    try:
        with process.running(argv, log=log, cwd=Path("/")) as child:
            yield child
    finally:
        socket.unlink(missing_ok=True)
        site.running(name, launch.TRIAL).unlink(missing_ok=True)
    files.remove_tree(log)


def _refused(
    manifest: Manifest, name: str, what: str, child: process.Child, hint: str = ""
) -> Refused:
    return Refused(
        f"{name} of {manifest.reference} {what}",
        hint=hint or f"all it printed is in {child.log}",
        output=child.tail(),
    )
