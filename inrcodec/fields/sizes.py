"""Which size of cells suits a picture at a step: large ones where it is smooth, or few bits are to be had."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from math import prod, sqrt

import numpy as np

from ..grid import Grid
from ..quantize import BIT
from ..stream import Quantiser
from .bases import Cosines, Span, Splines, centres
from .estimate import total
from .steps import StepSizes

__all__ = ["Picture", "suited_cells"]

SIZES = (20, 24, 28, 32)  # samples per axis, beside those of the grid that was fitted
FAVOUR = 0.01  # share of a picture's bytes that twice as large cells may cost more by the formula, for it errs
PIECE, MOST_SAMPLES = 128, 2**19  # samples per axis looked at in one piece of a large picture, and in all, about


@dataclass(frozen=True)
class Picture:
    """samples: rotated [*shape, C]; knots and masking (or None) of its smooth level."""

    samples: np.ndarray
    knots: np.ndarray
    masking: np.ndarray | None
    splines: Splines

    def detail(self, spans: Sequence[Span]) -> np.ndarray:
        """What the smooth level leaves of the samples in spans."""
        samples = self.samples[tuple(slice(*span) for span in spans)]
        return samples - self.splines.evaluate(self.knots, centres(spans))


def suited_cells(picture: Picture, grid: Grid, quantiser: Quantiser, *, quick: bool) -> tuple[int, ...]:
    """Cells per axis of the grid of least cost by the formula, less FAVOUR for every doubling of their size. grid: one
    of the rivals; quick: of only half the others."""
    counts = [tuple(round(n / size) for n in grid.shape) for size in SIZES[quick :: 1 + quick]]
    grids = [grid, *(Grid.uniform(grid.shape, c) for c in dict.fromkeys(counts) if min(c) > 1)]
    detail = lru_cache(maxsize=1)(picture.detail)  # of a small picture the same for all grids: the whole of it
    found = [_estimate(picture, detail, g, quantiser) for g in grids]
    own, bits = found[0]
    unit = max(BIT * bits, BIT * own, 1e-30)  # next to nothing may be coded
    gains = [
        (own - cost) / unit + FAVOUR * np.log2(grid.n_cells / g.n_cells) / len(grid.cells)
        for g, (cost, _) in zip(grids, found, strict=True)
    ]
    return grids[int(np.argmax(gains))].cells


def _estimate(
    picture: Picture, detail: Callable[[tuple[Span, ...]], np.ndarray], grid: Grid, quantiser: Quantiser
) -> tuple[float, float]:
    """Cost and bits per sample on a grid, by the formula, from pieces of the picture, whose `detail` it is."""
    steps, cosines = StepSizes(grid, picture.splines, picture.samples.shape[-1]), Cosines(grid)
    unit, factors = steps.of_heads(quantiser), steps.masking(picture.masking)
    cost = bits = n_samples = 0.0
    for cells in _pieces(grid):
        weights = cosines.analyse(detail(cosines.reach(cells)), cells)
        sizes = np.abs(weights) / (unit * factors[tuple(slice(*span) for span in cells)])
        of_piece = total(sizes)
        cost += of_piece[0]
        bits += of_piece[1]
        n_samples += prod(b[stop] - b[first] for b, (first, stop) in zip(grid.borders, cells, strict=True))
    return cost / n_samples, bits / n_samples


def _pieces(grid: Grid) -> Iterator[tuple[Span, ...]]:
    """Runs of cells on both axes: all of a small picture, of a large one pieces that lie evenly over it."""
    rows, columns = grid.shape
    if rows * columns <= MOST_SAMPLES:
        yield tuple((0, m) for m in grid.cells)
        return
    wanted = MOST_SAMPLES // PIECE**2
    most = (-(-rows // PIECE), -(-columns // PIECE))
    down = min(max(1, round(sqrt(wanted * rows / columns))), wanted, most[0])
    counts = (down, min(max(1, round(wanted / down)), most[1]))
    spans = [
        [_cells_at(b, max(0, round((i + 0.5) * n / k - PIECE / 2))) for i in range(k)]
        for b, n, k in zip(grid.borders, grid.shape, counts, strict=True)
    ]
    yield from product(*spans)


def _cells_at(borders: Sequence[int], start: int) -> Span:
    """The cells that begin in a piece from `start` on, at least one."""
    first = min(bisect_left(borders, start), len(borders) - 2)
    return first, max(min(bisect_left(borders, start + PIECE), len(borders) - 1), first + 1)
