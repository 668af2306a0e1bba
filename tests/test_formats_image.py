"""Picture files: everything that goes in comes back."""

import struct

import numpy as np
import pytest
from image_files import ICC, SAMPLES, XMP, exif_with, meta_of, png_of, random_pixels, read, saved, stored, tiff_of
from inrcodec.formats import image, orientation, png
from PIL import Image, ImageCms

from inrcodec.signals import SignalMeta


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize(("file_format", "dtype"), [("png", "u1"), ("png", "u2"), ("tiff", "u1"), ("tiff", "u2")])
def test_png_and_tiff_give_back_every_depth_and_channel_count(channels: int, file_format: str, dtype: str) -> None:
    values = random_pixels(channels, dtype)
    if (file_format, dtype, channels) == ("tiff", "u2", 2):
        with pytest.raises(ValueError, match="png can"):
            image.write(values, meta_of(values), {}, file_format="tiff")
        return
    signal = read(image.write(values, meta_of(values), {}, file_format=file_format))
    assert signal.meta == meta_of(values)
    assert signal.samples.dtype == np.float32
    assert signal.samples.min() >= 0 and signal.samples.max() <= 1
    np.testing.assert_array_equal(stored(signal), values)
    assert signal.metadata == {}


@pytest.mark.parametrize("channels", [3, 4])
def test_webp_is_lossless(channels: int) -> None:
    values = random_pixels(channels)
    signal = read(image.write(values, meta_of(values), {}, file_format="webp"))
    np.testing.assert_array_equal(stored(signal), values)


@pytest.mark.parametrize("channels", [1, 3])
def test_bmp_is_lossless_and_jpeg_is_near(channels: int) -> None:
    smooth = np.linspace(0, 255, 48 * 40).reshape(48, 40, 1).astype(np.uint8)
    values = np.repeat(smooth, channels, axis=2)
    for file_format, step in (("bmp", 0), ("jpeg", 3)):
        signal = read(image.write(values, meta_of(values), {}, file_format=file_format))
        assert signal.meta == meta_of(values)
        np.testing.assert_allclose(stored(signal).astype(int), values, atol=step)  # JPEG quality 95 on a ramp


def test_16_bit_png_is_read_the_same_by_opencv() -> None:
    import cv2

    values = random_pixels(3, "u2", (300, 5))  # more rows than are filtered at a time
    data = image.write(values, meta_of(values), {}, file_format="png")
    other = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(other[..., ::-1], values)
    np.testing.assert_array_equal(stored(read(data)), values)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_16_bit_files_of_opencv_are_read_exactly(channels: int) -> None:
    import cv2

    values = random_pixels(channels, "u2")
    swapped = values[..., [2, 1, 0, 3][:channels]] if channels > 1 else values
    for suffix in (".png", ".tiff"):
        data = cv2.imencode(suffix, np.ascontiguousarray(swapped))[1].tobytes()
        np.testing.assert_array_equal(stored(read(data)), values)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("channels", [1, 3])
def test_16_bit_tiff_of_either_byte_order_is_read_exactly(order: str, channels: int) -> None:
    values = random_pixels(channels, "u2")
    np.testing.assert_array_equal(stored(read(tiff_of(values, order))), values)


def test_white_is_zero_and_multiplied_alpha_are_undone_in_16_bit_tiff() -> None:
    values = random_pixels(1, "u2")
    np.testing.assert_array_equal(stored(read(tiff_of(values, t262=0))), 65535 - values)
    straight = random_pixels(4, "u2")
    straight[..., 3] = straight[..., 3] // 2 + 32768
    alpha = straight[..., 3:].astype(float)
    multiplied = np.dstack([np.rint(straight[..., :3] * alpha / 65535).astype("u2"), straight[..., 3]])
    found = stored(read(tiff_of(multiplied, t338=1))).astype(int)
    np.testing.assert_allclose(found, straight, atol=1)  # half a step, divided by alpha >= 1/2


def test_one_transparent_colour_becomes_alpha_at_16_bits() -> None:
    values = np.array([[[1, 2, 3], [1, 2, 4]], [[65535, 0, 7], [1, 2, 3]]], np.uint16)
    found = stored(read(png_of(values, 2, struct.pack(">HHH", 1, 2, 3))))
    np.testing.assert_array_equal(found[..., :3], values)
    np.testing.assert_array_equal(found[..., 3], [[0, 65535], [65535, 0]])
    gray = stored(read(png_of(values[..., :1], 0, struct.pack(">H", 1))))
    np.testing.assert_array_equal(gray[..., 1], [[0, 0], [65535, 0]])


def test_one_transparent_colour_becomes_alpha_at_8_bits() -> None:
    values = np.array([[[1, 2, 3], [1, 2, 4]]], np.uint8)
    found = stored(read(png_of(values, 2, struct.pack(">HHH", 1, 2, 3), depth=8)))
    np.testing.assert_array_equal(found, [[[1, 2, 3, 0], [1, 2, 4, 255]]])
    gray = stored(read(png_of(values[..., 2:], 0, struct.pack(">H", 3), depth=8)))
    np.testing.assert_array_equal(gray, [[[3, 0], [4, 255]]])


def test_palettes_are_expanded_with_and_without_transparency() -> None:
    rgb = Image.fromarray(np.arange(60, dtype=np.uint8).reshape(4, 5, 3))
    palette = rgb.convert("P", palette=Image.Palette.ADAPTIVE, colors=20)
    signal = read(saved(palette, "PNG"))
    assert signal.meta.colour == "rgb"
    np.testing.assert_array_equal(stored(signal), np.asarray(palette.convert("RGB")))
    clear = read(saved(palette, "PNG", transparency=bytes([0, 128] + [255] * 18)))
    assert clear.meta.colour == "rgb+alpha"
    assert {0, 128, 255} == set(np.unique(stored(clear)[..., 3]))
    assert read(saved(palette, "GIF")).meta.colour == "rgb"


def test_one_bit_is_gray() -> None:
    values = np.array([[True, False, True]] * 2)
    for file_format in ("PNG", "TIFF", "BMP"):
        signal = read(saved(Image.fromarray(values), file_format))
        assert signal.meta.colour == "gray"
        np.testing.assert_array_equal(stored(signal)[..., 0], values * 255)


@pytest.mark.parametrize(
    ("mode", "file_format"), [("CMYK", "JPEG"), ("CMYK", "TIFF"), ("YCbCr", "JPEG"), ("LAB", "TIFF")]
)
def test_other_colour_spaces_come_in_as_rgb(mode: str, file_format: str) -> None:
    red = Image.new("RGB", (9, 5), (255, 0, 0))
    if mode == "LAB":
        other = ImageCms.profileToProfile(
            red, ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode=mode
        )
        assert other is not None
    else:
        other = red.convert(mode)
    signal = read(saved(other, file_format))
    assert signal.meta == SignalMeta("image", (5, 9), 3, "u1", "rgb")
    np.testing.assert_allclose(stored(signal)[2, 4].astype(int), (255, 0, 0), atol=6)  # 8-bit LAB is coarse


def test_the_first_frame_is_read() -> None:
    frames = [Image.new("RGB", (6, 4), colour) for colour in ("red", "blue")]
    for file_format in ("GIF", "TIFF", "WEBP", "PNG"):
        data = saved(frames[0], file_format, save_all=True, append_images=frames[1:])
        np.testing.assert_allclose(stored(read(data))[0, 0, :3].astype(int), (255, 0, 0), atol=2)  # lossy WebP


@pytest.mark.parametrize("turn", range(1, 9))
def test_orientation_is_applied_to_the_pixels_and_reset_in_the_exif(turn: int) -> None:
    corner = np.arange(12, dtype=np.uint8).reshape(3, 4)
    # row 0 of the picture lies at … of what is stored (EXIF 2.3, tag 274)
    back = {1: corner, 2: corner[:, ::-1], 3: corner[::-1, ::-1], 4: corner[::-1], 5: corner.T}
    back |= {6: np.rot90(corner), 7: corner[::-1, ::-1].T, 8: np.rot90(corner, -1)}
    picture = Image.fromarray(np.ascontiguousarray(back[turn]))
    files = {
        "png": saved(picture, "PNG", exif=exif_with(turn)),
        "tiff": saved(picture, "TIFF", exif=exif_with(turn)),
        "compressed tiff": saved(picture, "TIFF", exif=exif_with(turn), compression="tiff_lzw"),
        "webp": saved(picture.convert("RGB"), "WEBP", exif=exif_with(turn), lossless=True),
        "16-bit png": png.write(back[turn][..., None] * np.uint16(257), icc=b"", exif=exif_with(turn)[6:], xmp=b""),
        "16-bit tiff": tiff_of(np.repeat(back[turn][..., None], 3, 2) * np.uint16(257), t274=turn, t315="An artist"),
    }
    for name, data in files.items():
        signal = read(data)
        scale = 257 if signal.meta.sample_type == "u2" else 1
        np.testing.assert_array_equal(stored(signal)[..., 0] // scale, corner, err_msg=name)
        assert orientation.take_exif(signal.metadata["exif"])[0] in (0, 1), name
        kept = Image.Exif()
        kept.load(signal.metadata["exif"])
        assert kept[0x13B].startswith("An artist"), name


def test_orientation_in_xmp_counts_where_exif_states_none() -> None:
    picture = Image.fromarray(np.arange(12, dtype=np.uint8).reshape(3, 4))
    xmp = XMP.replace(b'"1"', b'"3"')
    for file_format in ("WEBP", "JPEG", "TIFF"):
        options = {"tiffinfo": {700: xmp}} if file_format == "TIFF" else {"xmp": xmp, "lossless": True}
        signal = read(saved(picture, file_format, **options))
        np.testing.assert_allclose(stored(signal)[..., 0].astype(int), np.asarray(picture)[::-1, ::-1], atol=2)  # JPEG
        assert signal.metadata["xmp"] == XMP


def test_the_sideways_cat_stands_upright() -> None:
    signal = read((SAMPLES / "cat-sideways.jpg").read_bytes())
    assert signal.meta.shape == (300, 451)
    blocks = signal.samples[:, :450].reshape(50, 6, 75, 6, 3).mean(axis=(1, 3))
    means = read((SAMPLES / "cat-16bit.png").read_bytes()).samples
    assert np.abs(blocks - means).mean() < 2 / 255  # what JPEG at quality 88 leaves; turned wrongly: > 20 / 255


@pytest.mark.parametrize(
    ("file_format", "dtype"),
    [("png", "u1"), ("png", "u2"), ("tiff", "u1"), ("tiff", "u2"), ("webp", "u1"), ("jpeg", "u1")],
)
def test_icc_exif_and_xmp_go_round(file_format: str, dtype: str) -> None:
    values = random_pixels(3, dtype)
    metadata = {"icc": ICC, "exif": exif_with(1)[6:], "xmp": XMP}
    found = read(image.write(values, meta_of(values), metadata, file_format=file_format)).metadata
    assert found["icc"] == ICC
    assert found["xmp"] == XMP
    if file_format != "tiff":  # there EXIF is not a block of bytes but tags of the file
        assert found["exif"] == metadata["exif"]
    kept = Image.Exif()
    kept.load(found["exif"])
    assert kept[0x13B] == "An artist with a name too long to lie inside the entry"


def test_exif_directories_survive_tiff() -> None:
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9003] = "2020:01:02 03:04:05"
    exif[0x8769] = {0x9003: "2020:01:02 03:04:05", 0x829A: (1, 250)}
    values = random_pixels(3)
    metadata = {"exif": exif.tobytes()}
    found = read(image.write(values, meta_of(values), metadata, file_format="tiff")).metadata["exif"]
    kept = Image.Exif()
    kept.load(found)
    assert kept.get_ifd(0x8769)[0x9003] == "2020:01:02 03:04:05"
    assert read(image.write(values, meta_of(values), {"exif": b"nonsense"}, file_format="tiff")).meta == meta_of(values)


def test_taking_the_orientation_changes_two_bytes_only() -> None:
    exif = exif_with(6)
    turn, taken = orientation.take_exif(exif)
    assert turn == 6 and len(taken) == len(exif) - 6
    assert sum(a != b for a, b in zip(exif[6:], taken, strict=True)) == 1
    for n in range(len(exif)):
        orientation.take_exif(exif[:n])  # raises nothing


def test_exif_too_long_for_jpeg_is_left_out() -> None:
    values = random_pixels(3)
    data = image.write(values, meta_of(values), {"exif": bytes(70_000), "icc": ICC}, file_format="jpeg")
    assert read(data).metadata == {"icc": ICC}


def test_32_bit_containers_of_16_bit_gray_are_read() -> None:
    values = random_pixels(1, "u2")
    signal = read(saved(Image.fromarray(values[..., 0].astype(np.int32)), "TIFF"))
    np.testing.assert_array_equal(stored(signal), values)


def test_the_samples_are_what_their_list_says() -> None:
    listed = {
        line.split("|")[1].strip()
        for line in (SAMPLES / "LICENSES.md").read_text().splitlines()
        if line.startswith("|")
    }
    assert {p.name for p in SAMPLES.iterdir()} - {"LICENSES.md"} <= listed
    facts = {p.name: read(p.read_bytes()).meta for p in SAMPLES.iterdir() if p.suffix in (".png", ".jpg")}
    assert facts["coffee.png"] == SignalMeta("image", (400, 600), 3, "u1", "rgb")
    assert facts["camera.png"] == SignalMeta("image", (512, 512), 1, "u1", "gray")
    assert facts["cat-alpha.png"] == SignalMeta("image", (150, 225), 4, "u1", "rgb+alpha")
    assert facts["cat-16bit.png"] == SignalMeta("image", (50, 75), 3, "u2", "rgb")
    assert facts["tiny.png"] == SignalMeta("image", (40, 48), 3, "u1", "rgb")
