"""A server to set up: a private supervisord that includes a directory, a private nginx."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from artifact import process
from artifact.services.process_manager import ProcessManagerError
from artifact.services.supervisor import Supervisor
from tests.host.machine import Machine, await_, end, free_port

ME = pwd.getpwuid(os.geteuid()).pw_name
SUPERVISORDS = {
    "pypi": str(Path(sys.executable).with_name("supervisord")),
    "debian": "/usr/bin/supervisord",
}


@contextmanager
def supervisord(machine: Machine, which: str = "pypi") -> Iterator[Path]:
    """Run the machine's supervisord for the block; yields the directory that it includes."""
    with daemon(machine.directory / "supervisor", which) as (url, programs):
        machine.url = url
        yield programs


@contextmanager
def daemon(home: Path, which: str) -> Iterator[tuple[str, Path]]:
    """Run supervisord for the block; yields its address and the directory it includes."""
    program = SUPERVISORDS[which]
    assert shutil.which(program), f"{program} is missing: apt-get install supervisor"
    sockets = Path(tempfile.mkdtemp(prefix="supervisor-"))  # a socket's path has 107 bytes at most
    programs = home / "conf.d"
    programs.mkdir(parents=True, exist_ok=True)
    main = home / "supervisord.conf"
    main.write_text(
        f"""; as a person writes it
[supervisord]
logfile = {home}/log ; its log
pidfile = {home}/pid
childlogdir = {home}
nodaemon = true
[unix_http_server]
file = {sockets}/s
[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface
[program:bystander]
command = sleep 600
[include]
files = %(here)s/conf.d/*.conf
"""
    )
    # Relative, as people start it: the file is found by where the daemon works.
    child = subprocess.Popen(
        [program, "-c", "supervisord.conf"],
        cwd=home,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"unix://{sockets}/s"
    try:
        await_("supervisord's answer and the bystander", lambda: _bystander(url))
        yield url, programs
    finally:
        end(child)
        shutil.rmtree(sockets)


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
        user = "user root;" if Path("/root").owner() == Path.home().owner() else ""
        self.main.write_text(
            f"""{user}
pid {self.directory}/pid;
error_log {self.directory}/error.log;
worker_processes 1;
events {{}}
http {{
    access_log off;
    client_body_temp_path {self.directory}/body;
    proxy_temp_path {self.directory}/proxy;
    fastcgi_temp_path {self.directory}/fastcgi;
    uwsgi_temp_path {self.directory}/uwsgi;
    scgi_temp_path {self.directory}/scgi;
    server {{ listen 127.0.0.1:{self.port}; return 418; }}
    include {self.directory}/{included};
}}
"""
        )

    def run(self, *arguments: str) -> None:
        program = process.in_sbin("nginx")
        assert shutil.which(program), "nginx is missing: apt-get install nginx-light"
        subprocess.run([program, "-c", str(self.main), *arguments], check=True, capture_output=True)


@contextmanager
def nginx(directory: Path, *, debian: bool = True) -> Iterator[Nginx]:
    """Run nginx for the block."""
    made = Nginx(directory / "nginx")
    made.write(debian=debian)
    made.run()
    pid = int((made.directory / "pid").read_text())
    try:
        yield made
    finally:
        os.kill(pid, signal.SIGQUIT)  # whatever a test made of its configuration
        await_("nginx's end", lambda: not (made.directory / "pid").exists())


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
