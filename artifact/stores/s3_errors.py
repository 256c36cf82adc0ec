"""The errors of an S3 server, and what the contract of stores calls them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from artifact import redaction
from artifact.errors import ConfigurationError
from artifact.stores.contract import AccessDenied, StoreMissing, StoreUnreachable, changed, missing


class S3Error(Exception):
    """What the server answered instead of doing it."""

    def __init__(self, response: Mapping[str, Any]) -> None:
        error, about = response.get("Error", {}), response.get("ResponseMetadata", {})
        self.repeated = bool(about.get("RetryAttempts", 0))
        """boto3 asked before, and the answer was lost."""
        self.code = str(error.get("Code", ""))
        self.status = int(about.get("HTTPStatusCode", 0))
        self.text = str(error.get("Message", ""))
        super().__init__(f"{self.code}: {self.text}")


def explain(error: S3Error, address: str, bucket: str, name: str) -> Exception:
    """Return the contract's error for it."""
    said = f"{error.code or error.status}: {redaction.redact(error.text)}".rstrip(": ")
    if error.code == "NoSuchBucket":
        return StoreMissing(
            f"there is no bucket {bucket}",
            hint=f"correct url in [store], or make it: aws s3 mb s3://{bucket}",
        )
    if error.status == 404:
        return missing(address, name)
    if error.status == 412:
        return changed(address, name)
    if error.status in {401, 403}:
        return AccessDenied(
            f"{address} does not allow {name or 'this'} ({said})",
            hint="check the credentials and their policy; without the right to list a bucket, "
            "objects that are missing look like this as well",
        )
    if error.status == 501:
        return ConfigurationError(
            f"{address} has no conditional writes ({said})",
            hint="use a server that has them: AWS, MinIO, Ceph ≥ 20, R2, SeaweedFS",
        )
    if error.status in {301, 307, 400}:
        return ConfigurationError(
            f"{address} refuses the request ({said})",
            hint="check endpoint, region and path-style in [store]",
        )
    return StoreUnreachable(
        f"{address} fails ({said})", hint="run the same command again in a while"
    )
