"""How coarsely the weights of a cosine field are stored: by frequency, and by how busy a region is."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from ..grid import Grid
from ..quantize import to_codes
from ..stream import EQUAL, STEP_UNIT, Quantiser
from .bases import Splines

__all__ = ["MASKING_UNIT", "SPLINE_STEP", "StepSizes"]

SPLINE_STEP = 1 / 4  # of the heads' step: an error here is seen over a whole neighbourhood
# Step sizes by region: the logarithm (base 2) of a cell's steps follows that of its detail by this much, within
# these bounds, and is stored in these units as one more channel of the smooth level.
MASKING_SHARE, MASKING_BOUND, MASKING_UNIT = 0.28, 0.6, 0.25


class StepSizes:
    """Those of one grid. A head's step is of_heads times masking of its cell."""

    def __init__(self, grid: Grid, splines: Splines, channels: int) -> None:
        self._grid, self._splines, self._channels = grid, splines, channels

    def of_knots(self, quantiser: Quantiser) -> float:
        # knots are values, heads are orthonormal: over M samples per axis a value weighs √M times as much
        return quantiser.steps[0] * STEP_UNIT * SPLINE_STEP

    def of_heads(self, quantiser: Quantiser) -> np.ndarray:
        """step(u, v), [C, *frequencies, 1, …]; [1, …] where all channels have the same."""
        factors = np.ones(1 if quantiser.second == EQUAL else self._channels)
        factors[1:2] = quantiser.second / EQUAL
        return np.multiply.outer(factors, self.at(quantiser, self._frequency))

    @staticmethod
    def at(quantiser: Quantiser, r: np.ndarray) -> np.ndarray:
        """q · (1 + γ r) at fractions r of Nyquist."""
        return quantiser.steps[0] * STEP_UNIT * (1 + quantiser.slope / 16 * r)

    @cached_property
    def _frequency(self) -> np.ndarray:
        """r, the root mean square over axes of (u + ½)/M: a fraction of Nyquist, [*frequencies, 1, …]."""
        squares = np.zeros(())
        for m in self._grid.largest:
            squares = np.add.outer(squares, ((np.arange(m) + 0.5) / m) ** 2)
        r = np.sqrt(squares / len(self._grid.largest))
        return r.reshape(*r.shape, *(1,) * r.ndim)

    def masking(self, codes: np.ndarray | None) -> np.ndarray:
        """Factor of every cell's steps, [1, …, *cells], from the masking channel [1, *knots] of the smooth level."""
        if codes is None:
            return np.ones(self._grid.cells)
        centres = [np.add(b[1:], b[:-1]) / 2 for b in self._grid.borders]
        exponent = self._splines.evaluate(np.clip(codes, -64, 64) * MASKING_UNIT, centres)[..., 0]
        return np.exp2(np.clip(exponent, -8, 8))

    def fit_masking(
        self, samples: np.ndarray, spline: np.ndarray, runs: Sequence[slice], stiffness: float
    ) -> np.ndarray:
        """Masking codes [1, *knots]: busy cells hide coarser steps, smooth ones show finer. Detail is what the smooth
        level leaves of the first channel, as root mean square per cell, on a scale where 1 is one 8-bit level. runs:
        of cells of the first axis, worked on at a time."""
        grid = self._grid
        energy = np.zeros(grid.cells)
        for cells in runs:
            edges = grid.borders[0][cells.start : cells.stop + 1]
            axes = [np.arange(edges[0], edges[-1]) + 0.5, *(np.arange(b[-1]) + 0.5 for b in grid.borders[1:])]
            detail = samples[edges[0] : edges[-1], ..., 0] - self._splines.evaluate(spline[:1], axes)[..., 0]
            total = np.add.reduceat(detail**2, np.asarray(edges[:-1]) - edges[0], axis=0)
            for d, b in enumerate(grid.borders[1:], 1):
                total = np.add.reduceat(total, b[:-1], axis=d)
            energy[cells] = total
        n = np.ones(())
        for sizes in grid.sizes:
            n = np.multiply.outer(n, sizes)
        log = MASKING_SHARE * np.log2(1 + 255 * np.sqrt(energy / n))
        log = np.clip(log - log.mean(), -MASKING_BOUND, MASKING_BOUND)
        return to_codes(np.rint(self._splines.project(log[..., None], grid.sizes, stiffness) / MASKING_UNIT))
