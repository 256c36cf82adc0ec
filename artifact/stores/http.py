"""A store that is a web server: read-only; also presigned URLs of buckets.

Bodies are not decoded: a server that calls a `.tgz` "Content-Encoding: gzip" sends its very bytes.
"""

from __future__ import annotations

import netrc
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NoReturn
from urllib.parse import quote, unquote, urljoin, urlsplit

import urllib3
from urllib3.exceptions import HTTPError, LocationParseError
from urllib3.util import Retry, Timeout, make_headers

from artifact import steps, variables
from artifact.errors import ConfigurationError
from artifact.stores import addresses, resuming
from artifact.stores.contract import (
    LARGEST_POINTER,
    AccessDenied,
    ObjectInfo,
    ObjectMissing,
    Ranged,
    ReadOnly,
    SimilarObject,
    StoreUnreachable,
    changed,
    missing,
)

HEADER_VARIABLES = "ARTIFACT_HTTP_HEADER_"
"""ARTIFACT_HTTP_HEADER_PRIVATE_TOKEN=… is sent as `Private-Token: …`, to the store's host only."""

_READ_BYTES = 256 * 1024
_REDIRECTS = 5
_RETRIED = (408, 425, 429, 500, 502, 503, 504)
_SPAN = re.compile(r"bytes (?:(?P<start>\d+)-(?P<end>\d+)|\*)/(?P<total>\d+|\*)")
_RETRY = Retry(
    total=4,
    redirect=False,
    raise_on_status=False,
    status_forcelist=_RETRIED,
    backoff_factor=0.2,
    backoff_jitter=0.3,
    respect_retry_after_header=False,  # some say hours
)


class HttpStore(resuming.RangedStore, frozen=True):
    """Objects below a URL."""

    base: str
    """Without user, password and query; ends with a slash."""
    query: str
    """Of a presigned URL; sent with every request."""
    headers: Mapping[str, str]
    """Credentials, for the base's host only."""
    pool: urllib3.PoolManager

    @property
    def address(self) -> str:
        """The URL without credentials."""
        return self.base.rstrip("/")

    def stat(self, name: str) -> ObjectInfo | None:
        """See `Store`; a GET of one byte, for presigned URLs allow no HEAD."""
        try:
            answer = self._asked(name, "bytes=0-0", "")
        except ObjectMissing:
            return None
        answer.close()
        return answer.info

    def put_if_absent(
        self, name: str, source: Path, *, tell: steps.Listener, like: SimilarObject | None = None
    ) -> bool:
        """Raise `ReadOnly`."""
        self._read_only("written")

    def names(self, prefix: str) -> Iterator[tuple[str, ObjectInfo]]:
        """Raise `ReadOnly`."""
        self._read_only("listed")

    def delete(self, name: str) -> None:
        """Raise `ReadOnly`."""
        self._read_only("written")

    def pointer(self, name: str) -> tuple[bytes, str] | None:
        """See `Store`."""
        response = self._get(name, {"Cache-Control": "no-cache"})
        try:
            if response.status in {404, 410}:
                return None
            if response.status != 200:
                raise self._explain(name, response)
            content = response.read(LARGEST_POINTER, decode_content=True)
        except (HTTPError, OSError) as error:
            raise self._unreachable(error) from error
        finally:
            response.close()
        return content, response.headers.get("ETag", "")

    def swap(self, name: str, content: bytes, expected: str | None) -> bool:
        """Raise `ReadOnly`."""
        self._read_only("written")

    def _asked(self, name: str, wanted: str, etag: str) -> Ranged:
        headers = {"Range": wanted}
        if etag and not etag.startswith("W/"):  # a weak one never matches: RFC 9110, 13.1.1
            headers["If-Match"] = etag
        response = self._get(name, headers)
        answer = self._answer(name, response)
        if etag and answer.etag != etag:
            answer.close()
            raise changed(self.address, name)
        return answer

    def _answer(self, name: str, response: urllib3.BaseHTTPResponse) -> Ranged:
        etag = response.headers.get("ETag") or response.headers.get("Last-Modified", "")
        span = _SPAN.fullmatch(response.headers.get("Content-Range", ""))
        length = response.headers.get("Content-Length", "")
        if response.status == 416 and span and span["total"] != "*":
            response.close()
            return resuming.nothing(int(span["total"]), int(span["total"]), etag)
        try:
            if response.status not in {200, 206}:
                raise self._explain(name, response)
            if response.status == 206 and span and span["start"] and span["total"] != "*":
                start, end, total = int(span["start"]), int(span["end"]) + 1, int(span["total"])
                if not start < end <= total:
                    raise self._nonsense(name, "answers a range that cannot be")
            elif response.status == 206:
                raise self._nonsense(name, "does not say which range it answers")
            elif not length.isdigit():
                compressed = response.headers.get("Content-Encoding")
                raise self._nonsense(
                    name,
                    f"compresses it on the way ({compressed})"
                    if compressed
                    else "does not say how large it is",
                )
            else:
                start, end, total = 0, int(length), int(length)
        except BaseException:
            response.close()
            raise
        return Ranged(start, end - start, total, etag, _chunks(response), response.close)

    def _get(self, name: str, headers: Mapping[str, str]) -> urllib3.BaseHTTPResponse:
        """Make a request, with credentials for the store's own host, and follow its redirects."""
        url = self._url(name)
        origin = _origin(url)
        for _ in range(_REDIRECTS):
            sent = {"Accept-Encoding": "identity", **headers}
            if _origin(url) == origin:
                sent.update(self.headers)
            try:
                response = self.pool.request(
                    "GET",
                    url,
                    headers=sent,
                    redirect=False,
                    preload_content=False,
                    decode_content=False,
                    retries=_RETRY,
                )
            except (HTTPError, OSError) as error:
                raise self._unreachable(error) from error
            target = response.get_redirect_location()
            if not target:
                return response
            response.close()
            url = urljoin(url, target)
            if urlsplit(url).scheme != urlsplit(origin).scheme:
                raise AccessDenied(
                    f"{name} in {self.address} is redirected to {urlsplit(url).scheme}://, "
                    "which is not followed",
                    hint="give the address it is redirected to, if you trust it",
                )
        raise StoreUnreachable(
            f"{name} in {self.address} is redirected more than {_REDIRECTS} times",
            hint="correct the web server's configuration",
        )

    def _url(self, name: str) -> str:
        path = quote(addresses.checked(unquote(name)), safe="/+@=~")
        return f"{self.base}{path}" + (f"?{self.query}" if self.query else "")

    def _explain(self, name: str, response: urllib3.BaseHTTPResponse) -> Exception:
        """Return the contract's error for this answer."""
        status = response.status
        if status in {404, 410}:
            return missing(self.address, name, hint="is the address right?")
        if status == 412:
            return changed(self.address, name)
        if status in {401, 403, 407}:
            return AccessDenied(
                f"{self.address} does not allow {name}: {status} {response.reason or ''}".strip(),
                hint="a presigned URL may have expired: make a new one"
                if self.query
                else f"credentials come from ~/.netrc or {HEADER_VARIABLES}AUTHORIZATION",
            )
        return StoreUnreachable(
            f"{self.address} answers {status} {response.reason or ''} for {name}",
            hint="look into the web server's log",
        )

    def _nonsense(self, name: str, what: str) -> StoreUnreachable:
        return StoreUnreachable(
            f"{self.address} {what}: {name}",
            hint="artifacts must be served as they are: switch compression off, and send lengths",
        )

    def _unreachable(self, error: Exception) -> StoreUnreachable:
        # The text of urllib3's error holds the URL with its query.
        reason = getattr(error, "reason", None) or error
        return StoreUnreachable(
            f"{self.address} does not answer: {_without_url(reason, self.query)}",
            hint="is the network up, and the address right?",
        )

    def _read_only(self, what: str) -> NoReturn:
        raise ReadOnly(
            f"{self.address} is a web server, which can only be read, not {what}",
            hint="give the address of its bucket or directory: s3://… or a path",
        )


def open_http(address: str) -> HttpStore:
    """Return the store at a URL, with what ~/.netrc and the variables have for its host.

    Raises:
        ConfigurationError: it is no URL, or ~/.netrc cannot be read.
    """
    parts = urlsplit(address)
    try:
        host, port = parts.hostname, parts.port
        urllib3.util.parse_url(address)
    except (ValueError, LocationParseError):
        host, port = None, None
    if not host:
        raise ConfigurationError(
            f"{parts.scheme}://… is not a URL", hint="https://host/path, as of a browser"
        )
    bracketed = f"[{host}]" if ":" in host else host
    netloc = bracketed + (f":{port}" if port else "")
    path = parts.path if parts.path.endswith("/") else f"{parts.path}/"
    headers = dict(_own_headers())
    if "authorization" not in {name.lower() for name in headers}:
        user = (unquote(parts.username), unquote(parts.password or "")) if parts.username else None
        if user := user or _from_netrc(host):
            headers |= make_headers(basic_auth=":".join(user))
    base = f"{parts.scheme.lower()}://{netloc}{path}"
    return HttpStore(base, parts.query, headers, _pool(parts.scheme.lower(), host))


def _pool(scheme: str, host: str) -> urllib3.PoolManager:
    timeout = Timeout(connect=10, read=30)
    if any(name.lower().endswith("_proxy") for name in variables.everything()):
        from urllib.request import getproxies, proxy_bypass  # half of urllib3's time again

        proxy = getproxies().get(scheme)
        if proxy and not proxy_bypass(host):
            return urllib3.ProxyManager(
                proxy, timeout=timeout, maxsize=16, cert_reqs="CERT_REQUIRED"
            )
    return urllib3.PoolManager(timeout=timeout, maxsize=16, cert_reqs="CERT_REQUIRED")


def _own_headers() -> Iterator[tuple[str, str]]:
    for variable, value in variables.everything().items():
        if variable.startswith(HEADER_VARIABLES) and value:
            words = variable.removeprefix(HEADER_VARIABLES).split("_")
            yield "-".join(word.capitalize() for word in words), value


def _from_netrc(host: str) -> tuple[str, str] | None:
    path = Path(variables.get("NETRC") or Path.home() / ".netrc")
    if not path.exists():
        return None
    try:
        found = netrc.netrc(path).authenticators(host)
    except (OSError, netrc.NetrcParseError) as error:
        # The message of NetrcParseError quotes the file.
        raise ConfigurationError(
            f"{path} cannot be read: {getattr(error, 'msg', '').split('(')[0] or error}",
            hint=f"chmod 600 {path}; one line a host: machine HOST login USER password PASSWORD",
        ) from None
    return (found[0], found[2] or "") if found else None


def _chunks(response: urllib3.BaseHTTPResponse) -> Iterator[bytes]:
    try:
        # What one recv(2) brings, not a full piece: a slow line must be seen to be slow.
        while chunk := response.read1(_READ_BYTES, decode_content=False):
            yield chunk
    except (HTTPError, OSError) as error:
        raise resuming.ConnectionBroken(type(error).__name__) from error


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname}:{parts.port or ''}"


def _without_url(reason: object, query: str) -> str:
    text = str(reason)
    return text.replace(query, "…") if query else text
