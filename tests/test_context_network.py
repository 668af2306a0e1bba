"""Claims about the learned contexts: inexact sums and damage are refused, classes rise with size, none looks ahead."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from inrcodec.entropy.exact import POSITIONS
from inrcodec.entropy.learned import N_FEATURES, N_LEARNED_CLASSES, ContextNetwork, LearnedTile
from inrcodec.priors import context
from inrcodec.priors.context import context_network, starting_rows
from inrcodec.priors.signs import sign_network


def test_sums_that_could_be_inexact_are_refused() -> None:
    net = context_network()
    wide = net.weights[0].copy()
    wide[0, :] = 2000
    with pytest.raises(ValueError, match="may not be exact"):
        replace(net, weights=(wide, *net.weights[1:]))


def test_a_damaged_installation_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(context, "SHA256", "0" * 64)
    with pytest.raises(RuntimeError, match="reinstall"):
        context._load.__wrapped__()


def test_rows_rise_with_their_class() -> None:
    rows = starting_rows()
    assert rows.shape[0] == 2 * N_LEARNED_CLASSES
    assert (rows.sum(1) > 0).all()
    mean = (rows[:, :16] @ np.arange(16) / rows[:, :16].sum(1)).reshape(2, -1)
    assert (np.diff(mean[:, :20]) > 0).all(), "where most codes are, a higher class means larger magnitudes"


def test_contexts_depend_on_earlier_codes_only() -> None:
    """Changing the codes of the last pass of the last diagonals changes no context before."""
    rng = np.random.default_rng(1)
    codes = rng.integers(-3, 4, (3, 6, 6, 5, 4)).astype(np.int32)

    def contexts(of: np.ndarray) -> list[np.ndarray]:
        seen = []

        def code(context: np.ndarray, values: np.ndarray) -> np.ndarray:
            seen.append(context.copy())
            return values

        LearnedTile(of.copy(), None, context_network(), sign_network()).run(0, 11, np.full(3, 11), code)
        return seen

    before = contexts(codes)
    late = codes.copy()
    u, v = np.indices((6, 6))
    late[:, u + v >= 7] *= 5
    after = contexts(late)
    passes = 7 * 2 * 3 * 2  # of magnitudes and signs on diagonals 0 … 6, and the first pass of 7, which sees only them
    assert all((a == b).all() for a, b in zip(before[: passes + 1], after, strict=False))
    assert any((a != b).any() for a, b in zip(before[passes + 1 :], after[passes + 1 :], strict=True))


def test_a_busy_neighbourhood_has_a_higher_class_than_a_quiet_one() -> None:
    net: ContextNetwork = context_network()
    place = np.array([POSITIONS // 4])
    quiet, busy = (np.full((N_FEATURES, 1, 1), level, np.float32) for level in (0, 24))
    assert net.classes(busy, place, place, 0, 1) > net.classes(quiet, place, place, 0, 1)
