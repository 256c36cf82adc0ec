"""The configuration of a build: `artifact.toml`, or `[tool.artifact]` in `pyproject.toml`.

The example that `artifact init` writes documents every key, and `overrides` beside this module the
rule for environment variables.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from artifact import variables
from artifact.configuration import checks, overrides, schema
from artifact.errors import ConfigurationError
from artifact.manifest import Health, Install, MigrationCommands, Process, is_name

FILE = "artifact.toml"
NAME_RULE = "expected a small letter, then up to 31 of small letters, digits, _ and -"

_Wrong = tuple[schema.Key, str]
_CHOICES = {
    "restart": ("slots", "graceful", "none"),
    "migrations": ("list", "stop", "run"),
    "static": ("shared", "release"),
}
# Django's own steps, whose names stand beside the declared ones in the manifest.
STEPS_OF_DJANGO = ("compilemessages", "collectstatic", "compress")

Seconds = Annotated[float, msgspec.Meta(description="a number of seconds", gt=0, le=604_800)]
Count = Annotated[int, msgspec.Meta(description="a number from 1 to 1000", ge=1, le=1000)]


class _Section(
    msgspec.Struct, frozen=True, kw_only=True, rename="kebab", forbid_unknown_fields=True
):
    """Base of every table: keys in kebab-case, unknown ones are errors."""


class PythonSection(_Section, frozen=True, kw_only=True):
    """`[python]`"""

    interpreter: str = "python3"
    """A command on the build machine's PATH, or a path; servers must have the same one."""


class RequirementsSection(_Section, frozen=True, kw_only=True):
    """`[requirements]`"""

    files: tuple[str, ...] = ()
    """Requirement files; the project's own are found when left out."""
    extras: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    tools: Literal["uv", "pip"] = "uv"
    build_env: tuple[str, ...] = ()
    """Variables that builds of sdists may see; part of the key."""
    salt: str = ""
    """Change it to force a new environment."""


class SourceSection(_Section, frozen=True, kw_only=True):
    """`[source]`"""

    exclude: tuple[str, ...] = ()


class AssetSection(_Section, frozen=True, kw_only=True):
    """One `[[assets]]` step"""

    name: str
    run: str
    """A shell command line; the environment's `bin` comes first on PATH."""
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...]
    env: dict[str, str] = {}
    timeout: Seconds = 1800.0


class DjangoSection(_Section, frozen=True, kw_only=True):
    """`[django]`, present by default where `manage.py` is"""

    settings: str = ""
    manage: str = "manage.py"
    collectstatic: bool = True
    compress: bool | Literal["auto"] = "auto"
    compilemessages: bool | Literal["auto"] = "auto"
    env: dict[str, str] = {}
    timeout: Seconds = 1800.0


class ProcessSection(_Section, frozen=True, kw_only=True):
    """One `[processes.NAME]`"""

    command: str
    listen: str = ""
    server: str = ""
    """Found from the command when left out."""
    health: str | Health | None = None
    instances: Count = 1
    stop_timeout: Seconds = 35.0


class MigrationsSection(_Section, frozen=True, kw_only=True):
    """`[migrations]`, for applications whose migrations are neither Django's nor Alembic's"""

    list: str = ""
    """Prints what is pending, one a line."""
    run: str = ""
    """Runs all of it."""


class GateSection(_Section, frozen=True, kw_only=True):
    """One `[store.gates.CHANNEL]`: what must be so before anything is promoted to it"""

    channel: str
    """The channel that the same digest must be good in."""
    hours: Annotated[float, msgspec.Meta(description="a number of hours", ge=0, le=8760)] = 0.0
    """For at least so long."""


class StoreSection(_Section, frozen=True, kw_only=True):
    """`[store]`"""

    url: str = ""
    """s3://BUCKET/PREFIX, https://… or the absolute path of a directory."""
    endpoint: str = ""
    """URL of an S3 server that is not AWS: MinIO, Ceph, R2, SeaweedFS…"""
    region: str = ""
    path_style: bool | Literal["auto"] = "auto"
    """https://endpoint/bucket instead of https://bucket.endpoint; "auto": with an endpoint."""
    checksums: Literal["auto", "when_supported", "when_required"] = "auto"
    """Whether S3 gets CRCs beside the signature; "auto": only AWS, some servers refuse them."""
    gates: dict[str, GateSection] = {}


class Config(_Section, frozen=True, kw_only=True):
    """A whole configuration."""

    name: str
    root: str = ""
    """The site on servers; `/srv/NAME` when left out."""
    python: PythonSection = PythonSection()
    requirements: RequirementsSection = RequirementsSection()
    source: SourceSection = SourceSection()
    assets: tuple[AssetSection, ...] = ()
    django: DjangoSection | None = None
    processes: dict[str, ProcessSection] = {}
    migrations: MigrationsSection | None = None
    install: Install = Install()
    store: StoreSection = StoreSection()


def load(project: Path, *, name: str = "", root: str = "") -> Config:
    """Return the complete configuration of a project: `root` and `[django]` are filled in.

    Args:
        project: the directory that holds `artifact.toml` or `pyproject.toml`, or neither.
        name: overrides the configured name, and the variable (`--name`).
        root: overrides the configured root, and the variable (`--root`).

    Raises:
        ConfigurationError: with a line for every problem, each beginning with the key's path.
    """
    label, prefix, document = _document(project)
    laid = overrides.lay_over(document, Config, variables.everything())
    for key, value in (("name", name), ("root", root)):
        if value:
            laid.document[key] = value
            laid.origins[(key,)] = f"--{key}"
    if "name" not in laid.document:
        raise _nameless(label)

    def placed(wrongs: Iterator[_Wrong]) -> list[str]:
        return [f"{_place(key, label, prefix, laid.origins)}: {text}" for key, text in wrongs]

    lines = [f"{variable}: {text}" for variable, text in laid.problems]
    fitting = schema.fit(laid.document, Config)
    lines += placed((problem.key, problem.text) for problem in fitting.problems)
    if not fitting.problems:
        lines += placed(_wrongs(fitting.value, project))
    if lines:
        raise ConfigurationError("\n".join(lines))
    assert isinstance(fitting.value, Config)
    return _completed(fitting.value, project)


def processes(config: Config) -> dict[str, Process]:
    """Return the processes as the manifest has them."""
    return {name: process(section) for name, section in sorted(config.processes.items())}


def migration_commands(config: Config) -> MigrationCommands | None:
    """Return the commands for migrations as the manifest has them."""
    section = config.migrations
    return MigrationCommands(list=section.list, run=section.run) if section else None


def process(section: ProcessSection) -> Process:
    """Return a process with its server found and its health check spelled out."""
    health = Health(path=section.health) if isinstance(section.health, str) else section.health
    return Process(
        command=section.command,
        listen=section.listen,
        server=section.server or checks.server(section.command),
        health=health,
        instances=section.instances,
        stop_timeout=section.stop_timeout,
    )


def in_pyproject(project: Path) -> object:
    """Return what stands in `[tool.artifact]` of `pyproject.toml`; None when nothing does."""
    path = project / "pyproject.toml"
    tables = read_toml(path).get("tool", {}) if path.is_file() else {}
    return tables.get("artifact") if isinstance(tables, dict) else None


def _document(project: Path) -> tuple[str, schema.Key, dict[str, Any]]:
    """Return the file's name, the key its tables stand under, and their content."""
    own, tool = project / FILE, in_pyproject(project)
    if tool is not None and own.is_file():
        raise ConfigurationError(
            f"{project} is configured twice: in {FILE} and in [tool.artifact] of pyproject.toml",
            hint="keep one of them",
        )
    if tool is None:
        return FILE, (), read_toml(own) if own.is_file() else {}
    if not isinstance(tool, dict):
        raise ConfigurationError("pyproject.toml: tool.artifact: expected a table")
    return "pyproject.toml", ("tool", "artifact"), tool


def _nameless(label: str) -> ConfigurationError:
    return ConfigurationError(
        f"{label}: name: is missing",
        hint=f"`artifact init` writes {FILE}; or give --name, or set ARTIFACT_NAME",
    )


def _place(key: schema.Key, label: str, prefix: schema.Key, origins: dict[schema.Key, str]) -> str:
    for length in range(len(key), 0, -1):
        if key[:length] in origins:
            return origins[key[:length]]
    return f"{label}: {schema.dotted((*prefix, *key))}"


def _completed(config: Config, project: Path) -> Config:
    django = config.django
    if django is None and (project / DjangoSection().manage).is_file():
        django = DjangoSection()
    return msgspec.structs.replace(config, root=config.root or f"/srv/{config.name}", django=django)


def _wrongs(config: Config, project: Path) -> Iterator[_Wrong]:
    """Yield what the types cannot say."""
    if not is_name(config.name):
        yield ("name",), f'{NAME_RULE}, got "{config.name}"'
    if config.root:
        yield from _checked(("root",), config.root, checks.root)
    if not config.python.interpreter.strip():
        yield ("python", "interpreter"), "expected a command or a path"
    for i, name in enumerate(config.requirements.build_env):
        yield from _checked(("requirements", "build-env", i), name, checks.variable)
    yield from _wrong_assets(config)
    if config.django is not None:
        yield from _wrong_django(config.django, project)
    yield from _wrong_processes(config)
    yield from _wrong_migrations(config.migrations)
    yield from _wrong_install(config.install)
    url = config.store.url
    if url and "://" not in url and not url.startswith("/"):
        yield ("store", "url"), "expected s3://…, https://… or the absolute path of a directory"
    for name, gate in config.store.gates.items():
        if not is_name(name) or not is_name(gate.channel) or gate.channel == name:
            yield ("store", "gates", name), f'expected two channels, got "{gate.channel}"'


def _checked(key: schema.Key, value: str, check: Callable[[str], str]) -> Iterator[_Wrong]:
    if wrong := check(value):
        yield key, f"{wrong}, got {schema.shown(value, key)}"


def _wrong_assets(config: Config) -> Iterator[_Wrong]:
    names = [step.name for step in config.assets]
    for i, step in enumerate(config.assets):
        if not is_name(step.name):
            yield ("assets", i, "name"), f'{NAME_RULE}, got "{step.name}"'
        elif step.name in names[:i]:
            yield ("assets", i, "name"), f'"{step.name}" is the name of an earlier step'
        elif step.name in STEPS_OF_DJANGO:
            yield ("assets", i, "name"), f'"{step.name}" is the name of a step of [django]'
        if not step.run.strip():
            yield ("assets", i, "run"), "expected a command"
        if not step.outputs:
            yield ("assets", i, "outputs"), "expected at least one pattern"
        for what in ("inputs", "outputs"):
            for j, pattern in enumerate(getattr(step, what)):
                yield from _checked(("assets", i, what, j), pattern, checks.inside)
        for name in step.env:
            yield from _checked(("assets", i, "env", name), name, checks.variable)


def _wrong_django(django: DjangoSection, project: Path) -> Iterator[_Wrong]:
    if django.settings:
        yield from _checked(("django", "settings"), django.settings, checks.module)
    for name in django.env:
        yield from _checked(("django", "env", name), name, checks.variable)
    if wrong := checks.inside(django.manage):
        yield ("django", "manage"), f'{wrong}, got "{django.manage}"'
    elif not (project / django.manage).is_file():
        yield ("django", "manage"), f"there is no file {project / django.manage}"


def _wrong_processes(config: Config) -> Iterator[_Wrong]:
    listening: dict[str, str] = {}
    for name, section in config.processes.items():
        key: schema.Key = ("processes", name)
        if not is_name(name):
            yield key, f'the name of a process: {NAME_RULE}, got "{name}"'
        yield from _checked((*key, "command"), section.command, checks.command)
        if section.server and section.server not in checks.SERVERS:
            yield (*key, "server"), _choice(checks.SERVERS, section.server)
        if section.health is not None:
            yield from _wrong_health((*key, "health"), section)
        if not section.listen:
            continue
        yield from _checked((*key, "listen"), section.listen, checks.listen)
        if section.listen in listening:
            yield (*key, "listen"), f"processes.{listening[section.listen]} listens there too"
        listening[section.listen] = name


def _wrong_health(key: schema.Key, section: ProcessSection) -> Iterator[_Wrong]:
    health = process(section).health
    assert health is not None
    if not section.listen:
        yield key, "a process that does not listen cannot be asked; add listen, or remove health"
    if not health.path.startswith("/") or not health.path.isprintable() or " " in health.path:
        yield key, f'expected a path like "/healthz", got {schema.shown(health.path, key)}'
    if not 0 < health.timeout <= 3600:
        yield (*key, "timeout"), f"expected a number of seconds, got {health.timeout:g}"
    if not health.status or not all(100 <= status <= 599 for status in health.status):
        yield (*key, "status"), "expected a list of HTTP statuses like [200, 204]"


def _wrong_migrations(section: MigrationsSection | None) -> Iterator[_Wrong]:
    if section is None:
        return
    for name in ("list", "run"):
        yield from _checked(("migrations", name), getattr(section, name), checks.command)


def _wrong_install(install: Install) -> Iterator[_Wrong]:
    for name, choices in _CHOICES.items():
        if getattr(install, name) not in choices:
            yield ("install", name), _choice(choices, getattr(install, name))
    if install.keep < 1:
        yield ("install", "keep"), f"expected a number from 1, got {install.keep}"
    for i, path in enumerate(install.shared):
        yield from _checked(("install", "shared", i), path, checks.shared)
        if path.rstrip("/") in [other.rstrip("/") for other in install.shared[:i]]:
            yield ("install", "shared", i), f'"{path}" is listed twice'


def _choice(choices: tuple[str, ...], got: str) -> str:
    return f"expected {schema.choices(choices)}, got {schema.shown(got, ())}"


def read_toml(path: Path) -> dict[str, Any]:
    """Return the content of a TOML file.

    Raises:
        ConfigurationError: it is not TOML, and where; or it cannot be read.
    """
    try:
        return tomllib.loads(path.read_text("utf-8-sig"))
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} is not TOML: {error}") from error
