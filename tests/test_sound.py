"""Claims about read, write and info, beside soundfile's own."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from inrcodec.formats.container import InrFile
from inrcodec.formats.files import write_signal

import inrcodec
from inrcodec import sound
from inrcodec.errors import SignalError
from inrcodec.metrics import snr
from inrcodec.settings import DecodeSettings

SAMPLES = Path(__file__).parent.parent / "samples"
RATE = 8000


@pytest.fixture(scope="module")
def stereo() -> np.ndarray:
    data, _ = soundfile.read(SAMPLES / "ambi_choir.flac", frames=6007, dtype="float64")
    return data


def write(data: np.ndarray, **options: Any) -> io.BytesIO:
    file = io.BytesIO()
    inrcodec.write(file, data, RATE, **options)
    file.seek(0)
    return file


@pytest.fixture(scope="module")
def pair(stereo: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Path]]:
    """For each subtype an .inr file, and the WAV file that `inrcodec decode` makes of it."""
    folder = tmp_path_factory.mktemp("pair")
    made = {}
    for subtype in sound.SUBTYPES:
        inr, wav = folder / f"{subtype}.inr", folder / f"{subtype}.wav"
        inrcodec.write(inr, stereo, RATE, subtype=subtype)
        with inrcodec.open(inr) as file:
            write_signal(wav, *file.decode_settings(DecodeSettings()))
        made[subtype] = (inr, wav)
    return made


@pytest.mark.parametrize("dtype", sound.DTYPES)
@pytest.mark.parametrize("subtype", sound.SUBTYPES)
def test_read_gives_what_soundfile_reads_from_the_decoded_wav(
    pair: dict[str, tuple[Path, Path]], subtype: str, dtype: str
) -> None:
    if subtype in ("FLOAT", "DOUBLE") and dtype.startswith("int"):
        pytest.skip("soundfile does not scale floats to integers; we do")
    inr, wav = pair[subtype]
    ours, rate = inrcodec.read(inr, dtype=dtype)
    theirs, their_rate = soundfile.read(wav, dtype=dtype)
    assert (rate, ours.dtype) == (their_rate, theirs.dtype)
    np.testing.assert_array_equal(ours, theirs)


def test_floats_become_integers_at_full_scale(pair: dict[str, tuple[Path, Path]]) -> None:
    floats, _ = inrcodec.read(pair["FLOAT"][0])
    integers, _ = inrcodec.read(pair["FLOAT"][0], dtype="int16")
    np.testing.assert_array_equal(integers, np.rint(floats * 32768).clip(-32768, 32767))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"frames": 100},
        {"frames": 0},
        {"frames": 10**9},
        {"start": 1000},
        {"start": 1000, "frames": 77},
        {"start": 1000, "stop": 1077},
        {"stop": -1000},
        {"start": -500},
        {"start": -500, "frames": 1000},
        {"start": 5000, "stop": 100},
        {"start": 10**6},
    ],
)
def test_ranges_mean_what_they_mean_in_soundfile(pair: dict[str, tuple[Path, Path]], options: dict[str, int]) -> None:
    inr, wav = pair["PCM_16"]
    ours, _ = inrcodec.read(inr, **options)
    if options.get("start", 0) > 6007:
        assert ours.shape == (0, 2)  # soundfile cannot seek there
        return
    theirs, _ = soundfile.read(wav, **options)
    np.testing.assert_array_equal(ours, theirs)


def test_a_span_reads_the_tiles_that_it_touches(monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(np.sin(np.arange(1300) / 9), grid=130)  # tiles of 64, 64 and 2 cells of 10 samples
    whole, _ = inrcodec.read(file)
    asked: list[int] = []
    payload = InrFile.payload
    monkeypatch.setattr(InrFile, "payload", lambda self, i: (asked.append(i), payload(self, i))[1])
    span, _ = inrcodec.read(file, start=700, frames=100)  # cells overlap their neighbours: 69 to 80
    np.testing.assert_allclose(span, whole[700:800], atol=1e-12)
    assert (asked, inrcodec.open(file).header.n_chunks) == ([1], 3)


def test_mono_is_one_axis_unless_two_are_wanted(stereo: np.ndarray) -> None:
    file = write(stereo[:, 0])
    assert inrcodec.read(file)[0].shape == (6007,)
    assert inrcodec.read(file, always_2d=True)[0].shape == (6007, 1)


def test_info_tells_what_soundfile_tells(pair: dict[str, tuple[Path, Path]]) -> None:
    for subtype, (inr, wav) in pair.items():
        ours, theirs = inrcodec.info(inr), soundfile.info(wav)
        for name in ("samplerate", "channels", "frames", "duration", "subtype"):
            assert getattr(ours, name) == getattr(theirs, name), name
        assert (ours.format, ours.subtype, ours.name) == ("INR", subtype, str(inr))


@pytest.mark.parametrize(
    "dtype, subtype", [("int16", "PCM_16"), ("int32", "PCM_32"), ("float32", "FLOAT"), ("float64", "DOUBLE")]
)
def test_the_subtype_is_that_of_the_data(stereo: np.ndarray, dtype: str, subtype: str) -> None:
    data = stereo.astype(dtype) if dtype.startswith("float") else (stereo * np.iinfo(dtype).max).astype(dtype)
    file = write(data)
    assert inrcodec.info(file).subtype == subtype
    decoded, rate = inrcodec.read(file, dtype=dtype)
    assert (decoded.dtype, rate) == (np.dtype(dtype), RATE)
    assert snr(decoded=decoded, original=data) > 10


def test_encode_settings_are_taken(stereo: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "a.inr"
    inrcodec.write(path, stereo, RATE, kbit_per_s=24)
    assert path.stat().st_size <= 24 * 125 * len(stereo) / RATE
    inrcodec.write(path, stereo, RATE, psnr_db=30)  # an existing file is replaced, as with soundfile
    assert snr(decoded=inrcodec.read(path)[0], original=stereo) >= 30 - 1e-3


def test_settings_mean_what_they_mean_to_encode(stereo: np.ndarray) -> None:
    assert inrcodec.open(write(stereo, grid=4)).header.cells == (4,)
    networks = inrcodec.open(write(stereo[:500], partition="grid", grid=4, iterations=2, width=4))
    assert (networks.header.field.arch, networks.header.cells) == ("ensemble", (4,))
    with pytest.raises(FileNotFoundError, match=r"none\.inp"):
        write(stereo, prior="none.inp")


def test_bad_calls_are_refused(stereo: np.ndarray) -> None:
    file = write(stereo)
    with pytest.raises(TypeError, match="frames and stop"):
        inrcodec.read(file, frames=5, stop=9)
    with pytest.raises(ValueError, match="dtype"):
        inrcodec.read(file, dtype="int8")
    with pytest.raises(ValueError, match="subtype"):
        write(stereo, subtype="ULAW")
    with pytest.raises(TypeError, match="qualty"):
        write(stereo, qualty=5)
    with pytest.raises(ValueError, match="samplerate"):
        inrcodec.write(io.BytesIO(), stereo, 0)
    with pytest.raises(SignalError, match="finite"):
        write(np.array([0.0, np.nan]))
    picture = inrcodec.encode(np.zeros((9, 9), np.uint8))
    for call in (inrcodec.read, inrcodec.info):
        with pytest.raises(SignalError, match="picture"):
            call(picture)
