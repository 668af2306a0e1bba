"""An open .inr file: what it says, and what it decodes to. Reads only the tiles, evaluates only the cells, it needs."""

from __future__ import annotations

import os
from functools import cached_property
from typing import TYPE_CHECKING, Any, BinaryIO

from .cost import flops, largest_cell, macs_per_sample, n_parameters
from .errors import FormatError
from .formats.container import InrFile
from .settings import MAX_SAMPLES, DecodeSettings
from .signals import SignalMeta
from .stream import Header

if TYPE_CHECKING:  # `info` and `open` must not wait for numpy
    import numpy as np

    from .decoder import Decoder
    from .fields.base import Weights
    from .priors.context_file import AnyPrior

__all__ = ["Reader"]


class Reader:
    """An open .inr file. Use as a context manager, or close() it, when it came from a path."""

    def __init__(
        self,
        source: str | os.PathLike[str] | bytes | BinaryIO,
        *,
        partial: bool = False,
        prior: AnyPrior | str | os.PathLike[str] | None = None,
    ) -> None:
        self._owned: BinaryIO | None = None
        self._corrected: tuple[float, Weights] | None = None  # at that scale, for `sample`
        self._given = prior
        if isinstance(source, bytes | bytearray | memoryview):
            self._file = InrFile.of_bytes(bytes(source), partial=partial)
            return
        if isinstance(source, str | os.PathLike):
            source = self._owned = open(source, "rb")  # noqa: SIM115 (closed with the reader)
        try:
            self._file = InrFile(source, partial=partial)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._owned is not None:
            self._owned.close()

    def __del__(self) -> None:
        self.close()  # f = inrcodec.open(path) on its own is no mistake worth a ResourceWarning

    @property
    def header(self) -> Header:
        return self._file.header

    @property
    def n_bytes(self) -> int:
        return self._file.n_bytes

    @property
    def truncated(self) -> bool:
        return self._file.truncated

    def metadata(self) -> dict[str, bytes]:
        """Raw ICC, EXIF, XMP bytes and sound tags by name."""
        return self._file.metadata()

    def decode(
        self,
        *,
        scale: float | None = None,
        size: tuple[int, ...] | None = None,
        region: tuple[int, ...] | None = None,
        rate_hz: int | None = None,
        max_samples: int = MAX_SAMPLES,
    ) -> np.ndarray:
        """Stored values [*shape, C]; without the last axis where there is one channel, as in a gray picture [H, W]
        or a mono sound [N] (arrays: where the array encoded had no axis for it).

        size: (width, height) for pictures, else samples per axis. region: (x, y, width, height) in output pixels;
        for other kinds (start, length) axis after axis. Raises ValueError, FormatError, LimitError.
        """
        meta = self.header.signal
        if size is not None and meta.kind == "image":
            size = size[::-1]
        spans = None if region is None else _spans(region, meta)
        settings = DecodeSettings(scale=scale, size=size, region=spans, rate_hz=rate_hz, max_samples=max_samples)
        values, _ = self.decode_settings(settings)
        squeezed = meta.channels == 1 if meta.kind != "array" else not meta.channel_axis
        return values[..., 0] if squeezed else values

    def decode_settings(
        self, settings: DecodeSettings, sample_type: str | None = None
    ) -> tuple[np.ndarray, SignalMeta]:
        """Stored values [*shape, C] and what they are, of another sample type if one is given. Reads the tiles, and
        evaluates the cells, that the output touches."""
        decoder = self._decoder(settings.max_samples)
        wanted = decoder.chunks_for(settings)
        payloads = [self._file.payload(i) if i in wanted else None for i in range(self.header.n_chunks)]
        codes = decoder.codes(payloads)
        if len(wanted) == self.header.n_chunks and not self.truncated:
            self._check_digest(codes)
        weights = decoder.weights(codes)
        del codes  # of a large picture: as much memory again
        return decoder.render(weights, settings, sample_type)

    def sample(self, coords: np.ndarray, *, scale: float = 1.0) -> np.ndarray:
        """The function itself: float64 values [N, C] at positions [N, D] in sample units, axes in array order (y, x
        for pictures); the first sample's centre is ½. Pictures are in [0, 1], sounds in [-1, 1]; not clipped.

        scale: what `decode` evaluates where its output is just so many times as large (sizes are rounded). Above 1 a
        picture's detail network adds what samples are too coarse for; from 2 on all of it. Raises ValueError below 1:
        a position has no neighbours to average over.
        """
        import numpy as np

        points = np.asarray(coords, np.float64)
        if points.ndim != 2 or points.shape[1] != len(self.header.signal.shape) or not np.isfinite(points).all():
            raise ValueError(f"coords must be finite, [N, {len(self.header.signal.shape)}]")
        if not scale >= 1:  # NaN fails as well
            raise ValueError(f"scale {scale:g}: wanted 1 or more")
        decoder, scale = self._decoder(MAX_SAMPLES), min(scale, 2.0)
        if self._corrected is None or self._corrected[0] != scale:
            self._corrected = scale, decoder.correct(self._weights, scale)
        return decoder.sample(self._corrected[1], points)

    def verify(self, *, max_samples: int = MAX_SAMPLES) -> None:
        """Check every CRC, decode every code, compare their hash. Raises FormatError, LimitError."""
        self._file.check()
        decoder = self._decoder(max_samples)
        self._check_digest(decoder.codes([self._file.payload(i) for i in range(self.header.n_chunks)]))

    def info(self) -> dict[str, Any]:
        """Facts about the file, with stable keys; reads headers only."""
        h, s = self.header, self.header.signal
        bits = 8 * self.n_bytes
        facts: dict[str, Any] = {
            "kind": s.kind,
            "shape": list(s.shape),
            "channels": s.channels,
            "colour": s.colour,
            "sample_type": s.sample_type,
            "bits_per_sample": s.bits_per_sample,
        }
        if s.kind == "sound":
            facts |= {"sample_rate_hz": s.sample_rate_hz, "duration_s": s.duration_s}
            facts["kbit_per_s"] = bits / s.duration_s / 1000
        facts |= {
            "bytes": self.n_bytes,
            "bits_per_position": bits / s.n_samples,
            "quality_db": h.quality_mdb / 1000 or None,
            "quality_metric": "SNR" if s.kind == "sound" else "PSNR",
            "arch": h.field.arch,
            "body": h.field.body,
            "grid": list(h.cells),
            "segments": h.field.segments,
            "connections": h.field.connections,
            "prior": f"{h.field.prior:016x}" if h.field.prior else None,
            "kept": h.field.kept,
            "cell_samples": list(largest_cell(h)),
            "splits": h.field.splits,
            "parameters": n_parameters(h),
            "macs_per_sample": macs_per_sample(h),
            "flops": flops(h),
            "synthesis": h.field.synthesis,
            "detail": h.field.detail,
            "deltas": h.field.deltas,
            "entropy": h.coder,
            "table_set": h.table_set,
            "levels": len(h.levels) + 1,
            "metadata": [s.kind for s in self._file.sections if s.kind[0].islower()],
            "sections": [{"type": s.kind, "offset": s.offset, "bytes": s.n_bytes} for s in self._file.sections],
            "digest": self._file.digest().hex(),
            "encoder": ".".join(map(str, h.encoder)),
            "truncated": self.truncated,
        }
        return facts

    def _decoder(self, max_samples: int) -> Decoder:
        from .decoder import Decoder

        return Decoder(self.header, max_samples=max_samples, prior=self._prior)

    @cached_property
    def _prior(self) -> AnyPrior | None:
        wanted, given = self.header.field.prior, self._given
        if not wanted:
            return None
        from .prior_files import find_prior, read_prior

        if given is None:
            return find_prior(wanted)
        return read_prior(given) if isinstance(given, str | os.PathLike) else given

    @cached_property
    def _weights(self) -> Weights:
        decoder = self._decoder(MAX_SAMPLES)
        codes = decoder.codes([self._file.payload(i) for i in range(self.header.n_chunks)])
        return decoder.weights(codes)

    def _check_digest(self, codes: tuple[np.ndarray, ...]) -> None:
        from .decoder import digest

        if not self.truncated and digest(codes) != self._file.digest():
            raise FormatError("decoded weights do not match the file's hash")


def _spans(region: tuple[int, ...], meta: SignalMeta) -> tuple[tuple[int, int], ...]:
    """A region as callers write it -> (start, stop) per axis. Raises ValueError."""
    n = len(meta.shape)
    if len(region) != 2 * n:
        raise ValueError(f"region of {len(region)} numbers, wanted {2 * n}")
    if meta.kind == "image":
        x, y, width, height = region
        return (y, y + height), (x, x + width)
    return tuple((a, a + length) for a, length in zip(region[::2], region[1::2], strict=True))
