"""Shared by the networks of learned contexts: whole numbers in float32, and classes of where a code stands."""

from __future__ import annotations

import numpy as np

__all__ = ["EXACT", "N_COLOURS", "POSITIONS", "activate"]

EXACT = 2**23  # whole numbers below, and their halves, are exact in float32 whatever the order of a sum
POSITIONS = 16  # classes of a frequency per axis
N_COLOURS = 3  # further colours count as the third


def activate(y: np.ndarray, shift: int, limit: int) -> np.ndarray:
    """floor(y · 2^−shift + ½), clipped to 0 … limit, in place; y: whole numbers below EXACT."""
    y *= np.float32(2.0**-shift)
    y += np.float32(0.5)
    np.floor(y, out=y)
    return np.clip(y, 0, limit, out=y)
