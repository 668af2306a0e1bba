"""Claims about the signs of pictures: exact, causal, the same either way round, worth their bytes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from inrcodec.entropy import signs as entropy_signs
from inrcodec.entropy.context import Networks
from inrcodec.entropy.learned import N_LEARNED_CLASSES, LearnedTile
from inrcodec.entropy.range_coder import RangeCoder
from inrcodec.entropy.signs import N_SIGN_CLASSES, N_SIGN_FEATURES, SignNetwork, Signs
from inrcodec.priors import signs
from inrcodec.priors.context import context_network
from inrcodec.priors.networks import context_networks
from inrcodec.priors.signs import sign_network, sign_rows
from inrcodec.priors.tables import starting_counts
from inrcodec.stream import TensorLayout, plan

SHAPE = (3, 6, 6, 5, 4)
FIRST = 2 * N_LEARNED_CLASSES  # context of signs


def codes(seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(-3, 4, SHAPE).astype(np.int32)


def passes(of: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Contexts and values of the passes of signs."""
    seen = []

    def code(contexts: np.ndarray, values: np.ndarray) -> np.ndarray:
        if contexts[0] >= FIRST:
            seen.append((contexts.copy(), values.copy()))
        return values

    LearnedTile(of.copy(), None, context_network(), sign_network()).run(0, 11, np.full(3, 11), code)
    return seen


def test_sums_that_could_be_inexact_are_refused() -> None:
    net = sign_network()
    with pytest.raises(ValueError, match="may not be exact"):
        replace(net, first=np.full_like(net.first, 2**14, dtype=np.int32).repeat(8, 1))


def test_a_damaged_installation_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signs, "SHA256", "0" * 64)
    with pytest.raises(RuntimeError, match="reinstall"):
        signs._load.__wrapped__()


def test_the_negative_picture_has_the_same_surprises() -> None:
    """Every sign turned round: expectations turn with them, and no context changes, but where nothing is expected."""
    for (a, x), (b, y) in zip(passes(codes()), passes(-codes()), strict=True):
        np.testing.assert_array_equal(a, b)
        sure = a > FIRST
        np.testing.assert_array_equal(x[sure], y[sure])


def test_signs_depend_on_earlier_codes_only() -> None:
    late = codes()
    u, v = np.indices(SHAPE[1:3])
    late[:, u + v >= 7] *= -1
    before, after = passes(codes()), passes(late)
    known = 7 * 2 * 3  # passes on diagonals 0 … 6, then the first of diagonal 7, whose contexts see only them
    assert all((a == b).all() and (x == y).all() for (a, x), (b, y) in zip(before[:known], after, strict=False))
    np.testing.assert_array_equal(before[known][0], after[known][0])
    assert any((a != b).any() for (a, _), (b, _) in zip(before[known:], after[known:], strict=True))


def test_features_turn_with_the_picture_and_reach_no_further_than_they_say() -> None:
    tile, turned = Signs(SHAPE, sign_network()), Signs(SHAPE, sign_network())
    for c in range(3):
        at = tile.at(c, *np.indices(SHAPE[1:]).reshape(4, -1))
        tile.learn(at, codes()[c].reshape(-1))
        turned.learn(at, -codes()[c].reshape(-1))
    for c in range(3):
        u, v, row, column = np.indices(SHAPE[1:]).reshape(4, -1)
        at = tile.at(c, u, v, row, column)
        features = tile.features(at, c, u, v)
        assert features.shape == (len(at), N_SIGN_FEATURES)
        np.testing.assert_array_equal(features, -turned.features(at, c, u, v))
        assert np.abs(features).max() <= 4


def test_surprise_is_rarer_the_surer_the_class() -> None:
    rows = sign_rows()
    assert rows.shape[0] == N_SIGN_CLASSES
    assert not rows[:, 2:].any()
    share = rows[:, 1] / rows.sum(1)
    assert (share[:18] < 0.5).all()
    assert (np.diff(share[:18]) < 0).all()


def test_signs_of_a_picture_that_goes_on_over_its_borders_cost_less_than_a_bit() -> None:
    """A slanted edge, seen by cells of windowed cosines: against the same codes with signs thrown by a coin."""
    from inrcodec.fields.cosine import CosineField
    from inrcodec.grid import Grid
    from inrcodec.settings import EncodeSettings
    from inrcodec.signals import SignalMeta

    y, x = np.indices((96, 96))
    picture = (1 / (1 + np.exp(-(x - 0.6 * y - 20) / 2)))[..., None].repeat(3, 2).astype(np.float32)
    meta, settings = SignalMeta("image", (96, 96), 3, "u1", "rgb"), EncodeSettings()
    grid = Grid.fitting(meta.shape)
    field = CosineField(CosineField.plan_spec(meta, grid, settings, picture), meta, grid)
    fitted = field.fit(picture, settings, lambda _: None)
    heads = field.quantize(fitted, field.quantiser(fitted, 0.02))[-1]
    layout = field.layouts[-1]

    def size(of: np.ndarray) -> int:
        coder = RangeCoder(starting_counts, context_networks)
        payloads = coder.encode([of], [layout], plan((layout,), ()))
        np.testing.assert_array_equal(coder.decode(payloads, [layout], plan((layout,), ()))[0], of)
        return len(payloads[0])

    coin = heads * np.random.default_rng(0).choice([-1, 1], heads.shape).astype(np.int32)
    assert size(heads) < size(coin) - 0.2 * np.count_nonzero(heads) / 8


def test_any_codes_come_back() -> None:
    for shape in ((1, 5, 3, 2, 1), (2, 1, 1, 3, 3), (4, 3, 4, 1, 5)):
        of = np.random.default_rng(2).integers(-40, 41, shape).astype(np.int32)
        layout = TensorLayout("heads", "cosine", shape[0], shape[1:3], shape[3:])
        coder = RangeCoder(starting_counts, context_networks)
        chunks = plan((layout,), (1,) if layout.n_diagonals > 1 else ())
        np.testing.assert_array_equal(coder.decode(coder.encode([of], [layout], chunks), [layout], chunks)[0], of)


def test_a_network_without_an_opinion_codes_plain_signs() -> None:
    net = sign_network()
    mute = SignNetwork(net.first, net.place, net.size, net.second, net.bias, 0 * net.last, net.shift, net.limit)
    tile = Networks(context_network(), mute)
    seen = []

    def code(contexts: np.ndarray, values: np.ndarray) -> np.ndarray:
        if contexts[0] >= FIRST:
            assert (contexts == FIRST).all()
            seen.append(values)
        return values

    LearnedTile(codes(), None, tile.magnitudes, tile.signs).run(0, 11, np.full(3, 11), code)
    assert np.concatenate(seen).sum() == (codes() < 0).sum()


def test_a_pass_may_be_looked_at_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = passes(codes())
    monkeypatch.setattr(entropy_signs, "_RUN", 7)
    for (a, x), (b, y) in zip(whole, passes(codes()), strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize(
    ("shape", "most"), [((3, 16, 16, 64, 64), 1.7), ((3, 2, 2, 64, 64), 11), ((1, 1, 1, 64, 64), 39)]
)
def test_what_is_known_of_a_tile_takes_few_bytes_a_code(shape: tuple[int, ...], most: float) -> None:
    assert Signs(shape, sign_network())._known.nbytes < most * np.prod(shape)


def test_neighbours_beyond_the_tile_are_nothing() -> None:
    """Codes at the far ends of rows, columns, frequencies and colours are nobody's neighbours on the other side."""
    tile = Signs((2, 3, 4, 3, 5), sign_network())
    for c in range(2):
        u, v, row, column = (i.reshape(-1) for i in np.indices((3, 4, 3, 5)))
        here = tile.at(c, u, v, row, column)
        for k in range(0, len(here), 7):
            tile._known[:] = 0
            tile.learn(here[k : k + 1], np.array([3]))
            seen = tile.features(here, c, u, v).any(1)
            near = (
                (abs(row - row[k]) <= 1) & (abs(column - column[k]) <= 1) & (abs(u - u[k]) <= 4) & (abs(v - v[k]) <= 4)
            )
            assert not (seen & ~near).any()
