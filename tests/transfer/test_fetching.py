"""Whole artifacts fetched into a directory."""

from __future__ import annotations

from pathlib import Path

import pytest

from artifact import steps
from artifact.archive import checking, opening
from artifact.errors import ArtifactRejected
from artifact.stores import addresses
from artifact.transfer import fetching
from artifact.transfer.references import InStore
from tests.transfer import shelf
from tests.transfer.shelf import Shelf


@pytest.fixture
def published(tmp_path: Path) -> InStore:
    """Return an artifact in a store, beside `tmp_path / "here"`."""
    kept = Shelf(tmp_path / "shelf")
    kept.publish("1", shelf.packages("k"), "k")
    (tmp_path / "here").mkdir()
    return InStore(kept.store, addresses.artifact(shelf.NAME, "1"))


def test_two_fetches_into_one_directory_do_not_meet(published: InStore, tmp_path: Path) -> None:
    within: list[fetching.Fetched] = []

    def meanwhile(event: steps.Event) -> None:
        if isinstance(event, steps.Progress) and event.label == "fetching" and not within:
            within.append(fetching.fetch(published, tmp_path / "here", "", steps.nobody))

    fetched = fetching.fetch(published, tmp_path / "here", "", meanwhile)
    assert within == [fetched]
    assert [path.name for path in (tmp_path / "here").iterdir()] == ["accounting-1.tgz"]
    with opening.open_artifact(fetched.path) as artifact:
        checking.verify(artifact)


def test_what_is_damaged_leaves_nothing_behind(published: InStore, tmp_path: Path) -> None:
    there = tmp_path / "shelf" / "store" / published.name
    content = bytearray(there.read_bytes())
    content[1000] ^= 1
    there.write_bytes(content)
    with pytest.raises(ArtifactRejected, match=r"^accounting-1\.tgz: it is damaged"):
        fetching.fetch(published, tmp_path / "here", "", steps.nobody)
    assert list((tmp_path / "here").iterdir()) == []


def test_what_a_killed_fetch_left_goes_with_the_next(published: InStore, tmp_path: Path) -> None:
    left = tmp_path / "here" / ".accounting-1.tgz.4711-1.new"
    left.write_bytes(b"half")
    fetching.fetch(published, tmp_path / "here", "", steps.nobody)
    assert not left.exists()
