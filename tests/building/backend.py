"""A build backend that needs nothing but the standard library; also writes wheels for tests.

Sdists made by `distributions.py` carry a copy of this file, with what to build in `about.json`.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import time
import zipfile
from pathlib import Path
from typing import Any


def metadata(about: dict[str, Any]) -> str:
    """Return the content of METADATA."""
    lines = ["Metadata-Version: 2.1", f"Name: {about['name']}", f"Version: {about['version']}"]
    if about.get("requires_python"):
        lines.append(f"Requires-Python: {about['requires_python']}")
    lines += [f"Requires-Dist: {text}" for text in about.get("requires", ())]
    return "\n".join(lines) + "\n"


def write_wheel(directory: str | Path, about: dict[str, Any], note: str = "") -> str:
    """Write a wheel of one module; return its name."""
    name, version = about["name"].replace("-", "_"), about["version"]
    info = f"{name}-{version}.dist-info"
    wheel = "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    content = {
        f"{name}.py": f"version = {version!r}\nnote = {note!r}\n",
        f"{info}/METADATA": metadata(about),
        f"{info}/WHEEL": wheel,
    }
    record = []
    filename = f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(Path(directory, filename), "w") as archive:
        for path, text in content.items():
            data = text.encode()
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            record.append(f"{path},sha256={digest},{len(data)}")
            archive.writestr(zipfile.ZipInfo(path, (2026, 1, 1, 0, 0, 0)), data)
        record.append(f"{info}/RECORD,,")
        archive.writestr(f"{info}/RECORD", "\n".join(record) + "\n")
    return filename


def _about() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path("about.json").read_text())
    return found


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
    return write_wheel(wheel_directory, about, note=f"built at {time.time_ns()}")


def prepare_metadata_for_build_wheel(
    metadata_directory: str, config_settings: dict[str, str] | None = None
) -> str:
    """PEP 517."""
    about = _about()
    info = Path(
        metadata_directory, f"{about['name'].replace('-', '_')}-{about['version']}.dist-info"
    )
    info.mkdir()
    (info / "METADATA").write_text(metadata(about))
    return info.name
