"""Let one run migrate a database at a time, whatever machine it comes from.

The database itself is the lock's keeper: a lock on this host's disk would not hold another host
back, and one in a table would outlive whoever took it.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import time
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any, Callable, Iterator, List

# A constant, for PostgreSQL's keys count within one database: the first bytes of
# sha256("artifact migrations"), as a signed number of 64 bits.
_KEY = int.from_bytes(hashlib.sha256(b"artifact migrations").digest()[:8], "big", signed=True)
_POLL_SECONDS = 0.1


class Busy(Exception):
    """Another run migrates, and the wait is over."""


@contextmanager
def held(
    connections: Any, aliases: List[str], wait: float, say: Callable[[str], None]
) -> Iterator[None]:
    """Hold the locks of all databases for the block; waits up to `wait` seconds for each.

    In one order, so that two runs never wait for each other.
    """
    with ExitStack() as stack:
        for alias in sorted(aliases):
            stack.enter_context(_held(connections, alias, wait, say))
        yield


@contextmanager
def _held(connections: Any, alias: str, wait: float, say: Callable[[str], None]) -> Iterator[None]:
    vendor = connections[alias].vendor
    if vendor == "sqlite":
        with _directory(connections[alias], wait, say):
            yield
        return
    if vendor not in {"postgresql", "mysql"}:
        say(f"nothing keeps two runs from migrating {alias} at once: {vendor} has no lock for it")
        yield
        return
    # A connection of its own: what migrates may reconnect, and would lose the lock by that.
    keeper = connections.create_connection(alias)
    question = statement(vendor, str(keeper.settings_dict["NAME"]))

    def take() -> bool:
        cursor.execute(question)
        return bool(cursor.fetchone()[0])

    try:
        with keeper.cursor() as cursor:
            wait_for(take, alias, wait, say)
            yield
    finally:
        keeper.close()


def statement(vendor: str, name: str) -> str:
    """Return the SQL that takes the lock of a PostgreSQL or MySQL database, or says 0.

    To be asked again and again: one waiting statement would hold a snapshot, for which CREATE INDEX
    CONCURRENTLY of the run that has the lock would wait in turn.
    """
    if vendor == "postgresql":
        return f"SELECT pg_try_advisory_lock({_KEY})"
    # Names of MySQL's locks are those of the whole server, with 64 characters at most.
    short = hashlib.sha256(name.encode()).hexdigest()[:32]
    return f"SELECT GET_LOCK('artifact-{short}', 0)"


def _directory(
    connection: Any, wait: float, say: Callable[[str], None]
) -> AbstractContextManager[None]:
    name = str(connection.settings_dict["NAME"])
    path = "" if "mode=memory" in name else name.replace("file:", "").partition("?")[0]
    return directory_of(path, connection.alias, wait, say)


@contextmanager
def directory_of(name: str, alias: str, wait: float, say: Callable[[str], None]) -> Iterator[None]:
    """Hold the lock of an SQLite file for the block; one in memory has none."""
    # The directory of the file: closing a descriptor of the file itself would drop SQLite's own
    # locks (fcntl(2) counts by process), and a file of ours would stay there.
    path = os.path.dirname(os.path.abspath(name))
    # Where the directory is missing, looking at the database says so.
    if not name or ":memory:" in name or not os.path.isdir(path):
        yield
        return
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        wait_for(lambda: _locked(descriptor), alias, wait, say)
        yield
    finally:
        os.close(descriptor)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def wait_for(
    take: Callable[[], bool], alias: str, seconds: float, say: Callable[[str], None]
) -> None:
    """Take a lock when it is free.

    Raises:
        Busy: the wait is over.
    """
    began = time.monotonic()
    deadline, told = began + seconds, False
    while not take():
        if time.monotonic() >= deadline:
            raise Busy(f"the database {alias!r} is being migrated by another run")
        if not told:
            who = f"another run that migrates the database {alias!r}"
            say(f"waiting for {who}, for {seconds:g} s at most")
            told = True
        time.sleep(_POLL_SECONDS)
    if told:
        say(f"waited {time.monotonic() - began:.2f} s until nobody else migrated {alias!r}")
