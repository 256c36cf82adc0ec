"""A server for tests: a real supervisord, real gunicorn, artifacts of a tiny application."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from artifact import manifest
from artifact.archive import writer
from artifact.archive.grouping import Entry
from artifact.archive.packed import Packed
from artifact.host.processes import servers
from artifact.manifest import Health, Install, Manifest, Process
from artifact.services.process_manager import Member
from artifact.services.supervisor import Supervisor
from artifact.site import Site
from surroundings import supervisord
from surroundings.supervisord import Supervisord
from surroundings.waiting import free_port
from tests.cli import schemas

ARTIFACT = str(Path(sys.executable).with_name("artifact"))
NAME = "pages"
GUNICORN = "27.0.1"
UVICORN = "0.48.0"

APPLICATION = """
import os, time

VERSION = "{version}"

def application(environ, start_response):
    path = environ["PATH_INFO"]
    status, body = "200 OK", VERSION
    if path == "/healthz":
        status = "{health}"
    elif path == "/slow":
        time.sleep(0.5)
    elif path == "/lazy":
        import lazy
        body = lazy.VERSION
    elif path == "/environ":
        body = "\\n".join(f"{{k}}={{v}}" for k, v in sorted(os.environ.items()))
    elif path == "/where":
        body = os.getcwd()
    start_response(status, [("Content-Type", "text/plain")])
    return [body.encode()]

async def asgi(scope, receive, send):
    if scope["type"] != "http":
        return
    await send({{"type": "http.response.start", "status": 200, "headers": []}})
    await send({{"type": "http.response.body", "body": VERSION.encode()}})
"""


@dataclass(frozen=True)
class Environment:
    """A real virtualenv with the servers in it, packed once for all tests."""

    path: Path
    packed: Packed
    python: manifest.Python


def open_interpreter() -> str:
    """Return a Python that every user can run: ours may be in a directory that is root's own."""
    for place in (os.path.realpath(sys.executable), "/usr/local/bin/python3", "/usr/bin/python3"):
        path = Path(place).resolve()
        if path.exists() and all(one.stat().st_mode & 0o1 for one in path.parents):
            return str(path)
    raise AssertionError("no Python that all can run: apt-get install python3")


def make_environment(directory: Path, *packages: str, interpreter: str = "") -> Environment:
    """Create one with the servers, or with these packages; needs PyPI, or uv's cache of it."""
    path = directory / "environment"
    uv = str(Path(sys.executable).with_name("uv"))
    interpreter = interpreter or os.path.realpath(sys.executable)
    make = [uv, "venv", "--quiet", "--python", interpreter, str(path)]
    subprocess.run(make, check=True, capture_output=True)
    install = [uv, "pip", "install", "--quiet", "--python", str(path / "bin/python")]
    wanted = packages or (f"gunicorn=={GUNICORN}", f"uvicorn=={UVICORN}")
    subprocess.run([*install, *wanted], check=True, capture_output=True)
    found = os.readlink(path / "bin/python")
    entries = entries_of(path, "virtualenv/")
    sink = directory / "environment.pack"
    packed = writer.pack(entries, sink, name="venv")
    probe = (
        "import platform, sysconfig;"
        "print(platform.python_version(), sysconfig.get_config_var('SOABI'))"
    )
    answer = subprocess.run([found, "-c", probe], check=True, capture_output=True, text=True)
    version, abi = answer.stdout.split()
    python = manifest.Python(
        implementation="cpython",
        version=version,
        abi=abi,
        platform=f"linux-{os.uname().machine}",
        interpreter=found,
        glibc="2.2",
    )
    return Environment(path, packed, python)


def entries_of(root: Path, prefix: str = "") -> list[Entry]:
    """Return everything in a tree as entries of a component."""
    entries = []
    for parent, directories, names in os.walk(root):
        for name in [*directories, *names]:
            path = Path(parent, name)
            relative = prefix + str(path.relative_to(root))
            if path.is_symlink():
                entries.append(Entry(relative, "link", target=os.readlink(path)))
            elif path.is_dir():
                entries.append(Entry(relative, "directory"))
            else:
                entries.append(Entry(relative, "file", mode=path.stat().st_mode, source=path))
    return entries


@dataclass
class Machine:
    """A directory with a site, a supervisord that may run, and the artifacts built for it."""

    directory: Path
    environment: Environment
    port: int = field(default_factory=free_port)
    url: str = ""
    root: Path | None = None
    """Of the site, where it is not below the directory."""
    _supervisord: Supervisord | None = None

    @property
    def site(self) -> Site:
        return Site(self.root or self.directory / "site")

    def web(self, command: str = "python -m gunicorn app:application --workers 2") -> Process:
        return Process(
            command=command,
            listen=f"127.0.0.1:{self.port}",
            server="uvicorn" if "uvicorn" in command else "gunicorn",
            health=Health(path="/healthz", timeout=20),
            stop_timeout=10,
        )

    def build(
        self,
        version: str,
        *,
        health: str = "200 OK",
        files: Mapping[str, str] | None = None,
        processes: Mapping[str, Process] | None = None,
        install: Install | None = None,
        sign: Callable[[bytes], bytes] | None = None,
        **changes: object,
    ) -> Path:
        """Write an artifact of the application and return its path."""
        code = self.directory / f"code-{version}"
        shutil.rmtree(code, ignore_errors=True)
        code.mkdir(parents=True)
        (code / "app.py").write_text(APPLICATION.format(version=version, health=health))
        (code / "lazy.py").write_text(f'VERSION = "{version}"\n')
        for name, content in (files or {}).items():
            (code / name).parent.mkdir(parents=True, exist_ok=True)
            (code / name).write_text(content)
        packed = [
            self.environment.packed,
            writer.pack(entries_of(code), self.directory / "code.pack", name="code"),
        ]

        def describe(components: tuple[manifest.Component, ...]) -> Manifest:
            described = Manifest(
                name=NAME,
                version=version,
                sequence=1,
                created=1_700_000_000,
                source=manifest.Source(),
                root=str(self.site.root),
                python=self.environment.python,
                environment=manifest.Environment(
                    key="e" * 32, packages={"gunicorn": GUNICORN, "uvicorn": UVICORN}
                ),
                codec=self.environment.packed.codec,
                components=components,
                processes=dict(processes if processes is not None else {"web": self.web()}),
                install=install or Install(),
            )
            return msgspec.structs.replace(described, **changes)

        path = self.directory / f"{NAME}-{version}.tgz"
        writer.write(path, packed, describe, lambda _event: None, sign)
        return path

    def start_supervisord(
        self, processes: Mapping[str, Process] | None = None, *, slots: bool = True, extra: str = ""
    ) -> None:
        """Start supervisord with the programs of these processes, or of the web server alone."""
        chosen = dict(processes if processes is not None else {"web": self.web()})
        described = _manifest_for(chosen)
        programs = "\n".join(
            Supervisor(self.url).render_program(
                self.site,
                described,
                name,
                command=ARTIFACT,
                slots=slots and servers.side_by_side(process),
            )
            for name, process in chosen.items()
        )
        self._supervisord = supervisord.start(self.directory, f"{programs}\n{extra}")
        self.url = self._supervisord.url

    def kill_supervisord(self) -> list[int]:
        """Kill supervisord alone, as a machine without memory does; return what it leaves."""
        assert self._supervisord is not None
        left = [member.pid for member in self.members().values() if member.pid]
        supervisord.kill_alone(self._supervisord)
        return left

    def stop_supervisord(self) -> None:
        if self._supervisord is not None:
            supervisord.kill(self._supervisord)
            self._supervisord = None

    def variables(self) -> dict[str, str]:
        url = self.url or f"unix://{self.directory}/none"
        return {**os.environ, "ARTIFACT_SUPERVISOR_URL": url}

    def popen(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [ARTIFACT, *arguments],
            env=self.variables(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        child = self.popen(*arguments)
        output, errors = child.communicate(timeout=90)
        schemas.check_answer(arguments, output, child.returncode)
        return subprocess.CompletedProcess(arguments, child.returncode, output, errors)

    def install(self, path: Path, *options: str) -> subprocess.CompletedProcess[str]:
        return self.run("install", str(path), "--probation", "0s", *options)

    def get(self, path: str = "/") -> str:
        """Ask the public address as a visitor does."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as answer:
            body: bytes = answer.read()
            return body.decode()

    def members(self) -> dict[str, Member]:
        return {member.name: member for member in Supervisor(self.url).members()}

    def leftovers(self) -> list[str]:
        """Return what only an unfinished run leaves behind."""
        private = self.site.private
        found = [*private.glob("staging/*"), *private.glob("trash/*"), *private.glob(".*.new")]
        found += [*self.site.releases.glob(".*"), *self.site.environments.glob(".*")]
        return [str(path) for path in found]


def _manifest_for(processes: dict[str, Process]) -> Manifest:
    return Manifest(
        name=NAME,
        version="0",
        sequence=0,
        created=0,
        source=manifest.Source(),
        root="/",
        python=manifest.Python(
            implementation="", version="", abi="", platform="", interpreter="/x"
        ),
        environment=manifest.Environment(key=""),
        codec=manifest.Codec(name="", version="", level=0),
        components=(),
        processes=processes,
    )


@dataclass
class Load:
    """What visitors got while it ran."""

    bodies: dict[str, int] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)


@contextmanager
def load(machine: Machine, *paths: str, threads: int = 6, pause: float = 0.01) -> Iterator[Load]:
    """Have visitors ask all the time, each request on a fresh connection, and count.

    Args:
        pause: seconds a visitor waits after an answer, so that the machine has time for others.
    """
    seen, done, lock = Load(), threading.Event(), threading.Lock()

    def visit(path: str) -> None:
        while not done.is_set():
            try:
                body = machine.get(path)
            except Exception as error:
                with lock:
                    seen.failures.append(f"{path}: {error!r}")
            else:
                with lock:
                    seen.bodies[body] = seen.bodies.get(body, 0) + 1
            time.sleep(pause)

    chosen = paths or ("/",)
    visitors = [
        threading.Thread(target=visit, args=(chosen[number % len(chosen)],))
        for number in range(threads)
    ]
    for visitor in visitors:
        visitor.start()
    try:
        yield seen
    finally:
        done.set()
        for visitor in visitors:
            visitor.join()


def stop_with(child: subprocess.Popen[str], number: signal.Signals) -> tuple[int, str]:
    """Send a signal and return how the child ended and what it said."""
    child.send_signal(number)
    _, errors = child.communicate(timeout=60)
    return child.returncode, errors
