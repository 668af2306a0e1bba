"""Processes and threads for the parts of a large signal, or for whole files, where a caller asks for them."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import cache, partial
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:  # small signals must not wait for these
    from multiprocessing.connection import Connection

    from threadpoolctl import ThreadpoolController

__all__ = ["MANY_CODES", "WorkerKilledError", "in_processes", "in_threads", "single_blas", "workers"]

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")  # read by the children as they start
EXIT_ABANDONED = 5
MOST = 60  # processes: Windows waits for 63 handles at most
AHEAD = 2  # tasks per process that may be done before the first of them is asked for: bounds the results that wait
MANY_CODES = 2**21  # take a second or two to choose or to write

T = TypeVar("T")
R = TypeVar("R")


class WorkerKilledError(MemoryError):
    """A process ended before its work was done: systems that are short of memory kill the largest."""


class _Pool:
    """Up to n processes, started as work comes in, each at the end of a pipe of its own. What they run and are given is
    pickled. They ignore Ctrl-C, and end with the pool or with this process, however that ends."""

    def __init__(self, n: int) -> None:
        self.n = min(n, MOST)
        self._threads = str(max(1, (os.cpu_count() or 1) // n))
        self._idle: list[_Worker] = []
        self._closed = False

    def map(self, work: Callable[[T], R], items: Sequence[T]) -> Iterator[R]:
        """Results in the order of items. Raises what work does, WorkerKilledError, and RuntimeError where processes
        cannot start."""
        from multiprocessing.connection import wait

        busy: dict[Any, tuple[_Worker, int]] = {}  # by pipe, and the item each is at
        found: dict[int, tuple[bool, Any]] = {}
        given = 0
        try:
            self._start(min(self.n, len(items)))
            for i in range(len(items)):
                while i not in found:
                    while self._idle and given < min(len(items), i + AHEAD * self.n):
                        worker = self._idle.pop()
                        busy[worker.pipe] = worker, given
                        worker.send((work, items[given]))
                        given += 1
                    for pipe in wait(list(busy)):
                        worker, at = busy[pipe]
                        found[at] = worker.receive()
                        del busy[pipe]
                        self._idle.append(worker)
                done, result = found.pop(i)
                if not done:
                    raise result
                yield result
        finally:
            for worker, _ in busy.values():  # left before the end: nobody waits for what they are at
                worker.end()

    @property
    def is_started(self) -> bool:
        return bool(self._idle)

    def close(self) -> None:
        self._closed = True
        while self._idle:
            self._idle.pop().end()

    def _start(self, n: int) -> None:
        """All at once: a first task is only taken by a process that has come up."""
        if self._closed:
            raise RuntimeError("workers() has ended")
        with _inherited(self._threads):
            while len(self._idle) < n:
                self._idle.append(_Worker())


class _Worker:
    """A process that answers (work, item) with (True, work(item)) or (False, the error), one after the other."""

    def __init__(self) -> None:
        import multiprocessing

        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()
        self._started = False

    def send(self, task: object) -> None:
        # one that is gone shows when its answer is read
        with suppress(BrokenPipeError, ConnectionResetError):
            self.pipe.send(task)

    def receive(self) -> tuple[bool, Any]:
        try:
            if not self._started:
                self._started = self.pipe.recv()
            answer: tuple[bool, Any] = self.pipe.recv()
            return answer
        except (EOFError, OSError):
            if self._started:
                raise WorkerKilledError("a process was killed, probably for want of memory") from None
            raise RuntimeError(
                'processes cannot start; a script that uses workers() wants `if __name__ == "__main__":`'
            ) from None

    def end(self) -> None:
        self.pipe.close()
        self._process.terminate()
        self._process.join()


def _serve(pipe: Connection) -> None:
    """What a worker does until its pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with suppress(EOFError, OSError):
        pipe.send(True)
        while True:
            work, item = pipe.recv()
            try:
                answer = (True, work(item))
            except Exception as error:
                answer = (False, error)
            try:
                pipe.send(answer)
            except OSError:
                raise
            except Exception as error:  # what cannot be pickled
                pipe.send((False, RuntimeError(f"{type(error).__name__}: {error}")))


def _end_with_parent() -> None:
    """Even a parent that was killed leaves no process behind."""
    import multiprocessing
    from multiprocessing.connection import wait

    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(EXIT_ABANDONED)


_asked: ContextVar[_Pool | None] = ContextVar("inrcodec_workers", default=None)


@contextmanager
def workers(n: int) -> Iterator[None]:
    """While this lasts, encoding and decoding in this thread use up to n processes for the tiles of large signals
    (of a picture 1,024 to 2,048 samples a side as a rule), and n threads for runs of their rows. Results are the same
    for every n; memory grows by some 300 MiB a worker. Processes start at the first signal that is worth it.

    As everywhere in Python, a script that starts processes wants `if __name__ == "__main__":` around what it runs.
    """
    if n < 1:
        raise ValueError(f"{n} workers: wanted 1 or more")
    pool = _Pool(n)
    token = _asked.set(pool if n > 1 else None)
    try:
        yield
    finally:
        _asked.reset(token)
        pool.close()


def in_processes(
    work: Callable[[T], R], tasks: Sequence[T], *, worth_a_start: bool = True, one_blas_thread: bool = True
) -> Iterator[R]:
    """work of every task, in order: in the processes that the caller has asked for, otherwise here. For what is many
    small numpy calls. worth_a_start: whether it takes longer than starting processes (a third of a second each).
    one_blas_thread: see single_blas."""
    pool = _asked.get()
    if pool is None or len(tasks) < 2 or not (worth_a_start or pool.is_started):
        return map(work, tasks)
    return pool.map(partial(_with_one_thread, work) if one_blas_thread else work, tasks)


def _with_one_thread(work: Callable[[T], R], task: T) -> R:
    with single_blas():
        return work(task)


def in_threads(work: Callable[[T], R], tasks: Sequence[T]) -> list[R]:
    """work of every task: in as many threads as the caller has asked for workers, otherwise here. For what is few
    large numpy calls, which let the interpreter go."""
    pool = _asked.get()
    if pool is None or len(tasks) < 2:
        return [work(task) for task in tasks]
    from concurrent.futures import ThreadPoolExecutor

    import numpy as np

    ignored = np.geterr()  # a thread's own

    def quiet(task: T) -> R:
        with np.errstate(**ignored):
            return work(task)

    with single_blas(), ThreadPoolExecutor(pool.n) as threads:
        return list(threads.map(quiet, tasks))


_limited = threading.Lock()


@contextmanager
def single_blas() -> Iterator[None]:
    """While this lasts, numpy's matrix products have one thread each. Ours are small: two threads gain nothing, and as
    OpenBLAS waits for them busily, they take twenty times as long beside a busy program of another session
    (docs/design.md). The limit is the process's; the thread that set it takes it back."""
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
    import numpy  # noqa: F401  (whose library is to be found)
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
