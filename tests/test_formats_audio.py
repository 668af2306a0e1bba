"""Sound files: exact where the format is, and one SignalError for everything broken."""

import io
import struct
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import soundfile
from damaged_files import assert_damage_is_refused_or_read
from inrcodec.formats import audio

from inrcodec.errors import LimitError, SignalError
from inrcodec.signals import Signal, SignalMeta, expand

SAMPLES = Path(__file__).parent.parent / "samples"
LIMIT = 2**28
RANGES = {"u1": (0, 256), "i2": (-(2**15), 2**15), "i3": (-(2**23), 2**23), "i4": (-(2**31), 2**31)}
EXACT = [("wav", t) for t in ("u1", "i2", "i3", "f4")] + [("flac", t) for t in ("i2", "i3")] + [("aiff", "i3")]


def random_sound(sample_type: str, channels: int = 2, n: int = 1031) -> np.ndarray:
    generator = np.random.default_rng(channels)
    if sample_type[0] == "f":
        return (generator.standard_normal((n, channels)) * 1.5).astype(sample_type)  # beyond full scale too
    low, high = RANGES[sample_type]
    values = generator.integers(low, high, (n, channels))
    values[0], values[1] = low, high - 1
    return values.astype({"u1": "u1", "i2": "i2"}.get(sample_type, "i4"))


def meta_of(values: np.ndarray, sample_type: str, rate_hz: int = 44100) -> SignalMeta:
    return SignalMeta("sound", values.shape[:1], values.shape[1], sample_type, sample_rate_hz=rate_hz)


def tone(n: int = 22050, channels: int = 1) -> np.ndarray:
    wave = 0.5 * np.sin(np.arange(n) * 0.05)
    return np.rint(wave[:, None] * 32767 * np.ones(channels)).astype(np.int16)


def read(data: bytes) -> Signal:
    return audio.read(data, max_samples=LIMIT)


@pytest.mark.parametrize(("file_format", "sample_type"), EXACT)
@pytest.mark.parametrize("channels", [1, 2, 8])
def test_lossless_formats_give_back_every_sample(file_format: str, sample_type: str, channels: int) -> None:
    values = random_sound(sample_type, channels)
    meta = meta_of(values, sample_type, 48000)
    signal = read(audio.write(values, meta, {}, file_format=file_format))
    assert signal.meta == meta
    assert signal.samples.dtype == np.float32
    np.testing.assert_array_equal(expand(signal.samples, meta), values)


def test_24_bit_wav_holds_the_bytes_it_should() -> None:
    values = np.array([[1], [-1], [2**23 - 1], [-(2**23)], [0x123456]], np.int32)
    data = audio.write(values, meta_of(values, "i3"), {}, file_format="wav")
    # little-endian two's complement, 3 bytes a sample
    wanted = bytes.fromhex("010000 ffffff ffff7f 000080 563412")
    start = data.index(b"data") + 8
    assert data[start : start + 15] == wanted


@pytest.mark.parametrize("sample_type", ["i4", "f8"])
def test_what_float32_cannot_hold_comes_back_to_24_bits(sample_type: str) -> None:
    values = random_sound(sample_type)
    meta = meta_of(values, sample_type)
    signal = read(audio.write(values, meta, {}, file_format="wav"))
    assert signal.meta == meta
    found = expand(signal.samples, meta)
    np.testing.assert_allclose(found.astype(float), values.astype(float), rtol=2**-24, atol=1)  # float32 rounding


def test_8_bit_flac_comes_back_as_16_bits_of_the_same_value() -> None:
    values = random_sound("u1", 1)
    signal = read(audio.write(values, meta_of(values, "u1"), {}, file_format="flac"))
    assert signal.meta.sample_type == "i2"
    np.testing.assert_array_equal(expand(signal.samples, signal.meta), (values.astype(int) - 128) * 256)


@pytest.mark.parametrize("file_format", ["ogg", "mp3"])
@pytest.mark.parametrize("channels", [1, 2])
def test_lossy_formats_come_near_and_are_16_bits(
    file_format: str, channels: int, capfd: pytest.CaptureFixture[str]
) -> None:
    values = tone(channels=channels)
    signal = read(audio.write(values, meta_of(values, "i2"), {}, file_format=file_format))
    assert signal.meta == meta_of(values, "i2")
    difference = expand(signal.samples, signal.meta)[2000:-2000].astype(float) - values[2000:-2000]
    assert 20 * np.log10(16384 / np.abs(difference).max()) > 20  # dB; a pure tone is coded far better
    assert capfd.readouterr().err == ""


def test_long_ogg_does_not_crash_the_encoder() -> None:
    values = tone(600_000, 2)
    assert read(audio.write(values, meta_of(values, "i2"), {}, file_format="ogg")).meta.shape == (600_000,)


def test_lossy_peaks_above_full_scale_do_not_wrap_around() -> None:
    values = np.where(np.sin(np.arange(44100) / 20) > 0, 32767, -32768).astype(np.int16)[:, None]
    signal = read(audio.write(values, meta_of(values, "i2"), {}, file_format="ogg"))
    assert signal.samples.max() <= 32767 / 32768 and signal.samples.min() >= -1
    assert (np.sign(signal.samples) == np.sign(values)).mean() > 0.95


def test_other_subtypes_are_taken_as_16_bits() -> None:
    for subtype in ("ULAW", "ALAW", "IMA_ADPCM"):
        stream = io.BytesIO()
        soundfile.write(stream, tone(), 8000, format="WAV", subtype=subtype)
        signal = read(stream.getvalue())
        assert (signal.meta.sample_type, signal.meta.sample_rate_hz) == ("i2", 8000)


@pytest.mark.parametrize("file_format", ["wav", "flac", "ogg", "mp3"])
def test_text_tags_go_round(file_format: str) -> None:
    tags = "title=Tïtle = \\\\ two\nartist=Some One\ndate=2001\n".encode()
    values = tone()
    first = read(audio.write(values, meta_of(values, "i2"), {"tags": tags}, file_format=file_format))
    assert first.metadata == {"tags": tags}
    again = read(audio.write(values, meta_of(values, "i2"), first.metadata, file_format=file_format))
    assert again.metadata == first.metadata


def test_tags_of_several_lines_and_nonsense_do_no_harm() -> None:
    values = tone()
    for tags in (b"comment=one\\ntwo \\\\n\n", b"\xff\xfe=\0\n=\nbad\ntitle=\n"):
        found = read(audio.write(values, meta_of(values, "i2"), {"tags": tags}, file_format="flac")).metadata
        assert found == ({"tags": tags} if tags.startswith(b"comment") else {})


def test_a_rewritten_software_tag_does_not_grow() -> None:
    metadata = {"tags": b"software=mine\n"}
    for _ in range(3):
        values = tone(100)
        metadata = read(audio.write(values, meta_of(values, "i2"), metadata, file_format="flac")).metadata
    assert metadata["tags"].count(b"libsndfile") == 1


def test_more_than_eight_channels_is_a_signal_error() -> None:
    stream = io.BytesIO()
    soundfile.write(stream, np.zeros((10, 9)), 8000, format="WAV")
    with pytest.raises(SignalError, match="9 channels"):
        read(stream.getvalue())


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_samples_that_are_not_finite_are_a_signal_error(value: float) -> None:
    values = random_sound("f4")
    values[3, 1] = value
    with pytest.raises(SignalError, match="1 samples that are not finite"):
        read(audio.write(values, meta_of(values, "f4"), {}, file_format="wav"))


def test_a_sound_without_samples_is_a_signal_error() -> None:
    values = tone(0)
    for file_format in ("wav", "flac"):
        with pytest.raises(SignalError):
            read(audio.write(values, meta_of(values, "i2"), {}, file_format=file_format))


def test_the_limit_is_checked_from_the_header() -> None:
    values = tone(500, 2)
    data = audio.write(values, meta_of(values, "i2"), {}, file_format="wav")
    assert audio.read(data, max_samples=1000).meta.n_values == 1000
    with pytest.raises(LimitError, match="999"):
        audio.read(data, max_samples=999)


@pytest.mark.parametrize("file_format", ["wav", "flac", "mp3"])
def test_a_sound_cut_short_is_a_signal_error(file_format: str, capfd: pytest.CaptureFixture[str]) -> None:
    values = tone()
    data = audio.write(values, meta_of(values, "i2"), {}, file_format=file_format)
    for n in [*range(0, 48, 5), len(data) // 3, len(data) // 2, len(data) - 700]:
        with pytest.raises(SignalError) as caught:
            read(data[:n])
        assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""


def test_a_streamed_wav_that_states_no_size_is_read_to_its_end() -> None:
    values = tone(500)
    data = bytearray(audio.write(values, meta_of(values, "i2"), {}, file_format="wav"))
    at = data.index(b"data")
    for size in (0xFFFFFFFF, 0x7FFFFFFF):
        struct.pack_into("<I", data, at + 4, size)
        assert read(bytes(data)).meta.shape == (500,)


@pytest.mark.parametrize("file_format", ["wav", "flac", "ogg", "mp3", "aiff"])
def test_damage_raises_nothing_but_signal_and_limit_errors(file_format: str, capfd: pytest.CaptureFixture[str]) -> None:
    values = tone(3000)
    good = audio.write(values, meta_of(values, "i2"), {}, file_format=file_format)
    assert_damage_is_refused_or_read(good, partial(audio.read, max_samples=10**6), times=100, within=300)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    "data", [b"", b"text" * 50, b"\xff\xfb\x90" + b"xyz" * 300, b"fLaC" + bytes(99), b"RIFF1234WAVE"]
)
def test_what_is_no_sound_is_a_signal_error(data: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SignalError):
        read(data)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("file_format", "sample_type", "channels", "rate_hz"),
    [
        ("flac", "f4", 1, 8000),
        ("flac", "i4", 1, 8000),
        ("mp3", "i2", 3, 44100),
        ("mp3", "i2", 1, 12345),
        ("mp3", "i2", 1, 96000),
        ("ogg", "i2", 1, 300_000),
        ("flac", "i2", 1, 1_000_000),
    ],
)
def test_formats_that_cannot_hold_the_sound_name_one_that_can(
    file_format: str, sample_type: str, channels: int, rate_hz: int
) -> None:
    values = random_sound(sample_type, channels, 50)
    with pytest.raises(ValueError, match="wav"):
        audio.write(values, meta_of(values, sample_type, rate_hz), {}, file_format=file_format)


def test_the_samples_are_what_their_list_says() -> None:
    mono = read((SAMPLES / "guit_harmonics.flac").read_bytes()).meta
    assert mono == SignalMeta("sound", (155_773,), 1, "i2", sample_rate_hz=44100)
    stereo = read((SAMPLES / "ambi_choir.flac").read_bytes()).meta
    assert stereo == SignalMeta("sound", (69_305,), 2, "i2", sample_rate_hz=44100)
