"""Claims about MH-ReLU's experiments: budgets, counts, pictures, noise, spectral bias."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parent.parent / "benchmarks" / "papers"))

import experiments_multihead as experiments
import multihead_recipe as recipe
from multihead_recipe import COMPARISON, GENERALISATION, SPECTRAL, Baseline, Heads


@pytest.mark.parametrize("side", experiments.SIDES)
def test_the_budget_matcher_gives_the_published_sizes_and_gflops(side: int) -> None:
    width, connections, printed = experiments.MATCHED[side]
    net = recipe.match(side, GENERALISATION)
    assert (net.width, net.connections) == (width, connections)
    assert experiments.printed_like(printed, net.flops(256**2) / 1e9) == printed


def test_the_budget_matcher_gives_the_sizes_of_biased_heads() -> None:
    # what the command in the README of MH-ReLU's code does
    nets = [recipe.match(s, replace(GENERALISATION, bias=True)) for s in experiments.SIDES]
    assert replace(GENERALISATION, bias=True).n_parameters == 2_360_832
    assert [n.width for n in nets] == [885, 885, 883, 875, 844, 731, 436, 256, 256]
    assert [n.connections for n in nets[-4:]] == [731, 435, 131, 32]


def test_the_budget_matcher_gives_the_stand_ins_sizes() -> None:
    assert SPECTRAL.n_parameters == 115_456
    nets = [recipe.match(s, SPECTRAL) for s in (1, 2, 4, 8, 16, 32, 64)]
    found = [(n.width, n.connections) for n in nets]
    assert found == [(195, 195), (194, 194), (192, 192), (184, 184), (157, 157), (128, 64), (128, 16)]


def test_parameters_and_flops_are_the_papers_formulas() -> None:
    # P = n (fin + 1) + (L - 1) n (n + 1) + alpha H + H; F = [2 n fin + n + 2 (L - 1) n² + (L - 1) n + 2 n H sigma + H]
    # · pixels / H
    net = Heads(3, 5, 2, bias=True)
    assert net.n_parameters == 5 * 3 + 3 * 5 * 6 + 2 * 9 + 9
    assert net.flops(36) == (2 * 5 * 2 + 5 + 2 * 3 * 25 + 3 * 5 + 2 * 2 * 9 + 9) * 36 // 9
    assert COMPARISON.n_parameters == 1_250_816


@pytest.mark.parametrize(("body", "width", "parameters"), [("siren", 644, 1_248_717), ("fourier", 603, 1_248_211)])
def test_baselines_of_equal_parameters_are_the_papers(body: str, width: int, parameters: int) -> None:
    net = recipe.match_baseline(body, COMPARISON.n_parameters)
    assert (net, net.n_parameters) == (Baseline(body, width), parameters)


@pytest.mark.parametrize("size", [(512, 512), (7, 5), (40, 97), (1, 3)])
def test_resizing_is_opencvs(size: tuple[int, int]) -> None:
    cv2 = pytest.importorskip("cv2")
    pixels = np.random.default_rng(0).integers(0, 256, (61, 90)).astype(np.uint8)
    theirs = cv2.resize(pixels, size[::-1])
    ours = recipe.resized_bilinear(pixels.astype(np.float64), *size)
    assert np.abs(ours - theirs).max() <= 1  # OpenCV's weights of bytes are of 11 bits, its results whole


def test_halving_is_opencvs_and_the_mean_of_two_by_two() -> None:
    cv2 = pytest.importorskip("cv2")
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64)).astype(np.uint8)
    minor, major = recipe.halved(pixels, 64)
    np.testing.assert_array_equal(np.rint(major * 255), pixels)
    np.testing.assert_array_equal(np.rint(minor * 255), cv2.resize(pixels, (32, 32)))


def test_noise_is_perlins_by_the_slow_obvious_version() -> None:
    side, octave = 12, 3
    angles = np.random.default_rng(4).uniform(0, 2 * np.pi, (octave + 1, octave + 1))
    slow = np.empty((side, side))
    for i, j in np.ndindex(side, side):
        r, c = i * octave / side, j * octave / side
        total = 0.0
        for a, b in ((0, 0), (0, 1), (1, 0), (1, 1)):
            y, x = r - int(r) - a, c - int(c) - b
            angle = angles[int(r) + a, int(c) + b]
            ty, tx = 1 - abs(y), 1 - abs(x)
            fades = [t**3 * (6 * t * t - 15 * t + 10) for t in (ty, tx)]
            total += fades[0] * fades[1] * (np.cos(angle) * y + np.sin(angle) * x)
        slow[i, j] = total
    slow = (slow - slow.min()) / (slow.max() - slow.min())
    np.testing.assert_allclose(recipe.perlin(side, octave, 4), slow, atol=1e-12)  # float64, a few operations


def test_one_head_loses_high_octaves_and_many_keep_them() -> None:
    # the spectral bias of arXiv 2110.03448, at half the stand-in's side and half the width, for half as many steps
    base = Heads(32, 64, 8, bias=False)
    one, many = recipe.match(1, base), recipe.match(16, base)

    def best_db(net: Heads, octave: int) -> float:
        picture = recipe.perlin(32, octave, 0)
        return recipe.fit(net, picture, None, epochs=250, seed=0, device="cpu").best_db

    assert best_db(one, 1) - best_db(one, 16) > 25
    assert best_db(many, 16) - best_db(one, 16) > 15


def test_a_net_of_heads_is_scored_on_the_pixels_it_was_given() -> None:
    # a plane: anything that mixed up cells, rows or positions at either size would be near its spread, 15 dB
    x = np.linspace(0.2, 0.8, 16)
    major = (x[:, None] + 0.3 * x[None, :]) / 1.3
    minor = major.reshape(8, 2, 8, 2).mean(axis=(1, 3))
    found = recipe.fit(Heads(2, 16, 16, bias=True), minor, major, epochs=400, seed=0, device="cpu")
    assert found.train_db > 30
    assert 25 < found.test_db < found.train_db  # half a pixel off by the paper's coordinates
