"""Tell whether an application is in order: Django's checks, and the tasks that celery finds.

Python 3.8 and Django 3.2 are enough.
"""

from __future__ import annotations

from typing import Any, Dict, List

from . import answering, manage_py


def answer(request: Dict[str, Any]) -> Dict[str, Any]:
    """Do all that is asked; what fails does not keep the rest from being tried."""
    found: Dict[str, Any] = {"checks": [], "tasks": {}, "failed": {}}
    if request["django"]:
        try:
            # Empty where manage.py goes another way, of which nobody here knows.
            for rows in manage_py.within(["check", "--deploy"], system_checks):
                found["checks"] = rows
        except BaseException as error:
            found["failed"]["manage.py check"] = answering.broken(error)
    for name, application in request["celery"].items():
        try:
            found["tasks"][name] = tasks(application)
        except BaseException as error:
            found["failed"][name] = answering.broken(error)
    return found


def system_checks() -> List[Dict[str, Any]]:
    """Do what `manage.py check --deploy` does, without the checks that ask a database."""
    from django.core import checks

    return [
        {"id": one.id or "", "text": str(one.msg), "serious": one.level >= checks.ERROR}
        for one in checks.run_checks(include_deployment_checks=True)
        if not one.is_silenced()
    ]


def tasks(application: str) -> int:
    """Import a celery application and all its tasks, as its worker does; return how many."""
    from celery.app.utils import find_app

    app = find_app(application)
    app.loader.import_default_modules()
    app.finalize()
    return sum(not name.startswith("celery.") for name in app.tasks)
