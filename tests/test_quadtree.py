"""Cells from a tree: orthonormal whatever the tree, and one function whichever way it is evaluated."""

from __future__ import annotations

import numpy as np
import pytest

from inrcodec.fields.axis import CosineAxis
from inrcodec.fields.quadtree import Tree, TreeCosines, sample

ROUNDING = 1e-9  # float64 sums of a few hundred terms near 1


def centres(tree: Tree) -> list[np.ndarray]:
    return [np.arange(n) + 0.5 for n in tree.shape]


def random_tree(shape: tuple[int, ...], tops: tuple[int, ...], finest: int, seed: int) -> Tree:
    rng = np.random.default_rng(seed)
    return Tree.from_splits(shape, tops, [rng.random([m << k for m in tops]) < 0.6 for k in range(finest)])


TREES = [
    random_tree((64, 96), (1, 2), 3, 0),
    random_tree((47, 53), (1, 1), 3, 1),  # primes: cells of one level differ by a sample
    random_tree((130, 61), (3, 1), 2, 2),
    random_tree((17, 16), (2, 3), 1, 3),
    random_tree((300,), (2,), 4, 4),  # a sound: window switching
    random_tree((9, 13, 8), (1, 2, 1), 1, 5),
    random_tree((5, 7), (1, 2), 0, 6),
]


@pytest.mark.parametrize("tree", TREES)
def test_analysis_is_orthonormal_whatever_the_tree(tree: Tree) -> None:
    values = np.random.default_rng(1).normal(size=(2, *tree.shape))
    basis = TreeCosines(tree, centres(tree))
    weights = basis.analyse(values)
    assert sum((w**2).sum() for w in weights) == pytest.approx((values**2).sum(), rel=ROUNDING)
    np.testing.assert_allclose(basis.synthesise(weights), values, atol=ROUNDING)


@pytest.mark.parametrize("tree", TREES)
def test_a_lattice_and_scattered_positions_see_one_function(tree: Tree) -> None:
    rng = np.random.default_rng(2)
    basis = TreeCosines(tree, centres(tree))
    weights = basis.analyse(rng.normal(size=(2, *tree.shape)))
    axes = [np.sort(rng.uniform(-0.5, n + 0.5, 17)) for n in tree.shape]
    axes[0][3], axes[-1][5] = tree.borders(0, tree.finest)[1], tree.borders(-1, 0)[-1] / 2  # on borders, perhaps
    axes = [np.sort(a) for a in axes]
    lattice = TreeCosines(tree, axes).synthesise(weights)
    coords = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, len(axes))
    scattered = sample(tree, weights, coords)
    np.testing.assert_allclose(lattice.reshape(2, -1).T, scattered, atol=1e-7)  # positions are told apart to 1e-9


@pytest.mark.parametrize("tree", TREES)
def test_the_formula_at_sample_centres_is_the_fold_undone(tree: Tree) -> None:
    values = np.random.default_rng(3).normal(size=(1, *tree.shape))
    weights = TreeCosines(tree, centres(tree)).analyse(values)
    coords = np.stack(np.meshgrid(*centres(tree), indexing="ij"), -1).reshape(-1, len(tree.shape))
    np.testing.assert_allclose(sample(tree, weights, coords)[:, 0], values.reshape(-1), atol=ROUNDING)


@pytest.mark.parametrize("level", [0, 1, 2])
def test_a_tree_cut_evenly_is_the_uniform_grid(level: int) -> None:
    shape, tops = (61, 90), (1, 2)
    tree = Tree.from_splits(shape, tops, [np.full([m << k for m in tops], k < level) for k in range(3)])
    values = np.random.default_rng(4).normal(size=(1, *shape))
    heads = TreeCosines(tree, centres(tree)).analyse(values)[level]
    x = values[0]
    for d in range(2):  # [n_d, other] -> [m_d, M_d, other] -> the other axis first
        out = CosineAxis(tuple(tree.borders(d, level).tolist()), np.arange(shape[d]) + 0.5).analyse(
            x.reshape(shape[d], -1)
        )
        x = np.moveaxis(out.reshape(*out.shape[:2], *x.shape[1:]), (0, 1), (-2, -1))
    expected = x.transpose(1, 3, 0, 2)  # [M_0, M_1, m_0, m_1]
    np.testing.assert_allclose(heads[0], expected.reshape(*expected.shape[:2], -1), atol=ROUNDING)


@pytest.mark.parametrize("axis", [0, 1])
def test_small_cells_reach_into_a_large_one_without_a_jump(axis: int) -> None:
    """The functions of small cells on one side of a border, seen along it inside the large cell on its other side."""
    tops = (2, 1) if axis == 0 else (1, 2)
    first = np.array([True, False]).reshape(tops)
    tree = Tree.from_splits((64 * tops[0], 64 * tops[1]), tops, [first, np.ones((2 * tops[0], 2 * tops[1]), bool)])
    rng = np.random.default_rng(5)
    weights = [np.zeros((1, *tree.largest(k), len(tree.leaves(k)))) for k in range(3)]
    weights[2][:, :3, :3] = rng.normal(size=(1, 3, 3, len(tree.leaves(2))))
    along = np.arange(0.005, 64, 0.01)
    coords = np.insert(along[:, None], axis, 66.0, axis=1)
    tail = sample(tree, weights, coords)[:, 0]
    assert np.abs(tail).max() > 0.02
    # frequencies up to 2.5 half waves in 16 samples, and windows: slope at most about 1 per sample and unit
    assert np.abs(np.diff(tail)).max() < 0.02 * np.abs(tail).max()


@pytest.mark.parametrize("tree", TREES)
def test_splits_give_the_tree_back(tree: Tree) -> None:
    again = Tree.from_splits(tree.shape, tree.tops, tree.splits)
    np.testing.assert_array_equal(again.depths, tree.depths)
    assert sum(len(tree.leaves(k)) * 2 ** (len(tree.tops) * (tree.finest - k)) for k in range(tree.finest + 1)) == (
        tree.depths.size
    )
