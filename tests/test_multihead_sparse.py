"""Sparse heads on a shared ReLU body: which features, the layer, the solution, the files."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import inrcodec
from inrcodec.fields.heads import solve_heads
from inrcodec.fields.layers import MlpShape, evaluate
from inrcodec.fields.multihead_sparse import SparseMultiheadField
from inrcodec.fields.sparse import _sparse_product, apply_heads, evaluate_sparse, solve_sparse, supports, train_sparse
from inrcodec.fitting import AdamSettings, _rate
from inrcodec.grid import Grid
from inrcodec.settings import EncodeSettings
from inrcodec.signals import SignalMeta


def sparse_field(shape: tuple[int, ...], cells: tuple[int, ...], channels: int = 3) -> SparseMultiheadField:
    meta = SignalMeta("image", shape, channels, "u1", "rgb" if channels == 3 else "gray")
    grid = Grid.uniform(shape, cells)
    settings = EncodeSettings(body="relu", connections=3, width=7, depth=1, seed=4)
    return SparseMultiheadField(SparseMultiheadField.plan_spec(meta, grid, settings), meta, grid)


def test_connections_are_distinct_sorted_and_the_same_everywhere() -> None:
    support = supports(500, 9, 4, seed=11)
    assert support.shape == (500, 4)
    assert (np.diff(support, axis=1) > 0).all()
    assert support.min() == 0
    assert support.max() == 8
    # FORMAT.md's example: Philox4x64-10, key (7, 0)
    assert supports(2, 5, 2, seed=7).tolist() == [[1, 4], [1, 3]]
    np.testing.assert_array_equal(supports(3, 5, 5, seed=1), [[0, 1, 2, 3, 4]] * 3)


def test_drawing_in_pieces_gives_one_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = supports(50, 9, 4, seed=2)
    monkeypatch.setattr("inrcodec.fields.sparse.RAW_AT_ONCE", 30)
    np.testing.assert_array_equal(supports(50, 9, 4, seed=2), whole)


def test_every_feature_is_used_about_equally_often() -> None:
    counts = np.bincount(supports(4000, 8, 2, seed=0).ravel(), minlength=8)
    # 4,000 draws of 2 in 8: 1,000 each, standard deviation 27; five of them
    assert np.abs(counts - 1000).max() < 5 * math.sqrt(4000 * 0.25 * 0.75)


@pytest.mark.parametrize("n_positions", [3, 20])
@pytest.mark.parametrize(("few", "block"), [(8, 10), (8, 2**17), (1, 2**17)])  # several blocks, one, as bags
def test_the_sparse_layer_is_the_dense_one_with_zeros(
    n_positions: int, few: int, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("inrcodec.fields.sparse.FEW", few)
    monkeypatch.setattr("inrcodec.fields.sparse.BLOCK_VALUES", block)
    rng = np.random.default_rng(0)
    support = supports(6, 5, 2, seed=3)
    heads, features = rng.normal(size=(6, 2)), rng.normal(size=(5, n_positions))
    dense = np.zeros((6, 5))
    np.put_along_axis(dense, support, heads, axis=1)
    np.testing.assert_allclose(apply_heads(heads[:, None], support, features)[:, 0], dense @ features, atol=1e-12)
    w = torch.tensor(heads, requires_grad=True)
    h = torch.tensor(features, requires_grad=True)
    out = _sparse_product(w, torch.from_numpy(support), h)
    out.square().sum().backward()
    np.testing.assert_allclose(out.detach().numpy(), dense @ features, atol=1e-12)
    np.testing.assert_allclose(h.grad, dense.T @ (2 * dense @ features), atol=1e-10)
    gradient = np.take_along_axis((2 * dense @ features) @ features.T, support, axis=1)
    np.testing.assert_allclose(w.grad, gradient, atol=1e-10)


@pytest.mark.parametrize("heads", [1, 2, 7])
def test_training_never_makes_the_matrix_of_all_heads(heads: int) -> None:
    n, sizes = 9, set()

    class Sizes(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            made = func(*args, **(kwargs or {}))
            sizes.update(t.shape for t in (made if isinstance(made, tuple) else (made,)) if isinstance(t, torch.Tensor))
            return made

    support = torch.from_numpy(supports(heads, n, 3, seed=1))
    w, h = torch.ones(heads, 3, requires_grad=True), torch.ones(n, 4, requires_grad=True)
    with Sizes():
        _sparse_product(w, support, h).square().sum().backward()
    assert {w.shape, h.shape} <= sizes  # the gradients at least were seen
    assert not {(heads, n), (n, heads)} & sizes


def test_solved_heads_are_those_of_least_squares_head_by_head() -> None:
    rng = np.random.default_rng(1)
    shape = MlpShape(2, 6, 1, 0, "relu")
    body = rng.normal(size=(1, shape.n_parameters))
    coords = np.broadcast_to(rng.uniform(-1, 1, (1, 2, 30)), (5, 2, 30))
    mask = np.ones((5, 30), bool)
    mask[3:, 25:] = False  # two shapes of cells
    values = rng.normal(size=(5, 2, 30))
    support = supports(5, 6, 3, seed=0)
    got = solve_sparse(shape, body, support, values=values, coords=coords, mask=mask, ridge=1e-12)
    for k in range(5):
        inside = mask[k]
        hidden = evaluate(shape, body, coords[k][None][:, :, inside], hidden=True)[0]
        inputs = np.concatenate((np.ones((1, inside.sum())), hidden[support[k]]))
        for c in range(2):
            best = np.linalg.lstsq(inputs.T, values[k, c, inside], rcond=None)[0]
            # the same error; weights of units that never fire are free
            assert np.sum((inputs.T @ got[k, c] - values[k, c, inside]) ** 2) == pytest.approx(
                np.sum((inputs.T @ best - values[k, c, inside]) ** 2), rel=1e-6
            )


def test_connected_to_all_heads_are_the_dense_ones() -> None:
    rng = np.random.default_rng(2)
    sparse, dense = MlpShape(1, 5, 0, 0, "relu"), MlpShape(1, 5, 0, 5, "relu")
    body = rng.normal(size=(1, sparse.n_parameters))
    identity = np.concatenate((body, np.eye(5).reshape(1, -1), np.zeros((1, 5))), axis=1)
    coords = np.broadcast_to(np.linspace(-1, 1, 40)[None, None], (3, 1, 40))
    values, mask = rng.normal(size=(3, 1, 40)), np.ones((3, 40), bool)
    everything = supports(3, 5, 5, seed=0)
    ours = solve_sparse(sparse, body, everything, values=values, coords=coords, mask=mask, ridge=1e-6)
    theirs = solve_heads(dense, identity, values, coords, mask)
    inputs = np.concatenate((np.ones((1, 40)), evaluate(sparse, body, coords[:1], hidden=True)[0]))
    # units on a line are nearly alike: weights are free, what they add up to is not; ridges of 1e-6
    np.testing.assert_allclose(ours @ inputs, theirs @ inputs, atol=1e-4)


def test_training_lowers_the_error_and_reports_that_of_its_weights() -> None:
    rng = np.random.default_rng(3)
    coords = np.stack(np.meshgrid(*[np.linspace(-1, 1, 6)] * 2, indexing="ij")).reshape(2, -1)
    values = np.stack([np.sin(2 * coords[0] + p) * np.cos(coords[1] * p) for p in rng.uniform(0, 2, 20)])
    shape, support = MlpShape(2, 24, 1, 0, "relu"), supports(20, 24, 8, seed=0)
    options = {"bias": True, "seed": 0, "device": "cpu", "on_step": lambda _: None}
    start = train_sparse(shape, support, values, coords, iterations=1, **options)
    fit = train_sparse(shape, support, values, coords, iterations=300, adam=AdamSettings(5e-3), **options)
    assert fit.loss < start.loss / 20
    error = np.mean((evaluate_sparse(shape, fit, support, coords) - values) ** 2)
    assert error == pytest.approx(fit.loss, rel=1e-3)  # float32 training against float64 evaluation


def test_the_papers_schedule_drops_at_every_multiple_of_fifty() -> None:
    rates = [_rate("drops", step, 2000) for step in (0, 49, 50, 99, 100, 1999)]
    np.testing.assert_allclose(rates, [1, 1, math.exp(-0.1), math.exp(-0.1), math.exp(-0.2), math.exp(-3.9)])


@pytest.mark.parametrize(("shape", "cells"), [((23, 17), (3, 2)), ((5, 4), (5, 4)), ((40, 27), (3, 4))])
def test_samples_are_what_render_gives_and_crops_are_crops(shape: tuple[int, int], cells: tuple[int, int]) -> None:
    field = sparse_field(shape, cells)
    rng = np.random.default_rng(0)
    weights = [rng.normal(size=layout.shape) for layout in field.layouts]
    for scale in (1.0, 2.0, 1.37):
        axes = [(np.arange(max(1, int(n * scale))) + 0.5) / scale for n in shape]
        whole = field.render(weights, axes, [scale] * 2)
        points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 2)
        np.testing.assert_allclose(field.sample(weights, points).reshape(whole.shape), whole, atol=1e-9)
        crop = field.render(weights, [axes[0][1:4], axes[1][2:3]], [scale] * 2)
        np.testing.assert_allclose(crop, whole[1:4, 2:3], atol=1e-9)


def test_a_file_with_connections_comes_back_and_says_what_it_holds() -> None:
    y, x = np.mgrid[:48, :40]
    picture = np.stack([4 * y + x, 3 * x + y, 200 - 2 * y], 2).clip(0, 255).astype(np.uint8)
    data = inrcodec.encode(picture, body="relu", connections=4, width=12, iterations=200, grid=5, quality=90)
    file = inrcodec.open(data)
    file.verify()
    error = np.mean((file.decode().astype(float) - picture) ** 2)
    assert 10 * math.log10(255**2 / error) > 30  # smooth: a few units per cell are enough
    spec = file.header.field
    assert (spec.connections, spec.width, spec.depth) == (4, 12, 1)
    assert file.info()["connections"] == 4
    # body 2 -> 12 -> 12, then a constant and 4 inputs for each of 3 channels in 25 cells
    assert file.info()["parameters"] == 2 * 12 + 12 + 12 * 12 + 12 + 5 * 3 * 25
    np.testing.assert_array_equal(file.decode(region=(7, 9, 20, 11)), file.decode()[9:20, 7:27])


def test_connections_beyond_the_width_or_of_other_bodies_are_refused() -> None:
    picture = np.zeros((8, 8), np.uint8)
    with pytest.raises(ValueError, match="at most the 3 units"):
        inrcodec.encode(picture, body="relu", connections=4, width=3)
    with pytest.raises(ValueError, match="--connections needs"):
        inrcodec.encode(picture, body="siren", connections=4)
