"""What weights will cost in a file, by a formula: enough to choose cells by before anything is coded."""

from __future__ import annotations

import numpy as np

from ..quantize import BIT

__all__ = ["ERROR", "costs"]

# The cost of a weight w steps large that is coded, less what .07 + BIT · (3 + 2 log2 |w|) leaves out: contexts. An
# estimate, but better to choose windows of sounds by than true prices in the contexts of equal ones
# (docs/compression.md).
ERROR, BITS, BITS_PER_OCTAVE = 0.07, 3.0, 2.0


def costs(sizes: np.ndarray) -> np.ndarray:
    """Of weights whose magnitudes are so many steps: squared error + BIT · bits, in squared steps, about."""
    result = np.square(sizes)
    large = np.nonzero(result > ERROR + BIT * BITS)  # others are not coded: few logarithms are needed
    coded = ERROR + BIT * (BITS + BITS_PER_OCTAVE * np.log2(sizes[large] + 0.5))
    result[large] = np.minimum(result[large], coded)
    return result
