"""Which wheels an interpreter can install."""

from __future__ import annotations

import re

from packaging import tags
from packaging.utils import InvalidWheelFilename, parse_wheel_filename

from artifact.building.interpreter import Interpreter


def supported(interpreter: Interpreter) -> frozenset[str]:
    """Return the tags of wheels an interpreter of this machine can install."""
    major, minor = (int(part) for part in interpreter.feature.split("."))
    version = (major, minor)
    platforms = list(tags.platform_tags())
    found = list(tags.compatible_tags(version, f"cp{major}{minor}", platforms))
    if interpreter.implementation == "cpython":
        # "cpython-313t-x86_64-linux-gnu": the free-threaded build has an ABI of its own.
        free = re.match(r"cpython-\d+t", interpreter.abi) is not None
        abi = f"cp{major}{minor}{'t' if free else ''}"
        found += tags.cpython_tags(version, [abi], platforms)
    else:
        abi = interpreter.abi.replace("-", "_").replace(".", "_")
        short = "pp" if interpreter.implementation == "pypy" else interpreter.implementation
        found += tags.generic_tags(f"{short}{major}{minor}", [abi], platforms)
    return frozenset(str(tag) for tag in found)


def fits(filename: str, supported: frozenset[str]) -> bool:
    """Tell whether a wheel of this name can be installed where these tags are supported."""
    try:
        found = parse_wheel_filename(filename)[3]
    except InvalidWheelFilename:
        return False
    return any(str(tag) in supported for tag in found)
