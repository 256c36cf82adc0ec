"""Unpack every component of an artifact, each byte of it verified: unpack.py ARTIFACT DIRECTORY."""

from __future__ import annotations

import sys
from pathlib import Path

from artifact.archive import opening, unpacking


def main(path: Path, into: Path) -> None:
    """Unpack the environment and the release beside each other, as an install does."""
    into.mkdir(parents=True)
    with opening.open_artifact(path) as artifact:
        names = [component.name for component in artifact.manifest.components]
        unpacking.extract(artifact, ["venv"], into / "virtualenv", strip="virtualenv/")
        unpacking.extract(artifact, [name for name in names if name != "venv"], into / "release")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
