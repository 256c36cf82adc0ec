"""Load a Django application as its own manage.py does: with its paths, settings and variables."""

from __future__ import annotations

import os
import runpy
import sys
from typing import Callable, List, TypeVar

T = TypeVar("T")


def within(command: List[str], act: Callable[[], T]) -> List[T]:
    """Run manage.py up to where it would hand over to Django, load all, and act there.

    Args:
        command: what manage.py believes to run: there are settings that look at it.

    Returns:
        What `act` returned; nothing where manage.py does not hand over to Django.
    """
    found: List[T] = []

    def execute(argv: object = None) -> None:
        import django

        django.setup()
        found.append(act())

    if not os.path.exists("manage.py"):
        execute()
        return found
    from django.core import management

    management.execute_from_command_line = execute
    sys.argv = [os.path.abspath("manage.py"), *command]
    runpy.run_path(sys.argv[0], run_name="__main__")
    return found
