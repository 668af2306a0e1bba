"""The shipped context network of pictures, and the symbol counts its classes start from."""

from __future__ import annotations

import functools

import numpy as np

from ..entropy.alphabet import N_SYMBOLS
from ..entropy.exact import N_COLOURS, POSITIONS
from ..entropy.learned import N_FEATURES, N_LEARNED_CLASSES, ContextNetwork
from .released import released, sha256

__all__ = [
    "FILE",
    "ORDER",
    "SHA256",
    "arrays",
    "context_network",
    "digest",
    "from_arrays",
    "starting_rows",
]

FILE = "context_2.npz"  # belongs to the range coder's table set
SHA256 = "fab72e3074d56fa684a60bba94d0c1f946d22b395f5fa17adfe5525d10ff11b3"
ORDER = ("first", "second", "last", "place", "bias_second", "bias_last", "shift", "limit", "rows")


def arrays(network: ContextNetwork, rows: np.ndarray) -> dict[str, np.ndarray]:
    """The file's arrays: rows uint16 [2 · N_LEARNED_CLASSES, N_SYMBOLS]."""
    whole = (*network.weights, network.place, *network.bias, np.array(network.shift), np.array([network.limit]))
    return dict(zip(ORDER, (*(np.asarray(a, np.int32) for a in whole), rows), strict=True))


def from_arrays(saved: dict[str, np.ndarray]) -> tuple[ContextNetwork, np.ndarray]:
    """Inverse of `arrays`. Raises ValueError where they do not fit together, or make sums that may not be exact."""
    second = saved["second"]
    if second.ndim != 2:
        raise ValueError(f"second of {second.ndim} axes, wanted 2")
    h1, h0 = second.shape
    wanted = {
        "first": (h0, N_FEATURES), "second": (h1, h0), "last": (h1,), "place": (POSITIONS, POSITIONS, N_COLOURS, 2, h0),
        "bias_second": (h1,), "bias_last": (1,), "shift": (3,), "limit": (1,),
        "rows": (2 * N_LEARNED_CLASSES, N_SYMBOLS),
    }  # fmt: skip
    for name in ORDER:
        a, kind = saved[name], np.dtype(np.uint16 if name == "rows" else np.int32)
        if a.shape != wanted[name] or a.dtype != kind:
            raise ValueError(f"{name} of {a.dtype} {a.shape}, wanted {kind} {wanted[name]}")
    *layers, place, bias_second, bias_last, shift, limit, rows = (saved[name] for name in ORDER)
    first, second, last = layers
    low, middle, high = shift.tolist()
    if not all(0 <= s < 24 for s in (low, middle, high)) or limit[0] < 1 or not (rows.sum(1) > 0).all():
        raise ValueError("shifts, limit or rows out of range")
    network = ContextNetwork((first, second, last), place, (bias_second, bias_last), (low, middle, high), int(limit[0]))
    return network, rows.astype(np.int64)


def digest(saved: dict[str, np.ndarray]) -> str:
    """SHA-256 of all arrays as little-endian int32, in the file's order."""
    return sha256(saved, ORDER, "<i4")


def context_network() -> ContextNetwork:
    """Raises RuntimeError when the installed file is not the released one: it would decode other numbers than were
    encoded."""
    return _load()[0]


def starting_rows() -> np.ndarray:
    """int64 [2 · N_LEARNED_CLASSES, N_SYMBOLS]. Raises RuntimeError as context_network does."""
    return _load()[1]


@functools.cache
def _load() -> tuple[ContextNetwork, np.ndarray]:
    return from_arrays(released(FILE, digest, SHA256))
