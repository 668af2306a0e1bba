"""The shipped synthesis networks: loads them, checks them, and makes one from trained weights."""

from __future__ import annotations

import functools
import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources

import numpy as np

from ..errors import UnsupportedError

__all__ = [
    "HIDDEN_LIMIT",
    "HIDDEN_UNIT",
    "INPUT_LIMIT",
    "INPUT_UNIT",
    "MAX_EXACT",
    "OUTPUT_LIMIT",
    "OUTPUT_UNIT",
    "Layer",
    "Network",
    "arrays",
    "digest",
    "network",
]

# Ids in the file header, and the SHA-256 of what they mean. A new network gets a new number, these stay for ever.
SHA256 = {1: "8653d31045b1068d13b88e4743d404d0bb671f77137c08149553b970c830c57f", 2: "8653d31045b1068d13b88e4743d404d0bb671f77137c08149553b970c830c57f"}
# What a network sees, holds and answers, in local steps divided by the unit, and clipped at the limit.
INPUT_UNIT, INPUT_LIMIT = 64, 64 * 12
HIDDEN_UNIT, HIDDEN_LIMIT = 256, 256 * 6
OUTPUT_UNIT, OUTPUT_LIMIT = 64, 64 * 8
MAX_EXACT = 2**24  # float32 holds every whole number up to here


@dataclass(frozen=True)
class Layer:
    """y = clip(⌊(w ∗ x + b) · 2^−shift + ½⌋, *limits), ∗ a correlation with 3×3 taps.

    weights: whole numbers float32 [O, I, 3, 3]; bias float64 [O, 5], its product with the facts about a file is rounded.
    """

    weights: np.ndarray
    bias: np.ndarray
    shift: int
    limits: tuple[int, int]


@dataclass(frozen=True)
class Network:
    """block: samples per side that become the channels of one position."""

    block: int
    layers: tuple[Layer, ...]

    @property
    def margin(self) -> int:
        """Samples that an answer depends on beyond its own block, on every side."""
        return self.block * len(self.layers)

    @property
    def macs(self) -> float:
        """Multiply-accumulates per sample."""
        return sum(layer.weights.size for layer in self.layers) / self.block**2


@functools.cache
def network(number: int) -> Network:
    """Raises UnsupportedError for a number this version does not have, RuntimeError when the installed file is not the
    released one: it would decode other samples than were encoded."""
    if number not in SHA256:
        raise UnsupportedError(f"synthesis network {number} is not known to this version")
    name = f"synthesis_{number}.npz"
    with np.load(io.BytesIO(resources.files(__package__).joinpath(name).read_bytes()), allow_pickle=False) as archive:
        stored = {k: archive[k] for k in archive.files}
    if digest(stored) != SHA256[number]:
        raise RuntimeError(f"{name} in this installation is damaged; reinstall inrcodec")
    return from_arrays(stored)


def from_arrays(stored: dict[str, np.ndarray]) -> Network:
    """Inverse of `arrays`."""
    n = len(stored["shifts"])
    layers = [
        Layer(
            stored[f"weights_{i}"].astype(np.float32),
            stored[f"bias_{i}"].astype(np.float64),
            int(stored["shifts"][i]),
            (0, HIDDEN_LIMIT) if i < n - 1 else (-OUTPUT_LIMIT, OUTPUT_LIMIT),
        )
        for i in range(n)
    ]
    limit = INPUT_LIMIT
    for layer in layers:
        # |bias|: its facts are at most 4 in size, for any step and slope a header can hold
        largest = np.abs(layer.weights.astype(np.float64)).sum((1, 2, 3)) * limit + 4 * np.abs(layer.bias).sum(1)
        assert largest.max() < MAX_EXACT, f"sums up to {largest.max():.0f}, more than float32 holds exactly"
        limit = layer.limits[1]
    return Network(int(stored["block"]), tuple(layers))


def arrays(block: int, weights: Sequence[np.ndarray], bias: Sequence[np.ndarray], shifts: Sequence[int]) -> dict[str, np.ndarray]:
    """What a network's file holds: int16 weights_i [O, I, 3, 3], float32 bias_i [O, 5], shifts, block."""
    stored = {"block": np.array(block, np.int16), "shifts": np.array(shifts, np.int16)}
    for i, (w, b) in enumerate(zip(weights, bias, strict=True)):
        stored[f"weights_{i}"] = w.astype(np.int16)
        stored[f"bias_{i}"] = b.astype(np.float32)
    return stored


def digest(stored: dict[str, np.ndarray]) -> str:
    """SHA-256 of block and shifts as little-endian int16, then weights int16 and bias float32 of layer after layer."""
    h = hashlib.sha256()
    h.update(np.ascontiguousarray(stored["block"], "<i2").tobytes())
    h.update(np.ascontiguousarray(stored["shifts"], "<i2").tobytes())
    for i in range(len(stored["shifts"])):
        h.update(np.ascontiguousarray(stored[f"weights_{i}"], "<i2").tobytes())
        h.update(np.ascontiguousarray(stored[f"bias_{i}"], "<f4").tobytes())
    return h.hexdigest()
