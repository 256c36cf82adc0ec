"""Call a method over XML-RPC: one HTTP/1.0 exchange over a unix or TCP socket.

By hand, for `xmlrpc.client` imports http.client, email and gzip: 45 ms for every `artifact status`,
more than all the rest of it. Only what supervisor sends and takes is here.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from artifact.errors import ConfigurationError

if TYPE_CHECKING:
    import socket
    from xml.parsers.expat import XMLParserType

Value = str | int | float | bool | list["Value"] | dict[str, "Value"] | None

_ANSWER_SECONDS = 30.0
_LONGEST_ANSWER_BYTES = 32 << 20
_DEEPEST = 32
_BLOCK_BYTES = 65536

# A program's log may hold any byte; XML has no way to write most control characters.
_NOT_XML = bytes(number for number in range(32) if number not in b"\t\n\r")
_READABLE = bytes.maketrans(_NOT_XML, b"?" * len(_NOT_XML))


class Fault(Exception):
    """The other side understood, and says no."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{code}: {text}")
        self.code = code
        self.text = text


class Unwelcome(Exception):
    """HTTP was answered with another status than 200."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(f"{status} {reason}".rstrip())
        self.status = status


class Garbled(Exception):
    """What came back is not XML-RPC."""


class Address(NamedTuple):
    """Where to call."""

    unix: str
    """Path of the socket; empty for TCP."""
    host: str
    port: int
    path: str
    credentials: str
    """ "user:password", or empty."""


def parse(url: str) -> Address:
    """Read "unix:///path" or "http://host:port", with "user:password@" where it asks for them.

    Raises:
        ConfigurationError: it is neither.
    """
    from urllib.parse import unquote, urlsplit

    scheme, _, rest = url.partition("://")
    if scheme == "unix":
        credentials, at, path = ("", "/", rest[1:]) if rest[:1] == "/" else rest.partition("@/")
        if at:
            return Address(f"/{path}", "localhost", 0, "/RPC2", unquote(credentials))
    if scheme == "http":
        try:
            parts = urlsplit(url)
            port = parts.port or 80
        except ValueError:
            parts, port = urlsplit(""), 0
        if parts.hostname:
            credentials = unquote(parts.netloc.rpartition("@")[0])
            path = parts.path.rstrip("/") or "/RPC2"
            return Address("", parts.hostname, port, path, credentials)
    raise ConfigurationError(
        f"supervisor's URL {url!r} is neither unix:///path/of/supervisor.sock nor http://host:port"
    )


def call(url: str, method: str, *parameters: str | int, timeout: float = _ANSWER_SECONDS) -> Value:
    """Call a method and return its result.

    Args:
        timeout: seconds for the whole exchange.

    Raises:
        ConfigurationError: the URL is none.
        OSError: nobody answers, or not in time.
        Fault: the method, or the other side for it, says no.
        Unwelcome: the HTTP server says no: 401 asks for user and password.
        Garbled: the answer makes no sense.
    """
    address = parse(url)
    deadline = time.monotonic() + timeout
    with _connected(address, timeout) as connection:
        connection.sendall(_request(address, _document(method, parameters)))
        answer = _read(connection, deadline)
    return loads(_body(answer))


def _connected(address: Address, timeout: float) -> socket.socket:
    import socket  # 4 ms, and its users have them imported by then

    if not address.unix:
        # As bytes: an ASCII name of type str would import the tables of idna, 2 ms.
        host = address.host.encode("ascii" if address.host.isascii() else "idna")
        return socket.create_connection((host, address.port), timeout)  # type: ignore[arg-type]
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.settimeout(timeout)
        connection.connect(address.unix)
    except BaseException:
        connection.close()
        raise
    return connection


def _request(address: Address, document: bytes) -> bytes:
    from binascii import b2a_base64

    host = f"[{address.host}]" if ":" in address.host else address.host
    head = [
        # 1.0: the answer comes in one piece, and ends where the connection does.
        f"POST {address.path} HTTP/1.0",
        f"Host: {host}:{address.port}" if address.port else f"Host: {host}",
        "User-Agent: artifact",
        "Content-Type: text/xml",
        f"Content-Length: {len(document)}",
    ]
    if address.credentials:
        coded = b2a_base64(address.credentials.encode(), newline=False).decode()
        head.append(f"Authorization: Basic {coded}")
    return "\r\n".join([*head, "", ""]).encode() + document


def _document(method: str, parameters: tuple[str | int, ...]) -> bytes:
    written = "".join(f"<param><value>{_dump(one)}</value></param>" for one in parameters)
    return (
        f"<?xml version='1.0'?><methodCall><methodName>{method}</methodName>"
        f"<params>{written}</params></methodCall>"
    ).encode()


def _dump(value: str | int) -> str:
    if isinstance(value, bool):
        return f"<boolean>{int(value)}</boolean>"
    if isinstance(value, int):
        return f"<int>{value}</int>"
    escaped = value.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return f"<string>{escaped}</string>"


def _read(connection: socket.socket, deadline: float) -> bytes:
    """Return all that comes until the other side closes or has sent what it announced."""
    received = bytearray()
    wanted = _LONGEST_ANSWER_BYTES
    begins = -1
    while begins < 0 or len(received) < begins + wanted:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("no answer in time")
        connection.settimeout(left)
        block = connection.recv(_BLOCK_BYTES)
        if not block:
            break
        received += block
        if len(received) > _LONGEST_ANSWER_BYTES:
            raise Garbled(f"an answer of more than {_LONGEST_ANSWER_BYTES >> 20} MiB")
        if begins < 0 and (end := received.find(b"\r\n\r\n")) >= 0:
            begins = end + 4
            wanted = _announced(bytes(received[:end]), wanted)
    return bytes(received)


def _announced(head: bytes, otherwise: int) -> int:
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length" and value.strip().isdigit():
            return int(value)
    return otherwise


def _body(answer: bytes) -> bytes:
    head, empty_line, body = answer.partition(b"\r\n\r\n")
    protocol, _, text = head.partition(b"\r\n")[0].decode("latin-1").partition(" ")
    number, _, reason = text.partition(" ")
    if not protocol.startswith("HTTP/") or not number.isdecimal():
        raise Garbled("its answer is not HTTP" if answer else "its answer is empty")
    if int(number) != 200:
        raise Unwelcome(int(number), reason)
    if not empty_line or len(body) < _announced(head, 0):
        raise Garbled("its answer ends half way")
    return body


def loads(body: bytes) -> Value:
    """Read a response.

    Raises:
        Fault: it is one.
        Garbled: it is none.
    """
    from xml.parsers import expat

    reading = _Reading()
    # Bytes that are no UTF-8 come from a program's log as well.
    text = body.translate(_READABLE).decode("utf-8", "replace")
    try:
        reading.attach(expat.ParserCreate("utf-8")).Parse(text.encode(), True)  # noqa: FBT003
    except (expat.ExpatError, ValueError, LookupError, TypeError) as error:
        raise Garbled(f"its answer is not XML-RPC: {error}") from error
    if not reading.results:
        raise Garbled("its answer is not XML-RPC: it holds no value")
    result = reading.results[-1]
    if not reading.faulty:
        return result
    if not isinstance(result, dict):
        raise Garbled("its answer is a fault of no sense")
    raise Fault(int(str(result.get("faultCode", 0))), str(result.get("faultString", "")))


_SCALARS: dict[str, Callable[[str], Value]] = {
    "int": int,
    "i4": int,
    "i8": int,
    "boolean": lambda text: bool(int(text)),
    "double": float,
    "string": str,
    "dateTime.iso8601": str,
    "base64": str,
    "nil": lambda _text: None,
    "name": str,
}

_NESTING: dict[str, Callable[[list[Value], str], Value]] = {
    "array": lambda inside, _text: inside,
    "struct": lambda inside, _text: dict(zip(map(str, inside[::2]), inside[1::2], strict=True)),
    # A value without a type is a string.
    "value": lambda inside, text: inside[-1] if inside else text,
}


class _Reading:
    """What was read of a document so far."""

    def __init__(self) -> None:
        self.faulty = False
        # What the document, and each array, struct and value that is open in it, holds so far; a
        # struct holds names and values by turns.
        self._frames: list[list[Value]] = [[]]
        self._text: list[str] = []

    @property
    def results(self) -> list[Value]:
        return self._frames[0]

    def attach(self, parser: XMLParserType) -> XMLParserType:
        parser.StartElementHandler = self._begin
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._text.append
        parser.StartDoctypeDeclHandler = self._refuse
        return parser

    def _refuse(self, *_declaration: object) -> None:
        raise ValueError("it declares entities")

    def _begin(self, name: str, _attributes: dict[str, str]) -> None:
        self._text.clear()
        self.faulty |= name == "fault"
        if name in _NESTING:
            self._frames.append([])
            if len(self._frames) > _DEEPEST:
                raise ValueError("it is nested too deep")

    def _end(self, name: str) -> None:
        text = "".join(self._text)
        self._text.clear()
        if name in _NESTING:
            closed = self._frames.pop()
            self._frames[-1].append(_NESTING[name](closed, text))
        elif name in _SCALARS:
            self._frames[-1].append(_SCALARS[name](text))
