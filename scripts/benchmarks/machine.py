"""The machine a figure was measured on, asked at run time."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import psutil

OURS = ("click", "deflate", "msgspec", "uv", "virtualenv")


def describe(work: Path) -> dict[str, str]:
    """Return what a reader needs to judge figures measured in the directory `work`."""
    memory = psutil.virtual_memory().total / 2**30
    return {
        "CPU": f"{_cpu()}, {len(os.sched_getaffinity(0))} cores",
        "memory": f"{memory:.0f} GiB",
        "kernel": platform.release(),
        "system": platform.freedesktop_os_release().get("PRETTY_NAME", "unknown"),
        "file system": _file_system(work),
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        "artifact": ", ".join(f"{name} {version(name)}" for name in ("single-artifact", *OURS)),
        "programs": ", ".join(_first_line(name) for name in ("tar", "gzip", "git")),
        "load when it began": f"{os.getloadavg()[0]:.1f}",
    }


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _file_system(path: Path) -> str:
    found = max(
        (one for one in psutil.disk_partitions(all=True) if path.is_relative_to(one.mountpoint)),
        key=lambda one: len(one.mountpoint),
    )
    return f"{found.fstype} on {found.mountpoint}"


def _first_line(program: str) -> str:
    done = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[0]


def base_interpreter() -> Path:
    """Return the interpreter below the virtual environment this runs in."""
    return Path(getattr(sys, "_base_executable", sys.executable)).resolve()
