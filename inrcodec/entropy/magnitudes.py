"""Magnitudes of codes as the contexts made by hand see them: sums of neighbours, in classes."""

from __future__ import annotations

import numpy as np

__all__ = ["N_CLASSES", "THRESHOLDS", "capped", "magnitude_class"]

# Lower ends of the classes of a weighted sum of neighbouring magnitudes, in quarters: 4 · (2^((i − ½)/3) − 1)
THRESHOLDS = (1, 2, 4, 5, 8, 11, 14, 19, 25, 33, 42, 54, 69, 88, 112, 142, 180, 227, 287)
_CLASS = np.searchsorted(THRESHOLDS, np.arange(THRESHOLDS[-1] + 1), side="right").astype(np.int16)
N_CLASSES = len(THRESHOLDS) + 1


def capped(values: np.ndarray) -> np.ndarray:
    """Magnitudes as contexts see them: beyond the last threshold all are alike, and sums stay inside int32."""
    return np.minimum(np.abs(values), THRESHOLDS[-1])


def magnitude_class(weighted: np.ndarray) -> np.ndarray:
    """Weighted sums of magnitudes, in quarters -> classes 0 … N_CLASSES − 1, int16; about three an octave."""
    return _CLASS[np.minimum(weighted, THRESHOLDS[-1])]
