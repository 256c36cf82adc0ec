"""`__main__` of the packed tool: puts itself on a machine that has only Python, or runs as it is.

    DIRECTORY/versions/0.1.0-3f2a…/   an environment, whole or not there
    DIRECTORY/current, previous       links to two of them
    DIRECTORY/bin/artifact            follows current: what supervisor and people call

Nothing but the standard library, in words that any Python 3 can read, for it has to say which one
it needs: newer words of types stand in quotes.
"""

import argparse
import collections.abc
import compileall
import contextlib
import fcntl
import json
import os
import pathlib
import platform
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import zipfile

ARCHIVE = pathlib.Path(sys.argv[0]).resolve()
DIRECTORY = pathlib.Path("/opt/artifact")
LINK = pathlib.Path("/usr/local/bin/artifact")
KEPT = 3

COMMAND = """\
#!{python} -I
import fcntl
import os

# Held while this runs: an upgrade deletes no version that somebody uses.
lease = os.open({lease!r}, os.O_RDONLY)
fcntl.flock(lease, fcntl.LOCK_SH)
from artifact.cli import main

main()
"""


class Refused(Exception):
    """Nothing was changed; the message and the hint say why."""

    def __init__(self, message: str, hint: str, code: int = 5) -> None:
        super().__init__(message)
        self.hint = hint
        self.code = code


def main() -> None:
    """Put the tool in place, or hand over to it."""
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    if sys.argv[1:2] == ["bootstrap"]:
        os.umask(0o022)  # everybody on the machine may run it
        options = parse(sys.argv[2:])
        if options.back:
            back(options.directory)
        else:
            put(options.directory, options.link)
        return
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    tool = pathlib.Path(home, "artifact", "tool")
    with locked(tool):
        version = unpack(tool, lasting=False)
        os.utime(str(version))
        sweep(tool, {version})
    command = str(version / "bin" / "artifact")
    os.execv(command, [command, *sys.argv[1:]])


def parse(arguments: "list[str]") -> argparse.Namespace:
    """Read the command line of `bootstrap`."""
    parser = argparse.ArgumentParser(
        prog=f"{ARCHIVE.name} bootstrap",
        description="Put the tool on this machine, upgrade it, or go back; in one step each.",
    )
    parser.add_argument("--directory", type=pathlib.Path, default=DIRECTORY)
    parser.add_argument("--link", type=pathlib.Path, help=f"{LINK} in the usual directory")
    parser.add_argument("--back", action="store_true", help="to the version before")
    options = parser.parse_args(arguments)
    options.directory = options.directory.absolute()
    if options.link is None and options.directory == DIRECTORY:
        options.link = LINK
    return options


def put(directory: pathlib.Path, link: "pathlib.Path | None") -> None:
    """Unpack this version beside the others, try it, and switch to it."""
    command = directory / "bin" / "artifact"
    if link is not None and (link.exists() or link.is_symlink()) and not is_link(link, command):
        raise Refused(
            f"{link} is there already and is not a link to {command}",
            f"remove it, or choose another: {ARCHIVE.name} bootstrap --link PATH",
        )
    with locked(directory):
        version = unpack(directory, lasting=True)
        target = f"versions/{version.name}"
        now = target_of(directory / "current")
        if now == target:
            print(f"{version.name} is already in {directory}")
        else:
            if now:
                point(directory / "previous", now)
            point(directory / "current", target)
            print(f"{version.name} is in {directory}" + (f" (was {name(now)})" if now else ""))
        command.parent.mkdir(exist_ok=True)
        point(command, "../current/bin/artifact")
        if link is not None:
            point(link, str(command))
        used = {directory / one for one in (target, target_of(directory / "previous")) if one}
        sweep(directory, used)


def back(directory: pathlib.Path) -> None:
    """Switch to the version before; once more switches forth again."""
    if not directory.is_dir():
        raise Refused(f"there is no {directory}", f"{ARCHIVE.name} bootstrap puts the tool there")
    with locked(directory):
        now, before = target_of(directory / "current"), target_of(directory / "previous")
        if not before or before == now or not (directory / before).is_dir():
            raise Refused(
                f"there is no version in {directory} to go back to",
                "put it there with the file of that version",
            )
        try_it(directory / before)
        point(directory / "current", before)
        point(directory / "previous", now)
        print(f"{name(before)} is in {directory} (was {name(now)})")


def unpack(directory: pathlib.Path, *, lasting: bool) -> pathlib.Path:
    """Return this version's environment, made if need be; it appears whole or not at all."""
    with zipfile.ZipFile(str(ARCHIVE)) as archive:
        about = json.loads(archive.read("about.json").decode())
        suits(about)
        final = directory / "versions" / f"{about['version']}-{about['id']}"
        if final.is_dir():
            if runs(final):
                return final
            shutil.rmtree(str(final))  # its interpreter was replaced, or somebody deleted files
        fresh = pathlib.Path(tempfile.mkdtemp(prefix=".new-", dir=str(final.parent)))
        try:
            fill(fresh, final, archive, lasting=lasting)
            if lasting:
                os.sync()  # a name that is there after a power cut has its content
            fresh.rename(final)
            try_it(final)
        except BaseException:
            shutil.rmtree(str(fresh), ignore_errors=True)
            raise
    return final


def suits(about: "dict[str, str]") -> None:
    """Refuse an interpreter that the packed modules were not compiled for."""
    abi = sysconfig.get_config_var("SOABI")
    if abi != about["abi"]:
        raise Refused(
            f"{ARCHIVE.name} is for Python {about['python']} ({about['abi']}), "
            f"and {sys.executable} is Python {platform.python_version()} ({abi})",
            f"run it with that Python, or pack one: scripts/bootstrap --python {sys.executable}",
            code=4,
        )


def fill(
    fresh: pathlib.Path, final: pathlib.Path, archive: zipfile.ZipFile, *, lasting: bool
) -> None:
    """Make an environment that will be at `final`."""
    import venv

    venv.EnvBuilder(symlinks=True, with_pip=False).create(str(fresh))
    version = "python{}.{}".format(*sys.version_info[:2])
    site = fresh / "lib" / version / "site-packages"
    for entry in archive.infolist():
        top, _, rest = entry.filename.partition("/")
        if top in ("lib", "bin") and rest:
            path = (site if top == "lib" else fresh / "bin") / rest
            path.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(entry) as source, path.open("wb") as sink:
                shutil.copyfileobj(source, sink)
            path.chmod(entry.external_attr >> 16 & 0o777)
    command = fresh / "bin" / "artifact"
    (fresh / "lease").touch()
    command.write_text(COMMAND.format(python=final / "bin" / "python", lease=str(final / "lease")))
    command.chmod(0o755)
    fresh.chmod(0o755)
    if lasting:
        # Who may not write here would compile them every time. Servers do not resolve or install.
        compileall.compile_dir(
            str(site),
            quiet=2,
            rx=re.compile("/(pip|setuptools|distlib|virtualenv)/"),
            stripdir=str(fresh),
            prependdir=str(final),
        )


def try_it(version: pathlib.Path) -> None:
    """Refuse a version that does not run."""
    argv = [str(version / "bin" / "artifact"), "--version"]
    try:
        ran = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120)
    except OSError as error:
        raise Refused(
            f"{argv[0]} does not start: {error.strerror}", "is its Python still there?", code=4
        ) from error
    if ran.returncode != 0:
        said = ran.stdout.decode(errors="replace").strip()
        raise Refused(f"{version.name} does not run here: {said}", "the one before stays", code=4)


def runs(version: pathlib.Path) -> bool:
    """Tell whether a version that is there runs."""
    try:
        try_it(version)
    except Refused:
        return False
    return True


def sweep(directory: pathlib.Path, used: "set[pathlib.Path]") -> None:
    """Delete what killed runs left and all but the newest versions, except those that run."""
    versions = directory / "versions"
    for left in versions.glob(".new-*"):
        shutil.rmtree(str(left), ignore_errors=True)
    found = sorted(versions.iterdir(), key=lambda one: one.stat().st_mtime, reverse=True)
    for old in found[KEPT:]:
        if old not in used and nobody_uses(old):
            shutil.rmtree(str(old), ignore_errors=True)


def nobody_uses(version: pathlib.Path) -> bool:
    """Tell whether no process holds the version's lease."""
    try:
        with (version / "lease").open() as lease:
            fcntl.flock(lease, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


@contextlib.contextmanager
def locked(directory: pathlib.Path) -> "collections.abc.Iterator[None]":
    """Let one run at a time change a directory; the kernel drops the lock if we die."""
    (directory / "versions").mkdir(parents=True, exist_ok=True)
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def point(link: pathlib.Path, target: str) -> None:
    """Make `link` a link to `target` in one step."""
    fresh = link.with_name(f".{link.name}.new")
    if fresh.is_symlink():
        fresh.unlink()
    fresh.symlink_to(target)
    fresh.replace(link)


def target_of(link: pathlib.Path) -> str:
    """Return what a link points at, nothing where there is none."""
    return os.readlink(str(link)) if link.is_symlink() else ""


def is_link(link: pathlib.Path, command: pathlib.Path) -> bool:
    """Tell whether a link is the one that we make."""
    return target_of(link) == str(command)


def name(target: str) -> str:
    """Return the version that `versions/0.1.0-3f2a…` is."""
    return target.rpartition("/")[2]


if __name__ == "__main__":
    try:
        main()
    except Refused as refused:
        print(f"error: {refused}\nhint: {refused.hint}", file=sys.stderr)
        sys.exit(refused.code)
    except (OSError, zipfile.BadZipFile) as problem:
        print(
            f"error: {problem}\nhint: nothing was switched; look at the disk and the rights, "
            "then run it again",
            file=sys.stderr,
        )
        sys.exit(5)
