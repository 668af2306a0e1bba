"""Claims about the Python face: what goes in comes back, wherever it is evaluated."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import inrcodec
from inrcodec import api
from inrcodec.errors import FormatError, LimitError, SignalError, TargetError, UnsupportedError
from inrcodec.metrics import psnr, snr
from inrcodec.settings import EncodeSettings
from inrcodec.signals import Signal

SAMPLES = Path(__file__).parent.parent / "samples"


def smooth(*shape: int, seed: int = 0) -> np.ndarray:
    """float64 in [0, 1], with something to see at every place and in every channel."""
    axes = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    rng = np.random.default_rng(seed)
    waves = sum(np.sin(x * rng.uniform(0.05, 0.4) + rng.uniform(0, 6)) for x in axes)
    return np.asarray(0.5 + 0.45 * waves / len(shape))


def picture(*shape: int, dtype: type = np.uint8) -> np.ndarray:
    return np.rint(smooth(*shape) * np.iinfo(dtype).max).astype(dtype)


def tone(*shape: int, dtype: type = np.int16) -> np.ndarray:
    n, channels = shape[0], shape[1:]
    wave = 0.8 * np.sin(2 * np.pi * 440 * np.arange(n) / 8000)
    wave = wave.reshape(n, *(1 for _ in channels)) * np.ones(shape)
    if np.dtype(dtype).kind == "f":
        return wave.astype(dtype)
    return (np.rint(wave * (np.iinfo(dtype).max // 2 * 2)) if dtype != np.uint8 else 128 + 100 * wave).astype(dtype)


# (what goes in, sample rate, shape that comes back)
CASES: dict[str, tuple[np.ndarray, int, tuple[int, ...]]] = {
    "gray": (picture(37, 53), 0, (37, 53)),
    "gray with an axis for it": (picture(37, 53, 1), 0, (37, 53)),
    "gray and alpha": (picture(37, 53, 2), 0, (37, 53, 2)),
    "colour": (picture(37, 53, 3), 0, (37, 53, 3)),
    "colour and alpha": (picture(37, 53, 4), 0, (37, 53, 4)),
    "16-bit gray": (picture(37, 53, dtype=np.uint16), 0, (37, 53)),
    "16-bit colour": (picture(37, 53, 3, dtype=np.uint16), 0, (37, 53, 3)),
    "one pixel": (picture(1, 1, 3), 0, (1, 1, 3)),
    "one row": (picture(1, 97, 3), 0, (1, 97, 3)),
    "mono": (tone(2003), 8000, (2003,)),
    "stereo": (tone(2003, 2), 8000, (2003, 2)),
    "eight channels": (tone(503, 8), 8000, (503, 8)),
    "32-bit sound": (tone(2003, dtype=np.int32), 8000, (2003,)),
    "8-bit sound": (tone(2003, dtype=np.uint8), 8000, (2003,)),
    "float sound": (tone(2003, 2, dtype=np.float32), 8000, (2003, 2)),
    "double sound": (tone(2003, dtype=np.float64), 8000, (2003,)),
    "line": (smooth(97) * 7 - 3, 0, (97,)),
    "plane": (smooth(37, 53).astype(np.float32), 0, (37, 53)),
    "cube": (smooth(11, 13, 17), 0, (11, 13, 17)),
    "cube of vectors": (smooth(11, 13, 17, 2), 0, (11, 13, 17, 2)),
    "integers": ((smooth(37, 53) * 1e6).astype(np.int64) - 500, 0, (37, 53)),
    "booleans": (smooth(37, 53) > 0.5, 0, (37, 53)),
    "halves": (smooth(37, 53).astype(np.float16), 0, (37, 53)),
}
GEOMETRY = ("gray", "colour", "colour and alpha", "16-bit colour", "stereo", "line", "cube of vectors")


@pytest.mark.parametrize("name", CASES)
def test_everything_comes_back_with_its_type_and_shape(name: str) -> None:
    values, rate, shape = CASES[name]
    before = values.copy()
    file = inrcodec.open(inrcodec.encode(values, sample_rate_hz=rate, quality=90))
    decoded = file.decode()
    assert (decoded.shape, decoded.dtype) == (shape, values.dtype)
    assert file.header.signal.sample_rate_hz == rate
    np.testing.assert_array_equal(values, before)
    if values.dtype != bool and values.size > 10:
        # quality 90 of something smooth; 8-bit sound is bound by its own rounding
        span = float(np.ptp(values.astype(np.float64)))
        assert psnr(decoded=decoded.reshape(values.shape), original=values, peak=span) > 30


def test_every_shape_of_region_of_every_kind_is_the_crop_of_the_whole() -> None:
    rng = np.random.default_rng(5)
    for name in GEOMETRY:
        values, rate, _ = CASES[name]
        file = inrcodec.open(inrcodec.encode(values, sample_rate_hz=rate))
        image = file.header.signal.kind == "image"
        for scale in (1, 0.6, 2.3):
            whole = file.decode(scale=scale)
            n_axes = len(file.header.signal.shape)
            for _ in range(4):
                spans = [sorted(rng.choice(n + 1, 2, replace=False).tolist()) for n in whole.shape[:n_axes]]
                cut = tuple(slice(a, b) for a, b in spans)
                if image:
                    (y, y2), (x, x2) = spans
                    region: tuple[int, ...] = (x, y, x2 - x, y2 - y)
                else:
                    region = tuple(v for a, b in spans for v in (a, b - a))
                part = file.decode(scale=scale, region=region)
                said = f"{name}, scale {scale}, region {region}"
                # integers are equal; floats up to the order in which a matrix product of another size adds
                atol = 1e-12 * float(np.abs(whole).max()) if whole.dtype.kind == "f" else 0
                np.testing.assert_allclose(part, whole[cut], rtol=0, atol=atol, err_msg=said)


@pytest.mark.parametrize("name", GEOMETRY)
def test_decode_at_scale_1_is_what_the_encoder_measured(name: str) -> None:
    values, rate, _ = CASES[name]
    file = inrcodec.open(inrcodec.encode(values, sample_rate_hz=rate))
    decoded = file.decode(scale=1)
    np.testing.assert_array_equal(decoded, file.decode())
    original, meta = api.as_signal(values, sample_rate_hz=rate).samples, file.header.signal
    from inrcodec.signals import normalise

    again = normalise(decoded.reshape(*meta.shape, meta.channels), meta)
    n = meta.channels - meta.alpha
    measure = snr if meta.kind == "sound" else lambda **pair: psnr(**pair, peak=1.0)
    found = measure(decoded=again[..., :n], original=original[..., :n])
    assert found == pytest.approx(file.info()["quality_db"], abs=0.6e-3)  # stored in 1/1000 dB


@pytest.mark.parametrize("name", GEOMETRY)
@pytest.mark.parametrize("scale", [1, 2])
def test_sampled_points_are_the_decode_before_rounding(name: str, scale: int) -> None:
    values, rate, _ = CASES[name]
    file = inrcodec.open(inrcodec.encode(values, sample_rate_hz=rate))
    meta = file.header.signal
    decoded = file.decode(scale=scale).reshape(*(scale * n for n in meta.shape), meta.channels)
    rng = np.random.default_rng(7)
    index = np.stack([rng.integers(0, scale * n, 50) for n in meta.shape], axis=1)
    sampled = file.sample((index + 0.5) / scale, scale=scale)
    stored = decoded[tuple(index.T)].astype(np.float64)
    full = {"u1": 255.0, "u2": 65535.0, "i2": 32768.0}.get(meta.sample_type, 1.0)
    low, high = {"image": (0.0, 1.0), "sound": (-1.0, 32767 / 32768)}.get(meta.kind, (-np.inf, np.inf))
    # half a step of rounding, and float32
    atol = (0.5 / full if full > 1 else 0.0) + 3e-6 * max(1.0, float(np.abs(values).max()) if full == 1 else 1.0)
    np.testing.assert_allclose(np.clip(sampled, low, high), stored / full, rtol=0, atol=atol)


def test_size_is_width_by_height_and_scales_each_axis() -> None:
    file = inrcodec.open(inrcodec.encode(picture(37, 53, 3)))
    assert file.decode(size=(91, 20)).shape == (20, 91, 3)
    np.testing.assert_array_equal(file.decode(size=(106, 74)), file.decode(scale=2))


def test_a_sound_at_twice_the_rate_is_the_same_sound() -> None:
    file = inrcodec.open(inrcodec.encode(tone(2003), sample_rate_hz=8000, quality=95))
    np.testing.assert_array_equal(file.decode(rate_hz=16000), file.decode(scale=2))
    assert file.decode(rate_hz=4000).shape == (1002,)


def test_downscaling_averages_instead_of_aliasing() -> None:
    """A checkerboard of single pixels is gray from afar; picking every fourth pixel would make it black or white."""
    y, x = np.mgrid[:64, :64]
    file = inrcodec.open(inrcodec.encode(((x + y) % 2 * 255).astype(np.uint8), quality=95))
    small = file.decode(scale=0.25).astype(int)
    assert np.abs(small - 127.5).max() < 16


def test_upscaling_shows_no_seams_at_cell_borders() -> None:
    """Of a smooth picture: the second difference across borders is no larger than elsewhere."""
    ramp = np.rint(smooth(96, 96) * 60 + 100).astype(np.uint8)
    file = inrcodec.open(inrcodec.encode(ramp, grid="6", quality=60))
    points = np.stack(np.meshgrid(np.arange(4, 92, 0.25), [50.0], indexing="ij"), -1).reshape(-1, 2)
    bend = np.abs(np.diff(file.sample(points)[:, 0], 2))
    borders = [round((16 * k - 4) / 0.25) - 1 for k in range(1, 6)]
    at_borders = max(float(bend[b - 2 : b + 3].max()) for b in borders)
    assert at_borders < 2 * bend.max() * 0.75 + 1e-3 and bend.max() < 0.01  # of [0, 1], a quarter of a pixel apart


def test_bytes_paths_and_open_files_are_the_same(tmp_path: Path) -> None:
    data = inrcodec.encode(SAMPLES / "tiny.png")
    assert data == inrcodec.encode(str(SAMPLES / "tiny.png"))
    path = tmp_path / "a.inr"
    path.write_bytes(data)
    expected = inrcodec.open(data).decode()
    for source in (path, str(path), io.BytesIO(data), bytearray(data), memoryview(data)):
        with inrcodec.open(source) as file:
            np.testing.assert_array_equal(file.decode(), expected)
    with inrcodec.open(path) as file:
        pass
    with pytest.raises(ValueError, match="closed"):
        file.decode()


def test_a_pil_image_is_a_picture_with_its_metadata() -> None:
    with Image.open(SAMPLES / "cat-sideways.jpg") as image:
        data = inrcodec.encode(image, quality=50)
        assert inrcodec.open(data).metadata()["icc"] == image.info["icc_profile"]
        assert inrcodec.open(data).decode().shape == (image.height, image.width, 3)
        palette = inrcodec.encode(image.convert("P"), quality=50)
    assert inrcodec.open(palette).decode().ndim == 3


@pytest.mark.parametrize("kinds, kept", [("all", {"icc", "exif"}), ("none", set()), ("exif", {"exif"})])
def test_metadata_is_kept_or_stripped(kinds: str, kept: set[str]) -> None:
    data = inrcodec.encode(SAMPLES / "cat-sideways.jpg", metadata=kinds, quality=20)
    file = inrcodec.open(data)
    assert set(file.metadata()) == kept
    assert file.decode().shape == (300, 451, 3), "the orientation is applied to the pixels"


def test_a_signal_with_xmp_and_tags_keeps_every_byte() -> None:
    signal = api.as_signal(picture(20, 20))
    metadata = {"icc": bytes(range(256)), "exif": b"II*\0", "xmp": b"<x:xmpmeta/>", "tags": b"title=\xc3\xa4\n"}
    made = api.encode_signal(Signal(signal.samples, signal.meta, metadata), EncodeSettings())
    assert inrcodec.open(made.data).metadata() == metadata


def test_the_size_target_counts_metadata_too() -> None:
    data = inrcodec.encode(SAMPLES / "cat-sideways.jpg", target_bytes=9000)
    assert 0.97 * 9000 <= len(data) <= 9000
    with pytest.raises(TargetError, match="reached"):
        inrcodec.encode(SAMPLES / "tiny.png", target_bytes=30)


def test_encoding_twice_gives_the_same_bytes() -> None:
    assert inrcodec.encode(SAMPLES / "tiny.png") == inrcodec.encode(SAMPLES / "tiny.png")


REFUSALS: dict[str, tuple[Callable[[], object], type[Exception], str]] = {
    "unknown setting": (lambda: inrcodec.encode(picture(9, 9), qualty=75), ValueError, "qualty"),
    "empty array": (lambda: inrcodec.encode(np.zeros((0, 3))), SignalError, "empty"),
    "NaN": (lambda: inrcodec.encode(np.array([0.0, np.nan])), SignalError, "finite"),
    "NaN in a sound": (lambda: inrcodec.encode(np.array([0.0, np.nan]), sample_rate_hz=8000), SignalError, "finite"),
    "text": (lambda: inrcodec.open(b"some text, not a file"), FormatError, "magic"),
    "nothing": (lambda: inrcodec.open(b""), FormatError, "empty"),
    "INRIMAGE-4": (lambda: inrcodec.open(b"#INRIMAGE-4#{\n"), UnsupportedError, "INRIMAGE"),
    "missing file": (lambda: inrcodec.open("/no/such/file.inr"), FileNotFoundError, "file.inr"),
    "metadata": (lambda: inrcodec.encode(picture(9, 9), metadata="gps"), ValueError, "gps"),
    "negative rate": (lambda: inrcodec.encode(np.zeros(9), sample_rate_hz=-5), ValueError, "sample rate -5"),
    "rate in between": (lambda: inrcodec.encode(np.zeros(9), sample_rate_hz=0.5), ValueError, "sample rate 0.5"),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("name", REFUSALS)
def test_bad_calls_and_bad_files_raise_their_own_error(name: str) -> None:
    call, error, words = REFUSALS[name]
    with pytest.raises(error, match=words):
        call()


BAD_DECODES: dict[str, tuple[dict[str, object], type[Exception]]] = {
    "region outside": ({"region": (0, 0, 60, 10)}, ValueError),
    "region empty": ({"region": (0, 0, 0, 10)}, ValueError),
    "region of a sound": ({"region": (0, 10)}, ValueError),
    "scale and size": ({"scale": 2, "size": (10, 10)}, ValueError),
    "negative scale": ({"scale": -1}, ValueError),
    "infinite scale": ({"scale": float("inf")}, ValueError),
    "rate of a picture": ({"rate_hz": 8000}, ValueError),
    "size of three axes": ({"size": (1, 2, 3)}, ValueError),
    "too large": ({"scale": 20000}, LimitError),
    "over a limit of one's own": ({"max_samples": 1000}, LimitError),
}


@pytest.mark.parametrize("name", BAD_DECODES)
def test_bad_decodes_are_refused_before_work(name: str) -> None:
    options, error = BAD_DECODES[name]
    file = inrcodec.open(inrcodec.encode(picture(37, 53)))
    with pytest.raises(error):
        file.decode(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize("coords", [[[0, 0, 0]], [0, 0], [[np.nan, 0]], [[np.inf, 0]]])
def test_bad_coordinates_are_refused(coords: object) -> None:
    with pytest.raises(ValueError, match="coords"):
        inrcodec.open(inrcodec.encode(picture(37, 53))).sample(np.array(coords, float))


def test_points_outside_the_picture_have_finite_values() -> None:
    file = inrcodec.open(inrcodec.encode(picture(37, 53)))
    assert np.isfinite(file.sample(np.array([[-5.0, -5.0], [1e6, 20.0], [18.0, -1e9]]))).all()
    assert file.sample(np.zeros((0, 2))).shape == (0, 1)


def test_verify_finds_what_the_checksums_do_not_cover_and_what_they_do() -> None:
    data = inrcodec.encode(SAMPLES / "tiny.png")
    inrcodec.open(data).verify()
    for at in (len(data) // 2, len(data) - 8):
        damaged = data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :]
        with pytest.raises(FormatError):
            inrcodec.open(damaged).verify()


def test_encoded_reports_what_the_file_is() -> None:
    steps = []
    made = api.encode_signal(api.as_signal(SAMPLES / "tiny.png"), EncodeSettings(psnr_db=34), steps.append)
    file = inrcodec.open(made.data)
    assert made.header == file.header
    original = np.asarray(Image.open(SAMPLES / "tiny.png"))
    assert psnr(decoded=file.decode(), original=original, peak=255) == pytest.approx(made.quality_db, abs=1e-3)
    assert steps and steps[-1].stage == "done"


def test_a_grid_may_be_a_number() -> None:
    assert inrcodec.encode(picture(37, 53), grid=4) == inrcodec.encode(picture(37, 53), grid="4")


@pytest.mark.parametrize("values", [np.full((5, 5), 1e300), np.linspace(0, 1e-310, 25).reshape(5, 5)])
def test_arrays_beyond_single_precision_are_identical_to_themselves(tmp_path: Path, values: np.ndarray) -> None:
    path = str(tmp_path / "a.npy")
    np.save(path, values)
    assert api.compare(path, path)["psnr_db"] == np.inf


def test_compare_has_ssimulacra2_of_pictures_that_are_large_enough(tmp_path: Path) -> None:
    pytest.importorskip("ssimulacra2")
    path = tmp_path / "gray.png"
    Image.fromarray(picture(130, 150)).save(path)
    assert api.compare(str(path), str(path))["ssimulacra2"] == 100


def test_a_partition_into_networks_is_refused_where_there_is_one_body() -> None:
    with pytest.raises(ValueError, match="--partition grid needs --arch ensemble"):
        inrcodec.encode(picture(20, 20), partition="grid", arch="multihead")
    assert inrcodec.encode(picture(20, 20), partition=None) == inrcodec.encode(picture(20, 20))


def test_compare_is_about_files_of_one_shape(tmp_path: Path) -> None:
    one, two = tmp_path / "one.png", tmp_path / "two.inr"
    Image.fromarray(picture(37, 53, 3)).save(one)
    two.write_bytes(inrcodec.encode(one))
    facts = api.compare(str(one), str(two))
    assert facts["psnr_db"] == pytest.approx(inrcodec.open(two).info()["quality_db"], abs=0.01)
    assert 0.9 < facts["ssim"] <= 1
    assert facts["ssimulacra2"] is None  # of so small a picture it would mean nothing
    two.write_bytes(inrcodec.encode(picture(9, 9, 3)))
    with pytest.raises(ValueError, match="wanted image"):
        api.compare(str(one), str(two))
