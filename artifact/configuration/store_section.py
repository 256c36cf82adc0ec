"""`[store]`, which `artifact.toml` and `site.toml` have in common: how to reach a store."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

import msgspec

from artifact.configuration.schema import KeyProblem
from artifact.configuration.toml_document import Section
from artifact.manifest import is_name


class GateSection(Section, frozen=True, kw_only=True):
    """One `[store.gates.CHANNEL]`: what must be so before anything is promoted to it"""

    channel: str
    """The channel that the same digest must be good in."""
    hours: Annotated[float, msgspec.Meta(description="a number of hours", ge=0, le=8760)] = 0.0
    """For at least so long."""


class StoreSection(Section, frozen=True, kw_only=True):
    """`[store]`"""

    url: str = ""
    """s3://BUCKET/PREFIX, https://… or the absolute path of a directory."""
    endpoint: str = ""
    """URL of an S3 server that is not AWS: MinIO, Ceph, R2, SeaweedFS…"""
    region: str = ""
    path_style: bool | Literal["auto"] = "auto"
    """https://endpoint/bucket instead of https://bucket.endpoint; "auto": with an endpoint."""
    checksums: Literal["auto", "when_supported", "when_required"] = "auto"
    """Whether S3 gets CRCs beside the signature; "auto": only AWS, some servers refuse them."""
    gates: dict[str, GateSection] = {}


def problems(store: StoreSection) -> Iterator[KeyProblem]:
    """Yield the problems that types cannot express."""
    if store.url and "://" not in store.url and not store.url.startswith("/"):
        text = "expected s3://…, https://… or the absolute path of a directory"
        yield KeyProblem(("store", "url"), text)
    for name, gate in store.gates.items():
        if not is_name(name) or not is_name(gate.channel) or gate.channel == name:
            key = ("store", "gates", name)
            yield KeyProblem(key, f'expected two channels, got "{gate.channel}"')
