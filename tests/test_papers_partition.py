"""Claims about the experiments of the Partition paper: signals, rules, coordinates."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.append(str(Path(__file__).parent.parent / "benchmarks" / "papers"))

import partition_pictures as pictures
import partition_steps as steps
from keep import Ticker, Watch

from inrcodec.fields.layers import MlpShape
from inrcodec.segments import segment


def test_a_step_signal_is_the_parity_of_the_thresholds_above() -> None:
    levels = steps.thresholds([3, 7, 1], np.random.default_rng(0))
    x = torch.rand((3, 50)) * 2 - 1
    for row, points, values in zip(levels, x, steps.step_signal(levels, x), strict=True):
        own = [t for t in row.tolist() if t > -1]  # -2 pads rows of fewer
        slow = [1.0 if sum(t > p for t in own) % 2 == 0 else -1.0 for p in points.tolist()]
        assert values.tolist() == slow


def test_local_coordinates_make_many_boundaries_few() -> None:
    # elsewhere: 36, 297 and 780 steps of one network at 11, 31, 51 boundaries; 51, 69, 132 in four local parts
    torch.set_num_threads(1)
    levels = steps.thresholds([31, 31], np.random.default_rng(1))
    whole = steps.line_steps(levels, width=32, seed=0)
    local = steps.line_steps(levels, width=16, parts=4, seed=0)
    shared = steps.line_steps(levels, width=16, parts=4, local=False, seed=0)
    assert local.mean() < whole.mean() / 2
    assert local.mean() < shared.mean() / 2


@pytest.mark.parametrize("local", [True, False])
def test_parts_of_a_plane_hold_its_own_samples(local: bool) -> None:
    rng = np.random.default_rng(2)
    down, across = steps.thresholds([2, 3], rng), steps.thresholds([5, 1], rng)
    coords, values = steps.plane_points(across, down, side=12, parts=3, local=local)
    axis = torch.linspace(-1, 1, 12)
    for run in range(2):
        rows, columns = (steps.step_signal(t[run : run + 1], axis[None])[0] for t in (down, across))
        for part in range(9):
            top, left = 4 * (part // 3), 4 * (part % 3)
            for k in range(16):
                y, x = top + k // 4, left + k % 4
                assert values[run, part, 0, k] == rows[y] * columns[x]
                wanted = (2 * (k // 4) / 3 - 1, 2 * (k % 4) / 3 - 1) if local else axis[[y, x]].tolist()
                assert coords[0, part, :, k].tolist() == pytest.approx(wanted, abs=1e-6)  # float32


def test_a_run_that_learns_nothing_ends_at_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "LIMIT", 3)
    assert steps.line_steps(steps.thresholds([51, 1], np.random.default_rng(0)), width=4, seed=0).tolist() == [3, 3]


def test_the_fit_finds_the_base_of_an_exponential() -> None:
    boundaries = np.arange(1, 60, 2)
    growth = steps.fit_growth(boundaries.tolist(), (37.6 * np.exp(0.0636 * boundaries) - 19.6).tolist())
    assert growth.p == pytest.approx(1.0656, abs=0.003)  # the cubic in between bends it a little


@pytest.mark.parametrize(("product", "factors"), [(10, (2, 5)), (100, (10, 10)), (250, (10, 25)), (130, (10, 13))])
def test_factors_lie_near_the_root(product: int, factors: tuple[int, int]) -> None:
    assert steps.near_square(product) == factors


def test_the_grid_follows_the_papers_rule() -> None:
    def counts(height: int, width: int, side: int) -> list[int]:
        return np.unique(pictures.grid_labels(height, width, side)[:, 0], return_counts=True)[1].tolist()

    assert counts(1000, 700, 3) == [334, 334, 332]
    assert counts(256, 256, 2) == [129, 127]
    assert counts(4, 9, 3) == [2, 2]  # fewer blocks than asked for
    labels = pictures.grid_labels(7, 11, 3)
    assert sorted(np.unique(labels)) == list(range(9))


def test_positions_go_with_pixels_on_pictures_that_are_not_square() -> None:
    height, width = 4, 7
    found = pictures.grid_positions(height, width).reshape(height, width, 2)
    np.testing.assert_allclose(found[2, 5], (2 * 2 / 3 - 1, 2 * 5 / 6 - 1))
    paper = pictures.scrambled_positions(height, width)
    # pixel k lies at (k div W, k mod W), its coordinates are those of (k div H, k mod H)
    k = 2 * width + 5
    np.testing.assert_allclose(paper[k], (2 * (k // height) / 6 - 1, 2 * (k % height) / 3 - 1))
    square = pictures.scrambled_positions(5, 5).reshape(5, 5, 2)
    np.testing.assert_allclose(square, pictures.grid_positions(5, 5).reshape(5, 5, 2))


def test_harmonics_stay_below_nyquist() -> None:
    line = np.linspace(-1, 1, 64)[:, None]
    features = pictures.harmonics(line, 64)
    assert features.shape == (64, 2 * 8)  # 1/2, 1, …, 64 of at most 63 π / 2 = 99
    turns = 64 * np.diff(line[:, 0]).max() / (2 * np.pi)
    assert turns <= 0.5


def test_a_picture_is_learnt_by_a_network_per_segment() -> None:
    pixels = (np.indices((18, 25)).sum(0)[..., None] * np.array([5, 3, 2])).astype(np.uint8)
    labels = segment(pixels / np.float32(255), 4)
    shape = MlpShape(2, 10, 1, 3, "siren")
    watch = Watch(None, Ticker(lambda _: None, ""))
    positions = pictures.grid_positions(18, 25)
    curve = pictures._trained(pixels, labels, positions, shape=shape, steps=60, seed=0, device="cpu", watch=watch)
    assert curve.parameters == 4 * (2 * 10 + 10 + 110 + 33)
    assert curve.steps[-1] == 60
    assert curve.psnr_db[-1] > curve.psnr_db[0] + 1  # few steps, at the paper's small rate
    assert curve.at_step(0) == curve.psnr_db[0]
    assert curve.at_seconds(curve.seconds[-1]) == curve.psnr_db[-1]
