"""A source that lies in a store: what will be read is fetched in advance, by several connections.

Whoever reads waits until its bytes have arrived, so members are unpacked while others are still on
their way. Nothing here knows whether bytes are right: the archive's reader compares all of them.
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
from artifact.transfer import spool as spools
from artifact.transfer import stretches
from artifact.transfer.spool import Spool
from artifact.transfer.stretches import Stretch


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
    """Files of the site that may be what a component needs, kept by `earlier`."""
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
            wanted = stretches.plan(missing, self.patience.connections)
            self.counted.add(wanted=stretches.total(wanted))
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
        content = bytearray()
        alone = Stretch(offset, offset + length)
        deque(_received(self, alone, lambda _at, chunk: content.extend(chunk)), maxlen=0)
        return bytes(content)

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
        self, download: Download, spool: Spool, here: Sequence[Member], wanted: list[Stretch]
    ) -> None:
        self._download = download
        self._spool = spool
        present = [Stretch(one.offset, one.offset + one.length, 1 << 62) for one in here]
        self._known = sorted([*present, *wanted], key=lambda stretch: stretch.start)
        self._starts = [stretch.start for stretch in self._known]
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
        stretch = self._at(offset)
        assert stretch is not None
        with self._changed:
            while stretch.arrived < offset + length:
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

    def _at(self, offset: int) -> Stretch | None:
        found = bisect.bisect_right(self._starts, offset) - 1
        return self._known[found] if found >= 0 and offset < self._known[found].end else None

    def _work(self) -> None:
        # Its own descriptor: the spool may be closed, and its number be another file's, meanwhile.
        descriptor = os.dup(self._spool.descriptor)
        try:
            while not self._over.is_set() and self._queue:
                try:
                    stretch = self._queue.popleft()
                except IndexError:
                    return
                self._fetch(stretch, descriptor)
        except BaseException as error:  # - it is raised where somebody waits for the bytes
            with self._changed:
                self._failure = self._failure or error
                self._over.set()
                self._changed.notify_all()
        finally:
            os.close(descriptor)

    def _fetch(self, stretch: Stretch, descriptor: int) -> None:
        def keep(at: int, chunk: memoryview) -> None:
            spools.write(descriptor, at, chunk)

        for arrived in _received(self._download, stretch, keep):
            with self._changed:
                self._last = time.monotonic()
                stretch.arrived = arrived
                self._changed.notify_all()
            if self._over.is_set():
                return


def _received(
    download: Download, stretch: Stretch, keep: Callable[[int, memoryview], None]
) -> Iterator[int]:
    """Make one request; keep what comes and yield the offset behind it.

    The store itself goes on where a connection breaks; that it goes on too slowly shows here.
    """
    counted = download.counted
    pace = Pace(download.store, download.name, download.patience)
    counted.add(requests=1)
    with download.store.read(
        download.name, stretch.start, stretch.length, etag=download.etag
    ) as answer:
        if answer.start != stretch.start:
            raise _other_range(download, stretch.start, answer.start)
        at = stretch.start
        for chunk in answer:
            piece = memoryview(chunk)[: stretch.end - at]
            keep(at, piece)
            at += len(piece)
            counted.add(fetched=len(piece))
            yield at
            if at >= stretch.end:
                return  # whatever else it sends is not read
            pace.received(len(piece))
    raise _short(download, at, stretch.end)


def _other_range(download: Download, asked: int, got: int) -> StoreUnreachable:
    return StoreUnreachable(
        f"{download.store.address} answers a request for {download.name} from byte {asked} on "
        f"with what begins at byte {got}",
        hint="a proxy on the way does not understand ranges; fetch past it, or the whole file",
    )


def _short(download: Download, at: int, end: int) -> StoreUnreachable:
    return StoreUnreachable(
        f"{download.store.address} ends {download.name} at byte {at}; "
        f"{end - at} bytes that were asked for are missing",
        hint="repeat it later; what has arrived is kept",
    )
