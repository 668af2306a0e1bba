"""Codes which of a sound's cells are split, coarse to fine: neighbours in time say what to expect."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..errors import FormatError
from .alphabet import N_SYMBOLS
from .diagonals import coded

__all__ = ["N_SPLIT_CONTEXTS", "SplitTile", "leaf_sizes", "split_counts"]

LEVELS = 8  # deepest level that has contexts of its own, and more
N_SPLIT_CONTEXTS = LEVELS * 2 * 3
# Cut nodes among _ROW, by place and hint, at level 0 and at further ones: about their shares in a dozen sounds
_FIRST, _FURTHER = (64, 64, 64, 12, 144, 228), (96, 120, 184, 84, 136, 208)
_ROW = 256

Code = Callable[[np.ndarray, np.ndarray], np.ndarray]


class SplitTile:
    """Flags [1, 2^levels − 1, cells] of binary trees: node i of level l, at index 2^l − 1 + i, is cut in two halves.

    Level by level, nodes in the order of time: those of even places, then those of odd ones. What is coded is the
    nodes whose parent is cut (at level 0 all); the others are 0. The context is the level, whether the place is odd,
    and of an even one how many of its parent's two neighbours are cut, of an odd one how many of its own two.
    """

    def __init__(self, codes: np.ndarray, valid: np.ndarray | None, n_axes: int, bands: tuple[int, ...]) -> None:
        self._flags = codes[0]

    def stops(self, low: int, high: int) -> np.ndarray:
        return np.zeros(0, np.int64)

    def run(self, low: int, high: int, stops: np.ndarray, code: Code) -> None:
        n_nodes, n_cells = self._flags.shape
        above = np.ones(n_cells, np.int32)  # the level before, in the order of time
        for level in range(n_nodes.bit_length()):
            if not above.any():
                break  # all others are 0
            nodes = slice(2**level - 1, 2 ** (level + 1) - 1)
            truth = self._flags[nodes].T.reshape(-1)
            exists = np.ones(n_cells, bool) if level == 0 else np.repeat(above, 2) > 0
            hints = np.zeros(n_cells, np.int64) if level == 0 else np.repeat(_neighbours(above), 2)
            now = np.zeros(len(truth), np.int32)
            for odd in (0, 1):
                hint = (_neighbours(now) if odd else hints)[odd::2]
                context = (min(level, LEVELS - 1) * 2 + odd) * 3 + hint
                now[odd::2] = coded(code, context, truth[odd::2], exists[odd::2])
            if now.size and not 0 <= int(now.min()) <= int(now.max()) <= 1:
                raise FormatError("splits: a flag is neither 0 nor 1")
            self._flags[nodes] = now.reshape(n_cells, -1).T
            above = now


def leaf_sizes(flags: np.ndarray, sizes: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Flags [2^levels − 1, cells] of cells of so many samples -> the samples of each cell's leaves, in the order of
    time: a node of n is cut into ⌊n/2⌋ and the rest."""
    return [tuple(_leaves(tree, 0, n)) for tree, n in zip(flags.T != 0, sizes, strict=True)]


def _leaves(tree: np.ndarray, node: int, n: int) -> list[int]:
    if node >= len(tree) or not tree[node]:
        return [n]
    return _leaves(tree, 2 * node + 1, n // 2) + _leaves(tree, 2 * node + 2, n - n // 2)


def _neighbours(flags: np.ndarray) -> np.ndarray:
    """How many of the two beside are set."""
    total = np.zeros(len(flags), np.int64)
    total[1:] += flags[:-1]
    total[:-1] += flags[1:]
    return total


def split_counts() -> np.ndarray:
    """Starting counts int64 [N_SPLIT_CONTEXTS, N_SYMBOLS] of 0 and 1; no other symbol is ever coded."""
    counts = np.zeros((N_SPLIT_CONTEXTS, N_SYMBOLS), np.int64)
    counts[:, 1] = [n for shares in (_FIRST, *[_FURTHER] * (LEVELS - 1)) for n in shares]
    counts[:, 0] = _ROW - counts[:, 1]
    return counts
