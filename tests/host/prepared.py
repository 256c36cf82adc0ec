"""A server to set up: a private supervisord that includes a directory, a private nginx."""

from __future__ import annotations

import os
import pwd
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import surroundings.nginx
import surroundings.supervisord
from artifact.services.process_manager import ProcessManagerError
from artifact.services.supervisor import Supervisor
from surroundings.waiting import await_, free_port
from tests.host.machine import Machine

ME = pwd.getpwuid(os.geteuid()).pw_name
_BYSTANDER = """
[program:bystander]
command = sleep 600
[include]
files = %(here)s/conf.d/*.conf
"""


@contextmanager
def supervisord(machine: Machine, which: str = "pypi") -> Iterator[Path]:
    """Run the machine's supervisord for the block; yields the directory that it includes."""
    with daemon(machine.directory / "supervisor", which) as (url, programs):
        machine.url = url
        yield programs


@contextmanager
def daemon(home: Path, which: str) -> Iterator[tuple[str, Path]]:
    """Run supervisord for the block; yields its address and the directory it includes."""
    programs = home / "conf.d"
    programs.mkdir(parents=True, exist_ok=True)
    with surroundings.supervisord.running(home, _BYSTANDER, which=which) as started:
        await_("the bystander", lambda: _bystander(started.url))
        yield started.url, programs


def bystander(machine: Machine) -> int:
    """Return the pid of a program that is none of ours, and must not be touched."""
    return _bystander(machine.url)


def _bystander(url: str) -> int:
    try:
        return Supervisor(url).member("bystander:bystander").pid
    except ProcessManagerError:
        return 0


@dataclass
class Nginx:
    """nginx on loopback with a configuration of its own."""

    directory: Path
    port: int = field(default_factory=free_port)

    @property
    def main(self) -> Path:
        return self.directory / "nginx.conf"

    def write(self, *, debian: bool) -> None:
        for name in ("sites-available", "sites-enabled") if debian else ("conf.d",):
            (self.directory / name).mkdir(parents=True)
        included = "sites-enabled/*" if debian else "conf.d/*.conf"
        surroundings.nginx.configure(
            self.directory,
            f"    server {{ listen 127.0.0.1:{self.port}; return 418; }}\n"
            f"    include {self.directory}/{included};",
        )


@contextmanager
def nginx(directory: Path, *, debian: bool = True) -> Iterator[Nginx]:
    """Run nginx for the block."""
    made = Nginx(directory / "nginx")
    made.write(debian=debian)
    with surroundings.nginx.running(made.main, made.port):
        yield made


@contextmanager
def small_disk(machine: Machine, options: str) -> Iterator[None]:
    """Put the site on a file system of its own."""
    machine.site.root.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(machine.site.root)]
    mounted = subprocess.run(mount, capture_output=True, text=True)
    assert mounted.returncode == 0, f"run the tests as root where mounting works: {mounted.stderr}"
    try:
        yield
    finally:
        # Lazily: what a failed test left running may still be in it.
        subprocess.run(["umount", "--lazy", str(machine.site.root)], check=True)
