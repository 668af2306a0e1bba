"""Claims about what bench measures, with a codec small enough to work out by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from inrcodec.bench import Point, compare, find_pictures, labels, load_picture, mean_rows, measure_ladder
from inrcodec.errors import SignalError
from inrcodec.peers import Codec, available_peers, peer

EXACT = 1e-9  # float64 arithmetic on a handful of numbers


def raw(name: str = "raw") -> Codec:
    """Drops the lowest 8 - setting bits of every value and stores the rest a byte each."""

    def encode(picture: np.ndarray, setting: float) -> bytes:
        drop = 8 - int(setting)
        height, width, _ = picture.shape
        return bytes([height, width]) + (picture >> drop << drop).tobytes()

    def decode(data: bytes) -> np.ndarray:
        return np.frombuffer(data[2:], np.uint8).reshape(data[0], data[1], 3)

    return Codec(name, name, "1", (4.0, 8.0), encode, decode)


def save(path: Path, shape: tuple[int, ...], seed: int) -> np.ndarray:
    picture = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    Image.fromarray(picture).save(path)
    return picture


def point(codec: str, file: str, setting: float, bpp: float, psnr_db: float) -> Point:
    return Point(codec, file, setting, round(bpp * 1000), 8000, 255**2 / 10 ** (psnr_db / 10), 0.5, 0.25)


def ladder(codec: str, file: str, factor: float) -> list[Point]:
    return [point(codec, file, s, factor * bpp, 26 + 4 * s) for s, bpp in enumerate((0.2, 0.4, 0.8, 1.6))]


def test_points_say_what_the_bytes_and_pixels_are(tmp_path: Path) -> None:
    picture = save(tmp_path / "a.png", (5, 7, 3), 1)
    coarse, exact = measure_ladder([raw()], [tmp_path / "a.png"])
    assert (coarse.n_bytes, coarse.n_pixels) == (2 + 105, 35)
    assert coarse.bpp == 8 * 107 / 35
    assert coarse.mse == pytest.approx(np.mean((picture & 15).astype(float) ** 2), rel=1e-12)
    assert exact.psnr_db == math.inf
    assert exact.as_json()["psnr_db"] is None  # JSON has no infinity


def test_half_the_bytes_in_every_file_is_minus_50_percent_both_ways() -> None:
    points = [p for f in ("a", "b") for p in ladder("peer", f, 1) + ladder("ours", f, 0.5)]
    found = compare(points, test="ours", anchor="peer")
    assert found.mean == pytest.approx(-50, abs=EXACT)
    assert found.of_mean == pytest.approx(-50, abs=EXACT)
    assert found.by_file["a"][1:] == pytest.approx((28, 38), abs=EXACT)  # the window, which both curves cover


def test_files_that_cannot_be_compared_are_named_and_left_out_of_the_mean() -> None:
    points = [*ladder("peer", "a", 1), *ladder("ours", "a", 0.5), *ladder("peer", "b", 1), *ladder("ours", "b", 1)[:2]]
    found = compare(points, test="ours", anchor="peer")
    assert found.mean == pytest.approx(-50, abs=EXACT)
    assert list(found.skipped) == ["b"]
    assert found.of_mean is None  # only two settings were measured on both files


def test_lossless_and_beaten_points_do_not_spoil_a_curve() -> None:
    points = [*ladder("peer", "a", 1), *ladder("ours", "a", 0.5)]
    points += [replace(points[-1], setting=9, mse=0.0), point("ours", "a", 8, 5.0, 30.0)]
    assert compare(points, test="ours", anchor="peer").mean == pytest.approx(-50, abs=EXACT)


def test_mean_of_psnrs_is_not_psnr_of_mean_mse() -> None:
    (row,) = mean_rows([point("x", "a", 1, 0.5, 30), point("x", "b", 1, 1.5, 40)], "x")
    assert (row.bpp, row.n_files) == (1.0, 2)
    assert row.psnr_db == pytest.approx(35, abs=EXACT)
    # mean of 10^-3 and 10^-4 times 255²: 5.5e-4, 32.596 dB
    assert row.psnr_of_mean_mse_db == pytest.approx(-10 * math.log10(5.5e-4), abs=EXACT)


def test_ssimulacra2_that_was_not_measured_is_refused() -> None:
    with pytest.raises(ValueError, match="not measured"):
        compare([*ladder("a", "f", 1), *ladder("b", "f", 1)], test="a", anchor="b", figure="ssimulacra2")


@pytest.mark.parametrize("name", available_peers())
def test_peers_give_back_a_picture_of_the_same_shape(name: str) -> None:
    rows, columns = np.mgrid[0:37, 0:53]
    picture = np.stack([rows * 4, columns * 4, rows + columns], -1).astype(np.uint8)
    codec = peer(name)
    low, high = (codec.encode(picture, q) for q in (codec.ladder[0], codec.ladder[-1]))
    assert len(low) < len(high)
    decoded = codec.decode(high)
    assert (decoded.shape, decoded.dtype) == (picture.shape, np.uint8)
    assert tuple(sorted(codec.ladder)) == codec.ladder


def test_pictures_are_found_in_folders_and_turned_upright(tmp_path: Path) -> None:
    save(tmp_path / "b.png", (5, 7), 1)
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    Image.new("RGB", (7, 5)).save(tmp_path / "a.jpg", exif=exif)
    (tmp_path / "notes.txt").write_text("no picture")
    found = find_pictures([tmp_path, tmp_path / "b.png"])
    assert [p.name for p in found] == ["a.jpg", "b.png"]
    assert [load_picture(p).shape for p in found] == [(7, 5, 3), (5, 7, 3)]
    assert labels([*found, tmp_path / "more" / "b.png"])[0] == "a.jpg"
    assert len(set(labels([*found, tmp_path / "more" / "b.png"]))) == 3


def test_missing_empty_and_false_pictures_say_so_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "empty").mkdir()
    with pytest.raises(SignalError, match="no such file"):
        find_pictures([tmp_path / "absent.png"])
    with pytest.raises(SignalError, match="no pictures"):
        find_pictures([tmp_path / "empty"])
    with pytest.raises(SignalError, match=r"text\.png: not a picture"):
        load_picture(tmp_path / "text.png")
