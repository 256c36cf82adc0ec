"""Runs jobs in threads, gives the results in order, and holds few of them at a time.

Threads are enough: compressing, inflating, hashing and the disk all release the interpreter's lock.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

_MOST_THREADS = 8
"""Each holds a few pieces of 4 MiB, and more than eight outrun what the main thread can take."""

_Job = TypeVar("_Job")
_Outcome = TypeVar("_Outcome")


@contextmanager
def in_order(
    work: Callable[[_Job], _Outcome], jobs: Iterable[_Job], threads: int | None = None
) -> Iterator[Iterator[_Outcome]]:
    """Yield an iterator over the results, in job order.

    At most two jobs per thread are queued or hold a result not yet taken. When the block ends
    early, jobs that have not started are dropped, and running ones are waited for.

    Args:
        threads: Default: one for each available processor, at most 8.
    """
    count = threads or min(_MOST_THREADS, len(os.sched_getaffinity(0)))
    pool = ThreadPoolExecutor(count, thread_name_prefix="artifact")
    try:
        yield _outcomes(pool, work, jobs, 2 * count)
    finally:
        pool.shutdown(cancel_futures=True)


def _outcomes(
    pool: ThreadPoolExecutor, work: Callable[[_Job], _Outcome], jobs: Iterable[_Job], most: int
) -> Iterator[_Outcome]:
    waiting: deque[Future[_Outcome]] = deque()
    for job in jobs:
        waiting.append(pool.submit(work, job))
        if len(waiting) > most:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()
