"""The source of a build: which files belong to it, and what cannot be part of an artifact."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal

import msgspec

from artifact import manifest, variables
from artifact.archive import toc
from artifact.building import git, listing
from artifact.building.listing import IGNORE_FILE, Listing, first_names
from artifact.errors import BuildFailed
from artifact.steps import Listener, Said, Warned

_COMPONENT = "code"
# https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md: less than 1024 bytes, this line first.
_LFS_POINTER = b"version https://git-lfs.github.com/spec/"
_LFS_SIZES = range(100, 1024)


class SourceFile(msgspec.Struct, frozen=True):
    """A file or symlink of the source."""

    path: str
    """Relative to the project, with "/"."""
    kind: Literal["file", "link"]
    mode: int
    """0644 or 0755; 0777 for links."""
    target: str = ""
    """Of a link."""
    size: int = 0
    blob: str = ""
    """Git's id of the content, where the file is as it was committed; else empty."""


class Snapshot(msgspec.Struct, frozen=True):
    """The source as it was when it was read."""

    root: Path
    files: tuple[SourceFile, ...]
    """In byte order of their paths."""
    source: manifest.Source
    created: int
    """Time of the commit; later where uncommitted files are; the newest file's without git."""
    commits: int
    """How many commits led here; 0 when that is unknown."""


def take_snapshot(
    project: Path,
    exclude: Sequence[str],
    tell: Listener,
    *,
    is_build_output: Callable[[str], bool] = lambda _path: False,
) -> Snapshot:
    """Return the files that belong to a project; change nothing.

    They are what git tracks, submodules included; without git, all but what never belongs to a
    project. `.artifactignore` and `exclude` (gitignore's syntax) take away from that.

    Args:
        is_build_output: tells the paths that earlier builds wrote into the project; they are not
            mentioned.

    Raises:
        BuildFailed: something cannot be part of an artifact; the hint says what to do about it.
        ConfigurationError: a pattern is none.
    """
    root = project.resolve()
    try:
        return _take(root, exclude, is_build_output, tell)
    except PermissionError as error:
        raise BuildFailed(
            f"{error.filename} cannot be read: {error.strerror}",
            hint=f"change its permissions, or list it in {IGNORE_FILE}",
        ) from error


def _take(
    root: Path, exclude: Sequence[str], is_build_output: Callable[[str], bool], tell: Listener
) -> Snapshot:
    checkout = git.find_checkout(root)
    if checkout is None:
        tell(Said("no git here: taking every file but virtualenvs, caches, databases and .env"))
    found = listing.list_files(root, checkout, exclude, is_build_output)
    files = _on_disk(root, found)
    _refuse(files, checkout is not None)
    if checkout is not None:
        _warn(root, found, files, tell)
    return _snapshot(root, files, found, checkout)


def copy(snapshot: Snapshot, to: Path) -> None:
    """Copy the source into a directory that exists, writable, all files with the snapshot's time.

    Raises:
        BuildFailed: a file is gone since the snapshot was taken.
    """
    try:
        _copy(snapshot, to)
    except FileNotFoundError as error:
        raise BuildFailed(
            f"{error.filename} was removed while the build was running", hint="build again"
        ) from error


def _copy(snapshot: Snapshot, to: Path) -> None:
    made: set[str] = {""}
    for file in snapshot.files:
        directory = file.path.rpartition("/")[0]
        if directory not in made:
            os.makedirs(to / directory, exist_ok=True)
            made.add(directory)
        destination = to / file.path
        if file.kind == "link":
            destination.symlink_to(file.target)
            continue
        shutil.copyfile(snapshot.root / file.path, destination)
        destination.chmod(file.mode)
        os.utime(destination, (snapshot.created, snapshot.created))


def _on_disk(root: Path, found: Listing) -> list[SourceFile]:
    """Return what the candidates are on the disk; those that are gone are noted as missing."""
    files = []
    prefix = f"{root}/"
    for candidate in found.candidates:
        path = candidate.path
        try:
            facts = os.lstat(prefix + path)
        except (FileNotFoundError, NotADirectoryError):
            if "\N{REPLACEMENT CHARACTER}" in path:
                raise _unpackable(path, "is not UTF-8") from None
            found.missing.append(path)
            continue
        except (ValueError, OSError) as error:
            raise _unpackable(path, f"cannot be read: {error}") from error
        if stat.S_ISLNK(facts.st_mode):
            target = _plain(os.readlink(prefix + path))
            files.append(SourceFile(path, "link", 0o777, target, 0, candidate.blob))
        elif stat.S_ISREG(facts.st_mode):
            executable = candidate.executable
            if executable is None:
                executable = bool(facts.st_mode & stat.S_IXUSR)
            mode = 0o755 if executable else 0o644
            files.append(SourceFile(path, "file", mode, "", facts.st_size, candidate.blob))
        else:
            raise BuildFailed(
                f"{path!r} is neither a file, a directory nor a symlink",
                hint=f"remove it, or list it in {IGNORE_FILE}",
            )
    return sorted(files, key=lambda file: file.path.encode(errors="surrogateescape"))


def _plain(target: str) -> str:
    """Return a link's target in its shortest form: "./a//b/" is "a/b"."""
    if target.startswith("/"):
        return target
    return "/".join(part for part in target.split("/") if part not in ("", "."))


def _refuse(files: Sequence[SourceFile], under_git: bool) -> None:  # noqa: FBT001 - private
    """Raise for what cannot be part of an artifact."""
    for file in files:
        fault = toc.path_fault(_COMPONENT, file.path)
        if fault is not None:
            raise _unpackable(file.path, fault)
        if file.path.endswith("/pyvenv.cfg") or file.path == "pyvenv.cfg":
            raise _committed_environment(file.path.rpartition("/")[0] or ".", under_git)
        if file.kind == "link":
            fault = toc.link_fault(_COMPONENT, file.path, file.target)
            if fault is not None:
                raise BuildFailed(
                    f"the symlink {file.path!r} points at {file.target!r}, which {fault}",
                    hint="point it at a file of the project by a plain relative path, "
                    f"or list it in {IGNORE_FILE}",
                )


def _unpackable(path: str, fault: str) -> BuildFailed:
    top = path.partition("/")[0]
    if fault.startswith("does not belong"):
        return BuildFailed(
            f"{top!r} at the top of the project is a name that artifact needs for itself",
            hint=f"rename it, or list /{top} in {IGNORE_FILE}",
        )
    shown = path if len(path) < 100 else f"{path[:60]}…{path[-30:]}"
    return BuildFailed(
        f"the file {shown!r} cannot be packed: its name {fault}",
        hint=f"rename it, or list it in {IGNORE_FILE}",
    )


def _committed_environment(directory: str, under_git: bool) -> BuildFailed:  # noqa: FBT001
    hint = f"list it in {IGNORE_FILE}"
    if under_git and directory != ".":
        hint = f"git rm -r --cached {directory} && echo /{directory}/ >> .gitignore; or {hint}"
    return BuildFailed(
        f"{directory} is a virtualenv among the project's files; the build makes its own",
        hint=hint,
    )


def _warn(root: Path, found: Listing, files: Sequence[SourceFile], tell: Listener) -> None:
    if found.changed or found.missing:
        names = sorted({*found.changed, *found.missing})
        gone = f", of them {len(found.missing)} deleted" if found.missing else ""
        count = f"{len(names)} uncommitted change{'s' * (len(names) > 1)}{gone}"
        tell(
            Warned(
                f"{count}: {first_names(names)}",
                hint="the artifact is marked as dirty; commit to have one that can be built again",
            )
        )
    if found.untracked:
        tell(Said(f"not tracked by git, so not in the artifact: {first_names(found.untracked)}"))
    pointers = list(_pointers(root, files))
    if pointers:
        tell(
            Warned(
                f"git LFS has not fetched {first_names(pointers)}: "
                f"the artifact will have {'its pointer' if len(pointers) == 1 else 'pointers'}",
                hint="git lfs pull",
            )
        )


def _pointers(root: Path, files: Iterable[SourceFile]) -> Iterator[str]:
    """Yield the files that are still pointers of git LFS."""
    attributes = [file for file in files if file.path.rpartition("/")[2] == ".gitattributes"]
    if not any(b"filter=lfs" in (root / file.path).read_bytes() for file in attributes):
        return
    for file in files:
        if file.kind == "file" and file.size in _LFS_SIZES:
            with (root / file.path).open("rb") as stream:
                if stream.read(len(_LFS_POINTER)) == _LFS_POINTER:
                    yield file.path


def _snapshot(
    root: Path, files: Sequence[SourceFile], found: Listing, checkout: git.Checkout | None
) -> Snapshot:
    if not files:
        raise BuildFailed(
            f"there is no file to build from in {root}",
            hint="git add the project's files" if checkout else "is this the project's directory?",
        )
    if checkout is None:
        epoch = variables.get("SOURCE_DATE_EPOCH")
        created = int(epoch) if epoch.isdigit() else _newest(root, [file.path for file in files])
        return Snapshot(root, tuple(files), manifest.Source(), created, 0)
    dirty = bool(found.changed or found.missing)
    created = checkout.history.time
    if dirty or not created:
        # nginx tells files apart by time and size: a changed file must not get the commit's time.
        created = max(created, _newest(root, found.changed or [file.path for file in files]))
    source = manifest.Source(
        revision=checkout.changes.revision,
        branch=checkout.changes.branch or _branch_of_the_job(),
        dirty=dirty,
        remote=checkout.history.remote,
    )
    return Snapshot(root, tuple(files), source, created, checkout.history.commits)


def _newest(root: Path, paths: Iterable[str]) -> int:
    times = [0]
    for path in paths:
        try:
            times.append(int(os.lstat(root / path).st_mtime))
        except OSError:
            continue
    return max(times)


def _branch_of_the_job() -> str:
    """Return the branch as CI names it: there, a commit is checked out without one."""
    names = ("CI_COMMIT_REF_NAME", "BRANCH_NAME", "GIT_BRANCH", "GITHUB_REF_NAME")
    return next((value for name in names if (value := variables.get(name))), "")
