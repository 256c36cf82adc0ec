"""The configuration of a build: `artifact.toml`, or `[tool.artifact]` in `pyproject.toml`.

The example that `artifact init` writes documents every key, and `overrides` beside this module the
rule for environment variables.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from artifact import variables
from artifact.configuration import checks, schema, store_section, toml_document
from artifact.configuration.schema import KeyProblem
from artifact.configuration.store_section import StoreSection
from artifact.configuration.toml_document import Section, read_toml
from artifact.errors import ConfigurationError
from artifact.manifest import Health, Install, MigrationCommands, Process, Server, is_name

FILE = "artifact.toml"
NAME_RULE = "expected a small letter, then up to 31 of small letters, digits, _ and -"

# Django's own steps, whose names stand beside the declared ones in the manifest.
STEPS_OF_DJANGO = ("compilemessages", "collectstatic", "compress")

Tools = Literal["uv", "pip"]
Seconds = Annotated[float, msgspec.Meta(description="a number of seconds", gt=0, le=604_800)]
Count = Annotated[int, msgspec.Meta(description="a number from 1 to 1000", ge=1, le=1000)]


class PythonSection(Section, frozen=True, kw_only=True):
    """`[python]`"""

    interpreter: str = "python3"
    """A command on the build machine's PATH, or a path; servers must have the same one."""


class RequirementsSection(Section, frozen=True, kw_only=True):
    """`[requirements]`"""

    files: tuple[str, ...] = ()
    """Requirement files; the project's own are found when left out."""
    extras: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    tools: Tools = "uv"
    build_env: tuple[str, ...] = ()
    """Variables that builds of sdists may see; part of the key."""
    salt: str = ""
    """Change it to force a new environment."""


class SourceSection(Section, frozen=True, kw_only=True):
    """`[source]`"""

    exclude: tuple[str, ...] = ()


class AssetSection(Section, frozen=True, kw_only=True):
    """One `[[assets]]` step"""

    name: str
    run: str
    """A shell command line; the environment's `bin` comes first on PATH."""
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...]
    env: dict[str, str] = {}
    timeout: Seconds = 1800.0


class DjangoSection(Section, frozen=True, kw_only=True):
    """`[django]`, present by default where `manage.py` is"""

    settings: str = ""
    manage: str = "manage.py"
    collectstatic: bool = True
    compress: bool | Literal["auto"] = "auto"
    compilemessages: bool | Literal["auto"] = "auto"
    env: dict[str, str] = {}
    timeout: Seconds = 1800.0


class ProcessSection(Section, frozen=True, kw_only=True):
    """One `[processes.NAME]`"""

    command: str
    listen: str = ""
    server: Server | None = None
    """Found from the command when left out."""
    health: str | Health | None = None
    instances: Count = 1
    stop_timeout: Seconds = 35.0


class Config(Section, frozen=True, kw_only=True):
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
    migrations: MigrationCommands | None = None
    """For applications whose migrations are neither Django's nor Alembic's."""
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
    label, prefix, content = _document(project)
    if not (name or "name" in content or variables.get("ARTIFACT_NAME")):
        raise ConfigurationError(
            f"{label}: name: is missing",
            hint=f"`artifact init` writes {FILE}; or give --name, or set ARTIFACT_NAME",
        )
    config = toml_document.fit(
        content,
        Config,
        label=label,
        prefix=prefix,
        options={"name": name, "root": root},
        check=lambda config: _problems(config, project),
    )
    return _completed(config, project)


def processes(config: Config) -> dict[str, Process]:
    """Return the processes as the manifest has them."""
    return {name: process(section) for name, section in sorted(config.processes.items())}


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


def _completed(config: Config, project: Path) -> Config:
    django = config.django
    if django is None and (project / DjangoSection().manage).is_file():
        django = DjangoSection()
    return msgspec.structs.replace(config, root=config.root or f"/srv/{config.name}", django=django)


def _problems(config: Config, project: Path) -> Iterator[KeyProblem]:
    """Yield the problems that types cannot express."""
    if not is_name(config.name):
        yield KeyProblem(("name",), f'{NAME_RULE}, got "{config.name}"')
    if config.root:
        yield from _checked(("root",), config.root, checks.root)
    if not config.python.interpreter.strip():
        yield KeyProblem(("python", "interpreter"), "expected a command or a path")
    for i, name in enumerate(config.requirements.build_env):
        yield from _checked(("requirements", "build-env", i), name, checks.variable)
    yield from _asset_problems(config)
    if config.django is not None:
        yield from _django_problems(config.django, project)
    yield from _process_problems(config)
    yield from _migration_problems(config.migrations)
    yield from _install_problems(config.install)
    yield from store_section.problems(config.store)


def _checked(key: schema.Key, value: str, check: Callable[[str], str]) -> Iterator[KeyProblem]:
    if wrong := check(value):
        yield KeyProblem(key, f"{wrong}, got {schema.shown(value, key)}")


def _asset_problems(config: Config) -> Iterator[KeyProblem]:
    names = [step.name for step in config.assets]
    for i, step in enumerate(config.assets):
        if not is_name(step.name):
            yield KeyProblem(("assets", i, "name"), f'{NAME_RULE}, got "{step.name}"')
        elif step.name in names[:i]:
            yield KeyProblem(("assets", i, "name"), f'"{step.name}" is the name of an earlier step')
        elif step.name in STEPS_OF_DJANGO:
            yield KeyProblem(
                ("assets", i, "name"), f'"{step.name}" is the name of a step of [django]'
            )
        if not step.run.strip():
            yield KeyProblem(("assets", i, "run"), "expected a command")
        if not step.outputs:
            yield KeyProblem(("assets", i, "outputs"), "expected at least one pattern")
        for what in ("inputs", "outputs"):
            for j, pattern in enumerate(getattr(step, what)):
                yield from _checked(("assets", i, what, j), pattern, checks.inside)
        for name in step.env:
            yield from _checked(("assets", i, "env", name), name, checks.variable)


def _django_problems(django: DjangoSection, project: Path) -> Iterator[KeyProblem]:
    if django.settings:
        yield from _checked(("django", "settings"), django.settings, checks.module)
    for name in django.env:
        yield from _checked(("django", "env", name), name, checks.variable)
    if wrong := checks.inside(django.manage):
        yield KeyProblem(("django", "manage"), f'{wrong}, got "{django.manage}"')
    elif not (project / django.manage).is_file():
        yield KeyProblem(("django", "manage"), f"there is no file {project / django.manage}")


def _process_problems(config: Config) -> Iterator[KeyProblem]:
    listening: dict[str, str] = {}
    for name, section in config.processes.items():
        key: schema.Key = ("processes", name)
        if not is_name(name):
            yield KeyProblem(key, f'the name of a process: {NAME_RULE}, got "{name}"')
        yield from _checked((*key, "command"), section.command, checks.command)
        if section.health is not None:
            yield from _health_problems((*key, "health"), section)
        if not section.listen:
            continue
        yield from _checked((*key, "listen"), section.listen, checks.listen)
        if section.listen in listening:
            yield KeyProblem(
                (*key, "listen"), f"processes.{listening[section.listen]} listens there too"
            )
        listening[section.listen] = name


def _health_problems(key: schema.Key, section: ProcessSection) -> Iterator[KeyProblem]:
    health = process(section).health
    assert health is not None
    if not section.listen:
        yield KeyProblem(
            key, "a process that does not listen cannot be asked; add listen, or remove health"
        )
    if not health.path.startswith("/") or not health.path.isprintable() or " " in health.path:
        yield KeyProblem(
            key, f'expected a path like "/healthz", got {schema.shown(health.path, key)}'
        )
    if health.host and (wrong := checks.host(health.host)):
        yield KeyProblem((*key, "host"), f"{wrong}, got {schema.shown(health.host, key)}")
    if not 0 < health.timeout <= 3600:
        yield KeyProblem((*key, "timeout"), f"expected a number of seconds, got {health.timeout:g}")
    if not health.status or not all(100 <= status <= 599 for status in health.status):
        yield KeyProblem((*key, "status"), "expected a list of HTTP statuses like [200, 204]")


def _migration_problems(section: MigrationCommands | None) -> Iterator[KeyProblem]:
    if section is None:
        return
    for name in ("list", "run"):
        yield from _checked(("migrations", name), getattr(section, name), checks.command)


def _install_problems(install: Install) -> Iterator[KeyProblem]:
    for i, path in enumerate(install.shared):
        yield from _checked(("install", "shared", i), path, checks.shared)
        if path.rstrip("/") in [other.rstrip("/") for other in install.shared[:i]]:
            yield KeyProblem(("install", "shared", i), f'"{path}" is listed twice')
