"""Processes and threads for the parts of a large signal, or for whole files, where a caller asks for them."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache, partial
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:  # small signals must not wait for these
    from multiprocessing.connection import Connection

    from threadpoolctl import ThreadpoolController

__all__ = ["in_processes", "in_threads", "single_blas", "workers"]

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


class _Workers:
    """What a caller asked for."""

    def __init__(self, n: int) -> None:
        self.n = n
        self._pool: _Pool | None = None

    @property
    def started(self) -> bool:
        return self._pool is not None

    @property
    def pool(self) -> _Pool:
        self._pool = self._pool or _Pool(self.n)
        return self._pool

    def close(self, *, at_once: bool) -> None:
        if self._pool is not None:
            self._pool.close(at_once=at_once)


_asked: ContextVar[_Workers | None] = ContextVar("inrcodec_workers", default=None)


@contextmanager
def workers(n: int) -> Iterator[None]:
    """While this lasts, encoding and decoding in this thread use up to n processes for the tiles of large signals
    (1,024 × 1,024 samples of a picture as a rule), and n threads for runs of their rows. Results are the same for
    every n; memory grows by some 150 MiB a process. They start at the first signal of several tiles.

    As everywhere in Python, a script that starts processes wants `if __name__ == "__main__":` around what it runs.
    """
    if n < 1:
        raise ValueError(f"{n} workers: wanted 1 or more")
    asked = _Workers(n)
    token = _asked.set(asked if n > 1 else None)
    finished = False
    try:
        yield
        finished = True
    finally:
        _asked.reset(token)
        asked.close(at_once=not finished)


def in_processes(work: Callable[[T], R], tasks: Sequence[T], *, worth_a_start: bool = True) -> Iterator[R]:
    """work of every task, in order: in the processes that the caller has asked for, otherwise here. For what is many
    small numpy calls. worth_a_start: whether it takes longer than starting processes (a third of a second each)."""
    asked = _asked.get()
    if asked is None or len(tasks) < 2 or not (worth_a_start or asked.started):
        return map(work, tasks)
    return asked.pool.map(partial(_alone, work), tasks)


def _alone(work: Callable[[T], R], task: T) -> R:
    with single_blas():
        return work(task)


def in_threads(work: Callable[[T], R], tasks: Sequence[T]) -> list[R]:
    """work of every task: in as many threads as the caller has asked for workers, otherwise here. For what is few
    large numpy calls, which let the interpreter go."""
    asked = _asked.get()
    if asked is None or len(tasks) < 2:
        return [work(task) for task in tasks]
    from concurrent.futures import ThreadPoolExecutor

    import numpy as np

    ignored = np.geterr()  # a thread's own

    def quiet(task: T) -> R:
        with np.errstate(**ignored):
            return work(task)

    with single_blas(), ThreadPoolExecutor(asked.n) as threads:
        return list(threads.map(quiet, tasks))


_limited = threading.Lock()


@contextmanager
def single_blas() -> Iterator[None]:
    """While this lasts, numpy's matrix products have one thread each. Ours are small: two threads gain nothing, and as
    OpenBLAS waits for them busily, they take twenty times as long beside a program that keeps a core (docs/design.md).
    The limit is the process's; the thread that set it takes it back."""
    if not _limited.acquire(blocking=False):
        yield
        return
    try:
        with _blas().limit(limits=1):
            yield
    finally:
        _limited.release()


@cache
def _blas() -> ThreadpoolController:
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController().select(user_api="blas")


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
