"""What the build knows of a Django project: its settings, and the steps Django itself brings."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

import msgspec

from artifact import process, steps
from artifact.building.source import Snapshot, SourceFile
from artifact.configuration.artifact_toml import DjangoSection
from artifact.errors import BuildFailed

PROBE = Path(__file__).parents[1] / "probes" / "django_settings.py"
SETTINGS_VARIABLE = "DJANGO_SETTINGS_MODULE"
_PROBE_SECONDS = 120.0
_SETTINGS = re.compile(r"""DJANGO_SETTINGS_MODULE["']\s*[,\]]\s*=?\s*["']([\w.]+)["']""")
# What settings are not made of: a change of these asks nothing of Django.
_ASSETS = (
    ".html", ".css", ".scss", ".sass", ".less", ".js", ".mjs", ".ts", ".tsx", ".vue", ".map",
    ".svg", ".png", ".jpg", ".jpeg", ".gif", ".webp", ".ico", ".woff", ".woff2", ".ttf", ".eot",
    ".po", ".mo", ".md", ".rst", ".pdf",
)  # fmt: skip


class Facts(msgspec.Struct, frozen=True):
    """What the settings say; paths are relative to the project, or absolute when outside."""

    settings: str
    """The module, as manage.py or the configuration chose it."""
    static_root: str | None
    staticfiles: bool
    compressor: bool
    compress_enabled: bool
    compress_offline: bool
    compress_root: str | None
    locale_paths: tuple[str, ...]


class Skipped(msgspec.Struct, frozen=True):
    """Why a step has nothing to do."""

    reason: str
    hint: str = ""
    """Not empty: the user should know."""


def settings_module(project: Path, section: DjangoSection) -> str:
    """Return the settings a server will run with; empty when only manage.py knows.

    Configured, else what wsgi.py or asgi.py of manage.py's package default to, else manage.py:
    what is built is for a server, and that is where the two differ.
    """
    configured = section.settings or section.env.get(SETTINGS_VARIABLE, "")
    if configured:
        return configured
    manage = project / section.manage
    chosen = _chosen_in(manage)
    package = chosen.partition(".")[0]
    for name in ("wsgi.py", "asgi.py") if package else ():
        if served := _chosen_in(manage.parent / package / name):
            return served
    return chosen


def decides(file: SourceFile) -> bool:
    """Tell whether a file may have a say in the settings."""
    return not file.path.endswith(_ASSETS)


def is_installed(environment: Path, package: str = "django") -> bool:
    """Tell whether a package is in the environment."""
    return any(environment.glob(f"lib/python*/site-packages/{package}/__init__.py"))


def ask(
    work: Path,
    section: DjangoSection,
    python: Path,
    variables: Mapping[str, str],
    tell: steps.Listener,
) -> Facts:
    """Run the probe in a copy of the source.

    Raises:
        BuildFailed: the settings cannot be imported.
    """
    manage = work / section.manage
    answer = work / ".artifact-facts.json"
    try:
        process.run(
            [str(python), str(PROBE), manage.name, str(answer)],
            cwd=manage.parent,
            env=variables,
            timeout=_PROBE_SECONDS,
            tell=tell,
        )
    except process.ChildFailed as failure:
        raise _cannot_import(section, variables, failure) from failure
    facts = msgspec.json.decode(answer.read_bytes(), type=Facts)
    answer.unlink()
    return msgspec.structs.replace(
        facts,
        static_root=_relative(facts.static_root, work),
        compress_root=_relative(facts.compress_root, work),
        locale_paths=tuple(_relative(path, work) or "" for path in facts.locale_paths),
    )


def messages(snapshot: Snapshot) -> dict[str, bool]:
    """Return the message catalogs of the project, and whether each is compiled in the source."""
    names = {file.path for file in snapshot.files}
    return {
        name: str(PurePosixPath(name).with_suffix(".mo")) in names
        for name in names
        if name.endswith(".po") and PurePosixPath(name).parent.name == "LC_MESSAGES"
    }


def compiles_messages(section: DjangoSection, snapshot: Snapshot) -> bool:
    """Tell whether catalogs are to be compiled; "auto": when one has not been."""
    if section.compilemessages == "auto":
        return not all(messages(snapshot).values())
    return section.compilemessages and bool(messages(snapshot))


def check_msgfmt(path: str) -> None:
    """Raise `BuildFailed` when GNU gettext is not on the PATH given."""
    if shutil.which("msgfmt", path=path) is None:
        raise BuildFailed(
            "compilemessages needs msgfmt, which is not on PATH",
            hint="apt-get install gettext; or commit the .mo files; "
            "or `compilemessages = false` under [django]",
        )


def static_root(facts: Facts) -> str | Skipped:
    """Return the directory in the project that collectstatic fills.

    Raises:
        BuildFailed: it is outside the project, where no artifact can hold it.
    """
    if not facts.staticfiles:
        return Skipped("django.contrib.staticfiles is not in INSTALLED_APPS")
    if facts.static_root is None:
        return Skipped(
            f"static files are not collected: {facts.settings} has no STATIC_ROOT",
            hint='STATIC_ROOT = BASE_DIR / "staticfiles" in the settings, '
            "or `collectstatic = false` under [django]",
        )
    _refuse_outside("STATIC_ROOT", facts.static_root, facts.settings)
    return facts.static_root


def compress_root(facts: Facts, section: DjangoSection) -> str | Skipped:
    """Return the directory in the project that compress writes into.

    Raises:
        BuildFailed: it is outside the project.
    """
    if not facts.compressor:
        return Skipped("compressor is not in INSTALLED_APPS")
    if section.compress == "auto" and not (facts.compress_enabled and facts.compress_offline):
        return Skipped("COMPRESS_OFFLINE is not on")
    if facts.compress_root is None:
        return Skipped(
            f"nothing is compressed: {facts.settings} has neither COMPRESS_ROOT nor STATIC_ROOT",
            hint='STATIC_ROOT = BASE_DIR / "staticfiles" in the settings',
        )
    _refuse_outside("COMPRESS_ROOT", facts.compress_root, facts.settings)
    return facts.compress_root


def _chosen_in(script: Path) -> str:
    try:
        found = _SETTINGS.search(script.read_text("utf-8", "replace"))
    except OSError:
        return ""
    return found[1] if found else ""


def _relative(path: str | None, work: Path) -> str | None:
    if path is None:
        return None
    return str(PurePosixPath(path).relative_to(work)) if _is_inside(path, work) else path


def _is_inside(path: str, work: Path) -> bool:
    return PurePosixPath(path).is_relative_to(work)


def _refuse_outside(name: str, path: str, settings: str) -> None:
    if path != "." and not path.startswith("/"):
        return
    where = "the project's own directory" if path == "." else f"{path}, outside the project"
    raise BuildFailed(
        f"{name} in {settings} is {where}",
        hint='an artifact holds its own static files: STATIC_ROOT = BASE_DIR / "staticfiles", '
        "or `collectstatic = false` under [django]",
    )


def _cannot_import(
    section: DjangoSection, variables: Mapping[str, str], failure: process.ChildFailed
) -> BuildFailed:
    last = next((line for line in reversed(failure.tail) if line.strip()), failure.reason)
    module = variables.get(SETTINGS_VARIABLE, "")
    hint = (
        "`settings` under [django] chooses the module; what it asks of the environment can be a "
        'placeholder in the build: env = { NAME = "only-for-the-build" }'
    )
    if "No module named" in last:
        hint = "add what is missing to the requirements, or choose `settings` under [django]"
    return BuildFailed(
        f"{section.manage} cannot import its settings{f' {module}' * bool(module)}: {last.strip()}",
        hint=hint,
        output=failure.tail,
    )
