"""Web servers as they are: without ranges, compressing, redirecting, asking for credentials."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from artifact import stores
from artifact.configuration.store_section import StoreSection
from artifact.errors import ConfigurationError
from artifact.stores.contract import AccessDenied, Store, StoreUnreachable
from surroundings.waiting import free_port
from tests.transfer import webserver

CONTENT = gzip.compress(bytes(range(256)) * 40_000, 1)


class _Handler(BaseHTTPRequestHandler):
    seen: list[dict[str, str]]
    answer: Callable[[BaseHTTPRequestHandler], None]

    def do_GET(self) -> None:
        type(self).seen.append({name.lower(): value for name, value in self.headers.items()})
        type(self).answer(self)

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - its name
        pass


@contextmanager
def server(
    answer: Callable[[BaseHTTPRequestHandler], None],
) -> Iterator[tuple[str, list[dict[str, str]]]]:
    """Run a web server that answers so; yields its address and the headers it saw."""
    seen: list[dict[str, str]] = []
    handler = type("Handler", (_Handler,), {"seen": seen, "answer": staticmethod(answer)})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{running.server_port}", seen
        finally:
            running.shutdown()
            thread.join()


def send(
    request: BaseHTTPRequestHandler, status: int, headers: dict[str, str], body: bytes = b""
) -> None:
    request.send_response(status)
    for name, value in headers.items():
        request.send_header(name, value)
    request.end_headers()
    request.wfile.write(body)


def whole(request: BaseHTTPRequestHandler) -> None:
    headers = {"Content-Length": str(len(CONTENT)), "ETag": '"one"'}
    send(request, 200, headers, CONTENT)


def opened(address: str) -> Store:
    return stores.open_store(address, StoreSection())


@pytest.mark.parametrize(
    "more",
    ["max_ranges 0;", "add_header Content-Encoding gzip;", "gzip on; gzip_types *;"],
    ids=["no ranges", "calls it encoded", "compresses"],
)
def test_the_bytes_are_those_of_the_file(tmp_path: Path, more: str) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "a.tgz").write_bytes(CONTENT)
    tmp_path.chmod(0o755)
    with webserver.nginx(root, tmp_path / "own", more=more) as address:
        store = opened(f"http://{address}/")
        found = store.stat("a.tgz")
        assert found is not None
        assert found.size == len(CONTENT)
        tail = store.tail("a.tgz", 999)
        assert tail.content()[-999:] == CONTENT[-999:]
        assert tail.length == (len(CONTENT) if "max_ranges" in more else 999)
        assert tail.info == found
        answer = store.read("a.tgz", 10, 100, etag=found.etag)
        start = answer.start
        assert start == (0 if "max_ranges" in more else 10)
        assert answer.content()[10 - start : 110 - start] == CONTENT[10:110]


def test_a_server_that_compresses_whatever_we_say_is_named() -> None:
    def answer(request: BaseHTTPRequestHandler) -> None:
        send(request, 200, {"Content-Encoding": "br", "Connection": "close"}, b"something")

    with server(answer) as (address, _), pytest.raises(StoreUnreachable, match="compresses") as e:
        opened(address).tail("a.tgz", 10)
    assert e.value.code == 5


def test_an_answer_that_breaks_off_is_resumed_from_there() -> None:
    asked: list[str] = []

    def answer(request: BaseHTTPRequestHandler) -> None:
        wanted = request.headers["Range"]
        asked.append(wanted)
        first, last = (int(part) for part in wanted.removeprefix("bytes=").split("-"))
        length = last - first + 1
        span = f"bytes {first}-{last}/{len(CONTENT)}"
        headers = {"Content-Length": str(length), "Content-Range": span, "ETag": '"one"'}
        send(request, 206, headers, CONTENT[first : first + min(length, 4000)])
        request.close_connection = True

    with server(answer) as (address, _):
        assert opened(address).read("a.tgz", 100, 9000, etag='"one"').content() == CONTENT[100:9100]
    assert asked == ["bytes=100-9099", "bytes=4100-9099", "bytes=8100-9099"]


def test_an_endless_answer_is_cut(tmp_path: Path) -> None:
    def answer(request: BaseHTTPRequestHandler) -> None:
        headers = {"Content-Range": f"bytes 0-9/{len(CONTENT)}", "ETag": '"one"'}
        send(request, 206, headers)
        try:
            while True:
                request.wfile.write(bytes(100_000))
        except OSError:
            request.close_connection = True

    with server(answer) as (address, _):
        assert len(opened(address).read("a.tgz", 0, 10).content()) == 10


@pytest.mark.parametrize("span", ["", "bytes 5-3/100", "bytes 0-99/50", "bytes 0-9/*", "nonsense"])
def test_a_range_that_cannot_be_is_refused(span: str) -> None:
    def answer(request: BaseHTTPRequestHandler) -> None:
        send(request, 206, {"Content-Range": span, "Content-Length": "10"}, bytes(10))

    with server(answer) as (address, _), pytest.raises(StoreUnreachable, match="range"):
        opened(address).read("a.tgz", 0, 10).content()


def test_credentials_go_to_the_stores_host_and_nowhere_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login deploy password s3cr3t-of-netrc\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("ARTIFACT_HTTP_HEADER_PRIVATE_TOKEN", "s3cr3t-of-header")
    with server(whole) as (other, elsewhere):
        elsewhere_url = other.replace("127.0.0.1", "localhost")

        def redirect(request: BaseHTTPRequestHandler) -> None:
            target = f"{elsewhere_url}{request.path}"
            send(request, 302, {"Location": target, "Content-Length": "0"})

        with server(redirect) as (address, here):
            assert opened(address).tail("a.tgz", 5).content()[-5:] == CONTENT[-5:]
    assert here[0]["private-token"] == "s3cr3t-of-header"
    assert here[0]["authorization"].startswith("Basic ")
    assert here[0]["accept-encoding"] == "identity"
    assert len(elsewhere) == 1
    assert not {"private-token", "authorization", "cookie"} & set(elsewhere[0])


def test_a_redirect_to_another_scheme_is_not_followed() -> None:
    def redirect(request: BaseHTTPRequestHandler) -> None:
        send(request, 302, {"Location": "https://127.0.0.1:1/a.tgz", "Content-Length": "0"})

    with server(redirect) as (address, _), pytest.raises(AccessDenied, match="https://"):
        opened(address).stat("a.tgz")


def test_a_password_in_the_address_is_sent_and_never_shown() -> None:
    with server(lambda request: send(request, 403, {"Content-Length": "0"})) as (address, seen):
        store = opened(address.replace("http://", "http://deploy:s3cr3t@"))
        assert "s3cr3t" not in f"{store.address} {store!r}"
        with pytest.raises(AccessDenied) as error:
            store.stat("a.tgz")
    assert "s3cr3t" not in f"{error.value} {error.value.hint}"
    assert seen[0]["authorization"].startswith("Basic ")


def test_a_store_that_is_shown_does_not_show_what_opens_it() -> None:
    shown = repr(opened("https://user:pa55word@a.example/x?X-Amz-Signature=s1gned"))
    assert shown == "HttpStore('https://a.example/x')"


def test_nobody_there_is_said_after_retries() -> None:
    store = opened(f"http://127.0.0.1:{free_port()}/x/?X-Amz-Signature=s3cr3t")
    with pytest.raises(StoreUnreachable, match="does not answer") as error:
        store.stat("a.tgz")
    assert "s3cr3t" not in f"{error.value} {store!r}"


@pytest.mark.parametrize("address", ["http://", "https://user@/x", "http://host:port/", "ftp://x"])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(ConfigurationError):
        opened(address)
