"""Options and arguments that several commands share: one wording and one metavar each.

Some of them hand the command more than a string: `site` a `Site`, `json` an `answer`, and
`verbosity` the listener `tell`.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import click

from artifact.cli.answers import Answer
from artifact.cli.terminal import Listener
from artifact.errors import UsageError
from artifact.host.records import find
from artifact.site import Site

_Function = TypeVar("_Function", bound=Callable[..., Any])

PATH = click.Path(path_type=Path)
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600}


def _seconds(_context: click.Context, _parameter: click.Parameter, value: str) -> float:
    matched = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", value)
    if matched is None:
        raise click.BadParameter(f"expected a duration such as 30s, 15m or 1h, got {value!r}")
    return float(matched[1]) * _UNITS[matched[2]]


def duration(name: str, default: str, text: str) -> Callable[[_Function], _Function]:
    """Return an option whose value is written "30s", "15m" or "1h"; the command gets seconds."""
    return click.option(
        name,
        callback=_seconds,
        default=default,
        show_default=True,
        metavar="DURATION",
        help=text,
    )


plan = click.option("--plan", is_flag=True, help="Print what would be done, and change nothing.")
wait = duration("--wait", "15m", "How long to wait for another run in the site.")
probation = duration(
    "--probation", "10s", "How long to watch the release after the switch before it counts as good."
)
release = click.option(
    "--release", default="", metavar="VERSION", help="Look at this release instead of the live one."
)
digest = click.option(
    "--digest", default="", metavar="sha256:…", help="Refuse any other content than this."
)
allow_unsafe = click.option(
    "--allow-unsafe",
    multiple=True,
    metavar="APP.0007",
    help="Run this migration whatever its risk; may be repeated.",
)
nginx_directory = click.option(
    "--nginx-dir",
    "nginx_directory",
    type=PATH,
    default=Path("/etc/nginx"),
    show_default=True,
    metavar="DIR",
    help="nginx's configuration.",
)


def site(function: _Function) -> _Function:
    """Add the argument SITE and the sentence about it, and hand the command the site found."""

    @click.argument("site", required=False)
    @wraps(function)
    def command(*args: Any, site: str | None, **kwargs: Any) -> Any:
        return function(*args, site=find.find_site(site), **kwargs)

    command.__doc__ = _about_site(function)
    return command  # type: ignore[return-value]  # click's decorators keep the type


def site_and_version(function: _Function) -> _Function:
    """Add the arguments SITE and VERSION, as `site` does; the version is empty if left out."""

    @click.argument("site", required=False)
    @click.argument("version", required=False)
    @wraps(function)
    def command(*args: Any, site: str | None, version: str | None, **kwargs: Any) -> Any:
        found, wanted = _site_and_version(site, version)
        return function(*args, site=found, version=wanted, **kwargs)

    command.__doc__ = _about_site(function)
    return command  # type: ignore[return-value]  # click's decorators keep the type


def _about_site(function: Callable[..., Any]) -> str:
    return (
        f"{inspect.cleandoc(function.__doc__ or '')}\n\n"
        "SITE is the site's name or path. Leave it out where the machine has only one."
    )


def _site_and_version(first: str | None, second: str | None) -> tuple[Site, str]:
    """Tell a site from a version: `artifact rollback 1336` means the version."""
    if second is not None or first is None:
        return find.find_site(first), second or ""
    try:
        return find.find_site(first), ""
    except UsageError:
        if "/" in first:
            raise
        try:
            site = find.find_site(None)
        except UsageError:
            site = None
        if site is None or not site.release(first).is_dir():
            raise
        return site, first


def json(function: _Function) -> _Function:
    """Add --json and hand the command `answer`, which takes its document and its lines."""

    @click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout.")
    @click.pass_obj
    @wraps(function)
    def command(answer: Answer, /, *args: Any, as_json: bool, **kwargs: Any) -> Any:
        answer.as_json = as_json
        return function(*args, answer=answer, **kwargs)

    return command  # type: ignore[return-value]  # click's decorators keep the type


def verbosity(function: _Function) -> _Function:
    """Add --quiet, --verbose and --no-progress, and hand the command `tell`, a listener."""

    @click.option("-q", "--quiet", is_flag=True, help="Print only warnings and errors.")
    @click.option("-v", "--verbose", is_flag=True, help="Also print the output of other programs.")
    @click.option("--no-progress", is_flag=True, help="Draw no progress bars.")
    @wraps(function)
    def command(*args: Any, quiet: bool, verbose: bool, no_progress: bool, **kwargs: Any) -> Any:
        listener = Listener(quiet=quiet, verbose=verbose, bars=not no_progress)
        return function(*args, tell=listener, **kwargs)

    return command  # type: ignore[return-value]  # click's decorators keep the type
