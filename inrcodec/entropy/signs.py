"""The signs of a picture's heads: a small network, in exact integers, that sees signed codes decoded already.

What runs on over a border between cells, an edge or a shade, has like parts on both sides of it. Half-integer cosines
are even about a cell's left border and odd about its right one, so across a vertical border signs agree up to the
parity of v, across a horizontal one up to that of u; and an edge has its sign in all colours.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from .exact import EXACT, N_COLOURS, POSITIONS, folded, rounded

__all__ = ["N_SIGN_CLASSES", "N_SIGN_FEATURES", "SignNetwork", "Signs"]

CAP = 4  # sizes of codes as features see them
N_SIGN_CLASSES = 24

# Features of a code at (u, v), in this order; every one changes its sign when all signs of the picture do. Offsets name
# the code at (u, v) − each; all but those of neighbours at (u, v) itself lie on lower diagonals.
_OWN = (
    (1, 0), (0, 1), (1, 1), (2, 0), (0, 2), (2, 1), (1, 2), (3, 0), (0, 3), (2, 2),
    (4, 0), (0, 4), (3, 1), (1, 3), (-1, 2), (2, -1), (-1, 3), (3, -1), (-2, 3), (3, -2),
)  # fmt: skip
_SIDES = ((0, 1), (0, -1), (1, 0), (-1, 0))  # cells to the right, to the left, below, above
_BESIDE = (
    (1, 0), (0, 1), (2, 0), (0, 2), (1, 1), (2, 1), (1, 2), (-1, 2), (2, -1), (3, 0), (0, 3), (0, 0),
)  # fmt: skip  # of each side, times the parity; (0, 0) is known in the second half only
_CORNERS = ((1, 1), (1, -1), (-1, 1), (-1, -1))
_ACROSS = ((1, 0), (0, 1), (1, 1), (2, 0), (0, 2))  # of each corner, times both parities
_TRIPLES = (
    ((1, 0), (0, 1), (1, 1)), ((2, 0), (0, 1), (2, 1)), ((1, 0), (0, 2), (1, 2)), ((2, 0), (0, 2), (2, 2)),
    ((1, 0), (2, 0), (3, 0)), ((0, 1), (0, 2), (0, 3)), ((-1, 2), (2, -1), (1, 1)), ((3, 0), (0, 1), (3, 1)),
    ((1, 0), (0, 3), (1, 3)),
)  # fmt: skip  # products of three signs
# Of the first colour and, from the third on, of the one before: the code at (u, v); its sign times, for each of
# _ALIKE_OWN, whether the two colours' signs agree there; its sign times how often they agree, less how often they do
# not, at _ALIKE_BESIDE of the four sides, and at (u, v) of the four sides.
_ALIKE_OWN = ((1, 0), (0, 1), (1, 1), (2, 0), (0, 2))
_ALIKE_BESIDE = ((1, 0), (0, 1), (1, 1))
_PER_COLOUR = 1 + len(_ALIKE_OWN) + 2
N_SIGN_FEATURES = len(_OWN) + len(_TRIPLES) + len(_SIDES) * len(_BESIDE) + len(_CORNERS) * len(_ACROSS)
N_SIGN_FEATURES += 2 * _PER_COLOUR
_N_OWN = len(_OWN)
# where, among own codes, those of the sides and those of the corners, signs are that are multiplied or compared
_TRIPLE = np.array([[_OWN.index(down) for down in three] for three in _TRIPLES])
_ALIKE = np.array(
    [_OWN.index(down) for down in _ALIKE_OWN]
    + [_N_OWN + i * len(_BESIDE) + _BESIDE.index(down) for i in range(len(_SIDES)) for down in _ALIKE_BESIDE]
    + [_N_OWN + i * len(_BESIDE) + _BESIDE.index((0, 0)) for i in range(len(_SIDES))]
)
_LOW, _HIGH = 4, 2  # how far offsets reach down and up
_RUN = 2**10  # signs that are looked at together: bounds the scratch


@dataclass(frozen=True)
class SignNetwork:
    """Integers only. The answer is t(x) − t(−x), t(x) = last · r1(second · r0(first · x + place + size) + bias) with
    r_l(y) = floor(y · 2^−shift[l] + ½), clipped to 0 … limit.

    first: int16 [hidden_0, N_SIGN_FEATURES]; place: int32 [POSITIONS, POSITIONS, N_COLOURS, 2 halves, hidden_0]; size:
    int32 [CAP, hidden_0], of magnitudes 1 … CAP and more; second: int16 [hidden_1, hidden_0]; bias: int32 [hidden_1];
    last: int16 [hidden_1]. The class is |answer| · 2^−shift[2], rounded down, at most the last.
    """

    first: np.ndarray
    place: np.ndarray
    size: np.ndarray
    second: np.ndarray
    bias: np.ndarray
    last: np.ndarray
    shift: tuple[int, int, int]
    limit: int

    def __post_init__(self) -> None:
        """Raises ValueError where a sum could leave the whole numbers that float32 holds exactly."""
        bounds = (
            np.abs(self.first.astype(np.int64)).sum(1).max() * CAP + np.abs(self.place).max() + np.abs(self.size).max(),
            np.abs(self.second.astype(np.int64)).sum(1).max() * self.limit + np.abs(self.bias).max(),
            2 * np.abs(self.last.astype(np.int64)).sum() * self.limit,
        )
        if max(bounds) >= EXACT:
            raise ValueError("sign network: sums may not be exact")

    def classes(self, features: np.ndarray, place: np.ndarray, size: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """features int8 [n, N_SIGN_FEATURES], place [n]: where in `place`, its four axes as one, size int [n] of
        1 … CAP -> classes int16 [n], and whether the sign is expected to be negative."""
        (first, places), (second, bias) = self._floats
        z = features.astype(np.float32) @ first
        y = places.take(place, 0)
        y += self._sizes.take(size - 1, 0)
        both = np.empty((2, *z.shape), np.float32)
        np.add(y, z, out=both[0])
        np.subtract(y, z, out=both[1])
        y = rounded(both.reshape(-1, z.shape[1]), self.limit) @ second
        y += bias
        y = rounded(y, self.limit).reshape(2, len(z), -1)
        answer = (y[0] - y[1]) @ self.last.astype(np.float32)
        found = np.minimum(np.abs(answer) * np.float32(2.0 ** -self.shift[2]), N_SIGN_CLASSES - 1)
        return found.astype(np.int16), answer < 0

    @cached_property
    def _floats(self) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
        """Of both layers transposed weights and biases as `rounded` wants them, places in rows."""
        first, places = folded(self.first.T, self.place.reshape(-1, self.place.shape[-1]), self.shift[0])
        second, bias = folded(self.second.T, self.bias, self.shift[1])
        return (np.ascontiguousarray(first), places), (np.ascontiguousarray(second), bias)

    @cached_property
    def _sizes(self) -> np.ndarray:
        return np.asarray(self.size * 2.0 ** -self.shift[0], np.float32)


class Signs:
    """The signed codes of a tile as they become known, and what the network makes of them."""

    def __init__(self, shape: tuple[int, ...], network: SignNetwork) -> None:
        """shape: [C, M, M', rows, columns] of the tile."""
        self._network = network
        colours, m, n, rows, columns = shape
        # clipped codes with zeros between: what lies before one row, column or frequency lies behind the one before
        wide = (colours, m + _LOW, n + _LOW, rows + 1, columns + 1)
        self._colour, self._u, self._v, self._row, _ = (int(np.prod(wide[i + 1 :])) for i in range(5))
        self._known = np.zeros(colours * self._colour + _HIGH * (self._u + self._v) + self._row + 2, np.int8)
        self._taps = np.concatenate(
            [self._offsets(_OWN)]
            + [self._offsets(_BESIDE, side) for side in _SIDES]
            + [self._offsets(_ACROSS, corner) for corner in _CORNERS]
        )
        self._alike = self._taps[_ALIKE]

    def at(self, colour: int, u: np.ndarray, v: np.ndarray, row: np.ndarray, column: np.ndarray) -> np.ndarray:
        """Where codes are kept, for the other methods."""
        start = colour * self._colour + (u + _LOW) * self._u + (v + _LOW) * self._v
        return np.asarray(start + row * self._row + column)

    def learn(self, at: np.ndarray, codes: np.ndarray) -> None:
        self._known[at] = np.clip(codes, -CAP, CAP)

    @staticmethod
    def place(p: np.ndarray, q: np.ndarray, colour: int, half: int) -> np.ndarray:
        """Of codes whose classes of position are p, q [n], for `classes`."""
        return ((p * POSITIONS + q) * N_COLOURS + min(colour, N_COLOURS - 1)) * 2 + half

    def classes(
        self, at: np.ndarray, u: np.ndarray, v: np.ndarray, *, colour: int, place: np.ndarray, size: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Of codes [n] at frequencies u, v, of known magnitudes `size`: as SignNetwork.classes."""
        runs = [slice(a, a + _RUN) for a in range(0, len(at), _RUN)]
        found = [
            self._network.classes(self.features(at[r], colour, u[r], v[r]), place[r], np.minimum(size[r], CAP))
            for r in runs
        ]
        return np.concatenate([c for c, _ in found]), np.concatenate([e for _, e in found])

    def features(self, at: np.ndarray, colour: int, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        """int8 [n, N_SIGN_FEATURES]"""
        near = at[:, None]
        around = self._known.take(near + self._taps)
        signs = np.sign(around)
        out = np.zeros((len(at), N_SIGN_FEATURES), np.int8)
        out[:, :_N_OWN] = around[:, :_N_OWN]
        rest = out[:, _N_OWN:]
        np.prod(signs[:, _TRIPLE], axis=2, out=rest[:, : len(_TRIPLES)])
        rest = rest[:, len(_TRIPLES) :]
        across, above = (1 - 2 * (i & 1)[:, None].astype(np.int8) for i in (v, u))  # parities
        sides, ends = 2 * len(_BESIDE), 4 * len(_BESIDE)
        np.multiply(around[:, _N_OWN : _N_OWN + sides], across, out=rest[:, :sides])
        np.multiply(around[:, _N_OWN + sides : _N_OWN + ends], above, out=rest[:, sides:ends])
        corners = len(_CORNERS) * len(_ACROSS)
        np.multiply(around[:, _N_OWN + ends :], across * above, out=rest[:, ends : ends + corners])
        rest = rest[:, ends + corners :]
        for i, other in enumerate(sorted({0, colour - 1}) if colour else []):
            there = near + (other - colour) * self._colour
            agreeing = signs[:, _ALIKE] * np.sign(self._known.take(there + self._alike))
            self._agreement(agreeing, self._known.take(there), rest[:, i * _PER_COLOUR : (i + 1) * _PER_COLOUR])
        return out

    @staticmethod
    def _agreement(agreeing: np.ndarray, code: np.ndarray, out: np.ndarray) -> None:
        """Features from another colour; code [n, 1]: its own at (u, v); agreeing: whether signs do, at _ALIKE."""
        own, beside = len(_ALIKE_OWN), len(_ALIKE_OWN) + len(_SIDES) * len(_ALIKE_BESIDE)
        out[:, :1] = code
        out[:, 1 : 1 + own] = agreeing[:, :own]
        for i, votes in ((1, agreeing[:, own:beside]), (2, agreeing[:, beside:])):
            out[:, own + i] = np.clip(votes.sum(1, dtype=np.int8), -CAP, CAP)
        out[:, 1:] *= np.sign(code)

    def _offsets(self, downs: tuple[tuple[int, int], ...], side: tuple[int, int] = (0, 0)) -> np.ndarray:
        return np.array([-du * self._u - dv * self._v + side[0] * self._row + side[1] for du, dv in downs])
