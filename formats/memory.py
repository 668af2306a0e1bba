"""Turns what a Python program already holds - arrays, PIL images - into signals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from inrcodec.formats.array import from_values

from inrcodec.errors import SignalError
from inrcodec.signals import Signal, SignalMeta, normalise

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["from_array", "from_pil"]

COLOURS = {1: "gray", 2: "gray+alpha", 3: "rgb", 4: "rgb+alpha"}


def from_array(values: Any, sample_rate_hz: int = 0) -> Signal:
    """With sample_rate_hz a sound, [N] or [N, C]: floats in [-1, 1], int16, int32 or uint8. Without, uint8 and uint16
    [H, W] or [H, W, 1 … 4] are pictures, and everything else plain numbers (formats.array).

    Raises SignalError for what is empty, not finite or of another shape.
    """
    values = np.asarray(values)
    if values.size == 0:
        raise SignalError(f"array of shape {list(values.shape)} is empty")
    if sample_rate_hz:
        return _sound(values, sample_rate_hz)
    picture = values.ndim == 2 or (values.ndim == 3 and values.shape[2] in COLOURS)
    if not picture or values.dtype not in (np.uint8, np.uint16):
        return from_values(values)
    pixels = values.reshape(*values.shape[:2], -1)
    channels = pixels.shape[2]
    meta = SignalMeta("image", pixels.shape[:2], channels, f"u{values.dtype.itemsize}", COLOURS[channels])
    return Signal(normalise(pixels, meta), meta)


def from_pil(image: Image) -> Signal:
    """Modes L, LA, RGB, RGBA and I;16 as they are, others through RGB or RGBA; ICC, EXIF and XMP come along."""
    if image.mode not in ("L", "LA", "RGB", "RGBA", "I;16"):
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    signal = from_array(np.asarray(image))
    found = {"icc": image.info.get("icc_profile"), "exif": image.info.get("exif"), "xmp": image.info.get("xmp")}
    metadata = {name: bytes(part).removeprefix(b"Exif\0\0") for name, part in found.items() if part}
    return Signal(signal.samples, signal.meta, metadata)


def _sound(values: np.ndarray, sample_rate_hz: int) -> Signal:
    frames = values[:, None] if values.ndim == 1 else values
    types = {"float32": "f4", "float64": "f8", "int16": "i2", "int32": "i4", "uint8": "u1"}
    if frames.ndim != 2 or not 1 <= frames.shape[1] <= 8 or str(values.dtype) not in types:
        raise SignalError(
            f"sound of shape {list(values.shape)}, {values.dtype}: wanted [N] or [N, 1 … 8] of {list(types)}"
        )
    if not 1 <= sample_rate_hz < 2**31 or sample_rate_hz != int(sample_rate_hz):
        raise ValueError(f"sample rate {sample_rate_hz}: wanted a whole number of Hz, at least 1")
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise SignalError("sound has samples that are not finite")
    meta = SignalMeta(
        "sound", frames.shape[:1], frames.shape[1], types[str(values.dtype)], sample_rate_hz=int(sample_rate_hz)
    )
    return Signal(normalise(frames, meta), meta)
