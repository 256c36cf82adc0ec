"""The one door through which code of a release runs: as the site's user, in one environment.

Rights are dropped in our own process, before the environment's interpreter starts: it runs code of
the application (a `.pth` file, what PYTHONPATH names) before it runs anything that it is told to.
"""

from __future__ import annotations

import os
import pwd
import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import msgspec

from artifact import process, steps, variables
from artifact.errors import ConfigurationError, Refused
from artifact.host.probes import answering
from artifact.host.records import settings
from artifact.host.records.releases import Release
from artifact.site import Site

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""What stands behind the environment's own programs, whoever starts us: sudo's secure_path."""

_LANGUAGE = re.compile(r"LANG|LANGUAGE|LC_[A-Z]+|TZ")
_PROBES = Path(answering.__file__).parent


def user_of(site: Site) -> pwd.struct_passwd:
    """Return who the site's processes run as: `site.toml`'s user where we are root, else we."""
    name = settings.load_for_processes(site).user
    if not name or os.geteuid() != 0:
        return pwd.getpwuid(os.geteuid())
    try:
        return pwd.getpwnam(name)
    except KeyError:
        raise ConfigurationError(
            f"{site.settings}: user: there is no user {name!r} on this machine"
        ) from None


def environment_of(site: Site, release: Release) -> dict[str, str]:
    """Return all variables that a release's code sees, whoever starts it.

    These are ours, what `site.toml` lists in `pass-env`, and the site's `env` file, which has the
    last word. docs/operations.md has the table.
    """
    user, listed = user_of(site), settings.load_for_processes(site).pass_env
    outside = variables.everything().items()
    django = release.manifest.django
    return {
        "LANG": "C.UTF-8",
        **{name: value for name, value in outside if _LANGUAGE.fullmatch(name)},
        **({"DJANGO_SETTINGS_MODULE": django} if django else {}),
        **{name: value for name, value in outside if name in listed},
        "HOME": user.pw_dir,
        "USER": user.pw_name,
        "LOGNAME": user.pw_name,
        "PATH": f"{release.environment / 'bin'}:{PATH}",
        "VIRTUAL_ENV": str(release.environment),
        # gunicorn trusts PWD before getcwd(), links included.
        "PWD": str(release.directory),
        "ARTIFACT_VERSION": release.manifest.version,
        # What is missing is missing on purpose, and root could write it into the release.
        "PYTHONDONTWRITEBYTECODE": "1",
        **settings.application_variables(site),
    }


def python_of(release: Release) -> str:
    """Return the interpreter of a release's environment."""
    return str(release.environment / "bin" / "python")


def run(
    site: Site,
    release: Release,
    argv: Sequence[str],
    *,
    stdin: str | None = None,
    capture: bool = False,
    timeout: float | None,
    tell: steps.Listener,
) -> process.Result:
    """Run a command to its end as the release's processes run; raises as `process.run`."""
    return process.run(
        argv,
        cwd=release.directory,
        env=environment_of(site, release),
        user=user_of(site),
        stdin=stdin,
        capture=capture,
        timeout=timeout,
        tell=tell,
    )


def ask(
    site: Site,
    release: Release,
    probe: str,
    request: Mapping[str, Any],
    *,
    timeout: float | None,
    tell: steps.Listener,
) -> process.Result:
    """Have a module of `artifact.host.probes` answer in the release's interpreter.

    Returns:
        What was run; its stdout is the answer, in JSON.

    Raises:
        Refused: the application does not load.
        process.ChildFailed: the interpreter does not start, died, took too long or did not answer.
    """
    argv, text = _program(release, probe, request)
    ran = run(site, release, argv, stdin=text, capture=True, timeout=timeout, tell=tell)
    # A .pth file may have printed something before the probe could keep others from that.
    answer = ran.stdout.rpartition("\n")[2]
    try:
        broken = msgspec.json.decode(answer, type=_Broken).broken
    except msgspec.DecodeError as error:
        # The application ended the probe, or forked, so that two have answered.
        raise process.ChildFailed(argv, "did not answer as it should", ran.tail) from error
    if broken:
        raise Refused(
            f"{release.manifest.reference} does not load: {broken}",
            hint=f"are all the variables it needs in {site.variables}?",
            output=ran.tail,
        )
    return msgspec.structs.replace(ran, stdout=answer)


class _Broken(msgspec.Struct):
    broken: str = ""


def asking(
    site: Site, release: Release, probe: str, request: Mapping[str, Any], *, log: Path
) -> AbstractContextManager[process.Child]:
    """Have a probe at work beside us for the block; nobody hears its answer."""
    argv, text = _program(release, probe, request)
    return process.running(
        argv,
        log=log,
        cwd=release.directory,
        env=environment_of(site, release),
        user=user_of(site),
        stdin=text,
    )


def _program(release: Release, probe: str, request: Mapping[str, Any]) -> tuple[list[str], str]:
    """Return a command and what it reads: the site's user may not be able to read our files."""
    texts = {path.stem: path.read_text("utf-8") for path in _PROBES.glob("*.py")}
    return [python_of(release), "-", probe], answering.program(texts, probe, request)
