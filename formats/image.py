"""Turns picture files into signals, and pixels back into picture files.

8-bit pictures go through Pillow. Pillow reduces 16-bit colour to 8 bits without a word, so such PNG and TIFF files
are read twice, once for the upper and once for the lower byte of every sample. 16-bit colour in other formats
(JPEG 2000, AVIF, PPM) does come in reduced to 8 bits.
"""

from __future__ import annotations

import contextlib
import io
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from inrcodec.formats import orientation, png, tiff
from inrcodec.formats.quiet import silence
from PIL import Image, UnidentifiedImageError

from inrcodec.errors import InrError, LimitError, SignalError
from inrcodec.signals import Signal, SignalMeta, normalise

__all__ = ["DEPTHS", "read", "recognises", "write"]

# What each written format holds: sample types, and whether alpha
DEPTHS = {
    "png": (("u1", "u2"), True),
    "jpeg": (("u1",), False),
    "webp": (("u1",), True),
    "tiff": (("u1", "u2"), True),
    "bmp": (("u1",), False),
}
# Formats that Pillow may try. Left out: EPS and WMF (run other programs), those without a magic number (TGA, PCD,
# SPIDER), stubs without pixels, and .inr itself where its opener is registered.
_COMMON = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "PPM")
_RARE = (
    *("JPEG2000", "AVIF", "ICO", "ICNS", "CUR", "PCX", "DCX", "PSD", "SGI", "QOI", "DDS", "DIB", "SUN", "XBM", "XPM"),
    *("MSP", "FLI", "GBR", "IM"),
)
_COLOURS = {1: "gray", 2: "gray+alpha", 3: "rgb", 4: "rgb+alpha"}
_MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
_OTHER_BYTE = {"L": "B", "B": "L", "N": "B" if sys.byteorder == "little" else "L"}
_JPEG_SEGMENT = 65_000  # bytes of EXIF or XMP that surely fit into one


def recognises(head: bytes) -> bool:
    """Whether some reader takes files that begin with head (16 bytes or more)."""
    Image.init()
    accepts = (Image.OPEN[name][1] for name in (*_COMMON, *_RARE) if name in Image.OPEN)
    with contextlib.suppress(Exception):
        return any(accept is not None and accept(head) is True for accept in accepts)
    return False


def read(data: bytes, *, max_samples: int) -> Signal:
    """Bytes of a picture file, of its first frame if it has several. The orientation is applied to the pixels.

    Raises SignalError for anything that is no whole picture of 8 or 16 bits, LimitError before decoding more than
    max_samples values.
    """
    if not data:
        raise SignalError("empty file, wanted a picture")
    with _one_kind_of_error(), silence() if data[:2] in (b"II", b"MM") else contextlib.nullcontext():
        return _read(data, max_samples)


def write(values: np.ndarray, meta: SignalMeta, metadata: dict[str, bytes], *, file_format: str) -> bytes:
    """values: stored pixels [H, W, C] of meta.sample_type. JPEG is written at quality 95 without subsampling, WebP
    lossless (gray as RGB). ICC, EXIF and XMP are kept in all but BMP; what one JPEG segment cannot hold is left out.

    Raises ValueError where the format cannot hold the picture.
    """
    _check_holds(values, meta, file_format)
    icc, xmp = metadata.get("icc", b""), metadata.get("xmp", b"")
    exif = metadata.get("exif", b"").removeprefix(orientation.EXIF_HEAD)
    if file_format == "tiff":
        return tiff.write(values, icc=icc, exif=exif, xmp=xmp)
    if file_format == "png" and meta.sample_type == "u2":
        return png.write(values, icc=icc, exif=exif, xmp=xmp)

    options: dict[str, Any] = {"icc_profile": icc or None}
    if file_format == "png" and xmp:
        from PIL.PngImagePlugin import PngInfo

        options["pnginfo"] = PngInfo()
        options["pnginfo"].add(*png.xmp_chunk(xmp))
    if file_format == "jpeg":
        options |= {"quality": 95, "subsampling": 0}
        exif, xmp = (part if len(part) <= _JPEG_SEGMENT else b"" for part in (exif, xmp))
    if file_format == "webp":
        options |= {"lossless": True, "exact": True}
    if exif:
        options["exif"] = orientation.EXIF_HEAD + exif
    if xmp and file_format != "png":
        options["xmp"] = xmp
    stream = io.BytesIO()
    try:
        picture = Image.fromarray(values[..., 0] if meta.channels == 1 else np.ascontiguousarray(values))
        picture.save(stream, file_format.upper(), **({} if file_format == "bmp" else options))
    except (OSError, ValueError) as error:  # such as a side above 16,383 pixels in WebP
        raise ValueError(
            f"{file_format} cannot hold this {values.shape[1]}×{values.shape[0]} picture: {error}"
        ) from None
    return stream.getvalue()


def _check_holds(values: np.ndarray, meta: SignalMeta, file_format: str) -> None:
    if file_format not in DEPTHS:
        raise ValueError(f"{file_format}: wanted one of {', '.join(DEPTHS)}")
    types, alpha = DEPTHS[file_format]
    if meta.sample_type not in types:
        fitting = " and ".join(f for f, (t, _) in DEPTHS.items() if meta.sample_type in t)
        raise ValueError(f"{file_format} holds 8 bits per sample, not 16: {fitting} hold 16, or ask for depth 8")
    if meta.alpha and not alpha:
        fitting = ", ".join(f for f, (_, a) in DEPTHS.items() if a)
        raise ValueError(f"{file_format} cannot hold alpha: {fitting} can")
    if file_format == "tiff" and meta.sample_type == "u2" and meta.channels == 2:
        raise ValueError("tiff cannot hold 16-bit gray with alpha so that others read it: png can")
    if values.ndim != 3 or values.shape[2] != meta.channels or values.dtype != np.dtype(meta.sample_type):
        raise ValueError(f"pixels {values.dtype} {values.shape}: wanted {meta.sample_type} [H, W, {meta.channels}]")


def _read(data: bytes, max_samples: int) -> Signal:
    chunks = png.split(data) if data.startswith(png.MAGIC) else {}
    turn = 0
    tags = orientation.tiff_entries(data)
    if tags:
        if orientation.tiff_integer(data, tags, 339) == 3:  # SampleFormat
            raise SignalError("floating-point TIFF: wanted 8 or 16 bits per sample; store it as .npy")
        turn, data = orientation.take_tiff(data)  # or Pillow would apply it too
    image = _open(data)
    channels = _channels(image, chunks)
    width, height = image.size
    if width * height * channels > max_samples:
        raise LimitError(f"{width}×{height} picture of {channels} channels: limit {max_samples:,} values")
    if width * height == 0:
        raise SignalError(f"{width}×{height} picture: wanted at least 1×1 pixels")

    values, profile_fits = _pixels(image, data, chunks)
    values = values.reshape(height, width, -1)
    image.load()  # metadata may stand behind the pixels
    metadata = {}
    exif = tiff.gather_exif(image) if image.format == "TIFF" else _bytes(image.info.get("exif"))
    in_exif, exif = orientation.take_exif(exif)
    in_xmp, xmp = orientation.take_xmp(_bytes(image.info.get("xmp") or image.info.get("XML:com.adobe.xmp")))
    icc = _bytes(image.info.get("icc_profile")) if profile_fits else b""
    for name, part in (("icc", icc), ("exif", exif), ("xmp", xmp)):
        if part:
            metadata[name] = part
    values = orientation.apply(values, turn or in_exif or in_xmp)
    height, width, channels = values.shape
    meta = SignalMeta("image", (height, width), channels, f"u{values.itemsize}", _COLOURS[channels])
    return Signal(normalise(values, meta), meta, metadata)


def _open(data: bytes) -> Image.Image:
    """Opens the file without decoding pixels. A common format is tried alone, which is fast and names the fault."""
    try:
        return Image.open(io.BytesIO(data), formats=_COMMON)
    except UnidentifiedImageError:
        Image.init()
        return Image.open(io.BytesIO(data), formats=[name for name in _RARE if name in Image.OPEN])


def _channels(image: Image.Image, chunks: dict[bytes, bytes]) -> int:
    gray = image.mode in ("1", "L", "LA", "La", "F", "I") or image.mode.startswith("I;") or "LA;16" in _raw_mode(image)
    return (1 if gray else 3) + (image.has_transparency_data or b"tRNS" in chunks)


def _pixels(image: Image.Image, data: bytes, chunks: dict[bytes, bytes]) -> tuple[np.ndarray, bool]:
    """-> stored pixels [H, W] or [H, W, C], and whether the ICC profile still describes them."""
    if image.mode == "F":
        raise SignalError("floating-point picture: wanted 8 or 16 bits per sample; store it as .npy")
    if ";16" in _raw_mode(image) and image.mode in ("RGB", "RGBA"):
        return _deep_colour(image, data, chunks), True
    if image.mode == "I" or image.mode.startswith("I;"):
        return _deep_gray(image, data, chunks), True
    channels = _channels(image, chunks)
    if image.mode in ("CMYK", "LAB"):
        return np.asarray(_to_srgb(image)), False
    if image.mode in ("La", "RGBa"):  # alpha is multiplied in
        image = image.convert(image.mode.upper())
    return np.asarray(image.convert(_MODES[channels])), True


def _deep_gray(image: Image.Image, data: bytes, chunks: dict[bytes, bytes]) -> np.ndarray:
    values = np.asarray(image)
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 65535:
        raise SignalError(f"samples from {low:,} to {high:,}: wanted 8 or 16 bits, unsigned; store it as .npy")
    values = values.astype(np.uint16)
    if image.format == "TIFF" and orientation.tiff_integer(data, orientation.tiff_entries(data), 262) == 0:
        values = 65535 - values  # white is zero
    return _with_transparent_colour(values[..., None], chunks)


def _deep_colour(image: Image.Image, data: bytes, chunks: dict[bytes, bytes]) -> np.ndarray:
    """16-bit RGB, RGBA or gray + alpha from the two halves that Pillow will give."""
    raw_mode = _raw_mode(image)
    if raw_mode == "LA;16B":  # 32 bits a pixel: taken as RGBA, each channel is one byte of it
        four = _as_raw_mode(data, "RGBA").astype(np.uint16)
        return four[..., 0::2] << 8 | four[..., 1::2]
    if image.format == "TIFF" and orientation.tiff_integer(data, orientation.tiff_entries(data), 284) == 2:
        raise SignalError("16-bit TIFF in separate colour planes: wanted interleaved samples")
    plain = raw_mode.replace("RGBa", "RGBA")
    upper = np.asarray(image) if plain == raw_mode else _as_raw_mode(data, plain)
    values = upper.astype(np.uint16) << 8 | _as_raw_mode(data, plain[:-1] + _OTHER_BYTE[plain[-1]])
    if "RGBa" in raw_mode:  # alpha is multiplied in
        alpha = np.maximum(values[..., 3:], 1).astype(np.float64)
        values[..., :3] = np.minimum(np.rint(values[..., :3] * 65535.0 / alpha), 65535)
    return _with_transparent_colour(values, chunks)


def _as_raw_mode(data: bytes, raw_mode: str) -> np.ndarray:
    """Pixels of the file with the layout of its samples given otherwise."""
    image: Any = _open(data)
    image.tile = [
        getattr(tile, "_make", tuple)((*tile[:3], raw_mode if isinstance(tile[3], str) else (raw_mode, *tile[3][1:])))
        for tile in image.tile
    ]
    return np.asarray(image)


def _raw_mode(image: Image.Image) -> str:
    """Layout of the samples in the file, such as RGB;16B. Empty once the pixels are loaded."""
    tiles = getattr(image, "tile", None)
    if not tiles:
        return ""
    arguments = tiles[0][3]
    return str(arguments if isinstance(arguments, str) else arguments[0] if arguments else "")


def _with_transparent_colour(values: np.ndarray, chunks: dict[bytes, bytes]) -> np.ndarray:
    """Appends the alpha of a PNG that names one transparent colour (tRNS)."""
    colour = np.frombuffer(chunks.get(b"tRNS", b""), ">u2")
    if len(colour) != values.shape[-1]:
        return values
    opaque = (values != colour).any(axis=-1, keepdims=True)
    return np.concatenate([values, opaque.astype(np.uint16) * 65535], axis=-1, dtype=np.uint16)


def _to_srgb(image: Image.Image) -> Image.Image:
    """CMYK by its profile, else by formula; LAB by definition."""
    from PIL import ImageCms

    profile: Any = image.info.get("icc_profile")
    with contextlib.suppress(Exception):
        source: Any = ImageCms.createProfile("LAB")
        if image.mode == "CMYK":
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
        if converted is not None:
            return converted
    return image.convert("RGB")


def _bytes(value: object) -> bytes:
    return value if isinstance(value, bytes) else value.encode("utf-8", "replace") if isinstance(value, str) else b""


@contextlib.contextmanager
def _one_kind_of_error() -> Iterator[None]:
    """Whatever a decoder throws at damaged bytes becomes one SignalError; its warnings are not shown."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except InrError:
        raise
    except UnidentifiedImageError:
        raise SignalError("not a picture that can be read (PNG, JPEG, WebP, TIFF, BMP, …), or damaged") from None
    except Image.DecompressionBombError as error:
        raise LimitError(f"{error}; Pillow's limit, PIL.Image.MAX_IMAGE_PIXELS".replace("\n", " ")) from None
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise SignalError(f"damaged picture: {reason}") from None
