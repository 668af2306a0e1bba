"""The learned contexts of pictures: a small network, in exact integers, that sees what is decoded already."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from .dependent import NEXT, Chains
from .diagonals import Diagonals, coded
from .exact import CAP, EXACT, LOG, N_COLOURS, POSITIONS, folded, rounded
from .signs import N_SIGN_CLASSES, SignNetwork, Signs

__all__ = [
    "ACTIVATION_BITS",
    "Code",
    "LARGEST_SHIFT",
    "N_FEATURES",
    "N_LEARNED_CLASSES",
    "N_LEARNED_CONTEXTS",
    "OF_SHIFTS",
    "ContextNetwork",
    "LearnedTile",
    "Pass",
    "class_of",
    "shift_codes",
]

Code = Callable[[np.ndarray, np.ndarray], np.ndarray]

# Features of a code at (u, v) on diagonal s = u + v, in this order. L is LOG of a magnitude or sum; H, V, X are sums
# over the two cells beside, the two above and below, the four across corners, A = H + V + X.
_OWN = (
    (1, 0),
    (0, 1),
    (1, 1),
    (2, 0),
    (0, 2),
    (2, 1),
    (1, 2),
    (3, 0),
    (0, 3),
    (-1, 2),
    (2, -1),
)  # L(m) at (u, v) − each
_BESIDE = ((1, 0), (0, 1))  # L(H), L(V), L(X) at (u, v) − each
_AROUND = ((1, 1), (2, 0), (0, 2))  # L(A) at (u, v) − each
_PARTNER = 1  # L at (u − 1, v) + L at (u, v − 1) of the first colour, in the first colour of the second
_TOTALS = 6  # L of sums over diagonal s − 1, diagonal s − 2, all below: of m, then of A
_SAME = 4  # second half: L(H), L(V) at (u, v), L(H + V) at (u − 1, v + 1) and at (u + 1, v − 1)
_COLOURS = 5  # L at (u, v) of the first colour and, from the third on, of the one before; of the first colour L(A) at
# (u, v) and L of the sum over (u − 1, v + 1), (u + 1, v − 1); from the third on, L(A) at (u, v) of the one before
_N_LOWER = len(_OWN) + 3 * len(_BESIDE) + len(_AROUND) + _PARTNER + _TOTALS
N_FEATURES = _N_LOWER + _SAME + _COLOURS

N_LEARNED_CLASSES = 32
# first those of magnitudes, of codes alone and of the even quantiser, then of the odd one; then signs; last, shifts
N_LEARNED_CONTEXTS = 2 * N_LEARNED_CLASSES + N_SIGN_CLASSES + 1
OF_SHIFTS = N_LEARNED_CONTEXTS - 1
LARGEST_SHIFT = 12  # quarters of a class
ACTIVATION_BITS = 5  # fractional bits of features and activations
_LARGEST_FEATURE = 2 * int(LOG[-1])  # one feature is a sum of two L
_RUN = 2**13  # codes that go through the network at a time: their activations stay in the cache


@dataclass(frozen=True)
class ContextNetwork:
    """Integers only; layer l: floor(y · 2^−shift[l] + ½), clipped to 0 … limit; at the end quarters of a class,
    floor(4 y · 2^−shift[2]).

    weights: int16 [hidden_0, N_FEATURES], [hidden_1, hidden_0], [hidden_1]. bias: int32 of the second and last layers.
    place: int32 [POSITIONS, POSITIONS, N_COLOURS, 2 halves, hidden_0], the first layer's.
    """

    weights: tuple[np.ndarray, np.ndarray, np.ndarray]
    place: np.ndarray
    bias: tuple[np.ndarray, np.ndarray]
    shift: tuple[int, int, int]
    limit: int

    def __post_init__(self) -> None:
        """Raises ValueError where a sum could leave the whole numbers that float32 holds exactly."""
        inputs = (_LARGEST_FEATURE, self.limit, self.limit)
        largest = (int(np.abs(b.astype(np.int64)).max(initial=0)) for b in (self.place, *self.bias))
        for w, x, b in zip(self.weights, inputs, largest, strict=True):
            if int(np.abs(w.astype(np.int64)).sum(-1).max()) * x + b >= EXACT:
                raise ValueError("context network: sums may not be exact")

    def classes(self, features: np.ndarray, u: np.ndarray, v: np.ndarray, colour: int, half: int) -> np.ndarray:
        """As quarters, but classes int16 [n, k]."""
        return class_of(self.quarters(features, u, v, colour, half))

    def quarters(self, features: np.ndarray, u: np.ndarray, v: np.ndarray, colour: int, half: int) -> np.ndarray:
        """features float32 [N_FEATURES, n, k] of codes at n frequencies, whose classes of position are u, v [n] ->
        quarters of classes int16 [n, k], within LARGEST_SHIFT of one that exists."""
        (first, places), (second, bias), (last, constant) = self._floats
        u = u % len(places)  # a network that knows cells of one size
        place = places[u, v, min(colour, N_COLOURS - 1), half].T  # [hidden_0, n]
        _, n, k = features.shape
        result = np.empty((n, k), np.int16)
        for at in range(0, n, run := max(1, _RUN // max(k, 1))):
            some = slice(at, at + run)
            x = features[:, some].reshape(len(features), -1)
            y = (first @ x).reshape(len(first), -1, k)
            y += place[:, some, None]
            y = second @ rounded(y.reshape(len(first), -1), self.limit)
            y += bias[:, None]
            y = last @ rounded(y, self.limit)
            y += constant
            y = np.clip(np.floor(y, out=y), -LARGEST_SHIFT, 4 * N_LEARNED_CLASSES + LARGEST_SHIFT)
            result[some] = y.reshape(-1, k)
        return result

    @cached_property
    def _floats(self) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
        """Per layer weights and biases as `rounded` wants them; the last without a half."""
        (first, second, last), (bias, constant), shift = self.weights, self.bias, self.shift
        unit = np.float32(2.0 ** (2 - shift[2]))
        return (
            folded(first, self.place, shift[0]),
            folded(second, bias, shift[1]),
            (last * unit, constant[0] * unit),
        )


@dataclass(frozen=True)
class Pass:
    """n frequencies of k cells. index, position: (u, v) and their classes, each [n]; cells [k]: among the tile's;
    exists [n, k]: which codes do, None for all."""

    index: tuple[np.ndarray, ...]
    position: tuple[np.ndarray, ...]
    cells: np.ndarray
    colour: int
    half: int
    exists: np.ndarray | None


class LearnedTile:
    """Heads of a picture: diagonal by diagonal over all cells of the tile, the first checkerboard half before the
    second, colour after colour: a pass of magnitudes, then one of whether signs are not as expected. The context of
    either is a network's class of its features, which see codes in half steps. Who only wants to look overrides `sized`
    and `signed`. With shifts, those of a diagonal come before its codes: what classes at a frequency are off by."""

    def __init__(
        self,
        codes: np.ndarray,
        valid: np.ndarray | None,
        network: ContextNetwork,
        signs: SignNetwork,
        *,
        dependent: bool = False,
        shifts: np.ndarray | None = None,
        size: int = 0,
    ) -> None:
        """codes: view [C, M, M', *cells] of a tile; filled while reading. dependent: they are half steps. shifts: int8
        [C, M, M'], of quarters of a class; filled while reading. None where the tile has none."""
        self._codes, self._valid, self._network, self._shifts = codes, valid, network, shifts
        self._cells = codes.shape[3:]
        self._size, self.known = size, None
        self.n_diagonals = sum(codes.shape[1:3]) - 1
        self.known_signs = Signs(codes.shape, signs)
        self.chains = Chains(codes.shape[1:3], self._cells)
        self._halves_per_code = 1 if dependent else 2
        self._state = np.zeros(self.chains.shape, np.int8) if dependent else None
        # cells are kept first half first, so that a half is a slice
        self._by_half = self.chains.cells
        self._by_place = np.argsort(self._by_half)
        self._halves = (slice(0, self.chains.n_first), slice(self.chains.n_first, len(self._by_half)))
        self.order = Diagonals(codes.shape[1:3])
        n_colours, k = len(codes), len(self._by_half)
        empty = np.zeros((n_colours, 1, k), np.uint8)  # every diagonal ends in a row of zeros
        self._own = [empty] * 3  # L(m) of diagonals s − 1, s − 2, s − 3
        self._near = [[empty] * 4] * 2  # L of H, V, X, A of diagonals s − 1, s − 2
        self._totals = [np.zeros((n_colours, k), np.int64) for _ in range(6)]

    def stops(self, low: int, high: int) -> np.ndarray:
        """As Diagonals.stops."""
        return self.order.stops(self._codes, low, high)

    def run(self, low: int, high: int, stops: np.ndarray, code: Code) -> None:
        """Visit diagonals low … high − 1; colour c only below stops[c]: its codes are 0 from there on."""
        if low == 0 and self._shifts is not None:
            told = code(np.full(1, OF_SHIFTS, np.int16), np.array([self._shifts.any()], np.int32))
            self._shifts = self._shifts if told[0] else None  # small tiles do without
        for s in range(low, high):
            self._diagonal(s, stops, code)

    def _diagonal(self, s: int, stops: np.ndarray, code: Code) -> None:
        index = self.order.members(s)
        n, k = len(index[0]), len(self._by_half)
        values = np.zeros((len(self._codes), n, k), np.int32)
        magnitude = np.zeros((len(self._codes), n, k), np.int32)
        if self.known is not None:
            magnitude[...] = self.known[:, *index].reshape(magnitude.shape)[..., self._by_half]
        if (s < stops).any():
            u, v = ((2 * i + 1) * POSITIONS // (2 * m) for i, m in zip(index, self._codes.shape[1:3], strict=True))
            truth = self._codes[:, *index].reshape(*values.shape)[..., self._by_half]
            exists = None if self._valid is None else self._valid[index].reshape(n, k)[:, self._by_half]
            lower = self._lower(s)
            if self._shifts is not None:
                for c in np.flatnonzero(s < stops).tolist():
                    self._shifts[c][index] = _shifted(code, self._shifts[c][index])
            for half, cells in enumerate(self._halves):
                for c in np.flatnonzero(s < stops).tolist():
                    if cells.start == cells.stop:
                        continue
                    features = np.empty((N_FEATURES, n, cells.stop - cells.start), np.float32)
                    features[:_N_LOWER] = lower[:, c, :, cells]
                    self._same_diagonal(features[_N_LOWER:], magnitude, c, half, cells)
                    there = truth[c][:, cells]
                    visible = None if exists is None else exists[:, cells]
                    now = Pass(index, (u, v), self._by_half[cells], c, half, visible)
                    got = self.sized(code, self.contexts(features, now), np.abs(there), now)
                    magnitude[c][:, cells] = np.maximum(np.minimum(got, CAP), magnitude[c][:, cells])
                    values[c][:, cells] = self.signed(code, got, there < 0, now) // self._halves_per_code
            self._codes[:, *index] = values[..., self._by_place].reshape(len(values), n, *self._cells)
        self._remember(magnitude)

    def contexts(self, features: np.ndarray, now: Pass) -> np.ndarray:
        """Of the magnitudes of a pass, [n, k]."""
        u, v = now.position
        u = u + POSITIONS * self._size
        if self._shifts is None:
            return self._network.classes(features, u, v, now.colour, now.half)
        quarters = self._network.quarters(features, u, v, now.colour, now.half)
        return class_of(quarters + self._shifts[now.colour][now.index][:, None])

    def sized(self, code: Code, context: np.ndarray, true: np.ndarray, now: Pass) -> np.ndarray:
        """Magnitudes [n, k] of a pass, in half steps; true: the codes' own, while writing."""
        if self._state is None:
            return 2 * coded(code, context, true, now.exists)
        halves = np.zeros(true.shape, np.int32)
        for turn in self.chains.turns(now.index, now.half):
            state = self._state[turn.chains]
            at = (turn.rows, turn.cells)
            odd = self.chains.gather(state, turn) >> 1
            which = context[at] + N_LEARNED_CLASSES * odd
            k = coded(code, which, (true[at] + odd) >> 1, None if now.exists is None else now.exists[at])
            halves[at] = 2 * k - (odd & (k > 0))
            self._state[turn.chains] = NEXT[state, self.chains.spread(k & 1, turn)]
        return halves

    def signed(self, code: Code, halves: np.ndarray, negative: np.ndarray, now: Pass) -> np.ndarray:
        """Magnitudes [n, k] of a pass with their signs; negative: the true ones, while writing."""
        which = np.nonzero(halves)
        if not len(which[0]):
            return halves
        size, at, minus = (halves[which] + 1) >> 1, self.at(which, now), negative[which]
        found, expected = self.expected(at, which, size, now)
        minus = (code(2 * N_LEARNED_CLASSES + found, (minus != expected).astype(np.int32)) != 0) != expected
        signed = halves.copy()
        signed[which] = np.where(minus, -halves[which], halves[which])
        self.known_signs.learn(at, np.where(minus, -size, size))
        return signed

    def expected(
        self, at: np.ndarray, which: tuple[Any, ...], size: np.ndarray, now: Pass
    ) -> tuple[np.ndarray, np.ndarray]:
        """Sign classes of some codes of a pass, and whether each is expected to be negative."""
        u, v = (i[which[0]] for i in now.index)
        p, q = (i[which[0]] for i in now.position)
        place = self.known_signs.place(p, q, now.colour, now.half)
        return self.known_signs.classes(at, u, v, colour=now.colour, place=place, size=size)

    def at(self, which: tuple[Any, ...], now: Pass) -> np.ndarray:
        u, v = (i[which[0]] for i in now.index)
        return self.known_signs.at(now.colour, u, v, *np.unravel_index(now.cells[which[1]], self._cells))

    def _lower(self, s: int) -> np.ndarray:
        """Features from the diagonals below: uint8 [_N_LOWER, C, n, K]."""
        rows = {down: self.order.rows(s, down) for down in (*_OWN, *_BESIDE, *_AROUND)}
        own = {down: self._own[sum(down) - 1][:, rows[down]] for down in _OWN}
        features = [own[down] for down in _OWN]
        features += [sums[:, rows[down]] for down in _BESIDE for sums in self._near[0][:3]]
        features += [self._near[1][3][:, rows[down]] for down in _AROUND]
        partner = own[1, 0] + own[0, 1]
        features.append(
            np.concatenate([partner[1:2] if len(partner) > 1 else 0 * partner, *[partner[:1]] * (len(partner) - 1)])
        )
        features += [np.broadcast_to(_log(total)[:, None], partner.shape) for total in self._totals]
        return np.stack(features)

    def _same_diagonal(self, out: np.ndarray, magnitude: np.ndarray, c: int, half: int, cells: slice) -> None:
        """Features from what this diagonal has so far, into out [_SAME + _COLOURS, n, cells]."""
        out[...] = 0
        if half:
            h, v, _ = self._sums(magnitude[c])
            out[0], out[1] = _log(h[:, cells]), _log(v[:, cells])
            both = _log((h + v)[:, cells])
            out[2, 1:], out[3, :-1] = both[:-1], both[1:]
        if c:
            first = magnitude[0][:, cells]
            out[4] = _log(first)
            out[6] = self._log_around(magnitude[0], cells)
            beside = np.zeros_like(first)
            beside[1:] += first[:-1]
            beside[:-1] += first[1:]
            out[7] = _log(beside)
        if c > 1:
            out[5] = _log(magnitude[c - 1][:, cells])
            out[8] = self._log_around(magnitude[c - 1], cells)

    def _log_around(self, magnitude: np.ndarray, cells: slice) -> np.ndarray:
        h, v, x = self._sums(magnitude)
        return _log((h + v + x)[:, cells])

    def _remember(self, magnitude: np.ndarray) -> None:
        """magnitude [C, n, K] of the diagonal that is done."""
        h, v, x = self._sums(magnitude)
        a = h + v + x
        self._own = [_closed(_log(magnitude)), *self._own[:2]]
        self._near = [[_closed(_log(t)) for t in (h, v, x, a)], self._near[0]]
        for i, now in ((0, magnitude.sum(1, dtype=np.int64)), (3, a.sum(1, dtype=np.int64))):
            self._totals[i : i + 3] = [now, self._totals[i], self._totals[i + 2] + now]

    def _sums(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """x [..., K] by half -> H, V, X, each alike."""
        rows, columns = self._cells
        padded = np.zeros((*x.shape[:-1], rows + 2, columns + 2), x.dtype)
        padded[..., 1:-1, 1:-1] = x[..., self._by_place].reshape(*x.shape[:-1], rows, columns)
        beside = padded[..., :-2] + padded[..., 2:]
        above = padded[..., :-2, 1:-1] + padded[..., 2:, 1:-1]
        across = beside[..., :-2, :] + beside[..., 2:, :]
        h, v, x = (t.reshape(x.shape)[..., self._by_half] for t in (beside[..., 1:-1, :], above, across))
        return h, v, x


def class_of(quarters: np.ndarray) -> np.ndarray:
    """Classes, of the type that the quarters have."""
    return np.clip((quarters + 2) >> 2, 0, N_LEARNED_CLASSES - 1)


def shift_codes(shifts: np.ndarray) -> np.ndarray:
    """0, 1, −1, 2, … -> 0, 1, 2, 3, … int32."""
    wide = shifts.astype(np.int32)
    return np.where(wide > 0, 2 * wide - 1, -2 * wide)


def _shifted(code: Code, shifts: np.ndarray) -> np.ndarray:
    """Shifts int8 [n] as a reader gets them."""
    got = code(np.full(len(shifts), OF_SHIFTS, np.int16), shift_codes(shifts))
    got = np.minimum(got, 2 * LARGEST_SHIFT)
    return np.where(got & 1, (got + 1) >> 1, -(got >> 1)).astype(np.int8)


def _log(m: np.ndarray) -> np.ndarray:
    return LOG.take(m, mode="clip")


def _closed(x: np.ndarray) -> np.ndarray:
    """[C, n, K] -> [C, n + 1, K], zeros last."""
    return np.concatenate([x, np.zeros_like(x[:, :1])], 1)
