"""Rate control meets its targets, and codes are worth their bits."""

from __future__ import annotations

import math
import time
from pathlib import Path

import numpy as np
import pytest

from inrcodec import api
from inrcodec.colour import fit_rotation, rotation
from inrcodec.errors import TargetError
from inrcodec.fields.base import OnStep, Progress
from inrcodec.fields.cosine import CosineField
from inrcodec.grid import Grid, parse_cells
from inrcodec.metrics import psnr
from inrcodec.quantize import _bits, rate_optimal, to_codes
from inrcodec.rate import solve_bytes, solve_quality
from inrcodec.settings import EncodeSettings
from inrcodec.signals import SignalMeta
from inrcodec.stream import MAX_CODE, TensorLayout

SAMPLES = Path(__file__).parent.parent / "samples"


def compared(data: bytes, picture: np.ndarray) -> float:
    """PSNR in dB of what a file decodes to."""
    return psnr(decoded=api.open(data).decode(), original=picture, peak=255)


def _counting(fits: list[int]) -> OnStep:
    """Notes every fit that comes to its end."""

    def on_step(step: Progress) -> None:
        if step.stage == "fit" and step.step == step.n_steps:
            fits.append(step.step)

    return on_step


@pytest.mark.parametrize("tune", ["psnr", "perceptual"])
def test_target_size_is_never_exceeded(tune: str) -> None:
    picture = np.random.default_rng(2).integers(0, 256, (6, 8, 3), np.uint8).repeat(12, 0).repeat(12, 1)
    for target in range(500, 3000, 173):
        n = len(api.encode(picture, target_bytes=target, tune=tune))
        assert 0.97 * target <= n <= target or target > 2700


def test_solvers_land_on_the_right_side_of_smooth_curves() -> None:
    def n_bytes(step: float) -> int:
        return round(900 / step**0.8) + 60

    for target in (100, 1000, 12_345, 10**6):
        n = n_bytes(solve_bytes(n_bytes, target, 0.1))
        assert 0.97 * target <= n <= target

    def quality(step: float) -> float:
        return 10 - 17 * math.log10(step)

    for wanted in (12.0, 30.5, 48.0):
        found = quality(solve_quality(quality, wanted, 0.1))
        assert wanted <= found <= wanted + 0.1


def test_a_jump_over_the_target_is_looked_around() -> None:
    """Quality falls by .2 dB at one step, over the whole tolerance, but is within it a little further on."""

    def quality(step: float) -> float:
        return 30.13 - 8 * (math.log(step) + 2) - 0.2 * (math.log(step) > -2) + 0.15 * (math.log(step) > -1.993)

    step = solve_quality(quality, 30, 0.1)
    assert math.log(step) > -1.993
    assert 30 <= quality(step) <= 30.1


def test_solvers_say_what_cannot_be_reached() -> None:
    with pytest.raises(TargetError, match="smallest file has 500"):
        solve_bytes(lambda _: 500, 400, 0.1)
    with pytest.raises(TargetError, match=r"the best is 20\.00 dB"):
        solve_quality(lambda _: 20.0, 30, 0.1)


BLOCKS = np.random.default_rng(5).integers(0, 256, (12, 10, 3), np.uint8).repeat(4, 0).repeat(4, 1)
NETWORKS = {  # each with a PSNR that the size guessed for it does not reach in 20 iterations
    "ensemble": ({"arch": "ensemble"}, 16),
    "grid": ({"partition": "grid", "grid": 2}, 15),
    "segments": ({"partition": "segments", "grid": 2}, 15),
    "relu": ({"body": "relu"}, 12),
    "siren": ({"body": "siren"}, 13),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_grows_until_it_meets_the_psnr(name: str) -> None:
    options, wanted = NETWORKS[name]
    fits: list[int] = []
    settings = api.settings_of(psnr_db=wanted, iterations=20, **options)
    encoded = api.encode_signal(api.as_signal(BLOCKS), settings, _counting(fits))
    assert len(fits) > 1
    assert wanted <= encoded.quality_db < wanted + 1  # of so small a picture steps jump
    assert compared(encoded.data, BLOCKS) >= wanted - 5e-4  # the header has thousandths


def test_a_size_that_was_asked_for_does_not_grow() -> None:
    fits: list[int] = []
    settings = api.settings_of(arch="ensemble", grid=2, width=3, depth=1, psnr_db=30, iterations=5)
    with pytest.raises(TargetError, match=r"30 dB cannot be reached; .*--iterations"):
        api.encode_signal(api.as_signal(BLOCKS), settings, _counting(fits))
    assert len(fits) == 1


def test_a_psnr_beyond_the_largest_network_names_what_the_quality_option_reaches() -> None:
    options = {"body": "relu", "iterations": 20}
    with pytest.raises(TargetError, match="40 dB cannot be reached") as caught:
        api.encode(BLOCKS, psnr_db=40, **options)
    assert caught.value.best_db is not None
    assert caught.value.best_db >= compared(api.encode(BLOCKS, quality=100, **options), BLOCKS)


def test_growing_ends_with_the_time_limit() -> None:
    started = time.monotonic()
    with pytest.raises(TargetError, match="more --time-limit may"):
        api.encode(BLOCKS, arch="ensemble", psnr_db=16, iterations=10**6, time_limit_s=0.5)
    assert time.monotonic() - started < 60  # a million steps take far longer


def test_a_plateau_of_exact_results_ends_on_its_coarsest_step() -> None:
    step = solve_quality(lambda s: 1000.0 if s < 0.01 else 60.0, 199, 0.1)
    assert 0.005 < step < 0.01


@pytest.mark.parametrize("quick", [False, True])
@pytest.mark.parametrize("shape", [(2, 16, 16, 3, 5), (1, 7, 5, 4, 2), (2, 64, 9)])
def test_rate_optimal_codes_cost_less_than_rounded_ones_under_the_same_prices(
    shape: tuple[int, ...], quick: bool
) -> None:
    rng = np.random.default_rng(3)
    n_axes = (len(shape) - 1) // 2
    layout = TensorLayout("heads", "cosine", shape[0], shape[1 : 1 + n_axes], shape[1 + n_axes :])
    weights = rng.laplace(0, 0.6, shape).astype(np.float32)
    trade = 0.12
    chosen, rounded = (rate_optimal(weights, layout, t, quick=quick) for t in (trade, 0.0))
    assert np.array_equal(rounded, to_codes(np.copysign(np.floor(np.abs(weights) + 0.5), weights)))
    assert (np.abs(chosen) <= np.abs(rounded)).all()
    assert np.count_nonzero(chosen) < np.count_nonzero(rounded)
    # a code only shrinks where the error it adds is less than the dearest price times trade
    added = (np.abs(weights) - np.abs(chosen)) ** 2 - (np.abs(weights) - np.abs(rounded)) ** 2
    assert added.max() <= trade * np.ptp(_bits("time" if n_axes == 1 else "cosine", None)[:, :3])


def test_codes_saturate_below_the_largest_the_coders_hold() -> None:
    codes = to_codes(np.array([1e30, -1e30, 2.0**30, 5.0], np.float32))
    assert np.abs(codes).max() <= MAX_CODE
    assert codes[3] == 5
    spike = np.ones((256, 256), np.float32)
    spike[0, 0] = 0
    assert api.open(api.encode(spike, grid="1", target_bytes=5_000_000)).decode().shape == (256, 256)


@pytest.mark.parametrize("name", ["coffee.png", "tiny.png"])
def test_fitted_colour_axes_are_orthonormal_and_near_luma(name: str) -> None:
    signal = api.as_signal(SAMPLES / name)
    quaternion = fit_rotation(signal.samples, signal.meta)
    matrix = rotation(signal.meta, quaternion)
    assert np.abs(matrix @ matrix.T - np.eye(3)).max() < 1e-12
    assert matrix[0].min() > 0.3  # (1, 1, 1)/√3 is .58 each: detail is mostly luma
    assert fit_rotation(signal.samples, signal.meta) == quaternion


def test_colours_that_say_nothing_keep_the_fixed_axes() -> None:
    meta = SignalMeta("image", (8, 8), 3, "u1", "rgb")
    gray = np.random.default_rng(0).random((8, 8, 1)).astype(np.float32).repeat(3, 2)
    for samples in (gray, np.full((8, 8, 3), 0.3, np.float32)):
        matrix = rotation(meta, fit_rotation(samples, meta))
        assert np.abs(matrix - rotation(meta, ())).max() < 0.02  # quaternions have 7 bits
    assert fit_rotation(gray[..., :1], SignalMeta("image", (8, 8), 1, "u1", "gray")) == ()


def test_grids_are_written_columns_first_and_cut_evenly() -> None:
    assert parse_cells("16", (512, 768)) == (16, 16)
    assert parse_cells("16x4", (512, 768)) == (4, 16)
    assert parse_cells("auto", (512, 768)) is None
    for wrong in ("0", "x", "4x", "-3", "1025", "4x4x4", "٣"):
        with pytest.raises(ValueError, match="--grid"):
            parse_cells(wrong, (512, 1024))
    grid = Grid.uniform((767, 1023), (16, 16))
    assert {max(s) - min(s) for s in grid.sizes} == {1}
    assert [sum(s) for s in grid.sizes] == [767, 1023]


def test_masking_and_rotation_survive_the_header() -> None:
    header = api.open(api.encode(SAMPLES / "coffee.png")).header
    assert header.field.masking
    assert len(header.field.rotation) == 4
    field = CosineField(header.field, header.signal, header.grid)
    assert field.layouts[0].channels == 4
    assert not api.open(api.encode(SAMPLES / "coffee.png", tune="psnr")).header.field.masking
    assert EncodeSettings().tune == "perceptual"
