"""Say as one JSON object which interpreter this is."""

from __future__ import annotations

import glob
import json
import os
import platform
import subprocess
import sys
import sysconfig
from importlib.util import MAGIC_NUMBER


def base_executable() -> str:
    """Return the real executable behind virtualenvs, links and shims."""
    mine = os.path.realpath(sys.executable)
    inside = os.path.realpath(sys.prefix) + os.sep
    if sys.prefix == sys.base_prefix or not mine.startswith(inside):
        return mine
    # A virtualenv made with --copies: only its settings know where the original is.
    home = os.path.join(sys.base_prefix, "bin")
    with open(os.path.join(sys.prefix, "pyvenv.cfg")) as settings:
        for line in settings:
            name, _, value = line.partition("=")
            if name.strip() == "home":
                home = value.strip()
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    for name in (version, "python3", "python", os.path.basename(mine)):
        path = os.path.realpath(os.path.join(home, name))
        if os.access(path, os.X_OK):
            return path
    return mine


def libc() -> str:
    """Return "glibc 2.36" or "musl 1.2.4"; empty when it cannot be told."""
    try:
        return os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (OSError, ValueError):
        pass
    for loader in sorted(glob.glob("/lib/ld-musl-*.so.1")):
        # Without arguments it fails, and says its version while doing so.
        said = subprocess.run([loader], stderr=subprocess.PIPE, text=True, check=False).stderr
        for line in said.splitlines():
            if line.startswith("Version "):
                return "musl " + line.split()[1]
    return ""


def libraries() -> list[str]:
    """Return the files beside the executable that decide what it is."""
    name = sysconfig.get_config_var("INSTSONAME") or ""
    directory = sysconfig.get_config_var("LIBDIR") or ""
    path = os.path.join(directory, name)
    return [path] if sysconfig.get_config_var("Py_ENABLE_SHARED") and os.path.isfile(path) else []


def markers() -> dict[str, str]:
    """Return the environment markers of PEP 508 that do not change with the kernel."""
    version = sys.implementation.version
    implementation = f"{version.major}.{version.minor}.{version.micro}"
    if version.releaselevel != "final":
        implementation += f"{version.releaselevel[0]}{version.serial}"
    return {
        "implementation_name": sys.implementation.name,
        "implementation_version": implementation,
        "os_name": os.name,
        "platform_machine": platform.machine(),
        "platform_python_implementation": platform.python_implementation(),
        "platform_system": platform.system(),
        "python_full_version": platform.python_version(),
        "python_version": ".".join(platform.python_version_tuple()[:2]),
        "sys_platform": sys.platform,
    }


def identity() -> dict[str, object]:
    """Return what decides whether two interpreters may share an environment."""
    return {
        "path": base_executable(),
        "implementation": sys.implementation.name,
        "version": platform.python_version(),
        "abi": sysconfig.get_config_var("SOABI") or "",
        "platform": sysconfig.get_platform(),
        "base_prefix": sys.base_prefix,
        "cache_tag": sys.implementation.cache_tag or "",
        "magic": MAGIC_NUMBER.hex(),
        "libc": libc(),
        "markers": markers(),
        "libraries": libraries(),
    }


print(json.dumps(identity()))
