"""Switches under a load that counts every lost request; `scripts/bench switch` is the long one."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec
import pytest

from artifact.host.records import releases, state
from artifact.manifest import Environment, Process
from benchmarks import switch_load
from benchmarks.switch_application import APPLICATION, NGINX
from surroundings import nginx
from surroundings.waiting import await_, free_port
from tests.host.machine import GUNICORN, UVICORN, Machine

LATE = """
import os, sys, time

def application(environ, start_response):
    body = os.environ["ARTIFACT_VERSION"]
    if environ["PATH_INFO"] == "/late":
        open({began!r}, "w").close()
        while not os.path.exists({go!r}):
            time.sleep(0.02)
        import lazy, uvicorn
        body = f"{{lazy.VERSION}} {{lazy.__file__}} {{uvicorn.__file__}}"
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [body.encode()]
"""


class Visits:
    """What the visitors of one address tell when they are gone."""

    def __init__(self) -> None:
        self.requests: list[switch_load.Request] = []

    @property
    def lost(self) -> Counter[str]:
        return Counter(f"{one.kind}: {one.error}" for one in self.requests if one.error)


@contextmanager
def visited(port: int) -> Iterator[Visits]:
    argv = [sys.executable, str(switch_load.__file__), f"127.0.0.1:{port}"]
    child = subprocess.Popen(
        [*argv, "--quick", "10", "--slow", "2"], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    visits = Visits()
    try:
        yield visits
    finally:
        child.terminate()
        output, _ = child.communicate(timeout=60)
        visits.requests += [switch_load.Request(*one) for one in json.loads(output)]


@contextmanager
def kept_open(machine: Machine) -> Iterator[int]:
    """Run nginx before the machine's port, with connections kept open, and yield its own port."""
    proxy = free_port()
    ports = {"site": machine.port, "plain": machine.port}
    ports |= {"proxy": proxy, "plain_proxy": free_port()}
    main = nginx.configure(machine.directory / "nginx", NGINX.format(**ports))
    with nginx.running(main, proxy):
        yield proxy


def release(machine: Machine, version: str, web: Process, manner: str = "good") -> Path:
    files = {"app.py": APPLICATION, "manner.py": f"MANNER = {manner!r}\n"}
    return machine.build(version, processes={"web": web}, files=files)


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [
        "python -m gunicorn app:application --workers 6",
        "python -m gunicorn app:application --workers 2 --threads 8",
        "python -m uvicorn app:asgi --workers 2 --no-access-log",
    ],
    ids=["sync", "gthread", "uvicorn"],
)
def test_no_request_is_lost_directly_or_through_nginx(machine: Machine, command: str) -> None:
    web = machine.web(command)
    machine.start_supervisord({"web": web})
    assert machine.install(release(machine, "1", web)).returncode == 0
    with ExitStack() as stack:
        proxy = stack.enter_context(kept_open(machine))
        addresses = (machine.port, proxy)
        visits = [stack.enter_context(visited(port)) for port in addresses]
        assert machine.install(release(machine, "2", web)).returncode == 0
        refused = machine.install(release(machine, "3", web, "does not import"))
        assert refused.returncode == 5, refused.stderr
        back = machine.run("rollback", str(machine.site.root), "--probation", "0s")
        assert back.returncode == 0, back.stderr
        kill_the_live_one(machine)
        await_("an answer of the new master", lambda: machine.get().startswith("1 "))
    for found in visits:
        assert not found.lost
        # Each kind of visitor was there, and answered all the time.
        assert {one.kind for one in found.requests} == {
            kind.name for kind in (*switch_load.QUICK, *switch_load.SLOW)
        }


def kill_the_live_one(machine: Machine) -> None:
    """SIGKILL the master of the live slot, and wait until supervisor has started another."""
    slot = state.read(machine.site.state).slot_of("web", releases.live_version(machine.site))
    name = f"pages-web:slot_{slot}"
    pid = machine.members()[name].pid
    subprocess.run(["kill", "-KILL", str(pid)], check=True)
    await_("another master", lambda: machine.members()[name].pid not in {0, pid})


def test_an_old_worker_that_imports_late_gets_its_own_release_and_environment(
    machine: Machine,
) -> None:
    began, go = machine.directory / "began", machine.directory / "go"
    late = {"app.py": LATE.format(began=str(began), go=str(go))}
    # The request takes as long as this machine needs for the switch.
    web = {"web": msgspec.structs.replace(machine.web(), stop_timeout=60)}
    machine.start_supervisord(web)
    assert machine.install(machine.build("1", files=late, processes=web)).returncode == 0
    answers: list[str] = []

    def visit() -> None:
        url = f"http://127.0.0.1:{machine.port}/late"
        with urllib.request.urlopen(url, timeout=60) as answer:
            answers.append(answer.read().decode())

    visitor = threading.Thread(target=visit)
    visitor.start()
    await_("the request", began.exists)
    other = Environment(key="f" * 32, packages={"gunicorn": GUNICORN, "uvicorn": UVICORN})
    newer = machine.build("2", files=late, environment=other, processes=web)
    install = machine.popen("install", str(newer), "--probation", "0s")
    await_("the switch", lambda: releases.live_version(machine.site) == "2")
    await_("a visitor of the new one", lambda: machine.get() == "2")
    go.touch()
    visitor.join()
    _, said = install.communicate(timeout=60)
    assert install.returncode == 0, said
    version, module, dependency = answers[0].split()
    assert version == "1"
    assert Path(module) == machine.site.release("1") / "lazy.py"
    assert Path(dependency).is_relative_to(machine.site.environment("e" * 32))
    # It was waited for, and that is said.
    assert "s until pages-web:slot_0 finished its requests and ended" in said


def test_the_old_uvicorn_stays_until_the_new_one_accepts(machine: Machine) -> None:
    """Else whoever comes while a large application is imported waits for it."""
    web = {"web": machine.web("python -m uvicorn app:asgi")}
    slow = "import time\ntime.sleep(4)\n" + APPLICATION
    files = {"app.py": slow, "manner.py": "MANNER = 'good'\n"}
    machine.start_supervisord(web)
    for version in ("1", "2"):
        done = machine.install(machine.build(version, processes=web, files=files))
        assert done.returncode == 0, done.stderr
    said = re.findall(r"^waited ([0-9.]+) s until (.*)$", done.stderr, re.MULTILINE)
    waits = {why: float(seconds) for seconds, why in said}
    # The slot that sleeps ends at once, on a machine that is not busy.
    waits.pop("pages-web:slot_1 finished its requests and ended", None)
    # All of them are told.
    assert list(waits) == [
        "the environment's interpreter had started",
        "web had answered on a private socket",
        "2 was up in pages-web:slot_1",
        "pages-web:slot_0 finished its requests and ended",
        "2 had proved itself for 0 s",
    ]
    assert waits["2 was up in pages-web:slot_1"] > 4
