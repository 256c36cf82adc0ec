"""Opens an artifact that lies in a store as if it were a file: only its tail is fetched."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from artifact.archive import opening
from artifact.archive.opening import Artifact
from artifact.manifest import Manifest
from artifact.stores.contract import Store
from artifact.transfer import spool
from artifact.transfer.download import Download, Patience
from artifact.transfer.spool import Spool


@contextmanager
def opened(
    store: Store,
    name: str,
    *,
    keep: Callable[[Manifest], Path] | None = None,
    patience: Patience | None = None,
) -> Iterator[Artifact]:
    """Open an artifact in a store for the block; what is read of it is fetched.

    Args:
        name: the object's.
        keep: says in which directory what was fetched stays when the block fails, for the next
            try; None: nowhere.

    Raises:
        ArtifactRejected: it is none, is damaged, of another format, or was replaced meanwhile.
        ObjectMissing: the store does not have it.
        StoreUnreachable: it cannot be had.
    """
    tail, found = store.read_tail(name, opening.TAIL_BYTES)
    spools: list[Spool] = []

    def make_spool() -> Spool:
        directory = keep(artifact.manifest) if keep is not None else None
        spools.append(spool.opened(directory, artifact.digest.removeprefix("sha256:")))
        return spools[-1]

    download = Download(
        store, name, found.size, found.etag, tail, make_spool, patience or Patience()
    )
    artifact = opening.from_source(download, name.rpartition("/")[2])
    yield artifact
    # Only when nothing failed: else the next try goes on with them.
    for one in spools:
        one.remove()


def behind(artifact: Artifact) -> Download | None:
    """Return the download behind an artifact; None when it is a file."""
    source = artifact.source
    return source if isinstance(source, Download) else None
