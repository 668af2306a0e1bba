"""Codes go with what the synthesis network will add to them: cheaper for it, and only where it helps."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from inrcodec.formats.container import pack
from PIL import Image

import inrcodec
from inrcodec import api
from inrcodec.fields import bases, cosine, make_field, synthesis
from inrcodec.fields.cosine import CosineField, Fitted
from inrcodec.grid import Grid
from inrcodec.quantize import BIT, rate_optimal, reconsidered
from inrcodec.render import widen_alpha
from inrcodec.settings import EncodeSettings
from inrcodec.signals import normalise
from inrcodec.stream import TensorLayout
from inrcodec.trial import Candidate, Trial

SAMPLES = Path(__file__).parent.parent / "samples"
WHOLE = np.asarray(Image.open(SAMPLES / "coffee.png").convert("RGB"))
COFFEE = WHOLE[101:290, 180:371]
PICTURES = {
    "whole photo": WHOLE,
    "photo": COFFEE,
    "whole gray": np.asarray(Image.open(SAMPLES / "camera.png").convert("L")),
    "gray": np.asarray(Image.open(SAMPLES / "camera.png").convert("L"))[100:227, 150:281],
    "alpha": np.asarray(Image.open(SAMPLES / "cat-alpha.png").convert("RGBA")),
}


@contextmanager
def blind_to_it(tune: str) -> Iterator[None]:
    with patch.dict(cosine.TUNINGS, {tune: replace(cosine.TUNINGS[tune], heed=False)}):
        yield


@dataclass
class Made:
    """A picture's field, with its codes at one quality."""

    field: CosineField
    fitted: Fitted
    trial: Trial

    @classmethod
    def of(cls, picture: np.ndarray, *, quality: float = 45, tune: str = "psnr") -> Made:
        signal, settings = api.as_signal(picture), EncodeSettings(tune=tune, quality=quality)
        grid = Grid.fitting(signal.meta.shape)
        field = make_field(CosineField.plan_spec(signal.meta, grid, settings, signal.samples), signal.meta, grid)
        assert isinstance(field, CosineField)
        fitted = field.fit(widen_alpha(signal.samples, signal.meta), settings, lambda _: None)
        step = field.initial_step(fitted, settings)
        return cls(field, fitted, Trial.of(Candidate(field, fitted), step, signal, settings))

    def cost(self) -> float:
        """As effort.py has it, of a real file."""
        signal = self.trial.signal
        error = widen_alpha(normalise(self.trial.values, signal.meta), signal.meta)
        error = error - widen_alpha(signal.samples, signal.meta)
        return self.field.distortion(self.fitted, self.trial.quantiser, error) + BIT * 8 * len(pack(self.trial.stream))

    def targets(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, bool]:
        """In their steps: the exact heads, what the network adds to those of the codes, and what _heeding wants."""
        field, quantiser, codes = self.field, self.trial.quantiser, self.trial.codes
        spline = codes[0][: field.signal.channels] * field._step_sizes.of_knots(quantiser)
        steps = field._step_sizes.of_heads(quantiser) * field._step_sizes.masking(self.fitted.masking)
        weights = field.dequantize(codes, quantiser)
        everywhere = [np.array([0.0, n]) for n in field.signal.shape]
        added = field.correct(weights, everywhere, (1.0, 1.0)).heads - weights.heads
        wanted, saved, error = field._heeding(self.fitted, quantiser, spline, codes)
        exact = field._scaled(self.fitted, quantiser, spline)
        lacking = exact * steps - weights.heads - added  # heads are orthonormal: the samples' own squared error
        assert error == pytest.approx(float(np.square(lacking).sum()), rel=1e-3)
        return exact, added / steps, wanted, saved


@pytest.mark.parametrize(
    ("name", "tune", "least"),
    # files of one kilobyte may cost a few bytes more, most of all under perceptual, whose trade is not that of the cost
    [
        ("photo", "psnr", 0.002),
        ("whole gray", "psnr", 0.002),
        ("alpha", "psnr", -0.005),
        ("whole photo", "perceptual", 0.002),
    ],
)
def test_a_file_costs_less_for_codes_that_heed_the_network(name: str, tune: str, least: float) -> None:
    for quality in (30, 65):
        heedful = Made.of(PICTURES[name], quality=quality, tune=tune)
        with blind_to_it(tune):
            blind = Made.of(PICTURES[name], quality=quality, tune=tune)
        assert heedful.cost() < blind.cost() - least * BIT * 8 * len(pack(blind.trial.stream))


@pytest.mark.parametrize("tune", ["psnr", "perceptual"])
@pytest.mark.parametrize("name", ["photo", "gray", "alpha"])
def test_targets_and_what_the_network_adds_are_the_exact_heads(name: str, tune: str) -> None:
    made = Made.of(PICTURES[name], tune=tune)
    exact, added, wanted, saved = made.targets()
    assert saved > 0
    assert np.abs(added).max() > 0.1
    # float32 heads of some tens of steps
    np.testing.assert_allclose(wanted + added, exact, atol=1e-4, rtol=0)


def test_a_network_that_harms_is_not_heeded(monkeypatch: pytest.MonkeyPatch) -> None:
    with blind_to_it("psnr"):
        blind = Made.of(COFFEE)
    residual = synthesis.residual
    monkeypatch.setattr(synthesis, "residual", lambda *a: -3 * residual(*a))
    exact, _, wanted, saved = (made := Made.of(COFFEE)).targets()
    assert saved < 0
    np.testing.assert_array_equal(wanted, exact)
    for codes, others in zip(made.trial.codes, blind.trial.codes, strict=True):
        np.testing.assert_array_equal(codes, others)


def test_the_size_of_blocks_decides_no_code(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Made.of(COFFEE, tune="perceptual")
    monkeypatch.setattr(bases, "BLOCK_VALUES", 1)  # a row of cells at a time
    monkeypatch.setattr(synthesis, "STRIP_ROWS", 16)
    for codes, others in zip(Made.of(COFFEE, tune="perceptual").trial.codes, whole.trial.codes, strict=True):
        np.testing.assert_array_equal(codes, others)


def test_codes_alone_are_chosen_as_without_the_network() -> None:
    """They have no later rounds to heed it in: effort 2, zstd."""
    for settings in ({"effort": 2}, {"entropy": "zstd"}):
        with blind_to_it("perceptual"):
            blind = inrcodec.encode(COFFEE, quality=45, **settings)
        assert inrcodec.encode(COFFEE, quality=45, **settings) == blind


@pytest.mark.parametrize("cells", [(3, 5), (65, 2)])  # one tile, and two
def test_a_round_more_is_the_next_round(cells: tuple[int, int]) -> None:
    layout = TensorLayout("heads", "cosine", 2, (4, 3), cells, dependent=True)
    weights = np.random.default_rng(6).laplace(0, 1.5, layout.shape).astype(np.float32)
    first = rate_optimal(weights, layout, 0.08, rounds=1)
    before = first.copy()
    second = reconsidered(first, weights, layout, 0.08)
    np.testing.assert_array_equal(second, rate_optimal(weights, layout, 0.08, rounds=2))
    np.testing.assert_array_equal(first, before)
    assert (second != first).any()
