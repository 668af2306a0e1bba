"""Runs independent pieces of numpy work several at a time."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import TypeVar

__all__ = ["each"]

MAX_WORKERS = 4  # each piece has its scratch: more would cost memory for little time
Item = TypeVar("Item")
Result = TypeVar("Result")


def each(function: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """[function(x) for x in items], on as many threads as there are processors (or as OMP_NUM_THREADS says): numpy lets
    go of the interpreter while it computes. Of several errors that of the first item is raised; none that has not
    begun by then does."""
    work = list(items)
    workers = min(len(work), MAX_WORKERS, _processors())
    if workers < 2:
        return [function(item) for item in work]
    with ThreadPoolExecutor(workers) as pool:
        try:
            # each in a context like ours: numpy's errstate is part of it
            contexts = [copy_context() for _ in work]
            return list(pool.map(lambda context, item: context.run(function, item), contexts, work))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _processors() -> int:
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    if wanted.isascii() and wanted.isdigit() and int(wanted):
        return int(wanted)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
