"""Dependent quantisation: two quantisers take turns, by a state machine that the codes before drive.

Each quantiser's step is 5/4 of the file's; codes are whole numbers of half of that. In states 0 and 1 the even ones
can be had, in states 2 and 3 zero and the odd ones; what is coded is an index k: 2k half steps, or 2k − 1. Together
they are as dense as one quantiser of half the step, at little more than half the choices (trellis-coded quantisation:
Marcellin & Fischer 1990; states as in VVC, Schwarz et al. 2019).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

__all__ = ["HALF_STEP", "NEXT", "Chains", "Turn"]

HALF_STEP = 5 / 8  # of the file's step, which a quantiser alone has at about the same quality
NEXT = np.array([[0, 2], [2, 0], [1, 3], [3, 1]], np.int8)  # [state, parity of k]; state >> 1: which quantiser


@dataclass(frozen=True)
class Turn:
    """The codes of a pass that are one further in their chains. rows: of its frequencies; cells: of its half's;
    chains, shape: those [n, …] that go on, and how many there are in rows and columns of 2 × 2 cells."""

    rows: slice
    cells: slice
    chains: np.ndarray
    shape: tuple[int, int]


class Chains:
    """Which codes drive one another's state. A chain holds, of 2 × 2 cells and all colours, the codes (u, v) whose
    min(u, v) is the same, in the order of coding: long enough to pay, and with few codes of one pass in it.

    A turn that is not coded is one of zeros, and so are cells that do not exist. A pass takes every chain an even
    number of times, and two zeros lead back to where they began: passes that are left out change nothing.
    """

    def __init__(self, frequencies: tuple[int, ...], cells: tuple[int, ...]) -> None:
        rows, columns = cells
        self._shape = (-(-rows // 2), -(-columns // 2))
        self.shape = (min(frequencies), *self._shape)
        row, column = np.indices(cells).reshape(2, -1)
        place = np.arange(rows * columns)
        quarters = [[place[(row % 2 == r) & (column % 2 == r ^ half)] for r in (0, 1)] for half in (0, 1)]
        # cells, half by half and even rows first
        self.cells = np.concatenate([q for half in quarters for q in half])
        self.n_first = sum(map(len, quarters[0]))
        self._sizes = [[((rows - r + 1) // 2, (columns - (r ^ half) + 1) // 2) for r in (0, 1)] for half in (0, 1)]

    def turns(self, index: tuple[np.ndarray, ...], half: int) -> Iterator[Turn]:
        """Of a pass over the frequencies (u, v), each [n], of one diagonal, u rising."""
        u, v = index
        middle = int((u < v).sum())
        chains = np.minimum(u, v)
        for rows in (slice(0, middle), slice(middle, len(u))):
            start = 0
            for shape in self._sizes[half]:
                cells = slice(start, start + shape[0] * shape[1])
                if rows.start < rows.stop:
                    yield Turn(rows, cells, chains[rows], shape)
                start = cells.stop

    def spread(self, values: np.ndarray, turn: Turn) -> np.ndarray:
        """Values [..., n, cells] of a turn on all chains it takes, [..., n, *rows and columns]: zeros where a cell is
        missing."""
        inner = values.reshape(*values.shape[:-1], *turn.shape)
        if turn.shape == self._shape:
            return inner
        result = np.zeros((*values.shape[:-1], *self._shape), values.dtype)
        result[..., : turn.shape[0], : turn.shape[1]] = inner
        return result

    def gather(self, values: np.ndarray, turn: Turn) -> np.ndarray:
        """Inverse of `spread`."""
        inner = values[..., : turn.shape[0], : turn.shape[1]]
        return inner.reshape(*inner.shape[:-2], -1)
