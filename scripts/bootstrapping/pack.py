"""Packs the tool into one executable zip, from its locked requirements."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import uv

HERE = Path(__file__).parent
PROJECT = HERE.parents[1]
LOCK = HERE / "requirements.lock"
# The zip's own moment, so that equal content gives equal bytes.
_TIME = (1980, 1, 1, 0, 0, 0)
# What says where on this machine something was installed from.
_OWN_PATHS = {"direct_url.json", "uv_cache.json", "INSTALLER", "REQUESTED", "RECORD", ".lock"}
_PROBE = (
    "import json, platform, sys, sysconfig;"
    "print(json.dumps({'python': platform.python_version(),"
    " 'abi': sysconfig.get_config_var('SOABI')}))"
)


def main() -> None:
    """Pack and print the path of the file."""
    parser = argparse.ArgumentParser(prog="scripts/bootstrap")
    parser.add_argument("--output", type=Path, help="dist/artifact-VERSION.pyz when left out")
    parser.add_argument("--python", default=sys.executable, help="the interpreter it is for")
    parser.add_argument("--wheel", type=Path, help="of the tool; built when left out")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        wheel = options.wheel or build_wheel(work)
        tree = install(wheel, options.python, work / "tree")
        about = json.loads(read([options.python, "-c", _PROBE]))
        about["version"] = wheel.name.split("-")[1]
        about["id"] = identity(tree)
        output = options.output or PROJECT / "dist" / f"artifact-{about['version']}.pyz"
        write(tree, about, output)
    print(output.resolve())


def build_wheel(work: Path) -> Path:
    """Build the tool's wheel and return its path."""
    run(["build", "--quiet", "--wheel", "--out-dir", str(work / "wheel"), str(PROJECT)])
    return next((work / "wheel").glob("*.whl"))


def install(wheel: Path, python: str, tree: Path) -> Path:
    """Install the locked requirements and the wheel: `lib/` for site-packages, `bin/` for uv."""
    target = ["pip", "install", "--quiet", "--no-deps", "--python", python]
    target += ["--target", str(tree / "lib")]
    # No sdists: what this machine's compiler makes might not run on another.
    run([*target, "--only-binary", ":all:", "--require-hashes", "--requirements", str(LOCK)])
    run([*target, str(wheel)])
    (tree / "bin").mkdir()
    shutil.move(tree / "lib" / "bin" / "uv", tree / "bin" / "uv")
    shutil.rmtree(tree / "lib" / "bin")
    return tree


def members(tree: Path) -> list[tuple[str, Path]]:
    """Return what is packed, in order."""
    found = [
        (str(path.relative_to(tree)), path)
        for path in tree.rglob("*")
        if path.is_file() and path.name not in _OWN_PATHS and "__pycache__" not in path.parts
    ]
    return sorted(found)


def identity(tree: Path) -> str:
    """Return the hash of all that is packed: the name of its directory on servers."""
    sha = hashlib.sha256((HERE / "place.py").read_bytes())
    for name, path in members(tree):
        sha.update(f"{name}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return sha.hexdigest()[:12]


def write(tree: Path, about: dict[str, str], output: Path) -> None:
    """Write the zip beside its place and put it there."""
    output.parent.mkdir(parents=True, exist_ok=True)
    fresh = output.with_name(f".{output.name}.{os.getpid()}")
    try:
        with fresh.open("wb") as sink:
            sink.write(b"#!/usr/bin/env python3\n")
            with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
                add(archive, "__main__.py", (HERE / "place.py").read_bytes())
                add(archive, "about.json", json.dumps(about, sort_keys=True).encode())
                for name, path in members(tree):
                    add(archive, name, path.read_bytes())
        fresh.chmod(0o755)
        fresh.replace(output)
    finally:
        fresh.unlink(missing_ok=True)


def add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    """Add a file whose entry tells nothing of this machine."""
    entry = zipfile.ZipInfo(name, _TIME)
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.external_attr = (0o100755 if name.startswith("bin/") else 0o100644) << 16
    archive.writestr(entry, content)


def run(arguments: list[str]) -> None:
    """Run uv; what it says is for whoever runs the script."""
    subprocess.run([uv.find_uv_bin(), *arguments], check=True, stdout=sys.stderr)


def read(argv: list[str]) -> str:
    """Run a program and return what it printed."""
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        sys.exit(f"error: {error.cmd[0]} exited with status {error.returncode}")
