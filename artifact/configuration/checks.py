"""What single configuration values must look like: each check returns what is wrong, or ""."""

from __future__ import annotations

import re
import shlex
from pathlib import PurePosixPath
from typing import get_args

from artifact.manifest import Server
from artifact.site import ENVIRONMENT_DIRECTORY, PRIVATE_DIRECTORY

RESERVED_AT_TOP = (ENVIRONMENT_DIRECTORY, PRIVATE_DIRECTORY)
"""Names at the top of a release that belong to the tool."""

_SERVERS: dict[str, Server] = {name: name for name in get_args(Server) if name != "other"}
_ROOT = re.compile(r"(/[A-Za-z0-9_@+-][A-Za-z0-9._@+-]*|/\.[A-Za-z0-9_@+-][A-Za-z0-9._@+-]*)+")
_MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", re.ASCII)
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_HOST_HEADER = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?")
_HOST = re.compile(r"\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.*-]+")
# sockaddr_un.sun_path, unix(7): 108 bytes with the closing zero.
_LONGEST_SOCKET_PATH = 107


def root(text: str) -> str:
    """Check the directory of a site: it ends up in `#!` lines and supervisor's configuration."""
    if _ROOT.fullmatch(text) is None:
        return "expected an absolute path of letters, digits and . _ + @ - without .. or a final /"
    return ""


def inside(text: str) -> str:
    """Check a path, or a pattern of paths, relative to the project."""
    if not text.strip("/ ") or any(ord(letter) < 32 for letter in text):
        return "expected a path"
    parts = text.rstrip("/").split("/")
    if text.startswith("/") or ".." in parts:
        return "expected a path inside the project, relative to its top"
    return ""


def shared(text: str) -> str:
    """Check a path that is linked from the site's shared/ into every release."""
    wrong = inside(text)
    if not wrong and text.strip("/").split("/")[0] in RESERVED_AT_TOP:
        return "belongs to artifact itself and cannot be shared"
    return wrong


def module(text: str) -> str:
    """Check the dotted name of a Python module."""
    return "" if _MODULE.fullmatch(text) else "expected a module like accounting.settings"


def variable(text: str) -> str:
    """Check the name of an environment variable."""
    return "" if _VARIABLE.fullmatch(text) else "cannot be the name of an environment variable"


def listen(text: str) -> str:
    """Check an address: `127.0.0.1:8000`, `[::1]:8000` or `unix:/run/accounting/web.sock`."""
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        if not path.startswith("/") or ".." in path.split("/") or path.endswith("/"):
            return "expected unix: and an absolute path"
        if len(path.encode()) > _LONGEST_SOCKET_PATH:
            return f"the path of a socket can have {_LONGEST_SOCKET_PATH} bytes at most"
        return ""
    host, colon, port = text.rpartition(":")
    if not colon or _HOST.fullmatch(host) is None or not port.isascii() or not port.isdigit():
        return 'expected "HOST:PORT" or "unix:/PATH"'
    return "" if 1 <= int(port) <= 65535 else "expected a port between 1 and 65535"


def host(text: str) -> str:
    """Check what goes into a Host header: a name or an address, with or without a port."""
    return "" if _HOST_HEADER.fullmatch(text) else "expected a host like example.com"


def command(text: str) -> str:
    """Check a command that is run without a shell."""
    try:
        words = shlex.split(text)
    except ValueError as error:
        return f"cannot be split into words: {str(error).lower()}"
    return "" if words else "expected a command"


def server(text: str) -> Server:
    """Return the server a command starts: "gunicorn", "uvicorn", "celery" or "other".

    The first word that names one decides, so that `newrelic-admin run-program gunicorn …` and
    `python -m uvicorn …` are known for what they are.
    """
    for word in shlex.split(text):
        if known := _SERVERS.get(PurePosixPath(word).name):
            return known
    return "other"
