"""Deltas of the synthesis network's last layer: closed form, each worth its bits, and exact as the network itself."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from command_line import Cli, ok
from format_field import changed
from inrcodec.formats.container import InrFile, pack
from PIL import Image
from regions import assert_regions_are_cuts
from tiny_files import FILES

import inrcodec
from inrcodec import api
from inrcodec.cost import DELTA_MACS, N_DELTAS, SYNTHESIS_MACS, macs_per_sample
from inrcodec.decoder import Decoder, digest
from inrcodec.entropy import TABLE_SETS, make_coder
from inrcodec.errors import FormatError
from inrcodec.fields import bases, cosine, deltas, make_field, synthesis
from inrcodec.fields.tuning import TUNINGS
from inrcodec.grid import Grid
from inrcodec.priors.synthesis import HIDDEN_LIMIT, INPUT_LIMIT, OUTPUT_UNIT, SHA256, bias_bound, network
from inrcodec.quantize import BIT
from inrcodec.render import widen_alpha
from inrcodec.settings import EncodeSettings
from inrcodec.stream import Stream, plan
from inrcodec.trial import Candidate, Trial

SAMPLES = Path(__file__).parent.parent / "samples"
NUMBER = TUNINGS["psnr"].synthesis
COFFEE = np.asarray(Image.open(SAMPLES / "coffee.png").convert("RGB"))[:349, :477]
OPTIONS = {"quality": 75, "tune": "psnr", "grid": "30x22"}  # a grid: no other cells are tried


@contextmanager
def no_deltas() -> Iterator[None]:
    with patch.object(cosine, "MIN_DELTA_SAMPLES", 2**60):
        yield


@contextmanager
def deltas_of_all() -> Iterator[None]:
    with patch.object(cosine, "MIN_DELTA_SAMPLES", 0):
        yield


@pytest.fixture(scope="module")
def plain() -> bytes:
    with no_deltas():
        return inrcodec.encode(COFFEE, **OPTIONS)


@pytest.fixture(scope="module")
def fitted() -> bytes:
    return inrcodec.encode(COFFEE, **OPTIONS)


def some_codes(seed: int, share: float = 0.02, largest: int = 6) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.where(rng.random(N_DELTAS) < share, rng.integers(-largest, largest + 1, N_DELTAS), 0).astype(np.int32)


def tried(picture: np.ndarray, tune: str = "psnr", quality: float = 75) -> Trial:
    """The picture as effort 5 has it, but for deltas, which it could have."""
    signal, settings = api.as_signal(picture), EncodeSettings(tune=tune, quality=quality)
    grid = Grid.fitting(signal.meta.shape)
    samples = widen_alpha(signal.samples, signal.meta)
    spec = replace(cosine.CosineField.plan_spec(signal.meta, grid, settings, samples), deltas=False)
    field = make_field(spec, signal.meta, grid)
    fit = field.fit(samples, settings, lambda _: None)
    return Trial.of(Candidate(field, fit), field.initial_step(fit, settings), signal, settings)


def found(trial: Trial) -> np.ndarray:
    field = make_field(replace(trial.field.spec, deltas=True), trial.field.signal, trial.field.grid)
    assert isinstance(field, cosine.CosineField)
    return field.fit_deltas(trial.candidate.fitted, trial.codes, trial.quantiser).ravel()


def with_deltas(data: bytes, codes: np.ndarray) -> bytes:
    """The file with these deltas, whatever it had."""
    read = InrFile.of_bytes(data).stream()
    spline, *_, heads = Decoder(read.header, max_samples=2**24).codes(read.payloads)
    header = replace(read.header, field=replace(read.header.field, synthesis=NUMBER, deltas=True))
    layouts = Decoder(header, max_samples=2**24).field.layouts
    everything = (spline, codes.reshape(layouts[1].shape), heads)
    payloads = make_coder(header.coder, TABLE_SETS[header.coder]).encode(
        everything, layouts, plan(layouts, header.levels)
    )
    return pack(Stream(header, tuple(payloads), digest(everything)))


# --- what codes mean


@pytest.mark.parametrize("number", sorted(set(SHA256) - {cosine.DETAIL}))
def test_codes_are_patterns_over_samples_and_taps(number: int) -> None:
    codes = some_codes(number)
    before, now = network(number).layers[-1], deltas.adapted(network(number), codes).layers[-1]
    np.testing.assert_array_equal(now.weights, changed(before.weights.tolist(), codes.tolist()))
    np.testing.assert_array_equal(now.bias, before.bias)


def test_without_codes_the_network_answers_as_ever() -> None:
    net, known = network(NUMBER), synthesis.facts(0.07, 0)[1:]
    x = np.random.default_rng(1).integers(-INPUT_LIMIT, INPUT_LIMIT + 1, (3, 40, 52)).astype(np.float32)
    none = deltas.adapted(net, np.zeros(N_DELTAS, np.int32))
    np.testing.assert_array_equal(synthesis.convolve(none, known, x), synthesis.convolve(net, known, x))
    assert none.macs == SYNTHESIS_MACS[NUMBER] + DELTA_MACS


def test_codes_fit_up_to_the_last_exact_sum() -> None:
    net = network(NUMBER)
    last = net.layers[-1]
    at = np.zeros(N_DELTAS, np.int32)

    def largest(k: int) -> float:
        """Of the outputs, by the slow formula; code 0 is the smooth pattern of the first filter, first colour."""
        at[0] = k
        w = np.abs(np.array(changed(last.weights.tolist(), at.tolist()), float)).sum((2, 3))
        return float((w[:, :16].sum(1) * HIDDEN_LIMIT + w[:, 16:].sum(1) * INPUT_LIMIT + bias_bound(last.bias)).max())

    for k in range(100, 1000):
        if largest(k) >= 2**24:
            assert not deltas.fit(net, at)
            at[0] = k - 1
            assert deltas.fit(net, at)
            return
    raise AssertionError("never reached")


@pytest.mark.parametrize("code", [2**30 - 1, -(2**30 - 1), 5000])
@pytest.mark.parametrize("at", [0, N_DELTAS - 1])
def test_deltas_beyond_exact_sums_are_format_errors(plain: bytes, code: int, at: int) -> None:
    codes = np.zeros(N_DELTAS, np.int32)
    codes[at] = code
    for data in (with_deltas(plain, codes), with_deltas(FILES["picture-zstd"], codes)):
        with pytest.raises(FormatError, match="deltas: sums"):
            api.open(data).decode()


# --- finding them


def test_a_file_has_deltas_that_pay(plain: bytes, fitted: bytes) -> None:
    was, now = api.open(plain).header, api.open(fitted).header
    assert (was.field.deltas, now.field.deltas) == (False, True)
    assert (now.cells, now.quantiser) == (was.cells, was.quantiser)
    squared = [10 ** (-h.quality_mdb / 10000) * COFFEE.size / (h.quantiser.steps[0] * 2**-24) ** 2 for h in (was, now)]
    saved, paid = squared[0] - squared[1], BIT * 8 * (len(fitted) - len(plain))
    assert saved > paid + 0.005 * BIT * 8 * len(plain)


def test_small_pictures_and_quick_efforts_have_none() -> None:
    assert not api.open(inrcodec.encode(COFFEE[:300, :300])).header.field.deltas
    for settings in ({"effort": 2}, {"entropy": "zstd"}, {"synthesis": "off"}):
        assert not api.open(inrcodec.encode(COFFEE, **settings)).header.field.deltas


def test_deltas_are_told(cli: Cli, fitted: bytes, plain: bytes) -> None:
    Path("fitted.inr").write_bytes(fitted)
    assert f"network {NUMBER} corrects the picture, fitted to it" in ok(cli("info fitted.inr")).out
    assert api.open(fitted).info()["deltas"]
    assert not api.open(plain).info()["deltas"]
    assert macs_per_sample(api.open(fitted).header) == macs_per_sample(api.open(plain).header) + DELTA_MACS


@pytest.mark.parametrize("tune", ["psnr", "perceptual"])
def test_the_gain_is_what_the_normal_equations_promise(tune: str) -> None:
    trial = tried(COFFEE, tune)
    codes = found(trial)
    assert np.count_nonzero(codes) > 5
    field = trial.field
    assert isinstance(field, cosine.CosineField)
    spec = replace(field.spec, deltas=True)
    other = make_field(spec, field.signal, field.grid)
    everything = (trial.codes[0], codes.reshape(other.layouts[1].shape), trial.codes[1])
    better = replace(trial, candidate=Candidate(other, trial.candidate.fitted), codes=everything)
    axes = [np.arange(n) + 0.5 for n in field.signal.shape]
    weights = field.dequantize(trial.codes, trial.quantiser)
    step = field.local_step(weights, axes)
    errors = []
    for t in (trial, better):
        assert isinstance(t.field, cosine.CosineField)
        corrected = t.field.correct(t.field.dequantize(t.codes, t.quantiser), axes, (1.0, 1.0))
        errors.append((sum(t.field.linear(corrected, axes, (1.0, 1.0))) - trial.candidate.fitted.samples) / step)
    squares = [float(np.square(e[:348, :476]).sum()) for e in errors]  # whole blocks
    gram, moments = gathered(trial)
    net = network(field.spec.synthesis)
    w = deltas.adapted(net, codes).layers[-1].weights.astype(float)
    w[:, :16] -= net.layers[-1].weights
    w *= np.repeat([256, 64], [16, 12])[:, None, None] / (OUTPUT_UNIT * 2.0 ** net.layers[-1].shift)
    w = w.reshape(12, -1).T
    promised = float((2 * moments * w).sum() - (w * (gram @ w)).sum())
    # answers are rounded to 1/64 step and heads are single precision
    assert squares[0] - squares[1] == pytest.approx(promised, rel=0.02)
    assert promised > BIT * np.count_nonzero(codes)


def gathered(trial: Trial) -> tuple[np.ndarray, np.ndarray]:
    """The normal equations, block by block."""
    field = trial.field
    assert isinstance(field, cosine.CosineField)
    net = network(field.spec.synthesis)
    weights = field.dequantize(trial.codes, trial.quantiser)
    h, w = (n // 2 * 2 for n in field.signal.shape)
    axes = [np.arange(n) + 0.5 for n in field.signal.shape]
    step = field.local_step(weights, axes)
    detail, _ = field.linear(weights, axes, (1.0, 1.0))
    spans = [(0, h), (0, w)]
    known = weights.condition
    corrected = sum(field.linear(field.correct(weights, axes, (1.0, 1.0)), axes, (1.0, 1.0)))
    lacking = ((trial.candidate.fitted.samples - corrected) / step)[:h, :w]
    filters, inputs = synthesis.hidden(net, known, spans, field.signal.shape, detail / step)
    gram, moments = np.zeros((252, 252)), np.zeros((252, 12))
    for i, j in itertools.product(range(h // 2), range(w // 2)):
        near = [(filters[:, i : i + 3, j : j + 3] / 256).ravel(), (inputs[:, i : i + 3, j : j + 3] / 64).ravel()]
        features = np.concatenate(near)
        gram += np.outer(features, features)
        here = lacking[2 * i : 2 * i + 2, 2 * j : 2 * j + 2]
        moments += np.outer(features, [here[p // 2, p % 2, c] for c in range(3) for p in range(4)])
    return gram, moments


def test_deltas_that_made_a_picture_are_found_again() -> None:
    """A field that lacks just what some deltas add: they are all there is to find."""
    net, rng = network(NUMBER), np.random.default_rng(5)
    wanted = some_codes(6, share=0.01, largest=40)
    x = np.clip(rng.normal(0, 100, (3, 252, 292)).round(), -INPUT_LIMIT, INPUT_LIMIT).astype(np.float32)
    known, shape = synthesis.facts(0.07, 0)[1:], (240, 280)
    spans = [(0, 240), (0, 280)]
    scaled = np.moveaxis(x[:, 6:-6, 6:-6], 0, -1) / 64.0
    y = [
        synthesis.residual(n, known, spans, shape, lambda _: (scaled, np.ones((240, 280, 1))))
        for n in (net, deltas.adapted(net, wanted))
    ]
    evidence = deltas.Evidence.none(net)
    evidence.add(*synthesis.hidden(net, known, spans, shape, scaled), (y[1] - y[0]).astype(np.float32))
    codes = deltas.choose(net, evidence, np.full(4, BIT))
    again = synthesis.residual(
        deltas.adapted(net, codes), known, spans, shape, lambda _: (scaled, np.ones((240, 280, 1)))
    )
    assert np.square(again - y[1]).mean() < 0.01 * np.square(y[0] - y[1]).mean()
    assert deltas.choose(net, evidence, np.full(4, 1e9)).any() == False  # noqa: E712 (bits that nothing pays)


def test_noise_has_no_deltas() -> None:
    """What no filter foretells costs more bits than it saves."""
    net, rng = network(NUMBER), np.random.default_rng(7)
    scaled = rng.normal(0, 1, (120, 160, 3))
    evidence = deltas.Evidence.none(net)
    seen = synthesis.hidden(net, synthesis.facts(0.07, 0)[1:], [(0, 120), (0, 160)], (120, 160), scaled)
    evidence.add(*seen, rng.normal(0, 0.3, (120, 160, 3)).astype(np.float32))
    assert np.count_nonzero(deltas.choose(net, evidence, np.full(4, BIT))) <= 3


def test_the_size_of_strips_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    trial = tried(COFFEE)
    whole = found(trial)
    monkeypatch.setattr(deltas, "PIECE", (3, 17))
    monkeypatch.setattr(bases, "BLOCK_VALUES", 1)
    monkeypatch.setattr(synthesis, "STRIP_ROWS", 33)
    np.testing.assert_array_equal(found(trial), whole)


@pytest.mark.parametrize("shape", [(1, 40), (40, 1), (17, 33), (2, 50)])
def test_odd_sizes_may_look_for_them(shape: tuple[int, int]) -> None:
    picture = COFFEE[: shape[0], : shape[1]]
    assert found(tried(picture, quality=60)).shape == (N_DELTAS,)
    with deltas_of_all():
        data = inrcodec.encode(picture, quality=60)
    assert api.open(data).decode().shape == picture.shape


def test_a_single_cell_has_no_deltas() -> None:
    """For it has no smooth level, and so no network."""
    with deltas_of_all():
        assert not api.open(inrcodec.encode(COFFEE[:2, :2])).header.field.deltas


def test_gray_pictures_have_deltas_of_their_one_colour() -> None:
    codes = found(tried(np.asarray(Image.open(SAMPLES / "camera.png"))[:400, :400]))
    assert codes.any()
    assert (np.flatnonzero(codes) % 12).max() < 4


# --- decoding


@pytest.mark.parametrize("scale", [1.0, 2.0, 0.5, 0.4])
def test_a_region_is_a_cut_from_the_whole_with_deltas(fitted: bytes, scale: float) -> None:
    assert_regions_are_cuts(api.open(fitted), scale)


def test_deltas_change_what_the_network_does_and_nothing_else(fitted: bytes) -> None:
    none = with_deltas(fitted, np.zeros(N_DELTAS, np.int32))
    for scale in (1.0, 2.0):
        assert (api.open(fitted).decode(scale=scale) != api.open(none).decode(scale=scale)).any()
    np.testing.assert_array_equal(api.open(fitted).decode(scale=0.4), api.open(none).decode(scale=0.4))
    read = InrFile.of_bytes(none).stream()
    without = replace(read.header, field=replace(read.header.field, deltas=False))
    spline, _, heads = Decoder(read.header, max_samples=2**24).codes(read.payloads)
    layouts = Decoder(without, max_samples=2**24).field.layouts
    payloads = make_coder("range", TABLE_SETS["range"]).encode((spline, heads), layouts, plan(layouts, without.levels))
    plain = pack(Stream(without, tuple(payloads), digest((spline, heads))))
    np.testing.assert_array_equal(api.open(none).decode(), api.open(plain).decode())


def test_alpha_is_left_alone() -> None:
    data = inrcodec.encode(SAMPLES / "cat-alpha.png", quality=40)
    none = api.open(with_deltas(data, np.zeros(N_DELTAS, np.int32))).decode()
    some = api.open(with_deltas(data, some_codes(2, largest=9))).decode()
    np.testing.assert_array_equal(some[..., 3], none[..., 3])
    assert (some[..., :3] != none[..., :3]).any()


def test_the_same_picture_has_the_same_deltas(fitted: bytes) -> None:
    assert inrcodec.encode(COFFEE, **OPTIONS) == fitted
