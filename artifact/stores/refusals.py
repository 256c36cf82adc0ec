"""What an S3 server says no with, and what that is called in the contract of stores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from artifact import redaction
from artifact.errors import ConfigurationError
from artifact.stores import resuming
from artifact.stores.contract import AccessDenied, ObjectMissing, StoreMissing, StoreUnreachable


class Refusal(Exception):
    """What the server said no with."""

    def __init__(self, response: Mapping[str, Any]) -> None:
        error, about = response.get("Error", {}), response.get("ResponseMetadata", {})
        self.repeated = bool(about.get("RetryAttempts", 0))
        """boto3 asked before, and the answer was lost."""
        self.code = str(error.get("Code", ""))
        self.status = int(about.get("HTTPStatusCode", 0))
        self.text = str(error.get("Message", ""))
        super().__init__(f"{self.code}: {self.text}")


def explained(refusal: Refusal, address: str, bucket: str, name: str) -> Exception:
    """Return what the contract calls this refusal."""
    said = f"{refusal.code or refusal.status}: {redaction.redact(refusal.text)}".rstrip(": ")
    if refusal.code == "NoSuchBucket":
        return StoreMissing(
            f"there is no bucket {bucket}",
            hint=f"correct url in [store], or make it: aws s3 mb s3://{bucket}",
        )
    if refusal.status == 404:
        return missing(address, name)
    if refusal.status == 412:
        return resuming.replaced(f"{name} in {address}")
    if refusal.status in {401, 403}:
        return AccessDenied(
            f"{address} does not allow {name or 'this'} ({said})",
            hint="check the credentials and their policy; without the right to list a bucket, "
            "objects that are missing look like this as well",
        )
    if refusal.status == 501:
        return ConfigurationError(
            f"{address} has no conditional writes ({said})",
            hint="use a server that has them: AWS, MinIO, Ceph ≥ 20, R2, SeaweedFS",
        )
    if refusal.status in {301, 307, 400}:
        return ConfigurationError(
            f"{address} refuses the request ({said})",
            hint="check endpoint, region and path-style in [store]",
        )
    return StoreUnreachable(
        f"{address} fails ({said})", hint="run the same command again in a while"
    )


def missing(address: str, name: str) -> ObjectMissing:
    """Return the error for an object that is not there."""
    return ObjectMissing(
        f"the store {address} has no {name}", hint="`artifact ls` lists what it has"
    )
