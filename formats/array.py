"""Turns .npy files into signals, and values back into .npy files.

Axes: up to 3 signal axes and, behind them, one axis for channels. An array of 4 axes has channels last. One of 2 or 3
axes has them where its last axis has at most 4 entries and all others more than 4 (a picture [512, 768, 3], a
trajectory [1000, 2]); else all axes are signal axes of one channel.
"""

from __future__ import annotations

import io
import math
import warnings

import numpy as np

from inrcodec.errors import InrError, LimitError, SignalError
from inrcodec.signals import SAMPLE_TYPES, Signal, SignalMeta, normalise

__all__ = ["from_values", "read", "write"]

MAX_SIGNAL_AXES = 3
FEW = 4  # entries: at most as many in the axis of channels, more in all others


def read(data: bytes, *, max_samples: int) -> Signal:
    """Bytes of an .npy file of real numbers. Byte order and memory order are not kept.

    Raises SignalError for anything else, LimitError before reading more than max_samples values.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # old headers
        try:
            values = _load(data, max_samples)
        except InrError:
            raise
        except Exception as error:
            raise SignalError(f"not a readable .npy file: {' '.join(str(error).split())[:200]}") from None
    return from_values(values)


def from_values(values: np.ndarray) -> Signal:
    """Plain numbers -> Signal. Raises SignalError."""
    _check(values.shape, values.dtype)
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise SignalError(f"array has {np.count_nonzero(~np.isfinite(values)):,} values that are not finite")
    channel_axis = _has_channels(values.shape)
    if not channel_axis:
        values = values[..., None]
    sample_type = values.dtype.str[1:]
    offset, scale = _range(values)
    meta = SignalMeta(
        "array",
        values.shape[:-1],
        values.shape[-1],
        sample_type,
        offset=offset,
        scale=scale,
        channel_axis=channel_axis,
    )
    return Signal(normalise(values, meta), meta)


def write(values: np.ndarray, meta: SignalMeta, metadata: dict[str, bytes], *, file_format: str = "npy") -> bytes:
    """values: [*shape, C] of meta.sample_type -> .npy bytes; no axis for channels if the original had none.
    An .npy file has no place for metadata."""
    if file_format != "npy":
        raise ValueError(f"{file_format}: an array is written as npy")
    stream = io.BytesIO()
    plain = values if meta.channel_axis else values[..., 0]
    np.save(stream, np.ascontiguousarray(plain.astype(meta.sample_type, copy=False)), allow_pickle=False)
    return stream.getvalue()


def _load(data: bytes, max_samples: int) -> np.ndarray:
    stream = io.BytesIO(data)
    version = np.lib.format.read_magic(stream)
    if version not in ((1, 0), (2, 0), (3, 0)):
        raise SignalError(f".npy version {version[0]}.{version[1]}: wanted 1.0 to 3.0")
    # 3.0 differs from 2.0 in allowing names beyond Latin-1, which only structured types have
    header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = header(stream)
    _check(shape, dtype)
    n_values = math.prod(shape)
    if n_values > max_samples:
        raise LimitError(f"array {shape}: {n_values:,} values, limit {max_samples:,}")
    wanted, found = n_values * dtype.itemsize, len(data) - stream.tell()
    if found < wanted:
        raise SignalError(f"truncated .npy: {found:,} bytes of values, wanted {wanted:,}")
    return np.load(io.BytesIO(data), allow_pickle=False)


def _check(shape: tuple[int, ...], dtype: np.dtype) -> None:
    if dtype.str[1:] not in SAMPLE_TYPES["array"]:
        raise SignalError(f"array of {dtype}: wanted booleans, integers or floats of up to 64 bits")
    if not 1 <= len(shape) <= MAX_SIGNAL_AXES + 1:
        raise SignalError(f"array of {len(shape)} axes: wanted 1 to {MAX_SIGNAL_AXES}, and one for channels")
    if min(shape) < 1:
        raise SignalError(f"array {shape} is empty: wanted at least 1 value")


def _has_channels(shape: tuple[int, ...]) -> bool:
    """See the top of this file."""
    n_axes = len(shape)
    return n_axes > MAX_SIGNAL_AXES or (n_axes > 1 and shape[-1] <= FEW and min(shape[:-1]) > FEW)


def _range(values: np.ndarray) -> tuple[float, float]:
    """-> offset and scale that bring the values into [0, 1]; scale 1 for a constant."""
    low, high = float(values.min()), float(values.max())
    if not math.isfinite(high - low):
        raise SignalError(f"array spans {low:g} to {high:g}, more than a float64 holds")
    return low, high - low or 1.0
