"""A store with artifacts of a small application, and a site that takes them from it."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from artifact import manifest, steps
from artifact.archive import writer
from artifact.archive.opening import Artifact
from artifact.host.trees import reuse, unpack
from artifact.site import Site
from artifact.stores import addresses
from artifact.stores.contract import Ranged, Store
from artifact.stores.directory import DirectoryStore
from artifact.transfer import remote
from artifact.transfer.download import Download, Patience
from tests.archive import samples

NAME = "accounting"
OWNER = os.geteuid(), os.getegid()
SITE_PACKAGES = "virtualenv/lib/python3.11/site-packages"


def packages(key: str, *, changed: tuple[int, ...] = (), count: int = 40) -> dict[str, bytes]:
    """Return an environment's files: bytes that hardly compress, some that hold its path.

    Args:
        changed: numbers of the packages that have a later version.
    """
    found = {"virtualenv/pyvenv.cfg": f"home = /x\nprompt = {key}\n".encode()}
    found["virtualenv/bin/activate"] = f"VIRTUAL_ENV=/srv/x/virtualenv/{key}\n".encode()
    for number in range(count):
        noise = random.Random(number + 1000 * (number in changed))
        for part in range(4):
            path = f"{SITE_PACKAGES}/package{number:02}/part{part}.py"
            found[path] = noise.randbytes(40_000)
        found[f"{SITE_PACKAGES}/package{number:02}/__init__.py"] = b""
    return found


def application(version: str, *, files: int = 30) -> dict[str, bytes]:
    """Return code of which one file tells the version."""
    noise = random.Random(7)
    found = {f"accounting/views{number}.py": noise.randbytes(20_000) for number in range(files)}
    return found | {"accounting/version.py": f"VERSION = '{version}'\n".encode()}


class Watched(DirectoryStore, frozen=True):
    """A store that remembers what was read of it."""

    asked: list[tuple[str, int, int]] = msgspec.field(default_factory=list)

    @property
    def bytes(self) -> int:
        return sum(length for _, _, length in self.asked)

    def read(self, name: str, start: int, length: int, *, etag: str = "") -> Ranged:
        self.asked.append((name, start, length))
        return super().read(name, start, length, etag=etag)


@dataclass
class Shelf:
    """A directory store and a site beside it."""

    directory: Path
    download: Download | None = None
    """Of the last deployment."""

    def __post_init__(self) -> None:
        self.store_directory.mkdir(parents=True, exist_ok=True)
        for path in (self.site.private, self.site.releases, self.site.environments):
            path.mkdir(parents=True, exist_ok=True)

    @property
    def store_directory(self) -> Path:
        return self.directory / "store"

    @property
    def store(self) -> DirectoryStore:
        return DirectoryStore(self.store_directory)

    @property
    def site(self) -> Site:
        return Site(self.directory / "site")

    def publish(
        self,
        version: str,
        environment: Mapping[str, bytes],
        key: str,
        *,
        code: Mapping[str, bytes] | None = None,
        created: int = samples.CREATED,
    ) -> Path:
        """Build an artifact straight into the store."""
        path = self.store_directory / addresses.artifact(NAME, version)
        path.parent.mkdir(parents=True, exist_ok=True)
        work = self.directory / f"work-{version}"
        work.mkdir()
        packed = [
            samples.pack(
                dict(environment),
                work / "venv",
                links=samples.ENVIRONMENT_LINKS,
                name="venv",
                level=1,
            ),
            samples.pack(dict(code or application(version)), work / "code", name="code", level=1),
        ]
        described = samples.describe(
            version,
            created=created,
            root=str(self.site.root),
            environment=manifest.Environment(key=key, inputs={"for": key}),
        )
        writer.write(path, packed, described)
        return path

    @contextmanager
    def opened(
        self, version: str, store: Store | None = None, patience: Patience | None = None
    ) -> Iterator[Artifact]:
        """Open an artifact as an install does."""
        with remote.open_artifact(
            store or self.store,
            addresses.artifact(NAME, version),
            keep=lambda _: self.site.downloads,
            patience=patience,
        ) as artifact:
            yield artifact

    def deploy(
        self, version: str, store: Store | None = None, patience: Patience | None = None
    ) -> list[str]:
        """Bring a release into the site with the functions an install uses; return their notes."""
        with self.opened(version, store, patience) as artifact:
            self.download = remote.download_of(artifact)
            reuse.recall(artifact, self.site)
            notes = []
            there = unpack.environment_there(artifact, self.site)
            if there.fault is None:
                notes.append(unpack.unpack_environment(artifact, self.site, steps.nobody))
            else:
                assert there.fault == ""
            notes.append(unpack.unpack_release(artifact, self.site, (), OWNER, steps.nobody))
            assert unpack.release_fault(artifact, self.site, ()) == ""
        with self.opened(version) as artifact:
            assert unpack.environment_fault(artifact, self.site) == ""
        return notes
