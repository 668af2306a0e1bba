"""Cells of a picture cut in quarters, or 2 x 2 of them made one, by an orthonormal map of their heads."""

from __future__ import annotations

import os
from functools import lru_cache

import numpy as np

from ..entropy.regions import CURRENT, MERGED, OWN, QUARTERS
from ..grid import Grid
from .estimate import costs

MARGIN = float(os.environ.get("RM", "0"))
FLAG = float(os.environ.get("RF", ".2"))
OVERLAP = float(os.environ.get("RO", ".5"))
USE = tuple(int(x) for x in os.environ.get("RU", "12"))


def _cosines(n: int, last: bool = False) -> np.ndarray:
    k, x = np.arange(n)[:, None], np.arange(n) + 0.5
    if last:
        m = np.sqrt(2 / n) * np.cos(np.pi * k * x / n)
        m[0] *= np.sqrt(0.5)
        return m
    return np.sqrt(2 / n) * np.cos(np.pi * (k + 0.5) * x / n)


def _fold(a: int, b: int, h: float) -> np.ndarray:
    f = np.eye(a + b)
    for j in range(int(np.ceil(h - 0.5))):
        t = j + 0.5
        left, right = a - 1 - j, a + j
        c, s = np.cos(np.pi / 4 * (1 - t / h)), np.sin(np.pi / 4 * (1 - t / h))
        f[left, left], f[left, right] = c, -s
        f[right, right], f[right, left] = c, s
    return f


def _block(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    out = np.zeros((len(a) + len(b),) * 2)
    out[: len(a), : len(a)], out[len(a) :, len(a) :] = a, b
    return out


@lru_cache(64)
def _quartering(n: int, last: bool) -> np.ndarray:
    """Frequencies of a cell -> those of its halves, interleaved."""
    a = (n + 1) // 2
    s = _block(_cosines(a), _cosines(n - a, last)) @ _fold(a, n - a, 2 * OVERLAP * (n - a) / 2) @ _cosines(n, last).T
    out = np.empty((n, n))
    out[0::2], out[1::2] = s[:a], s[a:]
    return out


@lru_cache(64)
def _merging(a: int, b: int, last: bool) -> np.ndarray:
    """Frequencies of two cells, end to end -> those of one, interleaved: the places of the grid's heads."""
    g = _cosines(a + b, last) @ _fold(a, b, min(a, b) / 2).T @ _block(_cosines(a), _cosines(b, last)).T
    place = sorted(((2 * k, k) for k in range(a)), key=lambda p: p[0]) + [(2 * k + 1, a + k) for k in range(b)]
    out = np.empty_like(g)
    for frequency, (_, at) in enumerate(sorted(place)):
        out[at] = g[frequency]
    return out


class Regions:
    def __init__(self, grid: Grid) -> None:
        self._grid = grid
        self.quarters = [self._each(s) for s in grid.sizes]
        self.merges = [self._pairs(s) for s in grid.sizes]

    @staticmethod
    def _each(sizes):
        m, n = max(sizes), len(sizes)
        out = np.zeros((n, m, m), np.float32)
        for c, s in enumerate(sizes):
            out[c, :s, :s] = _quartering(s, c == n - 1)
        return out

    @staticmethod
    def _pairs(sizes):
        m, n = max(sizes), len(sizes)
        out = np.zeros((n // 2, 2 * m, 2 * m), np.float32)
        for i in range(n // 2):
            a, b = sizes[2 * i : 2 * i + 2]
            at = np.r_[0:a, m : m + b]
            out[i][np.ix_(at, at)] = _merging(a, b, 2 * i + 2 == n)
        return out

    def quartered(self, h: np.ndarray, inverse: bool = False) -> np.ndarray:
        a, b = ((q.transpose(0, 2, 1) if inverse else q) for q in self.quarters)
        x = np.matmul(a[:, None, None], h.transpose(3, 0, 4, 1, 2))  # R C Q M N
        x = np.matmul(x.transpose(2, 1, 0, 3, 4), b.transpose(0, 2, 1)[:, None, None])  # Q C R M N
        return x.transpose(1, 3, 4, 2, 0)

    def merged(self, h: np.ndarray, inverse: bool = False) -> np.ndarray:
        c, m, n, rows, columns = h.shape
        r, q = rows // 2, columns // 2
        a, b = ((g.transpose(0, 2, 1) if inverse else g) for g in self.merges)
        x = h[..., : 2 * r, : 2 * q].reshape(c, m, n, r, 2, q, 2).transpose(3, 0, 5, 4, 1, 6, 2).reshape(r, c, q, 2 * m, 2 * n)
        x = np.matmul(a[:, None, None], x)
        x = np.matmul(x.transpose(2, 1, 0, 3, 4), b.transpose(0, 2, 1)[:, None, None])  # q c r 2m 2n
        x = x.reshape(q, c, r, 2, m, 2, n).transpose(1, 4, 6, 2, 3, 0, 5).reshape(c, m, n, 2 * r, 2 * q)
        out = np.array(h)
        out[..., : 2 * r, : 2 * q] = x
        return out

    def apply(self, h: np.ndarray, modes: np.ndarray, inverse: bool = False) -> np.ndarray:
        out = np.array(h, np.float32)
        for size, f in ((QUARTERS, self.quartered), (MERGED, self.merged)):
            if (modes == size).any():
                out[..., modes == size] = f(h, inverse)[..., modes == size]
        return out

    def choose(self, h: np.ndarray, unit: np.ndarray) -> np.ndarray:
        own = costs(np.abs(h / unit)).sum((0, 1, 2))
        modes = np.zeros(own.shape, np.int8)
        best = own.copy()
        if 1 in USE:
            small = costs(np.abs(self.quartered(h) / unit)).sum((0, 1, 2)) + MARGIN * own + FLAG
            modes[small < best] = QUARTERS
            best = np.minimum(best, small)
        if 2 in USE:
            large = costs(np.abs(self.merged(h) / unit)).sum((0, 1, 2)) + MARGIN * own
            r, q = (n // 2 for n in own.shape)
            group = lambda x: x[: 2 * r, : 2 * q].reshape(r, 2, q, 2).sum((1, 3))
            pays = group(large) + FLAG < group(best)
            wide = np.zeros(own.shape, bool)
            wide[: 2 * r, : 2 * q] = pays.repeat(2, 0).repeat(2, 1)
            modes[wide] = MERGED
        return modes
