"""Encode: Signal → field → codes → payloads. Decode: the same list backwards. Composition only."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod

import numpy as np

from . import __version__
from .cost import largest_cell, macs_per_sample, n_network_parameters, n_parameters
from .entropy import TABLE_SETS, make_coder
from .errors import FormatError, LimitError, TargetError, UnsupportedError
from .fields import Field, field_class, make_field
from .fields.base import OnStep, Progress
from .grid import Grid, parse_cells
from .metrics import mse
from .priors.prior import Prior
from .rate import solve_bytes, solve_quality
from .render import lattice, narrow_alpha, render, widen_alpha
from .settings import DecodeSettings, EncodeSettings
from .signals import Signal, SignalMeta, normalise
from .stream import MAX_MDB, FieldSpec, Header, Part, Quantiser, Stream, TensorLayout, n_tiles, plan

__all__ = ["Decoder", "encode"]

DIGEST_BYTES = 8
LEVEL_BYTES = 2048  # a progressive level is worth its framing from about here on
MAX_LEVELS = 4
MAX_DIAGONALS = 2**16  # each is a pass of its own: a long thin cell would take hours
MIN_CODES = 2**20  # weights that any file may have, however small a limit on samples was asked for
MACS_PER_VALUE = 2**16  # a limit on multiplications goes with the limit on values
ZSTD_MARGIN = 1.25  # a quick zstd pass must come this close to the range coder before the slow one is tried


def encode(
    signal: Signal, settings: EncodeSettings, n_bytes: Callable[[Stream], int], on_step: OnStep = lambda _: None
) -> Stream:
    """Fit, quantise and entropy-code one signal. n_bytes gives the size of the file a stream becomes.

    Raises ValueError for settings that do not fit the signal, TargetError where no step meets the target.
    """
    meta = signal.meta
    _check_settings(meta, settings)
    spec, grid = _choose(signal, settings)
    field = make_field(spec, meta, grid, settings.prior)
    fitted = field.fit(widen_alpha(signal.samples, meta), settings, on_step)
    return _Search(signal, settings, field, fitted, n_bytes, on_step).run()


class Decoder:
    """What a header says, made ready to evaluate. Raises LimitError before anything large is allocated."""

    def __init__(self, header: Header, *, max_samples: int, prior: Prior | None = None) -> None:
        """prior: the one the header names. Raises UnsupportedError without it."""
        if header.signal.n_values > max_samples:
            raise LimitError(
                f"signal of {header.signal.n_values:,} values, limit {max_samples:,} (--max-pixels raises it)"
            )
        if prod(header.cells) > max_samples:
            raise LimitError(f"grid of {prod(header.cells):,} cells, limit {max_samples:,}")
        # all of this from the header's integers: the field's own tables can be as large as what is refused here
        n_codes = n_parameters(header)
        if header.field.body == "cosine":  # cells are padded to the largest
            largest = largest_cell(header)
            n_codes += header.signal.channels * prod(header.cells) * prod(largest) - header.signal.n_values
            n_diagonals = sum(largest) - len(largest) + 1
            limit = max(MAX_DIAGONALS, max_samples // 2**12)
            if len(largest) > 1 and n_diagonals > limit:
                raise LimitError(f"cells of {n_diagonals:,} frequency diagonals, limit {limit:,}")
            if header.levels and header.levels[-1] >= n_diagonals:
                raise FormatError(f"header: level at diagonal {header.levels[-1]}, beyond the last")
        n_codes += header.signal.n_samples * (header.field.segments > 0)  # the label map
        if header.field.connections:  # the drawing of connections
            n_codes += prod(header.cells) * header.field.width
        if (n := n_network_parameters(header)) > (limit := max_samples // 8 + MIN_CODES):
            raise LimitError(f"network of {n:,} weights, limit {limit:,}")
        if n_codes > (limit := 2 * max_samples + MIN_CODES):
            raise LimitError(f"{n_codes:,} weights, limit {limit:,}")
        self.header = header
        self._max_samples = max_samples
        self._coder = make_coder(header.coder, header.table_set)
        self.field = _field(header, prior)
        self._chunks = plan(self.field.layouts, header.levels)

    def chunks_for(self, settings: DecodeSettings) -> set[int]:
        """The chunks that decoding with these settings reads."""
        out = lattice(self.header.signal, settings)
        axes = [np.array([a / s + 1e-9, b / s - 1e-9]) for a, b, s in zip(out.start, out.stop, out.scale, strict=True)]
        cells = self.field.cells_for(axes, out.scale)
        heads = len(self.field.layouts) - 1
        return {
            i
            for i, parts in enumerate(self._chunks)
            if any(p.tensor != heads or _overlap(p.tile, cells) for p in parts)
        }

    def codes(self, payloads: Sequence[bytes | None]) -> tuple[np.ndarray, ...]:
        """Integer codes of the chunks that are there. Raises FormatError, LimitError."""
        with _within_memory():
            codes = self._coder.decode(payloads, self.field.layouts, self._chunks)
        self.field.check(codes)
        return codes

    def weights(self, codes: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
        with _within_memory(), np.errstate(all="ignore"):
            return self.field.dequantize(codes, self.header.quantiser)

    def correct(self, weights: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
        """Weights made ready for `sample` wherever it is, so that it does not do so at every call."""
        with _within_memory(), np.errstate(all="ignore"):
            everywhere = [np.array([0.0, n]) for n in self.header.signal.shape]
            return self.field.correct(weights, everywhere, (1.0,) * len(everywhere))

    def render(
        self, weights: Sequence[np.ndarray], settings: DecodeSettings, sample_type: str | None = None
    ) -> tuple[np.ndarray, SignalMeta]:
        """Stored values [*shape, C], as sample_type if one is given, and the facts that go with them."""
        meta = self.header.signal
        out = lattice(replace(meta, sample_type=sample_type or meta.sample_type), settings)
        macs, limit = macs_per_sample(self.header) * out.meta.n_samples, self._max_samples * MACS_PER_VALUE
        if macs > limit:
            raise LimitError(f"output of {macs:.3g} multiplications, limit {limit:.3g} (--max-pixels raises it)")
        # hostile weights may be infinite: their values are clipped or set to 0 in the end
        with _within_memory(), np.errstate(all="ignore"):
            return render(self.field, weights, out), out.meta

    def sample(self, weights: Sequence[np.ndarray], coords: np.ndarray) -> np.ndarray:
        """float64 [N, C] at positions coords [N, D] in sample units (the first sample's centre is ½); pictures in
        [0, 1], sounds in [-1, 1], arrays in their own units. Not clipped."""
        meta = self.header.signal
        with _within_memory(), np.errstate(all="ignore"):
            values = narrow_alpha(self.field.sample(self.correct(weights), coords), meta)
            return meta.offset + meta.scale * values if meta.kind == "array" else values


@contextmanager
def _within_memory() -> Iterator[None]:
    try:
        yield
    except MemoryError:
        raise LimitError("not enough memory for a signal of this size") from None


def digest(codes: Sequence[np.ndarray]) -> bytes:
    """Truncated SHA-256 of all codes as little-endian int32, tensor after tensor."""
    h = hashlib.sha256()
    for array in codes:
        h.update(np.ascontiguousarray(array, "<i4").data)
    return h.digest()[:DIGEST_BYTES]


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


@dataclass
class _Search:
    """One fitted field, tried at one or several quantiser steps."""

    signal: Signal
    settings: EncodeSettings
    field: Field
    fitted: object
    n_bytes: Callable[[Stream], int]
    on_step: OnStep
    _last: _Trial | None = None
    _n_trials: int = 0

    def run(self) -> Stream:
        settings, meta = self.settings, self.signal.meta
        step = self.field.initial_step(self.fitted, settings)
        if settings.psnr_db is not None:
            step = solve_quality(self._quality, settings.psnr_db, step)
        elif (target := target_bytes(meta, settings)) is not None:
            stream = self._trial(step).stream
            metadata = self.n_bytes(stream) - self.n_bytes(replace(stream, metadata={}))
            if metadata >= target:
                raise TargetError(f"metadata alone is {metadata:,} bytes of {target:,}; --strip leaves it out")
            step = solve_bytes(self._size, target, step)
        trial = self._trial(step)
        quality = quality_db(self.signal, trial.values)
        if self.field.spec.synthesis:
            # where the same codes are better without the network, all is chosen anew without it
            vars(trial).pop("values")  # large pictures: one decoded copy at a time
            plain = make_field(replace(self.field.spec, synthesis=0), meta, self.field.grid)
            if quality_db(self.signal, replace(trial, field=plain).values) >= quality:
                return replace(self, field=plain, _last=None).run()
        self.on_step(Progress("done", 1, 1, quality))
        milli_db = min(max(round(1000 * quality), 0), MAX_MDB)
        return replace(trial.stream, header=replace(trial.stream.header, quality_mdb=milli_db))

    def _quality(self, step: float) -> float:
        quality = quality_db(self.signal, self._trial(step).values)
        self.on_step(Progress("search", self._n_trials, 0, quality))
        return quality

    def _size(self, step: float) -> int:
        self.on_step(Progress("search", self._n_trials + 1, 0))
        return self.n_bytes(self._trial(step).stream)

    def _trial(self, step: float) -> _Trial:
        """Of this step; the last one is kept, for a search ends on it as a rule."""
        if self._last is None or self._last.step != step:
            self._last = None  # large pictures: one at a time
            quantiser = self.field.quantiser(self.fitted, self.settings, step)
            codes = self.field.quantize(self.fitted, quantiser)
            self._last = _Trial(step, self.signal, self.settings.entropy, self.field, quantiser, codes)
            self._n_trials += 1
        return self._last


@dataclass(frozen=True)
class _Trial:
    """A field quantised at one step: what it decodes to, and the stream that holds it."""

    step: float
    signal: Signal
    entropy: str
    field: Field
    quantiser: Quantiser
    codes: tuple[np.ndarray, ...]

    @cached_property
    def values(self) -> np.ndarray:
        """What a decoder makes of the codes at scale 1."""
        weights = self.field.dequantize(self.codes, self.quantiser)
        everything = DecodeSettings(max_samples=2**62)
        return render(self.field, weights, lattice(self.field.signal, everything))

    @cached_property
    def stream(self) -> Stream:
        """Its header states the quality in as many bytes as any quality takes: replacing it adds none."""
        layouts = self.field.layouts
        levels = _levels(self.codes[-1], layouts[-1])
        chunks = plan(layouts, levels)
        coder, payloads = self._code(layouts, chunks)
        header = Header(
            signal=self.signal.meta,
            cells=self.field.grid.cells,
            field=self.field.spec,
            quantiser=self.quantiser,
            coder=coder,
            table_set=TABLE_SETS[coder],
            levels=levels,
            quality_mdb=MAX_MDB,
            encoder=_version(),
        )
        return Stream(header, tuple(payloads), digest(self.codes), self.signal.metadata)

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


def target_bytes(meta: SignalMeta, settings: EncodeSettings) -> int | None:
    """The file size that --target-size, --bpp or --bitrate mean for this signal."""
    if settings.bits_per_sample is not None:
        return max(1, int(settings.bits_per_sample * meta.n_samples / 8))
    if settings.kbit_per_s is not None:
        return max(1, int(settings.kbit_per_s * 125 * meta.duration_s))
    return settings.target_bytes


def _check_settings(meta: SignalMeta, settings: EncodeSettings) -> None:
    if settings.kbit_per_s is not None and meta.kind != "sound":
        raise ValueError("--bitrate belongs to sounds; pictures have --bpp")


def _choose(signal: Signal, settings: EncodeSettings) -> tuple[FieldSpec, Grid]:
    """The field's spec, and the grid asked for or the one this family likes."""
    meta = signal.meta
    family = field_class(
        FieldSpec(
            settings.arch,
            settings.body_or_default,
            connections=settings.connections or 0,
            segments=int(settings.partition == "segments"),
            prior=settings.prior.id if settings.prior else 0,
        )
    )
    cells = parse_cells(settings.grid, meta.shape)
    grid = Grid.uniform(meta.shape, cells if cells is not None else family.default_cells(meta, settings))
    spec = family.plan_spec(meta, grid, settings, signal.samples)
    # a label map takes the place of the grid, whose cells were but a number of segments
    return spec, Grid.uniform(meta.shape, (1,) * len(meta.shape)) if spec.segments else grid


def _field(header: Header, prior: Prior | None) -> Field:
    """Raises FormatError for a spec the family cannot have, UnsupportedError where its prior is not there."""
    f = header.field
    if f.prior and (prior is None or prior.id != f.prior):
        other = "" if prior is None else f", not {prior.id:016x}"
        raise UnsupportedError(
            f"needs prior {f.prior:016x} (a {f.body} network of width {f.width} and depth {f.depth} with "
            f"{f.kept:,} weights kept){other}; --prior FILE gives it, or its folder in INRCODEC_PRIORS"
        )
    try:
        return make_field(f, header.signal, header.grid, prior)
    except (KeyError, ValueError) as error:
        raise FormatError(f"header: field that cannot be ({error})") from None


def _levels(heads: np.ndarray, layout: TensorLayout) -> tuple[int, ...]:
    """Diagonals that cut the heads into up to MAX_LEVELS progressive levels, each about twice as many bytes as the one
    before, so that a soft picture stands early in the file. The first has LEVEL_BYTES a tile at least, on average."""
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


def _overlap(tile: Sequence[tuple[int, int]], cells: Sequence[tuple[int, int]]) -> bool:
    return all(a < d and c < b for (a, b), (c, d) in zip(tile, cells, strict=True))


def _version() -> tuple[int, int, int]:
    major, minor, patch = (int(v) for v in __version__.split(".")[:3])
    return major, minor, patch
