"""Build one wheel with pip, read it back, and keep it where it is found again."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from pathlib import Path

import msgspec
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from wheel.wheelfile import WheelError, WheelFile

from artifact import files, process, steps, variables
from artifact.building.caches import load_kept
from artifact.building.locking import complaints, pip_virtualenvs
from artifact.building.locking.context import BuildContext, pip_environment
from artifact.building.locking.indexes import Indexes
from artifact.building.locking.pins import Pin
from artifact.errors import BuildFailed

_SECONDS = 3600.0
_LOCK_SECONDS = 3600.0


class Wheel(msgspec.Struct, frozen=True):
    """A wheel of the wheelhouse."""

    filename: str
    name: str
    """Normalised."""
    version: str
    hash: str
    """ "sha256:…" of the file."""
    source: str
    """What it was built from, for people: "git+https://…@<commit>"."""
    path: str = ""

    @property
    def pin(self) -> Pin:
        """The wheel as a package of a lock."""
        return Pin(self.name, self.version, (self.hash,), source=self.source)


class PipJob(msgspec.Struct, frozen=True):
    """Something pip has to build or to get."""

    lines: str
    """Of a requirements file for pip; they may hold credentials."""
    source: str
    """For the wheel's `source`; empty when it is built from an sdist of the index."""
    shown: str
    """Its name in messages: "django==5.2"."""
    context: BuildContext


def build(job: PipJob, place: Path) -> Wheel:
    """Return the wheel kept at a place, building it first when there is none.

    Raises:
        BuildFailed: it cannot be had or built, or what was built is no wheel.
        Locked: another run has been building it for an hour.
    """
    if wheel := kept_at(place):
        return wheel
    place.parent.mkdir(parents=True, exist_ok=True)
    beside = place.with_name(f"{place.name}.lock")
    with files.locked(beside, doing=f"building {job.shown}", wait=_LOCK_SECONDS):
        if wheel := kept_at(place):
            return wheel
        job.context.tell(steps.Said(f"building a wheel of {job.shown}"))
        files.remove_tree(place)
        # A crash leaves this directory, and the next build of the same wheel removes it.
        scratch = place.with_name(f".building-{place.name}")
        files.remove_tree(scratch)
        scratch.mkdir()
        try:
            run_pip(job, "wheel", ["--no-deps", "--wheel-dir", "wheels"], scratch)
            wheel = _read_back(scratch / "wheels", job)
            (scratch / "wheels" / "wheel.json").write_bytes(msgspec.json.encode(wheel))
            (scratch / "wheels").rename(place)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    return msgspec.structs.replace(wheel, path=str(place / wheel.filename))


def run_pip(job: PipJob, command: str, arguments: list[str], directory: Path) -> None:
    """Run `pip wheel` or `pip download` for a job's requirements; raises BuildFailed."""
    given = directory / "requirements.in"
    given.touch(mode=0o600)
    given.write_text(job.lines)
    context = job.context
    python = pip_virtualenvs.python_with_pip(context.interpreter, context.caches)
    environment = pip_environment(context) | _downloads_only(context.indexes, directory / "cache")
    argv = [str(python), "-m", "pip", command, *arguments, "-r", given.name]
    doing = f"building {job.shown}" if command == "wheel" else f"getting {job.shown}"
    with complaints.explained(doing, context) as hear:
        process.run(argv, cwd=directory, env=environment, timeout=_SECONDS, tell=hear)


def _downloads_only(settings: Indexes, directory: Path) -> dict[str, str]:
    """Give pip a cache of downloads, but none of the wheels it built.

    pip finds those by name, whatever the variables and settings they were built with.
    """
    if "no-cache-dir" in settings.pip:
        return {}
    home = variables.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    shared = Path(settings.pip.get("cache-dir") or Path(home) / "pip")
    directory.mkdir()
    # Where it cannot be written, or a later pip calls it otherwise, pip downloads again.
    with contextlib.suppress(OSError):
        (shared / "http-v2").mkdir(parents=True, exist_ok=True)
        (directory / "http-v2").symlink_to(shared / "http-v2")
    return {"PIP_CACHE_DIR": str(directory)}


def _read_back(directory: Path, job: PipJob) -> Wheel:
    """Check every file of a wheel against its RECORD, and return what it says of itself."""
    found = sorted(directory.glob("*.whl"))
    if len(found) != 1:
        raise BuildFailed(
            f"building {job.shown} gave {len(found)} wheels instead of one",
            hint="`pip wheel --no-deps` on it must give one wheel",
        )
    path = found[0]
    try:
        name, version, _, _ = parse_wheel_filename(path.name)
        with WheelFile(path) as wheel:
            for member in wheel.namelist():
                wheel.read(member)
    except (WheelError, InvalidWheelFilename, ValueError) as error:
        raise BuildFailed(
            f"the wheel built of {job.shown} is broken: {error}",
            hint="`pip wheel --no-deps` on it must give a wheel that `pip install` takes",
        ) from error
    hash_ = f"sha256:{files.sha256(path)}"
    return Wheel(path.name, canonicalize_name(name), str(version), hash_, job.source)


def kept_at(place: Path) -> Wheel | None:
    """Return the wheel that is kept at a place."""
    wheel = load_kept(place / "wheel.json", Wheel)
    if wheel is None or not (place / wheel.filename).is_file():
        return None
    return msgspec.structs.replace(wheel, path=str(place / wheel.filename))


def cache_directory(what: str, context: BuildContext, settings: tuple[str, ...]) -> Path:
    """Return the directory in which the wheel of one source is kept.

    The directory depends on the interpreter, the system, the settings and the declared variables.

    Args:
        what: the link of the source, or the hash of an sdist.
    """
    interpreter = context.interpreter
    situation = [interpreter.abi, interpreter.feature, interpreter.platform, interpreter.libc]
    situation += [interpreter.system, *sorted(settings)]
    decides = [what, situation, sorted(context.declared.items())]
    digest = hashlib.sha256(json.dumps(decides).encode()).hexdigest()[:32]
    return context.caches.wheelhouse / digest
