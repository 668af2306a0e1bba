"""The two bases of the cosine field on all axes: tensor products of axis.py's functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..grid import Grid
from .axis import CosineAxis, SplineAxis, functions_at

__all__ = ["BLOCK_VALUES", "Cosines", "Span", "Splines", "cell_runs", "centres"]

BLOCK_VALUES = 2**22  # values analysed or synthesised at a time: bounds the float64 scratch

Span = tuple[int, int]  # start, stop


class Cosines:
    """The windowed cosines of a grid's cells; weights are heads [C, *frequencies, *cells]."""

    def __init__(self, grid: Grid) -> None:
        self._grid = grid

    def reach(self, cells: Sequence[Span]) -> tuple[Span, ...]:
        """Per axis the samples at which the functions of a run of cells live: half the smaller of two neighbours
        beyond their common border."""
        spans = []
        for b, sizes, (first, stop) in zip(self._grid.borders, self._grid.sizes, cells, strict=True):
            before = min(sizes[first - 1 : first + 1]) // 2 if first else 0
            after = min(sizes[stop - 1 : stop + 1]) // 2 if stop < len(sizes) else 0
            spans.append((b[first] - before, b[stop] + after))
        return tuple(spans)

    def analyse(self, values: np.ndarray, cells: Sequence[Span]) -> np.ndarray:
        """Values [*n, C] at the samples that cells reach -> heads [C, *frequencies, *cells]: the projection."""
        for b, (first, stop), x in zip(self._grid.borders, cells, centres(self.reach(cells)), strict=True):
            # [n_d, …] -> [m_d, M_d, …] -> both at the end; after all axes: [C, m_0, M_0, m_1, M_1, …]
            basis = CosineAxis(b, x)
            out = basis.analyse(values.reshape(values.shape[0], -1))
            out = out[first - basis.cells.start : stop - basis.cells.start]  # neighbours live there as well
            values = np.moveaxis(out.reshape(*out.shape[:2], *values.shape[1:]), (0, 1), (-2, -1))
        n = len(cells)
        return values.transpose(0, *(2 * d + 2 for d in range(n)), *(2 * d + 1 for d in range(n)))

    def synthesise(self, heads: np.ndarray, axes: Sequence[np.ndarray], scale: Sequence[float]) -> np.ndarray:
        """Heads -> values [*n, C] on a lattice; one axis after the other, last first."""
        bases = [CosineAxis(b, x, s) for b, x, s in zip(self._grid.borders, axes, scale, strict=True)]
        n = len(bases)
        chosen: tuple[Any, ...] = (..., *(b.cells for b in bases))
        x = heads[chosen].astype(np.float64)
        for d in reversed(range(n)):
            # x is [n_{d+1}, …, C, M_0 … M_d, m_0 … m_d]: bring M_d and m_d to the front
            done = n - 1 - d
            x = np.moveaxis(x, (x.ndim - 1, done + 1 + d), (0, 1))
            x = bases[d].synthesise(x.reshape(*x.shape[:2], -1)).reshape(-1, *x.shape[2:])
        return x

    def sample(self, heads: np.ndarray, coords: np.ndarray) -> np.ndarray:
        """Positions [N, D] -> values [N, C]: the two cells per axis that each position touches, contracted axis by
        axis with their functions there."""
        n_axes, n = coords.shape[1], len(coords)
        axes = [functions_at(b, x) for b, x in zip(self._grid.borders, coords.T, strict=True)]
        cells = [c.reshape(n, *(2 if d == i else 1 for i in range(n_axes))) for d, (c, _) in enumerate(axes)]
        # [C, M_0 …, N, 2, 2 …] -> [N, C, M_0 …, 2, 2 …]
        chosen: tuple[Any, ...] = (slice(None), *(slice(None),) * n_axes, *cells)
        x = np.moveaxis(heads[chosen], 1 + n_axes, 0).astype(np.float64)
        for d in reversed(range(n_axes)):
            # bring M_d and its pair of cells, the last of both runs, together at the end
            x = np.moveaxis(x, 2 + d, -1)
            x = np.einsum("n...sm,nsm->n...", x, axes[d][1])
        return x


class Splines:
    """The smooth level: uniform cubic B-splines on every axis; weights are knots [C, *knots]."""

    def __init__(self, axes: Sequence[SplineAxis]) -> None:
        self._axes = tuple(axes)

    @property
    def n_knots(self) -> tuple[int, ...]:
        """Per axis."""
        return tuple(axis.n_knots for axis in self._axes)

    def evaluate(self, knots: np.ndarray, axes: Sequence[np.ndarray]) -> np.ndarray:
        """Knots [C, *knots] -> values [*n, C]."""
        x = knots
        for axis, positions in zip(reversed(self._axes), reversed(list(axes)), strict=True):
            x = np.moveaxis(x, -1, 0)
            x = axis.evaluate(x.reshape(x.shape[0], -1), positions).reshape(-1, *x.shape[1:])
            # the evaluated axis stays in front; the next knots axis is again the last
        return x

    def project(
        self, samples: np.ndarray, sizes: Sequence[Sequence[int]] | None = None, stiffness: float = 0.0
    ) -> np.ndarray:
        """Least-squares knots [C, *knots] of samples [*shape, C], stiff as SplineAxis.project says; sizes, per axis:
        values [*cells, C] that cells of so many samples have throughout."""
        # one axis after the other
        for d, axis in enumerate(self._axes):
            flat = samples.reshape(samples.shape[0], -1)
            flat = flat if sizes is None else np.repeat(flat, sizes[d], axis=0)
            # each pass takes the first axis and moves it to the end
            samples = np.moveaxis(axis.project(flat, stiffness).reshape(-1, *samples.shape[1:]), 0, -1)
        return samples

    def sample(self, knots: np.ndarray, coords: np.ndarray) -> np.ndarray:
        """Positions [N, D] -> values [N, C]."""
        last = len(self._axes) - 1
        for d, axis in reversed(list(enumerate(self._axes))):
            rows = axis.evaluate(np.eye(axis.n_knots), coords[:, d])  # [N, knots]
            knots = np.einsum("c...k,nk->nc..." if d == last else "nc...k,nk->nc...", knots, rows)
        return knots


def centres(spans: Sequence[Span]) -> list[np.ndarray]:
    """Positions of the samples in spans."""
    return [np.arange(a, b) + 0.5 for a, b in spans]


def cell_runs(rows: Span, values_per_row: int) -> list[slice]:
    """Runs of rows of cells that are worked on at a time."""
    run = max(1, BLOCK_VALUES // max(1, values_per_row))
    return [slice(a, min(a + run, rows[1])) for a in range(rows[0], rows[1], run)]
