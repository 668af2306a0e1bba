"""The cosine field of sounds: cells are cut into shorter ones where the sound changes fast (window switching)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import pairwise

import numpy as np

from ..errors import FormatError
from ..quantize import rate_optimal
from ..stream import Quantiser, TensorLayout
from .base import OnStep, Weights
from .bases import BLOCK_VALUES, Span
from .cosine import CosineField, Fitted, reconstructed
from .leaves import LeafCosines, best_splits, equal_leaves

__all__ = ["SwitchedField"]


@dataclass(frozen=True)
class SwitchedWeights:
    """line float32 [N, C], the weights of the leaves that cosines know, end to end."""

    line: np.ndarray
    cosines: LeafCosines


class SwitchedField(CosineField):
    """f(x) = Σ over leaves l, k of head[k, l] · cosine_{k, l}(x). Its first tensor says which cells are cut into which
    leaves; that depends on the quantiser, for long windows gain what few bits can say."""

    @property
    def layouts(self) -> tuple[TensorLayout, ...]:
        splits = TensorLayout("splits", "splits", 1, (2**self.spec.splits - 1,), self.grid.cells)
        (heads,) = super().layouts
        return (splits, replace(heads, split=True))

    def quantize(
        self, fitted: Fitted, quantiser: Quantiser, on_step: OnStep = lambda _: None
    ) -> tuple[np.ndarray, ...]:
        steps, runs = partial(self._step_sizes.at, quantiser), self._runs()
        splits = best_splits(fitted.samples, self.grid, self._equal_leaves, steps, runs)
        cosines, layout = LeafCosines(self.grid, splits), self.layouts[-1]
        scaled = np.zeros(layout.shape, np.float32)
        for cells in runs:
            span = self._samples(cells)
            line = cosines.analyse(fitted.samples, *span) / steps(cosines.frequencies(*span))
            for c, (a, b) in self._by_cell(cells):
                scaled[:, : b - a, c] = line[a - span[0] : b - span[0]].T
        return splits, rate_optimal(scaled, layout, fitted.tuning.trade, splits=splits[0])

    def dequantize(self, codes: Sequence[np.ndarray], quantiser: Quantiser) -> Weights:
        splits, heads = codes
        cosines = LeafCosines(self.grid, splits)
        line = np.zeros((self.signal.n_samples, self.signal.channels), np.float32)
        for cells in self._runs():
            if not heads[..., cells].any():  # nothing here, or not read: these pages stay untouched
                continue
            start, stop = self._samples(cells)
            for c, (a, b) in self._by_cell(cells):
                line[a:b] = reconstructed(heads[:, : b - a, c], quantiser).T
            line[start:stop] *= self._step_sizes.at(quantiser, cosines.frequencies(start, stop)).astype(np.float32)
        return SwitchedWeights(line, cosines)

    def check(self, codes: Sequence[np.ndarray]) -> None:
        flags = codes[0][0]
        if ((flags < 0) | (flags > 1)).any() or (flags[1:] > np.repeat(flags, 2, axis=0)[: len(flags) - 1]).any():
            raise FormatError("splits: a flag that is neither 0 nor 1, or of half a cell that is not cut")

    def correct(self, weights: Weights, axes: Sequence[np.ndarray], scale: Sequence[float]) -> Weights:
        return weights

    def render(self, weights: Weights, axes: Sequence[np.ndarray], scale: Sequence[float]) -> np.ndarray:
        return weights.cosines.synthesise(weights.line, axes[0], scale[0]) @ self._rotation

    def sample(self, weights: Weights, coords: np.ndarray) -> np.ndarray:
        run = max(1, BLOCK_VALUES // (2 * self.signal.channels * self.grid.largest[0]))
        blocks = [weights.cosines.sample(weights.line, coords[at : at + run, 0]) for at in range(0, len(coords), run)]
        return (np.concatenate(blocks) if blocks else np.zeros((0, self.signal.channels))) @ self._rotation

    @cached_property
    def _equal_leaves(self) -> list[LeafCosines]:
        """The same at every step that a rate search tries."""
        return equal_leaves(self.grid, self.spec.splits)

    def _samples(self, cells: slice) -> Span:
        """Those of a run of cells."""
        return self.grid.borders[0][cells.start], self.grid.borders[0][cells.stop]

    def _by_cell(self, cells: slice) -> Iterator[tuple[int, Span]]:
        """Each of a run, with its samples."""
        return enumerate(pairwise(self.grid.borders[0][cells.start : cells.stop + 1]), cells.start)
