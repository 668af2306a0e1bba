"""What the context network is off by in one file: shifts that an encoder finds and a decoder is told.

A network that was trained on many pictures is wrong about each of them in its own way: at this frequency and colour,
codes are a little larger, or smaller, than it thinks. A shift is added to what it answers there, in quarters of a
class: a change of the bias of its last layer, by frequency.
"""

from __future__ import annotations

import numpy as np

from .exact import POSITIONS
from .alphabet import N_SYMBOLS, n_extra_bits, split
from .learned import (
    LARGEST_SHIFT,
    N_LEARNED_CLASSES,
    OF_SHIFTS,
    ContextNetwork,
    LearnedTile,
    Pass,
    class_of,
    shift_codes,
)
from .signs import SignNetwork
from .tables import INCREMENT, symbol_bits

__all__ = ["best_shifts"]

ROUNDS = 2  # of shifts under the tables that the shifts before make
_N_QUARTERS = 4 * N_LEARNED_CLASSES + 2 * LARGEST_SHIFT + 1  # what the network may answer


class _Survey(LearnedTile):
    """Visits codes as the coder does. Contexts say which frequency of which colour it is, and what the network
    answers."""

    def contexts(self, features: np.ndarray, now: Pass) -> np.ndarray:
        of = np.ravel_multi_index((np.full(len(now.index[0]), now.colour), *now.index), self._codes.shape[:3])
        u, v = now.position
        u = u + POSITIONS * self._size
        quarters = self._network.quarters(features, u, v, now.colour, now.half).astype(np.int64)
        # `sized` adds the odd quantiser's first class
        return (of[:, None] * _N_QUARTERS + quarters + LARGEST_SHIFT) * 2 * N_LEARNED_CLASSES

    def signed(self, code: object, halves: np.ndarray, negative: np.ndarray, now: Pass) -> np.ndarray:
        return np.where(negative, -halves, halves)


def best_shifts(
    codes: np.ndarray,
    valid: np.ndarray | None,
    network: ContextNetwork,
    signs: SignNetwork,
    *,
    counts: np.ndarray,
    size: int = 0,
    known: np.ndarray | None = None,
) -> np.ndarray:
    """int8 [C, M, M']: the shifts that save more bits than they cost in a tile of dependent codes [C, M, M', *cells];
    all 0 where together they do not pay for being told. counts: starting counts of all contexts."""
    seen: list[np.ndarray] = []

    def note(contexts: np.ndarray, magnitudes: np.ndarray) -> np.ndarray:
        seen.append(contexts * N_SYMBOLS + split(magnitudes)[0])
        return magnitudes

    survey = _Survey(codes.copy(), valid, network, signs, dependent=True, size=size)
    survey.known = known
    n_diagonals = sum(codes.shape[1:3]) - 1
    stops = survey.stops(0, n_diagonals)
    survey.run(0, n_diagonals, stops, note)
    found, times = np.unique(np.concatenate([np.zeros(0, np.int64), *seen]), return_counts=True)
    found, symbols = np.divmod(found, N_SYMBOLS)
    found, row = np.divmod(found, 2 * N_LEARNED_CLASSES)  # a row of the quantiser's first class
    of, quarters = np.divmod(found, _N_QUARTERS)
    quarters -= LARGEST_SHIFT
    u, v = np.indices(codes.shape[1:3])
    told = (u + v < stops[:, None, None]).ravel()  # the frequencies whose shifts are in the file
    shifts = np.arange(-LARGEST_SHIFT, LARGEST_SHIFT + 1)
    as_symbols, _ = split(shift_codes(shifts))
    price = symbol_bits(counts[OF_SHIFTS])[as_symbols] + n_extra_bits(as_symbols)
    chosen = np.zeros(len(told), np.int64)
    for _ in range(ROUNDS):
        rows = counts[: 2 * N_LEARNED_CLASSES].astype(np.float64)
        np.add.at(rows, (row + class_of(quarters + chosen[of]), symbols), INCREMENT * times)
        bits = symbol_bits(rows)
        without = _sums(of, times * bits[row + class_of(quarters), symbols], len(told))
        best, chosen = without + price[LARGEST_SHIFT], np.zeros(len(told), np.int64)
        for shift, its_price in zip(shifts.tolist(), price.tolist(), strict=True):
            cost = _sums(of, times * bits[row + class_of(quarters + shift), symbols], len(told)) + its_price
            chosen[cost < best] = shift
            best = np.minimum(cost, best)
    # all zeros need not be told; else the table learns how many there are
    saved = float((without - best + price[LARGEST_SHIFT + chosen])[told].sum())
    symbols, _ = split(shift_codes(chosen[told]))
    learned = symbol_bits(counts[OF_SHIFTS] + INCREMENT * np.bincount(symbols, minlength=N_SYMBOLS))
    pays = saved > float((learned[symbols] + n_extra_bits(symbols)).sum())
    return (chosen if pays else np.zeros_like(chosen)).reshape(codes.shape[:3]).astype(np.int8)


def _sums(of: np.ndarray, bits: np.ndarray, n: int) -> np.ndarray:
    return np.bincount(of, bits.astype(np.float64), n)
