"""Claims about dependent quantisation: any path comes back, the search finds the best one, what is left out is free."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from inrcodec.entropy.dependent import HALF_STEP, NEXT, Chains
from inrcodec.entropy.diagonals import Diagonals
from inrcodec.entropy.learned import N_LEARNED_CLASSES
from inrcodec.entropy.range_coder import RangeCoder
from inrcodec.entropy.signs import N_SIGN_CLASSES
from inrcodec.priors.networks import context_networks
from inrcodec.priors.tables import starting_counts
from inrcodec.quantize import PRICED, rate_optimal
from inrcodec.stream import TensorLayout, plan
from inrcodec.trellis import Prices, best_path

SHAPES = [(3, 16, 16, 4, 6), (1, 5, 3, 2, 1), (2, 1, 1, 3, 3), (4, 3, 4, 1, 5), (1, 6, 2, 5, 5), (2, 4, 4, 1, 1)]


def layout_of(shape: tuple[int, ...]) -> TensorLayout:
    return TensorLayout("heads", "cosine", shape[0], shape[1:3], shape[3:], dependent=True)


def weights_of(shape: tuple[int, ...], size: float = 1.5) -> np.ndarray:
    return np.random.default_rng(3).laplace(0, size, shape).astype(np.float32)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size", [0.3, 1.5, 40.0, 3e4, 1e8])
def test_chosen_codes_come_back_from_every_level(shape: tuple[int, ...], size: float) -> None:
    layout, weights = layout_of(shape), weights_of(shape, size)
    codes = rate_optimal(weights, layout, 0.08)
    coder = RangeCoder(starting_counts, context_networks)
    for levels in ((), tuple(range(1, min(layout.n_diagonals, 4)))):
        chunks = plan((layout,), levels)
        read = coder.decode(coder.encode([codes], [layout], chunks), [layout], chunks)[0]
        np.testing.assert_array_equal(read, codes)


def test_codes_of_several_tiles_come_back() -> None:
    layout = TensorLayout("heads", "cosine", 1, (2, 2), (65, 3), dependent=True)
    codes = rate_optimal(weights_of(layout.shape), layout, 0.08)
    coder, chunks = RangeCoder(starting_counts, context_networks), plan((layout,), (1,))
    np.testing.assert_array_equal(coder.decode(coder.encode([codes], [layout], chunks), [layout], chunks)[0], codes)


def test_codes_on_no_path_are_not_written() -> None:
    layout = TensorLayout("heads", "cosine", 1, (2, 2), (2, 2), dependent=True)
    with pytest.raises(AssertionError, match="cannot hold"):
        RangeCoder(starting_counts, context_networks).encode(
            [np.ones(layout.shape, np.int32)], [layout], plan((layout,), ())
        )


@pytest.mark.parametrize("sizes", [((5, 4), (3, 4, 4)), ((6, 6, 5), (6, 5))])
def test_codes_of_cells_of_unlike_sizes_come_back(sizes: tuple[tuple[int, ...], ...]) -> None:
    shape = (2, *map(max, sizes), *map(len, sizes))
    layout = TensorLayout("heads", "cosine", 2, shape[1:3], shape[3:], sizes, dependent=True)
    weights = weights_of(shape)
    for u, v, row, column in np.ndindex(*shape[1:]):
        weights[:, u, v, row, column] *= u < sizes[0][row] and v < sizes[1][column]
    codes = rate_optimal(weights, layout, 0.08)
    coder, chunks = RangeCoder(starting_counts, context_networks), plan((layout,), (2,))
    np.testing.assert_array_equal(coder.decode(coder.encode([codes], [layout], chunks), [layout], chunks)[0], codes)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_pass_takes_each_chain_an_even_number_of_times_and_each_code_once(shape: tuple[int, ...]) -> None:
    """So passes that are not in the file change no state: two zeros lead back to where they began."""
    assert all(NEXT[NEXT[state, 0], 0] == state for state in range(4))
    chains, order = Chains(shape[1:3], shape[3:]), Diagonals(shape[1:3])
    assert sorted(chains.cells) == list(range(shape[3] * shape[4]))
    sizes = (chains.n_first, len(chains.cells) - chains.n_first)
    for s in range(sum(shape[1:3]) - 1):
        index = order.members(s)
        for half in (0, 1):
            taken, seen = np.zeros(chains.shape[0], int), np.zeros((len(index[0]), sizes[half]), int)
            for turn in chains.turns(index, half):
                assert len(set(turn.chains)) == len(turn.chains), "a turn takes no chain twice"
                taken[turn.chains] += 1
                seen[turn.rows, turn.cells] += 1
                values = np.arange(seen[turn.rows, turn.cells].size).reshape(len(turn.chains), -1)
                np.testing.assert_array_equal(chains.gather(chains.spread(values, turn), turn), values)
            assert not (taken % 2).any()
            assert (seen == 1).all()


@pytest.mark.parametrize(("rows", "gone"), [(2, False), (1, False), (2, True)])
def test_the_path_found_is_the_best_of_all(rows: int, gone: bool) -> None:
    """Against every path of a single chain, under prices that are the same everywhere. gone: the last cell's code does
    not exist."""
    shape = (2, 1, 1, rows, 2)  # two colours of two or four cells: one chain
    rng = np.random.default_rng(5)
    prices = np.tile(np.append([0.4, 1.9, 3.1], 4.0 + np.arange(PRICED - 3)), (2 * N_LEARNED_CLASSES, 1))
    prices[N_LEARNED_CLASSES:] += rng.uniform(0, 0.5, PRICED)
    prices, trade = prices.astype(np.float32), 0.1
    signs = np.ones((N_SIGN_CLASSES, 2), np.float32)
    order = [(c, row, row ^ half) for half in (0, 1) for c in (0, 1) for row in (0, 1)]
    valid = np.array([[[[1, 1], [1, not gone]]]], bool)[:, :, :rows] if gone else None
    there = [row < rows and not (gone and (row, column) == (1, 1)) for _, row, column in order]

    def cost(x: np.ndarray, path: tuple[int, ...]) -> float:
        state, total = 0, 0.0
        for k, at, exists in zip(path, order, there, strict=True):
            odd = state >> 1
            state = NEXT[state, k & 1]
            if not exists:
                continue
            halves = 2 * k - odd * (k > 0)
            total += ((abs(x[at]) - halves) * HALF_STEP) ** 2
            total += trade * (prices[N_LEARNED_CLASSES * odd, k] + (k > 0))
        return total

    for _ in range(5):
        weights = rng.laplace(0, 1.2, shape).clip(-4, 4).astype(np.float32)
        weights *= valid if gone else 1
        found = best_path(
            weights,
            np.zeros(shape, np.int32),
            valid,
            context_networks(),
            Prices(trade, prices, signs),
        )
        x, codes = weights[:, 0, 0], found[:, 0, 0]
        state, path = 0, []
        for at, exists in zip(order, there, strict=True):
            path.append(int((abs(codes[at]) + (state >> 1)) // 2) if exists else 0)
            state = NEXT[state, path[-1] & 1]
        assert (np.sign(codes) * np.sign(x) >= 0).all()
        best = min(cost(x, p) for p in itertools.product(*(range(4) if exists else [0] for exists in there)))
        assert cost(x, tuple(path)) == pytest.approx(best, rel=1e-4)


def test_dependent_codes_leave_less_error_than_codes_alone_for_their_bytes() -> None:
    shape = (1, 16, 16, 8, 8)
    weights = weights_of(shape, 2.0)
    coder = RangeCoder(starting_counts, context_networks)

    def of(dependent: bool) -> float:
        layout = TensorLayout("heads", "cosine", 1, (16, 16), (8, 8), dependent=dependent)
        codes = rate_optimal(weights, layout, 0.115)
        n_bytes = len(coder.encode([codes], [layout], plan((layout,), ()))[0])
        error = np.square(weights - codes * (HALF_STEP if dependent else 1)).sum()
        return float(error + 0.115 * 8 * n_bytes)

    assert of(True) < 0.985 * of(False)
