"""`scripts/bench transfer`: what a release costs to bring to a server, against `curl | tar xz`."""

from __future__ import annotations

import dataclasses
import json
import os
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

from artifact.stores import addresses
from benchmarks import figures, measuring, projects, storing
from benchmarks.figures import Figure, Goal, Series
from benchmarks.ours import Builder
from benchmarks.rows import Row
from benchmarks.storing import Web
from benchmarks.workshop import Workshop, remove

_PROJECT = "b"
_NAME = f"bench-{_PROJECT}"
_DRIVER = Path(__file__).parent / "drivers" / "fetch.py"
_OLD = ("django==5.2.7", "celery==5.5.2")
_NEW = ("django==5.2.8", "celery==5.5.3")
_CURL = 'curl -sS --fail "$0" | tar xzf - -C "$1"'
_WHOLE = "curl | tar xz of the whole"


def described(_shop: Workshop) -> dict[str, str]:
    """Return the versions of the servers and of what was measured beside ours."""
    curl = measuring.run(["curl", "--version"], cwd=Path.cwd(), env=dict(os.environ))
    return {"servers": storing.versions(), "peers": " ".join(curl.split()[:2])}


@cache
def _builder(shop: Workshop) -> Builder:
    project = projects.make(_PROJECT, shop)
    return Builder(shop, project, shop.path("cache", "warm-artifact"), "transfer")


@cache
def store(shop: Workshop) -> Path:
    """Build four releases into a directory, each with one change to the one before.

    The second and the fourth have one line more in a module, the third two packages' patch
    releases. The fourth one's module is the first in the order of the file's members.
    """
    builder = _builder(shop)
    directory = shop.path("store", "x").parent
    for version, pins in (("1", _OLD), ("2", _OLD), ("3", _NEW), ("4", _NEW)):
        _pin(builder.project, pins)
        projects.change(_changed(builder.project, version), int(version))
        shop.tell(f"  building release {version}")
        builder.build("--version", version)
        path = directory / addresses.artifact(_NAME, version)
        path.parent.mkdir(parents=True, exist_ok=True)
        os.replace(builder.output / f"{_NAME}-{version}.tgz", path)
    return directory


def _changed(project: projects.Project, version: str) -> projects.Project:
    if version != "4":
        return project
    modules = (path.relative_to(project.directory) for path in project.directory.rglob("*.py"))
    return dataclasses.replace(project, module=min(map(str, modules)))


def _pin(project: projects.Project, pins: tuple[str, ...]) -> None:
    path = project.directory / "requirements.txt"
    names = {pin.partition("==")[0] for pin in pins}
    lines = path.read_text(encoding="utf-8").splitlines()
    kept = [line for line in lines if not line.startswith(tuple(names))]
    path.write_text("\n".join([*kept, *pins, ""]), encoding="utf-8")


def artifact(shop: Workshop, version: str) -> Path:
    """Return the file of a release."""
    return store(shop) / addresses.artifact(_NAME, version)


def url(web: Web, version: str) -> str:
    """Return where a web server has a release."""
    return f"{web.url}/{addresses.artifact(_NAME, version)}"


def _env(shop: Workshop, **more: str) -> dict[str, str]:
    return shop.variables(shop.path("cache", "none")) | more


def _fetch(shop: Workshop, reference: str, site: Path, **env: str) -> tuple[float, dict[str, int]]:
    """Bring a release into a site in a process of its own; return seconds and what it counted."""
    argv = [shop.installed, _DRIVER, reference, site]
    began = time.perf_counter()
    said = measuring.run(argv, cwd=shop.work, env=_env(shop, **env))
    seconds = time.perf_counter() - began
    counted: dict[str, int] = json.loads(said)
    return seconds, counted


def _curl(shop: Workshop, url: str, into: Path) -> float:
    remove(into)
    into.mkdir(parents=True)
    return measuring.seconds(["bash", "-c", _CURL, url, into], cwd=shop.work, env=_env(shop))


def _percent(part: float, whole: float) -> Series:
    return Series((100 * part / whole,), "%")


def code_only(shop: Workshop) -> Iterator[Figure]:
    """Measure a release of which one Python file changed, on a server that has the one before."""
    site, whole = shop.path("site-code"), shop.path("curl")
    size = artifact(shop, "2").stat().st_size
    with storing.web(shop, store(shop)) as web:
        remove(site)
        _fetch(shop, url(web, "1"), site)
        before = web.load()

        def ours(_number: int) -> float:
            remove(site / "releases" / "2")
            return _fetch(shop, url(web, "2"), site)[0]

        ours(0)
        requests, bytes_ = (now - then for now, then in zip(web.load(), before, strict=True))
        found = measuring.interleaved(
            {"artifact": ours, "curl": lambda _: _curl(shop, url(web, "2"), whole)},
            shop.repeats(5),
            shop.tell,
        )
    remove(site, whole)
    title = "code-only release"
    yield figures.amount(f"{title}: bytes", _percent(bytes_, size), Goal("<=", 1, "%"))
    yield figures.amount(
        f"{title}: requests", Series((requests,), "requests"), Goal("<=", 3, "requests")
    )
    yield figures.faster(
        f"{title}: until verified", found["artifact"], found["curl"], _WHOLE, Goal(">=", 10)
    )


def dependencies(shop: Workshop) -> Iterator[Figure]:
    """Count the bytes of a release with two patch releases of packages, Django's and Celery's."""
    site = shop.path("site-dependencies")
    remove(site)
    with storing.web(shop, store(shop)) as web:
        _fetch(shop, url(web, "2"), site)
        before = web.load()
        _fetch(shop, url(web, "3"), site)
        requests, bytes_ = (now - then for now, then in zip(web.load(), before, strict=True))
    remove(site)
    shop.tell(f"  {bytes_ / 1e6:.2f} MB in {requests} requests")
    size = artifact(shop, "3").stat().st_size
    title = "two patch releases of dependencies: bytes"
    yield figures.amount(title, _percent(bytes_, size), Goal("<=", 6, "%"))


def cold(shop: Workshop) -> Iterator[Figure]:
    """Measure a first release: everything is fetched, unpacked and verified."""
    site, whole = shop.path("site-cold"), shop.path("curl")
    with storing.web(shop, store(shop)) as web:

        def ours(_number: int) -> float:
            remove(site)
            return _fetch(shop, url(web, "2"), site)[0]

        found = measuring.interleaved(
            {"artifact": ours, "curl": lambda _: _curl(shop, url(web, "2"), whole)},
            shop.repeats(5),
            shop.tell,
        )
    remove(site, whole)
    yield figures.faster(
        "cold install", found["artifact"], found["curl"], f"{_WHOLE}, unverified", Goal(">=", 1)
    )


def push(shop: Workshop) -> Iterator[Figure]:
    """Count the bytes sent when a release is pushed after the one before it."""
    sent: dict[str, Series] = {}
    with storing.bucket(shop) as env:
        for version in ("1", "2", "3", "4"):
            argv = [shop.artifact, "push", "--json", artifact(shop, version)]
            pushed = json.loads(measuring.run(argv, cwd=shop.work, env=_env(shop, **env)))
            sent[version] = _percent(pushed["bytes"] - pushed["copied"], pushed["bytes"])
    yield figures.amount("code-only push: bytes", sent["2"], Goal("<=", 3, "%"))
    yield Figure("code-only push, the first module of all: bytes", sent["4"])
    yield Figure("push of two patch releases of dependencies: bytes", sent["3"])


def s3(shop: Workshop) -> Iterator[Figure]:
    """Measure what boto3 adds to a code-only release: S3 and HTTP give the same artifact."""
    site = shop.path("site-s3")
    remove(site)
    with storing.web(shop, store(shop)) as web, storing.bucket(shop) as env:
        for version in ("1", "2"):
            argv = [shop.artifact, "push", artifact(shop, version)]
            measuring.run(argv, cwd=shop.work, env=_env(shop, **env))
        _fetch(shop, url(web, "1"), site)

        def through(reference: str, **more: str) -> Callable[[int], float]:
            def measure(_number: int) -> float:
                remove(site / "releases" / "2")
                return _fetch(shop, reference, site, **more)[0]

            return measure

        found = measuring.interleaved(
            {
                "s3": through(f"s3://{storing.BUCKET}/{addresses.artifact(_NAME, '2')}", **env),
                "http": through(url(web, "2")),
            },
            shop.repeats(5),
            shop.tell,
        )
    remove(site)
    more = tuple(
        ours - peer for ours, peer in zip(found["s3"].values, found["http"].values, strict=True)
    )
    yield Figure(
        "s3 over HTTP",
        Series(more, "s"),
        Goal("<=", 0.5, "s"),
        found["s3"],
        found["http"],
        "the same from nginx",
    )


def runner(shop: Workshop) -> Iterator[Figure]:
    """Measure a build on a fresh runner: environment from the store, or compiled, uv warm."""
    builder = _builder(shop)
    remove(shop.path("runner-store"))
    there = str(shop.path("runner-store", "x").parent)
    env = {"ARTIFACT_STORE_URL": there, "ARTIFACT_CACHE_WRITE": "1"}
    _pin(builder.project, _OLD)
    projects.change(builder.project, 9)
    builder.build("--version", "9")
    built = builder.output / f"{_NAME}-9.tgz"
    measuring.run([shop.artifact, "push", built], cwd=shop.work, env=_env(shop, **env))

    def build(**more: str) -> Callable[[int], float]:
        def measure(_number: int) -> float:
            builder.forget_environment()
            workspace = builder.checkout()
            variables = shop.variables(builder.cache) | more
            return measuring.seconds(builder.command(), cwd=workspace, env=variables)

        return measure

    found = measuring.interleaved(
        {"artifact": build(ARTIFACT_STORE_URL=there), "uv": build()},
        shop.repeats(3),
        shop.tell,
    )
    yield figures.faster(
        "build on a fresh runner",
        found["artifact"],
        found["uv"],
        "compiling with uv's warm cache",
        Goal(">=", 1),
    )


ROWS = (
    Row("code-only", "A release whose environment is there: bytes, requests, time.", code_only),
    Row("dependencies", "A release with two patch releases of packages: bytes.", dependencies),
    Row("cold", "A first release, against curl | tar xz.", cold),
    Row("push", "Pushing a release whose environment is in the store.", push),
    Row("s3", "The same code-only release from S3 and from a web server.", s3),
    Row("runner", "A build on a fresh runner, environment in the store.", runner),
)
