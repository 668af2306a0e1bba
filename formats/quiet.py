"""Keeps C libraries from writing to standard error."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator

__all__ = ["silence"]

_ONE_AT_A_TIME = threading.RLock()  # or two threads would put back each other's sink


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """libtiff and the MP3 decoder write notes on damaged data straight to file descriptor 2, where nothing in Python
    can catch them. Used around those alone: other threads' messages are lost for that time too."""
    with _ONE_AT_A_TIME:
        try:
            kept = os.dup(2)
        except OSError:  # closed: nothing to silence
            yield
            return
        try:
            sink = os.open(os.devnull, os.O_WRONLY)
            os.dup2(sink, 2)
            os.close(sink)
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
