"""Picture files: everything broken, and everything a format cannot hold, gives one error that says so."""

import struct
import zlib
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from damaged_files import assert_damage_is_refused_or_read
from image_files import (
    XMP,
    exif_with,
    meta_of,
    png_of,
    random_pixels,
    read,
    saved,
    tiff_of,
)
from inrcodec.formats import image
from PIL import Image

from inrcodec.errors import LimitError, SignalError


@pytest.mark.parametrize("values", [random_pixels(3), random_pixels(3, "u2"), random_pixels(2, "u2")])
def test_a_png_cut_anywhere_is_a_signal_error(values: np.ndarray, capfd: pytest.CaptureFixture[str]) -> None:
    data = image.write(values, meta_of(values), {"xmp": XMP}, file_format="png")
    for n in range(0, len(data), 3):
        with pytest.raises(SignalError) as caught:
            read(data[:n])
        assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_a_png_with_any_byte_changed_is_a_signal_error() -> None:
    values = random_pixels(3, "u2", (4, 3))
    data = image.write(values, meta_of(values), {}, file_format="png")
    for at in range(len(data)):
        damaged = bytearray(data)
        damaged[at] ^= 0x10
        with pytest.raises(SignalError):
            read(bytes(damaged))


@pytest.mark.parametrize("file_format", ["jpeg", "webp", "tiff", "bmp"])
def test_other_formats_cut_short_raise_nothing_but_signal_errors(
    file_format: str, capfd: pytest.CaptureFixture[str]
) -> None:
    values = random_pixels(3, size=(40, 31))
    data = image.write(values, meta_of(values), {}, file_format=file_format)
    for n in [*range(0, 64, 3), len(data) // 2, len(data) - 20]:
        with pytest.raises(SignalError):
            read(data[:n])
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("file_format", ["jpeg", "webp", "tiff", "bmp", "gif"])
def test_damage_raises_nothing_but_signal_and_limit_errors(file_format: str, capfd: pytest.CaptureFixture[str]) -> None:
    good = saved(Image.fromarray(random_pixels(3, size=(20, 31))), file_format, exif=exif_with(6))
    assert_damage_is_refused_or_read(good, partial(image.read, max_samples=10**6), times=150, within=400)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "data", [b"", b"hello, this is a text file\n" * 20, b"\x89PNG", b"%!PS-Adobe-3.0 EPSF-3.0\n", bytes(200)]
)
def test_what_is_no_picture_is_a_signal_error(data: bytes) -> None:
    with pytest.raises(SignalError):
        read(data)


def test_a_png_of_no_pixels_is_a_signal_error() -> None:
    with pytest.raises(SignalError):
        read(png_of(np.zeros((0, 5, 3), np.uint8), 2, depth=8))


def test_floats_and_large_integers_are_signal_errors() -> None:
    gray = np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4)
    for data in (saved(Image.fromarray(gray), "TIFF"), tiff_of(gray[..., None].repeat(3, 2), t339=(3, 3, 3))):
        with pytest.raises(SignalError, match="float"):
            read(data)
    with pytest.raises(SignalError, match="8 or 16 bits"):
        read(saved(Image.fromarray(np.full((3, 4), 70_000, np.int32)), "TIFF"))


def test_the_limit_is_checked_before_pixels_are_decoded() -> None:
    values = random_pixels(3, size=(10, 10))
    data = image.write(values, meta_of(values), {}, file_format="png")
    assert image.read(data, max_samples=300).meta.n_values == 300
    with pytest.raises(LimitError, match="299"):
        image.read(data, max_samples=299)
    huge = png_of(np.zeros((1, 1, 3)), 2, depth=8)
    head = struct.pack(">IIBBBBB", 2**30, 2**30, 8, 2, 0, 0, 0)
    bomb = huge[:16] + head + struct.pack(">I", zlib.crc32(b"IHDR" + head)) + huge[33:]
    with pytest.raises(LimitError):
        read(bomb)


@pytest.mark.parametrize(
    ("channels", "dtype", "file_format"), [(4, "u1", "jpeg"), (2, "u1", "bmp"), (3, "u2", "webp"), (1, "u2", "jpeg")]
)
def test_formats_that_cannot_hold_the_picture_name_those_that_can(channels: int, dtype: str, file_format: str) -> None:
    values = random_pixels(channels, dtype)
    with pytest.raises(ValueError, match="png"):
        image.write(values, meta_of(values), {}, file_format=file_format)


def test_a_side_too_long_for_webp_is_a_value_error() -> None:
    values = np.zeros((1, 20_000, 3), np.uint8)
    with pytest.raises(ValueError, match="webp cannot hold"):
        image.write(values, meta_of(values), {}, file_format="webp")


def test_pixels_that_are_not_as_described_are_a_value_error() -> None:
    values = random_pixels(3)
    with pytest.raises(ValueError, match="wanted u2"):
        image.write(values, replace(meta_of(values), sample_type="u2"), {}, file_format="png")
