"""The shipped synthesis networks: loads them, checks them, and makes one from trained weights."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from math import isqrt

import numpy as np

from ..errors import UnsupportedError
from .released import released

__all__ = [
    "FACT_LIMITS",
    "HIDDEN_LIMIT",
    "HIDDEN_UNIT",
    "INPUT_LIMIT",
    "INPUT_UNIT",
    "MAX_EXACT",
    "OUTPUT_LIMIT",
    "OUTPUT_UNIT",
    "SURROUNDINGS",
    "Layer",
    "Network",
    "arrays",
    "bias_bound",
    "digest",
    "network",
]

# Ids in the file header, and the SHA-256 of what they mean. A new network gets a new number; once the
# format is frozen, old ones stay for ever (1 to 9 and 11 to 13 came before and are gone).
SHA256 = {
    10: "7a7c9b40282cde5d826dfdb99f0f083b1c8aa3ee93e0d5b2cd95169b380503cf",
    14: "962e0225583db1dce196aaf128cad3b91e3f6a46da1ca17833b38a555a6ed526",
    15: "a3743a37bf91b56e543a7050f1fd1f3c6e88324ba68e36470aedbe210d0e9f8f",
}
# What a network sees, holds and answers, in local steps divided by the unit, and clipped at the limit.
INPUT_UNIT, INPUT_LIMIT = 64, 64 * 12
HIDDEN_UNIT, HIDDEN_LIMIT = 256, 256 * 6
OUTPUT_UNIT, OUTPUT_LIMIT = 64, 64 * 8
# What a network with surroundings sees besides: the mean size of the first colour's and of the others' samples, over so
# many blocks to every side
SURROUNDINGS = ((0, 3), (0, 6), (1, 6))
FACT_LIMITS = (1.0, 2.0, 4.0, 2.0, 4.0)  # sizes of what a network is told about a file, see fields.synthesis.facts
MAX_EXACT = 2**24  # float32 holds every whole number up to here


@dataclass(frozen=True)
class Layer:
    """y = clip(⌊(w ∗ x + v · z + b) · 2^−shift + ½⌋, low, high), ∗ a correlation with 3×3 taps, z inputs that are seen
    at the position only.

    weights w: whole numbers float32 [O, I, 3, 3], centre v: [O, K]; bias b: float64 [O, 5], its product with what is
    known about a file is rounded. low, high float32 [O, 1]. gated: the second half of the outputs, 0 … HIDDEN_UNIT, are
    factors of the first half, ⌊y · factor / HIDDEN_UNIT + ½⌋: filters that are turned on and off by what is around.
    """

    weights: np.ndarray
    centre: np.ndarray
    bias: np.ndarray
    shift: int
    low: np.ndarray
    high: np.ndarray
    gated: bool

    @property
    def taps(self) -> np.ndarray:
        """All that an output's inputs are multiplied with, float32 [O, 9 · I + K]."""
        return np.concatenate([self.weights.reshape(len(self.weights), -1), self.centre], 1)


@dataclass(frozen=True)
class Network:
    """block: samples per side that become the channels of one position; times: samples per side that each becomes."""

    block: int
    layers: tuple[Layer, ...]
    times: int = 1

    @property
    def n_inputs(self) -> int:
        """Channels of the samples of a block."""
        return 3 * self.block**2

    @property
    def reach(self) -> int:
        """Blocks that its surroundings reach to on every side; 0 where it does not look at them."""
        return max(r for _, r in SURROUNDINGS) if self.layers[0].centre.size else 0

    @property
    def margin(self) -> int:
        """Samples that an answer depends on beyond its own block, on every side."""
        return self.block * (len(self.layers) + self.reach)

    @property
    def macs(self) -> float:
        """Multiply-accumulates per sample."""
        return sum(layer.taps.size for layer in self.layers) / self.block**2


@functools.cache
def network(number: int) -> Network:
    """Raises UnsupportedError for a number this version does not have, RuntimeError when the installed file is not the
    released one: it would decode other samples than were encoded."""
    if number not in SHA256:
        raise UnsupportedError(f"synthesis network {number} is not known to this version")
    return from_arrays(released(f"synthesis_{number}.npz", digest, SHA256[number]))


def from_arrays(stored: dict[str, np.ndarray]) -> Network:
    """Inverse of `arrays`."""
    layers = []
    limit = INPUT_LIMIT
    for i, (shift, signed) in enumerate(zip(stored["shifts"], stored["signed"], strict=True)):
        weights, bias = stored[f"weights_{i}"].astype(np.float32), stored[f"bias_{i}"].astype(np.float64)
        centre = np.zeros((len(bias), 0), np.float32)
        if i == 0 and "surroundings" in stored:
            centre = stored["surroundings"].astype(np.float32)
        largest_input, last = limit, len(stored["shifts"]) - 1
        limit = HIDDEN_LIMIT if i < last else OUTPUT_LIMIT
        both, gated = np.arange(len(bias))[:, None] < signed, i == last - 1
        low = np.where(both, -limit, 0).astype(np.float32)
        high = np.where(both | (not gated), limit, HIDDEN_UNIT).astype(np.float32)
        layers.append(layer := Layer(weights, centre, bias, int(shift), low, high, gated))
        largest = np.abs(layer.taps).sum(1, dtype=np.float64) * largest_input + bias_bound(bias)
        assert largest.max() < MAX_EXACT, f"sums up to {largest.max():.0f}, more than float32 holds exactly"
    block = int(stored["block"])
    return Network(block, tuple(layers), times=isqrt(len(layers[-1].weights) // 3) // block)


def bias_bound(bias: np.ndarray) -> np.ndarray:
    """Largest size of a bias [O, 5] in any file, [O]: what synthesis.facts gives is held inside these."""
    return np.asarray(np.abs(bias) @ FACT_LIMITS + 1)


def arrays(
    block: int,
    weights: Sequence[np.ndarray],
    bias: Sequence[np.ndarray],
    *,
    shifts: Sequence[int],
    signed: Sequence[int],
    surroundings: np.ndarray,
) -> dict[str, np.ndarray]:
    """What a network's file holds: int16 weights_i [O, I, 3, 3], float32 bias_i [O, 5], and by layer int16 shifts and
    signed, the number of first units that pass both signs on; int16 block; the first layer's weights of surroundings,
    int16 [O, 3], unless it has none, [O, 0]. The last layer but one is gated."""
    stored = {k: np.array(v, np.int16) for k, v in (("block", block), ("shifts", shifts), ("signed", signed))}
    for i, (w, b) in enumerate(zip(weights, bias, strict=True)):
        stored[f"weights_{i}"] = w.astype(np.int16)
        stored[f"bias_{i}"] = b.astype(np.float32)
    if surroundings.size:
        stored["surroundings"] = surroundings.astype(np.int16)
    return stored


def digest(stored: dict[str, np.ndarray]) -> str:
    """SHA-256 of block, shifts and signed as little-endian int16, then weights int16 and bias float32 of layer after
    layer, then surroundings where there are."""
    h = hashlib.sha256()
    for name in ("block", "shifts", "signed"):
        h.update(np.ascontiguousarray(stored[name], "<i2").tobytes())
    for i in range(len(stored["shifts"])):
        h.update(np.ascontiguousarray(stored[f"weights_{i}"], "<i2").tobytes())
        h.update(np.ascontiguousarray(stored[f"bias_{i}"], "<f4").tobytes())
    if "surroundings" in stored:
        h.update(np.ascontiguousarray(stored["surroundings"], "<i2").tobytes())
    return h.hexdigest()
