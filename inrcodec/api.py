"""The Python face: files and arrays in, .inr bytes out; files opened and compared."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from .errors import InrError
from .formats.container import InrFile, pack
from .rate import target_bytes
from .reader import Reader
from .settings import MAX_SAMPLES, DecodeSettings, EncodeSettings
from .signals import Signal, SignalMeta
from .stream import Header

if TYPE_CHECKING:  # `info` and `open` must not wait for numpy
    import numpy as np

    from .fields.base import OnStep
    from .priors.context_file import AnyPrior

__all__ = [
    "Encoded",
    "compare",
    "encode",
    "encode_signal",
    "keep_metadata",
    "open",
    "settings_of",
]


@dataclass(frozen=True)
class Encoded:
    """data: the file. quality_db: measured on what the file decodes to (PSNR; SNR for sounds). effort: whose first
    file there was time for: less than was asked for where a time limit left none; whole: whether there was
    for all that this effort tries, and for all iterations of networks."""

    data: bytes
    header: Header
    quality_db: float
    seconds: float
    metadata_bytes: int
    target_bytes: int | None  # what --target-size, --bpp or --bitrate came to
    effort: int
    whole: bool


def encode(source: Any, *, sample_rate_hz: int = 0, metadata: str = "all", **settings: Any) -> bytes:
    """Picture, sound or array -> .inr bytes.

    source: a path, a Signal, a PIL image, or an array: uint8/uint16 [H, W] or [H, W, 1…4] is a picture, with
    sample_rate_hz [N] or [N, C] is a sound, anything else of 1 to 3 axes (and channels) plain numbers.
    settings: as for settings_of. Raises ValueError, OSError, InrError.

    >>> import numpy as np
    >>> data = encode(np.zeros((32, 48, 3), np.uint8), quality=60)
    >>> open(data).decode().shape
    (32, 48, 3)
    """
    made = settings_of(**settings)
    signal = as_signal(source, sample_rate_hz=sample_rate_hz)
    return encode_signal(keep_metadata(signal, metadata), made).data


def settings_of(**settings: Any) -> EncodeSettings:
    """Fields of EncodeSettings, with what goes without saying: prior may be a path, grid a number, and a label map, a
    partition or a prior says what --arch it is for. Raises ValueError, OSError, InrError."""
    allowed = {f.name for f in fields(EncodeSettings)}
    unknown = set(settings) - allowed
    if unknown:
        raise ValueError(f"unknown setting {sorted(unknown)[0]}; settings are {', '.join(sorted(allowed))}")
    if settings.get("segments") is not None:
        settings.setdefault("partition", "segments")
    if isinstance(prior := settings.get("prior"), str | os.PathLike):
        from .prior_files import read_prior

        settings["prior"] = read_prior(prior)
    if settings.get("prior") is not None:
        settings.setdefault("arch", settings["prior"].arch)
    elif settings.get("partition") is not None:  # one that is asked for is one into networks
        settings.setdefault("arch", "ensemble")
    if isinstance(settings.get("grid"), int):
        settings["grid"] = str(settings["grid"])
    return EncodeSettings(**settings)


def encode_signal(signal: Signal, settings: EncodeSettings, on_step: OnStep | None = None) -> Encoded:
    """Signal -> file. With settings.verify the bytes are read back and their codes compared before returning."""
    from .codec import encode as coded
    from .decoder import Decoder, digest

    started = time.perf_counter()
    stream, effort, whole = coded(signal, settings, lambda stream: len(pack(stream)), on_step or (lambda _: None))
    data = pack(stream)
    if settings.verify:
        read = InrFile.of_bytes(data).stream()
        codes = Decoder(read.header, max_samples=2**62, prior=settings.prior).codes(read.payloads)
        if digest(codes) != stream.digest:  # a bug of ours; an assert would be gone under python -O
            raise AssertionError("the file does not decode to what was encoded")
    return Encoded(
        data,
        stream.header,
        stream.header.quality_mdb / 1000,
        time.perf_counter() - started,
        sum(map(len, signal.metadata.values())),
        target_bytes(signal.meta, settings),
        effort,
        whole,
    )


def open(
    source: str | os.PathLike[str] | bytes | BinaryIO,
    *,
    partial: bool = False,
    prior: AnyPrior | str | os.PathLike[str] | None = None,
) -> Reader:
    """An .inr file, given as path, bytes or seekable binary file; only its header is read now. Raises FormatError,
    UnsupportedError, OSError.

    prior: what the file's weights are relative to, or its path, where the file needs one; else it is looked for in
    the folders that the environment variable INRCODEC_PRIORS names.
    """
    return Reader(source, partial=partial, prior=prior)


def compare(a: str, b: str, *, prior: str | None = None) -> dict[str, Any]:
    """Paths of an original and of what became of it (and of its prior) -> sizes and measures: psnr_db, ssim and
    ssimulacra2 for pictures (None with alpha, below 128 samples a side, or without its package), snr_db for sounds,
    psnr_db for arrays. Raises ValueError where the two cannot be compared."""
    from . import bench, metrics

    (original, meta), (decoded, other) = (_samples(path, prior) for path in (a, b))
    if (meta.kind, original.shape) != (other.kind, decoded.shape):
        raise ValueError(
            f"{b} is {other.kind} {list(decoded.shape)}, wanted {meta.kind} {list(original.shape)} as in {a}"
        )
    facts = {"a": a, "b": b, "a_bytes": os.path.getsize(a), "b_bytes": os.path.getsize(b), "kind": meta.kind}
    if meta.kind == "sound":
        return facts | {"snr_db": metrics.snr(decoded=decoded, original=original)}
    if (other.offset, other.scale) != (meta.offset, meta.scale):  # arrays: bring both to the units of the original
        decoded = (decoded.astype(float) * other.scale + other.offset - meta.offset) / meta.scale
    facts["psnr_db"] = metrics.psnr(decoded=decoded, original=original, peak=1.0)
    if meta.kind == "image":
        facts["ssim"] = metrics.ssim(decoded=decoded, original=original, peak=1.0)
        facts["ssimulacra2"] = None if meta.alpha else bench.ssimulacra2_of(decoded=decoded, original=original)
    return facts


def _samples(path: str, prior: str | None) -> tuple[np.ndarray, SignalMeta]:
    """Samples in the units of signals, of any file we read, .inr included."""
    from .formats.container import MAGIC
    from .formats.files import read_signal
    from .signals import normalise

    with Path(path).open("rb") as file:
        ours = file.read(len(MAGIC)) == MAGIC
    if not ours:
        signal = read_signal(path, max_samples=MAX_SAMPLES)
        return signal.samples, signal.meta
    try:
        with Reader(path, prior=prior) as reader:
            values, meta = reader.decode_settings(DecodeSettings())
    except InrError as error:
        raise type(error)(f"{path}: {error}") from None
    return normalise(values, meta), meta


def as_signal(source: Any, *, sample_rate_hz: int = 0) -> Signal:
    """Path, Signal, PIL image or array -> Signal. Raises SignalError, ValueError, OSError."""
    if isinstance(source, Signal):
        return source
    if isinstance(source, str | os.PathLike):
        from .formats.files import read_signal

        return read_signal(source, max_samples=MAX_SAMPLES)
    from .formats.memory import from_array, from_pil

    return from_pil(source) if hasattr(source, "getbands") else from_array(source, sample_rate_hz)


def keep_metadata(signal: Signal, kinds: str) -> Signal:
    """The signal with only these metadata: `all`, `none`, or names joined by commas. Raises ValueError."""
    if kinds == "all":
        return signal
    wanted = set() if kinds == "none" else set(kinds.split(","))
    if not wanted <= {"icc", "exif", "xmp", "tags"}:
        raise ValueError(f"--metadata {kinds}: wanted all, none, or a list of icc, exif, xmp, tags")
    return Signal(signal.samples, signal.meta, {k: v for k, v in signal.metadata.items() if k in wanted})
