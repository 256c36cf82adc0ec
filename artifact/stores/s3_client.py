"""The door to boto3: a client, what it reads, and its errors in the words of the contract.

Credentials come from boto3's own chain: AWS_ACCESS_KEY_ID, ~/.aws, the instance's role.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import boto3
from botocore import exceptions
from botocore.config import Config

from artifact import redaction, variables
from artifact.configuration.store_section import StoreSection
from artifact.errors import ConfigurationError
from artifact.stores import resuming
from artifact.stores.contract import AccessDenied, StoreUnreachable
from artifact.stores.s3_errors import S3Error

_READ_BYTES = 64 * 1024
_FIRST_READ_BYTES = 1024


def make_client(section: StoreSection) -> Any:
    """Return boto3's client; the stubs would need boto3's service definitions at run time.

    Raises:
        ConfigurationError: the endpoint is no URL, or the profile is not there.
    """
    elsewhere = section.endpoint or variables.get("AWS_ENDPOINT_URL_S3")
    elsewhere = elsewhere or variables.get("AWS_ENDPOINT_URL")
    path_style = bool(elsewhere) if section.path_style == "auto" else section.path_style
    checksums: Any = section.checksums
    if checksums == "auto":
        checksums = "when_required" if elsewhere else "when_supported"
    config = Config(
        s3={"addressing_style": "path" if path_style else "auto"},
        request_checksum_calculation=checksums,
        response_checksum_validation=checksums,
        retries={"mode": "standard", "max_attempts": 5},
        connect_timeout=10,
        read_timeout=30,
        max_pool_connections=16,
    )
    try:
        session = boto3.Session()
        region = section.region or session.region_name or ("us-east-1" if elsewhere else None)
        return session.client(
            "s3", endpoint_url=section.endpoint or None, region_name=region, config=config
        )
    except (exceptions.BotoCoreError, ValueError) as error:
        raise ConfigurationError(
            f"[store]: {redaction.redact(str(error))}",
            hint="check endpoint and region in [store], and AWS_PROFILE",
        ) from error


@contextmanager
def translated_errors(address: str) -> Iterator[None]:
    """Turn boto3's errors into `S3Error` or into those of the contract.

    Args:
        address: of the store that is spoken to, for messages.
    """
    try:
        yield
    except exceptions.ClientError as error:
        raise S3Error(error.response) from None
    except (exceptions.NoCredentialsError, exceptions.PartialCredentialsError) as error:
        raise AccessDenied(
            f"there are no credentials for {address}",
            hint="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, "
            "or give the machine a role",
        ) from error
    except exceptions.ParamValidationError as error:
        raise ConfigurationError(
            f"{address} is not the address of a bucket", hint="s3://BUCKET/PREFIX"
        ) from error
    except (exceptions.BotoCoreError, exceptions.HTTPClientError, OSError) as error:
        raise StoreUnreachable(
            f"{address} does not answer: {redaction.redact(str(error))}",
            hint="is the network up, and endpoint and region in [store] right?",
        ) from error


def chunks(body: Any) -> Iterator[bytes]:
    """Yield what a body brings.

    Raises:
        Broken: the connection ended too early.
    """
    try:
        # A read waits until it is full, and a slow line must be seen to be slow.
        size = _FIRST_READ_BYTES
        while chunk := body.read(size):
            yield chunk
            size = min(2 * size, _READ_BYTES)
    except (exceptions.BotoCoreError, exceptions.HTTPClientError, OSError) as error:
        raise resuming.ConnectionBroken(type(error).__name__) from error
