"""A store that is a bucket: AWS, MinIO, Ceph, R2, SeaweedFS."""

from __future__ import annotations

import os
import re
import time
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from artifact import redaction, steps
from artifact.configuration.store_section import StoreSection
from artifact.errors import ConfigurationError, UsageError
from artifact.stores import addresses, parts, resuming, s3_client, s3_errors
from artifact.stores.contract import (
    COPIED,
    LARGEST_POINTER,
    ObjectInfo,
    Ranged,
    SimilarObject,
    StoreUnreachable,
    missing,
)
from artifact.stores.parts import Part
from artifact.stores.s3_errors import S3Error

_SENDERS = 4
_CONFLICTS = 5
_SPAN = re.compile(r"bytes (\d+)-(\d+)/(\d+)")
_CLAIM = ".claim"
_CLAIM_SECONDS, _POLL_SECONDS = 60.0, 0.2


class S3Store(resuming.RangedStore, frozen=True):
    """Objects below a prefix of a bucket."""

    bucket: str
    prefix: str
    """Empty, or ends with a slash."""
    client: Any
    """boto3's; the stubs would need boto3's service definitions at run time."""

    @property
    def address(self) -> str:
        """ "s3://bucket/prefix"."""
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")

    def stat(self, name: str) -> ObjectInfo | None:
        """See `Store`."""
        try:
            answer = self._call("head_object", name)
        except S3Error:
            # A HEAD has no body that says whether it is the object, the bucket or the key.
            try:
                self._call("get_object", name, Range="bytes=0-0")["Body"].close()
            except S3Error as error:
                if error.code not in {"NoSuchKey", "InvalidRange"}:
                    raise self._error(error, name) from error
            return None
        return ObjectInfo(int(answer["ContentLength"]), str(answer["ETag"]))

    def put_if_absent(
        self, name: str, source: Path, *, tell: steps.Listener, like: SimilarObject | None = None
    ) -> bool:
        """See `Store`."""
        size = source.stat().st_size
        if like is not None and like.length < parts.SMALLEST_BYTES:
            like = None
        if like is None and size <= parts.SENT_BYTES:
            return self._put_whole(name, source, size, tell)
        if self.stat(name) is not None:
            return False
        try:
            return self._put_parts(name, source, size, like, tell)
        except S3Error as error:
            if like is None or error.status in {401, 403}:
                raise self._error(error, name) from error
        # Some servers cannot copy a part, or demand that all have one size; the object that was
        # alike may be gone.
        return self.put_if_absent(name, source, tell=tell)

    def names(self, prefix: str) -> Iterator[tuple[str, ObjectInfo]]:
        """See `Store`."""
        pages = self.client.get_paginator("list_objects_v2")
        with self._explained(prefix), s3_client.translated_errors(self.address):
            for page in pages.paginate(Bucket=self.bucket, Prefix=self.prefix + prefix):
                for one in page.get("Contents", ()):
                    if str(one["Key"]).endswith(_CLAIM):
                        continue
                    found = ObjectInfo(int(one["Size"]), str(one["ETag"]))
                    yield str(one["Key"])[len(self.prefix) :], found

    def delete(self, name: str) -> None:
        """See `Store`."""
        with self._explained(name):
            self._call("delete_object", name)
            if name.endswith(addresses.SUFFIX):
                self._call("delete_object", f"{name}{_CLAIM}")

    def pointer(self, name: str) -> tuple[bytes, str] | None:
        """See `Store`."""
        try:
            answer = self._call("get_object", name)
            with s3_client.translated_errors(self.address):
                return bytes(answer["Body"].read(LARGEST_POINTER)), str(answer["ETag"])
        except S3Error as error:
            if error.code == "NoSuchKey":
                return None
            raise self._error(error, name) from error

    def swap(self, name: str, content: bytes, expected: str | None) -> bool:
        """See `Store`."""
        condition = {"IfNoneMatch": "*"} if expected is None else {"IfMatch": expected}
        try:
            self._call(
                "put_object",
                name,
                Body=content,
                ContentType="application/json",
                CacheControl="no-cache",
                **condition,
            )
        except S3Error as error:
            if error.status not in {404, 409, 412} or error.code == "NoSuchBucket":
                raise self._error(error, name) from error
            # boto3 repeats a request whose answer was lost, and then meets its own first try.
            there = self.pointer(name) if error.repeated else None
            return there is not None and there[0] == content
        return True

    def _asked(self, name: str, wanted: str, etag: str) -> Ranged:
        condition = {"IfMatch": etag} if etag else {}
        try:
            answer = self._call("get_object", name, Range=wanted, **condition)
        except S3Error as error:
            if error.status == 416:
                found = self.stat(name)
                if found is None:
                    raise missing(self.address, name) from error
                return resuming.nothing(found.size, found.size, found.etag)
            raise self._error(error, name) from error
        body = answer["Body"]
        if spanned := _SPAN.fullmatch(str(answer.get("ContentRange", ""))):
            start, last, total = map(int, spanned.groups())
            length = last + 1 - start
        elif "ContentLength" in answer:
            start, length = 0, int(answer["ContentLength"])
            total = length
        else:
            body.close()
            raise StoreUnreachable(
                f"{self.address} does not say how long {name} is",
                hint="a proxy on the way took the length away; fetch past it",
            )
        return Ranged(start, length, total, str(answer["ETag"]), s3_client.chunks(body), body.close)

    def _put_whole(self, name: str, source: Path, size: int, tell: steps.Listener) -> bool:
        for attempt in range(_CONFLICTS):
            try:
                with source.open("rb") as body:
                    self._call("put_object", name, Body=body, ContentLength=size, IfNoneMatch="*")
                break
            except S3Error as error:
                if error.status == 412:
                    return False
                # 409: another put of the same name is under way.
                if error.status != 409 or attempt == _CONFLICTS - 1:
                    raise self._error(error, name) from error
        tell(steps.Progress("uploading", size, size))
        return True

    def _put_parts(
        self, name: str, source: Path, size: int, like: SimilarObject | None, tell: steps.Listener
    ) -> bool:
        cut = parts.cut(size, like.runs if like else ())
        upload = str(self._call("create_multipart_upload", name)["UploadId"])
        try:
            sent = self._send_parts(name, upload, source, cut, like, tell)
            if not self._claim(name):
                self._call("abort_multipart_upload", name, UploadId=upload)
                return False
            self._call(
                "complete_multipart_upload",
                name,
                UploadId=upload,
                MultipartUpload={"Parts": sent},
                IfNoneMatch="*",
            )
        except BaseException as error:
            # A kill before this leaves parts that cost money: docs/stores.md has the rule that
            # lets the bucket drop them.
            with suppress(S3Error, StoreUnreachable):
                self._call("abort_multipart_upload", name, UploadId=upload)
            taken = isinstance(error, S3Error) and (
                error.status in {409, 412} or error.code == "NoSuchUpload"
            )
            if taken and self.stat(name) is not None:
                return False
            raise
        if copied := sum(part.length for part in cut if part.source is not None):
            tell(steps.Progress(COPIED, copied, size))
        return True

    def _claim(self, name: str) -> bool:
        """Become the only one who completes an upload of this name; False when it is there.

        The condition on CompleteMultipartUpload is not enough: some servers ignore it, and of 16
        at once SeaweedFS 4.48 let 7 through. Their conditional PutObject is sound.
        """
        claim, tag = f"{name}{_CLAIM}", None
        deadline = time.monotonic()
        while not self.swap(
            claim, uuid.uuid4().bytes, tag if time.monotonic() > deadline else None
        ):
            if self.stat(name) is not None:
                return False
            there = self.pointer(claim)
            if there is not None and there[1] != tag:
                # Whoever holds it needs one request; who has not made it by then was killed.
                tag, deadline = there[1], time.monotonic() + _CLAIM_SECONDS
            time.sleep(_POLL_SECONDS)
        return self.stat(name) is None

    def _send_parts(
        self,
        name: str,
        upload: str,
        source: Path,
        cut: Sequence[Part],
        like: SimilarObject | None,
        tell: steps.Listener,
    ) -> list[dict[str, Any]]:
        done = 0

        def send(part: Part) -> tuple[Part, str]:
            return part, self._send(name, upload, part, descriptor, like)

        descriptor = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
        sent: list[dict[str, Any]] = []
        pool = ThreadPoolExecutor(_SENDERS)
        try:
            for part, etag in pool.map(send, cut):
                done += part.length
                sent.append({"PartNumber": part.number, "ETag": etag})
                tell(steps.Progress("uploading", done, cut[-1].start + cut[-1].length))
        finally:
            pool.shutdown(cancel_futures=True)
            os.close(descriptor)
        return sent

    def _send(
        self, name: str, upload: str, part: Part, descriptor: int, like: SimilarObject | None
    ) -> str:
        place = {"UploadId": upload, "PartNumber": part.number}
        if part.source is not None:
            assert like is not None
            copied = self._call(
                "upload_part_copy",
                name,
                CopySource={"Bucket": self.bucket, "Key": self.prefix + like.name},
                CopySourceRange=f"bytes={part.source}-{part.source + part.length - 1}",
                CopySourceIfMatch=like.etag,
                **place,
            )
            return str(copied["CopyPartResult"]["ETag"])
        body = os.pread(descriptor, part.length, part.start)
        if len(body) < part.length:
            raise UsageError("the file became shorter while it was uploaded")
        return str(self._call("upload_part", name, Body=body, **place)["ETag"])

    def _call(self, method: str, name: str, **arguments: Any) -> Any:
        key = self.prefix + addresses.checked(name)
        with s3_client.translated_errors(self.address):
            return getattr(self.client, method)(Bucket=self.bucket, Key=key, **arguments)

    @contextmanager
    def _explained(self, name: str) -> Iterator[None]:
        try:
            yield
        except S3Error as error:
            raise self._error(error, name) from error

    def _error(self, error: S3Error, name: str) -> Exception:
        return s3_errors.explain(error, self.address, self.bucket, name)


def open_s3(address: str, section: StoreSection) -> S3Store:
    """Return the store at "s3://bucket/prefix"; asks nobody yet.

    Raises:
        ConfigurationError: the address names no bucket, or the endpoint is no URL.
    """
    parts = urlsplit(address)
    bucket = parts.netloc
    if not bucket or "@" in bucket or parts.query:
        raise ConfigurationError(
            f"{redaction.strip_credentials(address)} is not the address of a bucket",
            hint="s3://BUCKET/PREFIX; credentials are boto3's: AWS_ACCESS_KEY_ID, ~/.aws",
        )
    prefix = parts.path.strip("/")
    return S3Store(bucket, f"{prefix}/" if prefix else "", s3_client.make_client(section))
