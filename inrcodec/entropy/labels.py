"""Codes a label map (the segment of each sample) coarse to fine: neighbours vote for the label in their middle."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from ..errors import FormatError
from .alphabet import N_SYMBOLS

__all__ = ["N_LABEL_CONTEXTS", "LabelTile", "label_counts"]

N_LABEL_CONTEXTS = 2 * 5 * 5
ESCAPE = 4  # codes below name a neighbour's label, by its rank; from it on the label itself
PASS_POSITIONS = 2**16
# known neighbours of a position, in steps of half the stride: of a centre of four, and of the middle between two
_NEIGHBOURS = (((-1, -1), (-1, 1), (1, -1), (1, 1)), ((-1, 0), (0, -1), (0, 1), (1, 0)))

Code = Callable[[np.ndarray, np.ndarray], np.ndarray]


class LabelTile:
    """A map [1, H, W] of labels >= 0, interlaced: known at stride 2h, it becomes known at stride h by three lattices,
    first the centres of four known positions, then the middles in rows, then those in columns.

    A code is the rank of the label among those of the four known neighbours, most votes first, the earlier neighbour
    of equals; or ESCAPE + label. The context is whether it is a centre, and the votes of the first two ranks.
    """

    def __init__(self, codes: np.ndarray, valid: np.ndarray | None, n_axes: int, bands: tuple[int, ...]) -> None:
        self._labels = codes[0]
        (self._n_labels,) = bands

    def stops(self, low: int, high: int) -> np.ndarray:
        return np.zeros(0, np.int64)

    def run(self, low: int, high: int, stops: np.ndarray, code: Code) -> None:
        height, width = self._labels.shape
        first = self._labels[:1, :1]
        first[...] = self._escaped(code(np.zeros(1, np.int64), first.ravel() + ESCAPE))
        for half in _halves(max(height, width)):
            for at, kind in (((half, half), 0), ((0, half), 1), ((half, 0), 1)):
                rows, columns = (np.arange(a, n, 2 * half) for a, n in zip(at, (height, width), strict=True))
                n_rows = max(1, PASS_POSITIONS // max(1, len(columns)))
                for start in range(0, len(rows) if len(columns) else 0, n_rows):
                    self._pass(rows[start : start + n_rows], columns, half, kind, code)

    def _pass(self, rows: np.ndarray, columns: np.ndarray, half: int, kind: int, code: Code) -> None:
        labels, votes = self._candidates(rows, columns, half, kind)
        context = (kind * 5 + votes[0]) * 5 + votes[1]
        place = np.ix_(rows, columns)
        truth = self._labels[place].ravel()
        named = (labels == truth) & (votes > 0)
        got = code(context, np.where(named.any(0), named.argmax(0), truth + ESCAPE).astype(np.int32))
        rank, each = np.minimum(got, ESCAPE - 1), np.arange(len(got))
        if ((got < ESCAPE) & (votes[rank, each] == 0)).any():
            raise FormatError("label map: a code names a neighbour that is not there")
        escaped = got >= ESCAPE
        named_labels = labels[rank, each]
        named_labels[escaped] = self._escaped(got[escaped])
        self._labels[place] = named_labels.reshape(place[0].size, -1)

    def _escaped(self, codes: np.ndarray) -> np.ndarray:
        """Codes that stand for labels themselves -> those labels."""
        labels = codes - ESCAPE
        if labels.size and (int(labels.min()) < 0 or int(labels.max()) >= self._n_labels):
            raise FormatError(f"label map: labels {labels.min()} to {labels.max()}, wanted 0 to {self._n_labels - 1}")
        return labels

    def _candidates(self, rows: np.ndarray, columns: np.ndarray, half: int, kind: int) -> tuple[np.ndarray, np.ndarray]:
        """Labels [4, N] of the known neighbours by rank, and their votes [4, N]; 0 votes where there are fewer."""
        height, width = self._labels.shape
        near, there = [], []
        for down, right in _NEIGHBOURS[kind]:
            y, x = rows + down * half, columns + right * half
            near.append(self._labels[np.ix_(np.clip(y, 0, height - 1), np.clip(x, 0, width - 1))].ravel())
            inside = ((y >= 0) & (y < height))[:, None] & ((x >= 0) & (x < width))
            there.append(inside.ravel())
        labels, known = np.stack(near), np.stack(there)
        votes = np.zeros(labels.shape, np.int64)
        for j in range(4):
            same = (labels == labels[j]) & known & known[j]
            # the first of equal labels holds their votes
            votes[j] = np.where(same[:j].any(0), 0, same.sum(0))
        order = np.argsort(-votes, axis=0, kind="stable")
        return np.take_along_axis(labels, order, 0), np.take_along_axis(votes, order, 0)


def label_counts() -> np.ndarray:
    """Starting counts int64 [N_LABEL_CONTEXTS, N_SYMBOLS]: a rank of v votes has 64 v³, at least 16; labels that no
    neighbour has 1 each, up to the largest a file may have."""
    counts = np.zeros((N_LABEL_CONTEXTS, N_SYMBOLS), np.int64)
    votes = np.indices((2, 5, 5)).reshape(3, -1)[1:]
    counts[:, :2] = 64 * votes.T**3
    counts[:, :4] = np.maximum(counts[:, :4], 16)
    counts[:, 4:33] = 1
    return counts


def _halves(extent: int) -> Iterator[int]:
    """…, 4, 2, 1: half the strides, from the smallest power of two that is not below the extent."""
    half = 1 << max(0, extent - 1).bit_length() >> 1
    while half:
        yield half
        half //= 2
