"""Project (a): what `wagtail start` creates, as it comes."""

from __future__ import annotations

from pathlib import Path

from benchmarks import measuring
from benchmarks.workshop import Workshop

TITLE = "what `wagtail start` creates"
ANSWERS = "/django-admin/login/"
MODULE = "home/models.py"
# The last long-term release that runs on every Python artifact runs on: newer ones write
# requirements that Python 3.11 cannot install.
_WAGTAIL = "wagtail==7.0.*"


def make(directory: Path, shop: Workshop) -> None:
    """Install wagtail beside and let it write its project."""
    env = shop.variables(shop.path("projects", "cache"))
    tools = shop.path("projects", "wagtail")
    measuring.run([shop.python, "-m", "venv", tools], cwd=shop.work, env=env)
    measuring.run([tools / "bin" / "pip", "install", "-q", _WAGTAIL], cwd=shop.work, env=env)
    wagtail = tools / "bin" / "wagtail"
    measuring.run([wagtail, "start", "mysite", directory], cwd=shop.work, env=env)
