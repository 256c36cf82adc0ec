"""A site to torture, with a few small releases, put back as it was in milliseconds."""

from __future__ import annotations

import os
import platform
import shutil
import signal
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from artifact import files, manifest, steps
from artifact.archive import opening, writer
from artifact.archive.format import ENVIRONMENT_COMPONENT, ENVIRONMENT_PREFIX
from artifact.errors import ArtifactError
from artifact.host.commands import install, recover
from artifact.host.records import history, journal, releases
from artifact.host.trees import unpack
from artifact.manifest import Install
from artifact.site import Site
from tests.host.machine import Environment, Machine, entries_of

OLDEST, OLD, NEW = "1", "2", "3"
_ROOM_BYTES = 200 << 20
VERSIONS = (OLDEST, OLD, NEW)


class Broken(Exception):
    """A site is not what it must be."""


@contextmanager
def scratch() -> Iterator[Path]:
    """Yield an empty directory for the block, in memory where there is room: no disk is waited for.

    What a killed program leaves does not depend on that; what a power cut leaves does.
    """
    memory = Path("/dev/shm")
    free = shutil.disk_usage(memory).free if os.access(memory, os.W_OK) else 0
    directory = Path(
        tempfile.mkdtemp(prefix="torture-", dir=memory if free > _ROOM_BYTES else None)
    )
    try:
        yield directory
    finally:
        files.remove_tree(directory)


def described(key: str) -> manifest.Environment:
    """Return what a manifest says of an environment that has nothing in it."""
    return manifest.Environment(key=key, packages={})


def tiny_environment(directory: Path, *, python: str = "") -> Environment:
    """Make an environment with an interpreter and one module, so that unpacking it is cheap.

    Args:
        python: a shell script in the interpreter's place, which starts in a tenth of the time.
    """
    path = directory / "environment"
    (path / "bin").mkdir(parents=True)
    (path / "lib").mkdir()
    interpreter = os.path.realpath(sys.executable)
    if python:
        (path / "bin" / "python").write_text(f"#!/bin/sh\n{python}\n")
        (path / "bin" / "python").chmod(0o755)
    else:
        (path / "bin" / "python").symlink_to(interpreter)
    (path / "bin" / "tool").write_text("#!/bin/sh\n")
    (path / "bin" / "tool").chmod(0o755)
    (path / "lib" / "module.py").write_text("VALUE = 1\n" * 500)
    packed = writer.pack(
        entries_of(path, "virtualenv/"),
        directory / "environment.pack",
        name="venv",
    )
    own = manifest.Python(
        implementation="cpython",
        version=platform.python_version(),
        abi=str(sysconfig.get_config_var("SOABI")),
        platform=f"linux-{os.uname().machine}",
        interpreter=interpreter,
        glibc="2.2",
    )
    return Environment(path, packed, own)


@dataclass
class Place:
    """A directory with a site and the artifacts for it; no server runs there."""

    machine: Machine
    artifacts: dict[str, Path] = field(default_factory=dict)

    @property
    def site(self) -> Site:
        return self.machine.site

    @property
    def template(self) -> Path:
        return self.machine.directory / "template"

    def options(self) -> install.InstallOptions:
        return install.InstallOptions(command="artifact", probation=0.0, wait=0.0)

    def install(self, version: str) -> install.InstallPlan:
        return install.install(self.artifacts[version], self.options(), steps.nobody)

    def kill_install(self, version: str, *, at: str) -> None:
        """Install in a process that kills itself where a step begins."""

        def hear(event: steps.Event) -> None:
            if isinstance(event, steps.Started) and event.name == at:
                os.kill(os.getpid(), signal.SIGKILL)

        child = os.fork()
        if child == 0:
            try:
                install.install(self.artifacts[version], self.options(), hear)
            finally:
                os._exit(1)
        _, status = os.waitpid(child, 0)
        if status != signal.SIGKILL:
            raise Broken(f"an install to be killed at {at} ended with {status}")

    def keep(self) -> None:
        """Remember the site as it is, for `put_back`."""
        copy(self.site.root, self.template)

    def put_back(self) -> None:
        """Make the site what it was at `keep`."""
        files.remove_tree(self.site.root)
        copy(self.template, self.site.root)

    def recover(self) -> str:
        """Do what the next command does first; return what it had to do."""
        with files.locked(self.site.lock, doing="a test", wait=0.0):
            done = recover.recover(self.site, steps.nobody)
        return done.how if done else "nothing"


def make(directory: Path, *, root: Path | None = None) -> Place:
    """Build the artifacts of a place in an empty directory, and no site.

    Args:
        root: of the site, where it is to be elsewhere.
    """
    machine = Machine(directory, tiny_environment(directory), root=root)
    place = Place(machine)
    quiet = Install(restart="none", keep=100, shared=("media/",))
    for number, version in enumerate(VERSIONS):
        place.artifacts[version] = machine.build(
            version,
            install=quiet,
            processes={},
            sequence=number + 1,
            static="static",
            files={
                f"static/app.0123456789a{version}.css": f"/* {version} */",
                "big.txt": f"{version}\n" * 40_000,
            },
        )
    return place


def copy(source: Path, target: Path) -> None:
    """Copy a site with its links, times and modes."""
    files.remove_tree(target)
    shutil.copytree(source, target, symlinks=True)


def judge(site: Site, artifacts: dict[str, Path], live: set[str]) -> None:
    """Look whether a site that was recovered is what it must be.

    Args:
        live: the versions of which any may be live; "" where none may be.

    Raises:
        Broken: it is not.
    """
    found = releases.live_version(site)
    if found not in live:
        raise Broken(f"{found or 'nothing'} is live, not {' or '.join(sorted(live)) or 'nothing'}")
    for version in history.versions_on_disk(site):
        whole(site, version, artifacts)
    if found and not (site.current / "app.py").is_file():
        raise Broken("current does not resolve")
    if left := leftovers(site):
        raise Broken(f"left behind: {', '.join(left)}")
    agreed(site)


def judge_live(site: Site, artifacts: dict[str, Path], live: str) -> None:
    """Look whether a release is live, whole and good, and nothing is left behind.

    Raises:
        Broken: it is not.
    """
    if releases.live_version(site) != live:
        raise Broken(f"{releases.live_version(site) or 'nothing'} is live, not {live}")
    whole(site, live, artifacts)
    if not history.records_of(site)[live].good:
        raise Broken(f"{live} is live and not good")
    if left := leftovers(site):
        raise Broken(f"left behind: {', '.join(left)}")


def whole(site: Site, version: str, artifacts: dict[str, Path]) -> None:
    """Compare a release and its environment with its artifact, byte by byte.

    Raises:
        Broken: something differs or is missing.
    """
    with opening.open_artifact(artifacts[version]) as opened:
        fault = unpack.environment_fault(opened, site)
        if fault != "":
            raise Broken(f"the environment of {version}: {fault or 'missing'}")
        fault = unpack.release_fault(opened, site, opened.manifest.install.shared)
        if fault != "":
            raise Broken(f"release {version}: {fault or 'missing'}")
        # The comparison above believes times and sizes; a disk that lost power may not be believed.
        for name, root in (
            (ENVIRONMENT_COMPONENT, site.environment(opened.manifest.environment.key)),
            *((name, site.release(version)) for name in unpack.of_release(opened)),
        ):
            for record in opened.toc(name).records:
                path = root / record.path.removeprefix(ENVIRONMENT_PREFIX)
                if record.kind == "file" and files.sha256(path) != record.sha256:
                    raise Broken(f"{path} has other bytes")
    try:
        releases.read(site, version)
    except ArtifactError as error:
        raise Broken(error.message) from error


def leftovers(site: Site) -> list[str]:
    """Return what only an unfinished run leaves behind."""
    private = site.private
    found = [*private.glob("staging/*"), *private.glob("trash/*"), *private.glob(".*.new")]
    for directory in (site.releases, site.environments, site.failures, site.root):
        found += [path for path in directory.glob(".*") if path.name != ".artifact"]
    return [str(path.relative_to(site.root)) for path in found]


def agreed(site: Site) -> None:
    """See that journal and disk tell the same.

    Raises:
        Broken: they do not.
    """
    run = journal.last_run(site.journal)
    if run is not None and run.over is None:
        raise Broken(f"the {recover.describe(run)} is not over")
    told = history.tell_of(journal.read(site.journal))
    known = {version for version, one in told.items() if one.state != "removed"}
    there = set(history.versions_on_disk(site))
    if known != there:
        raise Broken(f"the journal knows {sorted(known)}, the disk has {sorted(there)}")
    live = releases.live_version(site)
    if live and not told[live].good:
        raise Broken(f"{live} is live and {told[live].state}")
    before = releases.previous_version(site)
    if before and not site.release(before).is_dir():
        raise Broken(f"previous points at {before}, which is gone")
