"""What weights will cost in a file, by a formula: enough to choose cells by before anything is coded."""

from __future__ import annotations

import numpy as np

from ..quantize import BIT

__all__ = ["costs", "total"]

# The cost of a weight w steps large that is coded, less what .07 + BIT · (3 + 2 log2 |w|) leaves out: contexts. An
# estimate, but better to choose windows of sounds by than true prices in the contexts of equal ones
# (docs/compression.md).
ERROR, BITS, BITS_PER_OCTAVE = 0.07, 3.0, 2.0


def costs(sizes: np.ndarray) -> np.ndarray:
    """Of weights whose magnitudes are so many steps: squared error + BIT · bits, in squared steps, about."""
    return np.minimum(np.square(sizes), _coded(sizes))


def total(sizes: np.ndarray) -> tuple[float, float]:
    """Sum of `costs`, and of the bits in it. Few weights are worth coding: only theirs are worked out."""
    flat = sizes.ravel(order="K")
    squares = np.square(flat)
    large = np.flatnonzero(squares > ERROR + BIT * BITS)
    coded, zero = _coded(flat[large]), squares[large]
    worth = coded < zero
    return float(squares.sum() - (zero - coded)[worth].sum()), float((coded[worth] - ERROR).sum()) / BIT


def _coded(sizes: np.ndarray) -> np.ndarray:
    return np.asarray(ERROR + BIT * (BITS + BITS_PER_OCTAVE * np.log2(np.maximum(sizes, 0.5) + 0.5)))
