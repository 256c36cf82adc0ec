"""XML-RPC by hand: against Python's own server, and against those that make no sense."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from xmlrpc.client import Fault as ServersFault
from xmlrpc.client import dumps
from xmlrpc.server import SimpleXMLRPCServer

import pytest
from hypothesis import given
from hypothesis import strategies as st

from artifact.services import xml_rpc

SCALARS = st.one_of(
    st.booleans(),
    st.integers(-(2**31), 2**31 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(min_codepoint=32, exclude_categories=["Cs"], max_codepoint=0xFFFD)),
    st.none(),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner) | st.dictionaries(st.text("abc <&>é", min_size=1), inner),
    max_leaves=8,
)


@pytest.fixture(scope="module")
def python() -> Iterator[str]:
    """The address of the server of the standard library."""
    with SimpleXMLRPCServer(("127.0.0.1", 0), logRequests=False, allow_none=True) as server:
        server.register_function(lambda *parameters: list(parameters), "echo")

        def refuse() -> None:
            raise ServersFault(10, "BAD_NAME: <none>")

        server.register_function(refuse, "refuse")
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@contextmanager
def answering(answer: bytes, *, then_hang: bool = False) -> Iterator[str]:
    """Serve one connection: read the request, send these bytes."""
    done = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(answer)
                if then_hang:
                    done.wait(20)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        done.set()
        thread.join()


def wrapped(document: str | bytes, status: str = "200 OK") -> bytes:
    body = document.encode() if isinstance(document, str) else document
    return f"HTTP/1.0 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def response(value: str) -> str:
    return (
        "<?xml version='1.0'?><methodResponse><params><param>"
        f"{value}</param></params></methodResponse>"
    )


def test_what_is_sent_arrives_and_comes_back(python: str) -> None:
    sent = ("a <b> & 'c' \u00e9 ]]>", "", " spaces ", 7, -1, True, False)
    assert xml_rpc.call(python, "echo", *sent) == list(sent)


def test_a_fault_has_its_code_and_text(python: str) -> None:
    with pytest.raises(xml_rpc.Fault) as fault:
        xml_rpc.call(python, "refuse")
    assert (fault.value.code, fault.value.text) == (10, "BAD_NAME: <none>")


@given(VALUES)
def test_every_value_that_pythons_server_writes_is_read(value: xml_rpc.Value) -> None:
    document = dumps((value,), methodresponse=True, allow_none=True)
    assert xml_rpc.loads(document.encode()) == value


def test_indented_documents_and_values_without_a_type_are_read() -> None:
    value = (
        "<value>\n <array><data>\n  <value> <int>1</int> </value>\n  <value>two</value>"
        "<value/>\n </data></array>\n</value>"
    )
    assert xml_rpc.loads(response(value).encode()) == [1, "two", ""]


def test_what_a_log_holds_does_not_make_the_answer_unreadable() -> None:
    value = b"<value><string>\x1b[31mred\x1b[0m \x00 \xff end</string></value>"
    document = response("HERE").encode().replace(b"HERE", value)
    assert xml_rpc.loads(document) == "?[31mred?[0m ? \ufffd end"


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b"", "its answer is empty"),
        (b"\x00\x01\x02" * 99, "is not HTTP"),
        (b"220 mail.example ESMTP\r\n", "is not HTTP"),
        (b"HTTP/1.0 200 OK\r\nContent-Len", "half way"),
        (wrapped(response("<value>x</value>"))[:-9], "half way"),
        (wrapped("hello"), "is not XML-RPC"),
        (wrapped(""), "is not XML-RPC"),
        (wrapped("<html><p>It works!</p></html>"), "holds no value"),
        (wrapped(response("<value><int>seven</int></value>")), "is not XML-RPC"),
        (wrapped(response("<value><struct><member><name>a</name></member></struct></value>")),
         "is not XML-RPC"),
        (wrapped(response("<value><array><data>" * 999)), "nested too deep"),
        (wrapped('<!DOCTYPE x [<!ENTITY a "b">]>' + response("<value>&a;</value>")), "entities"),
        (wrapped(response("<value>x</value>").replace("params", "fault")), "fault of no sense"),
    ],
)  # fmt: skip
def test_an_answer_of_no_sense_is_called_one(answer: bytes, message: str) -> None:
    with answering(answer) as url, pytest.raises(xml_rpc.Garbled, match=message):
        xml_rpc.call(url, "x")


def test_an_answer_without_end_is_given_up() -> None:
    endless = b"HTTP/1.0 200 OK\r\n\r\n" + b" " * (33 << 20)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection, suppress(ConnectionError):
                connection.recv(65536)
                connection.sendall(endless)

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(xml_rpc.Garbled, match="more than 32 MiB"):
            xml_rpc.call(f"http://127.0.0.1:{listener.getsockname()[1]}", "x")
        thread.join()


def test_the_end_that_was_announced_is_the_end_though_the_connection_stays_open() -> None:
    with answering(wrapped(response("<value>x</value>")), then_hang=True) as url:
        assert xml_rpc.call(url, "x", timeout=15) == "x"


def test_an_answer_that_stops_coming_is_a_timeout_of_the_whole_exchange() -> None:
    began = time.monotonic()
    with (
        answering(b"HTTP/1.0 200 OK\r\nContent-Length: 99\r\n\r\n<", then_hang=True) as url,
        pytest.raises(TimeoutError),
    ):
        xml_rpc.call(url, "x", timeout=0.2)
    assert time.monotonic() - began < 10


def test_another_status_is_told_with_its_words() -> None:
    with (
        answering(wrapped("", "401 Unauthorized")) as url,
        pytest.raises(xml_rpc.Unwelcome, match="401 Unauthorized") as error,
    ):
        xml_rpc.call(url, "x")
    assert error.value.status == 401


def test_addresses_are_read_with_their_credentials() -> None:
    parsed = xml_rpc.parse("unix://me:p%40ss@/run/s@1.sock")
    assert (parsed.unix, parsed.credentials) == ("/run/s@1.sock", "me:p@ss")
    http = xml_rpc.parse("http://me:p%40ss@[::1]:9001/RPC2")
    assert (http.host, http.port, http.path) == ("::1", 9001, "/RPC2")
    assert http.credentials == "me:p@ss"
