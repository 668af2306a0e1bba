"""Work on independent parts of a large signal at a time: tiles, and runs of rows of cells."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

__all__ = ["each", "n_threads"]

Item = TypeVar("Item")
Result = TypeVar("Result")

MAX_THREADS = 4  # each has the scratch of a tile, some hundred megabytes, and Python's lock is shared by all


def each(work: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """[work(item) for item in items], several at a time; the same whatever the number of threads. An exception of one
    comes out of here."""
    items = list(items)
    if len(items) < 2 or n_threads() < 2:
        return [work(item) for item in items]
    pool = ThreadPoolExecutor(min(n_threads(), len(items)))
    try:
        return list(pool.map(work, items))
    finally:
        pool.shutdown(cancel_futures=True)  # interrupted, only what is under way goes on to its end


def n_threads() -> int:
    """As many as there are cores for this process, or as OMP_NUM_THREADS says if that is less."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS and Windows
        cores = os.cpu_count() or 1
    asked = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    return max(1, min(cores, MAX_THREADS, int(asked) if asked.isdecimal() else cores))
