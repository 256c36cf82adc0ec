"""The programs artifact is measured against, in an environment of their own, and how they are used.

Each recipe is a script in `recipes/`, as a person would write it down.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from benchmarks import measuring
from benchmarks.projects import Project
from benchmarks.workshop import Workshop, remove

_RECIPES = Path(__file__).parent / "recipes"
_PROGRAMS = ("pip", "virtualenv", "pex", "shiv")
INSTALLERS = frozenset({"uv", "pip", "pip-compile"})


@dataclass(frozen=True, slots=True)
class Peers:
    """The installed peers."""

    bin: Path
    versions: dict[str, str]


def install(shop: Workshop) -> Peers:
    """Install the newest versions of the peers, or find those of an earlier run."""
    home = shop.path("peers", "environment")
    env = shop.variables(shop.path("peers", "cache"))
    if not (home / "bin" / "shiv").exists():
        shop.tell("installing pex, shiv, virtualenv and pip")
        measuring.run([shop.python, "-m", "venv", home], cwd=shop.work, env=env)
        pip = home / "bin" / "pip"
        measuring.run([pip, "install", "-q", "--upgrade", "pip"], cwd=shop.work, env=env)
        measuring.run([pip, "install", "-q", *_PROGRAMS], cwd=shop.work, env=env)
    listed = measuring.run(
        [home / "bin" / "pip", "list", "--format", "json"], cwd=shop.work, env=env
    )
    versions = {one["name"]: one["version"] for one in json.loads(listed)}
    return Peers(home / "bin", {name: versions[name] for name in _PROGRAMS})


def described(shop: Workshop) -> str:
    """Return the peers' versions in one line."""
    return ", ".join(f"{name} {number}" for name, number in install(shop).versions.items())


@dataclass(frozen=True, slots=True)
class Recipe:
    """The talk's build job in a workspace of its own."""

    shop: Workshop
    peers: Peers
    project: Project
    cache: Path

    @property
    def environments(self) -> Path:
        return self.shop.path("recipe", self.project.name, "virtualenv")

    @property
    def output(self) -> Path:
        return self.shop.path("recipe", self.project.name, "app.tgz")

    def forget_environment(self) -> None:
        remove(self.environments)

    def build(self) -> float:
        """Return the seconds of one build; the checkout it starts from is not part of it."""
        workspace = checkout(self.shop, self.project, "recipe")
        argv = [
            *(_RECIPES / "talk.sh", workspace, self.environments),
            *(self.peers.bin / "virtualenv", self.shop.python, self.output),
        ]
        return measuring.seconds(argv, cwd=workspace, env=self.shop.variables(self.cache))


def pex(shop: Workshop, peers: Peers, project: Project, cache: Path) -> float:
    """Return the seconds of `pex` for a project."""
    workspace = checkout(shop, project, "pex")
    output = shop.path("pex", f"{project.name}.pex")
    output.unlink(missing_ok=True)
    env = shop.variables(cache) | {"PEX_ROOT": str(cache / "pex")}
    argv = [
        _RECIPES / "pex.sh",
        workspace,
        peers.bin / "pex",
        shop.python,
        output,
    ]
    return measuring.seconds(argv, cwd=workspace, env=env)


def shiv(shop: Workshop, peers: Peers, project: Project, cache: Path) -> float:
    """Return the seconds of pip and `shiv` for a project."""
    workspace = checkout(shop, project, "shiv")
    output = shop.path("shiv", f"{project.name}.pyz")
    output.unlink(missing_ok=True)
    packages = shop.path("shiv", f"{project.name}-packages")
    remove(packages)
    argv = [_RECIPES / "shiv.sh", workspace, peers.bin, packages, output]
    spent = measuring.seconds(argv, cwd=workspace, env=shop.variables(cache))
    remove(packages)
    return spent


def floor(shop: Workshop, project: Project, artifact: Path) -> float:
    """Return the seconds of copying an artifact and compressing the project's code."""
    workspace = checkout(shop, project, "floor")
    argv = [
        _RECIPES / "floor.sh",
        workspace,
        artifact,
        shop.path("floor", "code.tgz"),
    ]
    env = shop.variables(shop.path("cache", "none"))
    return measuring.seconds(argv, cwd=workspace, env=env)


def tar_create(shop: Workshop, tree: Path, output: Path) -> float:
    """Return the seconds of `tar czf` of a tree, without what is the tool's own in it."""
    output.unlink(missing_ok=True)
    argv = ["tar", "czf", output, "--exclude", "./.artifact", "-C", tree, "."]
    return measuring.seconds(argv, cwd=shop.work, env=shop.variables(shop.path("cache", "none")))


def tar_extract(shop: Workshop, archive: Path, into: Path) -> float:
    """Return the seconds of `tar xzf` into a directory that is made for it."""
    remove(into)
    into.mkdir(parents=True)
    argv = ["tar", "xzf", archive, "-C", into]
    return measuring.seconds(argv, cwd=shop.work, env=shop.variables(shop.path("cache", "none")))


def checkout(shop: Workshop, project: Project, purpose: str) -> Path:
    """Return a fresh copy of a project's checkout, as a CI job starts with."""
    workspace = shop.path("workspaces", f"{purpose}-{project.name}")
    remove(workspace)
    shutil.copytree(project.directory, workspace, symlinks=True)
    return workspace
