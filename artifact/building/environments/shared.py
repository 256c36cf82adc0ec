"""Compiled environments that other runners left in the store, each inside an artifact.

A fresh runner takes its environment from there instead of compiling it. What it takes is verified
like an artifact that is installed, and must have been made from the very inputs it would compile.
Only builds that are trusted write there: whoever may, decides what servers run.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from artifact import files, variables
from artifact.archive import unpacking, writer
from artifact.archive.format import ENVIRONMENT_COMPONENT, ENVIRONMENT_PREFIX
from artifact.archive.opening import Artifact
from artifact.building.environments import compilation, key, marker
from artifact.building.environments.marker import Marker
from artifact.building.environments.spec import EnvironmentSpec
from artifact.errors import ArtifactError, ArtifactRejected
from artifact.manifest import Manifest
from artifact.process import ChildFailed
from artifact.steps import Listener, Said, Warned
from artifact.stores import addresses, open_store
from artifact.stores.contract import Store
from artifact.transfer import remote

ALLOWED = "ARTIFACT_CACHE_WRITE"
"""The variable that only jobs on protected branches may have: so no other can poison the cache."""


class Shared(msgspec.Struct, frozen=True, kw_only=True):
    """Where a compiled environment can be had; the content of `environments/<key>.json`."""

    artifact: str
    """The object that holds it."""
    digest: str
    """The artifact's identity."""
    tree: str
    """Digest of the environment's entries."""
    range: tuple[int, int]
    """Offset and length of its members in the object."""


def take(spec: EnvironmentSpec, tell: Listener) -> Marker | None:
    """Unpack an environment at its path, when the store has it; None when not.

    The caller holds its lock. Whatever goes wrong is a warning: it can still be compiled.
    """
    config = spec.config
    if not config.store.url:
        return None
    staged = spec.caches.beside / f"{spec.key}.fetched"
    try:
        store = open_store(config.store.url, config.store)
        found = store.pointer(addresses.environment(config.name, spec.key))
        return None if found is None else _take(spec, store, found[0], staged, tell)
    except (ArtifactError, ChildFailed, OSError, msgspec.MsgspecError) as error:
        compilation.remove(spec.caches, spec.key)
        hint = error.hint if isinstance(error, ArtifactError) else ""
        tell(Warned(f"the store's environment {spec.key[:12]} cannot be used: {error}", hint))
        return None
    finally:
        files.remove_tree(staged)
        files.remove_tree(_arriving(spec))


def offer(store: Store, manifest: Manifest, digest: str, name: str, tell: Listener) -> bool:
    """Tell other runners that an artifact in the store holds a compiled environment.

    Do nothing and return False unless `ARTIFACT_CACHE_WRITE` is 1. A failure is a warning, for the
    artifact itself is in the store.

    Args:
        digest: the artifact's identity.
        name: the object's.
    """
    if variables.get(ALLOWED) != "1":
        return False
    component = manifest.component(ENVIRONMENT_COMPONENT)
    content = msgspec.json.encode(
        Shared(
            artifact=name,
            digest=digest,
            tree=component.tree,
            range=(component.data.offset, component.data.length),
        ),
        order="sorted",
    )
    pointer = addresses.environment(manifest.name, manifest.environment.key)
    try:
        there = store.pointer(pointer)
        if there is None or there[0] != content:
            # Whoever was quicker points at an environment of the same key: as good as this one.
            store.swap(pointer, content, there[1] if there else None)
    except ArtifactError as error:
        tell(Warned(f"other runners are not told of this environment: {error}", error.hint))
        return False
    return True


def _take(
    spec: EnvironmentSpec, store: Store, pointer: bytes, staged: Path, tell: Listener
) -> Marker:
    shared = msgspec.json.decode(pointer, type=Shared)
    with remote.open_artifact(store, shared.artifact, keep=lambda _: _arriving(spec)) as artifact:
        _compare(spec, shared, artifact)
        files.remove_tree(staged)
        download = remote.download_of(artifact)
        unpacking.extract(
            artifact,
            (ENVIRONMENT_COMPONENT,),
            staged,
            strip=ENVIRONMENT_PREFIX,
            read_only=True,
            tell=download.telling(tell) if download else tell,
        )
        made = _settle(spec, staged)
        # What arrived is the pack that this build would write: nothing is compressed again.
        writer.take_out(artifact, ENVIRONMENT_COMPONENT, spec.caches.pack(spec.key))
        fetched = download.counted.fetched if download else artifact.size
    tell(Said(f"the environment comes from {shared.artifact}: {fetched / 1e6:.1f} MB fetched"))
    return made


def _arriving(spec: EnvironmentSpec) -> Path:
    """Return where what arrives is put; a killed build goes on with it."""
    return spec.caches.beside / f"{spec.key}.arriving"


def _settle(spec: EnvironmentSpec, staged: Path) -> Marker:
    """Put a fetched environment in its place, check that it is the right one, and seal it."""
    content = (staged / marker.NAME).read_bytes()
    made = msgspec.json.decode(content, type=Marker)
    if made.key != spec.key or made.inputs != _plain(spec.inputs):
        raise ArtifactRejected("its marker is that of another environment")
    (staged / marker.NAME).unlink()
    compilation.remove(spec.caches, spec.key)
    # A crash from here to the marker leaves an environment without one: it is not taken for
    # finished, and the next build makes it anew.
    os.rename(staged, spec.root)
    compilation.try_out(spec)
    marker.seal(spec.root, spec.caches, made)
    if (spec.root / marker.NAME).read_bytes() != content:
        raise ArtifactRejected("its marker was written by another version of artifact")
    return made


def _compare(spec: EnvironmentSpec, shared: Shared, artifact: Artifact) -> None:
    """Refuse what is not the environment that this build would compile.

    Raises:
        ArtifactRejected: it is another.
    """
    manifest = artifact.manifest
    inputs = manifest.environment.inputs
    if artifact.digest != shared.digest:
        raise ArtifactRejected(f"{shared.artifact} is {artifact.digest}, not {shared.digest}")
    if not spec.key == manifest.environment.key == key.key_of(inputs) or inputs != _plain(
        spec.inputs
    ):
        raise ArtifactRejected(f"{shared.artifact} holds another environment")
    if manifest.root != spec.caches.root or artifact.interpreter != str(spec.interpreter.path):
        raise ArtifactRejected(f"{shared.artifact} is for another site or interpreter")
    if [c.tree for c in manifest.components if c.name == ENVIRONMENT_COMPONENT] != [shared.tree]:
        raise ArtifactRejected(f"{shared.artifact} holds another tree than was announced")


def _plain(inputs: object) -> object:
    """Return inputs as JSON has them: lists for tuples."""
    return msgspec.json.decode(msgspec.json.encode(inputs))
