"""A package index with wheels and sdists made here: requirements without a network."""

from __future__ import annotations

import base64
import hashlib
import html
import io
import json
import tarfile
import threading
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from packaging.utils import canonicalize_name

from surroundings import wheels

PYPROJECT = """\
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
"""


class Index:
    """A package index on 127.0.0.1; what it holds may grow while it runs."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.log = directory / "builds.log"
        self.requests: list[str] = []
        """Paths that were asked for."""
        self.authorizations: list[str] = []
        self.password = ""
        """When set, the index wants it, from the user "deploy"."""
        self._files = directory / "files"
        self._files.mkdir(parents=True)
        self._port = 0

    @property
    def url(self) -> str:
        """With the password in it, when there is one."""
        user = f"deploy:{self.password}@" if self.password else ""
        return f"http://{user}127.0.0.1:{self._port}/simple/"

    @property
    def builds(self) -> list[dict[str, object]]:
        """What was built from sdists and source trees, in order."""
        if not self.log.exists():
            return []
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def wheel(
        self, name: str, version: str, *, requires: Sequence[str] = (), requires_python: str = ""
    ) -> Path:
        """Publish a wheel."""
        return wheels.write(
            self._files, name, version, requires=requires, requires_python=requires_python
        )

    def add(self, finished: Path) -> None:
        """Publish a wheel that is there already."""
        (self._files / finished.name).symlink_to(finished)

    def sdist(
        self, name: str, version: str, *, requires: Sequence[str] = (), compiler: str = ""
    ) -> Path:
        """Publish an sdist."""
        tree = self.source(
            self.directory / f"{name}-{version}", name, version, requires, compiler=compiler
        )
        path = self._files / f"{name}-{version}.tar.gz"
        with tarfile.open(path, "w:gz") as archive:
            archive.add(tree, f"{name}-{version}")
            info = wheels.metadata(name, version, requires=requires)
            member = tarfile.TarInfo(f"{name}-{version}/PKG-INFO")
            member.size = len(info)
            archive.addfile(member, io.BytesIO(info.encode()))
        return path

    def source(
        self,
        directory: Path,
        name: str,
        version: str,
        requires: Sequence[str] = (),
        *,
        compiler: str = "",
    ) -> Path:
        """Write a source tree that builds a wheel and logs that it did."""
        directory.mkdir(parents=True, exist_ok=True)
        about = {"name": name, "version": version, "requires": list(requires)}
        about |= {"log": str(self.log), "compiler": compiler}
        (directory / "about.json").write_text(json.dumps(about))
        (directory / "backend.py").write_text(Path(wheels.__file__).read_text())
        (directory / "pyproject.toml").write_text(PYPROJECT)
        return directory

    def url_of(self, path: Path) -> str:
        """Return where a published file is, without the password."""
        return f"http://127.0.0.1:{self._port}/files/{path.name}"

    @contextmanager
    def running(self) -> Iterator[None]:
        """Serve inside the block."""
        index = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                index.requests.append(self.path)
                given = self.headers.get("Authorization", "")
                index.authorizations.append(given)
                wanted = base64.b64encode(f"deploy:{index.password}".encode()).decode()
                if index.password and given != f"Basic {wanted}":
                    self.send_response(401)
                    self.send_header("WWW-Authenticate", 'Basic realm="index"')
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                body = index.content(self.path)
                self.send_response(200 if body is not None else 404)
                kind = (
                    "text/html" if self.path.startswith("/simple") else "application/octet-stream"
                )
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body or b"")))
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(body or b"")

            def do_HEAD(self) -> None:
                self.do_GET()

            def log_message(self, *arguments: object) -> None:
                pass

        with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            self._port = server.server_port
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
            thread.start()
            try:
                yield
            finally:
                server.shutdown()
                thread.join()

    def content(self, path: str) -> bytes | None:
        """Return what a path leads to."""
        if path.startswith("/files/"):
            file = self._files / path.removeprefix("/files/")
            return file.read_bytes() if file.is_file() else None
        name = path.strip("/").removeprefix("simple").strip("/")
        links = [
            self._link(file)
            for file in sorted(self._files.iterdir())
            if canonicalize_name(file.name.partition("-")[0]) == name
        ]
        return ("<!DOCTYPE html><body>" + "".join(links)).encode() if links else None

    def _link(self, file: Path) -> str:
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        python = ""
        if file.suffix == ".whl":
            text = html.escape(self._requires_python(file))
            python = f' data-requires-python="{text}"' if text else ""
        return f'<a href="/files/{file.name}#sha256={digest}"{python}>{file.name}</a><br>'

    def _requires_python(self, wheel: Path) -> str:
        with zipfile.ZipFile(wheel) as archive:
            info = next(name for name in archive.namelist() if name.endswith("METADATA"))
            for line in archive.read(info).decode().splitlines():
                if line.startswith("Requires-Python: "):
                    return line.removeprefix("Requires-Python: ")
        return ""


def sha256(path: Path) -> str:
    """Return "sha256:…" of a file."""
    return f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
