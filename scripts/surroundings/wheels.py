"""Writes wheels, and is a build backend that needs nothing but the standard library.

The sdists of `index.py` carry a copy of this file as `backend.py`, with what to build in
`about.json`.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import time
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_KIND = "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
_TIME = (2026, 1, 1, 0, 0, 0)


def metadata(
    name: str, version: str, *, requires: Sequence[str] = (), requires_python: str = ""
) -> str:
    """Return the content of METADATA."""
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    if requires_python:
        lines.append(f"Requires-Python: {requires_python}")
    lines += [f"Requires-Dist: {text}" for text in requires]
    return "\n".join(lines) + "\n"


def write(
    directory: Path,
    name: str,
    version: str,
    files: Mapping[str, str | bytes] | None = None,
    *,
    requires: Sequence[str] = (),
    requires_python: str = "",
) -> Path:
    """Write a pure wheel of these files, or of one module; the same content gives the same bytes.

    Args:
        directory: where it is written; it is made.
    """
    directory.mkdir(parents=True, exist_ok=True)
    module = name.replace("-", "_")
    info = f"{module}-{version}.dist-info"
    content = dict(files) if files is not None else {f"{module}.py": f"version = {version!r}\n"}
    described = metadata(name, version, requires=requires, requires_python=requires_python)
    content |= {f"{info}/METADATA": described, f"{info}/WHEEL": _KIND}
    record = []
    path = directory / f"{module}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for member, text in content.items():
            data = text.encode() if isinstance(text, str) else text
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            record.append(f"{member},sha256={digest},{len(data)}")
            archive.writestr(zipfile.ZipInfo(member, _TIME), data)
        record.append(f"{info}/RECORD,,")
        archive.writestr(zipfile.ZipInfo(f"{info}/RECORD", _TIME), "\n".join(record) + "\n")
    return path


def build_wheel(
    wheel_directory: str,
    config_settings: dict[str, str] | None = None,
    metadata_directory: str | None = None,
) -> str:
    """PEP 517; writes down that it was called, and what it saw. No two wheels are equal."""
    about = _about()
    if about.get("compiler"):
        subprocess.run([about["compiler"], "--version"], check=True)
    Path("left-behind.txt").write_text("by the build")
    with open(about["log"], "a") as stream:
        seen = {"settings": config_settings, "variables": dict(os.environ)}
        stream.write(json.dumps({"name": about["name"], "cwd": os.getcwd(), **seen}) + "\n")
    name, version = about["name"], about["version"]
    module = f"version = {version!r}\nnote = 'built at {time.time_ns()}'\n"
    files = {f"{name.replace('-', '_')}.py": module}
    return write(Path(wheel_directory), name, version, files, requires=about["requires"]).name


def prepare_metadata_for_build_wheel(
    metadata_directory: str, config_settings: dict[str, str] | None = None
) -> str:
    """PEP 517."""
    about = _about()
    name, version = about["name"], about["version"]
    info = Path(metadata_directory, f"{name.replace('-', '_')}-{version}.dist-info")
    info.mkdir()
    (info / "METADATA").write_text(metadata(name, version, requires=about["requires"]))
    return info.name


def _about() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path("about.json").read_text())
    return found
