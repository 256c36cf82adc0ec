"""What crosses the network when a site has an earlier release, and what is there afterwards."""

from __future__ import annotations

from pathlib import Path

import pytest

from artifact.archive import opening, unpacking
from artifact.archive.toc import Member
from artifact.errors import ArtifactRejected
from artifact.host.trees import reuse
from artifact.stores.contract import ObjectMissing
from artifact.transfer import ranges
from tests.archive import samples
from tests.transfer.shelf import SITE_PACKAGES, Shelf, Watched, application, packages

OLD, NEW = "a" * 32, "b" * 32


def unpacked(path: Path, component: str, out: Path) -> dict[str, tuple[str, bytes]]:
    """Return what a whole download would have given: path to kind and content."""
    with opening.open_artifact(path) as artifact:
        strip = "virtualenv/" if component == "venv" else ""
        unpacking.extract(artifact, (component,), out, strip=strip)
    return contents(out)


def contents(root: Path) -> dict[str, tuple[str, bytes]]:
    return {path: (kind, content) for path, (kind, _, content) in samples.tree(root).items()}


def test_a_first_install_fetches_everything_once_and_keeps_nothing(shelf: Shelf) -> None:
    path = shelf.publish("1", packages(OLD), OLD)
    store = Watched(shelf.store_directory)
    shelf.deploy("1", store)
    assert store.bytes <= path.stat().st_size + 262_144
    assert contents(shelf.site.environment(OLD)) == unpacked(path, "venv", shelf.directory / "v")
    assert list(shelf.site.downloads.iterdir()) == []
    assert max(length for _, _, length in store.asked) <= ranges.LARGEST_BYTES


def test_a_code_only_release_takes_three_requests_and_little_more_than_the_tail(
    shelf: Shelf,
) -> None:
    shelf.publish("1", packages(OLD), OLD)
    shelf.publish("2", packages(OLD), OLD, code=application("2"))
    shelf.deploy("1")
    store = Watched(shelf.store_directory)
    notes = shelf.deploy("2", store)
    assert len(notes) == 1
    assert len(store.asked) <= 3
    assert store.bytes < 262_144 + 400_000
    one, two = shelf.site.release("1") / "accounting", shelf.site.release("2") / "accounting"
    assert (two / "version.py").read_text() == "VERSION = '2'\n"
    assert not (two / "version.py").samefile(one / "version.py")


def test_an_unchanged_component_of_a_release_is_linked_and_not_fetched(shelf: Shelf) -> None:
    code = application("same", files=100)
    shelf.publish("1", packages(OLD), OLD, code=code)
    shelf.publish("2", packages(OLD), OLD, code=code)
    shelf.deploy("1")
    store = Watched(shelf.store_directory)
    assert shelf.deploy("2", store)[-1].endswith("0.0 of 2.0 MB fetched")
    assert len(store.asked) == 1
    for name in ("accounting/views1.py", "accounting/version.py"):
        assert (shelf.site.release("2") / name).samefile(shelf.site.release("1") / name)


def test_a_file_that_keeps_its_size_gets_another_time_with_another_content(shelf: Shelf) -> None:
    # nginx makes the ETag of an unhashed static file of these two; the tar entries have one time.
    later = samples.CREATED + 86_400
    shelf.publish("1", packages(OLD), OLD, code={"static/a.js": b"one", "static/b.js": b"same"})
    shelf.publish(
        "2", packages(OLD), OLD, code={"static/a.js": b"two", "static/b.js": b"same"}, created=later
    )
    shelf.deploy("1")
    shelf.deploy("2")
    one, two = shelf.site.release("1") / "static", shelf.site.release("2") / "static"
    assert (one / "a.js").stat().st_mtime == samples.CREATED
    assert (two / "a.js").stat().st_mtime == later
    assert (two / "b.js").stat().st_mtime == (one / "b.js").stat().st_mtime == samples.CREATED


def test_two_changed_packages_are_fetched_and_the_rest_is_linked(shelf: Shelf) -> None:
    shelf.publish("1", packages(OLD), OLD)
    path = shelf.publish("2", packages(NEW, changed=(3, 30)), NEW)
    shelf.deploy("1")
    store = Watched(shelf.store_directory)
    with shelf.opened("2") as artifact:
        reuse.recall(artifact, shelf.site)
        planned = reuse.to_fetch(artifact, shelf.site, ("venv",))
    notes = shelf.deploy("2", store)
    assert f"{planned['venv'] / 1e6:.1f} of" in notes[0]
    assert store.bytes < 0.35 * path.stat().st_size
    old, new = shelf.site.environment(OLD), shelf.site.environment(NEW)
    assert contents(new) == unpacked(path, "venv", shelf.directory / "v")
    kept = SITE_PACKAGES.removeprefix("virtualenv/") + "/package05/part1.py"
    assert (new / kept).samefile(old / kept)
    assert not (new / "bin/activate").samefile(old / "bin/activate")


@pytest.mark.parametrize("how", ["content", "writable", "mode", "gone", "replaced by a link"])
def test_what_was_changed_in_the_site_is_fetched_and_not_linked(shelf: Shelf, how: str) -> None:
    shelf.publish("1", packages(OLD), OLD)
    path = shelf.publish("2", packages(NEW), NEW)
    shelf.deploy("1")
    name = SITE_PACKAGES.removeprefix("virtualenv/") + "/package05/part1.py"
    victim = shelf.site.environment(OLD) / name
    good = victim.read_bytes()
    victim.parent.chmod(0o755)
    if how == "content":
        victim.chmod(0o644)
        victim.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
        victim.chmod(0o444)
    elif how == "writable":
        victim.chmod(0o644)
    elif how == "mode":
        victim.chmod(0o555)
    else:
        victim.unlink()
        if how == "replaced by a link":
            (shelf.directory / "elsewhere").write_bytes(good)
            victim.symlink_to(shelf.directory / "elsewhere")
    shelf.deploy("2")
    assert contents(shelf.site.environment(NEW)) == unpacked(path, "venv", shelf.directory / "v")
    made = shelf.site.environment(NEW) / name
    assert not made.is_symlink()
    assert made.stat().st_nlink == 1


@pytest.mark.parametrize("left", [b"", b"f\t0444\t12", b"f\tx\ty\tz\tw\nf\t\xff"])
def test_damaged_contents_of_an_earlier_release_cost_bytes_and_nothing_else(
    shelf: Shelf, left: bytes
) -> None:
    shelf.publish("1", packages(OLD), OLD)
    path = shelf.publish("2", packages(NEW, changed=(3,)), NEW)
    shelf.deploy("1")
    for name in ("venv", "code"):
        listed = shelf.site.release("1") / f".artifact/{name}.toc"
        listed.chmod(0o644)
        listed.write_bytes(left)
    shelf.deploy("2")
    assert contents(shelf.site.environment(NEW)) == unpacked(path, "venv", shelf.directory / "v")


def test_a_directory_that_became_a_link_is_not_linked_from(shelf: Shelf) -> None:
    shelf.publish("1", packages(OLD), OLD)
    shelf.publish("2", packages(OLD), OLD, code=application("2"))
    shelf.deploy("1")
    release = shelf.site.release("1")
    release.chmod(0o755)
    (release / "accounting").chmod(0o755)
    (release / "accounting").rename(shelf.directory / "shared")
    (release / "accounting").symlink_to(shelf.directory / "shared")
    shelf.deploy("2")
    assert (shelf.site.release("2") / "accounting" / "views1.py").stat().st_nlink == 1


def test_wrong_bytes_are_rejected_and_not_kept(shelf: Shelf) -> None:
    path = shelf.publish("1", packages(OLD), OLD)
    good = path.read_bytes()
    path.write_bytes(good[:3_000_000] + bytes(1000) + good[3_001_000:])
    with pytest.raises(ArtifactRejected, match="damaged at byte"):
        shelf.deploy("1")
    assert not shelf.site.environment(OLD).exists()
    assert list(shelf.site.downloads.iterdir()) == []
    path.write_bytes(good)
    shelf.deploy("1")


def test_an_artifact_replaced_during_the_download_is_noticed(shelf: Shelf) -> None:
    path = shelf.publish("1", packages(OLD), OLD)
    with shelf.opened("1") as artifact:
        other = path.with_name("other")
        other.write_bytes(path.read_bytes())
        other.replace(path)
        with pytest.raises(ArtifactRejected, match="replaced while it was read"):
            unpacking.extract(artifact, ("venv",), shelf.directory / "out", strip="virtualenv/")
    assert not (shelf.directory / "out").exists()


def test_a_name_that_is_not_in_the_store_is_said_so(shelf: Shelf) -> None:
    with pytest.raises(ObjectMissing, match="accounting-9"), shelf.opened("9"):
        pass


def test_a_killed_download_is_resumed_where_it_was(shelf: Shelf) -> None:
    path = shelf.publish("1", packages(OLD), OLD)
    shelf.site.downloads.mkdir()
    (shelf.site.downloads / "other").write_bytes(b"of another artifact")
    with shelf.opened("1") as artifact:
        name = artifact.digest.removeprefix("sha256:")
    size = path.stat().st_size
    # As a killed run leaves it: the first half, a hole, bytes that never became durable.
    with (shelf.site.downloads / name).open("wb") as spool:
        spool.write(path.read_bytes()[: size // 2])
        spool.seek(size // 2 + 500_000)
        spool.write(bytes(300_000))
    store = Watched(shelf.store_directory)
    shelf.deploy("1", store)
    assert store.bytes < 0.6 * size + 262_144
    assert list(shelf.site.downloads.iterdir()) == []


def member(offset: int, length: int) -> Member:
    return Member(offset, length, length, "")


def test_near_members_are_fetched_together_and_long_runs_in_pieces() -> None:
    near = [member(0, 1000), member(1000 + ranges.GAP_BYTES, 1000)]
    assert [(s.start, s.end) for s in ranges.plan(near, 8)] == [(0, 2000 + ranges.GAP_BYTES)]
    far = [member(0, 1000), member(1001 + ranges.GAP_BYTES, 1000)]
    assert len(ranges.plan(far, 8)) == 2
    run = [member(100_000 * i, 100_000) for i in range(3000)]
    planned = ranges.plan(run, 8)
    assert sum(one.length for one in planned) == 300_000_000
    assert [one.start for one in planned[1:]] == [one.end for one in planned[:-1]]
    assert planned[0].length <= 1 << 20
    assert (4 << 20) < max(one.length for one in planned) <= ranges.LARGEST_BYTES


def test_a_member_larger_than_a_first_request_stands_alone() -> None:
    assert [one.length for one in ranges.plan([member(0, 4 << 20)], 8)] == [4 << 20]
