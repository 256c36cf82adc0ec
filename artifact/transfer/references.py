"""What `artifact install` is asked for: a file, a URL, a name in the store, or a channel."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from artifact import stores
from artifact.archive import opening
from artifact.archive.opening import Artifact
from artifact.configuration.store_section import StoreSection
from artifact.errors import ArtifactRejected, UsageError
from artifact.manifest import Manifest
from artifact.stores import addresses, channels
from artifact.stores.contract import Store
from artifact.transfer import remote

_LONGEST = 200
"""No name of an artifact has more characters; the disk says what it thinks of such a path."""


class InStore(msgspec.Struct, frozen=True):
    """An artifact in a store."""

    store: Store
    name: str
    """The object's."""
    digest: str = ""
    """The identity that whoever pointed at it demands; empty where nobody does."""
    demanded_by: str = ""
    """ "accounting@production"."""


def find(text: str, section: Callable[[str], StoreSection]) -> Path | InStore:
    """Return what a reference means; a store is asked only where that does not say enough.

    Args:
        section: returns how to reach the store of an application of this name; of any when empty.

    Raises:
        UsageError: it means nothing, or there is no such channel.
    """
    if addresses.is_address(text):
        located = addresses.locate(text)
        return InStore(stores.open_store(located.store, section("")), located.name)
    path = Path(text)
    if "/" in text or len(text) > _LONGEST or path.exists():
        return path
    if channel := addresses.split_channel(text):
        return _promoted(*channel, section)
    if (found := _named(text, section)) is not None:
        return found
    if section("").url:
        raise UsageError(
            f"there is no file {text}, and nothing in a store is called so",
            hint="what the store holds is NAME-VERSION or NAME@CHANNEL; `artifact ls` lists it",
        )
    raise UsageError(
        f"there is no file {text}, and no store is configured where it could be",
        hint="`artifact build` makes one and prints its path; for names and channels set "
        "ARTIFACT_STORE_URL, or url in [store] of the site's site.toml",
    )


def _named(text: str, section: Callable[[str], StoreSection]) -> InStore | None:
    """Find "my-app-1337" in the store; it is asked only where that can mean several artifacts."""
    meanings = addresses.references(text)
    for name, version in meanings:
        chosen = section(name)
        if not chosen.url:
            continue
        store = stores.open_store(chosen.url, chosen)
        wanted = addresses.artifact(name, version)
        if len(meanings) == 1 or store.stat(wanted) is not None:
            return InStore(store, wanted)
    if not any(section(name).url for name, _ in meanings):
        return None
    raise UsageError(
        f"there is no file {text}, and the store has no such artifact either",
        hint="`artifact ls` lists what it has",
    )


def _promoted(name: str, channel: str, section: Callable[[str], StoreSection]) -> InStore:
    chosen = section(name)
    store = stores.open_store(chosen.url, chosen)
    found = channels.read_channel(store, name, channel)
    if found is None:
        raise UsageError(
            f"the store {store.address} has no channel {name}@{channel}",
            hint=f"`artifact promote VERSION --to {channel}` makes it",
        )
    wanted = addresses.artifact(name, found.version)
    return InStore(store, wanted, found.digest, f"{name}@{channel}")


@contextmanager
def open_artifact(
    source: Path | InStore, *, keep: Callable[[Manifest], Path] | None = None
) -> Iterator[Artifact]:
    """Open an artifact for the block, wherever it is; raises as the two functions that do so.

    Args:
        keep: as of `remote.open_artifact`.
    """
    if isinstance(source, Path):
        with opening.open_artifact(source) as artifact:
            yield artifact
        return
    with remote.open_artifact(source.store, source.name, keep=keep) as artifact:
        if source.digest and artifact.digest != source.digest:
            raise ArtifactRejected(
                f"{source.name} in {source.store.address} is {artifact.digest}; "
                f"{source.demanded_by} demands {source.digest}",
                hint="somebody replaced the artifact: find out who, and promote the right one",
            )
        yield artifact
