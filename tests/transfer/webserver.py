"""An nginx that serves a directory, as people put one before their artifacts."""

from __future__ import annotations

import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.host.machine import await_, free_port

_CONFIGURATION = """daemon off; worker_processes 1; pid {own}/pid; error_log {own}/log; {user}
events {{}}
http {{
  access_log {own}/access; client_body_temp_path {own}/b; proxy_temp_path {own}/p;
  fastcgi_temp_path {own}/f; uwsgi_temp_path {own}/u; scgi_temp_path {own}/s;
  server {{ listen 127.0.0.1:{port}; root {root}; {more} }}
}}"""


@contextmanager
def nginx(root: Path, own: Path, *, user: str = "user root;", more: str = "") -> Iterator[str]:
    """Run nginx for the block; return the host and port it listens on.

    Args:
        own: a directory for its own files; it is made.
        more: what else stands in the server block.
    """
    port = free_port()
    own.mkdir()
    configuration = own / "nginx.conf"
    configuration.write_text(
        _CONFIGURATION.format(own=own, user=user, port=port, root=root, more=more)
    )
    running = subprocess.Popen(["nginx", "-c", str(configuration), "-e", f"{own}/log"])

    def answers() -> bool:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=1).close()
        except urllib.error.HTTPError:
            return True
        except OSError:
            return False
        return True

    try:
        await_("nginx's answer", answers)
        yield f"127.0.0.1:{port}"
    finally:
        running.terminate()
        running.wait(10)
