"""The search for dependent codes: the best path through all states, under the prices of the decoder's contexts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .entropy.context import Networks
from .entropy.dependent import HALF_STEP, Turn
from .entropy.learned import N_LEARNED_CLASSES, Code, LearnedTile, Pass

__all__ = ["Prices", "best_path"]

LOWEST_ONE = 0.1  # half steps from which on a weight may become a code: some are worth it for the path alone
LOWEST_SIGN = 0.4  # the same for signs that have a price of their own; below it, a bit
LOWEST_LAST = 1.0  # the same for the last codes of a colour, among which a code is dear
FAR = np.float32(1e30)


@dataclass(frozen=True)
class _Seen:
    """What the coder would see in a pass: classes and bits of signs, each [n, k]."""

    where: Pass
    classes: np.ndarray
    sign_bits: np.ndarray


class _Survey(LearnedTile):
    """Visits codes as the coder does and notes what it would see there. Codes need not be on any path."""

    def __init__(
        self, codes: np.ndarray, weights: np.ndarray, valid: np.ndarray | None, networks: Networks, bits: np.ndarray,
        size: int = 0, known: np.ndarray | None = None,
    ) -> None:
        """codes: half steps; weights: what they stand for, in half steps; bits [N_SIGN_CLASSES, 2]."""
        super().__init__(codes, valid, networks.magnitudes, networks.signs, dependent=True, size=size)
        self.known = known
        self._weights, self._bits = weights, bits
        self.seen: list[_Seen] = []

    def sized(self, code: Code, context: np.ndarray, true: np.ndarray, now: Pass) -> np.ndarray:
        weights = _of_pass(self._weights, now)
        which = np.nonzero(np.abs(weights) >= LOWEST_SIGN)
        sign_bits = np.ones(weights.shape, np.float32)
        if len(which[0]):
            size = np.maximum((true[which] + 1) >> 1, 1)
            found, expected = self.expected(self.at(which, now), which, size, now)
            sign_bits[which] = self._bits[found, ((weights[which] < 0) != expected).astype(np.int64)]
        self.seen.append(_Seen(now, context, sign_bits))
        return true

    def signed(self, code: Code, halves: np.ndarray, negative: np.ndarray, now: Pass) -> np.ndarray:
        which = np.nonzero(halves)
        size = (halves[which] + 1) >> 1
        if len(size):
            self.known_signs.learn(self.at(which, now), np.where(negative[which], -size, size))
        return np.where(negative, -halves, halves)


@dataclass(frozen=True)
class Prices:
    """trade: squared steps that one bit is worth. indices: bits [contexts, magnitudes], float32, of indices without
    their signs; signs: bits [N_SIGN_CLASSES, 2] of expected ones and of others."""

    trade: float
    indices: np.ndarray
    signs: np.ndarray


def best_path(
    weights: np.ndarray, codes: np.ndarray, valid: np.ndarray | None, networks: Networks, prices: Prices,
    size: int = 0, known: np.ndarray | None = None,
) -> np.ndarray:
    """Codes int32 of a tile, in half steps, signed as the weights are: of all paths through the states the one of
    least squared error + trade · bits (Viterbi), in the contexts that `codes` give.

    weights: view [C, M, M', *cells] in half steps. codes: a guess, in half steps.
    """
    survey = _Survey(codes.copy(), weights, valid, networks, prices.signs, size, known)
    n_diagonals = sum(codes.shape[1:3]) - 1
    chains, sizes = survey.chains, np.abs(weights)
    stops = survey.order.stops(sizes >= LOWEST_LAST, 0, n_diagonals)
    survey.run(0, n_diagonals, stops, lambda _, values: values)
    trade = np.float32(prices.trade)
    priced = trade * prices.indices
    cost = np.full((4, *chains.shape), FAR, np.float32)
    cost[0] = 0
    taken: list[tuple[Pass, Turn, np.ndarray, np.ndarray]] = []
    for seen in survey.seen:
        p, x = seen.where, _of_pass(sizes, seen.where)
        for turn in chains.turns(p.index, p.half):
            at = (turn.rows, turn.cells)
            error, is_zero = _choices(x[at], seen.classes[at].astype(np.int32), trade * seen.sign_bits[at], priced)
            if p.exists is not None:
                missing = ~p.exists[at]
                error[0::2, missing], error[1::2, missing] = 0, FAR
            error = chains.spread(error, turn)
            if error.shape[-2:] != turn.shape:  # cells that are missing are zeros
                error[1::2, :, turn.shape[0] :] = FAR
                error[1::2, :, :, turn.shape[1] :] = FAR
            cost[:, turn.chains], second = _advanced(cost[:, turn.chains], error)
            taken.append((p, turn, is_zero, second))
    result = np.zeros(codes.shape, np.int32)
    state = cost.argmin(0)
    for p, turn, is_zero, second in reversed(taken):
        now = state[turn.chains]
        came_second = np.take_along_axis(second, now[None], 0)[0]
        odd, parity = now & 1, came_second ^ (now >> 1)
        state[turn.chains] = 2 * odd + came_second
        odd, parity = chains.gather(odd, turn), chains.gather(parity, turn)
        k = _index(_of_pass(sizes, p)[turn.rows, turn.cells], odd, parity, is_zero)
        if p.exists is not None:
            k[~p.exists[turn.rows, turn.cells]] = 0
        u, v = (i[turn.rows, None] for i in p.index)
        row, column = np.unravel_index(p.cells[turn.cells], codes.shape[3:])
        result[p.colour, u, v, row, column] = 2 * k - (odd & (k > 0))
    return np.where(weights < 0, -result, result)


def _of_pass(values: np.ndarray, p: Pass) -> np.ndarray:
    """values [C, M, M', *cells] -> [n, k]."""
    return values[p.colour][p.index].reshape(len(p.index[0]), -1)[:, p.cells]


def _advanced(cost: np.ndarray, error: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Costs of all states [4, …] after codes whose costs are `error`, as _choices orders them; and whether the best way
    there is from the second of the two states that lead to each: 0 and 2 come from 0 and 1, 1 and 3 from 2 and 3."""
    after, second = np.empty_like(cost), np.empty(cost.shape, bool)
    for state in range(4):
        low, swapped = 2 * (state & 1), state >> 1
        one, two = cost[low] + error[low + swapped], cost[low + 1] + error[low + 1 - swapped]
        second[state] = two < one
        np.minimum(one, two, out=after[state])
    return after, second


def _choices(x: np.ndarray, classes: np.ndarray, sign: np.ndarray, priced: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """x, classes, sign [n, k] -> what the best index costs, [4, n, k]: of the even and the odd quantiser, and of each
    for even and odd indices, of the two indices next to x and 0; and whether it is 0 for even ones, [2, n, k]."""
    cost, is_zero = np.full((4, *x.shape), FAR, np.float32), np.ones((2, *x.shape), bool)
    n_prices, flat = priced.shape[1], priced.reshape(-1)
    unit = np.float32(HALF_STEP)
    of_zero = np.square(x * unit)
    cost[0], cost[2] = of_zero + flat[classes * n_prices], of_zero + flat[(classes + N_LEARNED_CLASSES) * n_prices]
    near = np.nonzero(x >= LOWEST_ONE)
    x, sign, classes = x[near], sign[near], classes[near]
    for odd in (0, 1):
        row = (classes + N_LEARNED_CLASSES * odd) * n_prices
        low = _below(x, odd)
        error = (x + np.float32(odd) - 2 * low) * unit  # of low, if it is not 0; that of high is two half steps less
        bits = flat[row + np.minimum(low, n_prices - 1)] + sign
        zero = cost[2 * odd][near]
        of_low = np.where(low > 0, np.square(error) + bits, zero)
        of_high = np.square(error - 2 * unit) + flat[row + np.minimum(low + 1, n_prices - 1)] + sign
        even = (low & 1) == 0
        of_even = np.where(even, of_low, of_high)
        is_zero[odd][near] = zero < of_even
        cost[2 * odd][near] = np.minimum(of_even, zero)
        cost[2 * odd + 1][near] = np.where(even, of_high, of_low)
    return cost, is_zero


def _index(x: np.ndarray, odd: np.ndarray, parity: np.ndarray, is_zero: np.ndarray) -> np.ndarray:
    """The indices that _choices counted, int32, by quantiser and parity."""
    low = _below(x, odd)
    k = low + ((low & 1) ^ parity)
    k[(parity == 0) & np.where(odd, is_zero[1], is_zero[0])] = 0
    return k


def _below(x: np.ndarray, odd: np.ndarray | int) -> np.ndarray:
    """The index next below x, or at it."""
    return ((x + np.asarray(odd, np.float32)) * np.float32(0.5)).astype(np.int32)
