"""The default field: orthonormal at sample centres, one function everywhere, and what is fitted beside the heads."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import inrcodec
from inrcodec import api
from inrcodec.cost import SYNTHESIS_MACS, macs_per_sample
from inrcodec.fields import axis
from inrcodec.fields.axis import CosineAxis, SplineAxis, functions_at
from inrcodec.fields.bases import Splines
from inrcodec.fields.cosine import CosineField
from inrcodec.fields.steps import StepSizes
from inrcodec.fields.tuning import TUNINGS
from inrcodec.grid import Grid
from inrcodec.settings import EncodeSettings
from inrcodec.signals import SignalMeta
from inrcodec.stream import Quantiser

SAMPLES = Path(__file__).parent.parent / "samples"
NUMBER = TUNINGS["psnr"].synthesis
borders = st.lists(st.integers(1, 40), min_size=1, max_size=7).map(lambda s: (0, *np.cumsum(s).tolist()))


def centres(n: int) -> np.ndarray:
    return np.arange(n) + 0.5


def matrix(b: tuple[int, ...], x: np.ndarray) -> np.ndarray:
    """[len(x), functions that exist]: the slow obvious table of every function at every position."""
    columns = []
    for c in range(len(b) - 1):
        a, end, m = b[c], b[c + 1], b[c + 1] - b[c]
        left = min(m, a - b[c - 1]) / 2 if c else 0
        right = min(m, b[c + 2] - end) / 2 if c < len(b) - 2 else 0
        w = ((x >= a - left) & (x <= end + right)).astype(float)
        for border, h, sign in ((a, left, 1), (end, right, -1)):
            near = np.abs(x - border) <= h
            if h:
                w[near] = np.sin(np.pi / 4 * (1 + sign * (x[near] - border) / h))
        for k in range(m):
            if right or c < len(b) - 2:
                columns.append(np.sqrt(2 / m) * w * np.cos(np.pi * (k + 0.5) * (x - a) / m))
            else:
                columns.append(np.sqrt((2 if k else 1) / m) * w * np.cos(np.pi * k * (x - a) / m))
    return np.stack(columns, 1)


def packed(b: tuple[int, ...], weights: np.ndarray) -> np.ndarray:
    """One weight per function that exists -> [m, M, 1], 0 where a cell has fewer."""
    sizes = np.diff(b)
    out = np.zeros((len(sizes), sizes.max(), 1))
    for c, m in enumerate(sizes):
        out[c, :m, 0] = weights[b[c] : b[c] + m]
    return out


@given(borders)
@settings(max_examples=40, deadline=None)
def test_the_functions_are_orthonormal_at_sample_centres_on_any_cells(b: tuple[int, ...]) -> None:
    table = matrix(b, centres(b[-1]))
    assert np.abs(table.T @ table - np.eye(b[-1])).max() < 1e-9  # rounding of a few hundred products


@given(borders, st.integers(0, 2**32 - 1), st.sampled_from([1, 4, 64]))
@settings(max_examples=40, deadline=None)
def test_fast_synthesis_and_analysis_are_the_obvious_table(b: tuple[int, ...], seed: int, tabulated: int) -> None:
    rng = np.random.default_rng(seed)
    weights = rng.normal(size=b[-1])
    scattered = np.sort(rng.uniform(0, b[-1], 33))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(axis, "TABULATED", tabulated)  # small: cells take the paths of large ones
        for x in (centres(b[-1]), scattered, centres(2 * b[-1]) / 2):
            basis = CosineAxis(b, x)
            fast = basis.synthesise(packed(b, weights)[basis.cells])[:, 0]
            assert np.abs(fast - matrix(b, x) @ weights).max() < 1e-9
        values = rng.normal(size=(b[-1], 1))
        back = CosineAxis(b, centres(b[-1])).analyse(values)
        assert np.abs(back - packed(b, matrix(b, centres(b[-1])).T @ values[:, 0])).max() < 1e-9


@given(borders, st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_functions_at_scattered_positions_are_those_of_the_lattice(b: tuple[int, ...], seed: int) -> None:
    rng = np.random.default_rng(seed)
    weights = packed(b, rng.normal(size=b[-1]))
    x = np.sort(rng.uniform(0, b[-1], 25))
    cells, values = functions_at(b, x)
    basis = CosineAxis(b, x)
    found = np.einsum("nsm,nsm->n", values, weights[cells, :, 0])
    assert np.abs(found - basis.synthesise(weights[basis.cells])[:, 0]).max() < 1e-9


@pytest.mark.parametrize(("extent", "pitch"), [(1, 8), (7, 32), (33, 32), (100, 9), (512, 32)])
def test_splines_hold_a_constant_and_a_slope_up_to_the_ends(extent: int, pitch: int) -> None:
    spline = SplineAxis(extent, pitch)
    line = np.stack([np.ones(extent), centres(extent) / extent], 1)
    x = np.linspace(0.5, extent - 0.5, 50)
    found = spline.evaluate(spline.project(line), x)
    # the ridge that tames the outermost knots pulls a little
    assert np.abs(found - np.stack([np.ones(50), x / extent], 1)).max() < 2e-3


def test_the_error_of_the_samples_is_the_error_of_the_heads() -> None:
    rng = np.random.default_rng(0)
    meta = SignalMeta("image", (37, 53), 3, "u1", "rgb")
    asked = EncodeSettings(tune="psnr", synthesis="off")
    grid = Grid.uniform(meta.shape, (2, 4))
    samples = rng.random((37, 53, 3)).astype(np.float32)
    field = CosineField(CosineField.plan_spec(meta, grid, asked, samples), meta, grid)
    fit = field.fit(samples, asked, lambda _: None)
    quantiser = field.quantiser(fit, 1e-4)
    weights = field.dequantize(field.quantize(fit, quantiser), quantiser)
    noise = rng.normal(size=weights.heads.shape) * 0.01
    for d, sizes in enumerate(grid.sizes):  # only where codes exist
        exists = np.arange(max(sizes))[:, None] < np.asarray(sizes)
        shape = [1, 1, 1, 1, 1]
        shape[1 + d], shape[3 + d] = exists.shape
        noise = noise * exists.reshape(shape)
    axes = [centres(n) for n in meta.shape]
    noisy = replace(weights, heads=weights.heads + noise)
    changed = field.render(noisy, axes, (1, 1)) - field.render(weights, axes, (1, 1))
    assert np.sum(changed**2) == pytest.approx(np.sum(noise**2), rel=1e-6)


def test_halving_does_not_alias_a_pattern_beyond_the_new_nyquist() -> None:
    x = np.tile(np.arange(96), (96, 1))
    pattern = (np.cos(np.pi * 0.9 * x) * 100 + 128).astype(np.uint8)  # 0.9 of Nyquist
    data = api.encode(np.repeat(pattern[..., None], 3, 2), quality=95)
    half = api.open(data).decode(scale=0.5).astype(float)
    assert half[4:-4, 4:-4].std() < 2  # nearest-neighbour decimation leaves 70


def test_busy_regions_get_coarser_steps_than_smooth_ones() -> None:
    rng = np.random.default_rng(1)
    samples = np.full((256, 256, 3), 0.5, np.float32)
    samples[:, 128:] += rng.normal(size=(256, 128, 1)).astype(np.float32) * 0.2
    meta = SignalMeta("image", (256, 256), 3, "u1", "rgb")
    grid = Grid.fitting(meta.shape)
    field = CosineField(CosineField.plan_spec(meta, grid, EncodeSettings(), samples), meta, grid)
    factor = field._step_sizes.masking(field.fit(samples, EncodeSettings(), lambda _: None).masking)
    assert factor.shape == grid.cells
    assert factor[:, 12:].mean() > 1.5 * factor[:, :4].mean()


def test_cost_of_the_default_grid_is_worked_by_hand() -> None:
    header = api.open(api.encode(np.zeros((32, 48, 3), np.uint8), synthesis="off")).header
    # 3 channels of 2 · 16 cosines and 4 splines on each of two axes, and the 3 × 3 rotation
    assert macs_per_sample(header) == 3 * (2 * 32 + 2 * 4) + 9
    # the spline of the steps and the network; at other scales there and back through the cosines
    corrected = replace(header, field=replace(header.field, synthesis=NUMBER))
    assert macs_per_sample(corrected) == macs_per_sample(header) + 2 * 4 + SYNTHESIS_MACS[NUMBER]
    assert macs_per_sample(corrected, scaled=True) == macs_per_sample(corrected) + 2 * 3 * 2 * 32


@pytest.mark.parametrize("name", ["coffee.png", "camera.png"])
def test_a_photo_comes_back_better_than_the_quality_promises(name: str) -> None:
    data = api.encode(SAMPLES / name, quality=90, tune="psnr")
    assert api.open(data).header.quality_mdb > 38_000  # a step of 6.1/255 alone gives about 43 dB in smooth regions


@pytest.mark.parametrize(
    ("channels", "tune", "expected"),
    [(3, "perceptual", 24), (4, "perceptual", 24), (3, "psnr", 16), (1, "perceptual", 16), (2, "perceptual", 16)],
)
def test_eyes_get_coarser_steps_of_the_second_colour(channels: int, tune: str, expected: int) -> None:
    with Image.open(SAMPLES / "coffee.png") as picture:
        colour = np.asarray(picture.convert("RGBA"))[100:164, 200:280]
    given = colour[..., :channels] if channels > 2 else colour[..., 4 - channels :]
    quantiser = inrcodec.open(inrcodec.encode(given, tune=tune, effort=1)).header.quantiser
    assert quantiser.second == expected


def test_a_second_colour_that_is_not_orange_to_blue_has_the_steps_of_the_others() -> None:
    with Image.open(SAMPLES / "coffee.png") as picture:
        usual = np.asarray(picture.convert("RGB"))[100:228, 200:328]
    second = [
        inrcodec.open(inrcodec.encode(p, effort=1)).header.quantiser.second for p in (usual, usual[..., [1, 0, 2]])
    ]
    assert second == [24, 16]


def test_steps_of_the_second_colour_alone_are_so_many_sixteenths() -> None:
    grid = Grid.uniform((32, 48), (2, 3))
    splines = Splines([SplineAxis(n, 32) for n in grid.shape])
    plain, coarser = (StepSizes(grid, splines, 4).of_heads(Quantiser((2**16,), 112, (0, 0), s)) for s in (16, 24))
    assert (len(plain), len(coarser)) == (1, 4)
    assert (coarser[1] == 1.5 * plain[0]).all()
    assert (coarser[[0, 2, 3]] == plain).all()
