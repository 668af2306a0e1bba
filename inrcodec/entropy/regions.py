"""Heads of a picture whose cells are of three sizes: cells of the grid, quarters of these, and 2 x 2 of them as one.

Codes lie in the tensor of the grid's heads, interleaved: frequency (2k + i, 2l + j) of a large cell is frequency (k, l)
of its cell (i, j), and frequency (k, l) of quarter (i, j) is frequency (2k + i, 2l + j) of its cell.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .exact import CAP
from .learned import Code, LearnedTile

OWN, QUARTERS, MERGED = 0, 1, 2
ORDER = (MERGED, OWN, QUARTERS)
CURRENT: dict = {}


def modes_of(cells):
    m = CURRENT.get("modes")
    return m if m is not None and m.shape == tuple(cells) and m.any() else None


def padded(x: np.ndarray) -> np.ndarray:
    """[..., M, N, R, Q] -> all even."""
    pads = [(0, 0)] * (x.ndim - 4) + [(0, n & 1) for n in x.shape[-4:]]
    return np.pad(x, pads) if any(p[1] for p in pads) else x


def view(x: np.ndarray, size: int) -> np.ndarray:
    """Codes of the grid's heads [C, M, N, R, Q], all even, as those of cells of one size."""
    c, m, n, r, q = x.shape
    if size == OWN:
        return x
    if size == MERGED:
        return x.reshape(c, m, n, r // 2, 2, q // 2, 2).transpose(0, 1, 4, 2, 6, 3, 5).reshape(c, 2 * m, 2 * n, r // 2, q // 2)
    return x.reshape(c, m // 2, 2, n // 2, 2, r, q).transpose(0, 1, 3, 5, 2, 6, 4).reshape(c, m // 2, n // 2, 2 * r, 2 * q)


def unview(x: np.ndarray, size: int) -> np.ndarray:
    c, m, n, r, q = x.shape
    if size == OWN:
        return x
    if size == MERGED:
        return x.reshape(c, m // 2, 2, n // 2, 2, r, q).transpose(0, 1, 3, 5, 2, 6, 4).reshape(c, m // 2, n // 2, 2 * r, 2 * q)
    return x.reshape(c, m, n, r // 2, 2, q // 2, 2).transpose(0, 1, 4, 2, 6, 3, 5).reshape(c, 2 * m, 2 * n, r // 2, q // 2)


def exists(valid, shape, modes, size):
    """[F, G, r, q] bool of a view."""
    mask = np.broadcast_to(modes == size, shape[1:]).copy()
    if valid is not None:
        mask &= np.broadcast_to(valid, shape[1:])
    return view(padded(mask)[None], size)[0]


def mean4(x: np.ndarray, of_cells: bool) -> np.ndarray:
    """[C, M, N, R, Q] even, magnitudes: mean over the 2 x 2 cells of every group, or 2 x 2 frequencies, everywhere."""
    c, m, n, r, q = x.shape
    if of_cells:
        s = x.reshape(c, m, n, r // 2, 2, q // 2, 2).sum((4, 6))
        s = (s + 2) >> 2
        return s.repeat(2, 3).repeat(2, 4)
    s = x.reshape(c, m // 2, 2, n // 2, 2, r, q).sum((2, 4))
    s = (s + 2) >> 2
    return s.repeat(2, 1).repeat(2, 2)


def brought(codes: np.ndarray, modes: np.ndarray, size: int) -> np.ndarray | None:
    """Magnitudes that larger cells have at the places of a view, int32, 0 at cells that are its own or smaller; codes
    [C, M, N, R, Q] even, in half steps."""
    if size == MERGED:
        return None
    magnitude = np.minimum(np.abs(codes), CAP).astype(np.int32)
    wide = padded(modes[None, None])[0, 0]
    known = np.where(wide == MERGED, mean4(magnitude, True), 0)
    if size == QUARTERS:
        known = view(mean4(np.where(wide == OWN, magnitude, known), False) * (wide != QUARTERS), QUARTERS)
    return known


def bounds(size: int, low: int, high: int, n: int, n_view: int) -> tuple[int, int]:
    """Diagonals of a view that go with low … high − 1 of the grid's n."""
    def at(s: int) -> int:
        if s >= n:
            return n_view
        if s == 0:
            return 0
        return min(n_view, 2 * s + 1 if size == MERGED else s if size == OWN else (s - 1) // 2)
    return at(low), at(high)


class SizedTile:
    """Large cells first, which smaller ones see."""

    def __init__(self, codes: np.ndarray, valid, modes: np.ndarray, make: Callable[..., LearnedTile]) -> None:
        self._codes, self._modes = codes, modes
        self._n = codes.shape[1] + codes.shape[2] - 1
        wide = padded(codes)
        self._views = {s: np.array(view(wide, s), order="C") for s in ORDER if (modes == s).any()}
        self._exist = {s: exists(valid, codes.shape, modes, s) for s in self._views}
        for s, v in self._views.items():
            v *= self._exist[s]
        self.tiles = {s: make(v, self._exist[s], s) for s, v in self._views.items()}

    def _whole(self) -> np.ndarray:
        total = 0
        for s, v in self._views.items():
            total = total + unview(v, s)
        return total

    def stops(self, low: int, high: int) -> np.ndarray:
        out = []
        for s, tile in self.tiles.items():
            a, b = bounds(s, low, high, self._n, tile.n_diagonals)
            stops = tile.stops(a, b)
            for stop in stops.tolist():
                t = low
                while t < high and bounds(s, low, t, self._n, tile.n_diagonals)[1] < stop:
                    t += 1
                out.append(t)
        return np.array(out)

    def run(self, low: int, high: int, stops: np.ndarray, code: Code) -> None:
        n_colours = len(self._codes)
        for i, (s, tile) in enumerate(self.tiles.items()):
            a, b = bounds(s, low, high, self._n, tile.n_diagonals)
            own = [bounds(s, low, int(t), self._n, tile.n_diagonals)[1] for t in stops[i * n_colours : (i + 1) * n_colours]]
            tile.known = brought(self._whole(), self._modes, s)
            tile.run(a, b, np.maximum(np.array(own), a), code)
        m, n, r, q = self._codes.shape[1:]
        self._codes[...] = self._whole()[:, :m, :n, :r, :q]
