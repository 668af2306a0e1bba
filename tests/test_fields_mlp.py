"""The MLP bodies: geometry, consistency, convergence, counts, limits."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys
import time
import warnings

import numpy as np
import pytest

from inrcodec.cost import n_parameters, ptflops_style
from inrcodec.fields.base import Field
from inrcodec.fields.budget import bits_wanted
from inrcodec.fields.ensemble import EnsembleField, round_codes
from inrcodec.fields.layers import MlpShape, evaluate, flatten, forward, fourier_matrix, initial
from inrcodec.fields.locate import axis_runs, corner_coordinates, gather, local_coordinates, point_blocks
from inrcodec.fields.multihead import MultiheadMlpField
from inrcodec.grid import Grid
from inrcodec.settings import EncodeSettings
from inrcodec.signals import SignalMeta
from inrcodec.stream import STEP_UNIT, Header, Quantiser

BODIES = ("siren", "relu", "fourier")


FIELDS = {"ensemble": EnsembleField, "multihead": MultiheadMlpField}


PINNED = [[77.0, -5078.0], [5595.0, -2180.0]]  # fourier_matrix(2, 2, seed=3) * 4096


EVERY = list(itertools.product(FIELDS, BODIES))


def smooth(shape: tuple[int, ...], channels: int) -> np.ndarray:
    """A smooth signal [*shape, C] in [0, 1]."""
    mesh = np.meshgrid(*(np.arange(n) / max(n, 8) for n in shape), indexing="ij")
    planes = [sum(np.sin(3 * x * (c + 1) + a + c) for a, x in enumerate(mesh)) for c in range(channels)]
    return (0.5 + 0.5 * np.stack(planes, axis=-1) / len(shape)).astype(np.float32)


def make(arch: str, body: str, shape: tuple[int, ...], cells: tuple[int, ...], channels: int = 3, **options) -> tuple:
    kind = {1: "sound", 2: "image", 3: "array"}[len(shape)]
    colour = "rgb" if kind == "image" and channels == 3 else "plain"
    meta = SignalMeta(kind, shape, channels, "i2" if kind == "sound" else "u1", colour, 8000 if kind == "sound" else 0)
    settings = EncodeSettings(arch=arch, body=body, **options)
    grid = Grid.uniform(shape, cells)
    spec = FIELDS[arch].plan_spec(meta, grid, settings)
    return FIELDS[arch](spec, meta, grid), settings


def weights_of(field: Field) -> int:
    """By the header of its file."""
    return n_parameters(Header(field.signal, field.grid.cells, field.spec, Quantiser(()), "zstd"))


def random_weights(field: Field, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.normal(size=layout.shape) * 0.3 for layout in field.layouts]


def centres(shape: tuple[int, ...]) -> list[np.ndarray]:
    return [np.arange(n) + 0.5 for n in shape]


def lattice(axes: list[np.ndarray]) -> np.ndarray:
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(axes))


def psnr(decoded: np.ndarray, original: np.ndarray) -> float:
    return float(-10 * np.log10(np.mean((decoded - original) ** 2)))


RAGGED = [
    ((31,), (4,), 2),
    ((7,), (7,), 1),
    ((23, 17), (3, 2), 3),
    ((5, 4), (5, 4), 4),
    ((7, 9, 5), (2, 3, 2), 1),
    ((1, 1), (1, 1), 3),
]


@pytest.mark.parametrize(("shape", "cells", "channels"), RAGGED)
@pytest.mark.parametrize(("arch", "body"), EVERY)
def test_sample_equals_render_at_any_positions(arch, body, shape, cells, channels):
    field, _ = make(arch, body, shape, cells, channels, width=6, depth=1)
    weights = random_weights(field)
    for scale in (1.0, 2.0, 1.37):
        axes = [(np.arange(max(1, int(n * scale))) + 0.5) / scale for n in shape]
        axes[0] = np.r_[-0.4, axes[0], shape[0] + 0.3]  # outside, the end cells go on
        whole = field.render(weights, axes, [scale] * len(shape))
        assert whole.shape == (*(len(x) for x in axes), channels)
        points = field.sample(weights, lattice(axes)).reshape(whole.shape)
        np.testing.assert_allclose(points, whole, atol=1e-9)  # the same formula in float64


@pytest.mark.parametrize(("arch", "body"), EVERY)
def test_a_crop_is_the_crop_of_the_whole(arch, body):
    field, _ = make(arch, body, (40, 27), (3, 4), width=5, depth=2)
    weights = random_weights(field)
    axes = [(np.arange(90) + 0.5) / 2.25, (np.arange(60) + 0.5) / 2.25]
    whole = field.render(weights, axes, (2.25, 2.25))
    crop = field.render(weights, [axes[0][13:71], axes[1][40:41]], (2.25, 2.25))
    np.testing.assert_allclose(crop, whole[13:71, 40:41], atol=1e-9)


def test_render_matches_one_network_per_cell_written_out():
    field, _ = make("ensemble", "siren", (9, 6), (2, 2), width=4, depth=1)
    weights = random_weights(field)
    rendered = field.render(weights, centres((9, 6)), (1, 1))
    for row, column in itertools.product(range(9), range(6)):
        i, j = (row + 0.5 >= 4) * 1, (column + 0.5 >= 3) * 1  # borders 0, 4, 9 and 0, 3, 6
        start, size = (0, 4)[i], (4, 5)[i]
        u = np.array([2 * (row + 0.5 - start) / size - 1, 2 * (column + 0.5 - 3 * j) / 3 - 1])
        p = weights[0][0, :, i, j]
        h = np.sin(field.spec.omega * (u @ p[:8].reshape(2, 4) + p[8:12]))
        h = np.sin(30 * (h @ p[12:28].reshape(4, 4) + p[28:32]))
        np.testing.assert_allclose(rendered[row, column], h @ p[32:44].reshape(4, 3) + p[44:], atol=1e-6)


@pytest.mark.parametrize("arch", FIELDS)
def test_hostile_weights_neither_fail_nor_warn(arch):
    field, _ = make(arch, "relu", (8, 8), (2, 2), width=4, depth=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for huge in (1e300, np.inf, -1e308):
            weights = [np.full(layout.shape, huge) for layout in field.layouts]
            assert field.render(weights, centres((8, 8)), (1, 1)).shape == (8, 8, 3)
            assert field.sample(weights, np.array([[1.5, 2.0]])).shape == (1, 3)


def test_local_coordinates_are_sample_centres():
    cells, u = local_coordinates((0, 4, 5), np.array([0.5, 3.5, 4.5, 4.0]))
    assert cells.tolist() == [0, 0, 1, 1]
    np.testing.assert_allclose(u, [-0.75, 0.75, 0.0, -1.0], atol=1e-9)


def test_runs_cover_every_position_once_in_its_cell():
    x = np.sort(np.random.default_rng(0).uniform(-1, 12, 57))
    runs = axis_runs((0, 3, 4, 11), x, 5)
    seen = np.concatenate([np.unique(row) for row in runs.index])
    assert sorted(seen) == list(range(57))
    assert all(
        (local_coordinates((0, 3, 4, 11), x[row])[0] == cell).all()
        for row, cell in zip(runs.index, runs.cells, strict=True)
    )


def test_point_blocks_cover_every_point_once():
    coords = np.random.default_rng(1).uniform(0, 9, (200, 2))
    blocks = list(point_blocks(Grid.uniform((9, 9), (4, 3)), coords, 16))
    assert sorted(np.concatenate([np.unique(row) for b in blocks for row in b.index])) == list(range(200))


def test_gather_masks_what_smaller_cells_lack():
    samples = np.arange(7 * 5, dtype=np.float32).reshape(7, 5, 1)
    values, _, mask = gather(samples, Grid.uniform((7, 5), (2, 2)))  # sizes 3, 4 and 2, 3
    assert values.shape == (4, 1, 12)
    assert mask.sum() == 35
    assert sorted(values[:, 0][mask]) == list(range(35))


def test_corner_coordinates_reach_the_ends_of_every_cell():
    grid = Grid.uniform((7, 3), (2, 3))  # sizes 3, 4 and 1, 1, 1
    coords = corner_coordinates(grid)
    _, _, mask = gather(np.zeros((7, 3, 1), np.float32), grid)
    assert coords.shape == (6, 2, 4)
    for cell, rows in enumerate([3, 3, 3, 4, 4, 4]):
        np.testing.assert_allclose(coords[cell, 0][mask[cell]], np.linspace(-1, 1, rows), atol=1e-7)  # float32
        assert (coords[cell, 1] == -1).all()  # of a cell of one sample


def test_corner_coordinates_lie_in_the_order_of_gathered_samples():
    grid = Grid.uniform((6, 8), (2, 2))  # cells of 3 × 4
    rows, columns = np.meshgrid(np.tile([-1, 0, 1], 2), np.tile(np.linspace(-1, 1, 4), 2), indexing="ij")
    values, _, _ = gather(np.stack((rows, columns), axis=-1).astype(np.float32), grid)
    np.testing.assert_array_equal(corner_coordinates(grid), values)


# A mean per cell gives 14.6 dB on this signal. Measured: 46, 39, 27; 43, 37, 29. The margin of 3 dB is for other
# versions of torch, whose sums differ in last bits.
@pytest.mark.parametrize(
    ("arch", "body", "bar"),
    [
        ("ensemble", "siren", 43),
        ("ensemble", "relu", 36),
        ("ensemble", "fourier", 24),
        ("multihead", "siren", 40),
        ("multihead", "relu", 34),
        ("multihead", "fourier", 25.5),
    ],
)
def test_every_body_converges(arch, body, bar):
    field, settings = make(arch, body, (47, 32), (3, 2), width=10, depth=1, iterations=150)
    picture = smooth((47, 32), 3)
    seen = []
    fitted = field.fit(picture, settings, seen.append)
    quantiser = field.quantiser(fitted, 1e-5)
    weights = field.dequantize(field.quantize(fitted, quantiser), quantiser)
    assert psnr(field.render(weights, centres((47, 32)), (1, 1)), picture) > bar
    assert seen[-1].step == seen[-1].n_steps == 150
    assert seen[-1].psnr_db is not None
    assert seen[-1].psnr_db > bar - 1


@pytest.mark.parametrize(("shape", "cells", "channels"), RAGGED)
@pytest.mark.parametrize("arch", FIELDS)
def test_fit_to_weights_works_on_any_grid(arch, shape, cells, channels):
    field, settings = make(arch, "siren", shape, cells, channels, iterations=3)
    signal = smooth(shape, channels)
    fitted = field.fit(signal, settings, lambda progress: None)
    quantiser = field.quantiser(fitted, field.initial_step(fitted, settings))
    codes = field.quantize(fitted, quantiser)
    assert [c.shape for c in codes] == [layout.shape for layout in field.layouts]
    assert all(c.dtype == np.int32 for c in codes)
    assert sum(c.size for c in codes) == weights_of(field)
    assert all(len(layout.bands) == layout.frequencies[0] for layout in field.layouts)
    assert all(1 <= s < 2**32 for s in quantiser.steps)
    decoded = field.render(field.dequantize(codes, quantiser), centres(shape), [1] * len(shape))
    assert np.isfinite(decoded).all()


def test_rounding_errs_by_half_a_step_at_most():
    field, settings = make("ensemble", "siren", (24, 24), (2, 2), width=6, depth=1, iterations=5)
    fitted = field.fit(smooth((24, 24), 3), settings, lambda progress: None)
    quantiser = field.quantiser(fitted, 2.0**-6)
    restored = field.dequantize(field.quantize(fitted, quantiser), quantiser)[0].reshape(-1, 4).T
    inner = weights_of(field) // 4 - 7 * 3  # the last layer is solved again: no original to compare with
    steps = np.asarray(quantiser.steps)[np.asarray(field.layouts[0].bands)] * STEP_UNIT
    assert (np.abs(restored - fitted.weights)[:, :inner] <= steps[:inner] * 0.5000001).all()

    field, settings = make("multihead", "siren", (24, 24), (2, 2), width=6, depth=1, iterations=5)
    fitted = field.fit(smooth((24, 24), 3), settings, lambda progress: None)
    quantiser = field.quantiser(fitted, 2.0**-6)
    restored = field.dequantize(field.quantize(fitted, quantiser), quantiser)[0].ravel()
    steps = np.asarray(quantiser.steps[:-1])[np.asarray(field.layouts[0].bands)] * STEP_UNIT
    assert (np.abs(restored - fitted.body[0]) <= steps * 0.5000001).all()


@pytest.mark.parametrize("arch", FIELDS)
def test_finer_steps_decode_better(arch):
    field, settings = make(arch, "siren", (32, 32), (2, 2), iterations=60, width=8)
    picture = smooth((32, 32), 3)
    fitted = field.fit(picture, settings, lambda progress: None)
    step = field.initial_step(fitted, settings)
    scores = []
    for factor in (16, 1, 1 / 16):
        q = field.quantiser(fitted, step * factor)
        weights = field.dequantize(field.quantize(fitted, q), q)
        scores.append(psnr(field.render(weights, centres((32, 32)), (1, 1)), picture))
    assert scores[0] + 3 < scores[1] < scores[2]


@pytest.mark.parametrize("arch", FIELDS)
def test_one_seed_gives_one_result(arch):
    codes = []
    for seed in (7, 7, 8):
        field, settings = make(arch, "fourier", (16, 16), (2, 2), width=5, depth=1, iterations=5, seed=seed)
        fitted = field.fit(smooth((16, 16), 3), settings, lambda progress: None)
        codes.append(np.concatenate([c.ravel() for c in field.quantize(fitted, field.quantiser(fitted, 2.0**-7))]))
    assert (codes[0] == codes[1]).all()
    assert (codes[0] != codes[2]).any()


def test_frozen_frequencies_are_pinned():
    """They are drawn again by every decoder: a change would break files."""
    matrix = fourier_matrix(2, 2, seed=3)
    assert matrix.tolist() == fourier_matrix(2, 2, seed=3).tolist()
    assert (matrix * 4096).tolist() == PINNED
    assert abs(fourier_matrix(4000, 1, 0).std() - 1) < 0.05  # 4 sigma of the estimate


def test_torch_and_numpy_evaluate_the_same_function():
    import torch

    for body in BODIES:
        shape = MlpShape(2, 7, 2, 3, body, omega=10, features=4)
        parameters = initial(shape, 5, generator=torch.Generator().manual_seed(0), bias="1/sqrt(in)")
        coords = np.random.default_rng(0).uniform(-1, 1, (5, 2, 11)).astype(np.float32)
        ours = forward(shape, parameters, torch.from_numpy(coords)).detach().numpy()
        np.testing.assert_allclose(evaluate(shape, flatten(parameters), coords), ours, atol=1e-4)  # float32 sines


def test_parameter_counts_are_the_papers():
    for d, w in ((3, 256), (5, 64), (2, 64), (1, 128)):
        assert MlpShape(2, w, d, 3, "siren").n_parameters == d * w**2 + (d + 6) * w + 3
        assert MlpShape(1, w, d, 1, "siren").n_parameters == d * w**2 + (d + 3) * w + 1
    assert 32**2 * MlpShape(2, 128, 1, 3, "siren").n_parameters == 17_697_792  # ENRP S4


def test_flops_are_the_papers():
    assert ptflops_style(128**2, 256, 3) == 6_484_396_038
    assert ptflops_style(128**2, 64, 5) == 681_575_174
    assert ptflops_style(128**2, 64, 2) == 278_921_606
    assert ptflops_style(128**2, 128, 1) == 557_842_950
    # Fourier features: 130 frozen inputs, no layer between, biases once per cell
    assert ptflops_style(128**2, 128, 0, fin=130, bias_copies=1024) == 558_110_720


def test_default_sizes_stay_within_budget():
    for shape, c, quality in itertools.product([(512, 768), (64, 48), (16, 16), (300, 7)], (1, 3), (10, 75, 95)):
        meta = SignalMeta("image", shape, c, "u1", "rgb" if c == 3 else "gray")
        settings = EncodeSettings(arch="ensemble", quality=quality)
        cells = EnsembleField.default_cells(meta, settings)
        grid = Grid.uniform(shape, cells)
        field = EnsembleField(EnsembleField.plan_spec(meta, grid, settings), meta, grid)
        smallest = (len(shape) + 1 + 2 * c) * grid.n_cells  # width 1, depth 0
        assert weights_of(field) * 8 <= max(2 * c * math.prod(shape), 8 * smallest)  # a quarter of 8 bits a value
        assert weights_of(field) * 8 <= max(bits_wanted(meta, settings), 8 * smallest)


def test_quality_never_lowers_the_size():
    meta = SignalMeta("image", (256, 384), 3, "u1", "rgb")
    grid = Grid.uniform((256, 384), (8, 12))
    for field in FIELDS.values():
        arch = next(a for a, f in FIELDS.items() if f is field)
        counts = []
        for quality in range(0, 101, 10):
            spec = field.plan_spec(meta, grid, EncodeSettings(arch=arch, body="siren", quality=quality))
            counts.append(weights_of(field(spec, meta, grid)))
        assert counts[-1] > 4 * counts[0]
        if arch == "multihead":
            assert counts == sorted(counts)


def test_sizes_out_of_range_are_refused():
    meta = SignalMeta("image", (4096, 4096), 3, "u1", "rgb")
    with pytest.raises(ValueError, match="weights, limit"):
        EnsembleField.plan_spec(
            meta, Grid.uniform((4096, 4096), (64, 64)), EncodeSettings(arch="ensemble", width=4096, depth=1)
        )


def test_weights_that_have_run_away_are_refused():
    with pytest.raises(ValueError, match="not finite"):
        round_codes(np.array([1.0, np.nan]), 0.5)


@pytest.mark.parametrize("arch", FIELDS)
def test_time_limit_is_kept(arch):
    warm, settings = make(arch, "siren", (64, 64), (2, 2), width=16, iterations=1)
    warm.fit(smooth((64, 64), 3), settings, lambda _: None)  # torch is imported, its kernels are chosen
    field, settings = make(arch, "siren", (64, 64), (2, 2), width=16, iterations=10**6, time_limit_s=0.4)
    started = time.monotonic()
    reports = []
    field.fit(smooth((64, 64), 3), settings, reports.append)
    assert time.monotonic() - started < 5  # 10^6 steps take minutes; measuring sensitivities and a busy machine, less
    assert 0 < reports[-1].step < 10**6


def test_decoding_needs_no_torch():
    code = (
        "import sys, inrcodec.fields.ensemble, inrcodec.fields.multihead, inrcodec.fitting;"
        "assert 'torch' not in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
