"""Turns positions into cells and local coordinates, and samples into the cells' padded rows.

Cell [a, b) of M = b - a samples has local coordinate u = 2 (x - a) / M - 1: sample centres i + 1/2 lie inside
(-1, 1), those of neighbouring cells one pitch apart, and a cell of one sample has its centre at 0.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..grid import Grid

__all__ = [
    "Block",
    "Runs",
    "axis_runs",
    "cell_blocks",
    "corner_coordinates",
    "gather",
    "lattice_blocks",
    "local_coordinates",
    "point_blocks",
]

# Local coordinates are whole multiples of this: positions that differ by rounding get the same coordinate, hence
# cells at the same phase share features, and a point has the same value however it was asked for.
COORDINATE_UNIT = 2.0**-32
RUN_LIMIT = {1: 4096, 2: 64, 3: 16}  # positions per axis of one run, by axes: bounds what is evaluated at once


@dataclass(frozen=True)
class Runs:
    """Positions of one axis cut into R runs inside one cell each. index [R, L]: which positions; a run shorter than L
    repeats its last one. local [R, L]: their coordinates. cells [R]."""

    cells: np.ndarray
    index: np.ndarray
    local: np.ndarray


@dataclass(frozen=True)
class Block:
    """Positions to evaluate at once: cells int [B] (row-major), coords [B, D, N], index [B, N] into the flat result."""

    cells: np.ndarray
    coords: np.ndarray
    index: np.ndarray


def local_coordinates(borders: Sequence[int], x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions x [N] -> (cells [N], local coordinates [N]); outside of the axis the end cells go on."""
    edges = np.asarray(borders, np.int64)
    cells = np.clip(np.searchsorted(edges, x, side="right") - 1, 0, len(edges) - 2)
    start = edges[cells]
    u = 2 * (np.asarray(x, np.float64) - start) / (edges[cells + 1] - start) - 1
    return cells, np.rint(u / COORDINATE_UNIT) * COORDINATE_UNIT


def gather(samples: np.ndarray, grid: Grid) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Samples [*shape, C] -> values float32 [G, C, N], coords float32 [G, D, N], mask bool [G, N].

    N: samples of the largest cell. Smaller cells repeat their last row, column, …, where the mask is False.
    """
    channels = samples.shape[-1]
    runs = [axis_runs(b, np.arange(b[-1]) + 0.5, b[-1]) for b in grid.borders]
    flat = samples.reshape(-1, channels)
    (block,) = _blocks(runs, grid.cells, grid.n_cells, grid.shape)
    sizes = [np.asarray(s) for s in grid.sizes]
    mask: np.ndarray = np.asarray(True)
    for axis, n in enumerate(grid.largest):
        inside = np.arange(n) < sizes[axis][:, None]  # [cells, M]
        mask = mask[..., None, None] & inside
    d = len(sizes)
    order = (*range(0, 2 * d, 2), *range(1, 2 * d, 2))
    mask = mask.transpose(order).reshape(grid.n_cells, -1)
    values = np.ascontiguousarray(flat[block.index].transpose(0, 2, 1), np.float32)
    return values, block.coords.astype(np.float32), mask


def corner_coordinates(grid: Grid) -> np.ndarray:
    """ENRP's coordinates of the samples that `gather` gives, float32 [G, D, N]: linspace(-1, 1) over each cell, so that
    its outermost sample centres lie at ±1, whence neighbours' borders share a coordinate; -1 in a cell of one sample.
    """
    runs = []
    for borders in grid.borders:
        run = axis_runs(borders, np.arange(borders[-1]) + 0.5, borders[-1])
        edges = np.asarray(borders)[:, None]
        place, size = run.index - edges[run.cells], edges[run.cells + 1] - edges[run.cells]
        runs.append(replace(run, local=2 * place / np.maximum(size - 1, 1) - 1))
    (block,) = _blocks(runs, grid.cells, grid.n_cells, grid.shape)
    return block.coords.astype(np.float32)


def axis_runs(borders: Sequence[int], x: np.ndarray, limit: int) -> Runs:
    """Cut positions x into runs of at most `limit` neighbours in x that lie in one cell."""
    cells, local = local_coordinates(borders, x)
    n = len(x)
    starts = np.flatnonzero(np.r_[True, cells[1:] != cells[:-1]])
    lengths = np.diff(np.r_[starts, n])
    pieces = -(-lengths // limit)
    first = np.repeat(starts, pieces) + limit * (
        np.arange(pieces.sum()) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    )
    stop = np.minimum(np.repeat(starts + lengths, pieces), first + limit)
    index = np.minimum(first[:, None] + np.arange((stop - first).max()), stop[:, None] - 1)
    return Runs(cells[first], index, local[index])


def lattice_blocks(grid: Grid, axes: Sequence[np.ndarray], max_positions: int) -> Iterator[Block]:
    """The lattice axes[0] × axes[1] × … in blocks of about max_positions positions."""
    runs = [axis_runs(b, x, RUN_LIMIT[len(axes)]) for b, x in zip(grid.borders, axes, strict=True)]
    per_run = math.prod(r.index.shape[1] for r in runs)
    return _blocks(runs, grid.cells, max(1, max_positions // per_run), [len(x) for x in axes])


def _blocks(runs: Sequence[Runs], cells: Sequence[int], size: int, lengths: Sequence[int]) -> Iterator[Block]:
    counts = tuple(len(r.cells) for r in runs)
    total = math.prod(counts)
    for start in range(0, total, size):
        which = np.unravel_index(np.arange(start, min(start + size, total)), counts)
        yield product_block(runs, which, cells, lengths)


def product_block(
    runs: Sequence[Runs], which: Sequence[np.ndarray], cells: Sequence[int], lengths: Sequence[int]
) -> Block:
    """The block of B runs, run b being the product of runs[d][which[d][b]] over the axes d."""
    d, b = len(runs), len(which[0])
    cell, index = np.zeros(b, np.int64), np.zeros((b, *[1] * d), np.int64)
    coords = []
    sides = [r.index.shape[1] for r in runs]
    for axis, (run, w) in enumerate(zip(runs, which, strict=True)):
        place = (b, *[1] * axis, sides[axis], *[1] * (d - 1 - axis))
        cell = cell * cells[axis] + run.cells[w]
        index = index * lengths[axis] + run.index[w].reshape(place)
        coords.append(np.broadcast_to(run.local[w].reshape(place), (b, *sides)).reshape(b, -1))
    return Block(cell, np.stack(coords, axis=1), index.reshape(b, -1))


def point_blocks(grid: Grid, coords: np.ndarray, max_positions: int) -> Iterator[Block]:
    """Scattered positions coords [N, D] in blocks of about max_positions positions."""
    n, d = coords.shape
    cell = np.zeros(n, np.int64)
    local = np.empty((n, d))
    for axis, borders in enumerate(grid.borders):
        own, local[:, axis] = local_coordinates(borders, coords[:, axis])
        cell = cell * (len(borders) - 1) + own
    yield from cell_blocks(cell, local, grid.n_cells, max_positions)


def cell_blocks(cell: np.ndarray, local: np.ndarray, n_cells: int, max_positions: int) -> Iterator[Block]:
    """Positions of which the cells [N] and local coordinates [N, D] are known, in blocks of about max_positions."""
    order = np.argsort(cell, kind="stable")
    runs = axis_runs(range(n_cells + 1), cell[order] + 0.5, RUN_LIMIT[1])
    # longest first: the runs of a block are about equally long, so little of it is padding
    length = 1 + (runs.index[:, -1] - runs.index[:, 0])
    by_length = np.argsort(-length, kind="stable")
    at = 0
    while at < len(by_length):
        longest = int(length[by_length[at]])
        rows = by_length[at : at + max(1, max_positions // longest)]
        at += len(rows)
        index = order[runs.index[rows, :longest]]
        yield Block(runs.cells[rows], np.ascontiguousarray(local[index].transpose(0, 2, 1)), index)
