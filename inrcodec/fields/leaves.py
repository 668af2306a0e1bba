"""Cells of a sound cut in halves, and these again, where it changes too fast for long windows; their cosines.

The idea is window switching (Edler 1989), with a binary tree per cell instead of one choice between two lengths.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate, chain

import numpy as np

from ..entropy.splits import leaf_sizes
from ..grid import Grid
from .axis import CosineAxis, functions_at
from .bases import centres
from .estimate import costs

__all__ = ["LeafCosines", "best_splits", "equal_leaves", "split_levels"]

SMALLEST = 32  # samples of a leaf at least
SPLIT_COST = 1.0  # squared steps: about its flags


def split_levels(grid: Grid, most: int) -> int:
    """So many times the smallest cell can be halved."""
    return min(most, max(0, (min(grid.sizes[0]) // SMALLEST).bit_length() - 1))


class LeafCosines:
    """The windowed cosines of the leaves of a sound's cells. Their weights lie in a line [N, C], leaf after leaf: that
    of samples [a, b) has a … b, by frequency."""

    def __init__(self, grid: Grid, splits: np.ndarray) -> None:
        """splits: flags [1, 2^levels − 1, cells], see entropy.splits."""
        sizes = chain.from_iterable(leaf_sizes(splits[0], grid.sizes[0]))
        self.borders = np.fromiter(accumulate(sizes, initial=0), np.int64)  # of leaves

    def analyse(self, samples: np.ndarray, start: int, stop: int) -> np.ndarray:
        """All samples [N, C] -> the weights [stop − start, C] of whole leaves, which begin at start: the projection."""
        first, last = np.searchsorted(self.borders, [start, stop])
        begin, end = self.borders[max(first - 1, 0)], self.borders[min(last + 1, len(self.borders) - 1)]
        basis = CosineAxis(self.borders, centres([(begin, end)])[0])
        line = basis.analyse_line(samples[begin:end].astype(np.float64))
        return line[start - basis.extent[0] : stop - basis.extent[0]]

    def synthesise(self, line: np.ndarray, x: np.ndarray, scale: float) -> np.ndarray:
        """Weights -> values [n, C] at sorted positions x."""
        return CosineAxis(self.borders, x, scale).synthesise_line(line)

    def sample(self, line: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Weights -> values [n, C] at positions x [n], few at a time."""
        leaves, values = functions_at(self.borders, x)  # [n, 2], [n, 2, M]
        at = self.borders[leaves][..., None] + np.arange(values.shape[2])
        return np.einsum("nsm,nsmc->nc", values, line[np.minimum(at, len(line) - 1)])  # beyond a leaf's they are 0

    def frequencies(self, start: int, stop: int) -> np.ndarray:
        """Of the weights of whole leaves, as fractions of Nyquist [stop − start, 1]."""
        first, last = np.searchsorted(self.borders, [start, stop])
        edges = self.borders[first : last + 1]
        sizes = np.diff(edges)
        k = np.arange(start, stop) - np.repeat(edges[:-1], sizes)
        return np.asarray((k + 0.5) / np.repeat(sizes, sizes))[:, None]


def best_splits(
    samples: np.ndarray,
    grid: Grid,
    everywhere: Sequence[LeafCosines],
    steps: Callable[[np.ndarray], np.ndarray],
    runs: Sequence[slice],
) -> np.ndarray:
    """Flags int32 [1, 2^levels − 1, cells] for samples [N, C]; everywhere: `equal_leaves`; steps: fractions of Nyquist
    -> steps.

    Every level is looked at with equal windows throughout; then halves are kept where the two cost less than the whole,
    from the finest level up. runs: of cells, worked on at a time.
    """
    flags = np.zeros((1, 2 ** (len(everywhere) - 1) - 1, grid.n_cells), np.int32)
    for cells in runs:
        start, stop = grid.borders[0][cells.start], grid.borders[0][cells.stop]
        costs = [_costs(samples, cosines, start, stop, steps) for cosines in everywhere]
        best, cut = costs.pop(), []
        for whole in reversed(costs):
            halves = best.reshape(-1, 2).sum(1) + SPLIT_COST
            cut.append(halves < whole)
            best = np.minimum(halves, whole)
        there = np.ones(cells.stop - cells.start, bool)  # nodes whose parent is cut
        for level, pays in enumerate(reversed(cut)):
            there = there & pays
            flags[0, 2**level - 1 : 2 ** (level + 1) - 1, cells] = there.reshape(-1, 2**level).T
            there = np.repeat(there, 2)
    return flags


def equal_leaves(grid: Grid, levels: int) -> list[LeafCosines]:
    """Of all cells cut 0, 1, … levels times."""
    return [LeafCosines(grid, np.ones((1, 2**level - 1, grid.n_cells), np.int32)) for level in range(levels + 1)]


def _costs(
    samples: np.ndarray, cosines: LeafCosines, start: int, stop: int, steps: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """Of the leaves from start to stop, as `costs`."""
    sizes = np.abs(cosines.analyse(samples, start, stop)) / steps(cosines.frequencies(start, stop))
    first, last = np.searchsorted(cosines.borders, [start, stop])
    return np.add.reduceat(costs(sizes).sum(1), cosines.borders[first:last] - start)
