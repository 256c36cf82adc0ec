"""Ask a server over its socket whether it serves."""

from __future__ import annotations

import string
from contextlib import closing
from http.client import HTTPException, RemoteDisconnected
from pathlib import Path
from urllib.parse import quote

import msgspec

from artifact.manifest import Health, Process
from artifact.services.http_connection import DeadlineConnection

ENOUGH = 3
"""Answers in a row that settle it, good or wrong."""

_REQUEST_SECONDS = 10.0
ANY_ANSWER = Health(status=())
"""Of a process without a health path: anything but a server error will do."""


class Answer(msgspec.Struct, frozen=True):
    """What came back."""

    ok: bool
    text: str
    """ "200 OK", "500 Internal Server Error", "connection refused"…"""
    hint: str = ""
    status: int = 0
    """0 where no HTTP came back."""

    @property
    def wrong(self) -> bool:
        """Tell whether it is up and wrong; 503 is what one that is warming up says."""
        return not self.ok and self.status not in {0, 503}


def health_of(process: Process) -> Health:
    """Return how a process wants to be asked."""
    return process.health or ANY_ANSWER


def ask(address: str | Path, health: Health, *, timeout: float = _REQUEST_SECONDS) -> Answer:
    """Send one GET and judge its status; never raises for what the other side does.

    Args:
        address: "127.0.0.1:8000", "unix:/path" or the path of a unix socket.
        timeout: seconds for the whole exchange.
    """
    headers = {
        "Host": (health.host or "localhost").encode(),
        "User-Agent": b"artifact",
        "Accept": b"*/*",
        "Accept-Encoding": b"identity",
        "Connection": b"close",
    }
    path = quote(health.path, safe=string.punctuation)
    try:
        with closing(DeadlineConnection(address, timeout)) as connection:
            connection.request("GET", path, headers=headers)
            with connection.getresponse() as response:
                return _judge(response.status, response.reason, health)
    except TimeoutError:
        return Answer(ok=False, text=f"no answer within {timeout:g} s")
    except RemoteDisconnected:
        return Answer(ok=False, text="an empty answer")
    except ValueError as error:  # a manifest is not checked as artifact.toml is
        return Answer(ok=False, text=f"it cannot be asked: {error}")
    except HTTPException:
        return Answer(ok=False, text="an answer that is not HTTP")
    except OSError as error:
        return Answer(ok=False, text=(error.strerror or str(error)).lower())


def connectable(listen: str) -> str:
    """Return the address to connect to for one to listen on: any host becomes this one."""
    if listen.startswith("unix:"):
        return listen
    host, _, port = listen.rpartition(":")
    return f"{ {'': '127.0.0.1', '0.0.0.0': '127.0.0.1', '[::]': '[::1]'}.get(host, host) }:{port}"  # noqa: S104


def _judge(status: int, reason: str, health: Health) -> Answer:
    ok = status in health.status if health.status else status < 500
    text = f"{status} {reason}".rstrip()
    return Answer(ok=ok, text=text, hint="" if ok else _advice(status, health), status=status)


def _advice(status: int, health: Health) -> str:
    if status == 400 and not health.host:
        return 'the application may not know the host "localhost": set health = { host = "…" }'
    if 300 <= status < 400:
        return "the health path must answer by itself: exempt it from redirects (https, slashes)"
    if status == 404:
        return f"is {health.path} the right health path?"
    return ""
