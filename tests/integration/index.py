"""A package index of our own that asks for a password."""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

PASSWORD = "open-sesame-of-the-index"
_ALLOWED = "Basic " + base64.b64encode(f"deploy:{PASSWORD}".encode()).decode()


@contextmanager
def private_index(wheels: Path, directory: Path) -> Iterator[str]:
    """Serve wheels as a simple index to those who know the password; the URL holds it.

    Args:
        directory: where to lay the index's pages.
    """
    for wheel in wheels.glob("*.whl"):
        page = directory / "simple" / wheel.name.partition("-")[0] / "index.html"
        page.parent.mkdir(parents=True, exist_ok=True)
        with page.open("a") as stream:
            stream.write(f'<a href="/{wheel.name}">{wheel.name}</a>\n')
        (directory / wheel.name).symlink_to(wheel)
    handler = partial(_Guarded, directory=str(directory))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://deploy:{PASSWORD}@127.0.0.1:{server.server_port}/simple/"
        finally:
            server.shutdown()
            thread.join()


class _Guarded(SimpleHTTPRequestHandler):
    """Serves a directory to those who know the password."""

    def send_head(self):  # type: ignore[no-untyped-def]  # BytesIO or a file, as the base has it
        if self.headers.get("Authorization") == _ALLOWED:
            return super().send_head()
        self.send_response(401)
        self.send_header("WWW-Authenticate", 'Basic realm="private"')
        self.send_header("Content-Length", "0")
        self.end_headers()
        return None

    def log_message(self, *_arguments: object) -> None:
        pass
