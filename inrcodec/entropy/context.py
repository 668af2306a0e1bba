"""Which codes are coded together, and under which context: one tile model for each kind of tensor.

A tile model visits the codes of one tile in passes. A pass is a set of positions whose contexts depend on earlier
passes only, so that all of it is coded at once. `run` is the same for both directions: `code(contexts, values)`
writes the values, or ignores them and returns the ones it read.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Protocol

import numpy as np

from ..stream import Part, TensorLayout
from . import regions
from .base import valid_codes
from .diagonals import N_BANDS, Diagonals, around, coded, faces
from .labels import N_LABEL_CONTEXTS, LabelTile
from .learned import N_LEARNED_CONTEXTS, ContextNetwork, LearnedTile
from .leaves import N_TIME_CONTEXTS, TimeTile
from .magnitudes import N_CLASSES, capped, magnitude_class
from .shifts import best_shifts
from .signs import SignNetwork
from .splits import N_SPLIT_CONTEXTS, SplitTile, leaf_sizes

__all__ = [
    "N_CONTEXTS",
    "UNSIGNED",
    "OwnContexts",
    "Networks",
    "TileModel",
    "counts_of",
    "networks_of",
    "open_tile",
    "tile_kind",
]

Code = Callable[[np.ndarray, np.ndarray], np.ndarray]

N_PLAIN_BANDS = 64

# contexts per kind of tensor, in rows of the starting tables
N_CONTEXTS = {
    "learned": N_LEARNED_CONTEXTS,
    "cosine": N_CLASSES * N_BANDS * 2 * 2,
    "time": N_TIME_CONTEXTS,
    "smooth": N_CLASSES * 2,
    "plain": N_PLAIN_BANDS,
    "sparse": 1,
    "labels": N_LABEL_CONTEXTS,
    "splits": N_SPLIT_CONTEXTS,
}
UNSIGNED = ("labels", "learned", "splits")  # kinds whose passes hold no negative values


@dataclass(frozen=True)
class Networks:
    """What the learned contexts of pictures consist of."""

    magnitudes: ContextNetwork
    signs: SignNetwork


@dataclass(frozen=True, eq=False)
class OwnContexts:
    """Contexts of pictures that are not the released ones. counts: their starting tables, int64 [N_LEARNED_CONTEXTS,
    N_SYMBOLS]."""

    networks: Networks
    counts: np.ndarray


def networks_of(own: OwnContexts | None, released: Callable[[], Networks]) -> Networks:
    """own: TensorLayout.contexts."""
    return own.networks if own else released()


def counts_of(own: OwnContexts | None, kind: str, released: Callable[[str], np.ndarray]) -> np.ndarray:
    """Starting counts of a kind of tile model, int64 [N_CONTEXTS[kind], N_SYMBOLS]; own: TensorLayout.contexts."""
    return own.counts if own and kind == "learned" else released(kind)


class TileModel(Protocol):
    def stops(self, low: int, high: int) -> np.ndarray:
        """Per channel, where the codes of the diagonals low … high − 1 end; empty for tensors without diagonals."""

    def run(self, low: int, high: int, stops: np.ndarray, code: Code) -> None:
        """Visit these diagonals, pass after pass."""


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
    """Heads of a volume (any number of axes): diagonal by diagonal over all cells of the tile, the first checkerboard
    half before the second, colour after colour. The context of a code is the class of the sum of _WEIGHTS times
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
        self._order = Diagonals(frequencies)
        units = np.eye(n_axes, dtype=int).tolist()  # lower by one on each axis; by two on one; by one on two
        self._lower = [tuple(u) for u in units]
        self._second_lower = [tuple(2 * i for i in u) for u in units]
        self._both = [tuple(map(sum, zip(a, b, strict=True))) for a, b in combinations(units, 2)]
        empty = np.zeros((codes.shape[0], 1, int(np.prod(self._cells))), np.int32)
        self._last, self._last_around = empty, empty  # magnitudes of one diagonal below, and around each cell
        self._before, self._before_around = empty, empty  # two below

    def stops(self, low: int, high: int) -> np.ndarray:
        """As Diagonals.stops."""
        return self._order.stops(self._codes, low, high)

    def run(self, low: int, high: int, stops: np.ndarray, code: Code) -> None:
        """Visit diagonals low … high − 1; colour c only below stops[c]: its codes are 0 from there on."""
        for s in range(low, high):
            self._diagonal(s, stops, code)

    def _diagonal(self, s: int, stops: np.ndarray, code: Code) -> None:
        index = self._order.members(s)
        n_colours, n, k = len(self._codes), len(index[0]), len(self._first) + len(self._second)
        values = np.zeros((n_colours, n, k), np.int32)
        lower = self._gather(self._last, s, self._lower)
        lower_around = self._gather(self._last_around, s, self._lower)
        second = self._gather(self._before, s, self._second_lower)
        both = self._gather(self._before, s, self._both)
        both_around = self._gather(self._before_around, s, self._both)
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
                        weighted += w.faces * faces(magnitude[c], self._cells)
                    if w.colours:
                        weighted += w.colours * earlier
                    weighted = weighted[:, cells]
                    context = ((magnitude_class(weighted) * N_BANDS + band) * 2 + min(c, 1)) * 2 + half
                    got = coded(code, context, truth[c][:, cells], None if valid is None else valid[:, cells])
                    values[c][:, cells] = got
                    magnitude[c][:, cells] = capped(got)
                    earlier[:, cells] += magnitude[c][:, cells]
            self._codes[:, *index] = values.reshape(n_colours, n, *self._cells)
        self._before, self._before_around = self._last, self._last_around
        # one row of zeros more, for the frequencies beyond the axes
        self._last = np.concatenate([magnitude, np.zeros((n_colours, 1, k), np.int32)], 1)
        self._last_around = around(self._last, self._cells)

    def _gather(self, x: np.ndarray, s: int, downs: list[tuple[int, ...]]) -> np.ndarray:
        """Sum over several lower frequencies: x [C, rows + 1, K] -> [C, n, K]."""
        total = np.zeros((len(x), len(self._order.members(s)[0]), x.shape[2]), np.int32)
        for down in downs:
            total += x[:, self._order.rows(s, down)]
        return total


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
    """Weights without an order worth knowing (MLPs, deltas): class by class, in blocks that double, so that the tables
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


_MODELS: dict[str, Any] = {
    "cosine": CosineTile,
    "smooth": SmoothTile,
    "plain": PlainTile,
    "sparse": PlainTile,
    "labels": LabelTile,
    "splits": SplitTile,
}


def tile_kind(layout: TensorLayout) -> str:
    """The kind of tile model of a tensor: heads by the number of their axes, everything else as the layout says."""
    if layout.context != "cosine":
        return layout.context
    return {1: "time", 2: "learned"}.get(len(layout.frequencies), "cosine")


def open_tile(
    codes: np.ndarray,
    layout: TensorLayout,
    part: Part,
    networks: Callable[[], Networks],
    *,
    kind: str | None = None,
    counts: np.ndarray | None = None,
    splits: np.ndarray | None = None,
) -> TileModel:
    """The tile model of a part; codes: view [C, *frequencies, *cells] of its tile. networks: of layouts that bring no
    contexts of their own. kind: another than files have.
    counts: for a writer, the starting counts of its contexts: by them it chooses what a file is told beside codes.
    splits: flags [2^levels − 1, cells] of that tile, where its cells may be cut."""
    if tile_kind(layout) == "time":
        ((start, stop),) = part.tile
        sizes = layout.sizes[0][start:stop] if layout.sizes else layout.frequencies * (stop - start)
        return TimeTile(codes, [(n,) for n in sizes] if splits is None else leaf_sizes(splits, sizes))
    kind, valid, n_axes = kind or tile_kind(layout), valid_codes(layout, part), len(layout.frequencies)
    if kind == "learned":
        both = networks_of(layout.contexts, networks)
        magnitudes, signs = both.magnitudes, both.signs
        modes = regions.modes_of(codes.shape[3:])
        if modes is not None and layout.dependent:

            def make(v: np.ndarray, there: np.ndarray, size: int) -> LearnedTile:
                shifts = np.zeros(v.shape[:3], np.int8)
                if counts is not None:
                    known = regions.brought(regions.padded(codes), modes, size)
                    shifts = best_shifts(v, there, magnitudes, signs, counts=counts, size=size, known=known)
                return LearnedTile(v, there, magnitudes, signs, dependent=True, shifts=shifts, size=size)

            return regions.SizedTile(codes, valid, modes, make)
        if not layout.dependent:
            return LearnedTile(codes, valid, magnitudes, signs)
        shifts = np.zeros(codes.shape[:3], np.int8)
        if counts is not None:
            shifts = best_shifts(codes, valid, magnitudes, signs, counts=counts)
        return LearnedTile(codes, valid, magnitudes, signs, dependent=True, shifts=shifts)
    return _MODELS[kind](codes, valid, n_axes, layout.bands)


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
    order = Diagonals(residual.shape)
    for s in range(sum(m - 1 for m in residual.shape) + 1):
        index = order.members(s)
        faces = np.zeros(len(index[0]), np.int64)
        for axis in range(n):
            faces += padded[tuple(i + (d != axis) for d, i in enumerate(index))]
        value = residual[index] + _prediction(faces, padded[index], n)
        # hostile residuals must not run away; honest knots are far inside
        padded[tuple(i + 1 for i in index)] = np.clip(value, -(2**30), 2**30)
    return padded[(slice(1, None),) * n].astype(np.int32)
