"""Claims about the options of inrcodec decode."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from command_line import Cli, ok, pixels, sample

import inrcodec
from inrcodec.metrics import psnr, snr


@pytest.mark.parametrize(
    "options, shape",
    [
        ("", (40, 48)),
        ("--scale 1", (40, 48)),
        ("--scale 2.5", (100, 120)),
        ("--scale .3", (12, 14)),
        ("--size 31x57", (57, 31)),
        ("--crop 5,7,20,11", (11, 20)),
        ("--scale 2 --crop 5,7,20,11", (11, 20)),
    ],
)
def test_decode_gives_the_size_asked_for(tiny: Cli, options: str, shape: tuple[int, int]) -> None:
    ok(tiny(f"decode tiny.inr -o out.png {options}"))
    assert pixels("out.png").shape == (*shape, 3)


def test_a_crop_equals_the_crop_of_the_whole(tiny: Cli) -> None:
    ok(tiny("decode tiny.inr -o whole.png --scale 3"))
    ok(tiny("decode tiny.inr -o part.png --scale 3 --crop 31,17,50,60"))
    np.testing.assert_array_equal(pixels("part.png"), pixels("whole.png")[17:77, 31:81])


def test_scale_1_is_the_encoder_s_own_reconstruction(tiny: Cli) -> None:
    ok(tiny("decode tiny.inr -o out.png --scale 1"))
    said = json.loads(ok(tiny("info tiny.inr --json")).out)["quality_db"]
    assert psnr(decoded=pixels("out.png"), original=pixels("source.png"), peak=255) == pytest.approx(said, abs=1e-3)


@pytest.mark.parametrize("suffix", ["png", "tiff", "bmp", "webp"])
def test_the_suffix_chooses_the_format(tiny: Cli, suffix: str) -> None:
    ok(tiny(f"decode tiny.inr -o out.{suffix}"))
    ok(tiny("decode tiny.inr -o again.png"))
    np.testing.assert_array_equal(pixels(f"out.{suffix}"), pixels("again.png"))


def test_depth_changes_the_bits_per_sample(tiny: Cli) -> None:
    ok(tiny("decode tiny.inr -o deep.png --depth 16"))
    deep = inrcodec.encode("deep.png")
    assert inrcodec.open(deep).info()["bits_per_sample"] == 16
    sample("cat-16bit.png")
    ok(tiny("encode cat-16bit.png"))
    ok(tiny("decode cat-16bit.inr -o flat.png --depth 8"))
    assert pixels("flat.png").dtype == np.uint8


def test_a_file_that_was_cut_off_decodes_with_partial(cli: Cli) -> None:
    sample("coffee.png")
    ok(cli("encode coffee.png"))
    data = Path("coffee.inr").read_bytes()
    Path("cut.inr").write_bytes(data[: int(0.7 * len(data))])
    assert cli("decode cut.inr -o cut.png").code == 2
    outcome = ok(cli("decode cut.inr -o cut.png --partial"))
    assert "cut off" in outcome.err
    assert psnr(decoded=pixels("cut.png"), original=pixels("coffee.png"), peak=255) > 20  # a whole, soft picture
    assert json.loads(ok(cli("info cut.inr --partial --json")).out)["truncated"] is True


def test_sounds_have_rates_and_durations(cli: Cli) -> None:
    sample("guit_harmonics.flac")
    ok(cli("encode guit_harmonics.flac -o sound.inr"))
    ok(cli("decode sound.inr"))
    sound, rate = soundfile.read("sound.wav", always_2d=True)
    original, _ = soundfile.read("guit_harmonics.flac", always_2d=True)
    assert (rate, sound.shape) == (44100, original.shape)
    said = json.loads(ok(cli("info sound.inr --json")).out)["quality_db"]
    assert snr(decoded=sound, original=original) == pytest.approx(said, abs=1e-3)
    ok(cli("decode sound.inr -o half.wav --rate 22050"))
    half, rate = soundfile.read("half.wav", always_2d=True)
    assert (rate, len(half)) == (22050, round(len(sound) / 2))
    ok(cli("decode sound.inr -o part.flac --start .5 --duration .25"))
    part, _ = soundfile.read("part.flac", always_2d=True)
    np.testing.assert_array_equal(part, sound[22050 : 22050 + 11025])
    ok(cli("decode sound.inr -o rest.flac --start .5 --duration inf"))
    np.testing.assert_array_equal(soundfile.read("rest.flac", always_2d=True)[0], sound[22050:])
    for wrong in ("--start nan", "--start -1", "--start 1e9", "--duration 0", "--duration nan"):
        outcome = cli(f"decode sound.inr -o no.wav {wrong}")
        assert (outcome.code, wrong.split()[0] in outcome.err) == (2, True)


def test_arrays_come_back_as_arrays(cli: Cli) -> None:
    values = np.random.default_rng(1).normal(size=(9, 10, 11)).cumsum(0).astype(np.float32)
    np.save("a.npy", values)
    ok(cli("encode a.npy -q 95 -o b.inr"))
    ok(cli("decode b.inr"))
    back = np.load("b.npy")
    assert (back.shape, back.dtype) == (values.shape, values.dtype)
    assert psnr(decoded=back, original=values, peak=float(np.ptp(values))) > 35  # quality 95 of a rough cube
