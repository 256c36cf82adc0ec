"""Tell which migrations a release has before it, or run them: in the release's own interpreter.

Python 3.8 and Django 3.2 are enough.
"""

from __future__ import annotations

from typing import Any, Dict

from . import history, manage_py, running


def answer(request: Dict[str, Any]) -> Dict[str, Any]:
    """Load the application as its own commands do, and do what is asked."""
    answers = manage_py.within(["migrate"], lambda: _answer(request))
    if not answers:
        raise RuntimeError("manage.py does not call execute_from_command_line")
    return answers[0]


def _answer(request: Dict[str, Any]) -> Dict[str, Any]:
    import django

    found: Dict[str, Any] = {"django": django.get_version()}
    if request["mode"] == "look":
        return {**found, **history.look(request["known"])}
    return {**found, **running.run(request)}
