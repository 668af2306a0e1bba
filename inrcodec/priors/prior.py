"""What a prior is: the network every cell starts from, and the places at which it may leave it."""

from __future__ import annotations

import hashlib
import math
import struct
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..cost import layer_sizes
from ..settings import PRIOR_METHODS as METHODS

__all__ = ["MAX_LEARNED", "MAX_RATES", "MAX_ROUNDS", "METHODS", "PER_SIGNAL", "Prior", "biases", "largest", "survivors"]

PER_SIGNAL = ("maml-one-shot", "maml-imp")  # pruned while a signal is fitted: the mask is the signal's own
MAX_WEIGHTS = 2**22
MAX_ROUNDS = 64
MAX_LEARNED = 16  # steps of learned rates
MAX_RATES = 2**22  # of all steps and parameters


@dataclass(frozen=True, eq=False)
class Prior:
    """start, mask: [P], in the flat order of fields.layers.MlpShape; biases are never pruned.

    relative: files store their weights' differences to `start`, at the places of `mask`; otherwise the weights
    themselves. schedule: weights left after each pruning that a signal's own networks go through (PER_SIGNAL).
    steps, rate: of the Adam steps that fit a cell. rates float32 [K, P]: of K steps of SGD on a cell's mean square
    error that come before, one learned rate per weight and step. patch: samples per axis of the cells it was trained
    for.
    facts: how it was trained, for people. Raises ValueError where these do not go together.
    """

    body: str  # siren | relu | fourier
    fin: int
    width: int
    depth: int
    fout: int
    omega: int
    kind: str  # of signal: image | sound | array
    patch: tuple[int, ...]
    start: np.ndarray  # float32
    mask: np.ndarray  # bool
    method: str = "maml"
    features: int = 0
    seed: int = 0  # fourier: of the frozen frequencies
    relative: bool = True
    schedule: tuple[int, ...] = ()
    steps: int = 100
    rate: float = 6.7e-4
    facts: tuple[tuple[str, int], ...] = ()
    rates: np.ndarray | None = None
    arch = "ensemble"  # what starts from it

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(f"method {self.method!r}: wanted one of {', '.join(METHODS)}")
        if len(self.patch) != self.fin:
            raise ValueError(f"patch of {len(self.patch)} axes for a network of {self.fin} inputs")
        n = self.n_parameters
        if self.start.dtype != np.float32 or self.start.shape != (n,):
            raise ValueError(f"start of {self.start.dtype} {self.start.shape}, wanted float32 ({n},)")
        if self.mask.dtype != np.bool_ or self.mask.shape != (n,):
            raise ValueError(f"mask of {self.mask.dtype} {self.mask.shape}, wanted bool ({n},)")
        if not np.isfinite(self.start[self.mask]).all():
            raise ValueError("weights that are not finite")
        if (r := self.rates) is not None:
            if r.dtype != np.float32 or r.shape[1:] != (n,) or not 1 <= len(r) <= MAX_LEARNED:
                raise ValueError(f"rates of {r.dtype} {r.shape}, wanted float32 (1 to {MAX_LEARNED}, {n})")
            if r.size > MAX_RATES:
                raise ValueError(f"{r.size:,} rates, limit {MAX_RATES:,}")
            if not np.isfinite(r).all():
                raise ValueError("rates that are not finite")
        if not self.mask[biases(self.sizes)].all():
            raise ValueError("a mask that leaves out biases")
        if list(self.schedule) != sorted(set(self.schedule), reverse=True) or min(self.schedule, default=1) < 1:
            raise ValueError("numbers of weights left that do not fall")
        if not (math.isfinite(self.rate) and self.rate > 0):
            raise ValueError(f"learning rate {self.rate}")

    @property
    def sizes(self) -> tuple[tuple[int, int], ...]:
        """(in, out) of each layer."""
        return layer_sizes(
            fin=self.fin, width=self.width, depth=self.depth, fout=self.fout, features=self.features
        )  # fmt: skip

    @property
    def n_parameters(self) -> int:
        return self.count(
            fin=self.fin, width=self.width, depth=self.depth, fout=self.fout, features=self.features
        )  # fmt: skip

    @staticmethod
    def count(*, fin: int, width: int, depth: int, fout: int, features: int) -> int:
        """Parameters of a network. Raises ValueError where it is larger than priors may be."""
        n = sum(i * o + o for i, o in layer_sizes(fin=fin, width=width, depth=depth, fout=fout, features=features))
        if n > MAX_WEIGHTS:
            raise ValueError(f"network of {n:,} weights, limit {MAX_WEIGHTS:,}")
        return n

    @cached_property
    def kept(self) -> int:
        """Weights and biases that are not pruned: what a cell stores."""
        return int(self.mask.sum())

    @property
    def n_biases(self) -> int:
        return sum(out for _, out in self.sizes)

    @property
    def counted(self) -> str:
        """As the papers count, biases apart, for people.

        >>> start, mask = np.zeros(9, np.float32), np.ones(9, bool)
        >>> Prior("siren", 1, 2, 0, 1, 30, "sound", (8,), start[:7], mask[:7]).counted
        '4 of 4 weights and all 3 biases kept'
        """
        b = self.n_biases
        return f"{self.kept - b:,} of {self.n_parameters - b:,} weights and all {b:,} biases kept"

    @property
    def base(self) -> np.ndarray:
        """What a code of 0 stands for, float64 [P]; 0 at pruned places."""
        return np.where(self.mask, self.start, 0).astype(np.float64) if self.relative else np.zeros(len(self.mask))

    def prunings(self, steps: int) -> dict[int, int]:
        """Of a fit of so many steps: step before which the weights of each network are cut -> weights left. As
        in the code of Meta-SparseINR (arXiv 2110.14678) one-shot does it half way, IMP at equal spacing."""
        if self.method == "maml-one-shot":
            return {steps // 2: self.schedule[-1]} if self.schedule else {}
        n = len(self.schedule)
        return {steps * (k + 1) // (n + 1): left for k, left in enumerate(self.schedule)}

    @property
    def id(self) -> int:
        """First 8 bytes, as a big-endian number, of the SHA-256."""
        return int(self.sha256[:16], 16)

    @cached_property
    def sha256(self) -> str:
        """Of all that decoding depends on (FORMAT.md §13): hex."""
        sizes = (self.fin, self.width, self.depth, self.fout, self.omega, self.features, self.seed, int(self.relative))
        h = hashlib.sha256(self.body.encode("ascii") + b"\n" + struct.pack("<8I", *sizes))
        h.update(np.packbits(self.mask, bitorder="little").tobytes())
        h.update(self.start[self.mask].astype("<f4").tobytes())
        return h.hexdigest()


def biases(sizes: tuple[tuple[int, int], ...]) -> np.ndarray:
    """bool [P]: which parameters, in flat order, are biases."""
    return np.concatenate([np.repeat([False, True], (i * o, o)) for i, o in sizes])


def survivors(n: int, rounds: int) -> int:
    """Weights left of n after so many prunings of n <- n - floor(n / 5).

    >>> [survivors(197_888, k) for k in (0, 1, 9, 14, 20)]
    [197888, 158311, 26561, 8704, 2284]
    """
    for _ in range(rounds):
        n -= n // 5
    return n


def largest(scores: np.ndarray, among: np.ndarray, n: int) -> np.ndarray:
    """bool [..., P]: of each row the n places of largest score among those allowed (bool [..., P]); of equals the
    first go."""
    order = np.argsort(np.where(among, -scores, np.inf), axis=-1, kind="stable")
    chosen = np.zeros(scores.shape, bool)
    np.put_along_axis(chosen, order[..., :n], True, axis=-1)
    return chosen & among
