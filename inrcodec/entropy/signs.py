"""The signs of a picture's heads: a small network, in exact integers, that sees signed codes decoded already.

What runs on over a border between cells, an edge or a shade, has like parts on both sides of it. Half-integer cosines
are even about a cell's left border and odd about its right one, so across a vertical border signs agree up to the
parity of v, across a horizontal one up to that of u; and an edge has its sign in all colours.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .exact import EXACT, N_COLOURS, activate

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
_LOW, _HIGH = 4, 2  # how far offsets reach down and up
_RUN = 2**14  # signs that are looked at together: bounds the scratch


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
        """features int8 [n, N_SIGN_FEATURES], place [n, hidden_0], size int [n] of 1 … CAP -> classes int16 [n], and
        whether the sign is expected to be negative."""
        z = features.astype(np.float32) @ self.first.astype(np.float32).T
        place = place.astype(np.float32) + self.size.astype(np.float32)[size - 1]
        answer = self._half(place + z) - self._half(place - z)
        found = np.minimum(np.floor(np.abs(answer) * np.float32(2.0 ** -self.shift[2])), N_SIGN_CLASSES - 1)
        return found.astype(np.int16), answer < 0

    def _half(self, y: np.ndarray) -> np.ndarray:
        y = activate(y, self.shift[0], self.limit) @ self.second.astype(np.float32).T
        y += self.bias.astype(np.float32)
        return np.asarray(activate(y, self.shift[1], self.limit) @ self.last.astype(np.float32))


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
        self._taps = {
            "own": self._offsets(_OWN),
            "beside": np.concatenate([self._offsets(_BESIDE, side) for side in _SIDES]),
            "across": np.concatenate([self._offsets(_ACROSS, corner) for corner in _CORNERS]),
            "triples": np.stack([self._offsets(t) for t in _TRIPLES], 1),
            "alike": self._offsets(_ALIKE_OWN),
            "alike beside": np.concatenate([self._offsets(_ALIKE_BESIDE, side) for side in _SIDES]),
            "alike sides": np.concatenate([self._offsets(((0, 0),), side) for side in _SIDES]),
        }

    def at(self, colour: int, u: np.ndarray, v: np.ndarray, row: np.ndarray, column: np.ndarray) -> np.ndarray:
        """Where codes are kept, for the other methods."""
        start = colour * self._colour + (u + _LOW) * self._u + (v + _LOW) * self._v
        return np.asarray(start + row * self._row + column)

    def learn(self, at: np.ndarray, codes: np.ndarray) -> None:
        self._known[at] = np.clip(codes, -CAP, CAP)

    def place(self, p: np.ndarray, q: np.ndarray, colour: int, half: int) -> np.ndarray:
        """Of codes whose classes of position are p, q [n], for `classes`."""
        return np.asarray(self._network.place[p, q, min(colour, N_COLOURS - 1), half])

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
        across, above = (1 - 2 * (i & 1)[:, None].astype(np.int8) for i in (v, u))  # parities
        parity = np.repeat(np.concatenate([across, across, above, above], 1), len(_BESIDE), axis=1)
        parts = [
            self._known[near + self._taps["own"]],
            np.sign(self._known[near[..., None] + self._taps["triples"]]).prod(1, dtype=np.int8),
            self._known[near + self._taps["beside"]] * parity,
            self._known[near + self._taps["across"]] * (across * above),
        ]
        others = sorted({0, colour - 1}) if colour else []
        parts += [self._alike(near, (other - colour) * self._colour) for other in others]
        parts.append(np.zeros((len(at), (2 - len(others)) * _PER_COLOUR), np.int8))
        return np.concatenate(parts, 1)

    def _alike(self, near: np.ndarray, across: int) -> np.ndarray:
        """Features from another colour, whose codes are `across` places away."""

        def agreeing(name: str) -> np.ndarray:
            taps = near + self._taps[name]
            return np.sign(self._known[taps]) * np.sign(self._known[taps + across])

        code = self._known[near + across]
        votes = [np.clip(agreeing(name).sum(1, keepdims=True), -CAP, CAP) for name in ("alike beside", "alike sides")]
        return np.concatenate([code, np.sign(code) * np.concatenate([agreeing("alike"), *votes], 1)], 1).astype(np.int8)

    def _offsets(self, downs: tuple[tuple[int, int], ...], side: tuple[int, int] = (0, 0)) -> np.ndarray:
        return np.array([-du * self._u - dv * self._v + side[0] * self._row + side[1] for du, dv in downs])
