"""A source that lies in a store: what will be read is fetched in advance, by several connections.

A reader waits until its bytes have arrived, so members are unpacked while others are still on their
way. This module does not know whether bytes are right; the archive's reader compares all of them.
"""

from __future__ import annotations

import bisect
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import msgspec

from artifact import steps
from artifact.archive.toc import Member, Record
from artifact.errors import ArtifactRejected
from artifact.stores.contract import Store, StoreUnreachable
from artifact.transfer import ranges
from artifact.transfer import spool as spools
from artifact.transfer.ranges import ByteRange
from artifact.transfer.spool import Spool


class Patience(msgspec.Struct, frozen=True):
    """How many requests are under way at once, and how slow one may be."""

    connections: int = 8
    window: float = 30.0
    """Seconds in which a request must receive `least`."""
    least: int = 32 * 1024
    """Bytes."""


class Pace:
    """Watches whether a request brings anything worth waiting for."""

    def __init__(self, store: Store, name: str, patience: Patience) -> None:
        self._what = f"{store.address} sent", f"of {name}"
        self._patience = patience
        self._count, self._since = 0, time.monotonic()

    def received(self, count: int) -> None:
        """Hear of bytes that came.

        Raises:
            StoreUnreachable: there were too few of them for too long.
        """
        self._count += count
        seconds = time.monotonic() - self._since
        if seconds < self._patience.window:
            return
        if self._count < self._patience.least:
            raise StoreUnreachable(
                f"{self._what[0]} {self._count} bytes {self._what[1]} in {seconds:.0f} s",
                hint="repeat it when the network is better: what has arrived is kept",
            )
        self._count, self._since = 0, time.monotonic()


class Counted(msgspec.Struct):
    """What has crossed the network so far."""

    requests: int = 0
    fetched: int = 0
    """Bytes received."""
    wanted: int = 0
    """Bytes that were asked for, as far as that is known."""
    resumed: int = 0
    """Bytes that an earlier run had fetched."""
    _lock: threading.Lock = msgspec.field(default_factory=threading.Lock)

    def add(self, *, requests: int = 0, fetched: int = 0, wanted: int = 0) -> None:
        """Count, from any thread."""
        with self._lock:
            self.requests += requests
            self.fetched += fetched
            self.wanted += wanted


class Download(msgspec.Struct):
    """An artifact in a store, as `archive.opening.Source`."""

    store: Store
    name: str
    size: int
    etag: str
    tail: bytes
    """The last bytes, which were fetched first."""
    spool: Callable[[], Spool]
    """Opens the file that what is fetched is put into."""
    patience: Patience = Patience()
    counted: Counted = msgspec.field(default_factory=Counted)
    candidates: dict[str, Sequence[tuple[Record, str, int]]] = msgspec.field(default_factory=dict)
    """Files of the site that may be what a component needs, kept by `host.trees.reuse`."""
    _fetching: _Fetching | None = None
    _given_up: bool = False

    def __post_init__(self) -> None:
        self.counted.add(requests=1, fetched=len(self.tail), wanted=len(self.tail))

    @contextmanager
    def expecting(self, members: Sequence[Member]) -> Iterator[None]:
        """Fetch these members in the background while the block reads them."""
        if not members:
            yield
            return
        spool = self.spool()
        try:
            here = [member for member in members if spool.holds(member)]
            missing = sorted(set(members).difference(here))
            self.counted.resumed += sum(member.length for member in here)
            wanted = ranges.plan(missing, self.patience.connections)
            self.counted.add(wanted=ranges.total(wanted))
            self._given_up = False
            self._fetching = _Fetching(self, spool, here, wanted)
            self._fetching.begin()
            try:
                yield
            except BaseException as error:
                # Readers that still wait must end, and not fetch for themselves.
                self._given_up = True
                if isinstance(error, ArtifactRejected):
                    spool.remove()  # the next run must not find what this one rejected
                raise
            finally:
                self._fetching.end()
                self._fetching = None
        finally:
            spool.close()

    def read_range(self, offset: int, length: int) -> bytes:
        """Return bytes: when they have arrived, or by a request of their own.

        Raises:
            StoreUnreachable: they cannot be had.
        """
        start = self.size - len(self.tail)
        if offset >= start:
            return self.tail[offset - start : offset - start + length]
        if self._given_up:
            raise StoreUnreachable(f"{self.name} is no longer waited for")
        fetching = self._fetching
        if fetching is not None and fetching.covers(offset, length):
            return fetching.read(offset, length)
        self.counted.add(wanted=length)
        return b"".join(chunk for _, chunk in _received(self, ByteRange(offset, offset + length)))

    def telling(self, tell: steps.Listener) -> steps.Listener:
        """Return a listener that shows what was fetched instead of what was unpacked of it."""

        def heard(event: steps.Event) -> None:
            if isinstance(event, steps.Progress):
                counted = self.counted
                event = steps.Progress("fetching", counted.fetched, counted.wanted)
            tell(event)

        return heard


class _Fetching:
    """The threads that fetch, and the readers that wait for them."""

    def __init__(
        self, download: Download, spool: Spool, here: Sequence[Member], wanted: list[ByteRange]
    ) -> None:
        self._download = download
        self._spool = spool
        present = [ByteRange(one.offset, one.offset + one.length, 1 << 62) for one in here]
        self._known = sorted([*present, *wanted], key=lambda one: one.start)
        self._starts = [one.start for one in self._known]
        self._queue = deque(wanted)
        self._changed = threading.Condition()
        self._over = threading.Event()
        self._failure: BaseException | None = None
        self._last = time.monotonic()

    def begin(self) -> None:
        count = min(self._download.patience.connections, len(self._queue))
        for number in range(count):
            # Daemons: one that hangs in a dead connection must not keep the program.
            threading.Thread(target=self._work, name=f"fetch-{number}", daemon=True).start()

    def end(self) -> None:
        with self._changed:
            self._queue.clear()
            self._over.set()
            self._changed.notify_all()

    def covers(self, offset: int, length: int) -> bool:
        found = self._at(offset)
        return found is not None and offset + length <= found.end

    def read(self, offset: int, length: int) -> bytes:
        wanted = self._at(offset)
        assert wanted is not None
        with self._changed:
            while wanted.arrived < offset + length:
                if self._failure is not None:
                    raise self._failure
                if self._over.is_set():
                    raise StoreUnreachable(f"{self._download.name} was no longer waited for")
                self._changed.wait(1.0)
                self._give_up_when_silent()
        return self._spool.read(offset, length)

    def _give_up_when_silent(self) -> None:
        """Fail when no connection has brought anything for long: one may hang in a read."""
        patience = self._download.patience
        silent = time.monotonic() - self._last
        if silent > 2 * patience.window and self._failure is None:
            self._failure = StoreUnreachable(
                f"{self._download.store.address} has sent nothing of {self._download.name} "
                f"for {silent:.0f} s",
                hint="repeat it when the network is better: what has arrived is kept",
            )

    def _at(self, offset: int) -> ByteRange | None:
        found = bisect.bisect_right(self._starts, offset) - 1
        return self._known[found] if found >= 0 and offset < self._known[found].end else None

    def _work(self) -> None:
        # Its own descriptor: the spool may be closed, and its number be another file's, meanwhile.
        descriptor = os.dup(self._spool.descriptor)
        try:
            while not self._over.is_set() and self._queue:
                try:
                    wanted = self._queue.popleft()
                except IndexError:
                    return
                self._fetch(wanted, descriptor)
        except BaseException as error:  # it is raised where somebody waits for the bytes
            with self._changed:
                self._failure = self._failure or error
                self._over.set()
                self._changed.notify_all()
        finally:
            os.close(descriptor)

    def _fetch(self, wanted: ByteRange, descriptor: int) -> None:
        for at, chunk in _received(self._download, wanted):
            spools.write(descriptor, at, chunk)
            with self._changed:
                self._last = time.monotonic()
                wanted.arrived = at + len(chunk)
                self._changed.notify_all()
            if self._over.is_set():
                return


def _received(download: Download, wanted: ByteRange) -> Iterator[tuple[int, memoryview]]:
    """Make one request; yield what comes, each piece with its offset.

    The store itself goes on where a connection breaks; that it goes on too slowly shows here.
    """
    store, name, at = download.store, download.name, wanted.start
    pace = Pace(store, name, download.patience)
    download.counted.add(requests=1)
    with store.read(name, at, wanted.length, etag=download.etag) as answer:
        if answer.start != at or answer.length < wanted.length:
            raise StoreUnreachable(
                f"{store.address} answers a request for {wanted.length} bytes of {name} from byte "
                f"{at} on with {answer.length} from byte {answer.start} on",
                hint="a proxy on the way does not understand ranges; fetch past it, "
                "or the whole file",
            )
        for chunk in answer:
            piece = memoryview(chunk)[: wanted.end - at]
            download.counted.add(fetched=len(piece))
            yield at, piece
            at += len(piece)
            if at >= wanted.end:
                return  # whatever else it sends is not read
            pace.received(len(piece))
