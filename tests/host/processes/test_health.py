"""Asking servers over real sockets."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from artifact.host.processes import health
from artifact.manifest import Health
from artifact.services import sockets


@contextmanager
def answering(
    content: bytes | None, path: Path | None = None, *, pause: float = 0.0
) -> Iterator[tuple[str, list[bytes]]]:
    """Listen and answer every connection with these bytes; None leaves it waiting.

    Args:
        pause: seconds after each byte.
    """
    heard: list[bytes] = []
    listener = socket.socket(socket.AF_UNIX if path else socket.AF_INET)
    if path:
        with sockets.short_path(path) as name:
            listener.bind(name)
    else:
        listener.bind(("127.0.0.1", 0))
    listener.listen()

    def serve() -> None:
        waiting: list[socket.socket] = []
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                break
            heard.append(connection.recv(4096))
            if content is None:
                waiting.append(connection)
                continue
            with connection, suppress(ConnectionError):
                for block in (
                    [content[i : i + 1] for i in range(len(content))] if pause else [content]
                ):
                    connection.sendall(block)
                    time.sleep(pause)
        for connection in waiting:
            connection.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"unix:{path}" if path else f"127.0.0.1:{listener.getsockname()[1]}", heard
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


@pytest.mark.parametrize(
    ("content", "ok", "text"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", True, "200 OK"),
        (b"HTTP/1.1 204\r\n\r\n", False, "204"),
        (b"HTTP/1.0 500 Oops\r\n\r\n", False, "500 Oops"),
        (b"HTTP/1.1 302 Found\r\n\r\n", False, "302 Found"),
        (b"SSH-2.0-OpenSSH\r\n", False, "an answer that is not HTTP"),
        (b"", False, "an empty answer"),
    ],
)
def test_only_the_wanted_status_is_health(content: bytes, ok: bool, text: str) -> None:
    with answering(content) as (address, _):
        answer = health.ask(address, Health(path="/healthz"))
    assert (answer.ok, answer.text) == (ok, text)


def test_the_request_names_the_host_and_closes(tmp_path: Path) -> None:
    with answering(b"HTTP/1.1 200 OK\r\n\r\n", tmp_path / "socket") as (address, heard):
        assert health.ask(address, Health(path="/h?a=1", host="example.com")).ok
    assert heard[0].startswith(b"GET /h?a=1 HTTP/1.1\r\nHost: example.com\r\n")
    assert b"Connection: close\r\n" in heard[0]


def test_a_path_longer_than_the_kernel_takes_is_reached(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 120)
    deep.mkdir()
    with answering(b"HTTP/1.1 200 OK\r\n\r\n", deep / "socket") as (address, _):
        assert health.ask(address, Health()).ok


def test_a_server_that_says_nothing_is_not_waited_for_longer_than_asked() -> None:
    with answering(None) as (address, _):
        assert health.ask(address, Health(), timeout=0.2).text == "no answer within 0.2 s"


def test_a_server_whose_answer_drips_is_not_waited_for_longer_than_asked() -> None:
    begun = time.monotonic()
    with answering(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 999, pause=0.01) as (address, _):
        assert health.ask(address, Health(), timeout=0.2).text == "no answer within 0.2 s"
        assert time.monotonic() - begun < 5


def test_a_health_path_may_hold_any_letter() -> None:
    with answering(b"HTTP/1.1 200 OK\r\n\r\n") as (address, heard):
        assert health.ask(address, Health(path="/über?a=%20[1]", host="münchen.example")).ok
    assert heard[0].startswith(b"GET /%C3%BCber?a=%20[1] HTTP/1.1\r\n")
    assert "Host: münchen.example\r\n".encode() in heard[0]


def test_nobody_there_is_an_answer_too(tmp_path: Path) -> None:
    assert health.ask("127.0.0.1:1", Health()).text == "connection refused"
    assert health.ask(f"unix:{tmp_path}/none", Health()).text == "no such file or directory"


def test_without_a_health_path_anything_but_a_server_error_will_do() -> None:
    for status, ok in ((200, True), (404, True), (302, True), (500, False)):
        with answering(b"HTTP/1.1 %d X\r\n\r\n" % status) as (address, _):
            assert health.ask(address, health.ANY_ANSWER).ok is ok


@pytest.mark.parametrize(
    ("listen", "address"),
    [
        ("127.0.0.1:8000", "127.0.0.1:8000"),
        ("0.0.0.0:8000", "127.0.0.1:8000"),
        (":8000", "127.0.0.1:8000"),
        ("[::]:8000", "[::1]:8000"),
        ("unix:/run/web.sock", "unix:/run/web.sock"),
    ],
)
def test_any_address_to_listen_on_becomes_one_to_connect_to(listen: str, address: str) -> None:
    assert health.connectable(listen) == address


def test_a_host_that_no_header_can_hold_is_an_answer_and_no_bug() -> None:
    with answering(b"HTTP/1.1 200 OK\r\n\r\n") as (address, heard):
        answer = health.ask(address, Health(host="example.com\r\nX-Injected: 1"))
    assert not answer.ok
    assert answer.text.startswith("it cannot be asked")
    assert b"X-Injected" not in b"".join(heard)
