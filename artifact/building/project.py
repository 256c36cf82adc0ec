"""What a project is made of, as far as `artifact init` can tell by looking at its files."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from artifact import manifest
from artifact.building.assets import django
from artifact.building.locking import project_requirements
from artifact.configuration.artifact_toml import DjangoSection, RequirementsSection
from artifact.configuration.example import Table, Value
from artifact.configuration.toml_document import read_toml
from artifact.errors import ArtifactError

SERVER_REQUIREMENTS = "requirements-server.txt"
_REQUIREMENTS = (
    "requirements/production.txt", "requirements/prod.txt", "requirements/requirements.txt",
    "requirements/base.txt", "requirements-prod.txt", "requirements/common.txt",
)  # fmt: skip
_LARGEST_READ = 2_000_000

_DEMANDED = re.compile(
    r"""os\.environ\[\s*["'](\w+)["']\s*\]     # raises KeyError
      |\b(?:env|env\.str|config)\(\s*["'](\w+)["']\s*(?:,\s*cast[^)]*)?\)   # without a default
      |os\.(?:environ\.get|getenv)\(\s*["'](\w*SECRET\w*)["']\s*\)     # empty: refused by Django
    """,
    re.VERBOSE,
)
_STAR = re.compile(r"^\s*from\s+(\.*[\w.]*)\s+import\s+\*", re.MULTILINE)
_HEALTH = re.compile(r"""path\(\s*r?["'](\^?(?:healthz?|health[-_]check|livez|up)/?)\$?["']""")
_INCLUDED = re.compile(r"""path\(\s*["']["'],\s*include\(\s*["']([\w.]+)["']""")
_SQLITE = re.compile(
    r"""BASE_DIR\s*(?:/|,)\s*  # BASE_DIR / "db" / "shop.sqlite3", os.path.join(BASE_DIR, …)
        (?:["']([\w.-]+)["']\s*(?:/|,)\s*)?["']([\w.-]+\.sqlite3?)["']""",
    re.VERBOSE,
)
# Wagtail's template: what a server has of its own stands in a module that is not committed.
_LOCAL = re.compile(r"^\s*from\s+\.local\s+import\s+\*", re.MULTILINE)
_PLACEHOLDER = "only-for-the-build"


class Project(msgspec.Struct, frozen=True):
    """What was found."""

    name: str
    tables: tuple[Table, ...]
    """For the example."""
    found: tuple[str, ...]
    """A line for each thing, for people."""
    missing: tuple[str, ...]
    """What a build or a server will still need."""
    server_requirements: str
    """Text of a file to write beside the configuration; empty when none is needed."""


def detect(directory: Path, name: str) -> Project:
    """Look through a project's files; changes nothing and runs nothing."""
    return _Detection(directory.resolve(), name).project()


class _Detection:
    """Collects what is found."""

    def __init__(self, directory: Path, name: str) -> None:
        self.directory = directory
        self.name = name or _name(directory)
        self.found: list[str] = []
        self.missing: list[str] = []
        self.tables: list[Table] = [Table("", {"name": self.name})]
        self.server_requirements = ""
        manage = _manage(directory)
        self.section = DjangoSection(manage=manage) if manage else None
        self.settings = django.settings_module(directory, self.section) if self.section else ""
        self.base = (directory / manage).parent if manage else directory
        self.package = self.settings.partition(".")[0]
        self.sources = dict(_settings_sources(self.base, self.settings))
        self.requirements = _requirements(directory)
        self.required = _required(directory, self.requirements)

    def project(self) -> Project:
        self._interpreter()
        self._find_requirements()
        self._frontend()
        self._django()
        self._processes()
        self._install()
        return Project(
            self.name,
            tuple(table for table in self.tables if table.values),
            tuple(self.found),
            tuple(self.missing),
            self.server_requirements,
        )

    def _add(self, header: str, **values: Value) -> None:
        self.tables.append(
            Table(header, {key.replace("_", "-"): value for key, value in values.items()})
        )

    def _interpreter(self) -> None:
        for name, pattern in (
            (".python-version", r"^(?:cpython-)?(3\.\d+)"),
            ("runtime.txt", r"^python-(3\.\d+)"),
        ):
            found = re.search(pattern, _text(self.directory / name), re.MULTILINE)
            if found:
                self.found.append(f"Python {found[1]} ({name})")
                self._add("[python]", interpreter=f"python{found[1]}")
                return

    def _find_requirements(self) -> None:
        if not self.requirements:
            self.missing.append("a requirements.txt: nothing says what the application requires")
            return
        self.found.append(f"requirements in {', '.join(self.requirements)}")
        files = list(self.requirements)
        if self.section and not self.required & {"gunicorn", "uvicorn"}:
            pinned = files[0].endswith(".lock") or "--hash" in _text(self.directory / files[0])
            if pinned or "pylock" in files[0]:
                self.missing.append("a server among the requirements: gunicorn, for one")
            else:
                files.append(SERVER_REQUIREMENTS)
                self.server_requirements = (
                    "# The server that answers requests in production; `artifact init` wrote this\n"
                    "# because the project's own requirements have none.\n"
                    "gunicorn\n"
                )
                self.required = self.required | {"gunicorn"}
        if files != [_default_requirements(self.directory)]:
            self._add("[requirements]", files=files)

    def _frontend(self) -> None:
        for path in [self.directory, *_subdirectories(self.directory)]:
            build = _npm_build(path)
            if not build:
                continue
            below = "" if path == self.directory else f"{path.name}/"
            self.found.append(f"an npm build ({below}package.json)")
            where = f"cd {path.name} && " if below else ""
            output = "build" if "react-scripts" in build else "dist"
            if (path / output).is_dir():
                continue  # built already and part of the source: there is nothing to run
            inputs: dict[str, Value] = {"inputs": [f"{below}**"]} if below else {}
            self._add(
                "[[assets]]",
                name="frontend",
                run=f"{where}{_npm_command(path)}",
                outputs=[f"{below}{output}/**"],
                **inputs,
            )
            return

    def _django(self) -> None:
        if self.section is None:
            return
        values: dict[str, Value] = {}
        self.found.append(
            f"Django: {self.section.manage}, settings {self.settings or 'that manage.py chooses'}"
        )
        if self.settings:
            values["settings"] = self.settings
        if self.section.manage != "manage.py":
            values["manage"] = self.section.manage
        demanded = sorted(set(_demanded(self.sources.values())))
        if demanded:
            self.found.append(f"settings that ask the environment for {', '.join(demanded)}")
            values["env"] = {name: _placeholder(name) for name in demanded}
        self.tables.append(Table("[django]", values))

    def _processes(self) -> None:
        procfile = dict(_procfile(_text(self.directory / "Procfile")))
        web = procfile.get("web", "")
        below = "" if self.base == self.directory else self.base.name
        if not web and "gunicorn" in self.required and self._has("wsgi.py"):
            # A server starts at the release's top, and imports from there.
            where = f"--chdir {below} " if below else ""
            web = f"gunicorn {where}{self.package}.wsgi --workers 2"
        elif not web and "uvicorn" in self.required and self._has("asgi.py"):
            where = f"--app-dir {below} " if below else ""
            web = f"uvicorn {where}{self.package}.asgi:application --workers 2"
        if web:
            self.found.append(f"a web process: {web}")
            values: dict[str, Value] = {"command": web, "listen": "127.0.0.1:8000"}
            if health := self._health():
                values["health"] = health
            self.tables.append(Table("[processes.web]", values))
        worker = procfile.get("worker", "")
        if not worker and "celery" in self.required and self._has("celery.py"):
            where = f"--workdir {below} " if below else ""
            worker = f"celery {where}--app {self.package} worker --loglevel INFO"
        if worker:
            self.found.append(f"a worker: {worker}")
            self.tables.append(
                Table("[processes.worker]", {"command": worker, "stop-timeout": 300})
            )

    def _install(self) -> None:
        text = "\n".join(self.sources.values())
        below = f"{self.base.relative_to(self.directory).as_posix()}/".removeprefix("./")
        shared = []
        if "MEDIA_ROOT" in text or (self.base / "media").is_dir():
            shared.append(f"{below}media/")
        database = _SQLITE.search(text)
        if database and database[1]:
            shared.append(f"{below}{database[1]}/")
        elif database:
            shared.append(f"{below}{database[2]}")
            self.missing.append(
                f"the database {below}{database[2]} in the site's shared/ on the server, "
                "where all releases find it"
            )
        local = _LOCAL.search(text)
        if local and self.settings and "SECRET_KEY" not in text:
            package = self.settings.rpartition(".")[0].replace(".", "/")
            shared.append(f"{below}{package}/local.py")
            self.missing.append(
                f"{shared[-1]} with a SECRET_KEY in the site's shared/ on the server"
            )
        if (self.directory / ".env").is_file():
            shared.append(".env")
        if shared:
            self.found.append(f"what outlives a release: {', '.join(shared)}")
            self._add("[install]", shared=shared)

    def _has(self, module: str) -> bool:
        return bool(self.package) and (self.base / self.package / module).is_file()

    def _health(self) -> str:
        """Return the health path of the root URLs, or of what they include without a prefix."""
        root = _text(self.base / self.package / "urls.py")
        included = [name.replace(".", "/") for name in _INCLUDED.findall(root)]
        for text in (root, *(_text(self.base / f"{name}.py") for name in included)):
            if found := _HEALTH.search(text):
                return "/" + found[1].lstrip("^")
        return ""


def _name(directory: Path) -> str:
    """Return a name for the application: the project's, else the directory's, made to fit."""
    said = ""
    try:
        table = read_toml(directory / "pyproject.toml").get("project", {})
        said = str(table.get("name", "")) if isinstance(table, dict) else ""
    except ArtifactError:
        said = ""
    for text in (said, directory.name):
        fitted = re.sub(r"[^a-z0-9_-]+", "-", text.lower()).strip("-_").lstrip("0123456789-_")[:32]
        if manifest.is_name(fitted):
            return fitted
    return "application"


def _manage(directory: Path) -> str:
    if (directory / "manage.py").is_file():
        return "manage.py"
    below = [path for path in _subdirectories(directory) if (path / "manage.py").is_file()]
    return f"{below[0].name}/manage.py" if below else ""


def _subdirectories(directory: Path) -> list[Path]:
    return sorted(
        path
        for path in directory.iterdir()
        if path.is_dir()
        and not path.name.startswith(".")
        and path.name != "node_modules"
        and not (path / "pyvenv.cfg").exists()
    )


def _settings_sources(base: Path, module: str) -> Iterator[tuple[str, str]]:
    """Yield the text of a settings module, and of the modules it takes everything from."""
    pending, seen = [module], set[str]()
    while pending:
        name = pending.pop()
        path = base.joinpath(*name.split("."))
        file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        if not name or name in seen or not file.is_file():
            continue
        seen.add(name)
        text = _text(file)
        yield name, text
        package = name if path.is_dir() else name.rpartition(".")[0]
        for taken in _STAR.findall(text):
            dots = len(taken) - len(taken.lstrip("."))
            above = package.split(".")[: len(package.split(".")) - dots + 1] if dots else []
            pending.append(".".join([*above, taken.lstrip(".")]).strip("."))


def _demanded(texts: Iterable[str]) -> Iterator[str]:
    for text in texts:
        for match in _DEMANDED.finditer(text):
            yield next(group for group in match.groups() if group)


def _placeholder(name: str) -> str:
    return "sqlite:///only-for-the-build.sqlite3" if name.endswith("DATABASE_URL") else _PLACEHOLDER


def _default_requirements(directory: Path) -> str:
    try:
        return project_requirements.find(directory, RequirementsSection())[0].name
    except ArtifactError:
        return ""


def _requirements(directory: Path) -> list[str]:
    default = _default_requirements(directory)
    if default:
        return [default]
    below = [f"{path.name}/requirements.txt" for path in _subdirectories(directory)]
    return [name for name in (*_REQUIREMENTS, *below) if (directory / name).is_file()][:1]


def _required(directory: Path, names: list[str]) -> frozenset[str]:
    """Return which of the programs we know how to run are among the requirements."""
    texts = [_text(directory / name) for name in names]
    for text in list(texts):
        texts += [
            _text(directory / name) for name in re.findall(r"^-r\s*(\S+)", text, re.MULTILINE)
        ]
    known = re.compile(r"""^[\s"'-]*(?:name\s*=\s*")?(gunicorn|uvicorn|celery)\b""", re.MULTILINE)
    return frozenset(word for text in texts for word in known.findall(text.lower()))


def _npm_build(directory: Path) -> str:
    try:
        scripts = json.loads(_text(directory / "package.json") or "{}").get("scripts", {})
        return str(scripts.get("build", ""))
    except (ValueError, AttributeError):
        return ""


def _npm_command(directory: Path) -> str:
    if (directory / "pnpm-lock.yaml").is_file():
        return "pnpm install --frozen-lockfile && pnpm run build"
    if (directory / "yarn.lock").is_file():
        return "yarn install --frozen-lockfile && yarn run build"
    install = "npm ci" if (directory / "package-lock.json").is_file() else "npm install"
    return f"{install} && npm run build"


def _procfile(text: str) -> Iterator[tuple[str, str]]:
    """Yield the processes of a Procfile that need no shell; where they listen is ours to say."""
    for line in text.splitlines():
        name, colon, command = line.partition(":")
        command = re.sub(r"\s(?:-b|--bind)[=\s]\S+", "", command.strip())
        if colon and not set("$|&;<>") & set(command):
            yield name.strip(), command


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > _LARGEST_READ:
            return ""
        return path.read_text("utf-8", "replace")
    except OSError:
        return ""
