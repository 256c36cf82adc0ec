"""From `artifact init` to a release that answers, under a supervisord of our own."""

from __future__ import annotations

import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from artifact.archive import opening
from artifact.host.processes import servers
from artifact.manifest import Manifest
from artifact.services.supervisor import Supervisor
from artifact.site import Site
from benchmarks import measuring, peers
from benchmarks.measuring import BenchFailed
from benchmarks.projects import Project
from benchmarks.workshop import Workshop, remove
from surroundings import supervisord
from surroundings.waiting import NotReady, free_port

_ANSWER_SECONDS = 30.0
_DATABASE = "db.sqlite3"


@dataclass(frozen=True, slots=True)
class Served:
    """An installed release that is asked for pages."""

    site: Path
    url: str

    def answers(self, path: str) -> bool:
        """Tell whether the path answers 200, soon after the install."""
        deadline = time.monotonic() + _ANSWER_SECONDS
        while True:
            try:
                with urllib.request.urlopen(self.url + path, timeout=10) as answer:
                    return bool(answer.status == 200)
            except urllib.error.HTTPError:
                return False
            except OSError:
                if time.monotonic() > deadline:
                    return False
                time.sleep(0.1)


@contextmanager
def served(shop: Workshop, project: Project) -> Iterator[Served]:
    """Initialise, build and install a project in a temporary site; nothing is edited but names.

    Raises:
        BenchFailed: a step did not work.
    """
    port = free_port()
    root = shop.path("serve", project.name, "site")
    remove(root)
    artifact = _build(shop, project, root, port)
    with _supervised(shop, project, artifact, root) as env:
        measuring.run([shop.artifact, "install", artifact], cwd=shop.work, env=env)
        yield Served(root, f"http://127.0.0.1:{port}")


def _build(shop: Workshop, project: Project, root: Path, port: int) -> Path:
    workspace = peers.checkout(shop, project, "serve")
    (workspace / "artifact.toml").unlink()
    env = shop.variables(shop.path("cache", "warm-artifact"))
    init = [shop.artifact, "init", "--name", f"bench-{project.name}"]
    measuring.run(init, cwd=workspace, env=env)
    output = shop.path("serve", project.name, "dist")
    argv = [
        shop.artifact,
        "build",
        "--version",
        "1",
        "--root",
        root,
        "--output",
        output,
    ]
    # Where it listens is a name, too: the port of the example may be taken.
    listen = {"ARTIFACT_PROCESSES_WEB_LISTEN": f"127.0.0.1:{port}"}
    return Path(measuring.run(argv, cwd=workspace, env=env | listen).strip())


@contextmanager
def _supervised(
    shop: Workshop, project: Project, artifact: Path, root: Path
) -> Iterator[dict[str, str]]:
    """Prepare the site and run a supervisord that knows its programs."""
    site = Site(root)
    with opening.open_artifact(artifact) as opened:
        manifest = opened.manifest
    programs = [
        Supervisor("").render_program(
            site,
            manifest,
            name,
            command=str(shop.artifact),
            slots=servers.takes_slots(process),
        )
        for name, process in manifest.processes.items()
    ]
    if not programs:
        raise BenchFailed(f"the artifact of ({project.name}) has no process to serve it")
    directory = shop.path("serve", project.name, "supervisor", "x").parent
    try:
        running = supervisord.start(directory, "\n".join(programs))
    except NotReady as error:
        raise BenchFailed(str(error)) from error
    try:
        root.mkdir(parents=True, exist_ok=True)
        site.settings.write_text(f'[supervisor]\nurl = "{running.url}"\n', encoding="utf-8")
        _make_database(shop, project, manifest, site)
        yield shop.variables(shop.path("cache", "none"))
    finally:
        supervisord.stop(running)


def _make_database(shop: Workshop, project: Project, manifest: Manifest, site: Site) -> None:
    """Create the database that a project has beside its code, as one does before a first install.

    It outlives releases, so the artifact only links to it; the environment was just compiled.
    """
    if _DATABASE not in manifest.install.shared:
        return
    python = site.environment(manifest.environment.key) / "bin" / "python"
    workspace = shop.path("workspaces", f"serve-{project.name}")
    env = shop.variables(shop.path("cache", "none"))
    measuring.run([python, "manage.py", "migrate", "--verbosity", "0"], cwd=workspace, env=env)
    site.shared.mkdir()
    (workspace / _DATABASE).rename(site.shared / _DATABASE)
