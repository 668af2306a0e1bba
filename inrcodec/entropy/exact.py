"""Shared by the networks of learned contexts: whole numbers in float32, and classes of where a code stands."""

from __future__ import annotations

import numpy as np

__all__ = ["CAP", "EXACT", "LOG", "N_COLOURS", "POSITIONS", "folded", "rounded"]

EXACT = 2**23  # whole numbers below, and their halves, are exact in float32 whatever the order of a sum
POSITIONS = 16  # classes of a frequency per axis
CAP = 4095  # magnitudes and their sums as networks see them
# floor(8 · log2(1 + m)), by whole numbers alone
LOG = np.array([((1 + m) ** 8).bit_length() - 1 for m in range(CAP + 1)], np.uint8)
N_COLOURS = 3  # further colours count as the third


def folded(weights: np.ndarray, bias: np.ndarray, shift: int) -> tuple[np.ndarray, np.ndarray]:
    """Whole numbers -> float32 for `rounded(weights @ x + bias)`, which is then floor(y · 2^−shift + ½) of the whole
    numbers' y: powers of two and halves are as exact as they."""
    unit = 2.0**-shift
    return (weights * unit).astype(np.float32), (bias * unit + 0.5).astype(np.float32)


def rounded(y: np.ndarray, limit: int) -> np.ndarray:
    """floor(y), clipped to 0 … limit, in place."""
    np.floor(y, out=y)
    return np.clip(y, 0, limit, out=y)  # three times as fast as a maximum and a minimum
