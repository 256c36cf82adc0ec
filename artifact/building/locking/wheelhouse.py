"""The machine's wheelhouse: wheels built here, kept by what they were built from.

A wheel is found again by the digest of its source (a commit, a directory's content, an sdist's
hash) and of what else decides its bytes (interpreter, platform, declared variables, settings), so
that a changed pin elsewhere never builds it again. One directory a wheel:
`<digest>/{NAME-VERSION-….whl, wheel.json}`, put there whole by one rename.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import msgspec
from packaging.utils import parse_sdist_filename

from artifact import files
from artifact.building.locking import indexes, project_requirements
from artifact.building.locking.context import BuildContext
from artifact.building.locking.pins import Lock, Pin, text_of
from artifact.building.locking.requirement import Requirement
from artifact.building.locking.wheel_building import (
    PipJob,
    Wheel,
    build,
    cache_directory,
    kept_at,
    run_pip,
)
from artifact.errors import BuildFailed, UsageError

_CACHES = frozenset(
    {".git", ".hg", ".svn", "__pycache__", "node_modules", ".tox", ".nox",
     ".mypy_cache", ".pytest_cache", ".ruff_cache"}
)  # fmt: skip
_PRODUCTS = frozenset({"build", "dist", "venv", ".venv"})


def identity(entry: Requirement) -> str:
    """Return what a link leads to, in words that change when the content does.

    Raises:
        BuildFailed: a local file or directory cannot be read.
    """
    if entry.kind == "vcs":
        return entry.written
    if entry.kind == "url":
        return f"{entry.written.partition('#')[0]} {' '.join(entry.hashes)}"
    try:
        return f"{entry.written} sha256:{_content(Path(entry.link))}"
    except OSError as error:
        raise BuildFailed(
            f"{entry.where}: {error.filename or entry.link} cannot be read: {error.strerror}",
            hint="make it readable to the user who builds",
        ) from error


def build_link(entry: Requirement, context: BuildContext) -> Wheel:
    """Return the wheel of a VCS commit, URL or local path, building it when it is not kept.

    Raises:
        BuildFailed: it cannot be had or built, or it is not what it should be.
    """
    source = identity(entry)
    if entry.kind == "path" and entry.hashes and not _has_hash(Path(entry.link), entry.hashes):
        raise BuildFailed(
            f"{entry.where}: {entry.written} does not have the hash that stands there",
            hint="write the hash of the file as it is: `pip hash FILE`",
        )
    place = cache_directory(source, context, entry.settings)
    with files.scratch() as scratch:
        link, secrets = _without_credentials(entry)
        if entry.kind == "path" and kept_at(place) is None:
            link = _copy(Path(entry.link), scratch / "source").as_uri()
        line = " ".join([link, *(f'--config-settings "{setting}"' for setting in entry.settings)])
        line += "".join(f" --hash={hash_}" for hash_ in entry.hashes if entry.kind == "url")
        with_secrets = replace(context, declared={**context.declared, **secrets})
        wheel = build(PipJob(f"{line}\n", source, entry.written, with_secrets), place)
    if entry.name and wheel.name != entry.name:
        raise BuildFailed(
            f"{entry.where}: {entry.written} is {wheel.name}, not {entry.name}",
            hint=f"write {wheel.name} @ {entry.written}",
        )
    return wheel


def build_sdist(pin: Pin, hash_: str, context: BuildContext) -> Wheel:
    """Return the wheel of an sdist of the index, building it when it is not kept.

    Args:
        hash_: the sdist's, one of the pin's.

    Raises:
        BuildFailed: it cannot be had or built, or it is not what it should be.
    """
    pin = msgspec.structs.replace(pin, hashes=(hash_,))
    head = f"{pin.name}=={pin.version}"
    place = cache_directory(hash_, context, pin.settings)
    wheel = build(PipJob(f"--no-binary {pin.name}\n{text_of([pin])}", "", head, context), place)
    if (wheel.name, wheel.version) != (pin.name, pin.version):
        raise BuildFailed(
            f"the sdist of {head} built a wheel of {wheel.name} {wheel.version}",
            hint=f"pin another version of {pin.name}; this one is not what it says",
        )
    return wheel


def build_wanted(lock: Lock, context: BuildContext) -> None:
    """Build the packages that `--no-binary` names; their wheels on the index are not used.

    Raises:
        BuildFailed: one cannot be had or built.
    """
    names = set(context.indexes.options.no_binary)
    for pin in lock.pins:
        wanted = not pin.source and {pin.name, ":all:"} & names
        if wanted and kept(pin, context) is None:
            # Which of the hashes is the sdist's only the index knows; pip finds it.
            _build_any(pin, context)


def _build_any(pin: Pin, context: BuildContext) -> None:
    """Build the sdist of a pin, whichever of its hashes that has; raises BuildFailed."""
    lines = f"--no-binary {pin.name}\n{text_of([_without_settings(pin)])}"
    job = PipJob(lines, "", f"{pin.name}=={pin.version}", context)
    with files.scratch() as scratch:
        run_pip(job, "download", ["--no-deps", "--dest", "sdist"], scratch)
        (found,) = (scratch / "sdist").iterdir()
        hash_ = f"sha256:{files.sha256(found)}"
    build_sdist(pin, hash_, context)


def kept(pin: Pin, context: BuildContext) -> Wheel | None:
    """Return the wheel that stands for a pin: built from its source, or from its sdist."""
    sources = (pin.source,) if pin.source else pin.hashes
    found = (kept_at(cache_directory(source, context, pin.settings)) for source in sources)
    return next((wheel for wheel in found if wheel), None)


def substitute(lock: Lock, context: BuildContext, directory: Path) -> str:
    """Link the wheels kept for a lock into a directory; return the lock that asks for them.

    The installers check the wheel's own hash; the sdist's was checked when it was built.
    """
    directory.mkdir()
    pins = []
    for pin in lock.pins:
        plain = _without_settings(pin)
        if wheel := kept(pin, context):
            (directory / wheel.filename).symlink_to(wheel.path)
            plain = msgspec.structs.replace(plain, hashes=(wheel.hash,))
        pins.append(plain)
    return text_of(pins)


def collect(lock: Lock, context: BuildContext, directory: Path) -> str:
    """Bring a wheel of every pin into a new directory; return the lock that asks for them.

    Wheels of the index are downloaded and held to their hashes; what has none is built.

    Raises:
        BuildFailed: a file cannot be had, does not have its hash, or cannot be built.
    """
    text = substitute(lock, context, directory)
    wanted = [_without_settings(pin) for pin in lock.pins if kept(pin, context) is None]
    if not wanted:
        return text
    job = PipJob(text_of(wanted), "", lock.origin, context)
    with files.scratch() as scratch:
        arguments = ["--no-deps", "--require-hashes", "--dest", str(directory)]
        run_pip(job, "download", arguments, scratch)
    pins = {(pin.name, pin.version): pin for pin in lock.pins}
    for path in sorted(directory.iterdir()):
        if path.suffix == ".whl":
            continue
        name, version = parse_sdist_filename(path.name)
        wheel = build_sdist(pins[name, str(version)], f"sha256:{files.sha256(path)}", context)
        path.unlink()
        (directory / wheel.filename).symlink_to(wheel.path)
    with files.scratch() as scratch:
        return substitute(lock, context, scratch / "again")


def write_wheelhouse(lock: Lock, context: BuildContext, destination: Path) -> int:
    """Write a wheel of every pin, and the lock, into a directory; return the number of wheels.

    It is installed without network by
    `pip install --no-index --find-links DIR -r DIR/requirements.lock`.

    Raises:
        UsageError: the destination exists and is not a wheelhouse of ours.
        BuildFailed: a file cannot be had, does not have its hash, or cannot be built.
    """
    earlier = destination / project_requirements.LOCK
    if destination.exists() and any(destination.iterdir()) and not earlier.is_file():
        raise UsageError(
            f"{destination} is not empty, and not a wheelhouse",
            hint="name a new directory",
        )
    destination.parent.mkdir(parents=True, exist_ok=True)
    # The old wheelhouse is replaced whole.
    with files.scratch(destination.parent, prefix=f".{destination.name}-artifact-") as scratch:
        wheels = scratch / "wheels"
        text = collect(lock, context, wheels)
        found = list(wheels.iterdir())
        for path in found:
            if path.is_symlink():
                original = path.resolve()
                path.unlink()
                shutil.copyfile(original, path)
        (wheels / project_requirements.LOCK).write_text(text)
        files.remove_tree(destination)
        wheels.rename(destination)
    return len(found)


def _without_settings(pin: Pin) -> Pin:
    """Return a pin as an installer takes it, which builds nothing."""
    return msgspec.structs.replace(pin, settings=())


def _without_credentials(entry: Requirement) -> tuple[str, dict[str, str]]:
    """Return the link for a requirements file, and variables that give git its credentials.

    pip passes a repository's URL to git as an argument, where everybody can read it; a header set
    by variables is seen by nobody. https://git-scm.com/docs/git-config#Documentation/git-config.txt-httpextraHeader
    """
    found = indexes.credentials(entry.link) if entry.kind == "vcs" else None
    if found is None or not re.match(r"git\+https?:", entry.link):
        return entry.link, {}
    parts = urlsplit(entry.link.removeprefix("git+"))
    host = parts.netloc.rpartition("@")[2]
    clean = urlunsplit(parts._replace(netloc=host))
    token = b64encode(":".join(found).encode()).decode()
    return f"git+{clean}", {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"http.{parts.scheme}://{host}/.extraHeader",
        "GIT_CONFIG_VALUE_0": f"Authorization: Basic {token}",
    }


def _has_hash(path: Path, hashes: tuple[str, ...]) -> bool:
    content = path.read_bytes()
    found = {
        f"{name}:{hashlib.new(name, content).hexdigest()}"
        for name in ("sha256", "sha384", "sha512")
    }
    return not found.isdisjoint(hashes)


def _content(path: Path) -> str:
    """Return the digest of a file, or of names, modes and bytes of a directory's files."""
    if path.is_file():
        return files.sha256(path)
    total = hashlib.sha256()
    for file in _sources(path):
        what = os.readlink(file) if file.is_symlink() else files.sha256(file)
        executable = bool(file.lstat().st_mode & 0o100)
        row = json.dumps([os.path.relpath(file, path), what, executable])
        total.update(row.encode() + b"\n")
    return total.hexdigest()


def _sources(directory: Path) -> Iterator[Path]:
    """Yield the files of a local project, without what tools leave behind in it."""
    for parent, directories, names in os.walk(directory):
        skipped = _CACHES | (_PRODUCTS if Path(parent) == directory else frozenset())
        directories[:] = sorted(
            name for name in directories if name not in skipped and not name.endswith(".egg-info")
        )
        for name in sorted(names):
            if not name.endswith((".pyc", ".pyo")):
                yield Path(parent, name)


def _copy(path: Path, to: Path) -> Path:
    """Copy a local project to where it is built: setuptools writes into the directory it builds."""
    if path.is_file():
        return path
    for file in _sources(path):
        target = to / file.relative_to(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(file, target, follow_symlinks=False)
    return to
