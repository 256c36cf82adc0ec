"""The demo, in numbered phases; `scripts/demo` prepares the ground and starts it."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from artifact.archive import opening
from artifact.host.processes import servers
from artifact.services.supervisor import Supervisor
from artifact.site import Site
from demonstration import place as places
from demonstration import stopping
from demonstration.place import BIN, Place, Wrong
from demonstration.stopping import Stopped
from surroundings import repository, supervisord
from surroundings.supervisord import Supervisord

PROJECT = Path(__file__).resolve().parents[2] / "tests" / "projects" / "accounting"
LOAD = Path(__file__).with_name("load.py")
STYLE = "ledger/static/ledger/page.css"
BLUE, PURPLE = "--accent: #2b6cb0", "--accent: #b83280"
LOAD_BEFORE_SECONDS = 1.0
LOAD_AFTER_SECONDS = 1.0
_FAINT, _STRONG, _GOOD, _BAD = "2", "1", "32", "31"


@dataclass(slots=True)
class Demo:
    """What the phases share."""

    place: Place
    port: int
    environment: dict[str, str]
    supervisord: Supervisord | None = None
    phases: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def phase(self, title: str) -> None:
        self.phases += 1
        print(f"\n{paint(f'{self.phases}. {title}', _STRONG)}", flush=True)

    def run(self, command: str) -> str:
        """Run a shell command in the demo's directory; what it says goes to the terminal.

        Returns its stdout, without the last newline.
        """
        print(paint(f"   $ {command}", _FAINT), flush=True)
        child = None
        try:
            with stopping.later():
                child = subprocess.Popen(
                    ["bash", "-c", command],
                    cwd=self.place.directory,
                    env=self.environment,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    text=True,
                    start_new_session=True,
                )
            output, _ = child.communicate()
        except Stopped:
            # Asked to stop it takes back what it has begun; cleaning up waits for that.
            if child is not None:
                os.killpg(child.pid, signal.SIGTERM)
                child.communicate(timeout=places.STOP_SECONDS)
            raise
        if child.returncode != 0:
            raise Wrong(f"`{command}` exited with status {child.returncode}")
        return output.rstrip("\n")


def build(demo: Demo, version: str) -> Path:
    """Build the checkout and return the artifact's path."""
    began = time.monotonic()
    command = f"cd checkout && artifact build --version {version} --output ../artifacts"
    printed = demo.run(command)
    path = (demo.place.checkout / printed).resolve()
    if not path.is_file():
        raise Wrong(f"the build did not print the path of an artifact, but {printed!r}")
    say(f"{path.name}, {path.stat().st_size / 1e6:.1f} MB, in {time.monotonic() - began:.1f} s")
    return path


def check_out(demo: Demo) -> None:
    """Copy the sample project and make it a git repository of its own."""
    ignored = shutil.ignore_patterns("__pycache__", ".venv", "db.sqlite3", "staticfiles", "*.mo")
    shutil.copytree(PROJECT, demo.place.checkout, ignore=ignored)
    repository.create(demo.place.checkout)


def change(demo: Demo) -> None:
    """Change something everybody can see."""
    style = demo.place.checkout / STYLE
    text = style.read_text()
    if BLUE not in text:
        raise Wrong(f"{STYLE} has no {BLUE!r} to change")
    style.write_text(text.replace(BLUE, PURPLE))
    repository.commit(demo.place.checkout, "Purple")
    say("the accent colour: blue → purple")


def prepare_server(demo: Demo, artifact: Path) -> None:
    """Make the site's own files and start a supervisord that knows its programs."""
    site = Site(demo.place.site)
    site.root.mkdir(exist_ok=True)
    site.variables.touch(mode=0o600)
    site.variables.write_text(
        f"DJANGO_SETTINGS_MODULE=accounting.settings.production\n"
        f"SECRET_KEY={secrets.token_hex(32)}\nHTTPS=0\n"
    )
    with opening.open_artifact(artifact) as opened:
        manifest = opened.manifest
    programs = [
        Supervisor("").render_program(
            site,
            manifest,
            name,
            command=str(BIN / "artifact"),
            slots=servers.takes_slots(process),
        )
        for name, process in manifest.processes.items()
    ]
    with stopping.later():
        demo.supervisord = places.start_supervisord(demo.place, "\n".join(programs))
    site.settings.write_text(f'[supervisor]\nurl = "{demo.supervisord.url}"\n')
    say(f"supervisord (pid {demo.supervisord.pid}) runs {', '.join(manifest.processes)}: idle")


def make_database(demo: Demo) -> None:
    """Create the database once; it lives in shared/ and outlives every release."""
    manage = "cd site/releases/current && env $(cat ../../env) virtualenv/bin/python manage.py"
    demo.run(f"{manage} migrate --verbosity 0")
    demo.run(f"{manage} loaddata --verbosity 0 example")


def ask(demo: Demo, page: str) -> dict[str, Any]:
    """Return the JSON of a page."""
    with urllib.request.urlopen(demo.url + page, timeout=10) as answer:
        found: dict[str, Any] = json.load(answer)
        return found


def expect_version(demo: Demo, version: str) -> None:
    """Ask the application which release it is."""
    found = ask(demo, "/version")
    if found["version"] != version:
        raise Wrong(f"{demo.url}/version answers {found['version']}, expected {version}")
    say(f"{demo.url}/version answers {json.dumps(found)}")


@contextmanager
def visitors(demo: Demo) -> Iterator[list[dict[str, Any]]]:
    """Let visitors ask for pages during the block; the list then holds what they report."""
    reports: list[dict[str, Any]] = []
    child = None
    try:
        with stopping.later():
            # In a session of its own, for ^C is for the demo, which ends it.
            child = subprocess.Popen(
                [sys.executable, LOAD, demo.url],
                stdout=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
        yield reports
        child.terminate()
        output, _ = child.communicate(timeout=30)
        reports.append(json.loads(output))
    finally:
        if child is not None:
            child.kill()
            child.wait()


def install_under_load(demo: Demo, artifact: Path, old: str, new: str) -> None:
    """Switch while visitors ask, and judge what they saw."""
    say("five visitors ask without a pause: new connections, kept ones, two-second requests")
    with visitors(demo) as reports:
        time.sleep(LOAD_BEFORE_SECONDS)
        demo.run(f"artifact install --probation 5s artifacts/{artifact.name}")
        time.sleep(LOAD_AFTER_SECONDS)
    seen = reports[0]
    for failure in seen["failures"]:
        print(paint(f"   ! {failure}", _BAD))
    failed = paint(f"{seen['failed']} failed", _BAD if seen["failed"] else _GOOD)
    say(f"{seen['total']} requests in {seen['seconds']} s, {seen['slow']} of them slow: {failed}")
    say(f"p50 {seen['p50']} ms, p99 {seen['p99']} ms, max {seen['max']} ms (without the slow ones)")
    counts = ", ".join(f"{count} by {name}" for name, count in sorted(seen["versions"].items()))
    say(f"answered {counts}; {seen['reconnected']} kept connections were closed between requests")
    if seen["failed"]:
        raise Wrong(f"{seen['failed']} of {seen['total']} requests failed")
    if set(seen["versions"]) != {old, new}:
        raise Wrong(f"the visitors should have met {old} and {new}, but met {seen['versions']}")


def show(demo: Demo) -> None:
    """Show the site and, when it is kept, where to look."""
    print(demo.run("artifact status"), flush=True)


def play(demo: Demo) -> None:
    """Run all phases; raises Wrong at the first thing that is not as promised."""
    demo.phase("A Django project in git: a copy of tests/projects/accounting")
    check_out(demo)
    say(str(demo.place.checkout))
    demo.phase("Build it")
    first = build(demo, "1337")
    demo.phase("A server: supervisord of its own, an empty site")
    prepare_server(demo, first)
    demo.phase("Install the first release")
    demo.run(f"artifact install --probation 2s artifacts/{first.name}")
    make_database(demo)
    expect_version(demo, "1337")
    demo.phase("Change the project and build again: the environment is reused")
    change(demo)
    second = build(demo, "1338")
    demo.phase("Install the second release while visitors ask for pages")
    install_under_load(demo, second, "1337", "1338")
    expect_version(demo, "1338")
    demo.phase("What is there now")
    show(demo)


def start(found: Place) -> Demo:
    """Return a demo in a clean place, and say what its commands assume."""
    places.clean(found)
    port = places.free_port()
    own = {
        "ARTIFACT_ROOT": str(found.site),
        "ARTIFACT_PROCESSES_WEB_LISTEN": f"127.0.0.1:{port}",
    }
    path = f"{BIN}:{os.environ.get('PATH', os.defpath)}"
    print("The commands below run with")
    print(paint(f"   $ cd {found.directory}", _FAINT))
    print(paint(f"   $ export PATH={BIN}:$PATH", _FAINT))
    for name, value in own.items():
        print(paint(f"   $ export {name}={value}", _FAINT))
    return Demo(found, port, {**os.environ, **own, "PATH": path})


def finish(demo: Demo, *, keep: bool) -> None:
    """Leave it running or leave nothing but the cached environment."""
    assert demo.supervisord is not None
    if keep:
        places.keep(demo.place, demo.supervisord, demo.url)
        print(f"\nIt keeps serving: {demo.url}/  {demo.url}/version  {demo.url}/report.xml")
        print(f"The site is {demo.place.site}, its logs are in {demo.place.logs}.")
        print("scripts/demo --stop ends it and cleans up.")
    else:
        print(f"\n{demo.url}/ is gone now; `scripts/demo --keep` leaves it running to look around.")


def stop_kept(found: Place) -> None:
    """End a demo that was left running."""
    running = places.kept(found)
    if running is None:
        print("no demo is running")
    else:
        supervisord.stop(running[0])
        print(f"stopped what served at {running[1]}")
    places.clean(found)


def run(found: Place, *, keep: bool) -> None:
    """Play the demo and clean up, whatever happens."""
    if running := places.kept(found):
        raise Wrong(f"a demo already serves at {running[1]}: scripts/demo --stop ends it")
    demo = start(found)
    leave = False
    try:
        play(demo)
        finish(demo, keep=keep)
        leave = keep
    except Wrong:
        show_logs(demo)
        raise
    finally:
        if not leave:
            with stopping.never():
                if demo.supervisord is not None:
                    supervisord.stop(demo.supervisord)
                places.clean(found)


def show_logs(demo: Demo) -> None:
    """Print the end of every log before it is cleaned away."""
    for log in sorted(demo.place.logs.glob("*.log")):
        if log.is_file() and (lines := log.read_text(errors="replace").splitlines()):
            print(f"--- the end of {log.name}", file=sys.stderr)
            print("\n".join(lines[-15:]), file=sys.stderr)


def say(text: str) -> None:
    """Print one result."""
    print(f"   {text}", flush=True)


def paint(text: str, color: str) -> str:
    """Colour text on a terminal."""
    if not sys.stdout.isatty() or os.environ.get("NO_COLOR"):
        return text
    return f"\x1b[{color}m{text}\x1b[0m"


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="scripts/demo", description="Build, install, serve, switch under load."
    )
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--keep", action="store_true", help="leave it running")
    choice.add_argument("--stop", action="store_true", help="end one that was left running")
    options = parser.parse_args()

    stopping.raise_when_asked()
    found = places.place()
    try:
        with places.alone(found):
            if options.stop:
                stop_kept(found)
            else:
                run(found, keep=options.keep)
    except (Wrong, OSError) as error:
        print(f"{paint('error:', _BAD)} {error}", file=sys.stderr)
        return 1
    except Stopped as stopped:
        print(f"\nstopped by {stopped.name}; everything is cleaned up", file=sys.stderr)
        return stopped.code
    return 0


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        sys.exit(main())
