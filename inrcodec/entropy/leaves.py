"""Heads of sounds: which codes are coded together, and under which context, in the order of time."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np

__all__ = ["N_TIME_CONTEXTS", "TIME_BANDS", "TIME_THRESHOLDS", "TimeTile"]

# Lower ends of the classes of a weighted sum of magnitudes, in eighths: three an octave, up to louder ones than in
# pictures. Weights are about those of the most likely geometric distribution (docs/compression.md).
TIME_THRESHOLDS = (
    2, 3, 5, 7, 10, 14, 19, 25, 32, 41, 53, 68, 87, 110, 140, 177, 224, 283, 358, 452, 571, 720, 908, 1145, 1444,
    1821, 2295, 2892, 3645,
)  # fmt: skip
_CLASS = np.searchsorted(TIME_THRESHOLDS, np.arange(TIME_THRESHOLDS[-1] + 1), side="right").astype(np.int16)
CAP = 1023  # magnitudes as contexts see them

TIME_BANDS = (1, 3, 8, 20, 50, 120, 300)  # 2,048ths of Nyquist
N_TIME_BANDS = len(TIME_BANDS) + 1
N_TIME_CONTEXTS = (len(TIME_THRESHOLDS) + 1) * N_TIME_BANDS * 2 * 2

Code = Callable[[np.ndarray, np.ndarray], np.ndarray]


class TimeTile:
    """Leaf after leaf (the parts of cells that are cut; else cells), channel after channel, the even frequencies before
    the odd ones. (A tensor with a single frequency axis that is no sound is coded in the same way.)

    Even frequencies weigh, in eighths, the leaf before at k (8), k ± 1 (6), k ± 2 (6) and the one before that at k (4),
    k ± 1 (2); odd ones their own neighbours at k ± 1 (16), k ± 3 (6), the leaf before at k (8), k ± 1 (4), k ± 2 (2)
    and the one before that at k (2); both the same code of the channels before (12). Of a leaf of another length that
    is the mean between the same frequencies.
    """

    def __init__(self, codes: np.ndarray, leaves: list[tuple[int, ...]]) -> None:
        """codes: view [C, M, cells]; a cell has those of its leaves end to end. leaves: their samples, by cell."""
        self._codes = codes
        self._leaves = [
            (t, slice(stop - size, stop))
            for t, sizes in enumerate(leaves)
            for size, stop in zip(sizes, np.cumsum(sizes).tolist(), strict=True)
        ]

    def stops(self, low: int, high: int) -> np.ndarray:
        """Per channel, the frequency of a cell below which all codes other than 0 are."""
        m = self._codes.shape[1]
        result = np.zeros(len(self._codes), np.int64)
        if not self._codes.any():  # a reader only asks how many there are
            return result
        for t, at in self._leaves:
            for c, leaf in enumerate(self._codes[:, at, t] != 0):
                if leaf.any():
                    last = len(leaf) - 1 - int(leaf[::-1].argmax())
                    result[c] = max(result[c], last * m // len(leaf) + 1)
        return result

    def run(self, low: int, high: int, stops: np.ndarray, code: Code) -> None:
        n_channels, m, _ = self._codes.shape
        # magnitudes of the leaf before, and of the one before that
        past = older = [np.zeros(1, np.int32)] * n_channels
        for t, at in self._leaves:
            size = at.stop - at.start
            now = []
            joint = np.zeros(size, np.int32)  # twelve times those of the channels before
            for c in range(n_channels):
                own = np.zeros(size + 6, np.int32)  # three zeros on either side
                if not stops[c]:
                    now.append(own[3:-3])
                    continue
                end = -(-int(stops[c]) * size // m)
                band, halves = _places(size, end)
                p, q = _carried(past[c], size), _carried(older[c], size)
                beside, further = p[1:-3] + p[3:-1], p[:-4] + p[4:]
                for parity, k in enumerate(halves):
                    if parity:
                        weighted = (4 * p[2:-2] + 2 * beside + further + q[2:-2]) >> 2
                        weighted += 16 * (own[2:-4] + own[4:-2]) + 6 * (own[:-6] + own[6:])
                    else:
                        weighted = (4 * p[2:-2] + 3 * (beside + further) + 2 * q[2:-2] + q[1:-3] + q[3:-1]) >> 2
                    level = _CLASS[np.minimum((weighted + joint)[k], TIME_THRESHOLDS[-1])]
                    context = ((level * N_TIME_BANDS + band[k]) * 2 + min(c, 1)) * 2 + parity
                    got = code(context, self._codes[c, at, t][k])
                    self._codes[c, at, t][k] = got
                    own[3:-3][k] = np.minimum(np.abs(got), CAP)
                now.append(own[3:-3])
                joint = joint + 12 * now[c]
            past, older = now, past


@lru_cache(maxsize=64)
def _places(size: int, end: int) -> tuple[np.ndarray, tuple[slice, ...]]:
    """Bands of a leaf's frequencies, and where the even and the odd ones below `end` are, if any."""
    band = np.searchsorted(TIME_BANDS, np.arange(size) * 2048 // size, side="right")
    return band.astype(np.int16), tuple(slice(parity, end, 2) for parity in (0, 1) if parity < end)


@lru_cache(maxsize=64)
def _between(length: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Where the frequencies of a leaf of so many samples lie among those of another length: from and to."""
    k = np.arange(size)
    first = k * length // size
    return first, np.maximum(first + 1, (k + 1) * length // size)


def _carried(magnitudes: np.ndarray, size: int) -> np.ndarray:
    """A leaf's magnitudes at the frequencies of one of so many samples, in eighths, with two zeros on either side."""
    out = np.zeros(size + 4, np.int32)
    if len(magnitudes) == size:
        out[2:-2] = 8 * magnitudes
    elif magnitudes.any():
        first, stop = _between(len(magnitudes), size)
        total = np.concatenate([[0], np.cumsum(magnitudes)])
        out[2:-2] = 8 * (total[stop] - total[first]) // (stop - first)
    return out
