"""Turns 8-bit RGB pictures into other formats' bytes and back: the codecs that bench measures beside ours."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .settings import TUNES, EncodeSettings

__all__ = ["OURS_LADDER", "PEERS", "Codec", "available_peers", "ours", "peer"]

# Chosen so that every Kodak photo is covered from 28 to 38 dB and from 30 to 80 SSIMULACRA2, as far as it can be.
OURS_LADDER = (10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0, 88.0, 95.0)


@dataclass(frozen=True)
class Codec:
    """encode: picture uint8 [H, W, 3], quality on this codec's own scale -> the bytes of a file; decode: the
    inverse. ladder: qualities to measure, rising. version: of the library that does the work."""

    name: str
    label: str
    version: str
    ladder: tuple[float, ...]
    encode: Callable[[np.ndarray, float], bytes]
    decode: Callable[[bytes], np.ndarray]

    def with_ladder(self, ladder: tuple[float, ...]) -> Codec:
        return replace(self, ladder=tuple(sorted(ladder)))

    def thinned(self) -> Codec:
        """Every other quality, the ends kept: for quick looks."""
        return replace(self, ladder=tuple(sorted({*self.ladder[::2], self.ladder[-1]})))


def ours(tune: str, ladder: tuple[float, ...] = OURS_LADDER, *, effort: int = EncodeSettings.effort) -> Codec:
    """This codec with --tune psnr or perceptual at an effort, everything else as by default."""
    from . import __version__

    if tune not in TUNES:
        raise ValueError(f"--tune {tune}: wanted one of {', '.join(TUNES)}")

    def encode(picture: np.ndarray, quality: float) -> bytes:
        import inrcodec

        data: bytes = inrcodec.encode(picture, quality=quality, tune=tune, effort=effort)
        return data

    def decode(data: bytes) -> np.ndarray:
        import inrcodec

        decoded: np.ndarray = inrcodec.open(data).decode()
        return decoded

    usual = effort == EncodeSettings.effort
    return Codec(
        f"inr-{tune}" if usual else f"inr-{tune}-{effort}",
        f"inrcodec --tune {tune}" + ("" if usual else f" -e {effort}"),
        __version__,
        ladder,
        encode,
        decode,
    )


def peer(name: str) -> Codec:
    """The peer of this name. Raises ValueError for an unknown one, ImportError where its library is missing."""
    if name not in PEERS:
        raise ValueError(f"--peers {name}: wanted some of {', '.join(PEERS)}")
    return PEERS[name]()


def available_peers() -> list[str]:
    """Names of the peers whose libraries are installed."""
    found = []
    for name, make in PEERS.items():
        try:
            make()
        except ImportError:
            continue
        found.append(name)
    return found


def _pillow(name: str, label: str, feature: str, ladder: tuple[float, ...], **options: Any) -> Codec:
    from PIL import Image, features

    if not features.check(feature):
        raise ImportError(f"this Pillow was built without {feature}")

    def encode(picture: np.ndarray, quality: float) -> bytes:
        file = io.BytesIO()
        Image.fromarray(picture).save(file, name, quality=round(quality), **options)
        return file.getvalue()

    def decode(data: bytes) -> np.ndarray:
        with Image.open(io.BytesIO(data)) as image:
            return np.asarray(image.convert("RGB"))

    library = "libjpeg_turbo" if feature == "jpg" else feature
    return Codec(name, label, f"{library} {features.version(library)}", ladder, encode, decode)


def _jpeg() -> Codec:
    ladder = (5.0, 10.0, 18.0, 30.0, 45.0, 60.0, 75.0, 85.0, 91.0, 95.0)
    return _pillow("jpeg", "JPEG 4:4:4 optimised", "jpg", ladder, subsampling=0, optimize=True)


def _webp() -> Codec:
    ladder = (0.0, 4.0, 10.0, 20.0, 35.0, 50.0, 65.0, 78.0, 88.0, 94.0)
    return _pillow("webp", "WebP method 6", "webp", ladder, method=6)


def _avif() -> Codec:
    ladder = (0.0, 5.0, 12.0, 22.0, 33.0, 44.0, 55.0, 65.0, 74.0, 82.0, 90.0)
    return _pillow("avif", "AVIF 4:4:4 speed 6", "avif", ladder, subsampling="4:4:4", speed=6)


def _jxl() -> Codec:
    from imagecodecs import JPEGXL, jpegxl_decode, jpegxl_encode, jpegxl_version

    if not JPEGXL.available:
        raise ImportError("this imagecodecs was built without JPEG XL")

    def encode(picture: np.ndarray, quality: float) -> bytes:
        # libjxl's own JxlEncoderDistanceFromQuality
        distance = 0.1 + (100 - quality) * 0.09 if quality >= 30 else 53 / 3000 * quality**2 - 23 / 20 * quality + 25
        return bytes(jpegxl_encode(picture, distance=distance, effort=7, lossless=False, numthreads=1))

    ladder = (5.0, 10.0, 18.0, 28.0, 42.0, 57.0, 70.0, 80.0, 88.0, 95.0)
    return Codec("jxl", "JPEG XL effort 7", jpegxl_version(), ladder, encode, jpegxl_decode)


PEERS: dict[str, Callable[[], Codec]] = {"jpeg": _jpeg, "webp": _webp, "avif": _avif, "jxl": _jxl}
