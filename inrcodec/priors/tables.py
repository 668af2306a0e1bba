"""The shipped starting counts of the range coder's contexts, and how they are counted from real signals."""

from __future__ import annotations

import functools

import numpy as np

from ..entropy.alphabet import N_SYMBOLS, split
from ..entropy.context import N_CONTEXTS
from ..entropy.labels import label_counts
from ..entropy.learned import LARGEST_SHIFT
from ..entropy.splits import split_counts
from .context import starting_rows
from .released import released, sha256
from .signs import sign_rows

__all__ = ["KINDS", "from_counts", "learned_counts", "starting_counts"]

SHA256 = "6c3846fd8779a7d0769b06733cd77c28bf651fe1c15ed5347bcad187df9d01f0"
FILE = "tables_3.npz"
KINDS = tuple(
    k for k in N_CONTEXTS if k not in ("labels", "splits", "sparse", "learned")
)  # those come from formulas, and with the network
PER_CLASS = {"cosine": 24, "time": 32, "smooth": 2, "plain": N_CONTEXTS["plain"]}  # rows of a class of magnitudes
# About the weight of a starting row; one coded symbol weighs tables.INCREMENT. Nothing is known of MLP weights
# beforehand: their tables learn sixteen times as fast.
TOTAL = {"cosine": 2**13, "time": 2**13, "smooth": 2**13, "plain": 2**9}


@functools.cache
def starting_counts(kind: str) -> np.ndarray:
    """int64 [N_CONTEXTS[kind], N_SYMBOLS]. Raises RuntimeError when the installed file is not the released one:
    it would decode other numbers than were encoded."""
    if kind == "labels":
        return label_counts()
    if kind == "splits":
        return split_counts()
    if kind == "sparse":
        return sparse_counts()
    if kind == "learned":
        return learned_counts(starting_rows())
    return released(FILE, digest, SHA256)[kind].astype(np.int64)


def learned_counts(rows: np.ndarray) -> np.ndarray:
    """Starting counts of learned contexts whose magnitudes have these rows, int64 [N_LEARNED_CONTEXTS, N_SYMBOLS]."""
    return np.concatenate([rows, sign_rows(), shift_counts()])


def sparse_counts() -> np.ndarray:
    """One row int64 [1, N_SYMBOLS]: one code in twenty is not 0, as deltas of photos are."""
    size = np.arange(N_SYMBOLS)
    counts = np.maximum(600 // (size + 3) ** 2, 1)
    counts[0] = 4096
    return counts[None]


def shift_counts() -> np.ndarray:
    """One row int64 [1, N_SYMBOLS]: five of six shifts are 0."""
    symbol = np.arange(N_SYMBOLS)
    largest, _ = split(np.array([2 * LARGEST_SHIFT]))
    counts = np.where(symbol <= largest, 128 >> np.minimum(symbol // 4, 7), 0)
    counts[0] = 4096
    return counts[None]


def digest(tables: dict[str, np.ndarray]) -> str:
    """SHA-256 of the tables as little-endian uint16 in the order of KINDS."""
    return sha256(tables, KINDS, "<u2")


def from_counts(counts: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Counts of symbols seen per context -> uint16 starting rows of about the weight TOTAL.

    A row seen rarely leans on the rows of its magnitude class; every row keeps a whiff of a geometric tail, so
    that no symbol costs more than about 24 bits.
    """
    tables = {}
    tail = 0.7 ** np.arange(N_SYMBOLS)
    for kind in KINDS:
        seen = counts[kind].astype(np.float64)
        by_class = seen.reshape(-1, PER_CLASS[kind], N_SYMBOLS).sum(1)
        by_class = by_class + 0.01 * tail
        by_class /= by_class.sum(1, keepdims=True)
        backing = np.repeat(by_class, len(seen) // len(by_class), axis=0)
        row = seen + 20 * backing
        row /= row.sum(1, keepdims=True)
        tables[kind] = np.floor(row * TOTAL[kind] + 0.5).astype(np.uint16)
        tables[kind][:, 0] += tables[kind].sum(1) == 0
    return tables
