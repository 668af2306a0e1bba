"""Frequencies by the sum of their indices: the order in which heads are coded, and what stands around a code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

__all__ = ["Diagonals", "around", "coded", "faces"]

_BAND_STARTS = (1, 2, 4, 7, 11)  # sixteenths of Nyquist at which a new frequency band begins
N_BANDS = len(_BAND_STARTS) + 1
FURTHEST = 3  # how far, per axis, contexts look at other frequencies


class Diagonals:
    """Diagonal s holds the frequencies whose indices sum to s, in row-major order."""

    def __init__(self, frequencies: tuple[int, ...]) -> None:
        index = np.indices(frequencies).reshape(len(frequencies), -1)
        total = index.sum(0)
        order = np.argsort(total, kind="stable")
        self._ends = np.concatenate([[0], np.cumsum(np.bincount(total))])
        self._sorted = index[:, order]
        place = np.empty(len(order), np.int64)
        place[order] = np.arange(len(order)) - self._ends[total[order]]
        # within its diagonal; around the frequencies that exist, those that do not
        self._place = np.pad(place.reshape(frequencies), FURTHEST, constant_values=-1)
        highest = np.max([u * 16 // m for u, m in zip(self._sorted, frequencies, strict=True)], axis=0)
        self._band = np.searchsorted(_BAND_STARTS, highest, side="right")

    def members(self, s: int) -> tuple[Any, ...]:
        """Index per axis, each [n]."""
        return tuple(self._sorted[:, self._ends[s] : self._ends[s + 1]])

    def band(self, s: int) -> np.ndarray:
        """Frequency band, [n, 1]."""
        return self._band[self._ends[s] : self._ends[s + 1], None]

    def stops(self, codes: np.ndarray, low: int, high: int) -> np.ndarray:
        """codes [C, *frequencies, *cells] -> per colour, the diagonal after the last one in low … high − 1 that holds
        a code other than 0."""
        stop = np.full(len(codes), low)
        for s in range(low, high):
            alive = (codes[:, *self.members(s)] != 0).reshape(len(codes), -1).any(1)
            stop[alive] = s + 1
        return stop

    def rows(self, s: int, down: tuple[int, ...]) -> np.ndarray:
        """Where the members of diagonal s, each index lowered by `down`, stand in diagonal s − Σ down; −1 where the
        frequency does not exist. down: within FURTHEST."""
        return np.asarray(self._place[tuple(u + (FURTHEST - by) for u, by in zip(self.members(s), down, strict=True))])


def coded(
    code: Callable[[np.ndarray, np.ndarray], np.ndarray],
    contexts: np.ndarray,
    values: np.ndarray,
    exists: np.ndarray | None,
) -> np.ndarray:
    """One pass over the codes that exist (None: all), 0 for the others: contexts, values and result [n, k]."""
    if exists is None:
        return code(contexts.reshape(-1), values.reshape(-1)).reshape(values.shape)
    got = np.zeros(values.shape, np.int32)
    got[exists] = code(contexts[exists], values[exists])
    return got


def around(x: np.ndarray, cells: tuple[int, ...]) -> np.ndarray:
    """Sum over the adjoining cells, corners included; x and result [..., K]."""
    grid = x.reshape(*x.shape[:-1], *cells)
    total = grid
    for axis in range(-len(cells), 0):
        wide = total.copy()
        _view(wide, axis, slice(1, None))[...] += _view(total, axis, slice(None, -1))
        _view(wide, axis, slice(None, -1))[...] += _view(total, axis, slice(1, None))
        total = wide
    return (total - grid).reshape(x.shape)


def faces(x: np.ndarray, cells: tuple[int, ...]) -> np.ndarray:
    """Sum over the cells that share a face; x and result [..., K]."""
    grid = x.reshape(*x.shape[:-1], *cells)
    total = np.zeros_like(grid)
    for axis in range(-len(cells), 0):
        _view(total, axis, slice(1, None))[...] += _view(grid, axis, slice(None, -1))
        _view(total, axis, slice(None, -1))[...] += _view(grid, axis, slice(1, None))
    return total.reshape(x.shape)


def _view(x: np.ndarray, axis: int, part: slice) -> np.ndarray:
    """x[part] along an axis counted from the end."""
    index: tuple[Any, ...] = (..., part, *(slice(None),) * (-axis - 1))
    return x[index]
