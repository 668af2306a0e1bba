"""Reads and writes .inr sounds with soundfile's argument names."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, BinaryIO

from .errors import SignalError
from .settings import DecodeSettings, EncodeSettings

if TYPE_CHECKING:
    import numpy as np

    from .reader import Reader
    from .signals import SignalMeta

__all__ = ["SoundInfo", "info", "read", "write"]

SUBTYPES = {"PCM_U8": "u1", "PCM_16": "i2", "PCM_24": "i3", "PCM_32": "i4", "FLOAT": "f4", "DOUBLE": "f8"}
DTYPES = ("float64", "float32", "int32", "int16")

File = str | os.PathLike[str] | bytes | BinaryIO  # bytes: the file itself


@dataclass(frozen=True)
class SoundInfo:
    """What soundfile.info tells of other formats."""

    name: str
    samplerate: int
    channels: int
    frames: int
    duration: float  # seconds
    format: str
    subtype: str


def info(file: File) -> SoundInfo:
    """Reads the header only. Raises FormatError, SignalError where it is no sound, OSError."""
    from .api import open as open_inr

    with open_inr(file) as reader:
        meta = _meta(reader)
    name = os.fspath(file) if isinstance(file, str | os.PathLike) else str(getattr(file, "name", "<bytes>"))
    subtype = next(name for name, sample_type in SUBTYPES.items() if sample_type == meta.sample_type)
    return SoundInfo(name, meta.sample_rate_hz, meta.channels, meta.shape[0], meta.duration_s, "INR", subtype)


def read(  # noqa: PLR0917 - as soundfile has them
    file: File,
    frames: int = -1,
    start: int = 0,
    stop: int | None = None,
    dtype: str = "float64",
    always_2d: bool = False,
) -> tuple[np.ndarray, int]:
    """-> (data, samplerate). data: [N] where there is one channel, else [N, C]; always [N, C] with always_2d.

    The samples are those of the sound file that `inrcodec decode` writes: floats in [-1, 1], integers at full scale.
    frames (-1: all), or stop, from start on; negative start and stop count from the end, as in soundfile. Reads the
    tiles, and evaluates the cells, that it touches. Raises TypeError, ValueError, FormatError, SignalError, OSError.

    >>> import io, numpy as np
    >>> file = io.BytesIO()
    >>> write(file, np.sin(np.arange(8000) / 9), 8000, subtype="PCM_16")
    >>> data, samplerate = read(file, frames=100, start=-500)
    >>> data.shape, samplerate
    ((100,), 8000)
    """
    import numpy as np

    from .api import open as open_inr

    if dtype not in DTYPES:
        raise ValueError(f"dtype {dtype!r}: wanted one of {', '.join(DTYPES)}")
    if frames >= 0 and stop is not None:
        raise TypeError("only one of frames and stop may be used")
    with open_inr(file) as reader:
        meta = _meta(reader)
        first, last, _ = slice(start, stop).indices(meta.shape[0])
        if frames >= 0:
            last = min(last, first + frames)
        if first < last:
            stored, _ = reader.decode_settings(DecodeSettings(region=((first, last),), max_samples=2**62))
        else:
            stored = np.zeros((0, meta.channels), meta.sample_type.replace("i3", "i4"))
    data = _converted(stored, meta, dtype)
    return (data if always_2d or meta.channels > 1 else data[:, 0]), meta.sample_rate_hz


def write(
    file: str | os.PathLike[str] | BinaryIO,
    data: np.ndarray,
    samplerate: int,
    subtype: str | None = None,
    **settings: Any,
) -> None:
    """data: [N] or [N, C], floats in [-1, 1] or int16, int32, uint8 at full scale. An existing file is replaced.

    subtype: what reading gives back, one of PCM_U8, PCM_16, PCM_24, PCM_32, FLOAT, DOUBLE; by default that of data.
    settings: as for inrcodec.encode, such as quality=75, kbit_per_s=32 or psnr_db=40 (the SNR). Raises TypeError for
    a name that is none of them, ValueError, SignalError, TargetError, OSError.
    """
    from .api import encode_signal, settings_of
    from .formats.files import write_atomically
    from .formats.memory import from_array
    from .signals import Signal

    if samplerate < 1:
        raise ValueError(f"samplerate {samplerate}: wanted at least 1 Hz")
    if subtype is not None and subtype not in SUBTYPES:
        raise ValueError(f"subtype {subtype!r}: wanted one of {', '.join(SUBTYPES)}")
    unknown = set(settings) - {f.name for f in fields(EncodeSettings)}
    if unknown:
        raise TypeError(f"write() got an unexpected keyword argument {sorted(unknown)[0]!r}")
    signal = from_array(data, int(samplerate))
    if subtype is not None:
        signal = Signal(signal.samples, replace(signal.meta, sample_type=SUBTYPES[subtype]))
    made = encode_signal(signal, settings_of(**settings)).data
    if isinstance(file, str | os.PathLike):
        write_atomically(file, made, overwrite=True)
    else:
        file.write(made)


def _meta(reader: Reader) -> SignalMeta:
    meta = reader.header.signal
    if meta.kind != "sound":
        raise SignalError(f"holds {'an array' if meta.kind == 'array' else 'a picture'}, wanted a sound")
    return meta


def _converted(stored: np.ndarray, meta: SignalMeta, dtype: str) -> np.ndarray:
    """Stored samples, converted as libsndfile does it: integers by shifts. Floats become integers at full scale."""
    import numpy as np

    if dtype.startswith("float"):
        if meta.sample_type[0] == "f":
            return stored.astype(dtype)
        if meta.sample_type == "u1":
            return ((stored.astype(np.float64) - 128) / 128).astype(dtype)
        return (stored / 2.0 ** (meta.bits_per_sample - 1)).astype(dtype)
    wanted = 8 * np.dtype(dtype).itemsize
    if meta.sample_type[0] == "f":
        full = 2.0 ** (wanted - 1)
        return np.clip(np.rint(stored.astype(np.float64) * full), -full, full - 1).astype(dtype)
    wide = stored.astype(np.int64) - (128 if meta.sample_type == "u1" else 0)
    shift = wanted - meta.bits_per_sample
    return (wide << shift if shift >= 0 else wide >> -shift).astype(dtype)
