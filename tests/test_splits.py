"""Cells of sounds that are cut into shorter ones (window switching)."""

from __future__ import annotations

import io
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from inrcodec.formats.container import InrFile, pack
from inrcodec.formats.header import pack_header, unpack_header
from tiny_files import FILES
from tiny_headers import SOUND, header_values, packed

import inrcodec
from inrcodec import sound
from inrcodec.decoder import Decoder, digest
from inrcodec.entropy import make_coder
from inrcodec.entropy.splits import N_SPLIT_CONTEXTS, SplitTile, split_counts
from inrcodec.errors import FormatError
from inrcodec.fields import cosine, leaves
from inrcodec.fields.bases import Cosines
from inrcodec.fields.leaves import LeafCosines, best_splits, equal_leaves, split_levels
from inrcodec.grid import Grid
from inrcodec.stream import MAX_SPLITS, SMALLEST_LEAF, Stream, plan

RATE = 8000


def random_flags(rng: np.random.Generator, levels: int, n_cells: int) -> np.ndarray:
    flags = np.zeros((1, 2**levels - 1, n_cells), np.int32)
    for node in range(2**levels - 1):
        above = flags[0, (node - 1) // 2] if node else 1
        flags[0, node] = above & (rng.random(n_cells) < 0.6)
    return flags


def clicks(n: int = 12_000) -> np.ndarray:
    rng = np.random.default_rng(0)
    x = 0.01 * np.sin(np.arange(n) / 9)
    for at in range(1500, n - 400, 2900):
        x[at : at + 300] += 0.6 * rng.normal(size=300) * np.exp(-np.arange(300) / 50)
    return x


@given(st.integers(1, MAX_SPLITS), st.integers(1, 7), st.integers(0, 2**32))
def test_flags_come_back_and_only_nodes_whose_parent_is_cut_are_coded(levels: int, n_cells: int, seed: int) -> None:
    flags = random_flags(np.random.default_rng(seed), levels, n_cells)
    written: list[int] = []

    def write(contexts: np.ndarray, values: np.ndarray) -> np.ndarray:
        assert ((contexts >= 0) & (contexts < N_SPLIT_CONTEXTS)).all()
        written.extend(values.tolist())
        return values

    def read(contexts: np.ndarray, _: np.ndarray) -> np.ndarray:
        got, written[: len(contexts)] = np.array(written[: len(contexts)], np.int32), []
        return got

    SplitTile(flags.copy(), None, 1, ()).run(0, 1, np.zeros(0), write)
    cut = flags[0, : 2 ** (levels - 1) - 1].sum()  # of the last level nobody is a parent
    assert len(written) == n_cells + 2 * cut
    back = np.zeros_like(flags)
    SplitTile(back, None, 1, ()).run(0, 1, np.zeros(0), read)
    np.testing.assert_array_equal(back, flags)


def test_a_flag_that_is_no_flag_is_damaged() -> None:
    with pytest.raises(FormatError, match="neither 0 nor 1"):
        SplitTile(np.zeros((1, 3, 4), np.int32), None, 1, ()).run(0, 1, np.zeros(0), lambda c, _: c * 0 + 2)
    rows = split_counts()
    assert (rows[:, :2] > 0).all()
    assert not rows[:, 2:].any()


@pytest.mark.parametrize(("n", "cells", "levels"), [(700, 3, 2), (701, 1, 4), (4096, 2, 5), (515, 7, 1)])
def test_leaves_of_any_tree_are_orthonormal(n: int, cells: int, levels: int) -> None:
    rng = np.random.default_rng(n)
    grid = Grid.uniform((n,), (cells,))
    basis = LeafCosines(grid, random_flags(rng, levels, cells))
    assert basis.borders[0] == 0
    assert basis.borders[-1] == n
    x = rng.normal(size=(n, 2))
    line = basis.analyse(x, 0, n)
    assert np.square(line).sum() == pytest.approx(np.square(x).sum())
    centres = np.arange(n) + 0.5
    np.testing.assert_allclose(basis.synthesise(line, centres, 1.0), x, atol=1e-9)
    np.testing.assert_allclose(basis.synthesise(line, centres[90:200], 1.0), x[90:200], atol=1e-9)
    anywhere = np.sort(rng.uniform(-3, n + 3, 50))
    np.testing.assert_allclose(basis.sample(line, anywhere), basis.synthesise(line, anywhere, 1.0), atol=1e-9)
    middle = grid.borders[0][cells // 2]
    np.testing.assert_allclose(basis.analyse(x, middle, n), line[middle:], atol=1e-12)
    frequencies = basis.frequencies(middle, n)[:, 0]
    assert (frequencies > 0).all()
    assert (frequencies < 1).all()
    assert (np.flatnonzero(np.diff(frequencies) < 0) + 1 + middle).tolist() == [
        b for b in basis.borders if middle < b < n
    ]


def test_cells_that_are_not_cut_are_those_of_a_plain_grid() -> None:
    rng = np.random.default_rng(1)
    grid = Grid.uniform((515,), (4,))
    x = rng.normal(size=(515, 2))
    plain = Cosines(grid).analyse(x, [(0, 4)])  # [2, 129, 4]
    line = LeafCosines(grid, np.zeros((1, 7, 4), np.int32)).analyse(x, 0, 515)
    for c, (a, b) in enumerate(pairwise(grid.borders[0])):
        np.testing.assert_allclose(line[a:b].T, plain[:, : b - a, c], atol=1e-12)


def test_short_cells_are_where_a_sound_changes_fast_and_only_there() -> None:
    n = 8192
    grid = Grid.uniform((n,), (4,))
    tone = 0.3 * np.sin(np.arange(n) / 7)[:, None]
    click = tone.copy()
    click[5000:5020] += 0.8 * np.random.default_rng(0).normal(size=(20, 1))

    def steps(r: np.ndarray) -> np.ndarray:
        return np.full_like(r, 0.02)

    runs, levels = [slice(0, 1), slice(1, 4)], equal_leaves(grid, 5)
    assert not best_splits(tone, grid, levels, steps, runs)[..., 1:3].any()  # at its ends it starts and stops
    flags = best_splits(click, grid, levels, steps, runs)
    np.testing.assert_array_equal(flags, best_splits(click, grid, levels, steps, [slice(0, 4)]))
    borders = np.array(LeafCosines(grid, flags).borders)
    assert flags[0, 0, 2] == 1
    leaf = np.searchsorted(borders, 5010, side="right") - 1
    assert np.diff(borders)[leaf] <= 128


def test_cells_can_be_halved_so_long_as_leaves_are_not_too_short() -> None:
    assert split_levels(Grid.uniform((2048,), (1,)), MAX_SPLITS) == 6
    assert split_levels(Grid.uniform((2047,), (1,)), MAX_SPLITS) == 5
    assert split_levels(Grid.uniform((63,), (1,)), MAX_SPLITS) == 0
    assert split_levels(Grid.uniform((2**20,), (1,)), MAX_SPLITS) == MAX_SPLITS


def test_clicks_cost_less_and_are_not_announced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Against the same codec with long windows only: fewer bytes, less error, and silence before the click."""
    x = clicks()

    def coded() -> tuple[int, np.ndarray]:
        file = io.BytesIO()
        sound.write(file, x, RATE, tune="psnr", quality=50)
        file.seek(0)
        return len(file.getvalue()), sound.read(file)[0] - x

    size, error = coded()
    monkeypatch.setattr(cosine, "split_levels", lambda *_: 0)
    long_size, long_error = coded()
    assert size < 0.9 * long_size
    assert np.square(error).sum() < np.square(long_error).sum()
    before = np.concatenate([np.arange(at - 600, at - 100) for at in range(1500, 11_600, 2900)])
    assert np.square(error[before]).sum() < 0.2 * np.square(long_error[before]).sum()


def test_a_part_is_what_the_whole_has_there() -> None:
    x = np.tile(clicks(), 12)[:140_000]
    file = io.BytesIO()
    sound.write(file, x, RATE, quality=60, subtype="PCM_16")
    whole, _ = sound.read(file.getvalue(), dtype="int16")
    part, _ = sound.read(file.getvalue(), start=61_234, frames=5000, dtype="int16")
    np.testing.assert_array_equal(part, whole[61_234:66_234])


def test_headers_say_splits_only_where_there_are_some() -> None:
    with_splits = replace(SOUND, cells=(2,), field=replace(SOUND.field, splits=3))
    assert unpack_header(pack_header(with_splits)) == with_splits
    values = header_values(with_splits)
    for wrong in (0, 4, MAX_SPLITS + 1, -1, True, [3]):  # cells of 150 samples have room for three levels
        values[4][9] = wrong
        with pytest.raises(FormatError):
            unpack_header(packed(values))
    values[4] = [*values[4][:9], 3, 3]
    with pytest.raises(FormatError):
        unpack_header(packed(values))


@pytest.mark.parametrize("flags", [[0, 1, 0], [1, 2, 0], [-1, 0, 0]])
def test_damaged_flags_are_noticed_by_either_coder(flags: list[int]) -> None:
    stream = InrFile.of_bytes(FILES["splits-zstd"]).stream()
    decoder = Decoder(stream.header, max_samples=2**14)
    codes = decoder.codes(stream.payloads)
    codes[0][0, :3, 0] = flags
    codes[0][0, 3:, 0] = 0
    layouts = decoder.field.layouts
    payloads = make_coder("zstd", 0).encode(codes, layouts, plan(layouts, ()))
    data = pack(Stream(stream.header, tuple(payloads), digest(codes)))
    with pytest.raises(FormatError, match="splits"):
        inrcodec.open(data).decode()


def test_info_tells_of_splits() -> None:
    with inrcodec.open(FILES["splits-range"]) as file:
        assert file.info()["splits"] == 3


def test_one_dimensional_arrays_are_not_split() -> None:
    x = np.cumsum(np.random.default_rng(0).normal(size=5000))
    assert inrcodec.open(inrcodec.encode(x)).header.field.splits == 0
    assert leaves.SMALLEST >= SMALLEST_LEAF
