"""The search for dependent codes: the best path through all states, under the prices that the decoder's contexts give."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .entropy.context import Networks
from .entropy.dependent import HALF_STEP, Turn
from .entropy.diagonals import Diagonals
from .entropy.learned import N_LEARNED_CLASSES, LearnedTile

__all__ = ["best_path"]

LOWEST_ONE = 0.4  # half steps from which on a weight may become a code
LOWEST_LAST = 1.0  # the same for the last codes of a colour, among which a code is dear
FAR = np.float32(1e30)


@dataclass(frozen=True)
class _Pass:
    """Of n frequencies and k cells: the weights' places, their classes, and bits of their signs."""

    index: tuple[np.ndarray, ...]
    colour: int
    half: int
    cells: np.ndarray
    classes: np.ndarray
    sign_bits: np.ndarray
    exists: np.ndarray | None


class _Survey(LearnedTile):
    """Visits codes as the coder does and notes what it would see there. Codes need not be on any path."""

    def __init__(
        self, codes: np.ndarray, weights: np.ndarray, valid: np.ndarray | None, networks: Networks, bits: np.ndarray
    ) -> None:
        """codes: half steps; weights: what they stand for, in half steps; bits [N_SIGN_CLASSES, 2]."""
        super().__init__(codes, valid, networks.magnitudes, networks.signs, dependent=True)
        self._weights, self._bits = weights, bits
        self.passes: list[_Pass] = []

    def _sized(self, code, context, true, exists, now):  # type: ignore[no-untyped-def]
        weights = self._weights[now.colour][now.index].reshape(len(now.index[0]), -1)[:, now.cells]
        which = np.nonzero(np.abs(weights) >= LOWEST_ONE)
        sign_bits = np.ones(weights.shape, np.float32)
        if len(which[0]):
            size = np.maximum((true[which] + 1) >> 1, 1)
            found, expected = self._expected(self._at(which, now), which, size, now)
            sign_bits[which] = self._bits[found, ((weights[which] < 0) != expected).astype(np.int64)]
        self.passes.append(_Pass(now.index, now.colour, now.half, now.cells, context, sign_bits, exists))
        return true

    def _signed(self, code, halves, negative, now):  # type: ignore[no-untyped-def]
        which = np.nonzero(halves)
        size = (halves[which] + 1) >> 1
        if len(size):
            self._signs.learn(self._at(which, now), np.where(negative[which], -size, size))
        return np.where(negative, -halves, halves)


def best_path(
    weights: np.ndarray,
    codes: np.ndarray,
    valid: np.ndarray | None,
    networks: Networks,
    trade: float,
    prices: tuple[np.ndarray, np.ndarray],
) -> np.ndarray:
    """Codes int32 of a tile, in half steps, signed as the weights are.

    weights: view [C, M, M', *cells] in half steps. codes: a first guess, in half steps, from which contexts are taken.
    trade: squared steps that one bit is worth. prices: bits [contexts, magnitudes] of indices without their signs, and
    of signs [N_SIGN_CLASSES, 2].
    """
    survey = _Survey(codes.copy(), weights, valid, networks, prices[1])
    n_diagonals = sum(codes.shape[1:3]) - 1
    chains, sizes = survey._chains, np.abs(weights)
    stops = Diagonals(codes.shape[1:3]).stops(sizes >= LOWEST_LAST, 0, n_diagonals)
    survey.run(0, n_diagonals, stops, lambda _, values: values)
    cost = np.full((4, *chains.shape), FAR, np.float32)
    cost[0] = 0
    taken: list[tuple[_Pass, Turn, np.ndarray, np.ndarray]] = []
    priced = np.float32(trade) * prices[0]
    for p in survey.passes:
        x = sizes[p.colour][p.index].reshape(len(p.index[0]), -1)[:, p.cells]
        for turn in chains.turns(*p.index, p.half):
            at = (turn.rows, turn.cells)
            k, error = _choices(x[at], p.classes[at], np.float32(trade) * p.sign_bits[at], priced)
            if p.exists is not None:
                error[0::2, ~p.exists[at]] = 0
                error[1::2, ~p.exists[at]] = FAR
                k[0::2, ~p.exists[at]] = 0
            error = chains.spread(error, turn)
            if error.shape[-2:] != turn.shape:  # cells that are missing are zeros
                error[1::2, :, turn.shape[0] :] = FAR
                error[1::2, :, :, turn.shape[1] :] = FAR
            old = cost[:, turn.chains]
            # states 0 and 2 come from 0 and 1, states 1 and 3 from 2 and 3; parity: 0 for the one, 1 for the other
            new = np.empty_like(old)
            second = np.empty(old.shape, bool)
            for state in range(4):
                low, swapped = 2 * (state & 1), state >> 1
                one = old[low] + error[low + swapped]
                two = old[low + 1] + error[low + 1 - swapped]
                second[state] = two < one
                new[state] = np.where(second[state], two, one)
            cost[:, turn.chains] = new
            taken.append((p, turn, k, second))
    result = np.zeros(codes.shape, np.int32)
    state = cost.argmin(0)
    for p, turn, k, second in reversed(taken):
        now = state[turn.chains]
        came_second = np.take_along_axis(second, now[None], 0)[0]
        odd, parity = now & 1, came_second ^ (now >> 1)
        state[turn.chains] = 2 * odd + came_second
        odd, parity = chains.gather(odd, turn), chains.gather(parity, turn)
        chosen = np.take_along_axis(k, (2 * odd + parity)[None], 0)[0]
        halves = 2 * chosen - (odd & (chosen > 0))
        u, v = (i[turn.rows, None] for i in p.index)
        row, column = np.unravel_index(p.cells[turn.cells], codes.shape[3:])
        result[p.colour, u, v, row, column] = halves
    return np.where(weights < 0, -result, result)


def _choices(
    x: np.ndarray, classes: np.ndarray, sign: np.ndarray, priced: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """x, classes, sign [n, k] -> for the even and the odd quantiser, for even and odd indices: [4, n, k] the better
    index and what it costs."""
    index = np.empty((4, *x.shape), np.int32)
    cost = np.empty((4, *x.shape), np.float32)
    largest = priced.shape[1] - 1
    for odd in (0, 1):
        row = classes + N_LEARNED_CLASSES * odd
        low = ((x + odd) * np.float32(0.5)).astype(np.int32)

        def costs(k: np.ndarray) -> np.ndarray:
            halves = 2 * k - odd * (k > 0)
            bits = priced[row, np.minimum(k, largest)] + np.where(k > 0, sign, np.float32(0))
            return np.asarray(np.square((x - halves) * np.float32(HALF_STEP)) + bits)

        of_zero = np.square(x * np.float32(HALF_STEP)) + priced[row, 0]
        of_low, of_high = costs(low), costs(low + 1)
        even = (low & 1) == 0
        index[2 * odd] = np.where(even, low, low + 1)
        cost[2 * odd] = np.where(even, of_low, of_high)
        index[2 * odd][of_zero < cost[2 * odd]] = 0
        cost[2 * odd] = np.minimum(cost[2 * odd], of_zero)
        index[2 * odd + 1] = np.where(even, low + 1, low)
        cost[2 * odd + 1] = np.where(even, of_high, of_low)
    return index, cost
