"""The shipped sign network of pictures, and the counts its classes start from."""

from __future__ import annotations

import functools

import numpy as np

from ..entropy.alphabet import N_SYMBOLS
from ..entropy.signs import SignNetwork
from .released import released, sha256

__all__ = ["FILE", "arrays", "digest", "sign_network", "sign_rows"]

FILE = "signs_2.npz"  # belongs to the range coder's table set
SHA256 = "913efd7207281fa578d727594e9653de348d7db0ff197e586de2942ff4c22acd"
_ORDER = ("first", "place", "size", "second", "bias", "last", "shift", "limit", "rows")


def arrays(network: SignNetwork, rows: np.ndarray) -> dict[str, np.ndarray]:
    """The file's arrays: rows uint16 [N_SIGN_CLASSES, 2], of signs as expected and not."""
    n = network
    whole = (n.first, n.place, n.size, n.second, n.bias, n.last, np.array(n.shift), np.array([n.limit]))
    return dict(zip(_ORDER, (*(np.asarray(a, np.int32) for a in whole), rows), strict=True))


def digest(saved: dict[str, np.ndarray]) -> str:
    """SHA-256 of all arrays as little-endian int32, in the file's order."""
    return sha256(saved, _ORDER, "<i4")


def sign_network() -> SignNetwork:
    """Raises RuntimeError when the installed file is not the released one: it would decode other numbers than were
    encoded."""
    return _load()[0]


def sign_rows() -> np.ndarray:
    """int64 [N_SIGN_CLASSES, N_SYMBOLS]: no symbol but 0 and 1 is ever coded. Raises RuntimeError as sign_network."""
    rows = np.zeros((len(_load()[1]), N_SYMBOLS), np.int64)
    rows[:, :2] = _load()[1]
    return rows


@functools.cache
def _load() -> tuple[SignNetwork, np.ndarray]:
    saved = released(FILE, digest, SHA256)
    first, place, size, second, bias, last, shift, limit, rows = (saved[name] for name in _ORDER)
    low, middle, high = shift.tolist()
    return SignNetwork(first, place, size, second, bias, last, (low, middle, high), int(limit[0])), rows
