"""Writes 8- and 16-bit pictures as TIFF with all their metadata, and gathers the EXIF of TIFF files."""

from __future__ import annotations

import contextlib
import struct
import zlib
from typing import Any

import numpy as np
from inrcodec.formats.orientation import EXIF_HEAD
from PIL import Image, TiffImagePlugin

__all__ = ["gather_exif", "write"]

# What describes the picture rather than the file: description, make, model, resolution, software, date, artist,
# copyright; the EXIF and GPS directories
_DESCRIPTIVE = (270, 271, 272, 282, 283, 296, 305, 306, 315, 33432)
_DIRECTORIES = (34665, 34853)
_ICC, _XMP = 34675, 700


def gather_exif(image: Image.Image) -> bytes:
    """image: an opened TIFF. -> its descriptive tags and EXIF directories as EXIF bytes, b"" if it has none."""
    kept = Image.Exif()
    with contextlib.suppress(Exception):  # damaged EXIF does not stand in the way of the pixels
        tags = image.getexif()
        for tag in _DESCRIPTIVE:
            if tag in tags:
                kept[tag] = tags[tag]
        for tag in _DIRECTORIES:
            if tag in tags:
                kept[tag] = dict(tags.get_ifd(tag))
        return kept.tobytes().removeprefix(EXIF_HEAD) if len(kept) else b""
    return b""


def write(values: np.ndarray, *, icc: bytes, exif: bytes, xmp: bytes) -> bytes:
    """values: uint8 or uint16 [H, W, C], C = 1 … 4. One strip, deflate, horizontal differences, little-endian.
    Empty metadata is left out, and so is EXIF that cannot be parsed."""
    height, width, channels = values.shape
    bits = 8 * values.dtype.itemsize
    difference = values.copy()
    difference[:, 1:] -= values[:, :-1]
    strip = zlib.compress(difference.astype(f"<u{bits // 8}").tobytes(), 6)
    wanted: dict[int, Any] = {
        **{256: width, 257: height, 258: (bits,) * channels, 259: 8, 262: 2 if channels >= 3 else 1, 273: 0},
        **{277: channels, 278: height, 279: len(strip), 284: 1, 317: 2},
    }
    if channels in (2, 4):
        wanted[338] = 2  # the extra sample is alpha, not multiplied in
    if exif:
        with contextlib.suppress(Exception):
            tags = Image.Exif()
            tags.load(exif)
            directories: dict[int, Any] = {tag: dict(tags.get_ifd(tag)) for tag in _DIRECTORIES if tag in tags}
            plain = {tag: tags[tag] for tag in _DESCRIPTIVE if tag in tags}
            _directory(plain | directories)  # fails here if ever
            wanted |= plain | directories
    directory = TiffImagePlugin.ImageFileDirectory_v2(prefix=b"II")
    directory.tagtype.update({273: 4, 279: 4, _XMP: 1, _ICC: 7})  # LONG, BYTE, UNDEFINED
    for tag, value in ((_XMP, xmp), (_ICC, icc)):
        if value:
            directory[tag] = value
    return b"II*\0" + struct.pack("<I", 8) + _directory(wanted, directory) + strip


def _directory(tags: dict[int, Any], into: TiffImagePlugin.ImageFileDirectory_v2 | None = None) -> bytes:
    """Bytes of a directory that starts at byte 8; Pillow points its strip (tag 273) just behind it."""
    directory = TiffImagePlugin.ImageFileDirectory_v2(prefix=b"II") if into is None else into
    for tag, value in tags.items():
        if isinstance(value, dict):
            directory.tagtype[tag] = 4
        directory[tag] = value
    return directory.tobytes(8)
