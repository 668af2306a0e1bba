"""Claims about shifts: any come back, they change no code, save more than they cost, and hostile ones do no harm."""

from __future__ import annotations

import numpy as np
import pytest
from format_reader import decode
from inrcodec.formats.container import InrFile

import inrcodec
from inrcodec.decoder import Decoder
from inrcodec.entropy import context
from inrcodec.entropy.learned import LARGEST_SHIFT, OF_SHIFTS, LearnedTile
from inrcodec.entropy.range_coder import RangeCoder
from inrcodec.entropy.shifts import best_shifts
from inrcodec.priors.networks import context_networks
from inrcodec.priors.tables import starting_counts
from inrcodec.quantize import rate_optimal
from inrcodec.stream import TensorLayout, plan

SHAPE = (3, 8, 8, 10, 12)
LAYOUT_OF_FEW = TensorLayout("heads", "cosine", 3, (8, 8), (2, 2), dependent=True)
LAYOUT = TensorLayout("heads", "cosine", SHAPE[0], SHAPE[1:3], SHAPE[3:], dependent=True)


def strange_codes() -> np.ndarray:
    """Large at two frequencies where photos are small, and the other way round: no network expects that."""
    weights = np.random.default_rng(5).laplace(0, 1.0, SHAPE).astype(np.float32)
    u, v = np.indices(SHAPE[1:3])
    weights *= np.exp(-0.3 * (u + v))[:, :, None, None]
    weights[:, 5, 2] *= 8
    weights[0, 0, 1] = 0
    return rate_optimal(weights, LAYOUT, 0.08)


def found(codes: np.ndarray) -> np.ndarray:
    networks = context_networks()
    counts = starting_counts("learned")
    return best_shifts(codes, None, networks.magnitudes, networks.signs, counts=counts)


def size_and_back(codes: np.ndarray, levels: tuple[int, ...] = ()) -> tuple[int, np.ndarray]:
    """Bytes, and the codes that are read from them."""
    coder, chunks = RangeCoder(starting_counts, context_networks), plan((LAYOUT,), levels)
    payloads = coder.encode([codes], [LAYOUT], chunks)
    return sum(map(len, payloads)), coder.decode(payloads, [LAYOUT], chunks)[0]


@pytest.mark.parametrize("levels", [(), (3, 9)])
def test_codes_come_back_under_any_shifts(monkeypatch: pytest.MonkeyPatch, levels: tuple[int, ...]) -> None:
    codes = strange_codes()
    rng = np.random.default_rng(1)
    some = rng.integers(-LARGEST_SHIFT, LARGEST_SHIFT + 1, SHAPE[:3]).astype(np.int8)
    monkeypatch.setattr(context, "best_shifts", lambda *_, **__: some)
    np.testing.assert_array_equal(size_and_back(codes, levels)[1], codes)


def test_a_decoder_written_from_the_text_reads_any_shifts(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    picture = (128 + np.clip(np.cumsum(rng.normal(0, 6, (20, 24, 3)), 1), -120, 120)).astype(np.uint8)

    def any_shifts(codes: np.ndarray, *_: object, **__: object) -> np.ndarray:
        return rng.integers(-LARGEST_SHIFT, LARGEST_SHIFT + 1, codes.shape[:3]).astype(np.int8)

    monkeypatch.setattr(context, "best_shifts", any_shifts)
    data = inrcodec.encode(picture, grid="3x2", quality=80, entropy="range")
    stream = InrFile.of_bytes(data).stream()
    decoder = Decoder(stream.header, max_samples=2**16)
    assert decoder.field.layouts[-1].dependent
    for ours, theirs in zip(decoder.codes(stream.payloads), decode(data), strict=True):
        np.testing.assert_array_equal(theirs, ours)


def test_small_tiles_pay_for_no_shifts() -> None:
    """A few cells cannot save what a hundred zeros cost."""
    few = rate_optimal(np.random.default_rng(3).laplace(0, 1, (3, 8, 8, 2, 2)).astype(np.float32), LAYOUT_OF_FEW, 0.08)
    assert not found(few).any()


def test_shifts_save_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    codes = strange_codes()
    shifts = found(codes)
    assert shifts[:, 5, 2].max() > 4, "larger codes than expected"
    assert shifts[0, 0, 1] < -4, "smaller ones"
    assert np.count_nonzero(shifts) < shifts.size // 4, "and few elsewhere"
    ours, read = size_and_back(codes)
    np.testing.assert_array_equal(read, codes)
    monkeypatch.setattr(context, "best_shifts", lambda *_, **__: np.zeros(SHAPE[:3], np.int8))
    assert ours < 0.99 * size_and_back(codes)[0]


def test_nothing_to_shift_is_no_shift() -> None:
    assert not found(np.zeros(SHAPE, np.int32)).any()


def test_looking_leaves_codes_alone() -> None:
    codes = strange_codes()
    before = codes.copy()
    found(codes)
    np.testing.assert_array_equal(codes, before)


def test_an_index_that_no_writer_writes_is_the_largest_shift() -> None:
    networks = context_networks()
    shifts = np.zeros(SHAPE[:3], np.int8)

    def hostile(contexts: np.ndarray, values: np.ndarray) -> np.ndarray:
        return np.full_like(values, 2**30 - 1) if len(contexts) and contexts[0] == OF_SHIFTS else values

    tile = LearnedTile(
        np.zeros(SHAPE, np.int32), None, networks.magnitudes, networks.signs, dependent=True, shifts=shifts
    )
    tile.run(0, 2, np.array([2, 2, 0]), hostile)
    assert (shifts[:2, 0, 0] == -LARGEST_SHIFT).all()
    assert not shifts[2].any(), "past its stop"


def test_codes_that_are_not_dependent_have_none() -> None:
    layout = TensorLayout("heads", "cosine", SHAPE[0], SHAPE[1:3], SHAPE[3:])
    codes = rate_optimal(np.random.default_rng(5).laplace(0, 1.0, SHAPE).astype(np.float32), layout, 0.08)
    networks, seen = context_networks(), []

    def code(contexts: np.ndarray, values: np.ndarray) -> np.ndarray:
        seen.append(contexts)
        return values

    context.open_tile(
        codes, layout, plan((layout,), ())[0][0], lambda: networks, counts=starting_counts("learned")
    ).run(0, 15, np.full(3, 15), code)
    assert seen
    assert not any((contexts == OF_SHIFTS).any() for contexts in seen)
