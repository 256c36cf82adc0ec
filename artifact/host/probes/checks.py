"""Tell whether an application is in order: its commands, Django's checks, celery's tasks.

Reads a request as JSON from stdin and answers with JSON on stdout; whatever is printed goes to
stderr. Python 3.8 and Django 3.2 are enough.
"""

from __future__ import annotations

import json
import os
import runpy
import socket
import subprocess
import sys
import time
import traceback
from typing import TYPE_CHECKING, Any, Dict, List

if TYPE_CHECKING:
    from artifact.host.probes import becoming
else:
    import becoming


def failing(commands: Dict[str, List[str]]) -> Dict[str, int]:
    """Run each command and return the status of those that do not end well."""
    ended = {name: subprocess.call(argv) for name, argv in commands.items()}
    return {name: status for name, status in ended.items() if status != 0}


def system_checks() -> List[Dict[str, Any]]:
    """Do what `manage.py check --deploy` does, without the checks that ask a database."""
    found: List[Dict[str, Any]] = []

    def execute(argv: Any = None) -> None:
        import django
        from django.core import checks

        django.setup()
        for one in checks.run_checks(include_deployment_checks=True):
            if not one.is_silenced():
                serious = one.level >= checks.ERROR
                found.append({"id": one.id or "", "text": str(one.msg), "serious": serious})

    from django.core import management

    if not os.path.exists("manage.py"):
        execute()
        return found
    management.execute_from_command_line = execute
    # As it would be run: there are settings that look at the command.
    sys.argv = [os.path.abspath("manage.py"), "check", "--deploy"]
    runpy.run_path(sys.argv[0], run_name="__main__")
    return found


def tasks(application: str) -> int:
    """Import a celery application and all its tasks, as its worker does; return how many."""
    from celery.app.utils import find_app

    app = find_app(application)
    app.loader.import_default_modules()
    app.finalize()
    return sum(not name.startswith("celery.") for name in app.tasks)


def answer_all(application: str, names: List[str], seconds: float) -> None:
    """Ask celery's workers of these names whether they are there, until all have answered."""
    from celery.app.utils import find_app

    app = find_app(application)
    with app.connection_for_read() as connection:
        possible = connection.supports_exchange_type("fanout")
    if not possible or not app.conf.worker_enable_remote_control:
        return
    silent = {f"{name}@{socket.gethostname()}" for name in names}
    deadline = time.monotonic() + seconds
    while silent and time.monotonic() < deadline:
        for answers in app.control.ping(destination=sorted(silent), timeout=1.0):
            silent -= set(answers)


def broken(error: BaseException) -> str:
    """Print a traceback and return its last line."""
    traceback.print_exc()
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}".rstrip(": ")


def answer(request: Dict[str, Any]) -> Dict[str, Any]:
    """Do all that is asked; what fails does not keep the rest from being tried."""
    found: Dict[str, Any] = {"failing": {}, "checks": [], "tasks": {}, "broken": {}}
    try:
        found["failing"] = failing(request["commands"])
    except OSError as error:
        found["broken"]["its commands"] = broken(error)
    if request["django"]:
        try:
            found["checks"] = system_checks()
        except BaseException as error:
            found["broken"]["manage.py check"] = broken(error)
    for name, application in request["celery"].items():
        try:
            found["tasks"][name] = tasks(application)
        except BaseException as error:
            found["broken"][name] = broken(error)
    return found


def main() -> None:
    """Answer one request."""
    # The application may have modules of the names of those beside this one.
    sys.path[0] = os.getcwd()
    del sys.modules["becoming"]
    if len(sys.argv) > 1:
        request = json.loads(sys.argv[1])
        becoming.become(request["user"])
        answer_all(request["application"], request["names"], request["seconds"])
        return
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as channel:
        os.dup2(2, 1)
        request = json.load(sys.stdin)
        becoming.become(request["user"])
        json.dump(answer(request), channel)


if __name__ == "__main__":
    main()
