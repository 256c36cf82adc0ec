"""Tell which migrations a release has before it, or run them: in the release's own interpreter.

Reads a request as JSON from stdin and answers with JSON on stdout; what settings, migrations and
Django print goes to stderr. manage.py itself runs, up to where it would hand over to Django: what
it does to sys.path, what it loads and which settings it chooses then hold here as well.

Python 3.8 and Django 3.2 are enough.
"""

from __future__ import annotations

import os
import runpy
import sys
from typing import TYPE_CHECKING, Any, Dict, List

if TYPE_CHECKING:
    from artifact.host.probes import answering, history, running
else:
    import answering
    import history
    import running


def answer(request: Dict[str, Any]) -> Dict[str, Any]:
    """Do what is asked; the applications are loaded."""
    import django

    found: Dict[str, Any] = {"django": django.get_version()}
    if request["mode"] == "look":
        return {**found, **history.look(request["known"])}
    return {**found, **running.run(request)}


def answered(request: Dict[str, Any]) -> Dict[str, Any]:
    """Load the application as its own commands do, and answer."""
    answers: List[Dict[str, Any]] = []

    def execute(argv: Any = None) -> None:
        import django

        django.setup()
        answers.append(answer(request))

    if not os.path.exists("manage.py"):
        sys.path.insert(0, os.getcwd())
        execute()
        return answers[0]
    from django.core import management

    management.execute_from_command_line = execute
    sys.path.insert(0, os.getcwd())
    # As it will be run: there are settings that look at the command.
    sys.argv = [os.path.abspath("manage.py"), "migrate"]
    runpy.run_path(sys.argv[0], run_name="__main__")
    if not answers:
        raise RuntimeError("manage.py does not call execute_from_command_line")
    return answers[0]


if __name__ == "__main__":
    answering.respond(answered)
