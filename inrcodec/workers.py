"""Processes beside this one: for the tiles of a large signal, or for whole files.

Threads do not help tiles, which are many small numpy calls that hold the interpreter (docs/design.md).
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:  # small signals must not wait for it
    from multiprocessing.connection import Connection

__all__ = ["spread", "workers"]

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")  # read by the children as they start
EXIT_ABANDONED = 5

T = TypeVar("T")
R = TypeVar("R")


class _Pool:
    """Up to n processes, started as work comes in. What they run and are given is pickled. They ignore Ctrl-C, and end
    with the pool or with this process, however that ends."""

    def __init__(self, n: int) -> None:
        import multiprocessing
        from concurrent.futures import ProcessPoolExecutor

        self._stop, self._ended = multiprocessing.Pipe(duplex=False)
        context = multiprocessing.get_context("spawn")
        self._executor = ProcessPoolExecutor(n, context, _end_with, (self._stop,))
        self._threads = str(max(1, (os.cpu_count() or 1) // n))

    def map(self, work: Callable[[T], R], items: Sequence[T]) -> Iterator[R]:
        """Results in the order of items. Raises what work does, MemoryError where a process was killed."""
        from concurrent.futures.process import BrokenProcessPool

        with _inherited(self._threads):
            futures = [self._executor.submit(work, item) for item in items]
        try:
            while futures:
                yield futures.pop(0).result()
        except BrokenProcessPool:
            raise MemoryError("a process was killed, probably for want of memory; --jobs 1 needs less") from None
        finally:
            for future in futures:
                future.cancel()

    def close(self, *, at_once: bool = False) -> None:
        """at_once: without waiting for what is under way."""
        self._executor.shutdown(wait=not at_once, cancel_futures=True)
        self._ended.close()
        self._stop.close()


_pool: ContextVar[Callable[[], _Pool] | None] = ContextVar("inrcodec_workers", default=None)


@contextmanager
def workers(n: int) -> Iterator[None]:
    """While this lasts, encoding and decoding in this thread work on the tiles of large signals (1,024 × 1,024 samples
    of a picture as a rule) in up to n processes. Results are the same for every n; memory grows by some 150 MiB a
    process. They start at the first signal of several tiles.

    As everywhere in Python, a script that starts processes wants `if __name__ == "__main__":` around what it runs.
    """
    if n < 1:
        raise ValueError(f"{n} processes: wanted 1 or more")
    made: list[_Pool] = []

    def pool() -> _Pool:
        if not made:
            made.append(_Pool(n))
        return made[0]

    token = _pool.set(pool if n > 1 else None)
    finished = False
    try:
        yield
        finished = True
    finally:
        _pool.reset(token)
        for one in made:
            one.close(at_once=not finished)


def spread(work: Callable[[T], R], tasks: Sequence[T]) -> Iterator[R]:
    """work of every task, in order: in the processes that the caller has asked for, otherwise here."""
    pool = _pool.get()
    return map(work, tasks) if pool is None or len(tasks) < 2 else pool().map(work, tasks)


@contextmanager
def _inherited(threads: str) -> Iterator[None]:
    """What processes that start meanwhile take over: so many threads for matrix products, and that Ctrl-C is ignored,
    of which each would print a traceback."""
    before = {name: os.environ.get(name) for name in THREADS}
    os.environ.update({name: threads for name, value in before.items() if value is None})
    main = threading.current_thread() is threading.main_thread()  # nobody else may touch handlers
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN) if main else None
    try:
        yield
    finally:
        if main:
            signal.signal(signal.SIGINT, signal.default_int_handler if handler is None else handler)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)


def _end_with(stop: Connection) -> None:
    """In a child: ends it when the pool's end of the pipe is closed, by close() or because its process is gone."""

    from multiprocessing.connection import wait

    def watch() -> None:
        wait([stop])
        os._exit(EXIT_ABANDONED)

    threading.Thread(target=watch, daemon=True).start()
