"""Bring an artifact into the site: verified into staging, then renamed, never half there."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from artifact import files, steps
from artifact.archive import toc, unpacking
from artifact.archive.format import ENVIRONMENT_COMPONENT, ENVIRONMENT_PREFIX
from artifact.archive.opening import Artifact
from artifact.errors import Refused
from artifact.host.trees import links, reuse, tree, verified
from artifact.site import ReleasePaths, Site


class EnvironmentThere(NamedTuple):
    """An environment as it is on the disk."""

    fault: str | None
    """How it differs; "" when it is the same, None when it is absent."""
    marked: bool
    """It was compared by an earlier run, and is untouched since."""


def environment_there(artifact: Artifact, site: Site) -> EnvironmentThere:
    """Compare the environment on the disk, unless that was done already."""
    if verified.is_marked(artifact.manifest, site):
        return EnvironmentThere("", marked=True)
    return EnvironmentThere(environment_fault(artifact, site), marked=False)


def environment_fault(artifact: Artifact, site: Site) -> str | None:
    """Return how the environment on the disk differs; "" when it is the same, None when absent."""
    path = site.environment(artifact.manifest.environment.key)
    if not path.is_dir():
        return None
    return tree.difference(path, [artifact.toc(ENVIRONMENT_COMPONENT)])


def release_fault(artifact: Artifact, site: Site, shared: tuple[str, ...]) -> str | None:
    """Return how the release on the disk differs; "" when it is the same, None when absent."""
    path = site.release(artifact.manifest.version)
    if not path.is_dir():
        return None
    besides = links.besides_artifact(shared)
    tocs = [artifact.toc(name) for name in of_release(artifact)]
    time = artifact.manifest.created
    different = tree.difference(path, tocs, besides=besides, time=time)
    return different or links.link_fault(path, shared)


def of_release(artifact: Artifact) -> tuple[str, ...]:
    """Return the components that make up the release's own directory."""
    return tuple(c.name for c in artifact.manifest.components if c.name != ENVIRONMENT_COMPONENT)


def to_unpack(artifact: Artifact, environment: str | None, release: str | None) -> tuple[str, ...]:
    """Return the components that have to be unpacked.

    Args:
        environment: what `environment_there` found: "" where it is here and the same.
        release: what `release_fault` found.
    """
    of_environment = (ENVIRONMENT_COMPONENT,) if environment is None else ()
    return of_environment + (of_release(artifact) if release != "" else ())


def unpack_environment(artifact: Artifact, site: Site, tell: steps.Listener) -> str:
    """Unpack the environment and give it its final name, read-only; return what it took."""
    found = reuse.find(artifact, site, (ENVIRONMENT_COMPONENT,), tell)
    staged = _fresh(site, ENVIRONMENT_COMPONENT)
    unpacking.extract(
        artifact,
        (ENVIRONMENT_COMPONENT,),
        staged,
        strip=ENVIRONMENT_PREFIX,
        read_only=True,
        reused=found.files,
        tell=found.tell,
    )
    _publish(staged, site.environment(artifact.manifest.environment.key))
    # A crash here costs the next run a look at every file.
    verified.mark(artifact, site)
    return found.note


def reuse_environment(artifact: Artifact, site: Site, *, marked: bool) -> str:
    """Go on with the environment that is there and the same; return a note."""
    if not marked:
        # Nobody knows how long ago it was written: a power cut must not leave a mark and no files.
        files.sync_filesystem(site.environments)
        verified.mark(artifact, site)
    return "the same"


def unpack_release(
    artifact: Artifact,
    site: Site,
    shared: tuple[str, ...],
    owner: tuple[int, int],
    tell: steps.Listener,
) -> str:
    """Unpack code and assets, add links and manifest, give it its final name; return the cost.

    Args:
        shared: paths that are links to what the releases share.
        owner: user and group that shared directories are made for.
    """
    names = of_release(artifact)
    found = reuse.find(artifact, site, names, tell)
    staged = _fresh(site, "release")
    unpacking.extract(
        artifact,
        names,
        staged,
        read_only=True,
        growing=True,
        # A web server's ETag is a file's time and size, and must change with its content.
        time=artifact.manifest.created,
        reused=found.files,
        tell=found.tell,
    )
    with unpacking.disk_errors(artifact, staged):
        _complete(artifact, site, staged, shared, owner, tell)
    final = site.release(artifact.manifest.version)
    # What is there is not what it should be, and not live: preflight made sure.
    remove(site, final)
    _publish(staged, final)
    return found.note


def _complete(
    artifact: Artifact,
    site: Site,
    staged: Path,
    shared: tuple[str, ...],
    owner: tuple[int, int],
    tell: steps.Listener,
) -> None:
    """Add to a release what is not in the artifact, and make all of it durable."""
    _describe(artifact, site, ReleasePaths(staged))
    key = artifact.manifest.environment.key
    replaced = links.link(site, staged, key, shared, owner)
    for path in replaced:
        tell(steps.Warned(f"the artifact's own {path} gives way to the site's shared/{path}"))
    files.close_directories(staged)
    files.sync_filesystem(staged)


def _describe(artifact: Artifact, site: Site, paths: ReleasePaths) -> None:
    """Write what a release is beside it: the manifest, and what each component holds."""
    paths.private.mkdir(mode=0o755)
    there = reuse.recorded_contents(artifact.manifest, site)
    for component in artifact.manifest.components:
        path = paths.contents(component.name)
        try:
            # That of an environment has megabytes, and most releases have the one of the last.
            os.link(there[component.name], path)
        except (KeyError, OSError):
            files.write_new(path, toc.encode(artifact.toc(component.name).groups), mode=0o444)
    if artifact.signature is not None:
        files.write_new(paths.signature, artifact.signature, mode=0o444)
    files.write_new(paths.manifest, artifact.content, mode=0o444)


def remove(site: Site, path: Path) -> None:
    """Delete a tree of the site; a crash leaves it under its own name, or in the trash."""
    if not path.exists():
        return
    site.trash.mkdir(mode=0o700, exist_ok=True)
    doomed = site.trash / path.name
    files.remove_tree(doomed)
    _movable(path, lambda: path.rename(doomed))
    files.remove_tree(doomed)


def discard(site: Site, path: Path, called: str) -> None:
    """Rename a tree of the site into its trash, durably; the caller empties that."""
    doomed = site.trash / called
    files.remove_tree(doomed)
    _movable(path, lambda: path.rename(doomed))
    files.sync_directory(path.parent)


def _fresh(site: Site, name: str) -> Path:
    """Return a path in staging where nothing is."""
    staged = site.staging / name
    staged.parent.mkdir(mode=0o700, exist_ok=True)
    files.remove_tree(staged)
    return staged


def _publish(staged: Path, final: Path) -> None:
    try:
        # A crash before this line leaves staging, which the next run sweeps; after it, all of it.
        _movable(staged, lambda: staged.rename(final))
    except OSError as error:
        if error.errno not in {errno.ENOTEMPTY, errno.EEXIST}:
            raise
        raise Refused(
            f"{final} has appeared meanwhile", hint="wait for the other program, then repeat"
        ) from error
    final.chmod(0o555)
    files.sync_directory(final.parent)


def _movable(path: Path, move: Callable[[], object]) -> None:
    """Move a directory that nobody may write to: the kernel asks for that right in it."""
    path.chmod(0o755)
    move()
