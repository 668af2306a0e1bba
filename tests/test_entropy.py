"""Entropy coding: what the coders write they read back, exactly, on every machine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import inrcodec
from inrcodec.entropy import CODERS, TABLE_SETS, make_coder, range_coder, range_stream
from inrcodec.entropy.alphabet import N_SYMBOLS, merge, n_extra_bits, split
from inrcodec.entropy.base import valid_codes
from inrcodec.entropy.context import _from_residual, _prediction, _to_residual
from inrcodec.entropy.tables import AdaptiveTables
from inrcodec.errors import FormatError, UnsupportedError
from inrcodec.grid import Grid
from inrcodec.stream import MAX_CODE, Part, TensorLayout, plan, tiles

SAMPLES = Path(__file__).parent.parent / "samples"


def heads(shape: tuple[int, ...], cells: tuple[int, ...], channels: int = 1) -> TensorLayout:
    grid = Grid.uniform(shape, cells)
    return TensorLayout("heads", "cosine", channels, grid.largest, grid.cells, grid.sizes)


def spline(knots: tuple[int, ...], channels: int = 1) -> TensorLayout:
    return TensorLayout("spline", "smooth", channels, (), knots)


def plain(n: int, cells: tuple[int, ...], bands: tuple[int, ...] = ()) -> TensorLayout:
    return TensorLayout("heads", "plain", 1, (n,), cells, bands=bands)


def random_codes(layout: TensorLayout, seed: int, *, size: float = 3.0) -> np.ndarray:
    """Laplacian codes that fall off with frequency; 0 where the layout has none."""
    rng = np.random.default_rng(seed)
    codes = rng.laplace(size=layout.shape) * size
    for d, f in enumerate(layout.frequencies):
        fall = 1 / (1 + np.arange(f))
        codes *= fall.reshape(-1, *(1,) * (codes.ndim - 2 - d))
    return existing(np.rint(codes).astype(np.int32), layout)


def existing(codes: np.ndarray, layout: TensorLayout) -> np.ndarray:
    """Codes with those that do not exist set to 0."""
    mask = valid_codes(layout, Part(0, tuple((0, n) for n in layout.cells), 0, layout.n_diagonals))
    return codes if mask is None else np.where(mask, codes, 0).astype(np.int32)


def check_round_trip(
    name: str, codes: Sequence[np.ndarray], layouts: tuple[TensorLayout, ...], levels: tuple[int, ...] = ()
) -> list[bytes]:
    """Encode and decode; asserts that nothing changed. -> the payloads."""
    chunks, before = plan(layouts, levels), [c.copy() for c in codes]
    payloads = make_coder(name, TABLE_SETS[name]).encode(codes, layouts, chunks)
    decoded = make_coder(name, TABLE_SETS[name]).decode(payloads, layouts, chunks)
    for code, given_, result in zip(codes, before, decoded, strict=True):
        np.testing.assert_array_equal(code, given_)  # encode leaves its input alone
        np.testing.assert_array_equal(result, given_)
        assert result.dtype == np.int32
    return payloads


LAYOUTS = {
    "one sample": (heads((1,), (1,)),),
    "one pixel": (heads((1, 1), (1, 1), 3),),
    "one voxel": (heads((1, 1, 1), (1, 1, 1)),),
    "one cell": (heads((7, 11), (1, 1), 3),),
    "one cell of a sound": (heads((101,), (1,), 2),),
    "cells of a sample": (heads((3, 70), (3, 70)),),
    "ragged sound": (heads((1000,), (7,), 2),),
    "sound of three tiles": (heads((1300,), (130,)),),
    "ragged picture": (heads((23, 17), (5, 4), 3),),
    "picture of six tiles": (heads((67, 200), (65, 130), 3),),
    "ragged volume": (heads((7, 5, 11), (3, 2, 4), 2),),
    "volume of four tiles": (heads((17, 20, 4), (17, 17, 2)),),
    "spline of a sound": (spline((9,)), heads((40,), (4,))),
    "spline of a picture": (spline((7, 5), 3), heads((23, 17), (5, 4), 3)),
    "spline of many tiles": (spline((7, 5)), heads((3, 70), (3, 70))),
    "spline of a volume": (spline((4, 1, 6)), heads((7, 5, 11), (3, 2, 4))),
    "spline of one knot": (spline((1, 1)), heads((2, 2), (1, 1))),
    "network": (plain(37, (3, 5), tuple(i // 9 for i in range(37))),),
    "body and heads": (plain(50, (1, 1), (70,) * 50), plain(4, (70, 3), (0, 1, 2, 3))),
}


@pytest.mark.parametrize("name", CODERS)
@pytest.mark.parametrize("what", LAYOUTS)
def test_decode_undoes_encode_on_ragged_shapes(name: str, what: str) -> None:
    layouts = LAYOUTS[what]
    check_round_trip(name, [random_codes(layout, i, size=6) for i, layout in enumerate(layouts)], layouts)


@pytest.mark.parametrize("name", CODERS)
@pytest.mark.parametrize("what", LAYOUTS)
def test_silence_is_a_few_bytes_a_chunk(name: str, what: str) -> None:
    layouts = LAYOUTS[what]
    payloads = check_round_trip(name, [np.zeros(layout.shape, np.int32) for layout in layouts], layouts)
    assert max(map(len, payloads)) <= 32


@pytest.mark.parametrize("name", CODERS)
@pytest.mark.parametrize("what", ["one sample", "ragged sound", "ragged picture", "ragged volume", "network"])
def test_the_largest_codes_come_back(name: str, what: str) -> None:
    layouts = LAYOUTS[what]
    rng = np.random.default_rng(1)
    for size in (MAX_CODE, 2**24, 2**16, 2**15):
        codes = [existing(rng.integers(-size, size, x.shape, np.int32, endpoint=True), x) for x in layouts]
        codes[0].reshape(-1)[0] = -size
        check_round_trip(name, codes, layouts)


@pytest.mark.parametrize("name", CODERS)
def test_large_spline_knots_come_back(name: str) -> None:
    # the planar prediction of knots of 2^27 can be off by 2.5 · 2^27, still a residual below MAX_CODE
    layouts = (spline((9, 8), 3), heads((4, 4), (2, 2), 3))
    rng = np.random.default_rng(2)
    knots = rng.integers(-(2**27), 2**27, layouts[0].shape, np.int32)
    check_round_trip(name, [knots, random_codes(layouts[1], 3)], layouts)


@pytest.mark.parametrize("name", CODERS)
@pytest.mark.parametrize("levels", [(1,), (2, 3), (1, 2, 3, 4, 5, 6)])
@pytest.mark.parametrize("what", ["one cell", "ragged picture", "spline of a picture", "volume of four tiles"])
def test_levels_come_back(name: str, what: str, levels: tuple[int, ...]) -> None:
    layouts = LAYOUTS[what]
    levels = tuple(v for v in levels if v < layouts[-1].n_diagonals)
    payloads = check_round_trip(name, [random_codes(layout, i) for i, layout in enumerate(layouts)], layouts, levels)
    assert len(payloads) >= len(levels) + 1


@pytest.mark.parametrize("name", CODERS)
def test_a_prefix_of_the_levels_gives_the_low_frequencies_exactly(name: str) -> None:
    layouts, levels = LAYOUTS["spline of a picture"], (2, 4)
    codes = [random_codes(layout, i, size=9) for i, layout in enumerate(layouts)]
    chunks = plan(layouts, levels)
    payloads = make_coder(name, TABLE_SETS[name]).encode(codes, layouts, chunks)
    diagonal = np.add.outer(*(np.arange(f) for f in layouts[1].frequencies))
    for n, low in ((3, 99), (2, 4), (1, 2)):
        read = [*payloads[:n], *[None] * (3 - n)]
        knots, some = make_coder(name, TABLE_SETS[name]).decode(read, layouts, chunks)
        np.testing.assert_array_equal(knots, codes[0])
        np.testing.assert_array_equal(some, np.where((diagonal < low)[None, :, :, None, None], codes[1], 0))


@pytest.mark.parametrize("name", CODERS)
@pytest.mark.parametrize("levels", [(), (1,)])
def test_tiles_decode_without_the_others(name: str, levels: tuple[int, ...]) -> None:
    layouts = (heads((67, 260), (65, 130), 3),)
    codes = random_codes(layouts[0], 5, size=20)
    chunks, areas = plan(layouts, levels), tiles(layouts[0].cells)
    payloads = make_coder(name, TABLE_SETS[name]).encode([codes], layouts, chunks)
    for kept in ({0}, {4}, {1, 5}):
        wanted = {areas[i] for i in kept}
        read = [p if part.tile in wanted else None for p, (part,) in zip(payloads, chunks, strict=True)]
        (some,) = make_coder(name, TABLE_SETS[name]).decode(read, layouts, chunks)
        expected = np.zeros_like(codes)
        for (a, b), (c, d) in wanted:
            expected[..., a:b, c:d] = codes[..., a:b, c:d]
        np.testing.assert_array_equal(some, expected)


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_any_shape_comes_back(data: st.DataObject) -> None:
    shape = tuple(data.draw(st.lists(st.integers(1, 12), min_size=1, max_size=3)))
    cells = tuple(data.draw(st.integers(1, n)) for n in shape)
    layouts = (heads(shape, cells, data.draw(st.integers(1, 3))),)
    size = data.draw(st.sampled_from([0.1, 1, 30, 1e6]))
    n = layouts[0].n_diagonals
    levels = () if len(shape) == 1 or n < 2 else tuple(sorted(data.draw(st.sets(st.integers(1, n - 1), max_size=3))))
    for name in CODERS:
        check_round_trip(name, [random_codes(layouts[0], data.draw(st.integers(0, 99)), size=size)], layouts, levels)


# --- the pieces


@given(st.lists(st.integers(0, MAX_CODE), min_size=1, max_size=50))
def test_merge_undoes_split(magnitudes: list[int]) -> None:
    values = np.array([*magnitudes, 0, 15, 16, 23, 24, 2**29, MAX_CODE], np.int64)
    symbols, extra = split(values)
    assert 0 <= symbols.min() <= symbols.max() < N_SYMBOLS
    assert (extra >= 0).all()
    assert (extra < 1 << n_extra_bits(symbols)).all()
    np.testing.assert_array_equal(merge(symbols, extra), values)


def test_every_symbol_starts_where_the_one_before_ends() -> None:
    # 0 … 15 for themselves, then 16, 24, 32, 48, … : the table of FORMAT.md
    starts = merge(np.arange(N_SYMBOLS), np.zeros(N_SYMBOLS, np.int32)).astype(np.int64)
    assert starts[14:22].tolist() == [14, 15, 16, 24, 32, 48, 64, 96]
    np.testing.assert_array_equal(starts[:-1] + (1 << n_extra_bits(np.arange(N_SYMBOLS - 1))), starts[1:])
    assert starts[-1] + (1 << int(n_extra_bits(np.array([N_SYMBOLS - 1]))[0])) == MAX_CODE + 1


@pytest.mark.parametrize("shape", [(1,), (13,), (1, 1), (5, 8), (8, 1), (3, 4, 5), (1, 2, 6)])
def test_knots_come_back_from_their_residuals(shape: tuple[int, ...]) -> None:
    for size in (5, 2**27):
        knots = np.random.default_rng(3).integers(-size, size, shape, np.int32)
        np.testing.assert_array_equal(_from_residual(_to_residual(knots)), knots)


def test_knot_predictions_agree_with_the_slow_obvious_loop() -> None:
    knots = np.random.default_rng(4).integers(-999, 999, (5, 7), np.int32)
    padded = np.zeros((6, 8), int)
    padded[1:, 1:] = knots
    for i in range(5):
        for j in range(7):
            predicted = (3 * (int(padded[i, j + 1]) + int(padded[i + 1, j])) - 2 * int(padded[i, j]) + 2) >> 2
            assert _to_residual(knots)[i, j] == knots[i, j] - predicted


def test_hostile_residuals_saturate_in_64_bits() -> None:
    residual = np.full((40, 40), MAX_CODE, np.int32)
    knots = _from_residual(residual)
    assert int(np.abs(knots.astype(np.int64)).max()) == 2**30  # which check_magnitudes then refuses
    assert _prediction(np.int64(2**32), np.int64(-(2**30)), 2) > 2**31  # needs more than 32 bits on the way


def random_tables(rng: np.random.Generator, n: int) -> np.ndarray:
    """Integer rows w >= 0 that sum to 2^24 − N_SYMBOLS, some very skew."""
    raw = rng.random((n, N_SYMBOLS)) ** rng.choice([1, 4, 40], (n, 1))
    w = np.floor(raw / raw.sum(1, keepdims=True) * (2**24 - N_SYMBOLS))
    w[np.arange(n), w.argmax(1)] += 2**24 - N_SYMBOLS - w.sum(1)
    return w


def commands(seed: int) -> list[tuple[np.ndarray, np.ndarray | int]]:
    """Random runs of symbols: under a table, or uniform."""
    rng = np.random.default_rng(seed)
    runs: list[tuple[np.ndarray, np.ndarray | int]] = []
    for table in random_tables(rng, 12):
        n = int(rng.choice([0, 1, 5, 60]))
        if rng.random() < 0.3:
            size = int(rng.choice([2, 3, 7, 65, 2**16, 2**16 - 1]))
            runs.append((rng.integers(0, size, n).astype(np.int32), size))
        elif rng.random() < 0.5:  # the likely symbols, whose intervals carry
            runs.append((rng.choice(N_SYMBOLS, n, p=table / table.sum()).astype(np.int32), table))
        else:
            runs.append((rng.integers(0, N_SYMBOLS, n).astype(np.int32), table))
    return runs


def written(out: range_stream.Writer, runs: list[tuple[np.ndarray, np.ndarray | int]]) -> bytes:
    for symbols, model in runs:
        if isinstance(model, int):
            out.put_uniform(symbols, model)
        else:
            out.put(symbols, model)
    return out.bytes()


def read_back(source: range_stream.Reader, runs: list[tuple[np.ndarray, np.ndarray | int]]) -> list[list[int]] | None:
    """Symbols by run; None where the reader finds the payload damaged."""
    try:
        return [
            (source.get_uniform(len(s), m) if isinstance(m, int) else source.get(len(s), m)).tolist() for s, m in runs
        ]
    except FormatError:
        return None


needs_constriction = pytest.mark.skipif(range_stream.constriction is None, reason="constriction has no wheel here")


@needs_constriction
@pytest.mark.parametrize("seed", range(60))
def test_plain_coders_equal_constriction_word_for_word(seed: int) -> None:
    runs = commands(seed)
    fast = written(range_stream._FastEncoder(), runs)
    assert written(range_stream.PlainEncoder(), runs) == fast
    expected = [s.tolist() for s, _ in runs]
    assert read_back(range_stream.PlainDecoder(fast), runs) == expected
    assert read_back(range_stream._FastDecoder(fast), runs) == expected


@needs_constriction
@pytest.mark.parametrize("seed", range(60))
def test_plain_decoder_equals_constriction_on_bytes_nobody_wrote(seed: int) -> None:
    rng, runs = np.random.default_rng(seed), commands(seed)
    data = rng.bytes(int(rng.integers(0, 80))) if seed % 3 else b"\xff" * seed
    assert read_back(range_stream.PlainDecoder(data), runs) == read_back(range_stream._FastDecoder(data), runs)


def test_the_words_of_a_short_stream_are_these() -> None:
    # lower = 0, range = 2^64 − 1. Uniform of 4, symbol 2: unit = range >> 24 = 2^40 − 1, share = 2^22,
    # lower = 2 · 2^22 · (2^40 − 1) = 2^63 − 2^23, range = 2^22 · (2^40 − 1) = 2^62 − 2^22, no word yet.
    # The end: lower rounded up to a multiple of 2^32 is 2^63, inside; its upper word 0x80000000, little-endian,
    # and the trailing zero bytes would be dropped if there were any.
    out = range_stream.PlainEncoder()
    out.put_uniform(np.array([2], np.int32), 4)
    assert out.bytes() == b"\0\0\0\x80"
    out = range_stream.PlainEncoder()
    out.put_uniform(np.array([0], np.int32), 4)
    assert out.bytes() == b""  # 0 is inside the first quarter


def test_a_table_sums_to_2_to_the_24_with_every_symbol_possible() -> None:
    rng = np.random.default_rng(8)
    counts = rng.integers(0, 3, (40, N_SYMBOLS)) * rng.integers(0, 2**15, (40, 1))
    counts[:, 7] += 1
    tables = AdaptiveTables(counts)
    w = tables._tables(np.arange(40))
    assert w.min() >= 0
    assert (w.sum(1) == 2**24 - N_SYMBOLS).all()
    assert (w == np.rint(w)).all()


@pytest.mark.parametrize("what", ["ragged sound", "spline of a picture", "ragged volume", "network"])
def test_without_constriction_the_same_bytes_and_codes(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    layouts = LAYOUTS[what]
    codes = [random_codes(layout, i, size=5) for i, layout in enumerate(layouts)]
    fast = check_round_trip("range", codes, layouts)
    monkeypatch.setattr(range_stream, "constriction", None)
    assert check_round_trip("range", codes, layouts) == fast


def test_without_constriction_a_file_decodes_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    walk = np.cumsum(np.random.default_rng(0).normal(0, 9, (20, 24, 3)), 1)
    data = inrcodec.encode((128 + np.clip(walk, -99, 99)).astype(np.uint8), entropy="range")
    decoded = inrcodec.open(data).decode()
    monkeypatch.setattr(range_stream, "constriction", None)
    np.testing.assert_array_equal(inrcodec.open(data).decode(), decoded)


@pytest.mark.parametrize("limit", [1, 2, 65535, 65536, 100_000, 2**27])
def test_stops_come_back_beyond_what_a_table_holds(limit: int) -> None:
    for stop in {0, 1, limit // 2, limit}:
        out = range_stream.writer()
        range_coder._put_stop(out, stop, limit)
        assert range_coder._get_stop(range_stream.reader(out.bytes()), limit) == stop


def test_a_stop_beyond_its_limit_is_refused() -> None:
    out = range_stream.writer()
    out.put_uniform(np.array([1], np.int32), 2)
    out.put_uniform(np.array([40_000], np.int32), 2**16)
    with pytest.raises(FormatError, match="105536"):
        range_coder._get_stop(range_stream.reader(out.bytes()), 100_000)


def test_an_unknown_table_set_is_unsupported() -> None:
    with pytest.raises(UnsupportedError, match="table set 99"):
        make_coder("range", 99)
