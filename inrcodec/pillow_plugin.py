"""Lets Pillow open and save .inr pictures, after register_pillow_opener().

>>> from PIL import Image
>>> register_pillow_opener()
>>> import io
>>> file = io.BytesIO()
>>> Image.new("RGB", (48, 32), "teal").save(file, "INR", quality=60)
>>> Image.open(file).size
(48, 32)
"""

from __future__ import annotations

import io
from contextlib import contextmanager
from dataclasses import fields
from math import ceil
from typing import IO, TYPE_CHECKING, Any

from PIL import Image, ImageFile

from .api import encode_signal, settings_of
from .errors import InrError
from .formats.container import MAGIC
from .formats.memory import from_pil
from .reader import Reader
from .settings import DecodeSettings, EncodeSettings
from .signals import Signal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .signals import SignalMeta

__all__ = ["InrImageFile", "register_pillow_opener"]

FORMAT = "INR"
_EXIF_HEAD = b"Exif\0\0"
_MODES = {"gray": "L", "gray+alpha": "LA", "rgb": "RGB", "rgb+alpha": "RGBA"}
_EXACT = ("L", "LA", "RGB", "RGBA", "I;16")
_THROUGH = {"1": "L", "La": "LA", "I;16B": "I;16", "I;16L": "I;16", "I;16N": "I;16"}  # the rest by way of RGB or RGBA
_THROUGH_RGB = ("P", "PA", "RGBa", "RGBX", "CMYK", "YCbCr")


def register_pillow_opener() -> None:
    """Image.open reads .inr pictures, and Image.save writes them, from now on.

    save takes every field of EncodeSettings (quality=75, psnr_db, target_bytes, tune, grid, …) and icc_profile, exif
    and xmp; as with Pillow's other formats only the ICC profile is kept without being asked for, and options of
    other formats are ignored. Pillow has no 16-bit colour: such files open with 8 bits per sample.
    """
    Image.register_open(FORMAT, InrImageFile, _accept)
    Image.register_save(FORMAT, _save)
    Image.register_extension(FORMAT, ".inr")
    Image.register_mime(FORMAT, "image/x-inr")


class InrImageFile(ImageFile.ImageFile):
    """An .inr picture of which nothing is evaluated before its pixels are asked for."""

    format = FORMAT
    format_description = "Implicit neural representation"

    def _open(self) -> None:
        assert self.fp is not None
        try:
            self._reader = Reader(self.fp)  # type: ignore[arg-type]
            metadata = self._reader.metadata()
        except InrError as error:
            raise SyntaxError(str(error)) from None
        meta = self._reader.header.signal
        if meta.kind != "image":
            raise SyntaxError(f"holds a {meta.kind}, not a picture")
        self._mode = _mode(meta)
        self._size = self._whole = (meta.shape[1], meta.shape[0])
        self.tile = []
        self._evaluated = False
        for key, name in (("icc", "icc_profile"), ("xmp", "xmp")):
            if key in metadata:
                self.info[name] = metadata[key]
        if "exif" in metadata:
            self.info["exif"] = _EXIF_HEAD + metadata["exif"]

    def draft(self, mode: str | None, size: tuple[int, int] | None) -> tuple[str, tuple[int, int, float, float]] | None:
        """Evaluate at any smaller size that has both sides at least as asked for; thumbnail() calls this. mode is
        not heeded. Returns None where the picture is not to shrink, or has been evaluated."""
        if self._evaluated or size is None:
            return None
        width, height = self._whole
        scale = max(size[0] / width, size[1] / height)
        if scale >= 1:
            return None
        self._size = (max(1, ceil(width * scale - 1e-9)), max(1, ceil(height * scale - 1e-9)))
        return self.mode, (0, 0, *self._size)

    def load(self) -> Any:
        if not self._evaluated:
            with _as_oserror():
                settings = None if self._size == self._whole else self._size[::-1]
                values, _ = self._reader.decode_settings(
                    DecodeSettings(size=settings, max_samples=2**62),  # Pillow has its own limit on pixels
                    "u2" if self.mode == "I;16" else "u1",
                )
            if self.fp is not None and self._exclusive_fp:
                self.fp.close()
            pixels = values.astype("<u2") if self.mode == "I;16" else values
            self.fp = io.BytesIO(pixels.tobytes())
            self.tile = [ImageFile._Tile("raw", (0, 0, *self.size), 0, self.mode)]
            self._evaluated = True
        return super().load()

    def verify(self) -> None:
        """Check every CRC and the hash of all weights. Raises OSError; the picture is to be opened again after."""
        with _as_oserror():
            self._reader.verify()
        super().verify()


def _accept(prefix: bytes) -> bool:
    return prefix.startswith(MAGIC)


def _mode(meta: SignalMeta) -> str:
    if meta.sample_type == "u2" and meta.colour == "gray":
        return "I;16"
    return _MODES[meta.colour]


def _save(image: Image.Image, fp: IO[bytes], filename: str | bytes) -> None:
    options: dict[str, Any] = image.encoderinfo
    names = [f.name for f in fields(EncodeSettings) if f.name in options]
    with _as_oserror():
        settings = settings_of(**{name: options[name] for name in names})
    signal = from_pil(_convertible(image))
    metadata = {
        "icc": options.get("icc_profile", image.info.get("icc_profile")),
        "exif": _exif_bytes(options.get("exif")),
        "xmp": options.get("xmp"),
    }
    kept = {name: bytes(part) for name, part in metadata.items() if part}
    with _as_oserror():
        fp.write(encode_signal(Signal(signal.samples, signal.meta, kept), settings).data)


def _convertible(image: Image.Image) -> Image.Image:
    if image.mode in _EXACT:
        return image
    if image.mode in _THROUGH:
        return image.convert(_THROUGH[image.mode])
    if image.mode in _THROUGH_RGB:
        return image.convert("RGBA" if image.has_transparency_data else "RGB")
    raise OSError(f"cannot write mode {image.mode} as {FORMAT}")


def _exif_bytes(exif: Image.Exif | bytes | None) -> bytes | None:
    data = exif.tobytes() if isinstance(exif, Image.Exif) else exif
    return data.removeprefix(_EXIF_HEAD) if data else None


@contextmanager
def _as_oserror() -> Iterator[None]:
    """Pillow's callers expect OSError from files that cannot be read or written."""
    try:
        yield
    except InrError as error:
        raise OSError(str(error)) from error
