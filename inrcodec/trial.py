"""Turns a fitted field and a quantiser step into what a decoder sees, and into the stream that holds it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from . import __version__
from .decoder import digest
from .entropy import TABLE_SETS, make_coder
from .fields import Field
from .fields.base import OnStep, Progress
from .metrics import mse
from .render import lattice, render
from .settings import DecodeSettings, EncodeSettings
from .signals import Signal, normalise
from .stream import MAX_MDB, Header, Part, Quantiser, Stream, TensorLayout, n_tiles, plan

__all__ = ["Candidate", "Trial", "quality_db"]

LEVEL_BYTES = 2048  # a progressive level is worth its framing from about here on
MAX_LEVELS = 4
ZSTD_MARGIN = 1.25  # a quick zstd pass must come this close to the range coder before the slow one is tried


@dataclass(frozen=True)
class Candidate:
    """One way to represent a signal. fitted: what the field's fit returned, or a variant of it."""

    field: Field
    fitted: Any


@dataclass(frozen=True)
class Trial:
    """A candidate quantised at one step: what it decodes to, and the stream that holds it. looks: reports of looks at
    the synthesis network's answer, on the way to the codes."""

    step: float
    signal: Signal
    entropy: str
    candidate: Candidate
    quantiser: Quantiser
    codes: tuple[np.ndarray, ...]
    looks: tuple[Progress, ...] = ()

    @classmethod
    def of(
        cls,
        candidate: Candidate,
        step: float,
        signal: Signal,
        settings: EncodeSettings,
        on_step: OnStep = lambda _: None,
    ) -> Trial:
        field, fitted = candidate.field, candidate.fitted
        looks: list[Progress] = []

        def hear(step: Progress) -> None:
            if step.worth is not None:
                looks.append(step)
            on_step(step)

        quantiser = field.quantiser(fitted, step)
        codes = field.quantize(fitted, quantiser, hear)
        return cls(step, signal, settings.entropy, candidate, quantiser, codes, tuple(looks))

    @property
    def field(self) -> Field:
        return self.candidate.field

    @cached_property
    def quality_db(self) -> float:
        return quality_db(self.signal, self.values)

    @cached_property
    def values(self) -> np.ndarray:
        """Stored values [*shape, C]: what a decoder makes of the codes at scale 1."""
        weights = self.field.dequantize(self.codes, self.quantiser)
        everything = DecodeSettings(max_samples=2**62)
        return render(self.field, weights, lattice(self.field.signal, everything))

    @cached_property
    def stream(self) -> Stream:
        """Its header states a quality that takes as many bytes as any: `stated` is never larger."""
        layouts = self.field.layouts
        levels = _levels(self.codes[-1], layouts[-1])
        chunks = plan(layouts, levels)
        coder, payloads = self._code(layouts, chunks)
        spec = self.field.spec
        if spec.body == "cosine" and coder == "zstd":  # it has no contexts that a prior could give
            spec = replace(spec, prior=0)
        header = Header(
            signal=self.signal.meta,
            cells=self.field.grid.cells,
            field=spec,
            quantiser=self.quantiser,
            coder=coder,
            table_set=TABLE_SETS[coder],
            levels=levels,
            quality_mdb=MAX_MDB,
            encoder=_version(),
        )
        return Stream(header, tuple(payloads), digest(self.codes), self.signal.metadata)

    @property
    def stated(self) -> Stream:
        """The stream with its quality, which takes a decoding to know."""
        milli_db = min(max(round(1000 * self.quality_db), 0), MAX_MDB)
        return replace(self.stream, header=replace(self.stream.header, quality_mdb=milli_db))

    def _code(self, layouts: Sequence[TensorLayout], chunks: Sequence[Sequence[Part]]) -> tuple[str, list[bytes]]:
        """The smaller of the coders' outputs, or that of the one asked for."""
        if self.entropy == "zstd":
            return "zstd", make_coder("zstd", 0).encode(self.codes, layouts, chunks)
        payloads = make_coder("range", TABLE_SETS["range"]).encode(self.codes, layouts, chunks)
        if self.entropy == "auto":
            from .entropy.zstd import QUICK_LEVEL, ZstdCoder

            size = sum(map(len, payloads))
            quick = ZstdCoder(QUICK_LEVEL).encode(self.codes, layouts, chunks)
            if sum(map(len, quick)) < ZSTD_MARGIN * size:
                slow = ZstdCoder().encode(self.codes, layouts, chunks)
                if sum(map(len, slow)) < size:
                    return "zstd", slow
        return "range", payloads


def quality_db(signal: Signal, values: np.ndarray) -> float:
    """PSNR in dB of stored values against the signal they come from (alpha left out); for sounds SNR."""
    meta = signal.meta
    n = meta.channels - meta.alpha
    error, power, count = 0.0, 0.0, 0
    for at in range(0, len(values), step := max(1, 2**22 // max(1, values[0].size))):
        original = signal.samples[at : at + step, ..., :n]
        decoded = normalise(values[at : at + step], meta)[..., :n]
        error += mse(decoded=decoded, original=original) * original.size
        power += float(np.square(original, dtype=np.float64).sum())
        count += original.size
    peak = power if meta.kind == "sound" else float(count)
    if error == 0:
        return MAX_MDB / 1000
    return float(10 * np.log10(max(peak, 1e-30) / error))


def _levels(heads: np.ndarray, layout: TensorLayout) -> tuple[int, ...]:
    """Diagonals that cut the heads into up to MAX_LEVELS progressive levels, each about as many bytes as all before it
    together, so that a soft picture stands early in the file. The first has LEVEL_BYTES a tile at least, on average."""
    if layout.context != "cosine" or len(layout.frequencies) == 1:
        return ()
    diagonal = sum(np.ix_(*(np.arange(f) for f in layout.frequencies)))
    per_frequency = np.count_nonzero(heads, axis=(0, *range(1 + len(layout.frequencies), heads.ndim)))
    nonzero = np.bincount(np.asarray(diagonal).ravel(), weights=per_frequency.ravel(), minlength=layout.n_diagonals)
    estimate = 0.7 * nonzero.sum()  # bytes: real files spend 5 to 6 bits per nonzero code
    n = MAX_LEVELS
    while n > 1 and estimate / 2 ** (n - 1) < LEVEL_BYTES * n_tiles(layout.cells):
        n -= 1
    if n < 2:
        return ()
    share = np.cumsum(nonzero) / nonzero.sum()
    cuts = {int(np.searchsorted(share, 2.0 ** (i - n))) + 1 for i in range(1, n)}
    return tuple(sorted(c for c in cuts if 0 < c < layout.n_diagonals))


def _version() -> tuple[int, int, int]:
    major, minor, patch = (int(v) for v in __version__.split(".")[:3])
    return major, minor, patch
