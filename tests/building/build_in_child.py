"""Compile the environment of a `Bench` in a process that a test can kill, or confine.

Usage: PYTHONPATH=scripts python -m tests.building.build_in_child BASE
"""

from __future__ import annotations

import sys
from pathlib import Path

from artifact.building import interpreter
from artifact.building.caches import Caches
from artifact.errors import ArtifactError
from tests.building.sites import Bench

base = Path(sys.argv[1])
python = interpreter.find(sys.executable, Caches(str(base / "site"), base / "cache"))
try:
    Bench(base, python).ensure()
except ArtifactError as error:
    print(error.message, error.hint, sep="\n")
    sys.exit(error.code)
