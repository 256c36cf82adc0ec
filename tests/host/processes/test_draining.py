"""uvicorn, told to end: what is asked on connections that are open is answered."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from artifact import files
from artifact.host.processes import servers
from artifact.manifest import Environment, Process
from surroundings.waiting import await_
from tests.host.machine import UVICORN
from tests.test_manifest import example

APPLICATION = """
import sys
import state  # the application's own, and not the one beside the file that starts it

async def asgi(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    length, more = 0, True
    while more:
        message = await receive()
        length, more = length + len(message["body"]), message["more_body"]
    body = f"{state.OURS} {length}".encode()
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
"""


@pytest.fixture(scope="session")
def uvicorn(shared_directory: Path) -> Path:
    """An environment with uvicorn and all it can be run with."""
    made = shared_directory / "uvicorn"
    with files.locked(shared_directory / "uvicorn.lock", doing="installing", wait=240):
        if not (made / "made").exists():
            uv = str(Path(sys.executable).with_name("uv"))
            interpreter = os.path.realpath(sys.executable)
            subprocess.run([uv, "venv", "-q", "--python", interpreter, str(made)], check=True)
            install = [uv, "pip", "install", "-q", "--python", str(made / "bin/python")]
            wanted = [f"uvicorn=={UVICORN}", "httptools", "uvloop", "gunicorn", "uvicorn-worker"]
            subprocess.run([*install, *wanted], check=True)
            (made / "made").touch()
    return made


@dataclass(frozen=True)
class Served:
    child: subprocess.Popen[bytes]
    port: int

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), 15)


@contextmanager
def served(directory: Path, environment: Path, command: str, *, stock: bool) -> Iterator[Served]:
    (directory / "app.py").write_text(APPLICATION)
    (directory / "state.py").write_text("OURS = 'ours'\n")
    server = "gunicorn" if "gunicorn" in command else "uvicorn"
    process = Process(command=command, listen="127.0.0.1:1", server=server, stop_timeout=10)
    described = example(
        processes={"web": process}, environment=Environment(key="k", packages={server: "27"})
    )
    words = servers.argv(described, "web", environment, sockets=1)
    assert str(servers.DRAINING) in words
    if stock:
        place = words.index(str(servers.DRAINING))
        words[place : place + 1] = ["-m"]
    with socket.create_server(("127.0.0.1", 0)) as listener:
        # As `artifact exec` hands it over: descriptor 3, by systemd's convention.
        shell = 'export LISTEN_FDS=1 LISTEN_PID=$$; exec 3<&0 "$@" </dev/null'
        child = subprocess.Popen(
            ["sh", "-c", shell, "sh", *words],
            stdin=listener.fileno(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=directory,
        )
        try:
            yield Served(child, listener.getsockname()[1])
        finally:
            child.terminate()
            output, _ = child.communicate(timeout=30)
            print(output.decode())


def ask(connection: socket.socket) -> str:
    """Send a POST and return the whole answer, lower case; empty when there is none."""
    connection.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nitem")
    received = b""
    while not received.endswith(b"ours 4"):
        block = connection.recv(4096)
        if not block:
            break
        received += block
    return received.decode().lower()


def closes(connection: socket.socket) -> bool:
    return "connection: close" in ask(connection)


@pytest.mark.parametrize(
    "command",
    [
        "uvicorn app:asgi --http h11 --loop asyncio",
        "python -m uvicorn app:asgi --workers 2 --http h11 --loop asyncio",
        "uvicorn app:asgi --http httptools --loop uvloop",
        "gunicorn app:asgi -k uvicorn_worker.UvicornWorker",
    ],
)
def test_an_open_connection_is_answered_and_told_that_it_was_the_last(
    tmp_path: Path, uvicorn: Path, command: str
) -> None:
    with served(tmp_path, uvicorn, command, stock=False) as server:
        # The more, the surer both workers have some.
        busy, silent, used = ([server.connect() for _ in range(8)] for _ in range(3))
        for connection in (*busy, *used):
            assert not closes(connection)
        server.child.send_signal(signal.SIGTERM)
        for connection in busy:
            await_("the drain", partial(closes, connection))
            assert connection.recv(1) == b""
        for connection in (*silent, *used):
            answer = ask(connection)
            assert answer.startswith("http/1.1 200")
            assert "connection: close" in answer
        assert server.child.wait(5) in {0, -signal.SIGTERM}
        for connection in (*busy, *silent, *used):
            connection.close()


def test_without_it_such_a_request_is_lost(tmp_path: Path, uvicorn: Path) -> None:
    """Should this fail, uvicorn drains by itself by now, and ours can go."""
    with (
        served(tmp_path, uvicorn, "uvicorn app:asgi", stock=True) as server,
        closing(server.connect()) as used,
    ):
        assert ask(used)
        server.child.send_signal(signal.SIGTERM)

        def lost() -> bool:
            try:
                return not ask(used)
            except ConnectionError:
                return True

        await_("the loss", lost)


def test_connections_that_nobody_uses_do_not_hold_it_for_ever(
    tmp_path: Path, uvicorn: Path
) -> None:
    command = "uvicorn app:asgi --timeout-keep-alive 1"
    with (
        served(tmp_path, uvicorn, command, stock=False) as server,
        closing(server.connect()) as used,
        closing(server.connect()) as silent,
    ):
        assert ask(used)
        server.child.send_signal(signal.SIGTERM)
        assert silent.recv(1) == b""
        assert server.child.wait(4) in {0, -signal.SIGTERM}


def test_workers_whose_master_is_killed_answer_and_end(tmp_path: Path, uvicorn: Path) -> None:
    command = "uvicorn app:asgi --workers 2"
    with served(tmp_path, uvicorn, command, stock=False) as server:
        used = [server.connect() for _ in range(8)]
        for connection in used:
            assert not closes(connection)
        server.child.kill()
        for connection in used:
            await_("the drain", partial(closes, connection))
            connection.close()
        # Its workers have its stdout, too: that ends with the last of them.
        output, _ = server.child.communicate(timeout=20)
        assert b"Finished server process" in output
