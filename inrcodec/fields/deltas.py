"""Codes that change the last layer of a file's synthesis network, and how an encoder finds them.

Below its last layer a network is fixed, so the best change of that layer is linear least squares: closed form. A file
spends some 50 to 500 bytes on it: a code is worth its bits or it is 0. The last layer may look at what the network saw
as well, for a filter of the picture itself is what high rates lack most.

Codes are [features, taps, outputs]: features the filters of the last layer but one and then the network's inputs, by
colour and band; outputs by colour and band. A band is a pattern of signs over the samples of a 2×2 block, a tap one
over 3×3 blocks: smooth ones come first, and most others stay 0.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..cost import N_DELTAS
from ..entropy.alphabet import n_extra_bits, split
from ..entropy.tables import INCREMENT
from ..parallel import in_threads
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
from . import synthesis
from .bases import Span

__all__ = ["Evidence", "adapted", "band_shares", "choose", "fit", "found"]

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
    """The network with its last layer changed by N_DELTAS codes that `fit`."""
    *before, last = network.layers
    weights = _changed(network, codes).astype(np.float32)
    return replace(network, layers=(*before, replace(last, weights=weights)))


def fit(network: Network, codes: np.ndarray) -> bool:
    """Whether all sums stay below what float32 holds exactly."""
    last = network.layers[-1]
    weights = np.abs(_changed(network, codes).astype(np.float64)).sum((2, 3))
    filters = last.weights.shape[1]
    limits = np.repeat([HIDDEN_LIMIT, INPUT_LIMIT], [filters, weights.shape[1] - filters])
    return bool((weights @ limits + bias_bound(last.bias) < MAX_EXACT).all())


def _changed(network: Network, codes: np.ndarray) -> np.ndarray:
    """The last layer's weights, whole numbers int64 [outputs, filters + inputs, 3, 3]."""
    last = network.layers[-1].weights
    outputs, filters = last.shape[:2]
    k = codes.reshape(filters + network.n_inputs, 9, outputs // BLOCK**2, BLOCK**2).astype(np.int64)
    # every sum is at most 2^30 · 4 · 16 · 4 · 2: far inside 63 bits
    w = np.einsum("ftcb,bp,ts->cpfs", k, BANDS, TAPS).reshape(outputs, len(k), 3, 3)
    seen = w[:, filters:].reshape(outputs, -1, BLOCK**2, 3, 3)
    w[:, filters:] = INPUT_STEP * np.einsum("ocbst,bp->ocpst", seen, BANDS).reshape(outputs, -1, 3, 3)
    w[:, :filters] = FILTER_STEP * w[:, :filters] + last.astype(np.int64)
    return w


def found(
    network: Network,
    condition: np.ndarray,
    strips: Sequence[Span],
    shape: Sequence[int],
    *,
    see: synthesis.See,
    wanted: Callable[[Sequence[Span]], np.ndarray],
    bits: np.ndarray,
) -> np.ndarray:
    """int32 [N_DELTAS]: the codes that pay for their bits. bits: squared local steps that a bit is worth, by the band
    of the answer that it is for.

    Everything as synthesis.residual has it; strips: rows of the picture that are looked at together, even but at its
    end; wanted: at the samples in spans, what detail and residual should be together [*n, C].
    """

    def look(strip: Span) -> Evidence:
        evidence, (start, stop) = Evidence.none(network), strip
        spans = [(start, stop // BLOCK * BLOCK), (0, shape[1] // BLOCK * BLOCK)]
        if any(b <= a for a, b in spans):
            return evidence
        there = synthesis.seen(network, spans, shape)
        detail, step = see(there)
        inner = tuple(slice(a - b, c - b) for (a, c), (b, _) in zip(spans, there, strict=True))
        seen = synthesis.hidden(network, condition, spans, shape, detail / step)
        answer = np.moveaxis(synthesis.last(network, condition, *seen), 0, -1) / OUTPUT_UNIT
        colours = synthesis.colours(detail)
        lacking = ((wanted(spans) - detail[inner]) / step[inner])[..., :colours] - answer[..., :colours]
        evidence.add(*seen, lacking.astype(np.float32))
        return evidence

    evidence = Evidence.none(network)
    for more in in_threads(look, strips):
        evidence.gram += more.gram
        evidence.moments += more.moments
    for dearer in (1, 4, 16):  # sums may not be exact at once
        codes = choose(network, evidence, dearer * bits)
        if fit(network, codes):
            return codes
    return np.zeros(N_DELTAS, np.int32)


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


def band_shares(frequency: np.ndarray) -> np.ndarray:
    """[bands, n]: of an error of one axis's frequencies [n], fractions of Nyquist, the squared share in sums and in
    differences of two samples."""
    return np.array([np.cos(np.pi / 2 * frequency) ** 2, np.sin(np.pi / 2 * frequency) ** 2])


def choose(network: Network, evidence: Evidence, bits: np.ndarray) -> np.ndarray:
    """int32 [N_DELTAS]: each code that pays for its bits, which are worth so many squared local steps, by band."""
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
        price = np.log2(used.sum() / used)[symbols] + n_extra_bits(symbols) + (sizes > 0)
        price = np.tile(bits, outputs // BLOCK**2)[:, None] * price
        codes = _descended(gram, moments, codes, price)
    return codes.reshape(-1).astype(np.int32)


def _descended(gram: np.ndarray, moments: np.ndarray, codes: np.ndarray, price: np.ndarray) -> np.ndarray:
    """Changes one code of every output at a time, the one that gains most, while any gains. price: [outputs, sizes]."""
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
            gain = by * (2 * left - curve * by) - price[each, np.abs(there)] + price[each, np.abs(codes)]
            to = np.where(gain > best, there, to)
            best = np.maximum(gain, best)
        at = best.argmax(0)
        by = to[at, each] - codes[at, each]
        if not by.any():
            break
        codes[at, each] += by
        left -= gram[:, at] * by
    return codes
