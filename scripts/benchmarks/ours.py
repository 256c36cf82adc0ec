"""How `artifact` is driven by the benchmarks."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from benchmarks import measuring, peers
from benchmarks.projects import Project
from benchmarks.workshop import Workshop, remove

_NAME = "artifact"
_DRIVERS = Path(__file__).parent / "drivers"
# What a build keeps in the cache beside downloaded and built wheels.
_NOT_PACKAGES = ("assets", "bytecode", "interpreters")


@dataclass(frozen=True, slots=True)
class Builder:
    """Builds of one project for one site root with one cache."""

    shop: Workshop
    project: Project
    cache: Path
    place: str = _NAME
    """Names the directory of the checkout."""

    @property
    def root(self) -> Path:
        return self.shop.path(_NAME, self.project.name, "site")

    @property
    def output(self) -> Path:
        return self.shop.path(_NAME, self.project.name, "dist", "x").parent

    @property
    def artifact(self) -> Path:
        return self.output / f"bench-{self.project.name}-1.tgz"

    def forget_environment(self) -> None:
        """Leave only what package caches hold: no environment, no resolved lock, no packs."""
        remove(self.root, *(self.cache / "artifact" / name for name in _NOT_PACKAGES))

    def command(self, *options: str) -> list[str | Path]:
        words = ("build", "--version", "1", "--root", self.root, "--output", self.output)
        return [self.shop.artifact, *words, *options]

    def checkout(self) -> Path:
        self.artifact.unlink(missing_ok=True)
        return peers.checkout(self.shop, self.project, self.place)

    def build(self, *options: str) -> float:
        """Return the seconds of one build; the checkout it starts from is not part of it."""
        workspace = self.checkout()
        env = self.shop.variables(self.cache)
        return measuring.seconds(self.command(*options), cwd=workspace, env=env)

    def peak_memory(self) -> float:
        """Return the most memory, in MB, that a build had beside its installers."""
        workspace = self.checkout()
        env = self.shop.variables(self.cache)
        return measuring.peak_memory(self.command(), peers.INSTALLERS, cwd=workspace, env=env)

    def trees(self) -> dict[str, str]:
        """Return the tree digest of every component of the artifact built last."""
        env = self.shop.variables(self.cache)
        argv = [self.shop.artifact, "inspect", "--json", self.artifact]
        found = json.loads(measuring.run(argv, cwd=self.shop.work, env=env))
        return {one["name"]: one["tree"] for one in found["manifest"]["components"]}


def pack(shop: Workshop, tree: Path, output: Path) -> float:
    """Return the seconds of packing a tree without a cache."""
    output.unlink(missing_ok=True)
    argv = [shop.installed, _DRIVERS / "pack.py", tree, output]
    return measuring.seconds(argv, cwd=shop.work, env=shop.variables(shop.path("cache", "none")))


def unpack(shop: Workshop, artifact: Path, into: Path) -> float:
    """Return the seconds of unpacking an artifact with every byte verified."""
    remove(into)
    argv = [shop.installed, _DRIVERS / "unpack.py", artifact, into]
    return measuring.seconds(argv, cwd=shop.work, env=shop.variables(shop.path("cache", "none")))
