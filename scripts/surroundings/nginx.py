"""An nginx with a configuration of its own, on loopback."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from artifact import process
from surroundings.waiting import NotReady, accepts, await_

_CONFIGURATION = """\
daemon off;
worker_processes 1;
pid {directory}/pid;
error_log {directory}/error.log;
{user}
events {{ worker_connections 1024; }}
http {{
    log_format sizes '$status $body_bytes_sent';
    access_log {directory}/access.log sizes;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
{content}
}}
"""


def configure(directory: Path, content: str) -> Path:
    """Write a main file whose `http` block has this content; return its path.

    Args:
        directory: for its own files, too; it is made.
    """
    directory.mkdir(parents=True, exist_ok=True)
    main = directory / "nginx.conf"
    # Else its workers may not read what lies in directories of root's.
    user = "user root;" if os.geteuid() == 0 else ""
    text = _CONFIGURATION.format(directory=directory, user=user, content=content)
    main.write_text(text, encoding="utf-8")
    return main


def command(main: Path) -> list[str]:
    """Return the command line that runs nginx in the foreground."""
    program = process.in_sbin("nginx")
    if not shutil.which(program):
        raise NotReady("nginx is missing: apt-get install nginx-light")
    return [program, "-p", str(main.parent), "-e", f"{main.parent}/error.log", "-c", str(main)]


def version() -> str:
    """Return "nginx/1.22.1"."""
    argv = [process.in_sbin("nginx"), "-v"]
    said = subprocess.run(argv, capture_output=True, text=True, check=True).stderr
    return said.strip().rpartition(" ")[2]


@contextmanager
def running(main: Path, port: int) -> Iterator[int]:
    """Run nginx for the block, which begins when the port is open; yields its pid."""
    child = subprocess.Popen(command(main), stdin=subprocess.DEVNULL)

    def listens() -> bool:
        if child.poll() is not None:
            raise NotReady(f"nginx does not start: {(main.parent / 'error.log').read_text()}")
        return accepts(port)

    try:
        await_("nginx's port", listens)
        yield child.pid
    finally:
        child.terminate()
        child.wait(30)


def serving(root: Path, port: int, more: str = "") -> str:
    """Return a server block that serves a directory.

    Args:
        more: what else stands in the block.
    """
    return f"    server {{ listen 127.0.0.1:{port}; root {root}; {more} }}"
