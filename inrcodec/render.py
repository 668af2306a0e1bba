"""Evaluates a field on the lattice a caller asks for, block by block, and turns values into stored samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import ceil, prod

import numpy as np

from .errors import LimitError
from .fields import Field
from .fields.base import Weights
from .parallel import in_threads
from .settings import DecodeSettings
from .signals import SignalMeta, expand

__all__ = ["Lattice", "lattice", "narrow_alpha", "render", "widen_alpha"]

BLOCK_VALUES = 2**20  # evaluated at a time
BAND_VALUES = 2**25  # corrected at a time: twice the samples have four times the weights
# Alpha is fitted 8 % wider than [0, 1] and clipped back: flat opaque and clear areas stay exactly flat although
# their weights are quantised.
ALPHA_MARGIN = 0.08


@dataclass(frozen=True)
class Lattice:
    """Output samples start … stop − 1 on every axis; output sample i of axis d lies at (i + ½) / scale[d]."""

    start: tuple[int, ...]
    stop: tuple[int, ...]
    scale: tuple[float, ...]
    meta: SignalMeta  # of the output

    def positions(self, axis: int, start: int, stop: int, oversampling: int = 1) -> np.ndarray:
        """Centres of `oversampling` equal parts of each output sample, in the input's sample units."""
        parts = np.arange(start * oversampling, stop * oversampling)
        return (parts + 0.5) / (oversampling * self.scale[axis])


def lattice(meta: SignalMeta, settings: DecodeSettings) -> Lattice:
    """The lattice that the settings mean for this signal.

    Raises ValueError for settings that do not fit the signal, LimitError for too many values.
    """
    shape, scale = _scaled(meta, settings)
    region = settings.region
    if settings.start_s is not None or settings.duration_s is not None:
        if meta.kind != "sound":
            raise ValueError("--start and --duration belong to sounds")
        region = (_span(meta, settings, n=shape[0], rate_hz=meta.sample_rate_hz * scale[0]),)
    if region is None:
        region = tuple((0, n) for n in shape)
    if len(region) != len(shape):
        raise ValueError(f"--crop of {len(region)} axes on a signal of {len(shape)}")
    for d, ((a, b), n) in enumerate(zip(region, shape, strict=True)):
        if not 0 <= a < b <= n:
            axis = ("height", "width")[d] if meta.kind == "image" else f"axis {d}"
            raise ValueError(f"region {a} to {b} is empty or lies outside the {axis} of {n}")
    n_values = prod(b - a for a, b in region) * meta.channels
    if n_values > settings.max_samples:
        raise LimitError(f"output of {n_values:,} values, limit {settings.max_samples:,} (--max-pixels raises it)")
    rate_hz = settings.rate_hz or max(1, round(meta.sample_rate_hz * scale[0])) if meta.kind == "sound" else 0
    out = replace(meta, shape=tuple(b - a for a, b in region), sample_rate_hz=rate_hz)
    return Lattice(tuple(a for a, _ in region), tuple(b for _, b in region), scale, out)


def _scaled(meta: SignalMeta, settings: DecodeSettings) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """Samples per axis of the whole output, and output samples per input sample."""
    if settings.size is not None:
        if len(settings.size) != len(meta.shape):
            raise ValueError(f"--size of {len(settings.size)} axes on a signal of {len(meta.shape)}")
        return settings.size, tuple(m / n for m, n in zip(settings.size, meta.shape, strict=True))
    if settings.rate_hz is not None:
        if meta.kind != "sound":
            raise ValueError("--rate belongs to sounds; pictures have --scale and --size")
        factor = settings.rate_hz / meta.sample_rate_hz
        return (max(1, round(meta.shape[0] * factor)),), (factor,)
    if settings.scale is None:
        return meta.shape, (1.0,) * len(meta.shape)
    # a sound at twice the samples is the same sound at twice the rate
    shape = tuple(max(1, round(n * settings.scale)) for n in meta.shape)
    return shape, tuple(m / n for m, n in zip(shape, meta.shape, strict=True))


def _span(meta: SignalMeta, settings: DecodeSettings, *, n: int, rate_hz: float) -> tuple[int, int]:
    """--start and --duration in seconds -> (start, stop) in the n samples of the output; a duration may reach past
    the end."""
    start_s, duration_s = settings.start_s or 0.0, settings.duration_s
    if not 0 <= start_s < meta.duration_s:  # NaN fails as well
        raise ValueError(f"--start {start_s:g}: wanted 0 to less than {meta.duration_s:g} seconds")
    if duration_s is not None and not duration_s > 0:
        raise ValueError(f"--duration {duration_s:g}: wanted more than 0 seconds")
    start = min(round(start_s * rate_hz), n - 1)
    if duration_s is None or duration_s >= meta.duration_s:
        return start, n
    return start, min(start + max(1, round(duration_s * rate_hz)), n)


def render(field: Field, weights: Weights, out: Lattice) -> np.ndarray:
    """Stored values [*out.meta.shape, C] of out.meta.sample_type."""
    times = [max(1, ceil(field.min_scale / s - 1e-9)) for s in out.scale]
    per_row = prod(b - a for a, b in zip(out.start[1:], out.stop[1:], strict=True)) * prod(times) * out.meta.channels
    rows = max(1, BLOCK_VALUES // per_row)
    band = rows * max(1, BAND_VALUES // (rows * per_row))
    blocks = []
    for top in range(out.start[0], out.stop[0], band):
        bottom = min(top + band, out.stop[0])
        corrected = field.correct(weights, _positions(out, top, bottom, times), out.scale)
        runs = [(first, min(first + rows, bottom)) for first in range(top, bottom, rows)]
        blocks += in_threads(partial(_block, field, corrected, out, times), runs)
    return np.concatenate(blocks) if len(blocks) > 1 else blocks[0]


def _block(field: Field, weights: Weights, out: Lattice, times: Sequence[int], rows: tuple[int, int]) -> np.ndarray:
    """Stored values of some rows of the output; times: positions evaluated for one sample, per axis."""
    dense = [s * k for s, k in zip(out.scale, times, strict=True)]
    values = field.render(weights, _positions(out, *rows, times), dense)
    for axis, k in enumerate(times):
        if k > 1:
            shape = (*values.shape[:axis], values.shape[axis] // k, k, *values.shape[axis + 1 :])
            values = values.reshape(shape).mean(axis + 1)
    return expand(narrow_alpha(values, out.meta), out.meta)


def _positions(out: Lattice, top: int, bottom: int, times: Sequence[int]) -> list[np.ndarray]:
    """Per axis, of some rows of the output."""
    spans = ((top, bottom), *zip(out.start[1:], out.stop[1:], strict=True))
    return [out.positions(d, a, b, times[d]) for d, (a, b) in enumerate(spans)]


def widen_alpha(samples: np.ndarray, meta: SignalMeta) -> np.ndarray:
    """Samples as the field is fitted to them."""
    if not meta.alpha:
        return samples
    wide = samples.copy()
    wide[..., -1] += (2 * wide[..., -1] - 1) * np.float32(ALPHA_MARGIN)
    return wide


def narrow_alpha(values: np.ndarray, meta: SignalMeta) -> np.ndarray:
    """Inverse of widen_alpha, up to the clipping that follows."""
    if not meta.alpha:
        return values
    narrow = values.copy()
    narrow[..., -1] = (narrow[..., -1] + ALPHA_MARGIN) / (1 + 2 * ALPHA_MARGIN)
    return narrow
