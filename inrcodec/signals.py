"""What a signal is: samples on a regular lattice, and the facts needed to write them back as they came.

Sample units, the same for every depth: pictures lie in [0, 1], sounds in [-1, 1] (full scale), arrays in
[0, 1] with `offset + scale · sample` the original value. Float sounds and arrays may leave those ranges.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # this module is read by `info`, which must not wait for numpy
    import numpy as np

__all__ = ["SAMPLE_TYPES", "Signal", "SignalMeta", "expand", "normalise"]

# kind -> the sample types it may have; b1 … f8 as in numpy, i3 is 24-bit sound
SAMPLE_TYPES = {
    "image": ("u1", "u2"),
    "sound": ("u1", "i2", "i3", "i4", "f4", "f8"),
    "array": ("b1", "u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8"),
}
COLOURS = ("gray", "gray+alpha", "rgb", "rgb+alpha", "plain")  # plain: sounds and arrays


@dataclass(frozen=True)
class SignalMeta:
    """Everything about a signal but its samples. Needs no numpy."""

    kind: str  # image | sound | array
    shape: tuple[int, ...]  # samples per axis: (H, W) for a picture, (N,) for a sound
    channels: int
    sample_type: str  # one of SAMPLE_TYPES[kind]; what decoding writes
    colour: str = "plain"  # one of COLOURS
    sample_rate_hz: int = 0  # sounds only
    offset: float = 0.0  # arrays: original = offset + scale * sample
    scale: float = 1.0
    channel_axis: bool = True  # arrays: whether the original had an axis for channels

    @property
    def n_samples(self) -> int:
        """Number of sample positions (pixels, frames), channels not counted."""
        n = 1
        for extent in self.shape:
            n *= extent
        return n

    @property
    def n_values(self) -> int:
        return self.n_samples * self.channels

    @property
    def alpha(self) -> bool:
        return self.colour.endswith("+alpha")

    @property
    def duration_s(self) -> float:
        return self.shape[0] / self.sample_rate_hz if self.sample_rate_hz else 0.0

    @property
    def bits_per_sample(self) -> int:
        return 1 if self.sample_type == "b1" else 8 * int(self.sample_type[1])


@dataclass(frozen=True)
class Signal:
    """samples: float32 [*shape, C] in the units above; metadata: raw ICC, EXIF, XMP, … bytes by name."""

    samples: np.ndarray
    meta: SignalMeta
    metadata: dict[str, bytes] = field(default_factory=dict)


def normalise(values: np.ndarray, meta: SignalMeta) -> np.ndarray:
    """Stored values [*shape, C] of meta.sample_type -> float32 samples in the units of this module."""
    import numpy as np

    if meta.kind == "array":
        return ((values.astype(np.float64) - meta.offset) / meta.scale).astype(np.float32)
    if meta.sample_type[0] == "f":
        return values.astype(np.float32)
    full = _full_scale(meta)
    if meta.kind == "sound" and meta.sample_type == "u1":  # 8-bit sound is offset binary
        return ((values.astype(np.float32) - 128) / 128).astype(np.float32)
    return (values.astype(np.float64) / full).astype(np.float32)


def expand(samples: np.ndarray, meta: SignalMeta) -> np.ndarray:
    """Inverse of normalise: samples [..., C] -> stored values, rounded and clipped for integer types.

    24-bit sound (i3) comes back as int32 in ±2^23. Never fails on non-finite input from a hostile file.
    """
    import numpy as np

    x = np.clip(np.nan_to_num(np.asarray(samples, np.float64), nan=0.0), -3e38, 3e38)
    if meta.kind == "array":
        with np.errstate(over="ignore", invalid="ignore"):
            x = np.nan_to_num(meta.offset + meta.scale * x, nan=0.0)
        code = meta.sample_type
        if code == "b1":
            return x >= 0.5
        if code[0] == "f":
            limit = float(np.finfo(code).max)
            return np.clip(x, -limit, limit).astype(code)
        info = np.iinfo(code)
        low, high = float(info.min), float(info.max)
        rounded = np.rint(np.clip(x, low, high))
        # float64(2^63 - 1) rounds up to 2^63, which would wrap: saturate through the exact integer bound
        return np.where(rounded >= high, info.max, np.minimum(rounded, np.nextafter(high, 0)).astype(code)).astype(code)
    if meta.sample_type[0] == "f":
        return x.astype(meta.sample_type)
    full = _full_scale(meta)
    if meta.kind == "image":
        return np.rint(np.clip(x, 0, 1) * full).astype(meta.sample_type)
    if meta.sample_type == "u1":
        return np.clip(np.rint(x * 128 + 128), 0, 255).astype(np.uint8)
    stored = np.clip(np.rint(x * full), -full, full - 1)
    return stored.astype(np.int16 if meta.sample_type == "i2" else np.int32)


def _full_scale(meta: SignalMeta) -> float:
    """The stored value of sample 1.0: 255 or 65,535 for pictures, 2^(bits-1) for sounds."""
    bits = meta.bits_per_sample
    return float(2**bits - 1) if meta.kind == "image" else float(2 ** (bits - 1))
