"""Tell what the build must know of a Django project's settings: run in the environment's Python.

Arguments: manage.py, and the file that gets the answer (settings may print to stdout).

manage.py itself runs, up to where it would hand over to Django: what it does to sys.path, what it
loads from files and which settings it chooses then hold here as well. Applications and models are
not loaded: settings alone answer, in a fraction of the time.
"""

from __future__ import annotations

import json
import os
import runpy
import sys
import traceback
from typing import Any


def installed(settings: Any, package: str) -> bool:
    """Tell whether an application is installed, by its package or one of its configurations."""
    return any(
        name == package or name.startswith(package + ".apps.") for name in settings.INSTALLED_APPS
    )


def path(value: object) -> str | None:
    """Return a setting that holds a path as an absolute one; None when unset."""
    return os.path.realpath(str(value)) if value else None


def describe() -> dict[str, Any]:
    """Return the facts; names as in `artifact.building.assets.django.Facts`."""
    from django.conf import settings

    compress_root = getattr(settings, "COMPRESS_ROOT", None) or settings.STATIC_ROOT
    return {
        "settings": os.environ.get("DJANGO_SETTINGS_MODULE", ""),
        "static_root": path(settings.STATIC_ROOT),
        "staticfiles": installed(settings, "django.contrib.staticfiles"),
        "compressor": installed(settings, "compressor"),
        # Defaults as in compressor/conf.py, which only loading the application would apply.
        "compress_enabled": bool(getattr(settings, "COMPRESS_ENABLED", not settings.DEBUG)),
        "compress_offline": bool(getattr(settings, "COMPRESS_OFFLINE", False)),
        "compress_root": path(compress_root),
        "locale_paths": [path(one) for one in settings.LOCALE_PATHS],
    }


def main() -> None:
    """Run manage.py with Django's entry replaced by `describe`."""
    manage, answer = sys.argv[1:]
    sys.path[0] = os.path.dirname(os.path.abspath(manage))
    asked: list[Any] = []

    def execute(argv: Any = None) -> None:
        asked.append(argv)
        facts = describe()
        with open(answer, "w", encoding="utf-8") as stream:
            json.dump(facts, stream)

    from django.core import management

    management.execute_from_command_line = execute
    # As it will be run: there are settings that look at the command.
    sys.argv = [manage, "collectstatic", "--noinput"]
    runpy.run_path(manage, run_name="__main__")
    if not asked:
        raise RuntimeError("manage.py does not call execute_from_command_line")


if __name__ == "__main__":
    try:
        main()
    except BaseException as error:
        traceback.print_exc()
        # The last line is the one that gets quoted, and the message may have several.
        text = str(error).strip()
        if "\n" in text:
            print(f"{type(error).__name__}: {text.splitlines()[0]}", file=sys.stderr)
        sys.exit(1)
