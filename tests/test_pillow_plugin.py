"""Claims about .inr files in Pillow."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, UnidentifiedImageError

import inrcodec
from inrcodec.metrics import psnr
from inrcodec.pillow_plugin import InrImageFile

SAMPLES = Path(__file__).parent.parent / "samples"


@pytest.fixture(autouse=True)
def registered() -> None:
    inrcodec.register_pillow_opener()
    inrcodec.register_pillow_opener()  # twice is once


def saved(image: Image.Image, **options: object) -> io.BytesIO:
    file = io.BytesIO()
    image.save(file, "INR", **options)
    file.seek(0)
    return file


def sample(name: str) -> Image.Image:
    with Image.open(SAMPLES / name) as image:
        image.load()
        return image


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
def test_modes_of_8_bits_come_back(mode: str) -> None:
    original = sample("cat-alpha.png").convert(mode)
    with Image.open(saved(original, quality=90)) as image:
        assert (image.format, image.mode, image.size) == ("INR", mode, original.size)
        assert image.get_format_mimetype() == "image/x-inr"
        assert psnr(decoded=np.asarray(image), original=np.asarray(original), peak=255) > 33


def test_gray_of_16_bits_comes_back() -> None:
    y, x = np.mgrid[:40, :60]
    original = (x * 1000 + y * 37).astype(np.uint16)
    with Image.open(saved(Image.fromarray(original), quality=95)) as image:
        assert image.mode == "I;16"
        assert psnr(decoded=np.asarray(image), original=original, peak=65535) > 50


def test_colour_of_16_bits_opens_with_8() -> None:
    with Image.open(io.BytesIO(inrcodec.encode(SAMPLES / "cat-16bit.png", quality=90))) as image:
        assert (image.mode, image.size) == ("RGB", (75, 50))
        assert np.asarray(image).dtype == np.uint8


@pytest.mark.parametrize("mode, back", [("1", "L"), ("P", "RGB"), ("CMYK", "RGB"), ("YCbCr", "RGB")])
def test_other_modes_are_converted(mode: str, back: str) -> None:
    with Image.open(saved(sample("tiny.png").convert(mode))) as image:
        assert image.mode == back


@pytest.mark.parametrize("mode, back", [("La", "LA"), ("RGBa", "RGBA")])
def test_premultiplied_alpha_is_divided_out(mode: str, back: str) -> None:
    with Image.open(saved(Image.new(mode, (8, 8)))) as image:
        assert image.mode == back


@pytest.mark.parametrize("mode", ["F", "I"])
def test_modes_without_a_range_are_refused(mode: str) -> None:
    with pytest.raises(OSError, match=f"cannot write mode {mode}"):
        saved(Image.new(mode, (8, 8)))


def test_files_are_saved_and_opened_by_name(tmp_path: Path) -> None:
    path = tmp_path / "photo.inr"
    sample("tiny.png").save(path, quality=40, tune="psnr", grid="2")
    with inrcodec.open(path) as file:
        assert file.header.cells == (2, 2)
    with Image.open(path) as image:
        pixels = np.asarray(image)
    with inrcodec.open(path) as file:
        np.testing.assert_array_equal(pixels, file.decode())
    path.unlink()  # nothing holds it open


def test_save_takes_every_encode_setting_and_ignores_those_of_other_formats() -> None:
    assert len(saved(sample("cat-alpha.png"), target_bytes=5000, optimize=True).getvalue()) <= 5000
    with pytest.raises(ValueError, match="quality"):
        saved(sample("tiny.png"), quality=101)
    with pytest.raises(OSError, match="cannot be reached"):
        saved(sample("tiny.png"), target_bytes=20)


def test_metadata_goes_round_and_only_icc_goes_by_itself() -> None:
    with Image.open(SAMPLES / "cat-sideways.jpg") as original:
        icc, exif = original.info["icc_profile"], original.getexif()
        alone = saved(original, quality=20)
        full = saved(original, quality=20, exif=exif, xmp=b"<x:xmpmeta/>")
        bare = saved(original, quality=20, icc_profile=None)
    with Image.open(alone) as image:
        assert image.info["icc_profile"] == icc and not image.getexif() and "xmp" not in image.info
    with Image.open(full) as image:
        assert dict(image.getexif()) == dict(exif)
        assert image.info["xmp"] == b"<x:xmpmeta/>"
    with Image.open(bare) as image:
        assert "icc_profile" not in image.info


def test_opening_reads_only_the_header(monkeypatch: pytest.MonkeyPatch) -> None:
    file = saved(sample("tiny.png"))
    monkeypatch.setattr("inrcodec.reader.Reader.decode_settings", lambda *_: pytest.fail("evaluated too early"))
    with Image.open(file) as image:
        assert image.size == (48, 40)


def test_a_thumbnail_evaluates_few_points(monkeypatch: pytest.MonkeyPatch) -> None:
    from inrcodec.reader import Reader

    original = sample("coffee.png")
    file = saved(original, quality=90)
    evaluated: list[int] = []
    decode = Reader.decode_settings

    def counting(self: Reader, *args: object) -> object:
        values, meta = decode(self, *args)  # type: ignore[arg-type]
        evaluated.append(values.size)
        return values, meta

    monkeypatch.setattr(Reader, "decode_settings", counting)
    with Image.open(file) as image:
        image.thumbnail((100, 100))
        assert image.size == (100, 67)
        small = np.asarray(image)
    original.thumbnail((100, 100))
    # a quarter of the points; beside Pillow's own thumbnail of the original
    assert sum(evaluated) <= 300 * 200 * 3
    assert psnr(decoded=small, original=np.asarray(original), peak=255) > 35


def test_draft_never_enlarges_and_not_after_load() -> None:
    with Image.open(saved(sample("tiny.png"))) as image:
        assert image.draft(None, (480, 400)) is None
        assert image.draft("L", None) is None
        assert image.draft(None, (12, 12)) == ("RGB", (0, 0, 15, 12))
        assert image.size == (15, 12)
        image.load()
        assert image.draft(None, (6, 5)) is None
        assert image.size == (15, 12)


def test_pixels_survive_copies_crops_and_a_second_load() -> None:
    with Image.open(saved(sample("tiny.png"))) as image:
        cut = image.crop((3, 4, 20, 30))
        whole = image.copy()
        image.load()
        np.testing.assert_array_equal(np.asarray(cut), np.asarray(whole)[4:30, 3:20])
        np.testing.assert_array_equal(np.asarray(image), np.asarray(whole))


@pytest.mark.parametrize("content", ["text", "cut", "sound", "newer"])
def test_what_is_no_picture_of_ours_cannot_be_identified(content: str) -> None:
    data = saved(sample("tiny.png")).getvalue()
    head = data[8:16] + b"\x63" + data[17 : 16 + data[8]]
    broken = {
        "text": b"only text",
        "cut": data[:-40],
        "sound": inrcodec.encode(np.zeros(100, np.int16), sample_rate_hz=8000),
        "newer": data[:8] + head + struct.pack("<I", zlib.crc32(head)) + data[20 + data[8] :],
    }[content]
    with pytest.raises(UnidentifiedImageError):
        Image.open(io.BytesIO(broken))


def test_damage_comes_up_in_load_and_verify_as_oserror() -> None:
    data = bytearray(saved(sample("tiny.png")).getvalue())
    data[len(data) // 2] ^= 1
    with Image.open(io.BytesIO(data)) as image, pytest.raises(OSError, match="CRC"):
        image.load()
    with Image.open(io.BytesIO(data)) as image, pytest.raises(OSError, match="CRC"):
        image.verify()
    with Image.open(saved(sample("tiny.png"))) as image:
        image.verify()


def test_the_limit_of_pillow_on_pixels_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    file = saved(sample("tiny.png"))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(Image.DecompressionBombError):
        Image.open(file)


def test_the_class_says_what_it_is() -> None:
    assert InrImageFile.format == "INR" and InrImageFile.format_description
    assert Image.registered_extensions()[".inr"] == "INR"
