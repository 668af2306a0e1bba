"""Claims about quality figures and Bjøntegaard rates."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inrcodec.metrics import bd_rate, mse, pareto, psnr, quality_range, snr, ssim

CURVE = [(0.1, 28.0), (0.2, 31.0), (0.4, 34.5), (0.9, 38.0), (1.7, 41.0)]
EXACT = 1e-9  # float64 arithmetic on a handful of numbers


def noise(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def test_psnr_of_one_step_everywhere_is_20_log10_255() -> None:
    flat = np.full((5, 7, 3), 100, np.uint8)
    found = psnr(decoded=flat + np.uint8(1), original=flat, peak=255)
    assert found == pytest.approx(20 * math.log10(255), abs=EXACT)


def test_unsigned_differences_do_not_wrap() -> None:
    low, high = np.zeros((3, 2), np.uint8), np.full((3, 2), 255, np.uint8)
    assert mse(decoded=low, original=high) == 255**2
    assert psnr(decoded=low, original=high, peak=255) == 0


@pytest.mark.parametrize("shape", [(1, 1, 3), (13, 17), (29, 31, 4), (5,)])
def test_identical_arrays_have_infinite_psnr_and_snr(shape: tuple[int, ...]) -> None:
    a = noise(shape)
    assert psnr(decoded=a, original=a, peak=255) == math.inf
    assert snr(decoded=a, original=a) == math.inf


def test_mse_in_pieces_is_the_plain_mean() -> None:
    a, b = noise((1100, 1000), 1), noise((1100, 1000), 2)  # more than one piece
    plain = np.mean((a.astype(np.float64) - b) ** 2)
    assert mse(decoded=a, original=b) == pytest.approx(plain, rel=1e-12)


def test_ten_times_the_error_costs_20_db() -> None:
    x = np.random.default_rng(3).normal(size=(97, 2))
    e = np.random.default_rng(4).normal(size=x.shape)
    near, far = snr(decoded=x + 0.01 * e, original=x), snr(decoded=x + 0.1 * e, original=x)
    assert near - far == pytest.approx(20, abs=EXACT * 1e3)  # x + e - x rounds at 1e-16 of x
    assert snr(decoded=np.zeros_like(x), original=x) == pytest.approx(0, abs=EXACT)


def test_silence_that_did_not_stay_silent_has_snr_of_minus_infinity() -> None:
    assert snr(decoded=np.ones(5), original=np.zeros(5)) == -math.inf


@pytest.mark.parametrize("shape", [(1, 1, 3), (2, 5), (7, 4, 3), (10, 40, 4), (11, 11), (31, 37, 3)])
def test_ssim_is_one_for_identical_pictures_of_any_size(shape: tuple[int, ...]) -> None:
    a = noise(shape)
    assert ssim(decoded=a, original=a, peak=255) == pytest.approx(1, abs=EXACT)


def test_ssim_falls_with_noise() -> None:
    rows, columns = np.mgrid[0:41, 0:53]
    a = 128 + 80 * np.sin(rows / 5) * np.cos(columns / 7)
    e = np.random.default_rng(5).normal(size=a.shape)
    values = [ssim(decoded=a + s * e, original=a, peak=255) for s in (0, 2, 8, 32)]
    assert values == sorted(values, reverse=True)
    assert len(set(values)) == 4


def test_figures_refuse_shapes_that_differ_and_nothing() -> None:
    for figure in (psnr, ssim):
        with pytest.raises(ValueError, match="shape"):
            figure(decoded=noise((4, 5)), original=noise((5, 4)), peak=255)
        with pytest.raises(ValueError, match="empty"):
            figure(decoded=noise((0, 4)), original=noise((0, 4)), peak=255)
    with pytest.raises(ValueError, match="peak"):
        psnr(decoded=noise((4, 5)), original=noise((4, 5)), peak=0)
    with pytest.raises(ValueError, match="axes"):
        ssim(decoded=noise((20,)), original=noise((20,)), peak=255)


def test_half_the_rate_everywhere_is_minus_50_percent() -> None:
    half = [(rate / 2, quality) for rate, quality in CURVE]
    assert bd_rate(CURVE, half) == pytest.approx(-50, abs=EXACT)
    assert bd_rate(half, CURVE) == pytest.approx(100, abs=EXACT)
    assert bd_rate(CURVE, CURVE) == pytest.approx(0, abs=EXACT)


def test_straight_curves_give_the_rate_worked_by_hand() -> None:
    # log10 rate = q for the anchor, 2q - 1 for the test; PCHIP keeps straight lines straight. Over [0, 3] the mean
    # difference is the mean of q - 1, which is 1/2: 10^(1/2) times the rate.
    anchor = [(10.0**q, float(q)) for q in range(4)]
    test = [(10.0 ** (2 * q - 1), float(q)) for q in range(4)]
    assert bd_rate(anchor, test) == pytest.approx(100 * (math.sqrt(10) - 1), abs=1e-9)
    # over [1, 2] alone the mean of q - 1 is 1/2 as well, over [0, 1] it is -1/2
    assert bd_rate(anchor, test, within=(1, 2)) == pytest.approx(100 * (math.sqrt(10) - 1), abs=1e-9)
    assert bd_rate(anchor, test, within=(-5, 1)) == pytest.approx(100 * (1 / math.sqrt(10) - 1), abs=1e-9)


@given(st.floats(0.01, 100), st.permutations(CURVE))
def test_neither_the_unit_of_rate_nor_the_order_of_points_matters(unit: float, points: list) -> None:
    other = [(0.09, 27.0), (0.25, 32.0), (0.5, 35.0), (1.2, 40.0)]
    scaled = [(rate * unit, quality) for rate, quality in points]
    expected = bd_rate(CURVE, other)
    assert bd_rate(scaled, [(r * unit, q) for r, q in other]) == pytest.approx(expected, abs=1e-6)


def test_swapping_the_curves_inverts_the_ratio() -> None:
    other = [(0.09, 27.0), (0.25, 32.0), (0.5, 35.0), (1.2, 40.0)]
    there, back = bd_rate(CURVE, other), bd_rate(other, CURVE)
    assert (1 + there / 100) * (1 + back / 100) == pytest.approx(1, abs=EXACT)


def test_only_the_shared_qualities_count() -> None:
    # same curve, cut at the ends, and a wild point outside what the other reaches
    assert quality_range(CURVE, CURVE[1:], within=(29, 40)) == (31, 40)
    longer = [*CURVE, (500.0, 41.1)]
    # PCHIP's slope at 41 dB changes with the point beyond it: stay one interval below
    assert bd_rate(CURVE, longer, within=(28, 38)) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(
    ("points", "line"),
    [
        (CURVE[:3], "at least 4"),
        ([], "at least 4"),
        ([(r, q + 50) for r, q in CURVE], "share no quality"),
        ([*CURVE, (2.0, 30.0)], "not monotone"),
        ([*CURVE, (1.7, 42.0)], "not monotone"),
        ([*CURVE, (0.0, 20.0)], "more than 0"),
        ([*CURVE, (3.0, math.nan)], "not finite"),
        ([(0.05, math.nan), *CURVE], "not finite"),
    ],
)
def test_curves_that_cannot_be_compared_say_why(points: list, line: str) -> None:
    with pytest.raises(ValueError, match=line):
        bd_rate(CURVE, points)


@given(st.lists(st.tuples(st.integers(1, 9).map(float), st.integers(1, 9).map(float)), max_size=12))
def test_pareto_keeps_exactly_the_points_that_nothing_beats(points: list) -> None:
    kept = pareto(points)
    assert all(a[0] < b[0] and a[1] < b[1] for a, b in pairwise(kept))
    for rate, quality in points:
        assert any(r <= rate and q >= quality for r, q in kept)
    assert set(kept) <= set(points)
