"""Turns sound files into signals, and samples back into sound files, through libsndfile."""

from __future__ import annotations

import contextlib
import io
import os
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
from inrcodec.formats.quiet import silence

from inrcodec.errors import InrError, LimitError, SignalError
from inrcodec.signals import Signal, SignalMeta, normalise

__all__ = ["MAX_CHANNELS", "read", "write"]

MAX_CHANNELS = 8
# libsndfile's subtype -> sample type and the type to read it as. All others (Vorbis, MPEG, A-law, …) are lossy: read
# as float, since conversion to integers may wrap around at peaks, and given back as 16 bits
_EXACT = {
    **{"PCM_U8": ("u1", "int16"), "PCM_S8": ("i2", "int16"), "PCM_16": ("i2", "int16"), "ALAC_16": ("i2", "int16")},
    **{"PCM_24": ("i3", "int32"), "ALAC_20": ("i3", "int32"), "ALAC_24": ("i3", "int32")},
    **{"PCM_32": ("i4", "int32"), "ALAC_32": ("i4", "int32"), "FLOAT": ("f4", "float32"), "DOUBLE": ("f8", "float64")},
}
_PCM = {"u1": "PCM_U8", "i2": "PCM_16", "i3": "PCM_24", "i4": "PCM_32", "f4": "FLOAT", "f8": "DOUBLE"}
# Written format -> subtype by sample type, most channels, highest rate in Hz. Above its rate Vorbis crashes the process
_WRITES: dict[str, tuple[dict[str, str], int, int]] = {
    "wav": (_PCM, MAX_CHANNELS, 2**31 - 1),
    "flac": ({"u1": "PCM_S8", "i2": "PCM_16", "i3": "PCM_24"}, MAX_CHANNELS, 655_350),
    "ogg": (dict.fromkeys(_PCM, "VORBIS"), MAX_CHANNELS, 192_000),
    "mp3": (dict.fromkeys(_PCM, "MPEG_LAYER_III"), 2, 48_000),
    "aiff": (_PCM, MAX_CHANNELS, 2**31 - 1),
}
_MP3_RATES_HZ = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
_TAGS = ("title", "artist", "album", "date", "tracknumber", "genre", "comment", "copyright", "license", "software")
_BLOCK = 2**16  # frames at a time: libsndfile's Vorbis encoder overflows its stack on long arrays
_NO_MORE_THAN = 2**40  # frames; a length above it means that the file does not state one


def read(data: bytes, *, max_samples: int) -> Signal:
    """Bytes of a sound file of 1 … 8 channels. Text tags are kept in metadata["tags"], a line KEY=value each.

    Raises SignalError for anything that is no whole, finite sound, LimitError before decoding more than max_samples
    values.
    """
    if not data:
        raise SignalError("empty file, wanted a sound")
    _check_wav(data)
    with _one_kind_of_error(), silence() if _is_mpeg(data) else contextlib.nullcontext():
        import soundfile

        with soundfile.SoundFile(_Bytes(data)) as file:
            return _read(file, max_samples)


def write(values: np.ndarray, meta: SignalMeta, metadata: dict[str, bytes], *, file_format: str) -> bytes:
    """values: stored samples [N, C] of meta.sample_type (i3: int32 in ±2^23). OGG and MP3 are lossy.

    Raises ValueError where the format cannot hold the sound.
    """
    if file_format not in _WRITES:
        raise ValueError(f"{file_format}: wanted one of {', '.join(_WRITES)}")
    subtypes, channels, rate_hz = _WRITES[file_format]
    if meta.sample_type not in subtypes:
        fitting = " and ".join(f for f, (s, *_) in _WRITES.items() if s.get(meta.sample_type) == _PCM[meta.sample_type])
        raise ValueError(f"{file_format} cannot hold {meta.sample_type} samples: {fitting} can")
    if meta.channels > channels or meta.sample_rate_hz > rate_hz:
        limit = f"at most {channels} channels and {rate_hz:,} Hz"
        raise ValueError(f"{file_format} holds {limit}, not {meta.channels} and {meta.sample_rate_hz:,}: wav does")
    if file_format == "mp3" and meta.sample_rate_hz not in _MP3_RATES_HZ:
        rates = ", ".join(map(str, _MP3_RATES_HZ))
        raise ValueError(f"mp3 cannot hold {meta.sample_rate_hz:,} Hz: wanted one of {rates}; wav holds any")
    if values.ndim != 2 or values.shape[1] != meta.channels:
        raise ValueError(f"samples {values.shape}: wanted [N, {meta.channels}]")
    if file_format in ("ogg", "mp3"):  # as floats: libsndfile 1.2.2 garbles 16-bit stereo on its way to MP3
        values = np.clip(normalise(values, meta), -1, 1)
    elif meta.sample_type == "u1":  # libsndfile takes no bytes
        values = (values.astype(np.int16) - 128) << 8
    elif meta.sample_type == "i3":
        values = values.astype(np.int32) << 8
    import soundfile

    stream = io.BytesIO()
    options = {"format": file_format.upper(), "subtype": subtypes[meta.sample_type]}
    try:
        with soundfile.SoundFile(stream, "w", meta.sample_rate_hz, meta.channels, **options) as file:
            for key, text in _parse_tags(metadata.get("tags", b"")).items():
                with contextlib.suppress(Exception):  # a tag the format has no place for
                    setattr(file, key, text)
            for start in range(0, len(values), _BLOCK):
                file.write(np.ascontiguousarray(values[start : start + _BLOCK]))
    except soundfile.SoundFileError as error:
        raise ValueError(f"{file_format} cannot hold this sound: {_reason(error)}") from None
    return stream.getvalue()


def _read(file: Any, max_samples: int) -> Signal:
    channels, stated = file.channels, file.frames
    if channels > MAX_CHANNELS:
        raise SignalError(f"sound of {channels} channels: wanted 1 to {MAX_CHANNELS}")
    if stated < _NO_MORE_THAN:
        _check_limit(stated, channels, max_samples)
    sample_type, dtype = _EXACT.get(file.subtype, ("i2", "float32"))
    blocks, n_frames = [], 0
    while len(block := file.read(_BLOCK, dtype=dtype, always_2d=True)):
        n_frames += len(block)
        _check_limit(n_frames, channels, max_samples)
        blocks.append(block)
    if n_frames == 0:
        raise SignalError("sound without samples: wanted at least 1")
    if n_frames < stated < _NO_MORE_THAN:
        raise SignalError(f"truncated sound: {n_frames:,} of {stated:,} frames")
    values = np.concatenate(blocks)
    if dtype.startswith("float") and not np.isfinite(values).all():
        raise SignalError(f"sound has {np.count_nonzero(~np.isfinite(values)):,} samples that are not finite")
    meta = SignalMeta("sound", (n_frames,), channels, sample_type, sample_rate_hz=file.samplerate)
    if file.subtype not in _EXACT:
        samples = np.clip(values, -1, 32767 / 32768)
    elif sample_type == "u1":
        samples = normalise((values >> 8) + 128, meta)
    else:
        samples = normalise(values >> 8 if sample_type == "i3" else values, meta)
    tags = _format_tags(file.copy_metadata())
    return Signal(samples, meta, {"tags": tags} if tags else {})


class _Bytes(io.BytesIO):
    """Stays where it is when a damaged file sends libsndfile to a place that cannot be: an exception would come up
    inside its callback, where Python can only print it."""

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        try:
            return super().seek(offset, whence)
        except (ValueError, OverflowError):
            return self.tell()


def _check_limit(n_frames: int, channels: int, max_samples: int) -> None:
    if n_frames * channels > max_samples:
        raise LimitError(f"sound of {n_frames:,} frames and {channels} channels: limit {max_samples:,} values")


def _format_tags(tags: dict[str, str]) -> bytes:
    """Tags -> lines KEY=value, backslash and line feed escaped."""
    lines = []
    for key in _TAGS:
        if text := tags.get(key, ""):
            text = text.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
            lines.append(f"{key}={text}\n")
    return "".join(lines).encode("utf-8", "replace")


def _parse_tags(lines: bytes) -> dict[str, str]:
    tags = {}
    for line in lines.decode("utf-8", "replace").split("\n"):
        key, _, text = line.partition("=")
        if key in _TAGS and text:
            parts = (part.replace("\\n", "\n").replace("\\r", "\r") for part in text.split("\\\\"))
            # libsndfile signs the software tag again at every writing
            tags[key] = "\\".join(parts).replace("\0", "").split(" (libsndfile")[0]
    return tags


def _check_wav(data: bytes) -> None:
    """libsndfile reads the samples that are left of a truncated WAV file without a word."""
    if data[:4] != b"RIFF" or data[8:12] != b"WAVE":
        return
    at = 12
    while at + 8 <= len(data):
        name, n_bytes = struct.unpack_from("<4sI", data, at)
        left = len(data) - at - 8
        # streamed files state no size: zero, or about the largest
        if name == b"data" and left < n_bytes < 0x7FFF0000:
            raise SignalError(f"truncated WAV: data chunk at byte {at:,} has {n_bytes:,} bytes, {left:,} are left")
        at += 8 + n_bytes + n_bytes % 2


def _is_mpeg(data: bytes) -> bool:
    return data[:3] == b"ID3" or (data[0] == 0xFF and data[1:2] >= b"\xe0")


@contextlib.contextmanager
def _one_kind_of_error() -> Iterator[None]:
    try:
        yield
    except (InrError, ImportError):
        raise
    except OSError as error:  # soundfile found no libsndfile
        raise SignalError(f"sound cannot be read: {_reason(error)}") from None
    except Exception as error:
        raise SignalError(
            f"not a sound that can be read (WAV, FLAC, OGG, MP3, AIFF), or damaged: {_reason(error)}"
        ) from None


def _reason(error: Exception) -> str:
    text = " ".join(str(getattr(error, "error_string", error)).split())
    return text.rstrip(".") or type(error).__name__
