"""The environment that another runner compiled: taken from the store, or compiled after all."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from artifact import files, manifest, steps
from artifact.archive import writer
from artifact.archive.opening import open_artifact
from artifact.building.environments import environment, marker, shared
from artifact.building.environments.environment import Environment
from artifact.configuration.store_section import StoreSection
from artifact.stores import addresses
from artifact.stores.directory import DirectoryStore
from tests.archive import samples
from tests.building.sites import Bench


def publish(bench: Bench, made: Environment, store: DirectoryStore, **changes: object) -> str:
    """Put an artifact with this environment into the store and say so; return its digest."""
    name = addresses.artifact(bench.name, "1")
    path = bench.base / "accounting-1.tgz"
    described = {
        "root": bench.caches.root,
        "python": made.marker.python,
        "environment": manifest.Environment(key=made.key, inputs=made.marker.inputs),
    }
    code = samples.pack({"app.py": b"x = 1\n"}, bench.base / "code")
    packed = [bench.pack(made), code]
    digest = writer.write(path, packed, samples.describe("1", **(described | changes)))
    store.delete(name)
    assert store.put_if_absent(name, path, tell=steps.nobody)
    with open_artifact(path) as opened:
        assert shared.offer(store, opened.manifest, digest, name, bench.tell)
    return digest


@pytest.fixture
def store(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> DirectoryStore:
    directory = bench.base / "store"
    directory.mkdir()
    bench.store = StoreSection(url=str(directory))
    monkeypatch.setenv(shared.ALLOWED, "1")
    return DirectoryStore(directory)


def forget(bench: Bench) -> None:
    """Leave what a fresh runner has: the checkout, and no wheel or cache to compile from."""
    files.remove_tree(Path(bench.caches.root))
    bench.wheels.rename(bench.base / "wheels-elsewhere")


def test_a_fresh_runner_takes_the_environment_from_the_store(
    bench: Bench, store: DirectoryStore
) -> None:
    first = bench.ensure()
    assert not first.fetched, "nothing is in the store yet"
    publish(bench, first, store)
    before = samples.tree(first.path)
    packed = bench.pack(first).path.read_bytes()
    forget(bench)

    second = bench.ensure()

    assert (second.fetched, second.reused) == (True, False)
    assert second == msgspec.structs.replace(first, fetched=True, reasons=(environment.FIRST,))
    assert samples.tree(second.path) == before
    # It came packed: nothing is left to be packed again, and the bytes are the very same.
    assert bench.caches.pack(second.key).read_bytes() == packed
    assert bench.pack(second).path.read_bytes() == packed
    third = bench.ensure(verify=True)
    assert third.reused
    assert (
        sorted(
            p.name for p in bench.caches.beside.iterdir() if p.suffix in {".fetched", ".arriving"}
        )
        == []
    )


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[500] ^= 1
    path.write_bytes(content)


def wrong(pointer: Path, **changes: object) -> None:
    content = msgspec.json.decode(pointer.read_bytes(), type=shared.Shared)
    pointer.write_bytes(msgspec.json.encode(msgspec.structs.replace(content, **changes)))


FAULTS: dict[str, tuple[Callable[[Path, Path], object], str]] = {
    "no JSON": (lambda pointer, _: pointer.write_text("{"), "malformed|truncated"),
    "no artifact": (lambda _, artifact: artifact.unlink(), "has no accounting/artifacts"),
    "damaged": (lambda _, artifact: damage(artifact), "damaged"),
    "no footer": (lambda _, artifact: artifact.write_bytes(bytes(1000)), "not even a gzip file"),
    "other digest": (lambda p, _: wrong(p, digest="sha256:" + "0" * 64), "is sha256:.*, not"),
    "other tree": (lambda p, _: wrong(p, tree="0" * 64), "another tree"),
    "outside": (lambda p, _: wrong(p, artifact="../../etc/passwd"), "cannot be the name"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_cannot_be_used_is_a_warning_and_the_environment_is_compiled(
    bench: Bench, store: DirectoryStore, fault: str
) -> None:
    made = bench.ensure()
    publish(bench, made, store)
    files.remove_tree(Path(bench.caches.root))
    break_it, said = FAULTS[fault]
    pointer = store.root / addresses.environment(bench.name, made.key)
    break_it(pointer, store.root / addresses.artifact(bench.name, "1"))

    again = bench.ensure()

    assert not again.fetched
    warnings = [event.text for event in bench.events if isinstance(event, steps.Warned)]
    assert len(warnings) == 1
    assert re.search(said, warnings[0]), warnings
    assert bench.ensure().reused
    assert not list(bench.caches.beside.glob("*.fetched"))


def test_an_environment_that_was_made_from_other_inputs_is_not_taken(
    bench: Bench, store: DirectoryStore
) -> None:
    made = bench.ensure()
    other = manifest.Environment(key=made.key, inputs={**made.marker.inputs, "salt": "poison"})
    publish(bench, made, store, environment=other)
    files.remove_tree(Path(bench.caches.root))
    assert not bench.ensure().fetched
    assert any("holds another environment" in line for line in bench.said)


def test_a_marker_of_another_environment_is_not_taken(bench: Bench, store: DirectoryStore) -> None:
    made = bench.ensure()
    path = made.path / marker.NAME
    forged = msgspec.json.decode(path.read_bytes())
    forged["packages"]["ledger"] = "6.66"
    forged["key"] = "f" * 32
    made.path.chmod(0o755)
    path.chmod(0o644)
    path.write_bytes(msgspec.json.encode(forged))
    sink = bench.base / "venv"
    packed = samples.pack({"virtualenv/" + marker.NAME: path.read_bytes()}, sink, name="venv")
    code = samples.pack({"app.py": b"x = 1\n"}, bench.base / "code")
    name = addresses.artifact(bench.name, "1")
    artifact = bench.base / "accounting-1.tgz"
    described = samples.describe(
        "1",
        root=bench.caches.root,
        python=made.marker.python,
        environment=manifest.Environment(key=made.key, inputs=made.marker.inputs),
    )
    digest = writer.write(artifact, [packed, code], described)
    store.put_if_absent(name, artifact, tell=steps.nobody)
    with open_artifact(artifact) as opened:
        shared.offer(store, opened.manifest, digest, name, bench.tell)
    files.remove_tree(Path(bench.caches.root))
    assert not bench.ensure().fetched
    assert any("its marker is that of another environment" in line for line in bench.said)


def test_nobody_writes_there_without_being_allowed(
    bench: Bench, store: DirectoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = bench.ensure()
    publish(bench, made, store)
    pointer = addresses.environment(bench.name, made.key)
    store.delete(pointer)
    for value in ("", "0", "yes"):
        monkeypatch.setenv(shared.ALLOWED, value)
        with open_artifact(bench.base / "accounting-1.tgz") as opened:
            name = addresses.artifact(bench.name, "1")
            assert not shared.offer(store, opened.manifest, opened.digest, name, bench.tell)
    assert store.pointer(pointer) is None


def test_a_store_that_cannot_be_reached_costs_a_warning(bench: Bench) -> None:
    bench.store = StoreSection(url=str(bench.base / "not-mounted"))
    assert not bench.ensure().fetched
    assert any("is not a directory that exists" in line for line in bench.said)
