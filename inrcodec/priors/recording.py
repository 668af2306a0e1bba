"""Turns photos into what a context network is trained on: codes, and what the network would have seen of each.

Photos are halved until no side is over 1,024 and coded at steps from fine to coarse under both tunes, some in gray and
some with cells of 8 or 32 samples; the tile model itself says what the network would have seen of every code. A record
is of one such coding and depends on nothing else: they may be made in any order, and in other processes.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from PIL import Image

from .. import __version__
from ..entropy import TABLE_SETS
from ..entropy.alphabet import split
from ..entropy.exact import N_COLOURS, POSITIONS
from ..entropy.learned import N_FEATURES, N_LEARNED_CLASSES, LearnedTile
from ..fields.cosine import CosineField
from ..grid import Grid
from ..parallel import single_blas
from ..settings import EncodeSettings
from ..signals import Signal, SignalMeta
from . import context, signs

__all__ = [
    "KEPT",
    "KEPT_QUIET",
    "MULTIPLE",
    "PER_PHOTO",
    "STEPS",
    "SYMBOLS",
    "Coding",
    "Record",
    "Recorder",
    "codings",
    "make_record",
    "mark_of",
    "quantised",
    "shrunk",
    "split_off",
]

STEPS = (6 / 255, 150 / 255)  # quantiser steps, log-uniform
PER_PHOTO = 8  # codings: tunes in turn; one of them gray, two with other cells
KEPT, KEPT_QUIET = 0.08, 0.01  # share of codes recorded; of those around which all is 0
SYMBOLS = 28  # larger ones are rare: a geometric tail
LARGEST_SIDE = 1024
MULTIPLE = 32  # of samples: cells of one size

MARK = 2**10  # contexts that the recorder gives count in these: above all real ones

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Record:
    """features uint8 [N, N_FEATURES]; places int16 [N]; symbols, and whether of the odd quantiser, uint8 [N]."""

    features: np.ndarray
    places: np.ndarray
    symbols: np.ndarray
    odd: np.ndarray

    @property
    def weights(self) -> np.ndarray:
        """float32 [N]: codes around which all is 0 stand for more of their kind."""
        return np.where(self.features.any(1), 1, KEPT / KEPT_QUIET).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Coding:
    """Coding k of PER_PHOTO of picture i."""

    picture: Image.Image
    i: int
    k: int
    seed: int


def shrunk(signal: Signal) -> Image.Image:
    """A picture as it is coded for training: RGB of 8 bits, alpha left out, sides of whole cells and at most
    LARGEST_SIDE. Raises ValueError for what is no picture, or too small."""
    if signal.meta.kind != "image":
        raise ValueError(f"{signal.meta.kind}: contexts are learned from pictures")
    samples = signal.samples[..., : signal.meta.channels - signal.meta.alpha]
    colours = samples if samples.shape[-1] == 3 else samples[..., :1].repeat(3, axis=-1)
    picture = Image.fromarray(np.rint(255 * np.clip(colours, 0, 1)).astype(np.uint8))
    while max(picture.size) > LARGEST_SIDE:
        picture = picture.resize((picture.width // 2, picture.height // 2), Image.Resampling.BOX)
    if min(picture.size) < MULTIPLE:
        raise ValueError(f"picture of {picture.width} × {picture.height} samples, wanted {MULTIPLE} × {MULTIPLE}")
    return picture.crop((0, 0, picture.width // MULTIPLE * MULTIPLE, picture.height // MULTIPLE * MULTIPLE))


def codings(pictures: Sequence[Image.Image], seed: int) -> list[Coding]:
    """PER_PHOTO of each picture, picture by picture."""
    return [Coding(picture, i, k, seed) for i, picture in enumerate(pictures) for k in range(PER_PHOTO)]


def split_off(items: Sequence[T], each: int = 1) -> tuple[list[T], list[T]]:
    """Those to learn from, and those to measure on: every eleventh picture, of which there are `each` items in a row;
    none of fewer than six."""
    held_out = [i // each % 11 == 5 for i in range(len(items))]
    return (
        [item for item, held in zip(items, held_out, strict=True) if not held],
        [item for item, held in zip(items, held_out, strict=True) if held],
    )


def make_record(coding: Coding) -> Record:
    rng = np.random.default_rng((coding.seed, coding.i, coding.k, 1))  # not those of training, which have (seed, step)
    chosen = coding.picture.convert("L") if coding.k == 7 else coding.picture
    samples = np.asarray(chosen, np.float32).reshape(*chosen.size[::-1], -1) / 255
    cells = {5: 8, 6: 32}.get(coding.k, 16)
    step = math.exp(rng.uniform(*np.log(STEPS)))
    with single_blas():  # sums are the same in every process
        codes, dependent = quantised(samples, ("psnr", "perceptual")[coding.k % 2], cells, step)
    recorder = Recorder(rng)
    tile = LearnedTile(codes, None, recorder, signs.sign_network(), dependent=dependent)  # type: ignore[arg-type]
    n_diagonals = sum(codes.shape[1:3]) - 1
    tile.run(0, n_diagonals, tile.stops(0, n_diagonals), recorder.code)
    return recorder.record()


def quantised(samples: np.ndarray, tune: str, side: int, step: float) -> tuple[np.ndarray, bool]:
    """Codes of the heads with cells of about `side` samples, and whether they are dependent."""
    meta = SignalMeta("image", samples.shape[:2], samples.shape[2], "u1", "rgb" if samples.shape[2] == 3 else "gray")
    settings = EncodeSettings(tune=tune)
    grid = Grid.uniform(meta.shape, tuple(max(1, round(n / side)) for n in meta.shape))
    field = CosineField(CosineField.plan_spec(meta, grid, settings, samples), meta, grid)
    fitted = field.fit(samples, settings, lambda _: None)
    codes = field.quantize(fitted, field.quantiser(fitted, step * fitted.tuning.first_step))[-1]
    return codes, field.layouts[-1].dependent


class Recorder:
    """Stands in for the context network: keeps a sample of the features it is asked about. The class it answers is
    which code of the pass it is, so that it knows the codes again wherever they come."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._features: list[np.ndarray] = []
        self._places: list[np.ndarray] = []
        self._symbols: list[np.ndarray] = []
        self._odd: list[np.ndarray] = []
        self._picked = np.zeros(0, np.int64)

    def classes(self, features: np.ndarray, u: np.ndarray, v: np.ndarray, colour: int, half: int) -> np.ndarray:
        flat = features.reshape(len(features), -1)
        quiet = flat.max(0) == 0
        self._picked = np.flatnonzero(self._rng.random(len(quiet)) < np.where(quiet, KEPT_QUIET, KEPT))
        self._features.append(flat[:, self._picked].T.astype(np.uint8))
        place = ((u * POSITIONS + v) * N_COLOURS + min(colour, N_COLOURS - 1)) * 2 + half
        self._places.append(np.repeat(place, features.shape[2])[self._picked].astype(np.int16))
        self._symbols.append(np.full(len(self._picked), 255, np.uint8))
        self._odd.append(np.zeros(len(self._picked), np.uint8))
        return MARK * (1 + np.arange(len(quiet))).reshape(features.shape[1:])

    def code(self, contexts: np.ndarray, values: np.ndarray) -> np.ndarray:
        if not len(contexts) or contexts[0] < MARK:  # signs
            return values
        at = contexts // MARK - 1
        place = np.searchsorted(self._picked, at)
        known = np.append(self._picked, -1)[place] == at
        symbols, _ = split(np.abs(values[known]))
        self._symbols[-1][place[known]] = np.minimum(symbols, SYMBOLS - 1)
        self._odd[-1][place[known]] = contexts[known] % MARK >= N_LEARNED_CLASSES
        return values

    def record(self) -> Record:
        """Of all it was asked about."""
        a = [np.concatenate(a) for a in (self._features, self._places, self._symbols, self._odd)]
        return Record(*(x[a[2] < 255] for x in a))


def mark_of(pictures: Sequence[Image.Image], seed: int) -> str:
    """SHA-256 of everything that records depend on, of which the codec is named by its version and networks: hex."""
    codec = (__version__, TABLE_SETS["range"], context.SHA256, signs.SHA256)
    constants = (codec, STEPS, PER_PHOTO, KEPT, KEPT_QUIET, SYMBOLS, N_FEATURES, N_LEARNED_CLASSES)
    h = hashlib.sha256(repr((constants, seed)).encode())
    for picture in pictures:
        h.update(repr(picture.size).encode() + picture.tobytes())
    return h.hexdigest()
