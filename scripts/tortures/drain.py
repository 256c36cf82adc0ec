"""Prunes while a worker of an old release drains and imports what it has not imported yet."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Iterator

from artifact import steps
from artifact.host.commands import install, prune
from artifact.host.records import history, releases
from artifact.manifest import Install, Process
from tests.host.machine import Machine
from tortures import place as places
from tortures.place import Broken

MODULES = 25
PRUNES = 5
_SECONDS = 60
_VERSIONS = ("a", "b", "c")
_WORKER = """
import sys, time
print("ready", flush=True)
sys.stdin.readline()
for number in range({modules}):
    module = __import__(f"late{{number}}")
    assert module.VERSION == "{version}", module.__file__
    time.sleep(0.01)
print("imported", flush=True)
sys.stdin.readline()
"""


def run(rounds: int = 100) -> Iterator[str]:
    """Have a worker drain while two releases are installed over it and prunes run.

    Yields the version of each worker, when it has ended.

    Raises:
        Broken: an import failed, or the release did not go when the worker had.
    """
    with places.scratch() as directory:
        machine = Machine(directory, places.tiny_environment(directory))
        worker = Process(command="python worker.py")
        for version in _VERSIONS:
            late = {f"late{n}.py": f'VERSION = "{version}"\n' for n in range(MODULES)}
            machine.build(
                version,
                install=Install(restart="none", keep=1),
                processes={"worker": worker},
                files={"worker.py": _WORKER.format(modules=MODULES, version=version), **late},
            )
        versions = itertools.cycle(_VERSIONS)
        _install(machine, next(versions))
        for _ in range(rounds):
            old = releases.live_version(machine.site)
            _drain(machine, old, [next(versions), next(versions)])
            yield old


def _drain(machine: Machine, old: str, newer: list[str]) -> None:
    site = machine.site
    child = subprocess.Popen(
        [sys.executable, "-m", "artifact", "exec", str(site.root), "--process", "worker"],
        env=machine.variables(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert child.stdin is not None
        assert child.stdout is not None
        _expect(child, "ready")
        for version in newer:
            _install(machine, version)
        child.stdin.write("\n")
        child.stdin.flush()
        for _ in range(PRUNES):
            prune.prune(site, 1, _SECONDS, steps.nobody)
        if old not in history.versions_on_disk(site):
            raise Broken(f"{old} was deleted while a worker of it lived")
        _expect(child, "imported")
    finally:
        child.communicate("\n", timeout=_SECONDS)
    prune.prune(site, 1, _SECONDS, steps.nobody)
    if old in history.versions_on_disk(site):
        raise Broken(f"{old} is still there though its worker has ended")


def _expect(child: subprocess.Popen[str], word: str) -> None:
    assert child.stdout is not None
    assert child.stderr is not None
    said = child.stdout.readline().strip()
    if said != word:
        raise Broken(f"the worker said {said!r}, not {word}: {child.stderr.read()}")


def _install(machine: Machine, version: str) -> None:
    options = install.InstallOptions(command="artifact", probation=0.0)
    install.install(machine.directory / f"pages-{version}.tgz", options, steps.nobody)
