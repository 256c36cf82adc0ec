"""nginx as proxy: the server block of a site, its place, the test and the reload."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from artifact import process
from artifact.errors import Refused, UsageError
from artifact.manifest import Manifest
from artifact.services.proxy import Certificate, Place
from artifact.site import HASHED_NAME, Site

DIRECTORY = Path("/etc/nginx")

_SECONDS = 30.0
_SERVER_NAME = re.compile(r"([A-Za-z0-9_*][A-Za-z0-9_.*-]*)(?::([0-9]{1,5}))?")
_SAFE_PATH = re.compile(r"[A-Za-z0-9/_.+-]+")
_HTTP, _HTTPS = 80, 443

_BLOCK = """\
upstream {upstream} {{
    server {server} fail_timeout=0;
}}
{upgrade}{redirect}
server {{
    listen {port};
    server_name {host};
{tls}    client_max_body_size 20m;

    # The content under a hashed name never changes; those of older releases are here as well.
    location ~ "^/static/(?<static_file>.+{hashed}.*)$" {{
        root {root};
        try_files /static/$static_file {live}@{upstream};
        add_header Cache-Control "public, max-age=31536000, immutable";
    }}
    location ~ "^/static/(?<static_file>.+)$" {{
        root {root};
        try_files /static/$static_file {live}@{upstream};
    }}
    location / {{
        try_files /nonexistent @{upstream};
    }}
    location @{upstream} {{
        proxy_pass http://{upstream};
        proxy_http_version 1.1;
        proxy_set_header Host $http_host;
        proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
        proxy_set_header X-Forwarded-Proto $scheme;
{connection}
    }}
}}
"""

_REDIRECT = """
server {{
    listen {port};
    server_name {host};
    return 301 https://$host$request_uri;
}}
"""

_UPGRADE = """\
map $http_upgrade ${variable} {{
    default upgrade;
    '' close;
}}
"""


@dataclass(frozen=True, slots=True)
class Nginx:
    """The `Proxy` that nginx is."""

    directory: Path = DIRECTORY
    """Of its configuration."""

    @property
    def main(self) -> Path:
        return self.directory / "nginx.conf"

    def place(self, name: str) -> Place:
        if not self.main.is_file():
            raise Refused(
                f"there is no {self.main}",
                hint="install nginx, or name its configuration directory: --nginx-dir",
            )
        available, enabled = self.directory / "sites-available", self.directory / "sites-enabled"
        if available.is_dir() and enabled.is_dir():
            return Place(available / name, enabled / name)
        return Place(self.directory / "conf.d" / f"{name}.conf", None)

    def block(
        self,
        site: Site,
        manifest: Manifest,
        server_name: str,
        certificate: Certificate | None = None,
    ) -> str:
        matched = _SERVER_NAME.fullmatch(server_name)
        if matched is None:
            raise UsageError(
                f"{server_name!r} is no server name", hint="example.com, or with :port"
            )
        for path in (site.root, *((certificate.chain, certificate.key) if certificate else ())):
            if not _SAFE_PATH.fullmatch(str(path)):
                raise UsageError(f"{path} cannot be written into nginx's configuration safely")
        name = _served(manifest)
        upstream = f"{manifest.name}-{name}"
        variable = upstream.replace("-", "_") + "_connection"
        upgrades = manifest.processes[name].server == "uvicorn"
        connection = [f"proxy_set_header Connection {'$' + variable if upgrades else 'close'};"]
        if upgrades:
            connection.append("proxy_set_header Upgrade $http_upgrade;")
        current = site.current.relative_to(site.root)
        live = f"/{current}/{manifest.static}/$static_file " if manifest.static else ""
        redirect = certificate and not matched[2]
        return _BLOCK.format(
            upstream=upstream,
            server=self.upstream(manifest.processes[name].listen),
            upgrade=_UPGRADE.format(variable=variable) if upgrades else "",
            redirect=_REDIRECT.format(port=_HTTP, host=matched[1]) if redirect else "",
            port=f"{matched[2] or _HTTPS} ssl" if certificate else matched[2] or _HTTP,
            tls=_tls(certificate) if certificate else "",
            host=matched[1],
            hashed=HASHED_NAME,
            root=site.root,
            live=live,
            connection="\n".join(" " * 8 + line for line in connection),
        )

    def upstream(self, listen: str) -> str:
        if listen.startswith("unix:"):
            return "unix:/" + listen.removeprefix("unix:").lstrip("/")
        host, _, port = listen.rpartition(":")
        return f"{host if host not in {'', '0.0.0.0', '[::]'} else '127.0.0.1'}:{port}"  # noqa: S104

    def test(self) -> None:
        try:
            process.run([_program(), "-t", "-q", "-c", str(self.main)], timeout=_SECONDS)
        except process.ProgramMissing as error:
            raise Refused("nginx is not installed, or not on PATH", hint="install it") from error
        except process.ChildFailed as error:
            raise Refused(
                f"nginx does not accept its configuration {self.main}: {' '.join(error.tail[-2:])}",
                hint=f"`nginx -t -c {self.main}` shows where",
                output=error.tail,
            ) from error

    def reload(self) -> str:
        words = [_program(), "-s", "reload", "-c", str(self.main)]
        done = process.run(words, timeout=_SECONDS, check=False)
        return "" if done.status == 0 else " ".join(done.tail[-1:])


def _tls(certificate: Certificate) -> str:
    return (
        f"    ssl_certificate {certificate.chain};\n"
        f"    ssl_certificate_key {certificate.key};\n"
        "    ssl_protocols TLSv1.2 TLSv1.3;\n"
    )


def _program() -> str:
    return process.in_sbin("nginx")


def _served(manifest: Manifest) -> str:
    listening = [name for name, process in manifest.processes.items() if process.listen]
    if len(listening) == 1:
        return listening[0]
    if "web" in listening:
        return "web"
    said = f"has several: {', '.join(listening)}" if listening else "has none"
    raise UsageError(
        f"nginx needs one process that listens, and {manifest.reference} {said}",
        hint='call the one for nginx "web" in artifact.toml',
    )
