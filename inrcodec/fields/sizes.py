"""Which size of cells suits a picture at a step: large ones where it is smooth, or few bits are to be had."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..grid import Grid
from ..quantize import BIT
from ..stream import Quantiser
from .bases import Cosines, Span, Splines, centres
from .estimate import ERROR, costs
from .steps import StepSizes

__all__ = ["Picture", "suited_cells"]

SIZES = (20, 24, 28, 32)  # samples per axis, beside those of the grid that was fitted
FAVOUR = 0.01  # share of a picture's bytes that twice as large cells may cost more by the formula, for it errs
STRIP, MOST_SAMPLES = 96, 2**19  # rows looked at in one piece; samples looked at in all, about


@dataclass(frozen=True)
class Picture:
    """samples: rotated [*shape, C]; knots and masking (or None) of its smooth level."""

    samples: np.ndarray
    knots: np.ndarray
    masking: np.ndarray | None
    splines: Splines


def suited_cells(picture: Picture, grid: Grid, quantiser: Quantiser) -> tuple[int, ...]:
    """Cells per axis of the grid of least cost by the formula, less FAVOUR for every doubling of their size. grid: one
    of the rivals."""
    counts = [tuple(round(n / size) for n in grid.shape) for size in SIZES]
    grids = [grid, *(Grid.uniform(grid.shape, c) for c in dict.fromkeys(counts) if min(c) > 1)]
    found = [_estimate(picture, g, quantiser) for g in grids]
    own, bits = found[0]
    gains = [
        (own - cost) / max(BIT * bits, 1e-30) + FAVOUR * np.log2(grid.n_cells / g.n_cells) / len(grid.cells)
        for g, (cost, _) in zip(grids, found, strict=True)
    ]
    return grids[int(np.argmax(gains))].cells


def _estimate(picture: Picture, grid: Grid, quantiser: Quantiser) -> tuple[float, float]:
    """Cost and bits per sample on a grid, by the formula, from strips of rows."""
    steps, cosines = StepSizes(grid, picture.splines), Cosines(grid)
    unit, factors = steps.of_heads(quantiser), steps.masking(picture.masking)
    cost = bits = n_samples = 0.0
    for rows in _strips(grid):
        cells = (rows, *((0, m) for m in grid.cells[1:]))
        spans = cosines.reach(cells)
        values = picture.samples[slice(*spans[0])] - picture.splines.evaluate(picture.knots, centres(spans))
        sizes = np.abs(cosines.analyse(values, cells)) / (unit * factors[slice(*rows)])
        each = costs(sizes)
        cost += float(each.sum())
        bits += float((each[each < sizes**2] - ERROR).sum()) / BIT
        borders = grid.borders[0]
        n_samples += (borders[rows[1]] - borders[rows[0]]) * float(np.prod(grid.shape[1:]))
    return cost / n_samples, bits / n_samples


def _strips(grid: Grid) -> Iterator[Span]:
    """Runs of rows of cells, evenly over the picture: all of a small one, fewer of large ones."""
    n, borders = grid.shape[0], np.asarray(grid.borders[0])
    every = max(1, round(n * float(np.prod(grid.shape[1:])) / MOST_SAMPLES))
    for start in range(0, n, STRIP * every):
        first, stop = np.searchsorted(borders, [start, start + STRIP]).tolist()
        if (stop := min(stop, grid.cells[0])) > first:
            yield first, stop
