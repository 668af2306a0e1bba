"""Magnitudes of codes as symbols of a small alphabet plus raw bits."""

from __future__ import annotations

import numpy as np

__all__ = ["N_SYMBOLS", "merge", "n_extra_bits", "split"]

DIRECT = 16  # magnitudes below stand for themselves
MAX_BITS = 30  # magnitudes have at most this many bits
N_SYMBOLS = DIRECT + 2 * (MAX_BITS - 4)

# first magnitude of every symbol: 0 … 15, then two buckets per octave: 16, 24, 32, 48, 64, 96, …
_START = np.array([*range(DIRECT), *(s << (e - 1) for e in range(4, MAX_BITS) for s in (2, 3))], np.int64)
_BITS = np.array([0] * DIRECT + [e - 1 for e in range(4, MAX_BITS) for _ in (0, 1)], np.int64)


def split(magnitude: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Magnitudes >= 0 -> (symbols int32, extra int32 with n_extra_bits(symbol) bits each)."""
    symbol = np.minimum(magnitude, DIRECT - 1).astype(np.int32)
    large = magnitude >= DIRECT
    if large.any():
        symbol[large] = np.searchsorted(_START, magnitude[large], side="right") - 1
    return symbol, (magnitude - _START[symbol]).astype(np.int32)


def merge(symbol: np.ndarray, extra: np.ndarray) -> np.ndarray:
    """Inverse of split."""
    return (_START[symbol] + extra).astype(np.int32)


def n_extra_bits(symbol: np.ndarray) -> np.ndarray:
    """Raw bits that follow each symbol."""
    return _BITS[symbol]
