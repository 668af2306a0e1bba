"""Turns pictures and codecs into measured points, and points into BD-rates.

Every rate is the length of bytes that were really written, every quality that of decoding those bytes again.
"""

from __future__ import annotations

import io
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from .errors import SignalError
from .metrics import bd_rate, mse, pareto, quality_range, ssim
from .peers import Codec

__all__ = [
    "WINDOWS",
    "Comparison",
    "MeanRow",
    "Point",
    "compare",
    "find_pictures",
    "labels",
    "load_picture",
    "mean_rows",
    "measure",
    "measure_ladder",
    "ssimulacra2",
    "ssimulacra2_of",
]

SUFFIXES = (".png", ".bmp", ".tif", ".tiff", ".webp", ".jpg", ".jpeg", ".ppm")
WINDOWS = {"psnr": (28.0, 38.0), "ssimulacra2": (30.0, 80.0)}  # qualities that BD-rates are taken over
PEAK = 255
SSIMULACRA2_SIDE = 128  # the package leaves out scales that a picture is too small for: at 64 noise has 85, at 189 13


@dataclass(frozen=True)
class Point:
    """One file by one codec at one quality setting. mse: over all values of the 8-bit RGB picture; times are
    wall times of one call in this process, in seconds. ssim, ssimulacra2: None where they were not asked for."""

    codec: str
    file: str
    setting: float
    n_bytes: int
    n_pixels: int
    mse: float
    encode_s: float
    decode_s: float
    ssimulacra2: float | None = None
    ssim: float | None = None

    @property
    def bpp(self) -> float:
        return 8 * self.n_bytes / self.n_pixels

    @property
    def psnr_db(self) -> float:
        return _psnr(self.mse)

    def quality(self, figure: str) -> float:
        """figure: psnr (dB) or ssimulacra2."""
        value = self.psnr_db if figure == "psnr" else self.ssimulacra2
        if value is None:
            raise ValueError(f"{self.codec} on {self.file}: SSIMULACRA2 was not measured")
        return value

    def as_json(self) -> dict[str, Any]:
        psnr_db = self.psnr_db if math.isfinite(self.psnr_db) else None
        return {**asdict(self), "bpp": self.bpp, "psnr_db": psnr_db}


@dataclass(frozen=True)
class Comparison:
    """BD-rate in % of `test` against `anchor` by file, with the qualities [low, high] that each was taken over;
    skipped: why a file has none; of_mean: BD-rate of the averaged curves (None where it has none)."""

    test: str
    anchor: str
    figure: str
    by_file: dict[str, tuple[float, float, float]]
    skipped: dict[str, str]
    of_mean: float | None

    @property
    def mean(self) -> float | None:
        """Mean over files of the BD-rates of the files."""
        return fmean(rate for rate, _, _ in self.by_file.values()) if self.by_file else None

    @property
    def low(self) -> float:
        """Mean over files of the lowest quality compared."""
        return fmean(low for _, low, _ in self.by_file.values()) if self.by_file else math.nan

    @property
    def high(self) -> float:
        return fmean(high for _, _, high in self.by_file.values()) if self.by_file else math.nan


@dataclass(frozen=True)
class MeanRow:
    """One codec at one quality setting, over files. psnr_db is the mean of PSNRs, psnr_of_mean_mse_db the PSNR of
    the mean MSE: they differ, and only like may be compared with like."""

    codec: str
    setting: float
    n_files: int
    bpp: float
    psnr_db: float
    psnr_of_mean_mse_db: float
    ssimulacra2: float | None
    ssim: float | None
    encode_s: float
    decode_s: float


def find_pictures(paths: Iterable[Path]) -> list[Path]:
    """Files as given, and the pictures directly inside folders, sorted. Raises SignalError where there is none."""
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(p for p in path.iterdir() if p.suffix.lower() in SUFFIXES and p.is_file())
            if not inside:
                raise SignalError(f"{path}: no pictures in this folder (wanted {' '.join(SUFFIXES)})")
            found += inside
        elif path.exists():
            found.append(path)
        else:
            raise SignalError(f"{path}: no such file or folder")
    return list(dict.fromkeys(found))


def labels(files: Sequence[Path]) -> list[str]:
    """What to call each file: its name, or its whole path where two have one name."""
    names = [path.name for path in files]
    return [str(path) if names.count(path.name) > 1 else path.name for path in files]


def load_picture(path: Path) -> np.ndarray:
    """The picture as every codec here gets it: uint8 [H, W, 3], no metadata. Raises SignalError."""
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as image:
            return np.array(ImageOps.exif_transpose(image).convert("RGB"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise SignalError(f"{path}: not a picture that bench can read ({error})") from None


def measure(codec: Codec, picture: np.ndarray, *, file: str, setting: float, with_ssimulacra2: bool = False) -> Point:
    """Encode, decode, compare; with SSIMULACRA2 by SSIM too. Warm the codec up first if the times matter: first calls
    import things."""
    start = time.perf_counter()
    data = codec.encode(picture, setting)
    encoded = time.perf_counter()
    decoded = codec.decode(data)
    end = time.perf_counter()
    height, width, _ = picture.shape
    return Point(
        codec=codec.name,
        file=file,
        setting=setting,
        n_bytes=len(data),
        n_pixels=height * width,
        mse=mse(decoded=decoded, original=picture),
        encode_s=encoded - start,
        decode_s=end - encoded,
        ssimulacra2=ssimulacra2(decoded=decoded, original=picture) if with_ssimulacra2 else None,
        ssim=ssim(decoded=decoded, original=picture, peak=PEAK) if with_ssimulacra2 else None,
    )


def measure_ladder(
    codecs: Sequence[Codec],
    files: Sequence[Path],
    *,
    with_ssimulacra2: bool = False,
    on_point: Callable[[Point, int], None] | None = None,
) -> list[Point]:
    """All files by all codecs at all of their qualities, one after the other, each codec warmed up once.
    on_point: called after each measurement with the point and the number of points still to come."""
    points: list[Point] = []
    left = len(files) * sum(len(codec.ladder) for codec in codecs)
    for codec in codecs:
        codec.decode(codec.encode(np.zeros((32, 48, 3), np.uint8), codec.ladder[0]))
    for path, label in zip(files, labels(files), strict=True):
        picture = load_picture(path)
        for codec in codecs:
            for setting in codec.ladder:
                point = measure(codec, picture, file=label, setting=setting, with_ssimulacra2=with_ssimulacra2)
                points.append(point)
                left -= 1
                if on_point:
                    on_point(point, left)
    return points


def ssimulacra2(*, decoded: np.ndarray, original: np.ndarray) -> float:
    """SSIMULACRA2 by the PyPI package of that name: 90 is close to invisible, 70 high, 50 medium, 30 low quality.
    decoded, original: uint8 [H, W, 3]. Raises ImportError where the package is missing."""
    from PIL import Image
    from ssimulacra2 import compute_ssimulacra2

    def file(picture: np.ndarray) -> io.BytesIO:
        buffer = io.BytesIO()
        Image.fromarray(picture).save(buffer, "BMP")
        return buffer

    return float(compute_ssimulacra2(file(original), file(decoded)))


def ssimulacra2_of(*, decoded: np.ndarray, original: np.ndarray) -> float | None:
    """Of pictures [H, W, 1 or 3] in [0, 1]; None without the package that measures it, and where it means nothing."""
    if min(original.shape[:2]) < SSIMULACRA2_SIDE:
        return None
    a, b = (
        (255 * picture.clip(0, 1)).round().astype(np.uint8).repeat(3 // picture.shape[-1], axis=-1)
        for picture in (decoded, original)
    )
    try:
        return ssimulacra2(decoded=a, original=b)
    except ImportError:
        return None


def compare(points: Iterable[Point], *, test: str, anchor: str, figure: str = "psnr") -> Comparison:
    """BD-rates of one codec against another over WINDOWS[figure], by file and of the averaged curves.

    Points that are not finite or that another point of the same codec and file beats are left out.
    """
    window = WINDOWS[figure]
    points = [p for p in points if p.codec in (test, anchor) and math.isfinite(p.psnr_db)]
    by_file: dict[str, tuple[float, float, float]] = {}
    skipped: dict[str, str] = {}
    for file in dict.fromkeys(p.file for p in points):
        curves = [
            pareto([(p.bpp, p.quality(figure)) for p in points if (p.codec, p.file) == (codec, file)])
            for codec in (anchor, test)
        ]
        try:
            rate = bd_rate(*curves, within=window)
        except ValueError as error:
            skipped[file] = str(error)
        else:
            by_file[file] = (rate, *quality_range(*curves, within=window))
    try:
        of_mean = bd_rate(*(_mean_curve(points, codec, figure) for codec in (anchor, test)), within=window)
    except ValueError:
        of_mean = None
    return Comparison(test, anchor, figure, by_file, skipped, of_mean)


def mean_rows(points: Iterable[Point], codec: str) -> list[MeanRow]:
    """Means over files at each setting of this codec, by rising setting."""
    groups: dict[float, list[Point]] = {}
    for point in points:
        if point.codec == codec:
            groups.setdefault(point.setting, []).append(point)
    return [_mean_row(codec, setting, group) for setting, group in sorted(groups.items())]


def _mean_row(codec: str, setting: float, group: list[Point]) -> MeanRow:

    def mean(values: Iterable[float | None]) -> float | None:
        known = [v for v in values if v is not None]
        return fmean(known) if len(known) == len(group) else None

    return MeanRow(
        codec=codec,
        setting=setting,
        n_files=len(group),
        bpp=fmean(p.bpp for p in group),
        psnr_db=fmean(p.psnr_db for p in group),
        psnr_of_mean_mse_db=_psnr(fmean(p.mse for p in group)),
        ssimulacra2=mean(p.ssimulacra2 for p in group),
        ssim=mean(p.ssim for p in group),
        encode_s=fmean(p.encode_s for p in group),
        decode_s=fmean(p.decode_s for p in group),
    )


def _mean_curve(points: list[Point], codec: str, figure: str) -> list[tuple[float, float]]:
    """(mean bpp, mean quality) at each setting that was measured on every file."""
    rows = mean_rows(points, codec)
    files = len({p.file for p in points})
    curve = [(r.bpp, r.psnr_db if figure == "psnr" else r.ssimulacra2) for r in rows if r.n_files == files]
    return pareto([(bpp, quality) for bpp, quality in curve if quality is not None])


def _psnr(error: float) -> float:
    return 10 * math.log10(PEAK**2 / error) if error else math.inf
