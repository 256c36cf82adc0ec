"""`scripts/bench build`: what a build costs, against the recipe it replaces, pex, shiv and tar."""

from __future__ import annotations

import filecmp
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path

from benchmarks import figures, measuring, ours, peers, projects, serving
from benchmarks.figures import Figure, Goal, Series
from benchmarks.ours import Builder
from benchmarks.peers import Peers, Recipe
from benchmarks.rows import Row
from benchmarks.workshop import Workshop, remove

_PROJECTS = ("a", "b", "c")
_RECIPE = "the talk's recipe"


@dataclass(frozen=True, slots=True)
class _Pair:
    """Artifact and the recipe, set on one project."""

    builder: Builder
    recipe: Recipe


def _pair(shop: Workshop, name: str, state: str) -> _Pair:
    """Return both sides with caches of their own.

    Args:
        state: names the caches: "warm" ones are shared by all rows and filled by whoever comes
            first.
    """
    project = projects.make(name, shop)
    installed = _peers(shop)
    return _Pair(
        Builder(shop, project, shop.path("cache", f"{state}-artifact")),
        Recipe(shop, installed, project, shop.path("cache", f"{state}-recipe")),
    )


@cache
def _peers(shop: Workshop) -> Peers:
    return peers.install(shop)


def described(shop: Workshop) -> dict[str, str]:
    """Return the versions of what was measured beside ours."""
    return {"peers": peers.described(shop)}


def rebuild(shop: Workshop) -> Iterator[Figure]:
    """Measure builds whose requirements did not change, each of a new commit."""
    pair = _pair(shop, "b", "warm")
    project = pair.builder.project
    pair.builder.build()
    pair.recipe.build()
    finished = shop.path("floor", "finished.tgz")
    finished.write_bytes(pair.builder.artifact.read_bytes())

    def floor(_number: int) -> float:
        return peers.floor(shop, project, finished)

    def artifact(number: int) -> float:
        projects.change(project, number)
        return pair.builder.build()

    found = measuring.interleaved(
        {"artifact": artifact, "recipe": lambda _: pair.recipe.build(), "floor": floor},
        shop.repeats(7),
        shop.tell,
    )
    yield figures.faster(
        "rebuild (b)", found["artifact"], found["recipe"], f"{_RECIPE}, cached", Goal(">=", 10)
    )
    yield figures.times(
        "rebuild over the floor (b)",
        found["artifact"],
        found["floor"],
        "cp of the artifact, tar czf of the code",
        Goal("<=", 3),
    )


def first_cold(shop: Workshop) -> Iterator[Figure]:
    """Measure first builds with empty download caches on both sides."""
    for name in _PROJECTS:
        pair = _pair(shop, name, "cold")
        found = measuring.interleaved(
            {"artifact": partial(_cold, pair), "recipe": partial(_cold_recipe, pair)},
            shop.repeats(2),
            shop.tell,
        )
        yield figures.faster(
            f"first build, cold ({name})",
            found["artifact"],
            found["recipe"],
            _RECIPE,
            Goal(">=", 2),
        )


def _cold(pair: _Pair, _number: int) -> float:
    remove(pair.builder.cache, pair.builder.root)
    return pair.builder.build()


def _cold_recipe(pair: _Pair, _number: int) -> float:
    remove(pair.recipe.cache)
    pair.recipe.forget_environment()
    return pair.recipe.build()


def first_warm(shop: Workshop) -> Iterator[Figure]:
    """Measure first builds whose packages are in the download caches; nothing else is."""
    for name in _PROJECTS:
        pair = _pair(shop, name, "warm")
        contenders = _warm_contenders(shop, pair)
        shop.tell(f"  filling the caches for ({name})")
        for fill in contenders.values():
            fill(0)
        found = measuring.interleaved(contenders, shop.repeats(2), shop.tell)
        goals = {"recipe": Goal(">=", 2.5), "pex": Goal(">=", 1), "shiv": Goal(">=", 1)}
        for peer, goal in goals.items():
            against = _RECIPE if peer == "recipe" else peer
            title = f"first build, warm ({name})" + ("" if peer == "recipe" else f", {peer}")
            yield figures.faster(title, found["artifact"], found[peer], against, goal)


def _warm_contenders(shop: Workshop, pair: _Pair) -> dict[str, Callable[[int], float]]:
    project, installed = pair.builder.project, pair.recipe.peers

    def artifact(_number: int) -> float:
        pair.builder.forget_environment()
        return pair.builder.build()

    def recipe(_number: int) -> float:
        pair.recipe.forget_environment()
        return pair.recipe.build()

    cache = {name: shop.path("cache", f"warm-{name}") for name in ("pex", "shiv")}
    return {
        "artifact": artifact,
        "recipe": recipe,
        "pex": lambda _: peers.pex(shop, installed, project, cache["pex"]),
        "shiv": lambda _: peers.shiv(shop, installed, project, cache["shiv"]),
    }


def pack(shop: Workshop) -> Iterator[Figure]:
    """Measure packing the whole of (b), environment and code, with nothing packed before."""
    _, tree = _unpacked(shop, "b")
    output = {name: shop.path("pack", f"{name}.tgz") for name in ("artifact", "tar")}
    found = measuring.interleaved(
        {
            "artifact": lambda _: ours.pack(shop, tree, output["artifact"]),
            "tar": lambda _: peers.tar_create(shop, tree, output["tar"]),
        },
        shop.repeats(5),
        shop.tell,
    )
    yield figures.faster("packing (b)", found["artifact"], found["tar"], "tar czf", Goal(">=", 3.5))
    size = {name: _megabytes(path) for name, path in output.items()}
    yield figures.times(
        "size when packing (b)", size["artifact"], size["tar"], "tar czf", Goal("<=", 1.01)
    )


def size(shop: Workshop) -> Iterator[Figure]:
    """Compare the built artifact of every project with `tar czf` of what it unpacks to."""
    for name in _PROJECTS:
        artifact, tree = _unpacked(shop, name)
        peer = shop.path("pack", f"{name}-size.tgz")
        peers.tar_create(shop, tree, peer)
        yield figures.times(
            f"size ({name})",
            _megabytes(artifact),
            _megabytes(peer),
            "tar czf of the same tree",
            Goal("<=", 1.01),
        )
        peer.unlink()


def unpack(shop: Workshop) -> Iterator[Figure]:
    """Measure unpacking (b): every byte verified against not at all."""
    artifact, _ = _unpacked(shop, "b")
    into = {name: shop.path("unpack", name) for name in ("artifact", "tar")}
    found = measuring.interleaved(
        {
            "artifact": lambda _: ours.unpack(shop, artifact, into["artifact"]),
            "tar": lambda _: peers.tar_extract(shop, artifact, into["tar"]),
        },
        shop.repeats(7),
        shop.tell,
    )
    remove(*into.values())
    yield figures.times(
        "unpacking, verified (b)", found["artifact"], found["tar"], "tar xzf", Goal("<=", 1)
    )


def memory(shop: Workshop) -> Iterator[Figure]:
    """Measure the memory of a first build, which packs everything, and of a rebuild."""
    builder = _pair(shop, "b", "warm").builder
    for kind in ("first build", "rebuild"):
        if kind == "first build":
            builder.forget_environment()
        peak = builder.peak_memory()
        shop.tell(f"  {kind}: {peak:.0f} MB")
        yield figures.amount(
            f"memory of a {kind} (b)", Series((peak,), "MB"), Goal("<=", 300, "MB")
        )


def commands(shop: Workshop) -> Iterator[Figure]:
    """Measure commands that people wait for; `status` is asked of a site that serves."""
    env = shop.variables(shop.path("cache", "none"))

    def run(*argv: str | Path) -> Callable[[int], float]:
        return lambda _number: measuring.seconds(argv, cwd=shop.work, env=env)

    with serving.served(shop, projects.make("b", shop)) as served:
        asked: dict[str, tuple[str | Path, ...]] = {
            "--help": ("--help",),
            "status": ("status", served.site),
        }
        for name, words in asked.items():
            found = measuring.interleaved(
                {
                    "artifact": run(shop.artifact, *words),
                    "click": run(shop.installed, "-c", "import click"),
                },
                shop.repeats(21),
                lambda _line: None,
            )
            yield figures.times(
                f"artifact {name}",
                found["artifact"],
                found["click"],
                'python -c "import click"',
                Goal("<=", 2),
            )


def same(shop: Workshop) -> Iterator[Figure]:
    """Compare what two builds of one commit give."""
    for name in _PROJECTS:
        builder = _pair(shop, name, "warm").builder
        first = shop.path("same", "first.tgz")
        builder.build("--reproducible")
        builder.artifact.replace(first)
        builder.build("--reproducible")
        yield figures.holds(
            f"equal bytes of two builds ({name})",
            filecmp.cmp(first, builder.artifact, shallow=False),
        )
        before = builder.trees()
        builder.forget_environment()
        replace(builder, place="another-checkout").build()
        yield figures.holds(
            f"equal trees, other checkout, compiled twice ({name})", before == builder.trees()
        )


def serve(shop: Workshop) -> Iterator[Figure]:
    """Take every project from `artifact init` to an answer of the installed release."""
    for name in _PROJECTS:
        project = projects.make(name, shop)
        began = time.perf_counter()
        try:
            with serving.served(shop, project) as served:
                answered = served.answers(project.answers)
        except measuring.BenchFailed as error:
            shop.tell(str(error))
            answered = False
        shop.tell(f"  ({name}) took {time.perf_counter() - began:.0f} s")
        yield figures.holds(f"init, build, install, answers ({name})", answered)


def _unpacked(shop: Workshop, name: str) -> tuple[Path, Path]:
    """Return an artifact of a project as built, and the tree plain tar makes of it."""
    builder = _pair(shop, name, "warm").builder
    kept = shop.path("unpacked", f"bench-{name}-1.tgz")
    tree = shop.path("unpacked", name)
    if not kept.exists():
        builder.build()
        os.replace(builder.artifact, kept)
        peers.tar_extract(shop, kept, tree)
    return kept, tree


def _megabytes(path: Path) -> Series:
    return Series((path.stat().st_size / 1e6,), "MB")


ROWS = (
    Row("rebuild", "Build again, requirements unchanged.", rebuild),
    Row("first-cold", "First build, download caches empty.", first_cold),
    Row("first-warm", "First build, download caches full; also pex and shiv.", first_warm),
    Row("pack", "Packing without a cache, against tar czf.", pack),
    Row("size", "Artifacts against tar czf.", size),
    Row("unpack", "Unpacking with every file verified, against tar xzf.", unpack),
    Row("memory", "Peak memory of a build.", memory),
    Row("commands", "artifact --help and artifact status.", commands),
    Row("same", "Equal bytes and equal trees.", same),
    Row("serve", "From init to an answer of the installed release.", serve),
)
