"""Adaptive frequency tables: one row per context, counts in integers, updated after every pass."""

from __future__ import annotations

import numpy as np

from .alphabet import N_SYMBOLS, merge, n_extra_bits, split
from .range_stream import PRECISION, Reader, Writer

__all__ = ["INCREMENT", "AdaptiveTables", "symbol_bits"]

# Weight of one coded symbol against the starting counts: rows of 2^13 as a rule, 2^15 and 2^12 for learned magnitudes
# and signs, 2^9 for plain weights.
INCREMENT = 32
LIMIT = 2**22  # a row whose counts pass this is halved: counts · 2^24 stay inside 63 bits, old statistics fade


def symbol_bits(counts: np.ndarray) -> np.ndarray:
    """Price of every symbol under rows of counts [..., N_SYMBOLS]; what was never seen is dear, not beyond price."""
    seen = counts + 0.02
    return np.asarray(-np.log2(seen / seen.sum(-1, keepdims=True)))


class AdaptiveTables:
    """counts: int64 [contexts, N_SYMBOLS], every entry >= 0 and every row sum >= 1. signed: whether values may be
    negative; where they may not, no signs are coded."""

    def __init__(self, counts: np.ndarray, *, signed: bool = True) -> None:
        self.counts, self._signed = counts.astype(np.int64), signed

    def write(self, out: Writer, contexts: np.ndarray, values: np.ndarray) -> None:
        """Code signed values [n] under contexts [n]: by context the symbols, then all extra bits, then signs."""
        order, present, spans = _grouped(contexts)
        symbols, extra = split(np.abs(values[order]))
        for table, span in zip(self._tables(present), spans, strict=True):
            out.put(symbols[span], table)
        bits = n_extra_bits(symbols)
        if int(bits.max(initial=0)):
            for b in np.unique(bits[bits > 0]):
                out.put_uniform(extra[bits == b], 1 << int(b)) if b <= 16 else _put_wide(out, extra[bits == b], int(b))
        if self._signed:
            ordered = values[order]
            out.put_uniform((ordered[ordered != 0] < 0).astype(np.int32), 2)
        self._learn(symbols, present, spans)

    def read(self, source: Reader, contexts: np.ndarray) -> np.ndarray:
        """Inverse of write: signed int32 values [n]."""
        order, present, spans = _grouped(contexts)
        symbols = np.empty(len(order), np.int32)
        for table, span in zip(self._tables(present), spans, strict=True):
            symbols[span] = source.get(span.stop - span.start, table)
        bits = n_extra_bits(symbols)
        extra = np.zeros(len(order), np.int32)
        if int(bits.max(initial=0)):
            for b in np.unique(bits[bits > 0]):
                n = int((bits == b).sum())
                extra[bits == b] = source.get_uniform(n, 1 << int(b)) if b <= 16 else _get_wide(source, n, int(b))
        signed = merge(symbols, extra)
        if self._signed:
            nonzero = signed != 0
            negative = source.get_uniform(int(nonzero.sum()), 2) == 1
            signed[nonzero] = np.where(negative, -signed[nonzero], signed[nonzero])
        values = np.empty(len(order), np.int32)
        values[order] = signed
        self._learn(symbols, present, spans)
        return values

    def _tables(self, contexts: np.ndarray) -> np.ndarray:
        """Rows -> float64 integers w that sum to 2^24 − N_SYMBOLS (see range_stream)."""
        rows = self.counts[contexts]
        w = rows * (2**PRECISION - N_SYMBOLS) // rows.sum(1, keepdims=True)
        w[np.arange(len(w)), w.argmax(1)] += 2**PRECISION - N_SYMBOLS - w.sum(1)
        return w.astype(np.float64)

    def _learn(self, symbols: np.ndarray, contexts: np.ndarray, spans: list[slice]) -> None:
        row = np.repeat(np.arange(len(contexts)), [span.stop - span.start for span in spans])
        seen = np.bincount(row * N_SYMBOLS + symbols, minlength=len(contexts) * N_SYMBOLS)
        rows = self.counts[contexts] + INCREMENT * seen.reshape(-1, N_SYMBOLS)
        while (full := rows.sum(1) > LIMIT).any():
            rows[full] -= rows[full] >> 1
        self.counts[contexts] = rows


def _grouped(contexts: np.ndarray) -> tuple[np.ndarray, np.ndarray, list[slice]]:
    """Stable order by context, the contexts that occur, and the run of each in that order."""
    order = np.argsort(contexts, kind="stable")
    counts = np.bincount(contexts)
    present = np.flatnonzero(counts)
    ends = np.cumsum(counts[present]).tolist()
    return order, present, [slice(a, b) for a, b in zip([0, *ends], ends, strict=False)]


def _put_wide(out: Writer, extra: np.ndarray, bits: int) -> None:
    out.put_uniform((extra >> 16).astype(np.int32), 1 << (bits - 16))
    out.put_uniform((extra & 0xFFFF).astype(np.int32), 1 << 16)


def _get_wide(source: Reader, n: int, bits: int) -> np.ndarray:
    high = source.get_uniform(n, 1 << (bits - 16)).astype(np.int32)
    return (high << 16) | source.get_uniform(n, 1 << 16).astype(np.int32)
