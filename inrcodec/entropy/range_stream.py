"""Symbols under integer tables to a range-coded byte string and back: one stream per chunk.

The stream is that of constriction's queue RangeEncoder (32-bit words, 64-bit state, 24-bit probabilities), words
little-endian, trailing zero bytes dropped. `PlainDecoder` is the normative description of it, and what runs where
constriction has no wheel. A table is a row of float64 integers w >= 0 with Σ w = 2^24 − len(w): symbol i has the
frequency w_i + 1 out of 2^24.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

try:
    import constriction
except ImportError:  # no wheel on this platform
    constriction = None

from ..errors import FormatError

__all__ = ["PRECISION", "PlainDecoder", "PlainEncoder", "Reader", "Writer", "reader", "writer"]

PRECISION = 24
_WORD = 2**32
_MASK = 2**64 - 1


class Writer(Protocol):
    def put(self, symbols: np.ndarray, table: np.ndarray) -> None: ...
    def put_uniform(self, symbols: np.ndarray, size: int) -> None: ...
    def bytes(self) -> bytes: ...


class Reader(Protocol):
    def get(self, n: int, table: np.ndarray) -> np.ndarray: ...
    def get_uniform(self, n: int, size: int) -> np.ndarray: ...


def writer() -> Writer:
    return PlainEncoder() if constriction is None else _FastEncoder()


def reader(data: bytes) -> Reader:
    return PlainDecoder(data) if constriction is None else _FastDecoder(data)


class _FastEncoder:
    def __init__(self) -> None:
        self._coder = constriction.stream.queue.RangeEncoder()

    def put(self, symbols: np.ndarray, table: np.ndarray) -> None:
        self._coder.encode(symbols, constriction.stream.model.Categorical(table, perfect=False))

    def put_uniform(self, symbols: np.ndarray, size: int) -> None:
        self._coder.encode(symbols, constriction.stream.model.Uniform(size))

    def bytes(self) -> bytes:
        return bytes(self._coder.get_compressed().astype("<u4").tobytes().rstrip(b"\0"))


class _FastDecoder:
    def __init__(self, data: bytes) -> None:
        self._coder = constriction.stream.queue.RangeDecoder(_words(data))

    def get(self, n: int, table: np.ndarray) -> np.ndarray:
        return self._decode(constriction.stream.model.Categorical(table, perfect=False), n)

    def get_uniform(self, n: int, size: int) -> np.ndarray:
        return self._decode(constriction.stream.model.Uniform(size), n)

    def _decode(self, model: object, n: int) -> np.ndarray:
        try:
            return self._coder.decode(model, n)
        except Exception:  # "invalid compressed data": an AssertionError or ValueError by version
            raise FormatError("range-coded payload is damaged") from None
        except BaseException as error:  # constriction's panics do not derive from Exception
            if type(error).__name__ != "PanicException":
                raise
            raise FormatError("range-coded payload is damaged") from None


class PlainEncoder:
    """The same words from plain Python: `lower` and `range` are 64 bits, a carry runs back through the words."""

    def __init__(self) -> None:
        self._words: list[int] = []
        self._lower, self._range = 0, _MASK

    def put(self, symbols: np.ndarray, table: np.ndarray) -> None:
        frequency = [int(w) + 1 for w in table]
        start = np.concatenate([[0], np.cumsum(frequency)]).tolist()
        for s in symbols.tolist():
            self._narrow(start[s], frequency[s], self._range >> PRECISION)

    def put_uniform(self, symbols: np.ndarray, size: int) -> None:
        share = 2**PRECISION // size
        for s in symbols.tolist():
            width = share if s < size - 1 else 2**PRECISION - share * (size - 1)
            self._narrow(s * share, width, self._range >> PRECISION)

    def _narrow(self, start: int, width: int, unit: int) -> None:
        self._lower += start * unit
        self._range = width * unit
        if self._range < _WORD:
            self._emit(self._lower >> 32)
            self._lower = (self._lower & (_WORD - 1)) << 32
            self._range <<= 32
        elif self._lower > _MASK:
            self._carry()
            self._lower &= _MASK

    def _emit(self, word: int) -> None:
        if word >= _WORD:
            self._carry()
        self._words.append(word & (_WORD - 1))

    def _carry(self) -> None:
        i = len(self._words) - 1
        while self._words[i] == _WORD - 1:
            self._words[i] = 0
            i -= 1
        self._words[i] += 1

    def bytes(self) -> bytes:
        words = list(self._words)
        if self._range != _MASK or words:
            # the shortest point inside [lower, lower + range): one word if its rounding up fits, else two
            point = -(-self._lower // _WORD) * _WORD
            if point >= self._lower + self._range:
                point = self._lower
            saved, self._words = self._words, words
            self._emit(point >> 32)
            if point & (_WORD - 1):
                self._emit(point & (_WORD - 1))
            self._words = saved
        return np.array(words, "<u4").tobytes().rstrip(b"\0")


class PlainDecoder:
    """The normative decoder. Words past the end read as 0."""

    def __init__(self, data: bytes) -> None:
        self._words = _words(data).tolist()
        self._at = 2
        first, second = (*self._words, 0, 0)[:2]
        self._point = (first << 32) | second  # distance of the encoded point from the interval's lower end
        self._range = _MASK

    def get(self, n: int, table: np.ndarray) -> np.ndarray:
        start = np.concatenate([[0], np.cumsum(table.astype(np.int64) + 1)])
        out = np.empty(n, np.int32)
        for i in range(n):
            unit = self._range >> PRECISION
            s = int(np.searchsorted(start, self._quantile(unit), side="right")) - 1
            self._narrow(int(start[s]), int(start[s + 1] - start[s]), unit)
            out[i] = s
        return out

    def get_uniform(self, n: int, size: int) -> np.ndarray:
        share = 2**PRECISION // size
        out = np.empty(n, np.int32)
        for i in range(n):
            unit = self._range >> PRECISION
            s = min(self._quantile(unit) // share, size - 1)
            width = share if s < size - 1 else 2**PRECISION - share * (size - 1)
            self._narrow(s * share, width, unit)
            out[i] = s
        return out

    def _quantile(self, unit: int) -> int:
        quantile = self._point // unit
        if quantile >= 2**PRECISION:
            raise FormatError("range-coded payload is damaged")
        return quantile

    def _narrow(self, start: int, width: int, unit: int) -> None:
        self._point -= start * unit
        self._range = width * unit
        if self._range < _WORD:
            word = self._words[self._at] if self._at < len(self._words) else 0
            self._at += 1
            self._point = ((self._point << 32) | word) & _MASK
            self._range <<= 32


def _words(data: bytes) -> np.ndarray:
    return np.frombuffer(data + b"\0" * (-len(data) % 4), "<u4").astype(np.uint32)
