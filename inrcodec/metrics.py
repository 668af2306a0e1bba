"""Turns pairs of signals into quality figures, and rate-quality curves into Bjøntegaard rates."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import numpy as np

__all__ = ["bd_rate", "mse", "pareto", "psnr", "quality_range", "snr", "ssim"]

MIN_POINTS = 4  # of a curve: Bjøntegaard's four
Curve = Sequence[tuple[float, float]]  # (rate > 0 in any unit, quality: more is better)
_PIECE = 1 << 20  # values squared at a time, so that 24 megapixels do not become gigabytes of float64


def mse(*, decoded: np.ndarray, original: np.ndarray) -> float:
    """Mean squared error over all values of two arrays of one shape, in squared units of the arrays, float64.

    Raises ValueError where shapes differ or there is nothing to compare.
    """
    if decoded.shape != original.shape:
        raise ValueError(f"decoded has shape {decoded.shape}, original {original.shape}")
    if not original.size:
        raise ValueError("nothing to compare: both arrays are empty")
    a, b = decoded.reshape(-1), original.reshape(-1)
    total = 0.0
    for start in range(0, a.size, _PIECE):
        piece = slice(start, start + _PIECE)
        total += float(np.sum((a[piece].astype(np.float64) - b[piece].astype(np.float64)) ** 2))
    return total / a.size


def psnr(*, decoded: np.ndarray, original: np.ndarray, peak: float) -> float:
    """Peak signal-to-noise ratio in dB, 10 log10(peak² / MSE), the MSE over all channels together; inf for
    identical arrays. peak: 255 for 8-bit pictures, 1 for samples in [0, 1], 2 for sounds in [-1, 1]."""
    if not peak > 0:
        raise ValueError(f"peak {peak}: wanted a positive number")
    error = mse(decoded=decoded, original=original)
    return 10 * math.log10(peak**2 / error) if error else math.inf


def snr(*, decoded: np.ndarray, original: np.ndarray) -> float:
    """Signal-to-noise ratio in dB, 10 log10(Σ original² / Σ error²); inf for identical arrays, -inf for a silent
    original that did not stay silent."""
    error = mse(decoded=decoded, original=original)
    if not error:
        return math.inf
    power = mse(decoded=np.zeros_like(original), original=original)
    return 10 * math.log10(power / error) if power else -math.inf


def ssim(*, decoded: np.ndarray, original: np.ndarray, peak: float) -> float:
    """Mean structural similarity of pictures [H, W] or [H, W, C], 1 for identical ones (Wang et al. 2004:
    Gaussian window of sigma 1.5, 11 samples wide; narrower, and uniform, for pictures that do not hold it)."""
    from skimage.metrics import structural_similarity

    if decoded.shape != original.shape:
        raise ValueError(f"decoded has shape {decoded.shape}, original {original.shape}")
    if original.ndim not in (2, 3):
        raise ValueError(f"SSIM is for pictures [H, W] or [H, W, C], not for {original.ndim} axes")
    if not original.size:
        raise ValueError("nothing to compare: both arrays are empty")
    short = min(original.shape[:2])
    gaussian = short >= 11
    value = structural_similarity(
        original.astype(np.float64),
        decoded.astype(np.float64),
        data_range=peak,
        channel_axis=-1 if original.ndim == 3 else None,
        gaussian_weights=gaussian,
        sigma=1.5,
        use_sample_covariance=False,
        win_size=None if gaussian else short - 1 + short % 2,  # the largest odd number that fits
    )
    return float(cast(float, value))


def bd_rate(anchor_points: Curve, test_points: Curve, *, within: tuple[float, float] | None = None) -> float:
    """Bjøntegaard delta rate in %: how much more rate (less, if negative) the test needs for the same quality.

    The mean over the qualities that both curves reach (and that lie in `within`, if given) of the difference in
    log rate, each curve a monotone cubic (PCHIP) through its (rate, quality) points; Bjøntegaard, VCEG-M33
    and the Hermite form of JCTVC-I0409. Raises ValueError for fewer than four points, rates that are not
    positive, quality that does not rise with rate, and curves that share no quality.
    """
    from scipy.interpolate import PchipInterpolator

    curves = [_checked(anchor_points), _checked(test_points)]
    low, high = quality_range(anchor_points, test_points, within=within)
    if not low < high:
        raise ValueError(f"curves share no quality: the overlap would run from {low:g} to {high:g}")
    anchor, test = (float(PchipInterpolator(q, np.log(r)).integrate(low, high)) / (high - low) for r, q in curves)
    return 100 * math.expm1(test - anchor)


def quality_range(*curves: Curve, within: tuple[float, float] | None = None) -> tuple[float, float]:
    """The qualities that all curves reach, (lowest, highest); lowest >= highest where there are none."""
    spans = [(min(q), max(q)) for q in ([quality for _, quality in curve] for curve in curves) if q]
    if len(spans) < len(curves):
        raise ValueError("a curve has no points")
    spans += [within] if within else []
    return max(low for low, _ in spans), min(high for _, high in spans)


def pareto(points: Curve) -> list[tuple[float, float]]:
    """The points that no other point beats (no more rate and no less quality), by rising rate. Real encoders
    are now and then not monotone in their quality setting; bd_rate wants curves that are."""
    kept: list[tuple[float, float]] = []
    for rate, quality in sorted(points, key=lambda p: (p[0], -p[1])):
        if not kept or quality > kept[-1][1]:
            kept.append((rate, quality))
    return kept


def _checked(points: Curve) -> tuple[np.ndarray, np.ndarray]:
    """Rates and qualities by rising rate, both strictly rising."""
    if len(points) < MIN_POINTS:
        raise ValueError(f"curve of {len(points)} points: BD-rate wants at least {MIN_POINTS}")
    rates, qualities = np.array(sorted(points), np.float64).T
    if not (np.isfinite(rates).all() and np.isfinite(qualities).all()):
        raise ValueError("curve has a point that is not finite")
    if rates[0] <= 0:
        raise ValueError(f"curve has rate {rates[0]:g}: wanted more than 0")
    if not ((np.diff(rates) > 0).all() and (np.diff(qualities) > 0).all()):
        raise ValueError("curve is not monotone: quality has to rise with rate")
    return rates, qualities
