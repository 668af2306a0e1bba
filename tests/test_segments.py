"""Claims about label maps: how they are found, coded, stored, and evaluated."""

from __future__ import annotations

import io
import itertools
import json
import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from inrcodec.cli.main import main
from inrcodec.formats.container import InrFile, pack
from inrcodec.formats.header import pack_header, unpack_header
from PIL import Image

import inrcodec
from inrcodec.decoder import Decoder, digest
from inrcodec.entropy import TABLE_SETS, make_coder
from inrcodec.entropy.labels import ESCAPE, LabelTile
from inrcodec.errors import FormatError, InrError
from inrcodec.fields.cellfit import UnequalCells
from inrcodec.fields.segmented import boxes_of, labels_at
from inrcodec.segments import canonical, components, from_map, merge_to, segment
from inrcodec.stream import Part, TensorLayout

SHAPE = (37, 53)


def blobs(height: int, width: int, n: int = 6, seed: int = 0) -> np.ndarray:
    """A map of smooth borders: every sample belongs to the nearest of n points. int32 [H, W], canonical."""
    points = np.random.default_rng(seed).uniform(0, 1, (n, 2)) * (height, width)
    y, x = np.indices((height, width))
    return canonical(((y[..., None] - points[:, 0]) ** 2 + (x[..., None] - points[:, 1]) ** 2).argmin(2))


def scene(height: int, width: int, seed: int = 0) -> np.ndarray:
    """uint8 [H, W, 3]: flat areas with a slope in each."""
    rng = np.random.default_rng(seed)
    labels = blobs(height, width, seed=seed)
    colours = rng.uniform(40, 200, (labels.max() + 1, 3))
    return np.rint(colours[labels] + 20 * np.sin(np.arange(width) / 7)[:, None]).astype(np.uint8)


MAPS = {
    "one sample": np.zeros((1, 1), np.int32),
    "constant": np.zeros((9, 14), np.int32),
    "row": canonical(np.arange(41)[None] // 5),
    "column": canonical(np.arange(41)[:, None] // 7),
    "stripes": canonical(np.add.outer(np.arange(33), np.arange(20)) % 2),
    "all different": canonical(np.arange(7 * 5).reshape(7, 5)),
    "random": canonical(np.random.default_rng(0).integers(0, 9, (31, 17))),
    "random of 3,000": canonical(np.random.default_rng(0).integers(0, 3000, (64, 65))),
    "blobs": blobs(65, 127),
    "several passes a lattice": blobs(600, 600),
}


# --- finding


@pytest.mark.parametrize("n", [1, 2, 9, 30])
@pytest.mark.parametrize("shape", [SHAPE, (1, 60), (60, 1), (40, 40)])
@pytest.mark.parametrize("what", ["scene", "flat", "noise"])
def test_a_picture_falls_into_exactly_n_connected_regions_that_cover_it(
    n: int, shape: tuple[int, int], what: str
) -> None:
    samples = {
        "scene": scene(*shape) / np.float32(255),
        "flat": np.full((*shape, 3), 0.5, np.float32),
        "noise": np.random.default_rng(1).random((*shape, 1)).astype(np.float32),
    }[what]
    labels = segment(samples, n)
    assert labels.shape == shape
    assert labels.dtype == np.int32
    np.testing.assert_array_equal(np.unique(labels), np.arange(n))
    assert components(labels).max() + 1 == n
    np.testing.assert_array_equal(labels, canonical(labels))
    np.testing.assert_array_equal(labels, segment(samples.copy(), n))


def test_as_many_regions_as_pixels_and_no_more() -> None:
    samples = scene(5, 7) / np.float32(255)
    assert len(np.unique(segment(samples, 35))) == 35
    for n in (0, 36):
        with pytest.raises(ValueError, match="segments"):
            segment(samples, n)


def test_regions_follow_the_borders_of_objects() -> None:
    samples = np.zeros((60, 80, 3), np.float32)
    samples[20:45, 30:60] = (0.9, 0.2, 0.1)
    labels = segment(samples, 2)
    inside = np.zeros((60, 80), bool)
    inside[20:45, 30:60] = True
    # smoothing beforehand moves the border by a pixel: 110 of them
    assert np.count_nonzero((labels == labels[30, 40]) != inside) <= 110


def test_the_smallest_region_merges_into_its_smallest_neighbour() -> None:
    labels = np.array([[0, 0, 0, 1, 1, 1, 1, 1, 2], [0, 0, 0, 1, 1, 1, 1, 1, 3], [0, 0, 0, 1, 1, 1, 1, 1, 3]])
    # 2 (one sample) goes to 3 (two) and not to 1 (fifteen); then 3, now three, has 1 alone
    assert merge_to(labels, 3)[:, -1].tolist() == [2, 2, 2]
    assert merge_to(labels, 2).tolist() == [[0, 0, 0, 1, 1, 1, 1, 1, 1]] * 3


def test_labels_are_numbered_by_first_appearance() -> None:
    assert canonical(np.array([[7, 7, 3], [9, 3, 7]])).tolist() == [[0, 0, 1], [2, 1, 0]]


@pytest.mark.parametrize("mode", ["L", "P", "RGB", "array"])
def test_every_distinct_colour_of_a_map_is_a_region(mode: str) -> None:
    labels = blobs(*SHAPE)
    palette = np.random.default_rng(2).permutation(256)[: labels.max() + 1].astype(np.uint8)
    gray = palette[labels]
    pixels = np.stack([gray, 255 - gray, gray // 2], 2) if mode == "RGB" else gray
    if mode == "P":
        pixels = np.asarray(Image.fromarray(gray).convert("P"))
    np.testing.assert_array_equal(from_map(pixels), labels)


# --- coding


def coded(labels: np.ndarray, coder: str) -> tuple[bytes, np.ndarray]:
    layouts = (TensorLayout("labels", "labels", 1, (), labels.shape, bands=(int(labels.max()) + 1,)),)
    chunks = [(Part(0, tuple((0, n) for n in labels.shape), 0, 1),)]
    codes = labels[None].astype(np.int32)
    payload = make_coder(coder, TABLE_SETS[coder]).encode([codes], layouts, chunks)
    assert np.array_equal(codes[0], labels)
    return payload[0], make_coder(coder, TABLE_SETS[coder]).decode(payload, layouts, chunks)[0][0]


@pytest.mark.parametrize("name", MAPS)
@pytest.mark.parametrize("coder", ["range", "zstd"])
def test_every_map_comes_back(name: str, coder: str) -> None:
    np.testing.assert_array_equal(coded(MAPS[name], coder)[1], MAPS[name])


def test_a_map_costs_less_than_half_its_png() -> None:
    labels = blobs(512, 768, 9)
    png = io.BytesIO()
    Image.fromarray(labels.astype(np.uint8)).save(png, "PNG", optimize=True)
    assert len(coded(labels, "range")[0]) < len(png.getvalue()) / 2
    assert len(coded(np.zeros((512, 768), np.int32), "range")[0]) < 40


def test_a_rank_that_no_neighbour_has_is_refused() -> None:
    labels = np.zeros((1, 4, 4), np.int32)
    codes = iter([ESCAPE])  # of the first position; the next has one known neighbour: ranks end at 0
    with pytest.raises(FormatError, match="neighbour"):
        LabelTile(labels, None, 0, (3,)).run(
            0, 1, np.zeros(0), lambda contexts, _: np.full(len(contexts), next(codes, 1), np.int32)
        )


@pytest.mark.parametrize("first", [ESCAPE - 1, ESCAPE + 3])
def test_a_first_label_that_cannot_be_ends_the_decoding_at_once(first: int) -> None:
    calls = []

    def code(contexts: np.ndarray, values: np.ndarray) -> np.ndarray:
        calls.append(len(contexts))
        return np.full(len(contexts), first, np.int32)

    with pytest.raises(FormatError, match="wanted 0 to 2"):
        LabelTile(np.zeros((1, 64, 64), np.int32), None, 0, (3,)).run(0, 1, np.zeros(0), code)
    assert calls == [1]


# --- evaluation


def slow_label(labels: np.ndarray, y: float, x: float) -> int:
    """FORMAT.md §10 for one position."""
    sides = []
    for v, n in ((y, labels.shape[0]), (x, labels.shape[1])):
        inside = min(max(v - 0.5, 0), n - 1)
        i = int(inside)
        e = 2048 - round(4096 * (inside - i))
        sides.append([(i, 2**22 + e * abs(e)), (min(i + 1, n - 1), 2**22 - e * abs(e))])
    sums: dict[int, int] = {}
    for (i, a), (j, b) in itertools.product(*sides):
        sums[int(labels[i, j])] = sums.get(int(labels[i, j]), 0) + a * b
    return min(sums, key=lambda k: (-sums[k], k))


def test_labels_between_samples_are_those_of_the_slow_rule() -> None:
    labels = np.random.default_rng(3).integers(0, 5, (6, 9)).astype(np.int32)
    points = np.random.default_rng(4).uniform(-1, 10, (500, 2))
    points[:100] = np.round(points[:100] * 4) / 4  # ties
    assert labels_at(labels, points).tolist() == [slow_label(labels, *p) for p in points.tolist()]


@pytest.mark.parametrize("name", MAPS)
def test_labels_at_sample_centres_are_the_stored_ones(name: str) -> None:
    labels = MAPS[name]
    centres = np.stack([i.ravel() for i in np.indices(labels.shape)], 1) + 0.5
    np.testing.assert_array_equal(labels_at(labels, centres).reshape(labels.shape), labels)


def test_boxes_hold_every_sample_and_touch_the_outermost() -> None:
    labels = blobs(*SHAPE)
    boxes = boxes_of(labels, labels.max() + 2)
    for k in range(labels.max() + 1):
        for axis, index in enumerate(np.nonzero(labels == k)):
            assert boxes[k, axis].tolist() == [index.min(), index.max() + 1]
    assert boxes[-1].tolist() == [[0, SHAPE[0]], [0, SHAPE[1]]]  # no sample has that label


def test_cells_of_unequal_size_are_padded_by_half_at_most_and_none_is_lost() -> None:
    sizes = np.array([1, 400, 3, 37, 1000, 390, 2, 36, 90])
    values = np.arange(sizes.sum(), dtype=np.float32)[None]
    cells = UnequalCells(values, np.concatenate([values, -values]), sizes)
    seen = np.zeros(len(sizes), int)
    for rows, some in cells.chunks(10**6):
        inside = np.ones((len(rows), some.shape[2]), bool) if some.mask is None else some.mask
        np.testing.assert_array_equal(inside.sum(1), sizes[rows])
        assert some.shape[2] <= 1.5 * sizes[rows].min()
        starts = (np.cumsum(sizes) - sizes)[rows]
        np.testing.assert_array_equal(some.values[:, 0, 0], starts)
        np.testing.assert_array_equal(some.values[:, 0, -1], starts + sizes[rows] - 1)  # padding repeats the last
        np.testing.assert_array_equal(some.coords[:, 1], -some.values[:, 0])
        seen[rows] += 1
    assert (seen == 1).all()
    picked = cells[np.array([4, 2])]
    np.testing.assert_array_equal(picked.values[0, -3:], [401, 402, 403])


# --- files


FAST = {"partition": "segments", "width": 6, "depth": 1, "iterations": 30}


@pytest.fixture(scope="module")
def encoded() -> bytes:
    return inrcodec.encode(scene(*SHAPE), grid=3, **FAST)


def test_a_file_of_segments_decodes_to_the_picture(encoded: bytes) -> None:
    file = inrcodec.open(encoded)
    file.verify()
    assert file.info()["segments"] == 9
    assert file.info()["arch"] == "ensemble"
    error = file.decode().astype(float) - scene(*SHAPE)
    # 30 steps of tiny networks: a third of what the mean colour leaves
    assert np.sqrt(np.mean(error**2)) < scene(*SHAPE).std() / 3


def test_a_region_is_a_cut_from_the_whole_at_any_scale(encoded: bytes) -> None:
    file = inrcodec.open(encoded)
    for scale in (1.0, 2.0, 0.6):
        whole = file.decode(scale=scale)
        region = file.decode(scale=scale, region=(5, 3, 14, 9))
        np.testing.assert_array_equal(region, whole[3:12, 5:19])


def test_points_have_the_values_of_the_lattice(encoded: bytes) -> None:
    file = inrcodec.open(encoded)
    index = np.stack([i.ravel() for i in np.indices(SHAPE)], 1)
    values = np.rint(np.clip(file.sample(index + 0.5), 0, 1) * 255).reshape(*SHAPE, 3)
    np.testing.assert_array_equal(values, file.decode())


def test_twice_the_size_is_smoother_and_invents_no_label_that_is_not_near() -> None:
    labels = blobs(*SHAPE)
    y, x = np.indices((2 * SHAPE[0], 2 * SHAPE[1])).reshape(2, -1)
    twice = labels_at(labels, np.stack([(y + 0.5) / 2, (x + 0.5) / 2], 1)).reshape(2 * SHAPE[0], -1)
    doubled = np.repeat(np.repeat(labels, 2, 0), 2, 1)
    moved = twice != doubled
    edge = np.pad(labels, 1, mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(edge, (3, 3)).reshape(*SHAPE, 9)
    near = np.repeat(np.repeat(windows, 2, 0), 2, 1)
    assert (near == twice[..., None]).any(2).all()
    assert 0 < moved.mean() < 0.05

    def corners(m: np.ndarray) -> int:
        """2 × 2 windows in which three samples agree: the steps of stairs."""
        four = np.lib.stride_tricks.sliding_window_view(m, (2, 2)).reshape(-1, 4)
        return int(((four[:, :, None] == four[:, None]).sum((1, 2)) == 10).sum())

    assert corners(twice) > 1.5 * corners(doubled)  # more and smaller steps


def test_a_map_of_the_users_is_stored_as_it_is(encoded: bytes) -> None:
    labels = blobs(*SHAPE, n=5, seed=9)
    data = inrcodec.encode(scene(*SHAPE), segments=labels * 10, width=6, iterations=3)  # implies the partition
    stream = InrFile.of_bytes(data).stream()
    codes = Decoder(stream.header, max_samples=2**16).codes(stream.payloads)
    np.testing.assert_array_equal(codes[0][0], labels)
    assert stream.header.field.segments == labels.max() + 1


@pytest.mark.parametrize("coder", ["range", "zstd"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (33, 1), (16, 16)])
def test_pictures_of_any_shape_have_segments(coder: str, shape: tuple[int, int]) -> None:
    data = inrcodec.encode(scene(*shape)[..., 0], entropy=coder, **FAST)
    assert inrcodec.open(data).decode().shape == shape
    assert inrcodec.open(data).decode(scale=3).shape == (3 * shape[0], 3 * shape[1])


def test_transparent_pictures_have_segments() -> None:
    alpha = np.where(blobs(*SHAPE) > 2, 255, 0).astype(np.uint8)
    data = inrcodec.encode(np.dstack([scene(*SHAPE), alpha]), grid=2, **FAST)
    assert inrcodec.open(data).decode().shape == (*SHAPE, 4)


def test_many_segments_lie_in_several_chunks() -> None:
    data = inrcodec.encode(scene(*SHAPE), grid=9, partition="segments", width=2, depth=0, iterations=2)
    assert inrcodec.open(data).header.n_chunks == 3  # the map, and 81 networks in tiles of 64
    inrcodec.open(data).verify()


@pytest.mark.parametrize("coder", ["range", "zstd"])
@pytest.mark.parametrize("label", [9, 4000, 2**20])
def test_a_label_beyond_the_segments_is_damage(encoded: bytes, coder: str, label: int) -> None:
    stream = InrFile.of_bytes(encoded).stream()
    decoder = Decoder(stream.header, max_samples=2**16)
    codes = [c.copy() for c in decoder.codes(stream.payloads)]
    codes[0][0, 5, 7] = label
    labels, heads = decoder.field.layouts
    payloads = make_coder(coder, TABLE_SETS[coder]).encode(
        codes, (replace(labels, bands=(2**21,)), heads), decoder._chunks
    )
    header = replace(stream.header, coder=coder, table_set=TABLE_SETS[coder])
    changed = inrcodec.open(pack(replace(stream, header=header, payloads=tuple(payloads), digest=digest(codes))))
    for attempt in (changed.verify, changed.decode):
        with pytest.raises(FormatError, match="label map"):
            attempt()


@pytest.mark.parametrize(("segments", "cells"), [(SHAPE[0] * SHAPE[1] + 1, (1, 1)), (4097, (1, 1)), (9, (3, 3))])
def test_segments_a_picture_cannot_have_are_refused(encoded: bytes, segments: int, cells: tuple[int, int]) -> None:
    header = inrcodec.open(encoded).header
    changed = replace(header, field=replace(header.field, segments=segments), cells=cells)
    with pytest.raises(InrError):
        unpack_header(pack_header(changed))


@pytest.mark.parametrize(
    ("source", "settings", "message"),
    [
        (np.zeros(2000, np.float32), {"sample_rate_hz": 8000}, "pictures"),
        (np.zeros((9, 9, 9), np.float32), {}, "pictures"),
        (scene(*SHAPE), {"segments": np.zeros((5, 5), int)}, "5x5 pixels, wanted 53x37"),
        (scene(70, 70), {"segments": np.arange(4900).reshape(70, 70)}, "4,900 distinct colours, limit 4,096"),
        (scene(90, 90), {"grid": "80"}, "limit 4,096"),
        (scene(*SHAPE), {"arch": "multihead"}, "ensemble"),
        (scene(*SHAPE), {"segments": np.zeros(SHAPE, int), "grid": 3}, "exclude"),
        (scene(*SHAPE), {"segments": np.zeros(SHAPE, int), "partition": "grid", "arch": "ensemble"}, "--partition"),
    ],
)
def test_what_cannot_be_is_said(source: np.ndarray, settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        inrcodec.encode(source, **(FAST | settings))


def run(line: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(shlex.split(line))
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_the_command_line_takes_segments_and_maps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Image.fromarray(scene(*SHAPE)).save("photo.png")
    palette = Image.fromarray((blobs(*SHAPE, n=4) * 3).astype(np.uint8))
    palette.putpalette(np.random.default_rng(0).integers(0, 256, 768).astype(np.uint8).tobytes())
    palette.save("map.png")
    fast = "--width 4 --depth 0 --iterations 3"
    assert run(f"encode photo.png -o found.inr --partition segments --grid 2 {fast}") == 0
    assert run(f"encode photo.png -o given.inr --segments map.png {fast}") == 0
    for name, n in (("found", 4), ("given", 4)):
        capsys.readouterr()
        assert run(f"info {name}.inr --json") == 0
        assert json.loads(capsys.readouterr().out)["segments"] == n
        assert run(f"decode {name}.inr -o {name}.png --scale 2") == 0
        with Image.open(f"{name}.png") as decoded:
            assert decoded.size == (2 * SHAPE[1], 2 * SHAPE[0])
    capsys.readouterr()
    assert run("info found.inr") == 0
    assert "segments  4" in capsys.readouterr().out
    Image.fromarray(scene(8, 8)).save("small.png")
    assert run(f"encode small.png --segments map.png {fast}") == 2
    assert "53x37" in capsys.readouterr().err
    assert run(f"encode photo.png -o no.inr --segments none.png {fast}") != 0
    assert not Path("no.inr").exists()


def test_a_partition_by_grid_is_into_networks_as_by_segments(tmp_path: Path) -> None:
    source, out = tmp_path / "photo.png", tmp_path / "photo.inr"
    Image.fromarray(scene(*SHAPE)).save(source)
    assert run(f"encode {source} -o {out} --partition grid --grid 2 --width 4 --iterations 3") == 0
    for data in (out.read_bytes(), inrcodec.encode(source, partition="grid", grid=2, width=4, iterations=3)):
        assert (inrcodec.open(data).header.field.arch, inrcodec.open(data).header.field.segments) == ("ensemble", 0)
