"""Codes that change the last layer of a file's synthesis network, and how an encoder finds them.

Below its last layer a network is fixed, so the best change of that layer is linear least squares: closed form. A file
spends a few hundred bits on it: a code is worth its bits or it is 0. The last layer may look at what the network saw
as well, for a filter of the picture itself is what high rates lack most.

Codes are [features, taps, outputs], features the filters of the last layer but one and then the network's inputs, by
colour and band; outputs by colour and band. A band is a pattern of signs over the samples of a 2×2 block, a tap one over
3×3 blocks: smooth ones come first, and most others stay 0.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import numpy as np

from ..cost import N_DELTAS
from ..entropy.alphabet import n_extra_bits, split
from ..entropy.tables import INCREMENT
from ..priors.synthesis import (
    HIDDEN_LIMIT,
    HIDDEN_UNIT,
    INPUT_LIMIT,
    INPUT_UNIT,
    MAX_EXACT,
    OUTPUT_UNIT,
    Network,
    bias_bound,
)
from ..priors.tables import starting_counts

__all__ = ["Evidence", "adapted", "choose"]

BLOCK = 2
BANDS = np.array([[(-1) ** (b & p).bit_count() for p in range(BLOCK**2)] for b in range(BLOCK**2)])  # [band, sample]
LINES = np.array([[1, 1, 1], [1, 0, -1], [1, -2, 1]])  # [pattern, tap], along a row or a column
TAPS = np.kron(LINES, LINES)  # [pattern, tap], a tap's column fastest
FILTER_STEP, INPUT_STEP = 2, 1  # weights that a code of 1 adds, in the last layer's whole numbers
LARGEST = 255  # that an encoder writes
ROUNDS = 3  # of the search, under prices of the codes before
MAX_CHANGES = 5000  # of codes in a round
PIECE = (16, 1024)  # blocks whose features are held at a time: 16 MiB


def adapted(network: Network, codes: np.ndarray) -> Network:
    """The network with its last layer changed by N_DELTAS codes. Raises ValueError where sums would leave what float32
    holds exactly."""
    *before, last = network.layers
    outputs, filters = last.weights.shape[:2]
    n_inputs = before[0].weights.shape[1]
    k = codes.reshape(filters + n_inputs, 9, outputs).astype(np.int64)
    k = np.einsum("ftco,op->ftcp", k.reshape(*k.shape[:2], -1, BLOCK**2), BANDS).reshape(k.shape)
    k = np.einsum("fto,ts->fso", k, TAPS)
    own, seen = FILTER_STEP * k[:filters], k[filters:].reshape(-1, BLOCK**2, 9, outputs)
    seen = INPUT_STEP * np.einsum("cbto,bp->cpto", seen, BANDS).reshape(n_inputs, 9, outputs)
    change = np.concatenate([own, seen]).transpose(2, 0, 1).reshape(outputs, -1, 3, 3)
    weights = np.zeros(change.shape, np.int64)
    weights[:, :filters] = last.weights
    weights += change
    limits = np.repeat([HIDDEN_LIMIT, INPUT_LIMIT], [filters, n_inputs])
    # in floats: codes of a damaged file may be anything
    largest = np.abs(weights.astype(np.float64)).sum((2, 3)) @ limits + bias_bound(last.bias)
    if largest.max() >= MAX_EXACT:
        raise ValueError(f"deltas: sums up to {largest.max():.4g}, more than {MAX_EXACT}")
    return replace(network, layers=(*before, replace(last, weights=weights.astype(np.float32))))


@dataclass
class Evidence:
    """Sums over a picture's blocks, in local steps: products of the last layer's features, gram [9 F, 9 F] (taps
    fastest), and of features with what the network's answer lacks, moments [9 F, outputs]."""

    gram: np.ndarray
    moments: np.ndarray

    @classmethod
    def none(cls, network: Network) -> Evidence:
        n = N_DELTAS // len(network.layers[-1].weights)
        return cls(np.zeros((n, n)), np.zeros((n, N_DELTAS // n)))

    def add(self, filters: np.ndarray, inputs: np.ndarray, lacking: np.ndarray) -> None:
        """filters, inputs: as synthesis.hidden gives them; lacking [2 h, 2 w, C] at the samples in the middle."""
        h, w = (n // BLOCK for n in lacking.shape[:2])
        wanted = lacking.reshape(h, BLOCK, w, BLOCK, -1).transpose(4, 1, 3, 0, 2).reshape(-1, h, w)
        seen = ((filters, np.float32(1 / HIDDEN_UNIT)), (inputs, np.float32(1 / INPUT_UNIT)))
        for top, left in itertools.product(range(0, h, PIECE[0]), range(0, w, PIECE[1])):
            piece = wanted[:, top : top + PIECE[0], left : left + PIECE[1]]
            height, width = piece.shape[1:]
            features = np.empty((len(filters) + len(inputs), 9, height * width), np.float32)
            for s, t in itertools.product(range(3), range(3)):
                at = (slice(None), slice(top + s, top + s + height), slice(left + t, left + t + width))
                features[:, 3 * s + t] = np.concatenate([x[at] * unit for x, unit in seen]).reshape(-1, height * width)
            flat = features.reshape(-1, height * width)
            self.gram += flat @ flat.T
            self.moments[:, : len(wanted)] += flat @ piece.reshape(len(wanted), -1).T


def choose(network: Network, evidence: Evidence, bit: float) -> np.ndarray:
    """int32 [N_DELTAS]: each code that pays for its bits, at `bit` squared local steps each."""
    last = network.layers[-1]
    outputs, filters = last.weights.shape[:2]
    n_inputs = len(evidence.gram) // 9 - filters
    # what a code of 1 adds to the answer, from its pattern of taps and of inputs
    unit = np.repeat([FILTER_STEP * HIDDEN_UNIT, INPUT_STEP * INPUT_UNIT], [filters, n_inputs])
    mixed = np.diag(unit / (OUTPUT_UNIT * 2.0**last.shift))
    mixed[filters:, filters:] = np.kron(np.eye(n_inputs // BLOCK**2), BANDS) * mixed[-1, -1]
    atoms = np.kron(mixed, TAPS)
    gram = BLOCK**2 * atoms @ evidence.gram @ atoms.T  # patterns of outputs do not share samples' errors
    moments = atoms @ evidence.moments @ np.kron(np.eye(outputs // BLOCK**2), BANDS.T)
    codes = np.zeros(moments.shape, np.int64)
    counts = starting_counts("sparse")[0] / INCREMENT
    sizes = np.arange(LARGEST + 1)
    symbols, _ = split(sizes)
    for _ in range(ROUNDS):
        used = counts + np.bincount(split(np.abs(codes).ravel())[0], minlength=len(counts))
        price = (np.log2(used.sum() / used)[symbols] + n_extra_bits(symbols) + (sizes > 0)) * bit
        codes = _descended(gram, moments, codes, price)
    return codes.reshape(-1).astype(np.int32)


def _descended(gram: np.ndarray, moments: np.ndarray, codes: np.ndarray, price: np.ndarray) -> np.ndarray:
    """Changes one code of every output at a time, the one that gains most, while any gains."""
    codes = codes.copy()
    left = moments - gram @ codes  # half the slope of the squared error
    curve = np.maximum(np.diag(gram), 1e-9)[:, None]
    each = np.arange(codes.shape[1])
    for _ in range(MAX_CHANGES):
        best, to = np.full(codes.shape, 1e-9), codes.copy()
        exact = np.clip(left / curve + codes, -LARGEST, LARGEST)
        for wanted in (np.floor(exact), np.ceil(exact), np.zeros_like(exact)):
            there = wanted.astype(np.int64)
            by = there - codes
            gain = by * (2 * left - curve * by) - price[np.abs(there)] + price[np.abs(codes)]
            to = np.where(gain > best, there, to)
            best = np.maximum(gain, best)
        at = best.argmax(0)
        by = to[at, each] - codes[at, each]
        if not by.any():
            break
        codes[at, each] += by
        left -= gram[:, at] * by
    return codes
