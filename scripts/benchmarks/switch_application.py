"""The texts that `scripts/bench switch` writes: its application, its configurations."""

REQUIREMENTS = "gunicorn==27.0.1\nuvicorn==0.48.0\n"

CONFIGURATION = """\
name = "{name}"

[processes.web]
command = "gunicorn app:application"
listen = "127.0.0.1:8000"
health = {{ path = "/healthz", timeout = 20 }}
"""

APPLICATION = '''\
"""Answers "VERSION LENGTH" to everything; as `manner` says, or well."""

import asyncio
import os
import time

from manner import MANNER

VERSION = os.environ.get("ARTIFACT_VERSION", "plain")
SLOW_SECONDS = 2

if MANNER == "does not import":
    import no_such_module


def _status(path):
    return 500 if path == "/healthz" and MANNER == "answers 500" else 200


def _seconds(path):
    if path == "/healthz" and MANNER == "hangs":
        return 3600
    return SLOW_SECONDS if path == "/slow" else 0


def application(environ, start_response):
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    path = environ["PATH_INFO"]
    time.sleep(_seconds(path))
    answer = f"{VERSION} {len(body)}".encode()
    headers = [("Content-Type", "text/plain"), ("Content-Length", str(len(answer)))]
    start_response(f"{_status(path)} As It Is", headers)
    return [answer]


async def asgi(scope, receive, send):
    if scope["type"] != "http":
        raise NotImplementedError(scope["type"])
    length, more = 0, True
    while more:
        message = await receive()
        length, more = length + len(message.get("body", b"")), message.get("more_body")
    await asyncio.sleep(_seconds(scope["path"]))
    answer = f"{VERSION} {length}".encode()
    headers = [(b"content-length", str(len(answer)).encode())]
    status = _status(scope["path"])
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": answer})
'''

# It keeps connections to the servers open, as nginx does by itself from 1.29.7 on.
NGINX = """\
    access_log off;
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    upstream site {{ server 127.0.0.1:{site} fail_timeout=0; keepalive 16; }}
    upstream plain {{ server 127.0.0.1:{plain} fail_timeout=0; keepalive 16; }}
    server {{ listen 127.0.0.1:{proxy}; location / {{ proxy_pass http://site; }} }}
    server {{ listen 127.0.0.1:{plain_proxy}; location / {{ proxy_pass http://plain; }} }}
"""

# As docs/operations.md says it.
HAPROXY = """\
global
    maxconn 1000
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    retries 3
    option redispatch
frontend site
    bind 127.0.0.1:{haproxy}
    default_backend site
frontend plain
    bind 127.0.0.1:{plain_haproxy}
    default_backend plain
backend site
    option httpchk GET /healthz
    server site 127.0.0.1:{site} check
backend plain
    server plain 127.0.0.1:{plain}
"""
