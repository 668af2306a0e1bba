"""The synthesis network: exact in whole numbers, one function everywhere, and kept only where it helps."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from inrcodec.formats.container import InrFile, pack
from PIL import Image
from regions import assert_regions_are_cuts

import inrcodec
from inrcodec import api, render
from inrcodec.cost import DETAIL_MACS, SYNTHESIS_MACS
from inrcodec.decoder import Decoder
from inrcodec.errors import UnsupportedError
from inrcodec.fields import bases, correction, cosine, synthesis
from inrcodec.fields.correction import CosineWeights
from inrcodec.fields.tuning import TUNINGS
from inrcodec.priors import synthesis as shipped
from inrcodec.priors.synthesis import network
from inrcodec.settings import DecodeSettings

SAMPLES = Path(__file__).parent.parent / "samples"
NUMBER = TUNINGS["psnr"].synthesis
COFFEE = np.asarray(Image.open(SAMPLES / "coffee.png").convert("RGB"))[101:290, 180:371]
NETWORKS = [network(n) for n in sorted(shipped.SHA256)]


def forced(data: bytes, number: int, detail: int = 0) -> bytes:
    """The same file with these networks: an encoder might have left them out."""
    stream = InrFile.of_bytes(data).stream()
    field = replace(stream.header.field, synthesis=number, detail=detail)
    return pack(replace(stream, header=replace(stream.header, field=field)))


@pytest.fixture(scope="module")
def picture() -> bytes:
    return forced(inrcodec.encode(COFFEE, quality=30, grid="12"), NUMBER)


@pytest.fixture(scope="module")
def detailed(picture: bytes) -> bytes:
    return forced(picture, NUMBER, cosine.DETAIL)


def slow_surroundings(x: np.ndarray, per_channel: int) -> np.ndarray:
    """Of blocks [3 · per_channel, h, w], as FORMAT.md has it."""
    first, others = np.abs(x[:per_channel]).sum(0), np.abs(x[per_channel:]).sum(0)
    found = []
    for sizes, r in ((first, 3), (first, 6), (others, 6)):
        box = sizes[6 - r : len(sizes) - 6 + r, 6 - r : sizes.shape[1] - 6 + r]
        means = np.lib.stride_tricks.sliding_window_view(box, (2 * r + 1, 2 * r + 1)).sum((2, 3)) // (2 * r + 1) ** 2
        found.append(np.vectorize(lambda m: 8 * (((1 + min(int(m), 4095)) ** 8).bit_length() - 1))(means))
    return np.array(found)


@pytest.mark.parametrize("scale", [1, 20])
def test_surroundings_are_the_logarithms_of_mean_sizes(scale: int) -> None:
    x = np.random.default_rng(0).integers(-767 // scale, 768 // scale, (12, 17, 20)).astype(np.float32)
    x[:, :8] //= 16
    np.testing.assert_array_equal(synthesis.surroundings(x, 2), slow_surroundings(x.astype(int), 4))


def test_enlarging_keeps_means_and_straight_lines_nearly() -> None:
    np.testing.assert_allclose(synthesis.enlarged(np.full((9, 12, 2), 0.7)), np.full((6, 12, 2), 0.7), atol=1e-15)
    x = np.zeros((16, 16))
    x[8, 8] = 1
    large = synthesis.enlarged(x)  # its first sample is the first half of sample 3
    assert large.sum() == pytest.approx(4)
    np.testing.assert_allclose(large, large.T, atol=1e-15)
    assert large[10:12, 10:12].min() == pytest.approx((229 / 256) ** 2)
    line = synthesis.enlarged(np.arange(12.0)[:, None] * np.ones((1, 7)))[:, 0]
    np.testing.assert_allclose(line, np.arange(12) / 2 + 2.75, atol=0.02)


def test_from_twice_the_samples_on_a_picture_is_that_of_its_samples_enlarged(
    detailed: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But for what the network adds, which is nothing here."""
    net = network(cosine.DETAIL)
    last = net.layers[-1]
    mute = replace(net, layers=(*net.layers[:-1], replace(last, weights=0 * last.weights, bias=0 * last.bias)))
    monkeypatch.setattr(correction, "network", lambda n: mute if n == cosine.DETAIL else network(n))
    decoder, weights = decoded(detailed)
    field, shape = decoder.field, COFFEE.shape[:2]
    everywhere = [np.array([0.0, n]) for n in shape]
    own, _ = field.linear(
        field.correct(weights, everywhere, (1.0, 1.0)), [np.arange(n) + 0.5 for n in shape], (1.0, 1.0)
    )
    axes = [(np.arange(2 * n) + 0.5) / 2 for n in shape]
    found, _ = field.linear(field.correct(weights, everywhere, (2.0, 2.0)), axes, (2.0, 2.0))
    wanted = synthesis.enlarged(np.pad(own, [(3, 3), (3, 3), (0, 0)], mode="edge"))
    np.testing.assert_allclose(found, wanted, atol=2e-5)


@pytest.mark.parametrize("net", NETWORKS)
def test_a_network_answers_as_the_slow_obvious_convolution_does(net: shipped.Network) -> None:
    rng = np.random.default_rng(len(net.layers[-1].weights))
    b, known = net.block, synthesis.facts(0.07, 112)[1:]
    size = 2 * net.margin + 4 * b
    x = rng.integers(-shipped.INPUT_LIMIT, shipped.INPUT_LIMIT + 1, (3, size, size + 2 * b))
    rows, columns, chroma = np.arange(size)[:, None], np.arange(size + 2 * b), np.arange(3)[:, None, None] > 0
    x >>= (rows // 7 + columns // 9 + 2 * chroma) % 8  # busy here and quiet there, or all surroundings were alike
    h = np.array([x[c, i::b, j::b] for c in range(3) for i in range(b) for j in range(b)])
    edge = len(net.layers) - 1
    if net.reach:
        seen = h[:, net.reach : -net.reach, net.reach : -net.reach]
        h = np.concatenate([seen, slow_surroundings(h, b**2)])
    inputs = h[: 3 * b**2, edge:-edge, edge:-edge]
    for layer in net.layers:
        taps = layer.weights.shape[1]
        if taps > len(h):
            h = np.concatenate([h, inputs])
        h, there = h[:taps], h[taps:, 1:-1, 1:-1]
        w, bias = layer.weights.astype(np.int64), np.rint(layer.bias @ known).astype(np.int64)
        n = [h.shape[1] - 2, h.shape[2] - 2]
        y = np.einsum("oi,ihw->ohw", layer.centre.astype(np.int64), there) + bias[:, None, None]
        for s in range(3):
            for t in range(3):
                y += np.einsum("oi,ihw->ohw", w[:, :, s, t], h[:, s : s + n[0], t : t + n[1]])
        y = np.floor_divide(y + 2 ** (layer.shift - 1), 2**layer.shift)
        h = np.clip(y, layer.low.astype(np.int64)[..., None], layer.high.astype(np.int64)[..., None])
        if layer.gated:
            y, factor = np.split(h, 2)
            h = (2 * y * factor + shipped.HIDDEN_UNIT) // (2 * shipped.HIDDEN_UNIT)
    got = synthesis.convolve(net, known, x.astype(np.float32))
    b *= net.times
    for c in range(3):
        for i in range(b):
            for j in range(b):
                np.testing.assert_array_equal(got[c, i::b, j::b], h[b * b * c + b * i + j])


@pytest.mark.parametrize("net", NETWORKS)
def test_no_sum_leaves_what_float32_holds_exactly(net: shipped.Network) -> None:
    limit = shipped.INPUT_LIMIT
    for layer in net.layers:
        assert np.array_equal(layer.taps, np.rint(layer.taps))
        sums = np.abs(layer.taps).sum(1, dtype=np.float64) * limit + shipped.bias_bound(layer.bias)
        assert sums.max() < 2**24
        limit = layer.high.max()
    if net.times == 1:  # room for a file's deltas
        assert sums.max() < 0.6 * 2**24


@pytest.mark.parametrize("number", sorted(shipped.SHA256))
def test_networks_cost_what_is_said(number: int) -> None:
    assert network(number).macs == (DETAIL_MACS if number == cosine.DETAIL else SYNTHESIS_MACS[number])


@pytest.mark.parametrize("step", [2.0**-24, 1e-3, 0.1, 256.0, 2.0**20])
@pytest.mark.parametrize("slope", [0, 112, 1023])
def test_facts_stay_inside_the_bounds_that_sums_are_checked_by(step: float, slope: int) -> None:
    assert (np.abs(synthesis.facts(step, slope)[1:]) <= shipped.FACT_LIMITS).all()


@pytest.mark.parametrize("scale", [1.3, 2.5, 7.0])
@pytest.mark.parametrize("grid", ["25x33", "34x20"])  # cells of one sample and two
def test_regions_are_cuts_from_the_whole_whatever_the_cells(grid: str, scale: float) -> None:
    deep = COFFEE[:34, :51].astype(np.uint16) * 257  # 16 bits tell apart what 8 hide
    data = inrcodec.encode(deep, grid=grid, quality=60)
    assert_regions_are_cuts(api.open(forced(data, NUMBER, cosine.DETAIL)), scale)


@pytest.mark.parametrize("scale", [1.0, 1.3, 2.0, 3.0, 0.5, 0.4, 0.1])
def test_a_region_is_a_cut_from_the_whole_with_the_networks_on(detailed: bytes, scale: float) -> None:
    assert_regions_are_cuts(api.open(detailed), scale)


def decoded(data: bytes) -> tuple[Decoder, CosineWeights]:
    stream = InrFile.of_bytes(data).stream()
    decoder = Decoder(stream.header, max_samples=2**24)
    return decoder, decoder.weights(decoder.codes(stream.payloads))


def everywhere(decoder: Decoder) -> list[np.ndarray]:
    return [np.arange(n) + 0.5 for n in decoder.header.signal.shape]


def test_a_region_needs_no_cell_beyond_those_it_asks_for(detailed: bytes) -> None:
    decoder, weights = decoded(detailed)
    some_region = ((41, 50), (30, 61))
    # below a quarter the picture is rendered at a multiple of the scale; the network is left out by the scale itself
    for scale, region in ((1.0, some_region), (2.0, some_region), (0.5, some_region), (0.24, ((10, 12), (7, 15)))):
        settings = DecodeSettings(scale=scale, region=region)
        axes = [np.array([a / scale, b / scale]) for a, b in settings.region or ()]
        cells = decoder.field.cells_for(axes, (scale, scale))
        heads = np.full_like(weights.heads, np.nan)
        at = (..., *(slice(a, b) for a, b in cells))
        heads[at] = weights.heads[at]
        assert cells != tuple((0, m) for m in decoder.header.cells)
        some, _ = decoder.render(replace(weights, heads=heads), settings)
        np.testing.assert_array_equal(some, decoder.render(weights, settings)[0])


@pytest.mark.parametrize(("scale", "at_samples"), [(1.0, True), (1.0, False), (0.6, True)])
def test_heads_take_up_the_residual_at_every_sample(picture: bytes, scale: float, at_samples: bool) -> None:
    """Whether it is added to the samples asked for or goes through the heads."""
    decoder, weights = decoded(picture)
    field, axes, one = decoder.field, everywhere(decoder), (1.0, 1.0)
    assert isinstance(field, cosine.CosineField)
    before = copy.deepcopy(weights)
    ends = [np.array([0.0, len(x)]) for x in axes]
    corrected = field.correct(weights, axes if at_samples else ends, (scale, scale))
    assert (corrected.heads is weights.heads) == (corrected.detail is not None) == (at_samples and scale == 1)
    detail, smooth = field.linear(weights, axes, one)
    spans = [(0, len(x)) for x in axes]
    step = field.local_step(weights, axes)
    residual = synthesis.residual(network(NUMBER), weights.condition, spans, detail.shape[:2], lambda _: (detail, step))
    assert np.abs(residual).max() > 0.01
    # heads are single precision: 24 bits, in the sums of two cells per axis
    np.testing.assert_allclose(sum(field.linear(corrected, axes, one)), detail + smooth + residual, atol=1e-6, rtol=0)
    for name, was in vars(before).items():
        np.testing.assert_array_equal(was, getattr(weights, name))
    assert field.correct(corrected, axes, one) is corrected


def test_the_size_of_blocks_does_not_matter(detailed: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = {scale: api.open(detailed).decode(scale=scale) for scale in (1.0, 1.5, 0.5)}
    monkeypatch.setattr(bases, "BLOCK_VALUES", 1)  # a row of cells at a time
    monkeypatch.setattr(render, "BLOCK_VALUES", 5000)
    monkeypatch.setattr(render, "BAND_VALUES", 30_000)
    for scale, values in whole.items():
        np.testing.assert_array_equal(api.open(detailed).decode(scale=scale), values)


def test_detail_is_added_above_scale_1_only_and_its_samples_are_those_of_its_function(
    picture: bytes, detailed: bytes
) -> None:
    off, on = api.open(picture), api.open(detailed)
    for scale in (0.5, 1.0):
        np.testing.assert_array_equal(on.decode(scale=scale), off.decode(scale=scale))
    differ = [np.abs(on.decode(scale=s).astype(int) - off.decode(scale=s)).mean() for s in (1.01, 1.5, 2.0)]
    assert 0 < differ[0] < 0.1 < differ[1] < differ[2]
    # one axis as it is: nothing finer is asked for
    h, w = COFFEE.shape[:2]
    np.testing.assert_array_equal(on.decode(size=(2 * w, h)), off.decode(size=(2 * w, h)))
    for scale in (2, 3):  # sizes that are not rounded
        whole = on.decode(scale=scale)
        points = np.random.default_rng(0).integers(0, whole.shape[:2], (60, 2))
        at = (points + 0.5) * COFFEE.shape[:2] / whole.shape[:2]
        values = on.sample(at, scale=scale)
        np.testing.assert_array_equal(np.rint(np.clip(values, 0, 1) * 255), whole[points[:, 0], points[:, 1]])
    with pytest.raises(ValueError, match="1 or more"):
        on.sample(np.zeros((1, 2)), scale=0.5)


def test_twice_the_samples_are_nearer_to_the_picture_with_detail_than_without_or_by_lanczos() -> None:
    """On a photo the networks have not seen, halved as cameras do it: by averaging."""
    original = Image.open(SAMPLES / "coffee.png").convert("RGB")
    half = original.resize((original.width // 2, original.height // 2), Image.Resampling.BOX)
    data = inrcodec.encode(half, quality=90)
    field = api.open(data).header.field
    assert field.detail == cosine.DETAIL

    def error(values: np.ndarray) -> float:
        size = 2 * half.height, 2 * half.width
        return float(np.mean((values[: size[0], : size[1]] - np.asarray(original, float)[: size[0], : size[1]]) ** 2))

    with_detail = error(api.open(data).decode(scale=2).astype(float))
    without = error(api.open(forced(data, field.synthesis)).decode(scale=2).astype(float))
    shown = Image.fromarray(api.open(data).decode())
    lanczos = error(np.asarray(shown.resize((2 * half.width, 2 * half.height), Image.Resampling.LANCZOS), float))
    assert with_detail < 0.93 * min(without, lanczos)


def test_networks_of_the_wrong_kind_are_refused(picture: bytes) -> None:
    for synthesis_number, detail in ((cosine.DETAIL, 0), (NUMBER, NUMBER), (NUMBER, 60000)):
        with pytest.raises(UnsupportedError, match="network"):
            api.open(forced(picture, synthesis_number, detail)).decode()


def test_thumbnails_do_without_the_network(picture: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> None:
        raise AssertionError("the network was asked")

    whole = api.open(picture).decode(scale=0.44)
    np.testing.assert_array_equal(whole, api.open(forced(picture, 0)).decode(scale=0.44))
    monkeypatch.setattr(synthesis, "convolve", never)
    for scale in (0.44, 0.24, 0.1):  # 0.24 is rendered at 0.48
        api.open(picture).decode(scale=scale)
    with pytest.raises(AssertionError, match="was asked"):
        api.open(picture).decode(scale=0.46)


def test_the_function_is_corrected_once(picture: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    convolve = synthesis.convolve
    monkeypatch.setattr(synthesis, "convolve", lambda *a: calls.append(1) or convolve(*a))
    file = api.open(picture)
    first = file.sample(np.array([[3.3, 4.4]]))
    np.testing.assert_array_equal(file.sample(np.array([[3.3, 4.4]])), first)
    assert len(calls) == 1


def test_scattered_positions_have_the_values_of_the_lattice(picture: bytes) -> None:
    file = api.open(picture)
    for scale in (1, 2):  # without detail one function serves both
        whole = file.decode(scale=scale)
        points = np.random.default_rng(0).integers(0, whole.shape[:2], (60, 2))
        values = file.sample((points + 0.5) / scale)
        np.testing.assert_array_equal(np.rint(np.clip(values, 0, 1) * 255), whole[points[:, 0], points[:, 1]])
    assert file.sample(np.zeros((0, 2))).shape == (0, 3)


def test_the_network_changes_what_is_decoded_at_every_scale_and_not_the_codes(picture: bytes) -> None:
    plain = api.open(forced(picture, 0))
    for scale in (1.0, 2.0, 0.6):
        assert (api.open(picture).decode(scale=scale) != plain.decode(scale=scale)).any()
    assert InrFile.of_bytes(picture).stream().payloads == InrFile.of_bytes(forced(picture, 0)).stream().payloads


@pytest.mark.parametrize("tune", ["psnr", "perceptual"])
def test_a_picture_is_never_worse_for_the_network(tune: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 50, 3)).astype(np.uint8)
    for source, quality in ((COFFEE, 25), (COFFEE, 98), (noise, 75)):
        auto = api.open(inrcodec.encode(source, quality=quality, tune=tune)).header
        off = api.open(inrcodec.encode(source, quality=quality, tune=tune, synthesis="off")).header
        assert off.field.synthesis == 0
        assert auto.quality_mdb >= off.quality_mdb


def test_a_network_that_harms_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    net, detail = network(NUMBER), network(cosine.DETAIL)
    bad = replace(net.layers[-1], bias=net.layers[-1].bias + np.eye(5)[0] * 2**20)  # everything brighter
    spoilt = replace(net, layers=(*net.layers[:-1], bad))
    monkeypatch.setattr(correction, "network", lambda n: detail if n == cosine.DETAIL else spoilt)
    header = api.open(inrcodec.encode(COFFEE, quality=40)).header
    off = api.open(inrcodec.encode(COFFEE, quality=40, synthesis="off")).header
    assert (replace(header.field, detail=0), header.quality_mdb) == (off.field, off.quality_mdb)


def test_photos_are_better_for_the_network() -> None:
    for tune in ("psnr", "perceptual"):
        auto = api.open(inrcodec.encode(COFFEE, quality=40, tune=tune)).header
        off = api.open(inrcodec.encode(COFFEE, quality=40, tune=tune, synthesis="off")).header
        assert auto.quality_mdb >= off.quality_mdb + 50  # a twentieth of a decibel at the very least


def test_gray_pictures_and_alpha_go_through_it() -> None:
    gray = forced(inrcodec.encode(np.asarray(Image.open(SAMPLES / "camera.png"))[:300, :300], quality=40), NUMBER)
    assert (api.open(gray).decode() != api.open(forced(gray, 0)).decode()).any()
    alpha = forced(inrcodec.encode(SAMPLES / "cat-alpha.png", quality=40), NUMBER)
    with_it, without = api.open(alpha).decode(), api.open(forced(alpha, 0)).decode()
    np.testing.assert_array_equal(with_it[..., 3], without[..., 3])
    assert (with_it[..., :3] != without[..., :3]).any()


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (2, 3), (33, 17)])
def test_odd_sizes_go_through_it(shape: tuple[int, int]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (*shape, 3)).astype(np.uint8)
    data = inrcodec.encode(noise, quality=60)
    if api.open(data).header.field.pitch:
        data = forced(data, NUMBER)
        assert api.open(data).decode().shape == noise.shape
        assert api.open(data).decode(scale=3).shape == (3 * shape[0], 3 * shape[1], 3)


def test_a_network_of_the_future_is_refused(picture: bytes) -> None:
    with pytest.raises(UnsupportedError, match="synthesis network 999"):
        api.open(forced(picture, 999)).decode()


def test_a_damaged_network_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(shipped.SHA256, NUMBER, "0" * 64)
    with pytest.raises(RuntimeError, match="reinstall"):
        network.__wrapped__(NUMBER)


def test_sounds_and_arrays_have_no_network() -> None:
    tone = np.sin(np.arange(4000) / 9).astype(np.float32)
    assert api.open(inrcodec.encode(tone, sample_rate_hz=8000)).header.field.synthesis == 0
    assert api.open(inrcodec.encode(np.outer(tone[:40], tone[:50]))).header.field.synthesis == 0


def test_one_row_of_large_cells_is_seen_in_strips(monkeypatch: pytest.MonkeyPatch) -> None:
    picture = np.random.default_rng(3).integers(0, 256, (300, 40, 3), np.uint8)
    data = inrcodec.encode(picture, grid="1x2", quality=40)
    whole = {scale: inrcodec.open(data).decode(scale=scale) for scale in (1, 2)}
    monkeypatch.setattr(bases, "BLOCK_VALUES", 1)
    monkeypatch.setattr(synthesis, "STRIP_ROWS", 16)
    for scale, values in whole.items():
        np.testing.assert_array_equal(inrcodec.open(data).decode(scale=scale), values)
    some = inrcodec.open(data).decode(region=(3, 41, 30, 77))
    np.testing.assert_array_equal(some, whole[1][41:118, 3:33])
