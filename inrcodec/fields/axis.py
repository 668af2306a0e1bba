"""One-dimensional bases on the real line: windowed cosines per cell, and uniform cubic B-splines under them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ..cost import n_knots

__all__ = ["CosineAxis", "SplineAxis", "functions_at"]

TABULATED = 64  # cells of up to so many samples are evaluated from a table of all their functions


class CosineAxis:
    """The windowed cosines of one axis at given positions: weights to values, and at sample centres values to
    weights.

    Cell [a, b) of M samples has  √(2/M) · w(x) · cos(π (k + ½)(x − a)/M), k = 0 … M − 1. Around an inner
    border, up to h = half the smaller neighbour, the two windows are sine and cosine of π/4 · (1 ± t/h).
    The last cell is even on both ends: cos(π k (x − a)/M), k = 0 scaled by √½ more. At the centres of all
    samples the functions are orthonormal (a local cosine basis: Coifman & Meyer 1991; Malvar's lapped transform).

    Cells c and c + 2 never overlap, so the even cells, and then the odd ones, write every position at most once.
    Cells that see their positions alike (all inner ones of a uniform grid, at scale 1) share one evaluation.
    """

    def __init__(self, borders: Sequence[int] | np.ndarray, x: np.ndarray, scale: float = 1.0) -> None:
        """x: sorted positions [n] in sample units; beyond the ends the outermost cells go on. scale < 1 fades the
        frequencies that positions 1/scale apart cannot hold."""
        self._borders = np.asarray(borders, np.int64)
        edges = self._borders.astype(np.float64)
        half = np.minimum(np.diff(edges)[1:], np.diff(edges)[:-1]) / 2  # overlap on either side of each inner border
        left, right = np.concatenate([[0.0], half]), np.concatenate([half, [0.0]])
        begin = np.searchsorted(x, edges[:-1] - left, side="left")
        end = np.searchsorted(x, edges[1:] + right, side="left")
        begin[0], end[-1] = 0, len(x)
        used = np.flatnonzero(end > begin)
        self.n = len(x)
        self.depth = int(np.diff(edges).max())
        self.cells = slice(int(used[0]), int(used[-1]) + 1)
        self._bundles: dict[tuple, _Bundle] = {}
        for c in range(self.cells.start, self.cells.stop):
            a, size = int(edges[c]), int(edges[c + 1] - edges[c])
            u = x[begin[c] : end[c]] - a
            if not len(u):
                continue
            last = c == len(half)
            key = (c % 2, size, left[c], right[c], last, len(u), *(round(float(v), 9) for v in (u[0], u[-1])))
            if key not in self._bundles:
                window = _window(u, size, left[c], right[c])
                self._bundles[key] = _Bundle(size, last, u, window, scale, [], [])
            self._bundles[key].cells.append(c - self.cells.start)
            self._bundles[key].begins.append(int(begin[c]))

    def synthesise(self, weights: np.ndarray) -> np.ndarray:
        """Weights [m, M, R] of self.cells -> values [n, R]."""
        out = np.zeros((self.n, weights.shape[2]))
        for bundle in self._bundles.values():
            for cells, rows in bundle.batches(weights.shape[2]):
                out[rows] += bundle.evaluate(weights[cells, : bundle.size])
        return out

    def analyse(self, values: np.ndarray) -> np.ndarray:
        """Values [n, R] at the sample centres of whole cells -> weights [m, M, R]: the projection onto the
        functions. (The outermost cells lack their neighbours' samples if those are not among the positions.)"""
        out = np.zeros((self.cells.stop - self.cells.start, self.depth, values.shape[1]))
        for bundle in self._bundles.values():
            for cells, rows in bundle.batches(values.shape[1]):
                out[cells, : bundle.size] = bundle.project(values[rows])
        return out

    def synthesise_line(self, line: np.ndarray) -> np.ndarray:
        """As `synthesise`, from the weights of all cells of the axis end to end, [extent, R]: cell [a, b) has a … b."""
        out = np.zeros((self.n, line.shape[1]))
        for bundle in self._bundles.values():
            for cells, rows in bundle.batches(line.shape[1]):
                out[rows] += bundle.evaluate(line[self._in_line(cells, bundle.size)])
        return out

    def analyse_line(self, values: np.ndarray) -> np.ndarray:
        """As `analyse`, the weights of self.cells end to end: [samples of these cells, R]."""
        first, stop = self.extent
        out = np.zeros((stop - first, values.shape[1]))
        for bundle in self._bundles.values():
            for cells, rows in bundle.batches(values.shape[1]):
                out[self._in_line(cells, bundle.size) - first] = bundle.project(values[rows])
        return out

    @property
    def extent(self) -> tuple[int, int]:
        """The samples that self.cells cover."""
        return int(self._borders[self.cells.start]), int(self._borders[self.cells.stop])

    def _in_line(self, cells: np.ndarray, size: int) -> np.ndarray:
        """Where the weights of some of self.cells are among all, [b, size]."""
        return self._borders[self.cells.start + cells, None] + np.arange(size)


@dataclass
class _Bundle:
    """Cells of one size that have their P positions at the same places."""

    size: int
    last: bool
    u: np.ndarray  # [P] positions from the cell's left border
    window: np.ndarray  # [P]
    scale: float
    cells: list[int]
    begins: list[int]  # index of each cell's first position

    def __post_init__(self) -> None:
        self._shift = 0.0 if self.last else 0.5
        self._norm = np.full(self.size, np.sqrt(2 / self.size))
        self._norm[0] *= np.sqrt(0.5) if self.last else 1.0
        if self.scale < 1:
            self._norm *= _fade((np.arange(self.size) + 0.5) / self.size / self.scale)
        self._table = None
        if self.size <= TABULATED:
            phase = np.pi / self.size * (np.arange(self.size) + self._shift)
            self._table = np.cos(self.u[:, None] * phase) * self.window[:, None] * self._norm

    def batches(self, width: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """(cells [b], positions [b, P]) in runs of bounded size."""
        run = max(1, 2**21 // (len(self.u) * width))
        for at in range(0, len(self.cells), run):
            begins = np.asarray(self.begins[at : at + run])
            yield np.asarray(self.cells[at : at + run]), begins[:, None] + np.arange(len(self.u))

    def evaluate(self, weights: np.ndarray) -> np.ndarray:
        """[b, M, R] -> [b, P, R]"""
        if self._table is not None:
            return self._table @ weights
        if self._at_centres and self.scale >= 1:
            index, sign = self._reflected()
            return _cosine_transform(weights, self.last, inverse=True)[:, index] * ((sign * self.window)[:, None])
        return self._evaluate_anywhere(weights)

    def project(self, values: np.ndarray) -> np.ndarray:
        """[b, P, R] at sample centres -> [b, M, R]"""
        if self._table is not None:
            return self._table.T @ values
        assert self._at_centres
        index, sign = self._reflected()
        windowed = values * (sign * self.window)[:, None]
        folded = np.zeros((len(values), self.size, values.shape[2]))
        inside = (self.u > 0) & (self.u < self.size)
        folded[:, index[inside]] = windowed[:, inside]
        folded[:, index[~inside]] += windowed[:, ~inside]  # each sample has at most one mirror image
        return _cosine_transform(folded, self.last, inverse=False)

    @property
    def _at_centres(self) -> bool:
        return bool((self.u - 0.5 == np.rint(self.u - 0.5)).all())

    def _reflected(self) -> tuple[np.ndarray, np.ndarray]:
        """Sample of the cell that each position mirrors, and its sign: even about the left border, odd about the
        right one."""
        i = np.rint(self.u - 0.5).astype(np.int64)
        sign = np.where(i >= self.size, -1.0, 1.0)
        i = np.where(i < 0, -1 - i, i)
        return np.where(i >= self.size, 2 * self.size - 1 - i, i), sign

    def _evaluate_anywhere(self, weights: np.ndarray) -> np.ndarray:
        """Large cells without a table of M · P cosines: with k = B i + j, cos((k + s)θ) = cos((Bi + s)θ) cos(jθ) −
        sin((Bi + s)θ) sin(jθ), so only the M/B + B factors are tabulated."""
        block = TABULATED
        n = -(-self.size // block)
        padded = np.zeros((len(weights), n * block, weights.shape[2]))
        padded[:, : self.size] = weights * self._norm[:, None]
        inner = padded.reshape(len(weights), n, block, -1).transpose(0, 2, 1, 3).reshape(len(weights), block, -1)
        theta = np.pi / self.size * self.u
        fine = theta[:, None] * np.arange(block)
        coarse = theta[:, None] * (block * np.arange(n) + self._shift)
        shape = (len(weights), len(theta), n, weights.shape[2])
        out = np.einsum("bpnr,pn->bpr", (np.cos(fine) @ inner).reshape(shape), np.cos(coarse))
        out -= np.einsum("bpnr,pn->bpr", (np.sin(fine) @ inner).reshape(shape), np.sin(coarse))
        return out * self.window[:, None]


def _cosine_transform(x: np.ndarray, last: bool, *, inverse: bool) -> np.ndarray:
    """Orthonormal DCT-IV along axis 1, its own inverse; DCT-II and DCT-III for the last cell."""
    from scipy import fft  # for large cells only: not worth its import for pictures

    return fft.dct(x, (3 if inverse else 2) if last else 4, axis=1, norm="ortho")


def functions_at(borders: Sequence[int] | np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scattered positions x [N] -> (cells [N, 2], values [N, 2, M]) of the functions that live there: those of the cell
    that holds each position, and those of the neighbour that overlaps it (zeros where none does)."""
    edges = np.asarray(borders, np.float64)
    sizes = np.diff(edges)
    half = np.minimum(sizes[1:], sizes[:-1]) / 2
    left, right = np.concatenate([[0.0], half]), np.concatenate([half, [0.0]])
    own = np.clip(np.searchsorted(edges, x, side="right") - 1, 0, len(sizes) - 1)
    step = (x > edges[own + 1] - right[own]).astype(np.int64) - (x < edges[own] + left[own])
    other = np.clip(own + step, 0, len(sizes) - 1)
    cells = np.stack([own, other], 1)
    k = np.arange(int(sizes.max()))
    u, size = x[:, None] - edges[cells], sizes[cells]
    last = cells == len(sizes) - 1
    norm = np.sqrt(2 / size) * _window(u, size, left[cells], right[cells])
    norm[:, 1] *= other != own
    values = np.cos(np.pi * (k + np.where(last, 0, 0.5)[..., None]) * (u / size)[..., None]) * norm[..., None]
    values[..., 0] *= np.where(last, np.sqrt(0.5), 1)
    values *= k < size[..., None]
    return cells, values


def _window(u: np.ndarray, size: np.ndarray | int, left: np.ndarray | float, right: np.ndarray | float) -> np.ndarray:
    """w at u samples from a cell's left border; left and right: half widths of its overlaps, 0 for none."""
    rise = np.minimum(u / np.maximum(left, 1e-9), 1)
    fall = np.maximum((u - size) / np.maximum(right, 1e-9), -1)
    return np.where(np.greater(left, 0), np.sin(np.pi / 4 * (1 + rise)), 1) * np.where(
        np.greater(right, 0), np.cos(np.pi / 4 * (1 + fall)), 1
    )


def _fade(ratio: np.ndarray) -> np.ndarray:
    """Gain of a frequency at `ratio` times the output's Nyquist: 1 up to 0.75, cosine roll-off to 0 at 1.25."""
    return 0.5 + 0.5 * np.cos(np.pi * np.clip((ratio - 0.75) / 0.5, 0, 1))


@dataclass(frozen=True)
class SplineAxis:
    """Uniform cubic B-splines over an axis of `extent` samples, its knots about `pitch` samples apart: the axis is
    cut into round(extent / pitch) equal intervals, so that both ends look alike. pitch 0: the constant function."""

    extent: int
    pitch: int

    @property
    def n_knots(self) -> int:
        return n_knots(self.extent, self.pitch)

    @property
    def n_intervals(self) -> int:
        return self.n_knots - 3

    def evaluate(self, knots: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Knot weights [n_knots, R] -> values [len(x), R] at positions x in sample units."""
        if self.pitch == 0:
            return np.repeat(knots, len(x), axis=0)
        first, taps = self._taps(x)
        return sum(tap[:, None] * knots[first + i] for i, tap in enumerate(taps))

    def project(self, values: np.ndarray, stiffness: float = 0.0) -> np.ndarray:
        """Least squares: values [extent, R] at the sample centres -> knot weights [n_knots, R]. stiffness: what squared
        differences of neighbouring knots cost, in squared errors of all the samples between two (a P-spline: Eilers &
        Marx 1996)."""
        if self.pitch == 0:
            return values.mean(0, keepdims=True)
        first, taps = self._taps(np.arange(self.extent) + 0.5)
        gram = np.zeros((self.n_knots, self.n_knots))
        right = np.zeros((self.n_knots, values.shape[1]))
        starts = np.flatnonzero(np.diff(first, prepend=-1))  # the samples of one interval share their four knots
        for i, tap in enumerate(taps):
            np.add.at(right, first[starts] + i, np.add.reduceat(tap[:, None] * values, starts, axis=0))
            for j, other in enumerate(taps):
                np.add.at(gram, (first[starts] + i, first[starts] + j), np.add.reduceat(tap * other, starts))
        # short axes have more knots than samples, and the outermost knots see little: keep them small
        gram[np.diag_indices_from(gram)] += 1e-6 * self.extent / self.n_intervals
        if stiffness:
            differences = np.diff(np.eye(self.n_knots), axis=0)
            gram += stiffness * self.extent / self.n_intervals * (differences.T @ differences)
        return np.linalg.solve(gram, right)

    def _taps(self, x: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
        """First of the four knots that touch each position, and the four spline values there."""
        t = np.clip(x * (self.n_intervals / self.extent), 0, self.n_intervals - 1e-9)  # hold the ends outside
        first = np.floor(t).astype(np.int64)
        f = t - first
        return first, [(1 - f) ** 3 / 6, 2 / 3 - f**2 + f**3 / 2, 2 / 3 - (1 - f) ** 2 + (1 - f) ** 3 / 2, f**3 / 6]
