"""What an artifact says of itself: the contract between the build and the servers."""

from __future__ import annotations

import hashlib
import re
from typing import Annotated, Any, Literal

import msgspec

from artifact.errors import ArtifactRejected

FORMAT = 1

NAME = re.compile(r"[a-z][a-z0-9_-]{0,31}")
VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")
# It ends up in nginx's configuration, and in paths that root opens.
_STATIC = re.compile(r"(?!\.)[A-Za-z0-9_+.-]+(/(?!\.)[A-Za-z0-9_+.-]+)*")
RESERVED_VERSIONS = frozenset({"current", "previous", "default", "latest"})

Restart = Literal["slots", "graceful", "none"]
"""How processes come to run a new release."""
MigrationPolicy = Literal["list", "stop", "run"]
"""What an install does about pending migrations."""
StaticPolicy = Literal["shared", "release"]
"""Whether hashed static files of kept releases stay reachable, or only the live release's."""
Server = Literal["gunicorn", "uvicorn", "celery", "other"]
"""What a process's command starts."""
Keep = Annotated[int, msgspec.Meta(description="a number from 1", ge=1)]
"""How many good releases stay."""


def is_name(text: str) -> bool:
    """Tell whether the text can name an application."""
    return NAME.fullmatch(text) is not None


def is_version(text: str) -> bool:
    """Tell whether the text can be a version: it becomes a directory and part of a file's name."""
    return (
        VERSION.fullmatch(text) is not None and ".." not in text and text not in RESERVED_VERSIONS
    )


class _Value(msgspec.Struct, frozen=True, kw_only=True, rename="kebab"):
    """Base of what stands in a manifest.

    Unknown keys are ignored, for a later version of the tool may add some. A key that must not be
    ignored comes with a higher `format`.
    """


class Source(_Value, frozen=True, kw_only=True):
    """Where the code came from."""

    revision: str = ""
    branch: str = ""
    dirty: bool = False
    remote: str = ""
    """URL of the origin, without credentials."""


class Built(_Value, frozen=True, kw_only=True):
    """Who built it; left out by `--reproducible`."""

    tool: str
    """Version of this tool."""
    ci: str = ""
    job: str = ""
    """URL of the CI job."""


class Python(_Value, frozen=True, kw_only=True):
    """The interpreter the environment was compiled for, and what it needs of the machine."""

    implementation: str
    """ "cpython"."""
    version: str
    """Full version: "3.11.7"."""
    abi: str
    """SOABI: "cpython-311-x86_64-linux-gnu"."""
    platform: str
    """ "linux-x86_64"."""
    interpreter: str
    """Path of the base interpreter that `bin/python` points at."""
    libc: str = ""
    """The build machine's: "glibc 2.36"."""
    glibc: str = ""
    """Highest glibc symbol version any compiled file needs: "2.28"; empty when none needs any."""
    libraries: tuple[str, ...] = ()
    """Shared libraries that must come from the server's system."""


class Environment(_Value, frozen=True, kw_only=True):
    """The compiled virtualenv."""

    key: str
    inputs: dict[str, Any] = {}
    """What the key is the hash of."""
    packages: dict[str, str] = {}
    """Normalised name to version."""


class Codec(_Value, frozen=True, kw_only=True):
    """What compressed the members; any gzip reads them."""

    name: str
    version: str
    level: int


class Range(_Value, frozen=True, kw_only=True):
    """A run of bytes in the artifact's file."""

    offset: int
    length: int

    @property
    def end(self) -> int:
        """The offset behind the last byte."""
        return self.offset + self.length


class Component(_Value, frozen=True, kw_only=True):
    """One of the three parts: venv, assets, code."""

    name: str
    tree: str
    """Digest of the entries: the identity of the content, independent of the codec."""
    entries: int
    raw: int
    """Bytes of all files."""
    mtime: int
    """The one modification time of all its entries, in seconds."""
    data: Range
    toc: Range
    """The gzip member that holds the table of contents as a tar entry."""
    toc_sha256: str


class Process(_Value, frozen=True, kw_only=True):
    """A program that supervisor runs."""

    command: str
    listen: str = ""
    """ "127.0.0.1:8000" or "unix:/run/accounting/web.sock"; empty for workers."""
    server: str = ""
    """One of `Server`; a later version of the tool may know others."""
    health: Health | None = None
    instances: int = 1
    stop_timeout: float = 35.0


class Health(_Value, frozen=True, kw_only=True):
    """How to ask a process whether it serves."""

    path: str = "/"
    host: str = ""
    timeout: float = 60.0
    status: tuple[int, ...] = (200,)


class Install(_Value, frozen=True, kw_only=True):
    """How a server installs it; `site.toml` may override."""

    restart: Restart = "slots"
    migrations: MigrationPolicy = "list"
    keep: Keep = 5
    shared: tuple[str, ...] = ()
    static: StaticPolicy = "shared"


class MigrationCommands(_Value, frozen=True, kw_only=True):
    """How an application that is not Django's lists and runs its migrations."""

    list: str
    """Prints what is pending, one a line."""
    run: str
    """Runs all of it."""


class AssetStep(_Value, frozen=True, kw_only=True):
    """An asset step and the digest of what it depended on."""

    name: str
    inputs: str


class Manifest(_Value, frozen=True, kw_only=True):
    """Everything an install needs to know, as canonical JSON in the artifact's tail."""

    format: int = FORMAT
    name: str
    version: str
    sequence: int
    """Order among the versions of a name; an older one needs `--allow-downgrade`. 0: unknown."""
    created: int
    """Time of the commit, seconds since the epoch."""
    source: Source
    built: Built | None = None
    root: str
    """The site the environment was compiled for."""
    python: Python
    environment: Environment
    codec: Codec
    components: tuple[Component, ...]
    migrations: dict[str, tuple[str, ...]] = {}
    """Application label to the names of its migrations."""
    migration_commands: MigrationCommands | None = None
    processes: dict[str, Process] = {}
    install: Install = Install()
    django: str = ""
    """The settings module; empty for other applications."""
    static: str = ""
    """The directory in the release that `collectstatic` filled; empty where it was not run."""
    assets: tuple[AssetStep, ...] = ()

    @property
    def reference(self) -> str:
        """ "accounting-1337"."""
        return f"{self.name}-{self.version}"

    def component(self, name: str) -> Component:
        """Return the component of that name; raises KeyError."""
        for component in self.components:
            if component.name == name:
                return component
        raise KeyError(name)


def encode(manifest: Manifest) -> bytes:
    """Return the canonical JSON: sorted keys, no spaces, UTF-8."""
    return msgspec.json.encode(manifest, order="sorted")


def decode(data: bytes) -> Manifest:
    """Return the manifest.

    Raises:
        ArtifactRejected: it cannot be read, has another format, or holds a forbidden name.
    """
    try:
        check_format(msgspec.json.decode(data, type=_Format).format)
        manifest = msgspec.json.decode(data, type=Manifest)
    except msgspec.MsgspecError as error:
        raise ArtifactRejected(f"the artifact's manifest cannot be read: {error}") from error
    if not is_name(manifest.name):
        raise ArtifactRejected(f"the manifest's name {manifest.name!r} is not allowed")
    if not is_version(manifest.version):
        raise ArtifactRejected(f"the manifest's version {manifest.version!r} is not allowed")
    if manifest.static and not _STATIC.fullmatch(manifest.static):
        raise ArtifactRejected(f"the manifest's directory {manifest.static!r} is not allowed")
    return manifest


def check_format(found: int) -> None:
    """Refuse a format that this version cannot read.

    Raises:
        ArtifactRejected: the format is another.
    """
    if found != FORMAT:
        raise ArtifactRejected(
            f"the artifact has format {found}; this version of artifact reads format {FORMAT}",
            hint="upgrade artifact on this machine: pip install --upgrade single-artifact",
        )


def digest(data: bytes) -> str:
    """Return the identity of an artifact, "sha256:…", from its manifest's bytes."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


class _Format(msgspec.Struct):
    format: int
