"""The manifest: canonical bytes, and what is refused when reading."""

from __future__ import annotations

import json

import pytest

from artifact import manifest
from artifact.errors import ArtifactRejected
from artifact.manifest import Component, Manifest, Range


def example(**changes: object) -> Manifest:
    values: dict[str, object] = {
        "name": "accounting",
        "version": "1337",
        "sequence": 1337,
        "created": 1_700_000_000,
        "source": manifest.Source(revision="abc"),
        "root": "/srv/accounting",
        "python": manifest.Python(
            implementation="cpython",
            version="3.11.7",
            abi="cpython-311-x86_64-linux-gnu",
            platform="linux-x86_64",
            interpreter="/usr/bin/python3.11",
        ),
        "environment": manifest.Environment(key="0" * 32),
        "codec": manifest.Codec(name="libdeflate", version="1.20", level=6),
        "components": (
            Component(
                name="code",
                tree="t",
                entries=1,
                raw=2,
                mtime=3,
                data=Range(offset=0, length=10),
                toc=Range(offset=10, length=5),
                toc_sha256="d",
            ),
        ),
    }
    return Manifest(**{**values, **changes})  # type: ignore[arg-type]  # a test's shorthand


def test_what_is_written_is_read_back_equal() -> None:
    written = example(processes={"web": manifest.Process(command="gunicorn x", stop_timeout=5)})
    assert manifest.decode(manifest.encode(written)) == written


def test_the_bytes_are_canonical() -> None:
    encoded = manifest.encode(example())
    assert (
        encoded
        == json.dumps(
            json.loads(encoded), sort_keys=True, separators=(",", ":"), ensure_ascii=False
        ).encode()
    )


def test_unknown_keys_of_a_later_version_are_ignored() -> None:
    document = json.loads(manifest.encode(example()))
    document["invented-later"] = {"x": 1}
    assert manifest.decode(json.dumps(document).encode()) == example()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 2}, "format 2"),
        ({"name": "../etc"}, "name '../etc' is not allowed"),
        ({"version": "1..2"}, r"version '1\.\.2' is not allowed"),
        ({"version": "current"}, "version 'current' is not allowed"),
        ({"components": 5}, "cannot be read"),
    ],
)
def test_what_must_not_be_trusted_is_rejected(changes: dict[str, object], message: str) -> None:
    document = {**json.loads(manifest.encode(example())), **changes}
    with pytest.raises(ArtifactRejected, match=message):
        manifest.decode(json.dumps(document).encode())


def test_what_is_no_json_is_rejected() -> None:
    with pytest.raises(ArtifactRejected):
        manifest.decode(b"\xff\x00")


@pytest.mark.parametrize("text", ["accounting", "a", "pay-inv_2", "a" * 32])
def test_names_that_are_allowed(text: str) -> None:
    assert manifest.is_name(text)


@pytest.mark.parametrize("text", ["", "Accounting", "1a", "a" * 33, "a/b", "a b", "a\n"])
def test_names_that_are_not(text: str) -> None:
    assert not manifest.is_name(text)


@pytest.mark.parametrize("text", ["1337", "v1.2.3", "2024.1+abc", "A_b-c"])
def test_versions_that_are_allowed(text: str) -> None:
    assert manifest.is_version(text)


@pytest.mark.parametrize("text", ["", ".1", "-1", "a/b", "1..2", "latest", "default", "1\n", "é"])
def test_versions_that_are_not(text: str) -> None:
    assert not manifest.is_version(text)
