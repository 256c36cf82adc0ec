"""Run the asset steps of a project outside of a build."""

from __future__ import annotations

from pathlib import Path

from artifact import steps
from artifact.archive.grouping import Entry
from artifact.building.assets.plan import Assets, AssetTree
from artifact.building.caches import Caches
from artifact.building.source import Snapshot
from artifact.configuration.artifact_toml import Config


def build(
    snapshot: Snapshot,
    config: Config,
    environment: Path,
    key: str,
    caches: Caches,
    tell: steps.Listener,
) -> AssetTree:
    """Run all asset steps; return what they wrote."""
    assets = Assets(snapshot, config, environment, key, caches, tell)
    steps.run(assets.plan(), steps.Run(tell))
    return assets.tree()


def content_of(file: Entry) -> Path:
    """Return where the content of a file in the tree is."""
    assert file.source is not None
    return Path(file.source)
