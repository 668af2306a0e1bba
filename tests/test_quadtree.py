"""Cells of three sizes: orthonormal wherever they lie, and one function whichever way it is evaluated."""

from __future__ import annotations

import numpy as np
import pytest

from inrcodec.fields.axis import CosineAxis
from inrcodec.fields.quadtree import LARGE, MIDDLE, SMALL, Tree, TreeCosines, sample

ROUNDING = 1e-9  # float64 sums of a few hundred terms near 1


def centres(tree: Tree) -> list[np.ndarray]:
    return [np.arange(n) + 0.5 for n in tree.shape]


def random_tree(shape: tuple[int, ...], tops: tuple[int, ...], seed: int) -> Tree:
    rng = np.random.default_rng(seed)
    kinds = np.where(rng.random([2 * m for m in tops]) < 0.5, SMALL, MIDDLE)
    large = rng.random(tops) < 0.4
    for d in range(len(tops)):
        large = np.repeat(large, 2, axis=d)
    return Tree(shape, np.where(large, LARGE, kinds))


def frequencies(tree: Tree) -> tuple[int, ...]:
    return tree.largest(1)


TREES = [
    random_tree((64, 96), (2, 3), 0),
    random_tree((47, 53), (2, 2), 1),  # primes: cells of one size differ by a sample
    random_tree((130, 61), (4, 2), 2),
    random_tree((17, 16), (2, 3), 3),  # cells of a few samples
    random_tree((300,), (5,), 4),  # a sound: window switching
    random_tree((9, 13, 8), (1, 2, 1), 5),
    random_tree((66, 35), (2, 1), 6),  # large cells of an odd number of samples
]


@pytest.mark.parametrize("tree", TREES)
def test_analysis_is_orthonormal_whatever_the_tree(tree: Tree) -> None:
    values = np.random.default_rng(1).normal(size=(2, *tree.shape))
    basis = TreeCosines(tree, centres(tree))
    heads = basis.analyse(values, frequencies(tree))
    assert (heads**2).sum() == pytest.approx((values**2).sum(), rel=ROUNDING)
    np.testing.assert_allclose(basis.synthesise(heads), values, atol=ROUNDING)


@pytest.mark.parametrize("tree", TREES)
def test_weights_lie_where_codes_exist(tree: Tree) -> None:
    """A middle cell of n samples holds n weights per axis, whatever cells they belong to."""
    values = np.random.default_rng(7).normal(size=(1, *tree.shape))
    heads = TreeCosines(tree, centres(tree)).analyse(values, frequencies(tree))
    n = len(tree.shape)
    for d in range(n):
        sizes = np.diff(tree.borders(d, 1))
        beyond = np.arange(heads.shape[1 + d])[:, None] >= sizes
        shape = [1] * (2 * n)
        shape[d], shape[n + d] = beyond.shape
        assert not (heads[0] * beyond.reshape(shape)).any()


@pytest.mark.parametrize("tree", TREES)
def test_a_lattice_and_scattered_positions_see_one_function(tree: Tree) -> None:
    rng = np.random.default_rng(2)
    heads = TreeCosines(tree, centres(tree)).analyse(rng.normal(size=(2, *tree.shape)), frequencies(tree))
    axes = [np.sort(rng.uniform(-0.5, n + 0.5, 17)) for n in tree.shape]
    axes[0][3], axes[-1][5] = tree.borders(0, 2)[1], tree.borders(-1, 0)[-1] / 2  # on borders, perhaps
    axes = [np.sort(a) for a in axes]
    lattice = TreeCosines(tree, axes).synthesise(heads)
    coords = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, len(axes))
    scattered = sample(tree, heads, coords)
    np.testing.assert_allclose(lattice.reshape(2, -1).T, scattered, atol=1e-7)  # positions are told apart to 1e-9


@pytest.mark.parametrize("tree", TREES)
def test_the_formula_at_sample_centres_is_the_fold_undone(tree: Tree) -> None:
    values = np.random.default_rng(3).normal(size=(1, *tree.shape))
    heads = TreeCosines(tree, centres(tree)).analyse(values, frequencies(tree))
    coords = np.stack(np.meshgrid(*centres(tree), indexing="ij"), -1).reshape(-1, len(tree.shape))
    np.testing.assert_allclose(sample(tree, heads, coords)[:, 0], values.reshape(-1), atol=ROUNDING)


@pytest.mark.parametrize("kind", [LARGE, MIDDLE, SMALL])
def test_cells_of_one_kind_are_the_uniform_grid(kind: int) -> None:
    shape = (61, 90)
    tree = Tree(shape, np.full((4, 6), kind))
    values = np.random.default_rng(4).normal(size=(1, *shape))
    heads = TreeCosines(tree, centres(tree)).analyse(values, frequencies(tree))
    level = {LARGE: 0, MIDDLE: 1, SMALL: 2}[kind]
    weights = tree.take(heads, level, tree.leaves(level))
    x = values[0]
    for d in range(2):  # [n_d, other] -> [m_d, M_d, other] -> the other axis first
        out = CosineAxis(tuple(tree.borders(d, level).tolist()), np.arange(shape[d]) + 0.5).analyse(
            x.reshape(shape[d], -1)
        )
        x = np.moveaxis(out.reshape(*out.shape[:2], *x.shape[1:]), (0, 1), (-2, -1))
    expected = x.transpose(1, 3, 0, 2)  # [M_0, M_1, m_0, m_1]
    np.testing.assert_allclose(weights[0], expected.reshape(*expected.shape[:2], -1), atol=ROUNDING)


@pytest.mark.parametrize("axis", [0, 1])
def test_small_cells_reach_into_a_large_one_without_a_jump(axis: int) -> None:
    """The functions of small cells on one side of a border, seen along it inside the large cell on its other side."""
    cells = (4, 2) if axis == 0 else (2, 4)
    kinds = np.full(cells, LARGE)
    kinds[:2, :2] = SMALL
    tree = Tree((32 * cells[0], 32 * cells[1]), kinds)
    rng = np.random.default_rng(5)
    heads = np.zeros((1, 32, 32, *cells))
    leaves = tree.leaves(2)
    weights = np.zeros((1, 16, 16, len(leaves)))
    weights[:, :3, :3] = rng.normal(size=(1, 3, 3, len(leaves)))
    tree.put(weights, 2, leaves, heads)
    along = np.arange(0.005, 64, 0.01)
    coords = np.insert(along[:, None], axis, 66.0, axis=1)
    tail = sample(tree, heads, coords)[:, 0]
    assert np.abs(tail).max() > 0.02
    # frequencies up to 2.5 half waves in 16 samples, and windows: slope at most about 1 per sample and unit
    assert np.abs(np.diff(tail)).max() < 0.02 * np.abs(tail).max()


@pytest.mark.parametrize(
    "kinds", [[[LARGE, LARGE], [LARGE, MIDDLE]], [[MIDDLE, SMALL, MIDDLE]], [[3, 0], [0, 0]], [[-1, 0], [0, 0]]]
)
def test_kinds_that_no_tree_has(kinds: list[list[int]]) -> None:
    with pytest.raises(ValueError, match="cells"):
        Tree((64, 64), np.array(kinds))
