"""Turns settings into bits, and bits into grids and network sizes, for the MLP bodies."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

from ..settings import EncodeSettings
from ..signals import SignalMeta

__all__ = ["DEFAULT_BITS", "bits_wanted", "check_codes", "iterations_for", "larger", "uniform_cells"]

DEFAULT_BITS = 8  # per weight before entropy coding
TARGET_SHARE = 0.9  # of a byte target that is planned for; the codec tunes the step to land on it
RAW_SHARE = 0.25  # of the uncompressed size: no default network costs more bits
MAX_CODES = 2**28
BITS_AT_75 = 1.4  # per pixel of an RGB picture at the default quality
QUALITY_OCTAVE = 15.0  # points of quality that double the bits
DB_OCTAVE = 5.0  # of --psnr that double the bits: 6 dB cost each parameter a bit, and more parameters besides
SAMPLES_OF_DEFAULT_STEPS = 2**19


def bits_wanted(signal: SignalMeta, settings: EncodeSettings) -> float:
    """Bits for the whole signal that these settings ask for; with none but quality, at most a quarter of raw."""
    if settings.target_bytes is not None:
        return TARGET_SHARE * 8 * settings.target_bytes
    if settings.bits_per_sample is not None:
        return TARGET_SHARE * settings.bits_per_sample * signal.n_samples
    if settings.kbit_per_s is not None and signal.duration_s:
        return TARGET_SHARE * 1000 * settings.kbit_per_s * signal.duration_s
    octaves = (settings.quality - 75) / QUALITY_OCTAVE
    if settings.psnr_db is not None:
        octaves = (settings.psnr_db - 33) / DB_OCTAVE
    channels = signal.channels if signal.kind == "sound" else (1 + signal.channels) / 4
    raw = RAW_SHARE * signal.bits_per_sample * signal.channels
    return min(BITS_AT_75 * 2.0 ** max(-6.0, min(octaves, 12.0)) * channels, raw) * signal.n_samples


def larger(signal: SignalMeta, settings: EncodeSettings) -> Iterator[EncodeSettings]:
    """The settings, and after them, where --psnr had a network's size guessed, those that plan twice the bits each
    time, up to the most that any are planned for."""
    yield settings
    if settings.psnr_db is None or settings.body_or_default == "cosine":
        return
    while True:
        wanted, settings = settings, replace(settings, psnr_db=min(settings.psnr_db + DB_OCTAVE, 200.0))
        if bits_wanted(signal, settings) <= bits_wanted(signal, wanted):
            return
        yield settings


def uniform_cells(signal: SignalMeta, samples_per_cell: float) -> tuple[int, ...]:
    """Cells per axis of a uniform grid whose cells are about cubes of this many samples.

    Where a count nearby divides the axis, it is taken: cells of one size need no padding.
    """
    d = len(signal.shape)
    cells = [1] * d
    # short axes first: what they cannot take, the longer ones do
    left = samples_per_cell
    for rank, axis in enumerate(sorted(range(d), key=lambda a: signal.shape[a])):
        side = max(1.0, left ** (1 / (d - rank)))
        extent = signal.shape[axis]
        ideal = max(1, round(extent / side))
        near = range(max(1, math.ceil(0.88 * ideal)), min(extent, math.floor(1.12 * ideal)) + 1)
        cells[axis] = min(near, key=lambda m: (extent % m != 0, abs(m - ideal)), default=ideal)
        left = max(1.0, left * cells[axis] / extent)
    return tuple(cells)


def iterations_for(signal: SignalMeta, at_default: int) -> int:
    """Fewer steps for larger signals, so that time grows slower than size; more for smaller ones."""
    factor = math.sqrt(SAMPLES_OF_DEFAULT_STEPS / signal.n_samples)
    return round(at_default * min(2.0, max(0.1, factor)))


def check_codes(n_codes: int) -> None:
    """Raises ValueError where a network of this size is out of range."""
    if n_codes > MAX_CODES:
        raise ValueError(f"--width, --depth and --grid ask for {n_codes:,} weights, limit {MAX_CODES:,}")
