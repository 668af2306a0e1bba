"""Pictures, and picture files by hand, for the tests of image formats."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
from inrcodec.formats import image, png
from PIL import Image, ImageCms, TiffImagePlugin

from inrcodec.signals import Signal, SignalMeta, expand

SAMPLES = Path(__file__).parent.parent / "samples"
LIMIT = 2**28
COLOURS = {1: "gray", 2: "gray+alpha", 3: "rgb", 4: "rgb+alpha"}
ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf tiff:Orientation="1"/>\xc3\xa9</x:xmpmeta>'


def random_pixels(channels: int, dtype: str = "u1", size: tuple[int, int] = (11, 7)) -> np.ndarray:
    high = 256 if dtype == "u1" else 65536
    return np.random.default_rng(channels).integers(0, high, (*size, channels), dtype=dtype)


def meta_of(values: np.ndarray) -> SignalMeta:
    h, w, c = values.shape
    return SignalMeta("image", (h, w), c, f"u{values.itemsize}", COLOURS[c])


def exif_with(turn: int) -> bytes:
    exif = Image.Exif()
    exif[0x112], exif[0x13B] = turn, "An artist with a name too long to lie inside the entry"
    return exif.tobytes()


def saved(picture: Image.Image, file_format: str, **options: object) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, file_format, **options)
    return stream.getvalue()


def read(data: bytes) -> Signal:
    return image.read(data, max_samples=LIMIT)


def stored(signal: Signal) -> np.ndarray:
    return expand(signal.samples, signal.meta)


def png_of(values: np.ndarray, colour_type: int, extra: bytes = b"", depth: int = 16) -> bytes:
    """A PNG by hand, filter 0, with more chunks before the pixels."""
    h, w = values.shape[:2]
    rows = values.astype(">u2" if depth == 16 else "u1").reshape(h, values[0:1].size if h else 0)
    body = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    parts = [(b"IHDR", struct.pack(">IIBBBBB", w, h, depth, colour_type, 0, 0, 0)), (b"tRNS", extra)]
    parts += [(b"IDAT", body), (b"IEND", b"")]
    chunks = (
        struct.pack(">I", len(p)) + t + p + struct.pack(">I", zlib.crc32(t + p)) for t, p in parts if p or t[0] == 73
    )
    return png.MAGIC + b"".join(chunks)


def tiff_of(values: np.ndarray, order: str = "<", **tags: object) -> bytes:
    """An uncompressed TIFF by hand; tags as t258=..."""
    h, w, c = values.shape
    directory = TiffImagePlugin.ImageFileDirectory_v2(prefix=b"II" if order == "<" else b"MM")
    strip = values.astype(values.dtype.newbyteorder(order)).tobytes()
    bits = (8 * values.itemsize,) * c
    wanted = {256: w, 257: h, 258: bits, 259: 1, 262: 2 if c > 2 else 1, 273: 0, 277: c, 278: h, 279: len(strip)}
    for tag, value in {**wanted, **{int(k[1:]): v for k, v in tags.items()}}.items():
        directory[tag] = value
    return (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8) + directory.tobytes(8) + strip
