"""Which codes are coded together, and under which context: one tile model for each kind of tensor.

A tile model visits the codes of one tile in passes. A pass is a set of positions whose contexts depend on earlier
passes only, so that all of it is coded at once. `run` is the same for both directions: `code(contexts, values)`
writes the values, or ignores them and returns the ones it read.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from .labels import N_LABEL_CONTEXTS, LabelTile

__all__ = ["N_CONTEXTS", "TILE_MODELS", "CosineTile", "PlainTile", "SmoothTile", "TimeTile"]

Code = Callable[[np.ndarray, np.ndarray], np.ndarray]

# Lower ends of the classes of a weighted sum of neighbouring magnitudes, in quarters: 4 · (2^((i − ½)/3) − 1)
_THRESHOLDS = (1, 2, 4, 5, 8, 11, 14, 19, 25, 33, 42, 54, 69, 88, 112, 142, 180, 227, 287)
_CLASS = np.searchsorted(_THRESHOLDS, np.arange(_THRESHOLDS[-1] + 1), side="right").astype(np.int16)
N_CLASSES = len(_THRESHOLDS) + 1
_BAND_STARTS = (1, 2, 4, 7, 11)  # sixteenths of Nyquist at which a new frequency band begins
N_BANDS = len(_BAND_STARTS) + 1
_TIME_BANDS = (1, 3, 8, 20, 50, 120, 300)  # 2,048ths of Nyquist
N_TIME_BANDS = len(_TIME_BANDS) + 1
N_PLAIN_BANDS = 64

# contexts per kind of tensor, in rows of the starting tables
N_CONTEXTS = {
    "cosine": N_CLASSES * N_BANDS * 2 * 2,
    "time": N_CLASSES * N_TIME_BANDS * 2 * 2,
    "smooth": N_CLASSES * 2,
    "plain": N_PLAIN_BANDS,
    "labels": N_LABEL_CONTEXTS,
}


def capped(values: np.ndarray) -> np.ndarray:
    """Magnitudes as contexts see them: beyond the last threshold all are alike, and sums stay inside int32."""
    return np.minimum(np.abs(values), _THRESHOLDS[-1])


def magnitude_class(weighted: np.ndarray) -> np.ndarray:
    """Weighted sums of magnitudes, in quarters -> classes 0 … N_CLASSES − 1, int16; about three an octave."""
    return _CLASS[np.minimum(weighted, _THRESHOLDS[-1])]


@dataclass(frozen=True)
class _Weights:
    """Of neighbouring magnitudes in a context: roughly those that predict a magnitude best on photos."""

    lower: int  # the next lower frequency on each axis
    both: int  # lower on two axes
    second: int  # the second lower on each axis
    lower_around: int  # as `lower` and `both`, of each adjoining cell
    both_around: int
    faces: int  # the same frequency in the cells that share a face; known for the second half
    colours: int  # the same code of the colours before


# by colour (first, others) and checkerboard half
_WEIGHTS = {
    (0, 0): _Weights(10, 4, 2, 1, 0, 0, 0),
    (0, 1): _Weights(8, 4, 2, 1, 0, 7, 0),
    (1, 0): _Weights(12, 2, 1, 2, 1, 0, 2),
    (1, 1): _Weights(8, 2, 1, 1, 0, 12, 1),
}


class CosineTile:
    """Heads of a picture or volume: diagonal by diagonal over all cells of the tile, the first checkerboard half
    before the second, colour after colour. The context of a code is the class of the sum of _WEIGHTS times
    magnitudes, its frequency band, first colour or other, and half.
    """

    def __init__(self, codes: np.ndarray, valid: np.ndarray | None, n_axes: int, bands: tuple[int, ...]) -> None:
        """codes: view [C, *frequencies, *cells] of a tile; filled while reading."""
        self._codes = codes
        self._cells = codes.shape[1 + n_axes :]
        frequencies = codes.shape[1 : 1 + n_axes]
        self._valid = valid
        half = np.indices(self._cells).sum(0).reshape(-1) % 2
        self._first, self._second = np.flatnonzero(half == 0), np.flatnonzero(half == 1)
        self._order = _Diagonals(frequencies)
        empty = np.zeros((codes.shape[0], 1, int(np.prod(self._cells))), np.int32)
        self._last, self._last_around = empty, empty  # magnitudes of one diagonal below, and around each cell
        self._before, self._before_around = empty, empty  # two below

    def stops(self, low: int, high: int) -> np.ndarray:
        """Per colour, the diagonal after the last one in low … high − 1 that holds a code other than 0."""
        stop = np.full(len(self._codes), low)
        for s in range(low, high):
            index = self._order.members(s)
            alive = (self._codes[:, *index] != 0).reshape(len(self._codes), -1).any(1)
            stop[alive] = s + 1
        return stop

    def run(self, low: int, high: int, stops: np.ndarray, code: Code) -> None:
        """Visit diagonals low … high − 1; colour c only below stops[c]: its codes are 0 from there on."""
        for s in range(low, high):
            self._diagonal(s, stops, code)

    def _diagonal(self, s: int, stops: np.ndarray, code: Code) -> None:
        index = self._order.members(s)
        n_colours, n, k = len(self._codes), len(index[0]), len(self._first) + len(self._second)
        values = np.zeros((n_colours, n, k), np.int32)
        lower = self._gather(self._last, self._order.lower(s))
        lower_around = self._gather(self._last_around, self._order.lower(s))
        second = self._gather(self._before, self._order.second_lower(s))
        both = self._gather(self._before, self._order.both_lower(s))
        both_around = self._gather(self._before_around, self._order.both_lower(s))
        band = self._order.band(s)
        valid = None if self._valid is None else self._valid[index].reshape(n, k)
        truth = self._codes[:, *index].reshape(n_colours, n, k)
        magnitude = np.zeros((n_colours, n, k), np.int32)
        if (s < stops).any():
            for half, cells in enumerate((self._first, self._second)):
                earlier = np.zeros((n, k), np.int32)  # magnitudes of the colours before, this half's cells only
                for c in range(n_colours):
                    if s >= stops[c] or not len(cells):
                        continue
                    w = _WEIGHTS[min(c, 1), half]
                    weighted = w.lower * lower[c] + w.both * both[c] + w.second * second[c]
                    weighted += w.lower_around * lower_around[c]
                    if w.both_around:
                        weighted += w.both_around * both_around[c]
                    if w.faces:
                        weighted += w.faces * _faces(magnitude[c], self._cells)
                    if w.colours:
                        weighted += w.colours * earlier
                    weighted = weighted[:, cells]
                    context = ((magnitude_class(weighted) * N_BANDS + band) * 2 + min(c, 1)) * 2 + half
                    if valid is None:
                        got = code(context.reshape(-1), truth[c][:, cells].reshape(-1)).reshape(n, -1)
                    else:
                        exists = valid[:, cells]
                        got = np.zeros(exists.shape, np.int32)
                        got[exists] = code(context[exists], truth[c][:, cells][exists])
                    values[c][:, cells] = got
                    magnitude[c][:, cells] = capped(got)
                    earlier[:, cells] += magnitude[c][:, cells]
            self._codes[:, *index] = values.reshape(n_colours, n, *self._cells)
        self._before, self._before_around = self._last, self._last_around
        # one row of zeros more, for the frequencies beyond the axes
        self._last = np.concatenate([magnitude, np.zeros((n_colours, 1, k), np.int32)], 1)
        self._last_around = _around(self._last, self._cells)

    def _gather(self, x: np.ndarray, rows: list[np.ndarray]) -> np.ndarray:
        """Sum over several neighbours: x [C, rows + 1, K], each of `rows` [n] -> [C, n, K]."""
        total = np.zeros((len(x), len(rows[0]) if rows else 1, x.shape[2]), np.int32)
        for r in rows:
            total += x[:, r]
        return total


class TimeTile:
    """Heads of a sound: cell after cell, in each the even frequencies before the odd ones, channel after channel.

    Even frequencies weigh, in quarters, the cell before at k (8), k ± 1 (4), k ± 2 (2) and the one before that at k
    (4); odd ones their own two neighbours (8) and the cell before at k (6), k ± 1 (2); both the same code of the
    channels before (6). (A tensor with a single frequency axis that is no sound is coded in the same way.)
    """

    def __init__(self, codes: np.ndarray, valid: np.ndarray | None, n_axes: int, bands: tuple[int, ...]) -> None:
        self._codes = codes  # [C, frequencies, cells]
        self._valid = valid
        m = codes.shape[1]
        band = np.searchsorted(_TIME_BANDS, np.arange(m) * 2048 // m, side="right")
        self._bands = (band[0::2], band[1::2])

    def stops(self, low: int, high: int) -> np.ndarray:
        """Per channel, the frequency after the last one that holds a code other than 0."""
        alive = (self._codes != 0).any(2)
        return np.array([int(np.flatnonzero(row)[-1]) + 1 if row.any() else 0 for row in alive])

    def run(self, low: int, high: int, stops: np.ndarray, code: Code) -> None:
        n_channels, m, n_cells = self._codes.shape
        # magnitudes of the cell before and of the one before that, two zeros on either side
        past = np.zeros((n_channels, m + 4), np.int32)
        older = np.zeros((n_channels, m + 4), np.int32)
        for t in range(n_cells):
            now = np.zeros((n_channels, m + 4), np.int32)
            earlier = np.zeros(m + 4, np.int32)  # magnitudes of the channels before
            for c in range(n_channels):
                end = int(stops[c])
                if not end:
                    continue
                p, q, own = past[c], older[c], now[c]
                steady = 8 * p[2:-2] + 4 * (p[1:-3] + p[3:-1]) + 2 * (p[:-4] + p[4:]) + 4 * q[2:-2]
                loose = 6 * p[2:-2] + 2 * (p[1:-3] + p[3:-1])
                joint = 6 * earlier[2:-2]
                for parity in (0, 1):
                    weighted = (loose + 8 * (own[1:-3] + own[3:-1]) if parity else steady) + joint
                    k = np.arange(parity, end, 2)
                    if self._valid is not None:
                        k = k[self._valid[k, t]]
                    cls = magnitude_class(weighted[k])
                    context = ((cls * N_TIME_BANDS + self._bands[parity][k // 2]) * 2 + min(c, 1)) * 2 + parity
                    got = code(context, self._codes[c, k, t])
                    self._codes[c, k, t] = got
                    own[2 + k] = capped(got)
                earlier += own
            past, older = now, past


class SmoothTile:
    """Spline knots: residuals of the planar predictor, row after row of the first axis, colour after colour.

    prediction: D = 1 the knot before; D = 2 ¾ · (above + before) − ½ · (above before); D = 3 half the three faces
    less half the far corner. The context weighs the residuals of the row before (8, 4 either side) and of the same
    knot in the colours before (6).
    """

    def __init__(self, codes: np.ndarray, valid: np.ndarray | None, n_axes: int, bands: tuple[int, ...]) -> None:
        self._codes = codes  # [C, *knots]

    def stops(self, low: int, high: int) -> np.ndarray:
        return np.zeros(0, np.int64)

    def run(self, low: int, high: int, stops: np.ndarray, code: Code) -> None:
        n_colours = len(self._codes)
        rows = self._codes.shape[1]
        residuals = np.stack([_to_residual(plane) for plane in self._codes]).reshape(n_colours, rows, -1)
        got = np.zeros_like(residuals)
        for r in range(rows):
            for c in range(n_colours):
                above = capped(got[c, r - 1]) if r else np.zeros(residuals.shape[2], np.int32)
                weighted = 8 * above
                weighted[1:] += 4 * above[:-1]
                weighted[:-1] += 4 * above[1:]
                weighted += 6 * capped(got[:c, r]).sum(0, dtype=np.int32)
                got[c, r] = code(magnitude_class(weighted) * 2 + min(c, 1), residuals[c, r])
        for c in range(n_colours):
            self._codes[c] = _from_residual(got[c].reshape(self._codes.shape[1:]))


class PlainTile:
    """Weights without an order worth knowing (MLPs): class by class, in blocks that double, so that the tables
    learn as they go."""

    def __init__(self, codes: np.ndarray, valid: np.ndarray | None, n_axes: int, bands: tuple[int, ...]) -> None:
        self._codes = codes  # [1, P, *cells]
        self._bands = np.minimum(np.asarray(bands or (0,) * codes.shape[1]), N_PLAIN_BANDS - 1)

    def stops(self, low: int, high: int) -> np.ndarray:
        return np.zeros(0, np.int64)

    def run(self, low: int, high: int, stops: np.ndarray, code: Code) -> None:
        for band in np.unique(self._bands):
            rows = np.flatnonzero(self._bands == band)
            values = self._codes[:, rows].reshape(-1)
            got = np.empty_like(values)
            at, size = 0, 32
            while at < len(values):
                span = slice(at, at + size)
                n = len(values[span])
                got[span] = code(np.full(n, band, np.int16), values[span])
                at, size = at + size, min(2 * size, 2**16)
            self._codes[:, rows] = got.reshape(1, len(rows), *self._codes.shape[2:])


TILE_MODELS = {"cosine": CosineTile, "time": TimeTile, "smooth": SmoothTile, "plain": PlainTile, "labels": LabelTile}


class _Diagonals:
    """Frequencies of a tensor by the sum of their indices, and where their lower neighbours stand among those of
    the diagonals below (one past the end where there is none)."""

    def __init__(self, frequencies: tuple[int, ...]) -> None:
        self._shape = frequencies
        index = np.indices(frequencies).reshape(len(frequencies), -1)
        total = index.sum(0)
        order = np.argsort(total, kind="stable")
        self._ends = np.concatenate([[0], np.cumsum(np.bincount(total))])
        self._sorted = index[:, order]
        place = np.empty(len(order), np.int64)
        place[order] = np.arange(len(order))
        self._place = place.reshape(frequencies)
        highest = np.max([u * 16 // m for u, m in zip(self._sorted, frequencies, strict=True)], axis=0)
        self._band = np.searchsorted(_BAND_STARTS, highest, side="right")

    def members(self, s: int) -> tuple[Any, ...]:
        return tuple(self._sorted[:, self._ends[s] : self._ends[s + 1]])

    def band(self, s: int) -> np.ndarray:
        """[n, 1]"""
        return self._band[self._ends[s] : self._ends[s + 1], None]

    def lower(self, s: int) -> list[np.ndarray]:
        return [self._rows(s, {d: 1}) for d in range(len(self._shape))]

    def second_lower(self, s: int) -> list[np.ndarray]:
        return [self._rows(s, {d: 2}) for d in range(len(self._shape))]

    def both_lower(self, s: int) -> list[np.ndarray]:
        return [self._rows(s, {a: 1, b: 1}) for a, b in combinations(range(len(self._shape)), 2)]

    def _rows(self, s: int, down: dict[int, int]) -> np.ndarray:
        below = s - sum(down.values())
        index = list(self.members(s))
        if below < 0:
            return np.full(len(index[0]), -1)  # the row of zeros
        inside = np.ones(len(index[0]), bool)
        for d, by in down.items():
            index[d] = index[d] - by
            inside &= index[d] >= 0
        rows = self._place[tuple(np.maximum(i, 0) for i in index)] - self._ends[below]
        return np.where(inside, rows, -1)


def _around(x: np.ndarray, cells: tuple[int, ...]) -> np.ndarray:
    """Sum over the adjoining cells, corners included; x and result [..., K]."""
    grid = x.reshape(*x.shape[:-1], *cells)
    total = grid
    for axis in range(-len(cells), 0):
        wide = total.copy()
        _view(wide, axis, slice(1, None))[...] += _view(total, axis, slice(None, -1))
        _view(wide, axis, slice(None, -1))[...] += _view(total, axis, slice(1, None))
        total = wide
    return (total - grid).reshape(x.shape)


def _faces(x: np.ndarray, cells: tuple[int, ...]) -> np.ndarray:
    """Sum over the cells that share a face; x and result [..., K]."""
    grid = x.reshape(*x.shape[:-1], *cells)
    total = np.zeros_like(grid)
    for axis in range(-len(cells), 0):
        _view(total, axis, slice(1, None))[...] += _view(grid, axis, slice(None, -1))
        _view(total, axis, slice(None, -1))[...] += _view(grid, axis, slice(1, None))
    return total.reshape(x.shape)


def _view(x: np.ndarray, axis: int, part: slice) -> np.ndarray:
    index: tuple[Any, ...] = (..., part, *(slice(None),) * (-axis - 1))
    return x[index]


def _prediction(faces: np.ndarray, corner: np.ndarray, n_axes: int) -> np.ndarray:
    if n_axes == 1:
        return faces
    face, back = (3, 2) if n_axes == 2 else (2, 2)
    return (face * faces - back * corner + 2) >> 2


def _to_residual(plane: np.ndarray) -> np.ndarray:
    """Knots -> knots minus their prediction; beyond the first row, column, … everything counts as 0."""
    padded = np.pad(plane.astype(np.int64), [(1, 0)] * plane.ndim)
    inner = (slice(1, None),) * plane.ndim
    faces = np.zeros(plane.shape, np.int64)
    for axis in range(plane.ndim):
        faces += padded[tuple(slice(None, -1) if d == axis else slice(1, None) for d in range(plane.ndim))]
    corner = padded[(slice(None, -1),) * plane.ndim]
    return (padded[inner] - _prediction(faces, corner, plane.ndim)).astype(np.int32)


def _from_residual(residual: np.ndarray) -> np.ndarray:
    """Inverse of _to_residual, one anti-diagonal at a time."""
    n = residual.ndim
    padded = np.zeros(tuple(m + 1 for m in residual.shape), np.int64)
    order = _Diagonals(residual.shape)
    for s in range(sum(m - 1 for m in residual.shape) + 1):
        index = order.members(s)
        faces = np.zeros(len(index[0]), np.int64)
        for axis in range(n):
            faces += padded[tuple(i + (d != axis) for d, i in enumerate(index))]
        value = residual[index] + _prediction(faces, padded[index], n)
        # hostile residuals must not run away; honest knots are far inside
        padded[tuple(i + 1 for i in index)] = np.clip(value, -(2**30), 2**30)
    return padded[(slice(1, None),) * n].astype(np.int32)
