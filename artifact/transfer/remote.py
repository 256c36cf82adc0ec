"""Opens an artifact that lies in a store as if it were a file: only its tail is fetched."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from artifact.archive import opening
from artifact.archive.opening import Artifact
from artifact.manifest import Manifest
from artifact.stores.contract import Ranged, Store
from artifact.transfer import spool
from artifact.transfer.download import Download, Pace, Patience
from artifact.transfer.spool import Spool


@contextmanager
def open_artifact(
    store: Store,
    name: str,
    *,
    keep: Callable[[Manifest], Path] | None = None,
    patience: Patience | None = None,
) -> Iterator[Artifact]:
    """Open an artifact in a store for the block; what is read of it is fetched.

    Args:
        name: the object's.
        keep: returns the directory in which the fetched bytes stay for the next try when the
            block fails; None: they do not stay.

    Raises:
        ArtifactRejected: it is none, is damaged, of another format, or was replaced meanwhile.
        ObjectMissing: the store does not have it.
        StoreUnreachable: it cannot be had.
    """
    patience = patience or Patience()
    answer = store.tail(name, opening.TAIL_BYTES)
    if answer.start < answer.total - opening.TAIL_BYTES:
        with _whole(store, name, answer, patience) as artifact:
            yield artifact
        return
    spools: list[Spool] = []

    def make_spool() -> Spool:
        directory = keep(artifact.manifest) if keep is not None else None
        spools.append(spool.open_spool(directory, artifact.digest.removeprefix("sha256:")))
        return spools[-1]

    tail = answer.content()
    download = Download(store, name, answer.total, answer.etag, tail, make_spool, patience)
    artifact = opening.from_source(download, name.rpartition("/")[2])
    yield artifact
    # Only when nothing failed: else the next try goes on with them.
    for one in spools:
        one.remove()


@contextmanager
def _whole(store: Store, name: str, answer: Ranged, patience: Patience) -> Iterator[Artifact]:
    """Open an artifact of a server without ranges: what it began to send is taken to the end."""
    file = spool.open_spool(None, name)
    try:
        at = 0
        pace = Pace(store, name, patience)
        with answer:
            for chunk in answer:
                spool.write(file.descriptor, at, chunk)
                at += len(chunk)
                pace.received(len(chunk))
        yield opening.from_source(opening.FileSource(file.descriptor, at), name.rpartition("/")[2])
    finally:
        file.close()


def download_of(artifact: Artifact) -> Download | None:
    """Return the download behind an artifact; None when it is a file that is here."""
    source = artifact.source
    return source if isinstance(source, Download) else None
