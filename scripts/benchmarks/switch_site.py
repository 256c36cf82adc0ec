"""What `scripts/bench switch` switches: the releases of an application, and their server."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

from artifact import process
from artifact.archive import opening
from artifact.host.processes import health, servers
from artifact.host.records import releases, state
from artifact.manifest import Health
from artifact.services.supervisor import Supervisor
from artifact.site import Site
from benchmarks import measuring
from benchmarks.measuring import BenchFailed
from benchmarks.switch_application import (
    APPLICATION,
    CONFIGURATION,
    HAPROXY,
    NGINX,
    REQUIREMENTS,
)
from benchmarks.workshop import Workshop, remove
from surroundings import nginx, repository, supervisord
from surroundings.waiting import NotReady, free_port

NAME = "pages"
_START_SECONDS = 30.0
_WAITED = re.compile(r"^waited ([0-9.]+) s until", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Server:
    """An application server and how it is started."""

    title: str
    command: str
    plain: str
    """The same below a plain supervisor program, which has to bind its address itself."""


SERVERS = {
    "sync": Server(
        "gunicorn sync",
        "gunicorn app:application --workers 4",
        "gunicorn app:application --workers 4 --bind 127.0.0.1:{port}",
    ),
    "gthread": Server(
        "gunicorn gthread",
        "gunicorn app:application --workers 2 --threads 8",
        "gunicorn app:application --workers 2 --threads 8 --bind 127.0.0.1:{port}",
    ),
    "uvicorn": Server(
        "uvicorn",
        "uvicorn app:asgi --workers 2 --no-access-log",
        "uvicorn app:asgi --workers 2 --no-access-log --host 127.0.0.1 --port {port}",
    ),
}


@dataclass(frozen=True, slots=True)
class Command:
    """An `artifact` that was run."""

    began: float
    ended: float
    """Both by the machine's monotonic clock, as the visitors have it."""
    status: int
    said: str

    @property
    def waited(self) -> float:
        """Seconds it says it waited."""
        return sum(map(float, _WAITED.findall(self.said)))


@dataclass(frozen=True, slots=True)
class Host:
    """A site under a supervisord of its own, with nginx and HAProxy before it."""

    shop: Workshop
    server: Server
    site: Site
    dist: Path
    checkout: Path
    port: int
    proxy: int
    """Port of nginx before the site."""
    plain: int
    """Port of the plain program."""
    plain_proxy: int
    haproxy: int
    """Port of HAProxy before the site."""
    plain_haproxy: int
    url: str = ""

    def build(self, version: str, manner: str = "good") -> Path:
        """Build a release: "good", or one that misbehaves as `switch_application` says."""
        (self.checkout / "manner.py").write_text(f'MANNER = "{manner}"\n', encoding="utf-8")
        argv = [self.shop.artifact, "build", "--version", version, "--root", self.site.root]
        env = self._variables() | {
            "ARTIFACT_PROCESSES_WEB_COMMAND": self.server.command,
            "ARTIFACT_PROCESSES_WEB_LISTEN": f"127.0.0.1:{self.port}",
        }
        words = [*argv, "--output", self.dist]
        return Path(measuring.run(words, cwd=self.checkout, env=env).strip())

    def install(self, artifact: Path) -> Command:
        return self.run("install", artifact, "--probation", "1s")

    def rollback(self) -> Command:
        return self.run("rollback", self.site.root, "--probation", "1s")

    def run(self, *words: str | Path) -> Command:
        """Run an `artifact` to its end, however it ends."""
        began = time.monotonic()
        done = subprocess.run(
            [self.shop.artifact, *words],
            env=self._variables() | {"ARTIFACT_SUPERVISOR_URL": self.url},
            capture_output=True,
            text=True,
            timeout=300,
        )
        return Command(began, time.monotonic(), done.returncode, done.stderr)

    def install_killing_its_trial(self, artifact: Path) -> Command:
        """Install while the small server on which a release is tried is killed by somebody."""
        word = self.site.running("web", "trial")
        word.unlink(missing_ok=True)
        child = subprocess.Popen(
            [self.shop.artifact, "install", artifact, "--probation", "1s"],
            env=self._variables() | {"ARTIFACT_SUPERVISOR_URL": self.url},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        began = time.monotonic()
        while child.poll() is None:
            found = state.read_running(word)
            if found is not None:
                with suppress(ProcessLookupError):
                    os.kill(found.pid, signal.SIGKILL)
                break
            time.sleep(0.002)
        _, said = child.communicate(timeout=300)
        return Command(began, time.monotonic(), child.returncode, said)

    def kill_the_live_one(self) -> None:
        """SIGKILL the master of the live slot, and wait until supervisor has another."""
        live = releases.live_version(self.site)
        slot = state.read(self.site.state).slot_of("web", live)
        name = f"{NAME}-web:slot_{slot}"
        pid = Supervisor(self.url).member(name).pid
        os.kill(pid, signal.SIGKILL)
        deadline = time.monotonic() + _START_SECONDS
        while True:
            member = Supervisor(self.url).member(name)
            if member.state == "RUNNING" and member.pid != pid:
                return
            if time.monotonic() > deadline:
                raise BenchFailed(f"{name} is {member.state} after it was killed")
            time.sleep(0.05)

    def start_plain(self) -> None:
        """Start the plain program, and wait until it answers."""
        Supervisor(self.url).start("plain:plain")
        wish = Health(path="/healthz")
        deadline = time.monotonic() + _START_SECONDS
        while not (answer := health.ask(f"127.0.0.1:{self.plain}", wish)).ok:
            if time.monotonic() > deadline:
                raise BenchFailed(f"the plain program does not answer: {answer.text}")
            time.sleep(0.05)

    def restart_plainly(self) -> Command:
        """Do what everybody does."""
        words = [
            str(Path(sys.executable).with_name("supervisorctl")),
            "-s",
            self.url,
            "restart",
            "plain",
        ]
        began = time.monotonic()
        done = subprocess.run(words, capture_output=True, text=True, timeout=120)
        return Command(began, time.monotonic(), done.returncode, done.stdout)

    def last_steps(self) -> dict[str, float]:
        """Return the seconds of each step of the last run."""
        found: dict[str, float] = {}
        for line in self.site.journal.read_text(encoding="utf-8").splitlines():
            event = json.loads(line)
            if event["event"] == "began":
                found.clear()
            if event["event"] == "ended":
                found[event["step"]] = event.get("seconds", 0.0)
        return found

    def _variables(self) -> dict[str, str]:
        return self.shop.variables(self.shop.path("cache", "switch"))


def versions() -> list[str]:
    """Return the servers with their versions."""
    wanted = REQUIREMENTS.replace("==", " ").split("\n")
    haproxy = subprocess.run(
        [process.in_sbin("haproxy"), "-v"], capture_output=True, text=True, check=True
    )
    ours = f"supervisor {version('supervisor')}"
    proxies = nginx.version(), f"HAProxy {haproxy.stdout.split()[2]}"
    return [*filter(None, wanted), ours, *proxies]


@contextmanager
def opened(shop: Workshop, name: str) -> Iterator[Host]:
    """Make a host for one of the servers; nothing is installed on it yet.

    Raises:
        BenchFailed: something does not start.
    """
    ports: set[int] = set()
    while len(ports) < 6:
        ports.add(free_port())
    port, proxy, plain, plain_proxy, haproxy, plain_haproxy = ports
    root = shop.path("switch", name, "site")
    remove(root, shop.path("switch", name, "dist"))
    host = Host(
        shop,
        SERVERS[name],
        Site(root),
        shop.path("switch", name, "dist"),
        _checkout(shop, shop.path("switch", name, "checkout")),
        port,
        proxy,
        plain,
        plain_proxy,
        haproxy,
        plain_haproxy,
    )
    directory = shop.path("switch", name, "supervisor", "x").parent
    try:
        running = supervisord.start(directory, _programs(host, directory))
    except NotReady as error:
        raise BenchFailed(str(error)) from error
    try:
        yield replace(host, url=running.url)
    finally:
        supervisord.stop(running)


def _checkout(shop: Workshop, directory: Path) -> Path:
    remove(directory)
    directory.mkdir(parents=True)
    (directory / "app.py").write_text(APPLICATION, encoding="utf-8")
    (directory / "manner.py").write_text('MANNER = "good"\n', encoding="utf-8")
    (directory / "artifact.toml").write_text(CONFIGURATION.format(name=NAME), encoding="utf-8")
    (directory / "requirements.in").write_text(REQUIREMENTS, encoding="utf-8")
    env = shop.variables(shop.path("cache", "switch"))
    measuring.run([shop.artifact, "lock"], cwd=directory, env=env)
    repository.create(directory)
    return directory


def _programs(host: Host, directory: Path) -> str:
    """Return the program of the site, as `artifact setup` writes it, a plain one, and proxies."""
    with opening.open_artifact(host.build("0")) as opened_artifact:
        manifest = opened_artifact.manifest
    assert servers.takes_slots(manifest.processes["web"])
    program = Supervisor("").render_program(
        host.site, manifest, "web", command=str(host.shop.artifact), slots=True
    )
    addresses = {"site": host.port, "proxy": host.proxy}
    addresses |= {"plain": host.plain, "plain_proxy": host.plain_proxy}
    addresses |= {"haproxy": host.haproxy, "plain_haproxy": host.plain_haproxy}
    haproxy = directory / "haproxy.cfg"
    main = nginx.configure(directory / "nginx", NGINX.format(**addresses))
    haproxy.write_text(HAPROXY.format(**addresses), encoding="utf-8")
    plain = host.server.plain.format(port=host.plain)
    return f"""{program}
[program:plain]
command = {host.site.default_environment}/bin/{plain}
directory = {host.site.current}
environment = PYTHONDONTWRITEBYTECODE="1"
autostart = false
redirect_stderr = true

[program:nginx]
command = {" ".join(nginx.command(main))}
redirect_stderr = true

[program:haproxy]
command = {process.in_sbin("haproxy")} -db -f {haproxy}
redirect_stderr = true
"""


@contextmanager
def visited(port: int) -> Iterator[list[tuple[float, float, str, str]]]:
    """Have visitors ask during the block; the list is filled when it ends.

    Raises:
        BenchFailed: the visitors themselves failed.
    """
    load = Path(__file__).with_name("switch_load.py")
    child = subprocess.Popen(
        [sys.executable, load, f"127.0.0.1:{port}"], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    child.stdout.readline()
    found: list[tuple[float, float, str, str]] = []
    try:
        yield found
    finally:
        child.terminate()
        output, _ = child.communicate(timeout=60)
        if child.returncode != 0:
            raise BenchFailed(f"the visitors ended with {child.returncode}")
        found += [(one[0], one[1], one[2], one[3]) for one in json.loads(output)]
