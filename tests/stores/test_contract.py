"""What every store promises, tried on all of them: a directory, an S3 server, nginx."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from artifact import steps
from artifact.errors import Refused, UsageError
from artifact.stores import channels
from artifact.stores.channels import Candidate
from artifact.stores.contract import (
    COPIED,
    LARGEST_CHUNK,
    ObjectChanged,
    ObjectMissing,
    ReadOnly,
    SharedRange,
    SimilarObject,
    StoreMissing,
)
from tests.stores import shops
from tests.stores.shops import Bucket, Shop

NAME = "accounting/artifacts/accounting-1337.tgz"
CHANNEL = "accounting/channels/production.json"
# STORE_ROUNDS=20 STORE_UPDATES=50 is the whole of it, and takes minutes on a busy machine.
ROUNDS = int(os.environ.get("STORE_ROUNDS", "3"))
UPDATES = int(os.environ.get("STORE_UPDATES", "10"))
CONTENT = os.urandom(3_000_000)


def put(
    shop: Shop,
    name: str,
    content: bytes,
    tmp_path: Path,
    like: SimilarObject | None = None,
    tell: steps.Listener = steps.nobody,
) -> bool:
    source = tmp_path / f"source-{threading.get_ident()}"
    source.write_bytes(content)
    return shop.store.put_if_absent(name, source, tell=tell, like=like)


def test_ranges_are_read_as_asked(shop: Shop) -> None:
    shop.lay(NAME, CONTENT)
    found = shop.store.stat(NAME)
    assert found is not None
    assert found.size == len(CONTENT)
    assert found.etag
    for start, length in ((0, 1), (7, 2_000_000), (len(CONTENT) - 1, 1)):
        with shop.store.read(NAME, start, length, etag=found.etag) as answer:
            assert (answer.start, answer.length) == (start, length)
            assert (answer.total, answer.etag) == (found.size, found.etag)
            chunks = list(answer)
        assert b"".join(chunks) == CONTENT[start : start + length]
        assert max(map(len, chunks)) <= LARGEST_CHUNK


def test_what_reaches_beyond_the_end_is_cut_off(shop: Shop) -> None:
    shop.lay(NAME, b"0123456789")
    assert shop.store.read(NAME, 8, 100).content() == b"89"
    assert shop.store.read(NAME, 10, 5).content() == b""
    assert shop.store.read(NAME, 99, 5).content() == b""
    assert shop.store.read(NAME, 3, 0).content() == b""


def test_the_tail_comes_with_the_size(shop: Shop) -> None:
    shop.lay(NAME, CONTENT)
    tail = shop.store.tail(NAME, 1000)
    assert tail.content() == CONTENT[-1000:]
    assert tail.start == len(CONTENT) - 1000
    assert tail.info == shop.store.stat(NAME)
    shop.lay("short", b"abc")
    assert shop.store.tail("short", 1000).content() == b"abc"


def test_what_is_missing_is_said_to_be(shop: Shop) -> None:
    shop.lay("something/else", b"1")
    assert shop.store.stat(NAME) is None
    assert shop.store.pointer(CHANNEL) is None
    for start, length in ((0, 5), (0, 0)):
        with pytest.raises(ObjectMissing, match=NAME):
            shop.store.read(NAME, start, length)
    with pytest.raises(ObjectMissing, match=NAME):
        shop.store.tail(NAME, 5)


def test_an_object_that_was_replaced_is_noticed(shop: Shop) -> None:
    shop.lay(NAME, CONTENT)
    found = shop.store.stat(NAME)
    assert found is not None
    # Another size, for nginx's tags know whole seconds and sizes only.
    shop.lay(NAME, CONTENT[:-1][::-1])
    with pytest.raises(ObjectChanged, match="was replaced"):
        shop.store.read(NAME, 0, 5, etag=found.etag).content()
    assert shop.store.stat(NAME) != found


def test_an_object_that_is_replaced_while_it_is_read_never_gives_a_mixture(shop: Shop) -> None:
    content = CONTENT * 3
    shop.lay(NAME, content)
    answer = shop.store.read(NAME, 0, len(content))
    chunks = iter(answer)
    received = next(chunks)
    shop.lay(NAME, content[::-1])
    try:
        received += b"".join(chunks)
    except ObjectChanged:
        return
    assert received == content


def test_names_that_leave_the_store_are_refused(shop: Shop) -> None:
    for name in ("../passwd", "/etc/passwd", "a//b", "a/./b", "", ".hidden", "a\nb"):
        with pytest.raises(UsageError):
            shop.store.stat(name)


def test_a_bucket_or_directory_that_is_not_there_is_named(writable: Shop, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"1")
    calls: list[Callable[[], object]] = [
        lambda: writable.lost.stat(NAME),
        lambda: writable.lost.read(NAME, 0, 5),
        lambda: writable.lost.pointer(CHANNEL),
        lambda: list(writable.lost.names("")),
        lambda: writable.lost.put_if_absent(NAME, source, tell=steps.nobody),
        lambda: writable.lost.swap(CHANNEL, b"{}", None),
    ]
    for call in calls:
        with pytest.raises(StoreMissing, match="absent") as error:
            call()
        assert error.value.code == 2


def test_a_web_server_is_read_only(served: tuple[str, Path], tmp_path: Path) -> None:
    store = shops.on_web(*served).store
    calls: list[Callable[[], object]] = [
        lambda: list(store.names("")),
        lambda: store.put_if_absent(NAME, tmp_path, tell=steps.nobody),
        lambda: store.swap(CHANNEL, b"{}", None),
        lambda: store.delete(NAME),
    ]
    for call in calls:
        with pytest.raises(ReadOnly):
            call()


def test_what_is_put_is_there_and_stays(writable: Shop, tmp_path: Path) -> None:
    told: list[steps.Event] = []
    source = tmp_path / "source"
    source.write_bytes(CONTENT)
    assert writable.store.put_if_absent(NAME, source, tell=told.append)
    assert told[-1] == steps.Progress("uploading", len(CONTENT), len(CONTENT))
    assert not put(writable, NAME, b"other", tmp_path)
    assert writable.store.read(NAME, 0, 1 << 30).content() == CONTENT
    found = writable.store.stat(NAME)
    assert list(writable.store.names("accounting/")) == [(NAME, found)]
    assert list(writable.store.names("accounting/artifacts/acc")) == [(NAME, found)]
    assert list(writable.store.names("account")) == [(NAME, found)]
    assert list(writable.store.names("other/")) == []
    writable.store.delete(NAME)
    writable.store.delete(NAME)
    assert writable.store.stat(NAME) is None
    assert list(writable.store.names("")) == []


def test_a_large_file_is_put_in_parts_and_once(writable: Shop, tmp_path: Path) -> None:
    content = CONTENT * 7
    assert put(writable, NAME, content, tmp_path)
    assert not put(writable, NAME, content[::-1], tmp_path)
    assert writable.store.read(NAME, 0, 1 << 30).content() == content


def test_what_is_there_is_copied_in_the_bucket(bucket: Bucket, tmp_path: Path) -> None:
    shop = shops.in_bucket(bucket)
    before = CONTENT * 3
    shop.lay("earlier", before)
    found = shop.store.stat("earlier")
    assert found is not None
    length = 6_000_000
    # Other bytes here than there: what arrives shows where it came from.
    source = bytes(length) + b"the rest"
    told: list[steps.Event] = []
    like = SimilarObject("earlier", found.etag, (SharedRange(0, length, 5),))
    assert put(shop, NAME, source, tmp_path, like, told.append)
    assert told[-1] == steps.Progress(COPIED, length, len(source))
    assert shop.store.read(NAME, 0, 1 << 30).content() == before[5 : 5 + length] + b"the rest"
    # An object that was replaced since is not copied: all is sent.
    shop.lay("earlier", before[::-1])
    told.clear()
    assert put(shop, "second", source, tmp_path, like, told.append)
    assert not [one for one in told if isinstance(one, steps.Progress) and one.label == COPIED]
    assert shop.store.read("second", 0, 1 << 30).content() == source
    uploads = bucket.client.list_multipart_uploads(Bucket="artifacts").get("Uploads", [])
    prefix = shop.store.address.rpartition("/")[2]
    assert [one for one in uploads if prefix in one["Key"] and "second" in one["Key"]] == []


@pytest.mark.parametrize("size", [1000, (8 << 20) + 1], ids=["small", "in parts"])
def test_of_many_publishers_one_wins(writable: Shop, tmp_path: Path, size: int) -> None:
    rounds, count = (ROUNDS, 16) if size == 1000 else (1, 4)
    contents = [bytes([number]) * size for number in range(count)]
    files = [tmp_path / f"publisher-{number}" for number in range(count)]
    for file, content in zip(files, contents, strict=True):
        file.write_bytes(content)
    with ThreadPoolExecutor(count) as pool:
        for round_ in range(rounds):
            name = f"accounting/artifacts/accounting-{round_}.tgz"
            begin = threading.Barrier(count)

            def publish(file: Path, name: str = name, begin: threading.Barrier = begin) -> bool:
                begin.wait(30)
                return writable.store.put_if_absent(name, file, tell=steps.nobody)

            won = list(pool.map(publish, files))
            assert won.count(True) == 1
            there = writable.store.read(name, 0, 1 << 30).content()
            assert there == contents[won.index(True)]


def test_a_pointer_is_swapped_only_by_who_knows_it(writable: Shop) -> None:
    store = writable.store
    assert store.swap(CHANNEL, b"first", None)
    assert not store.swap(CHANNEL, b"second", None)
    found = store.pointer(CHANNEL)
    assert found is not None
    content, tag = found
    assert content == b"first"
    assert store.swap(CHANNEL, b"second", tag)
    assert not store.swap(CHANNEL, b"third", tag)
    assert (store.pointer(CHANNEL) or (b"",))[0] == b"second"
    store.delete(CHANNEL)
    assert not store.swap(CHANNEL, b"third", tag)
    assert store.pointer(CHANNEL) is None


def test_of_eight_writers_no_update_is_lost(writable: Shop) -> None:
    def update(writer: int) -> Iterator[int]:
        for number in range(UPDATES):
            target = Candidate("accounting", f"{writer}.{number}", f"sha256:{writer}-{number}")
            yield channels.promote(writable.store, target, "production").sequence

    with ThreadPoolExecutor(8) as pool:
        changes = [
            one for writer in pool.map(lambda w: list(update(w)), range(8)) for one in writer
        ]
    assert sorted(changes) == list(range(1, 8 * UPDATES + 1))
    there = channels.read_channel(writable.store, "accounting", "production")
    assert there is not None
    assert there.sequence == 8 * UPDATES
    assert [one.sequence for one in there.history] == list(range(8 * UPDATES - 1, 0, -1))[:100]


def test_a_directory_that_may_not_be_written_is_said_so(tmp_path: Path) -> None:
    from artifact.stores.directory import DirectoryStore

    source = tmp_path / "source"
    source.write_bytes(b"1")
    with pytest.raises(Refused, match="proc"):
        DirectoryStore(Path("/proc/self")).put_if_absent("x/y", source, tell=steps.nobody)
