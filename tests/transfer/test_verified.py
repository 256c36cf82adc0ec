"""An environment that was compared once and is untouched is not looked at again."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from artifact.host.trees import unpack, verified
from tests.transfer.shelf import Shelf, Watched, application, packages

KEY = "a" * 32
PACKAGE = "lib/python3.11/site-packages/package07"


@pytest.fixture
def installed(shelf: Shelf) -> Shelf:
    shelf.publish("1", packages(KEY), KEY)
    shelf.publish("2", packages(KEY), KEY, code=application("2"))
    shelf.deploy("1")
    return shelf


def fault(shelf: Shelf) -> str | None:
    with shelf.opened("2") as artifact:
        return unpack.environment_there(artifact, shelf.site).fault


def is_marked(shelf: Shelf) -> bool:
    with shelf.opened("2") as artifact:
        return verified.is_marked(artifact.manifest, shelf.site)


def test_of_an_environment_that_is_there_not_even_the_contents_are_read(installed: Shelf) -> None:
    listed = installed.site.release("1") / ".artifact/venv.toc"
    text = listed.read_bytes()
    listed.chmod(0o644)
    listed.write_bytes(b"whoever reads this will find that it is no table of contents\n")
    store = Watched(installed.store_directory)
    installed.deploy("2", store)
    assert len(store.asked) <= 2
    assert store.bytes < 262_144 + 400_000
    # The new release has it from the one before, at no cost; whoever needs it will compare it.
    assert (installed.site.release("2") / ".artifact/venv.toc").samefile(listed)
    listed.write_bytes(text)


def _open(directory: Path) -> Path:
    directory.chmod(0o755)
    return directory


def _remove_a_file(environment: Path) -> None:
    (_open(environment / PACKAGE) / "part1.py").unlink()


def _remove_half(environment: Path) -> None:
    for one in sorted((environment / "lib/python3.11/site-packages").iterdir())[:20]:
        _open(one.parent)
        _open(one)
        shutil.rmtree(one)


def _add(environment: Path) -> None:
    (_open(environment / PACKAGE) / "more.py").write_text("")


def _replace_a_file(environment: Path) -> None:
    path = _open(environment / PACKAGE) / "part1.py"
    other = path.with_suffix(".new")
    other.write_bytes(os.urandom(path.stat().st_size))
    other.rename(path)


def _replace_all(environment: Path) -> None:
    environment.chmod(0o755)
    environment.rename(environment.with_name("moved"))
    environment.mkdir()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_remove_a_file, "part1.py is missing"),
        (_remove_half, "is missing"),
        (_add, "more.py is not part of it"),
        (_replace_a_file, "part1.py has another content"),
        (_replace_all, "is missing"),
    ],
    ids=lambda one: getattr(one, "__name__", None),
)
def test_what_was_changed_in_it_is_found(
    installed: Shelf, change: Callable[[Path], None], said: str
) -> None:
    assert fault(installed) == ""
    assert is_marked(installed)
    change(installed.site.environment(KEY))
    assert not is_marked(installed)
    assert (fault(installed) or "").endswith(said)


@pytest.mark.parametrize("left", [None, b"", b"\xff\n1\n", b"1 tree /usr/bin/python\nstate\nlib"])
def test_without_its_mark_it_is_compared_and_marked_again(
    installed: Shelf, left: bytes | None
) -> None:
    mark = installed.site.verified / KEY
    good = mark.read_bytes()
    mark.unlink()
    if left is not None:
        mark.write_bytes(left)
    assert not is_marked(installed)
    assert fault(installed) == ""
    with installed.opened("2") as artifact:
        assert unpack.reuse_environment(artifact, installed.site, marked=False) == "the same"
    assert mark.read_bytes() == good


def test_a_mark_is_of_one_content_and_one_interpreter(installed: Shelf) -> None:
    more = {"virtualenv/" + PACKAGE + "/part1.py": b"another"}
    installed.publish("3", packages(KEY) | more, KEY)
    with installed.opened("3") as artifact:
        assert not verified.is_marked(artifact.manifest, installed.site)
        assert "package07" in (unpack.environment_there(artifact, installed.site).fault or "")


def test_marks_go_with_their_environments(installed: Shelf) -> None:
    other = "b" * 32
    unpack.remove(installed.site, installed.site.environment(KEY))
    assert fault(installed) is None
    installed.publish("3", packages(other), other)
    installed.deploy("3")
    assert [path.name for path in installed.site.verified.iterdir()] == [other]
