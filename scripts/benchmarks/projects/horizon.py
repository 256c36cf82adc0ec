"""Project (c): Horizon, the dashboard of OpenStack, from its sdist on PyPI.

A real Django application: 3,200 files of which 1,000 are Python, django-compressor, a hundred
packages in its environment. It boots without a database or other services.
"""

from __future__ import annotations

import tarfile
from pathlib import Path

from benchmarks import measuring
from benchmarks.workshop import Workshop

TITLE = "Horizon 27.0.0, the OpenStack dashboard"
ANSWERS = "/auth/login/"
MODULE = "openstack_dashboard/views.py"
_VERSION = "27.0.0"
# What Horizon's installation guide leaves to the site.
_SETTINGS = """\
import os

DEBUG = False
ALLOWED_HOSTS = ["*"]
SECRET_KEY = os.environ.get("SECRET_KEY", "of-a-benchmark")
SESSION_ENGINE = "django.contrib.sessions.backends.signed_cookies"
CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
COMPRESS_OFFLINE = True
"""


def make(directory: Path, shop: Workshop) -> None:
    """Unpack the sdist and write the site's settings."""
    env = shop.variables(shop.path("projects", "cache"))
    pip = [
        shop.python,
        "-m",
        "pip",
        "download",
        "-q",
        "--no-deps",
        "--no-binary",
        "horizon",
    ]
    beside = shop.path("projects", "sdist", "x").parent
    measuring.run([*pip, "-d", beside, f"horizon=={_VERSION}"], cwd=shop.work, env=env)
    with tarfile.open(beside / f"horizon-{_VERSION}.tar.gz") as sdist:
        sdist.extractall(beside, filter="data")
    directory.rmdir()
    (beside / f"horizon-{_VERSION}").rename(directory)
    settings = directory / "openstack_dashboard" / "local" / "local_settings.py"
    settings.write_text(_SETTINGS, encoding="utf-8")
