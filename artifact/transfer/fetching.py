"""Fetches a whole artifact into a directory: verified, then under its name."""

from __future__ import annotations

from pathlib import Path
from typing import IO

import msgspec

from artifact import files, steps
from artifact.archive import checking, opening
from artifact.errors import ArtifactError, ArtifactRejected, Refused, UsageError
from artifact.stores.addresses import SUFFIX
from artifact.transfer import references
from artifact.transfer.references import InStore


class Fetched(msgspec.Struct, frozen=True):
    """An artifact that is in the directory now."""

    path: Path
    digest: str
    size: int
    was_there: bool


def fetch(found: InStore, directory: Path, digest: str, tell: steps.Listener) -> Fetched:
    """Fetch an artifact whole; one that is in the directory already is not fetched again.

    Args:
        digest: the identity demanded; empty: any.

    Raises:
        ArtifactRejected: it is another, or damaged.
        Refused: the disk says no, or another file of that name is there.
    """
    with references.open_artifact(found) as artifact:
        if digest and artifact.digest != digest:
            raise ArtifactRejected(
                f"{found.name} is {artifact.digest}, not {digest}",
                hint="this is another artifact than the one you mean",
            )
        path = directory / f"{artifact.manifest.reference}{SUFFIX}"
        fetched = Fetched(path, artifact.digest, artifact.size, path.exists())
    if not directory.is_dir():
        raise UsageError(f"there is no directory {directory}", hint=f"mkdir -p {directory}")
    if fetched.was_there:
        _demand_same(fetched)
        return fetched
    with (
        files.disk_errors(f"{path} cannot be written", directory),
        files.written(path) as stream,
    ):
        _copy(found, fetched, stream, tell)
        with opening.open_artifact(Path(stream.name), called=path.name) as artifact:
            if artifact.digest != fetched.digest:
                raise ArtifactRejected(f"{found.name} became {artifact.digest} meanwhile")
            checking.verify(artifact, tell)
    return fetched


def _copy(found: InStore, fetched: Fetched, sink: IO[bytes], tell: steps.Listener) -> None:
    done = 0
    with found.store.read(found.name, 0, fetched.size) as answer:
        for chunk in answer:
            sink.write(chunk)
            done += len(chunk)
            tell(steps.Progress("fetching", done, fetched.size))
    sink.flush()


def _demand_same(fetched: Fetched) -> None:
    try:
        with opening.open_artifact(fetched.path) as artifact:
            there = artifact.digest
            if there == fetched.digest:
                checking.verify(artifact)
    except ArtifactError as error:
        there = str(error)
    if there != fetched.digest:
        raise Refused(
            f"{fetched.path} is there, but is another: {there}",
            hint="move it away, or --output DIR",
        )
