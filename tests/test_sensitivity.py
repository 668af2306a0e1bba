"""Claims about what rounding is measured to cost, and about the steps that come of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from test_prior import tiny_prior

from inrcodec import api
from inrcodec.fields.cellfit import MAX_OCTAVES, Cells, measure_spreads
from inrcodec.fields.layers import MlpShape
from inrcodec.fields.locate import gather
from inrcodec.fields.multihead import MultiheadMlpField
from inrcodec.fields.sensitivity import rounding_cost
from inrcodec.grid import Grid

COFFEE = Path(__file__).parent.parent / "samples" / "coffee.png"


@pytest.mark.parametrize("slope", [0.0, 50.0, -50.0])
def test_a_slope_is_no_cost(slope: float) -> None:
    group = np.array([True, False, True, True])
    weights = np.random.default_rng(0).normal(size=(5, 4))
    curvature = np.array([3.0, 1e6, 4.0, 5.0])

    def error(w: np.ndarray) -> float:
        return float(np.sum(slope * w + curvature * (w - weights) ** 2))

    # of 5 networks, the curvature of three weights times step² / 12
    found = rounding_cost(error, weights, group, 0.5, before=error(weights))
    assert found == pytest.approx(5 * (3 + 4 + 5) * 0.25 / 12, rel=1e-9)


def rough() -> np.ndarray:
    y, x = np.mgrid[0:36, 0:48] / 12
    planes = [np.sin(3 * x * y / (1 + c)) * 0.35 + 0.1 * np.sign(x - y * y / 3 - c / 3) + 0.5 for c in range(3)]
    return (255 * np.clip(np.stack(planes, -1), 0, 1)).astype(np.uint8)


def encoded(picture: np.ndarray, **options: Any) -> tuple[int, float]:
    """Bytes, PSNR in dB."""
    made = api.encode_signal(api.as_signal(picture), api.EncodeSettings(**options))
    return len(made.data), made.quality_db


@pytest.mark.parametrize(
    "options",
    [
        {"body": "siren", "iterations": 3},
        {"body": "relu", "iterations": 100},
        {"body": "fourier", "iterations": 100},
        {"prior": replace(tiny_prior(seed=1), steps=100)},
    ],
    ids=["siren", "relu", "fourier", "prior"],
)
def test_networks_that_have_not_converged_keep_their_quality_at_six_bits(options: dict[str, Any]) -> None:
    settings = {"arch": "ensemble", "grid": "4x3"} | ({} if "prior" in options else {"width": 7, "depth": 2}) | options
    _, fine = encoded(rough(), bits=14, **settings)
    _, coarse = encoded(rough(), bits=6, **settings)
    assert coarse > fine - 0.5  # measured: .2 at most; noise of one sign loses 2.9 dB and more


def test_a_body_that_has_not_converged_costs_its_heads_little(monkeypatch: pytest.MonkeyPatch) -> None:
    picture = np.asarray(Image.open(COFFEE))[150:198, 250:322]
    settings = {"body": "siren", "grid": "6x4", "iterations": 5, "width": 24, "bits": 8}
    n_bytes, rounded = encoded(picture, **settings)
    measured = MultiheadMlpField._sensitivities

    def fine(self: MultiheadMlpField, *args: Any) -> tuple[np.ndarray, np.ndarray]:
        spreads, limits = measured(self, *args)
        return spreads / 256, limits / 256

    monkeypatch.setattr(MultiheadMlpField, "_sensitivities", fine)
    more, exact = encoded(picture, **settings)
    assert n_bytes < 0.6 * more
    assert rounded > exact - 0.3  # measured: .12; noise of one sign loses .86


def test_weights_without_effect_do_not_set_the_steps_of_others() -> None:
    shape = MlpShape(2, 6, 1, 3, "siren", omega=6.0)
    groups = np.asarray(shape.groups)
    cells = Cells.of(*gather((rough() / 255).astype(np.float32), Grid.uniform((36, 48), (2, 2))))
    rng = np.random.default_rng(0)
    weights = rng.normal(0, 0.3, (4, len(groups)))
    base = np.zeros(len(groups))
    weights[:, groups == groups.max() - 1] = 1e-9  # no hidden layer matters
    spreads = measure_spreads(shape, weights, cells, base=base)
    octaves = np.log2([s / np.quantile(np.abs(weights[:, groups == g]), 0.999) for g, s in enumerate(spreads)])
    octaves[groups.max() - 1] = np.log2(spreads[groups.max() - 1] / 1e-6)  # the least range there is
    share = np.bincount(groups) / len(groups)
    assert float(share @ octaves) == pytest.approx(0, abs=1e-9)
    assert np.ptp(octaves) <= 2 * MAX_OCTAVES + 1e-9
