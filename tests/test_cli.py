"""Claims about the command line: what it writes, what it says, and how it ends."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import soundfile
from inrcodec.cli.decode import decode as decode_command
from inrcodec.cli.encode import encode as encode_command
from inrcodec.cli.main import COMMANDS, main
from PIL import Image

import inrcodec
from inrcodec.metrics import psnr, snr

ROOT = Path(__file__).parent.parent
SAMPLES = ROOT / "samples"
ENV = {**os.environ, "OMP_NUM_THREADS": "1"}


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str


Cli = Callable[..., Outcome]


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    """Runs one command line in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(line: str | Sequence[str]) -> Outcome:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(shlex.split(line) if isinstance(line, str) else [str(part) for part in line])
        out, err = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return Outcome(ended.value.code, out, err)

    return run


def process(args: Sequence[object], folder: Path, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "inrcodec", *(str(part) for part in args)]
    return subprocess.run(command, cwd=folder, input=stdin, capture_output=True, env=ENV, timeout=120, check=False)


def sample(name: str, to: str | None = None) -> str:
    """Copy a sample to the current folder."""
    shutil.copy(SAMPLES / name, to or name)
    return to or name


def ok(outcome: Outcome) -> Outcome:
    assert outcome.code == 0, outcome.err
    return outcome


def pixels(path: str | Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def quality(inr: str, original: str) -> float:
    """PSNR in dB of what a file decodes to, beside an 8-bit original."""
    return psnr(decoded=inrcodec.open(inr).decode(), original=pixels(original), peak=255)


def test_the_three_commands_work_as_written(cli: Cli) -> None:
    shutil.copy(SAMPLES / "coffee.png", "photo.png")
    before = Path("photo.png").read_bytes()
    ok(cli("inrcodec encode photo.png -o photo.inr --grid 16".removeprefix("inrcodec ")))
    ok(cli("decode photo.inr --scale 2"))
    shown = ok(cli("info photo.inr")).out
    assert Path("photo.png").read_bytes() == before, "the original must not be replaced"
    assert pixels("photo@2x.png").shape == (800, 1200, 3)
    assert "16 × 16 cells" in shown and "600 × 400" in shown


def test_without_a_file_in_the_way_the_output_has_the_source_s_name(cli: Cli) -> None:
    sample("tiny.png")
    ok(cli("encode tiny.png"))
    Path("tiny.png").unlink()
    ok(cli("decode tiny.inr --scale 2"))
    assert pixels("tiny.png").shape == (80, 96, 3)


@pytest.mark.parametrize("width, height", [(1023, 767), (97, 53), (16, 16)])
def test_a_grid_of_16_divides_any_size_of_at_least_16(cli: Cli, width: int, height: int) -> None:
    y, x = np.mgrid[:height, :width]
    Image.fromarray(((x * 3 + y * 5) % 256).astype(np.uint8)).save("odd.png")
    ok(cli("encode odd.png --grid 16"))
    facts = json.loads(ok(cli("info odd.inr --json")).out)
    assert facts["grid"] == [16, 16]
    ok(cli("decode odd.inr -o back.png"))
    assert pixels("back.png").shape == (height, width)


# --- what may go wrong: arguments, exit code, and words that the one line has to have

ERRORS: dict[str, tuple[str, int, str]] = {
    "no command": ("", 2, "Usage"),
    "unknown command": ("transmogrify x", 2, "transmogrify"),
    "unknown option": ("encode tiny.png --frobnicate", 2, "--frobnicate"),
    "no source": ("encode", 2, "SRC"),
    "missing file": ("encode nope.png", 5, "nope.png: no such file"),
    "missing .inr": ("decode nope.inr", 5, "nope.inr: no such file"),
    "folder": ("encode folder", 5, "folder: is a directory; -r"),
    "folder to decode": ("decode folder", 5, "folder: is a directory; -r"),
    "empty folder": ("encode -r folder", 2, "folder"),
    "empty file": ("encode empty.png", 2, "empty.png: empty file"),
    "empty .inr": ("decode nothing.inr", 2, "nothing.inr: empty file"),
    "text named .png": ("encode text.png", 2, "text.png: not a picture"),
    "text without suffix": ("encode text", 2, "text: "),
    "truncated PNG": ("encode short.png", 2, "short.png: truncated"),
    "array of zero size": ("encode zero.npy", 2, "zero.npy: "),
    "array with NaN": ("encode nan.npy", 2, "nan.npy: "),
    "array of objects": ("encode objects.npy", 2, "objects.npy: "),
    "missing output folder": ("encode tiny.png -o nowhere/x.inr", 5, "nowhere: no such folder"),
    "output below a file": ("encode tiny.png -o text/x.inr", 5, "text"),
    "output in /proc": ("encode tiny.png -o /proc/x.inr", 5, "/proc/x.inr"),
    "full device": ("encode tiny.png -o /dev/full", 5, "/dev/full: no space left"),
    "existing output": ("encode tiny.png -o text", 2, "text: exists; -f"),
    "existing decode": ("decode tiny.inr", 2, "tiny.png: exists; -f"),
    "output is the input": ("encode tiny.png -o tiny.png -f", 2, "tiny.png is the input"),
    "output is the input, spelled otherwise": ("encode tiny.png -o ./folder/../tiny.png -f", 2, "is the input"),
    ".inr to encode": ("encode tiny.inr", 2, "tiny.inr: an .inr file already"),
    "JPEG to decode": ("decode photo.jpg", 2, "photo.jpg: not an .inr file"),
    "INRIMAGE-4": ("decode medical.inr", 4, "medical.inr: an INRIMAGE-4"),
    "newer version": ("info newer.inr", 4, "newer.inr: "),
    "cut off": ("decode cut.inr -o x.png", 2, "cut.inr: truncated"),
    "damaged": ("verify flipped.inr", 2, "flipped.inr: "),
    "two targets": ("encode tiny.png -q 50 --psnr 30", 2, "--quality and --psnr exclude"),
    "size and rate": ("encode tiny.png --bpp 1 --target-size 1k", 2, "exclude"),
    "quality out of range": ("encode tiny.png -q 101", 2, "0 to 100"),
    "quality no number": ("encode tiny.png -q high", 2, "high"),
    "size no size": ("encode tiny.png --target-size 10parsec", 2, "10parsec"),
    "bitrate of a picture": ("encode tiny.png --bitrate 32 -o x.inr", 2, "tiny.png: --bitrate belongs to sounds"),
    "too many cells": ("encode tiny.png --grid 64 -o x.inr", 2, "tiny.png: --grid 64"),
    "grid no grid": ("encode tiny.png --grid 4by4 -o x.inr", 2, "--grid 4by4"),
    "ensemble of cosines": ("encode tiny.png --arch ensemble --body cosine", 2, "ensemble"),
    "width of cosines": ("encode tiny.png --width 8", 2, "--width"),
    "metadata of no kind": ("encode tiny.png --metadata gps", 2, "gps"),
    "strip and metadata": ("encode tiny.png --strip --metadata icc", 2, "exclude"),
    "force and no-overwrite": ("encode tiny.png -f -n", 2, "exclude"),
    "unreachable size": ("encode tiny.png --target-size 20 -o x.inr", 5, "tiny.png: 20 bytes cannot be reached"),
    "many to one": ("encode tiny.png photo.jpg -o x.inr", 2, "need a folder"),
    "many to stdout": ("encode tiny.png photo.jpg -o -", 2, "standard output"),
    "two of one name": ("encode tiny.png folder/../tiny.png -o out/", 2, "both become"),
    "input too large": ("encode tiny.png --max-pixels 100 -o x.inr", 3, "limit 100"),
    "output too large": ("decode tiny.inr --scale 9999 -o x.png", 3, "limit"),
    "scale and size": ("decode tiny.inr --scale 2 --size 9x9", 2, "exclude"),
    "scale of zero": ("decode tiny.inr --scale 0", 2, "--scale"),
    "scale not a number": ("decode tiny.inr --scale nan -o x.png", 2, "--scale"),
    "size no size of a picture": ("decode tiny.inr --size 9", 2, "--size 9"),
    "size of zero": ("decode tiny.inr --size 0x9", 2, "--size"),
    "crop outside": ("decode tiny.inr --crop 40,0,20,20 -o x.png", 2, "outside"),
    "crop of nothing": ("decode tiny.inr --crop 0,0,0,5", 2, "--crop"),
    "crop no crop": ("decode tiny.inr --crop 1,2,3", 2, "--crop"),
    "rate of a picture": ("decode tiny.inr --rate 8000 -o x.png", 2, "tiny.inr: --rate belongs to sounds"),
    "start in a picture": ("decode tiny.inr --start 1 -o x.png", 2, "belong to sounds"),
    "wrong kind of output": ("decode tiny.inr -o x.wav", 2, "wav cannot hold a picture"),
    "unknown kind of output": ("decode tiny.inr -o x.xyz", 2, ".xyz"),
    "unknown format of a stream": ("decode tiny.inr -o xyz:-", 2, "xyz"),
    "depth of nothing": ("decode tiny.inr --depth 12", 2, "12"),
    "compare unlike": ("compare tiny.png photo.jpg", 2, "wanted image"),
    "some of several": ("encode tiny.png nope.png -o out/", 1, "nope.png: no such file"),
    "bench of nothing": ("bench nope/ --peers none", 2, "nope"),
}


@pytest.fixture
def wrecks(cli: Cli) -> Cli:
    """A folder of things to stumble over."""
    sample("tiny.png")
    Image.new("RGB", (64, 64), "red").save("photo.jpg")
    ok(cli("encode tiny.png --quiet"))
    data = Path("tiny.inr").read_bytes()
    Path("folder").mkdir()
    Path("empty.png").touch()
    Path("nothing.inr").touch()
    for name in ("text.png", "text"):
        Path(name).write_text("This is a text, whatever its name.\n")
    Path("short.png").write_bytes(Path("tiny.png").read_bytes()[:2000])
    np.save("zero.npy", np.zeros((0, 3)))
    np.save("nan.npy", np.array([1.0, np.nan]))
    np.save("objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    Path("medical.inr").write_bytes(b"#INRIMAGE-4#{\nXDIM=4\n".ljust(256, b"\n"))
    Path("newer.inr").write_bytes(with_major_version(data, 9))
    Path("cut.inr").write_bytes(data[: len(data) // 2])
    Path("flipped.inr").write_bytes(data[:200] + bytes([data[200] ^ 1]) + data[201:])
    return cli


def with_major_version(data: bytes, major: int) -> bytes:
    """The header's payload starts with the major version; its CRC is made right again."""
    import struct
    import zlib

    n = struct.unpack_from("<I", data, 8)[0]
    head = data[8:16] + bytes([major]) + data[17 : 16 + n]
    return data[:8] + head + struct.pack("<I", zlib.crc32(head)) + data[20 + n :]


@pytest.mark.parametrize("name", ERRORS)
def test_each_error_is_one_line_and_the_documented_code_and_loses_nothing(wrecks: Cli, name: str) -> None:
    line, code, words = ERRORS[name]
    before = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    outcome = wrecks(line)
    assert outcome.code == code, outcome.err
    assert words in outcome.err
    assert "Traceback" not in outcome.err
    lines = outcome.err.strip().splitlines()
    failures = [text for text in lines if text.startswith("inrcodec")]
    assert len(failures) == 1 or name == "no command"
    assert len(lines) == (2 if name == "some of several" else len(lines) if name == "no command" else 1)
    assert outcome.out == ""
    after = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    assert before.items() <= after.items()
    left = set(after) - set(before)
    assert left == ({Path("out/tiny.inr")} if name == "some of several" else set())


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="permissions do not bind this user")
def test_a_folder_that_cannot_be_written_is_said_before_the_work(cli: Cli) -> None:
    sample("tiny.png")
    Path("locked").mkdir(mode=0o555)
    outcome = cli("encode tiny.png -o locked/x.inr")
    assert (outcome.code, "locked: not writable" in outcome.err) == (5, True)


def test_an_existing_output_is_refused_before_the_work(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    sample("tiny.png")
    Path("tiny.inr").touch()
    monkeypatch.setattr("inrcodec.api.encode_signal", lambda *_: pytest.fail("worked in vain"))
    assert cli("encode tiny.png").code == 2


def test_a_bug_of_ours_is_one_line_too(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise KeyError("lost")

    sample("tiny.png")
    monkeypatch.setattr("inrcodec.api.encode_signal", broken)
    outcome = cli("encode tiny.png")
    assert outcome.code == 70 and outcome.err.count("\n") == 1 and "INRCODEC_DEBUG" in outcome.err


# --- options of encode


def test_force_overwrites_and_no_overwrite_leaves_alone(cli: Cli) -> None:
    sample("tiny.png")
    Path("tiny.inr").write_bytes(b"old")
    said = ok(cli("encode tiny.png -n")).err
    assert "left alone" in said and Path("tiny.inr").read_bytes() == b"old"
    ok(cli("encode tiny.png -f"))
    assert Path("tiny.inr").read_bytes().startswith(b"\x89INR")


def test_quality_is_monotone_in_bytes_and_psnr(cli: Cli) -> None:
    sample("cat-sideways.jpg")
    original = "upright.png"
    ok(cli("encode cat-sideways.jpg -o exact.inr -q 100"))
    ok(cli(f"decode exact.inr -o {original}"))
    curve = []
    for q in (0, 20, 40, 60, 75, 90, 100):
        ok(cli(f"encode {original} -o q.inr -q {q} -f"))
        curve.append((Path("q.inr").stat().st_size, quality("q.inr", original)))
    sizes, qualities = zip(*curve, strict=True)
    assert sorted(set(sizes)) == list(sizes)
    assert sorted(set(qualities)) == list(qualities)


@pytest.mark.parametrize("n_bytes", [4000, 12000])
def test_a_target_size_is_met_within_3_percent_and_never_passed(cli: Cli, n_bytes: int) -> None:
    sample("cat-alpha.png")
    ok(cli(f"encode cat-alpha.png --target-size {n_bytes / 1000:g}k"))
    assert 0.97 * n_bytes <= Path("cat-alpha.inr").stat().st_size <= n_bytes


@pytest.mark.parametrize("tune", ["psnr", "perceptual"])
def test_a_psnr_is_met_within_a_tenth_at_or_above(cli: Cli, tune: str) -> None:
    sample("camera.png")
    ok(cli(f"encode camera.png --psnr 33 --tune {tune}"))
    assert 33 <= quality("camera.inr", "camera.png") <= 33.1


def test_bits_per_pixel_are_kept(cli: Cli) -> None:
    sample("camera.png")
    ok(cli("encode camera.png --bpp .5"))
    assert 0.97 * 0.5 <= 8 * Path("camera.inr").stat().st_size / 512**2 <= 0.5


def test_a_bitrate_is_kept(cli: Cli) -> None:
    sample("ambi_choir.flac")
    ok(cli("encode ambi_choir.flac --bitrate 48"))
    sound = soundfile.info("ambi_choir.flac")
    assert 0.97 * 48 <= 8 * Path("ambi_choir.inr").stat().st_size / sound.duration / 1000 <= 48


def test_the_figures_said_are_those_of_the_file(cli: Cli) -> None:
    sample("camera.png")
    said = ok(cli("encode camera.png -v")).err
    n = Path("camera.inr").stat().st_size
    assert f"{8 * n / 512**2:.2f} bpp" in said
    assert f"{quality('camera.inr', 'camera.png'):.1f} dB" in said
    assert "cells" in said


def test_tune_psnr_beats_perceptual_in_psnr_at_equal_bytes(cli: Cli) -> None:
    sample("camera.png")
    for tune in ("psnr", "perceptual"):
        ok(cli(f"encode camera.png -o {tune}.inr --tune {tune} --target-size 16k"))
    assert quality("psnr.inr", "camera.png") > quality("perceptual.inr", "camera.png")


@pytest.mark.parametrize("options", ["--entropy zstd", "--entropy range", "--no-verify", "--grid 3x2", "--device cpu"])
def test_options_of_encode_make_files_that_verify(cli: Cli, options: str) -> None:
    sample("tiny.png")
    ok(cli(f"encode tiny.png {options}"))
    facts = json.loads(ok(cli("info tiny.inr --json")).out)
    if "entropy" in options:
        assert facts["entropy"] == options.split()[1]
    if "grid" in options:
        assert facts["grid"] == [2, 3]
    assert ok(cli("verify tiny.inr")).out == "tiny.inr: ok\n"


@pytest.mark.parametrize("arch, body", [("multihead", "siren"), ("multihead", "relu"), ("ensemble", "siren")])
def test_learned_bodies_go_the_same_road(cli: Cli, arch: str, body: str) -> None:
    pytest.importorskip("torch")
    sample("tiny.png")
    line = f"encode tiny.png --arch {arch} --body {body} --grid 2 --width 8 --depth 1 --bits 6 --iterations 20 --seed 3"
    ok(cli(f"{line} --device cpu --time-limit 60"))
    first = Path("tiny.inr").read_bytes()
    facts = json.loads(ok(cli("info tiny.inr --json")).out)
    assert (facts["arch"], facts["body"]) == (arch, body)
    ok(cli("verify tiny.inr"))
    ok(cli("decode tiny.inr --scale 2 -o two.png"))
    assert pixels("two.png").shape == (80, 96, 3)
    ok(cli(f"{line} --device cpu -f"))
    assert Path("tiny.inr").read_bytes() == first, "the same seed must give the same file"


def test_metadata_is_kept_chosen_or_stripped(cli: Cli) -> None:
    sample("cat-sideways.jpg", "cat.jpg")
    kept = {}
    for name, options in {"all": "", "icc": "--metadata icc", "none": "--metadata none", "strip": "--strip"}.items():
        ok(cli(f"encode cat.jpg -o {name}.inr --bpp .5 {options}"))
        kept[name] = set(inrcodec.open(f"{name}.inr").metadata())
    assert kept == {"all": {"icc", "exif"}, "icc": {"icc"}, "none": set(), "strip": set()}
    ok(cli("decode all.inr -o all.png"))
    with Image.open("all.png") as image:
        assert image.size == (451, 300), "the orientation is applied to the pixels"
        assert image.getexif().get(0x0112, 1) == 1
        with Image.open("cat.jpg") as original:
            assert image.info["icc_profile"] == original.info["icc_profile"]


@pytest.mark.parametrize("jobs", ["", "-j 2"])
def test_several_sources_go_to_a_folder(cli: Cli, jobs: str) -> None:
    names = [sample(name) for name in ("tiny.png", "cat-16bit.png", "cat-alpha.png")]
    said = ok(cli(f"encode {' '.join(names)} -o made/ {jobs}")) if not jobs else None
    if jobs:  # the lines of other processes do not pass through sys.stderr
        done = process(["encode", *names, "-o", "made/", "-j", "2"], Path())
        assert done.returncode == 0
        assert done.stderr.count(b"\n") == 3
    assert said is None or said.err.count("\n") == 3
    assert sorted(path.name for path in Path("made").iterdir()) == ["cat-16bit.inr", "cat-alpha.inr", "tiny.inr"]
    ok(cli("decode made/tiny.inr made/cat-alpha.inr -o back/"))
    assert pixels("back/cat-alpha.png").shape == (150, 225, 4)


def test_processes_make_the_same_bytes_and_one_failure_is_code_1(cli: Cli) -> None:
    names = [sample(name) for name in ("tiny.png", "cat-16bit.png")]
    ok(cli(["encode", *names, "-o", "one/"]))
    done = process(["encode", *names, "nope.png", "-o", "two/", "--jobs", "2"], Path())
    assert done.returncode == 1
    assert b"inrcodec: nope.png: no such file" in done.stderr
    for path in Path("one").iterdir():
        assert path.read_bytes() == (Path("two") / path.name).read_bytes()


def test_recursive_takes_folders_as_they_are(cli: Cli) -> None:
    Path("in/deep").mkdir(parents=True)
    sample("tiny.png", "in/a.png")
    sample("tiny.png", "in/deep/b.PNG")
    Path("in/notes.txt").write_text("left out")
    ok(cli("encode -r in -o out/"))
    assert sorted(str(p) for p in Path("out").rglob("*.inr")) == ["out/a.inr", "out/deep/b.inr"]
    assert ok(cli("info -r out --json")).out.count("\n") == 2
    assert ok(cli("verify -r out")).out.count(": ok\n") == 2
    ok(cli("decode -r out"))
    assert pixels("out/deep/b.png").shape == (40, 48, 3)


def test_quiet_says_nothing_and_progress_says_more(cli: Cli) -> None:
    sample("tiny.png")
    assert ok(cli("encode tiny.png --quiet")).err == ""
    assert ok(cli("decode tiny.inr -o x.png --quiet")).err == ""
    assert ok(cli("encode tiny.png -f --psnr 35 --progress")).err.count("\n") > 1
    assert ok(cli("encode tiny.png -f --no-progress")).err.count("\n") == 1


# --- options of decode


@pytest.fixture
def tiny(cli: Cli) -> Cli:
    sample("tiny.png", "source.png")
    ok(cli("encode source.png -o tiny.inr --quiet"))
    return cli


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


# --- streams


def test_streams_go_in_and_out(tmp_path: Path) -> None:
    source = (SAMPLES / "tiny.png").read_bytes()
    encoded = process(["encode", "-", "-o", "-"], tmp_path, source)
    assert encoded.returncode == 0
    assert encoded.stdout == inrcodec.encode(SAMPLES / "tiny.png")
    assert process(["info", "-"], tmp_path, encoded.stdout).stdout.startswith(b"-\n")
    for output, head in (("-", b"\x89PNG"), ("png:-", b"\x89PNG"), ("jpg:-", b"\xff\xd8\xff"), ("webp:-", b"RIFF")):
        decoded = process(["decode", "-", "-o", output, "--size", "20x10"], tmp_path, encoded.stdout)
        assert decoded.returncode == 0, decoded.stderr
        assert decoded.stdout.startswith(head)
        with Image.open(io.BytesIO(decoded.stdout)) as image:
            assert image.size == (20, 10)
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(sys.platform == "win32", reason="needs /dev/full and SIGPIPE")
def test_a_reader_that_went_away_or_a_full_disk_leaves_no_traceback(tmp_path: Path) -> None:
    inr = tmp_path / "a.inr"
    inr.write_bytes(inrcodec.encode(SAMPLES / "tiny.png"))
    for line, said in (("| true", ""), ("> /dev/full", "inrcodec: no space left on device\n")):
        for command in (f"info {inr}", f"decode {inr} -o -", "-h"):
            script = f"{shlex.quote(sys.executable)} -m inrcodec {command} {line}"
            done = subprocess.run(script, shell=True, capture_output=True, text=True, env=ENV, check=False, timeout=60)
            assert done.stderr.replace("standard output: ", "") in (said, "" if line == "| true" else said)


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize("jobs", [1, 2])
def test_ctrl_c_ends_with_130_and_keeps_the_old_file(tmp_path: Path, jobs: int) -> None:
    pytest.importorskip("torch")
    for name in ("a", "b"):
        shutil.copy(SAMPLES / "tiny.png", tmp_path / f"{name}.png")
        (tmp_path / f"{name}.inr").write_bytes(b"old")
    options = ["--body", "siren", "--iterations", "10000000", "--device", "cpu", "-f", "-j", str(jobs)]
    # tests may run in the background of a shell, where Ctrl-C is ignored, which children inherit
    script = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from inrcodec.cli.main import main; main()"
    )
    command = [sys.executable, "-c", script, "encode", "a.png", "b.png", *options, "--progress", "-o", "./"]
    running = subprocess.Popen(
        command,
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        env=ENV,
        start_new_session=True,
    )
    try:
        assert running.stderr is not None
        if jobs == 1:
            assert b"fit" in running.stderr.readline()
        else:
            time.sleep(4)  # other processes show no progress; any moment will do
        os.killpg(running.pid, signal.SIGINT)  # what a terminal does
        _, rest = running.communicate(timeout=60)
    finally:
        if running.poll() is None:
            os.killpg(running.pid, signal.SIGKILL)
            running.communicate()
    assert running.returncode == 130
    assert b"inrcodec: interrupted\n" in rest and b"Traceback" not in rest
    assert {p.name: p.read_bytes() for p in tmp_path.glob("*.inr")} == {"a.inr": b"old", "b.inr": b"old"}
    assert len(list(tmp_path.iterdir())) == 4, "no stray files"


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_killed_jobs_leave_no_process_behind(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    names = [shutil.copy(SAMPLES / "tiny.png", tmp_path / f"{name}.png").name for name in "ab"]
    options = ["--body", "siren", "--iterations", "10000000", "--device", "cpu", "-j", "2"]
    command = [sys.executable, "-m", "inrcodec", "encode", *names, *options, "-o", "./"]
    running = subprocess.Popen(command, cwd=tmp_path, env=ENV, stderr=subprocess.PIPE, start_new_session=True)
    time.sleep(4)
    running.kill()
    # children hold the pipe open until they have ended
    _, said = running.communicate(timeout=30)
    assert b"Traceback" not in said
    assert not list(tmp_path.glob("*.inr"))


# --- info, verify, compare, help

INFO_KEYS = {
    *("file", "kind", "shape", "channels", "colour", "sample_type", "bits_per_sample", "bytes", "bits_per_position"),
    *("quality_db", "quality_metric", "arch", "body", "grid", "cell_samples", "parameters", "macs_per_sample"),
    *("segments", "entropy", "levels", "metadata", "sections", "digest", "encoder", "truncated"),
}


def test_the_keys_of_info_are_promises(tiny: Cli) -> None:
    facts = json.loads(ok(tiny("info tiny.inr --json")).out)
    assert set(facts) >= INFO_KEYS, "keys are added, never renamed"
    assert (facts["kind"], facts["shape"], facts["bytes"]) == ("image", [40, 48], Path("tiny.inr").stat().st_size)
    assert sum(s["bytes"] + 12 for s in facts["sections"]) + 8 == facts["bytes"]
    sample("ambi_choir.flac")
    ok(tiny("encode ambi_choir.flac"))
    facts = json.loads(ok(tiny("info ambi_choir.inr --json")).out)
    assert {*INFO_KEYS, "sample_rate_hz", "duration_s", "kbit_per_s"} <= set(facts)


def test_compare_measures_files_of_any_kind(tiny: Cli) -> None:
    facts = json.loads(ok(tiny("compare source.png tiny.inr --json")).out)
    assert {"a", "b", "a_bytes", "b_bytes", "kind", "psnr_db", "ssim"} <= set(facts)
    assert facts["psnr_db"] == pytest.approx(quality("tiny.inr", "source.png"), abs=1e-4)
    assert "identical" in ok(tiny("compare source.png source.png")).out
    assert json.loads(ok(tiny("compare source.png source.png --json")).out)["psnr_db"] is None
    sample("ambi_choir.flac")
    ok(tiny("encode ambi_choir.flac"))
    assert "SNR" in ok(tiny("compare ambi_choir.flac ambi_choir.inr")).out


def loaded_by(line: str, folder: Path) -> set[str]:
    """Which of the heavy modules a command line imports."""
    script = (
        f"import sys\nfrom inrcodec.cli.main import main\ntry: main({shlex.split(line)!r})\nexcept SystemExit as e:"
        "\n    assert e.code == 0, e.code\n"
        "heavy = {'numpy', 'torch', 'PIL', 'soundfile', 'rich', 'skimage', 'scipy', 'constriction', 'zstandard'}\n"
        "print('loaded', *sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=folder, capture_output=True, text=True, env=ENV, check=False
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.splitlines()[-1].split()[1:])


def test_help_version_and_info_import_nothing_heavy(tiny: Cli) -> None:
    for line in ("-h", "-V", "info tiny.inr", "info tiny.inr --json", *(f"{name} -h" for name in COMMANDS)):
        assert loaded_by(line, Path()) == set(), line


def test_the_default_body_encodes_decodes_and_verifies_without_torch(tiny: Cli) -> None:
    for line in ("encode source.png -o x.inr", "decode tiny.inr --scale 2", "verify tiny.inr"):
        assert not loaded_by(line, Path()) & {"torch", "skimage", "soundfile"}, line


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_examples_and_a_version(cli: Cli, name: str) -> None:
    shown = ok(cli(f"{name} -h")).out
    assert f"inrcodec {name} " in shown.partition("Usage")[2].partition("\n")[2], "examples"
    assert ok(cli(f"{name} --help")).out == shown
    assert "0.1.0" in ok(cli(f"{name} -V")).out or inrcodec.__version__ in ok(cli(f"{name} -V")).out


@pytest.mark.parametrize("command", [encode_command, decode_command])
def test_examples_in_help_use_options_that_exist(command: object) -> None:
    import click

    assert isinstance(command, click.Command) and command.help
    known = {option for parameter in command.params for option in parameter.opts}
    used = set(re.findall(r"(?<=\s)--?[a-z][a-z-]*", command.help))
    assert used and used <= known


# --- README


def readme_commands() -> list[str]:
    """Lines that start with inrcodec, in the fenced sh blocks of README.md."""
    blocks = re.findall(r"^```(?:sh|bash|console)\n(.*?)^```", (ROOT / "README.md").read_text(), re.M | re.S)
    lines = (line.strip().removeprefix("$ ") for block in blocks for line in block.replace("\\\n", " ").splitlines())
    return [line for line in lines if line.startswith("inrcodec ")]


def test_the_commands_in_the_readme_run(tmp_path: Path) -> None:
    lines = readme_commands()
    assert len(lines) >= 10
    for path in SAMPLES.iterdir():
        shutil.copy(path, tmp_path)
    shutil.copytree(SAMPLES, tmp_path / "samples")
    shutil.copy(SAMPLES / "coffee.png", tmp_path / "photo.png")
    shutil.copy(SAMPLES / "cat-sideways.jpg", tmp_path / "photo.jpg")
    for name in ("talk", "sound", "song"):
        soundfile.write(tmp_path / f"{name}.wav", *soundfile.read(SAMPLES / "ambi_choir.flac"))
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    (bin_folder / "inrcodec").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m inrcodec "$@"\n')
    (bin_folder / "inrcodec").chmod(0o755)
    env = {**ENV, "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}"}
    for line in lines:
        done = subprocess.run(line, shell=True, cwd=tmp_path, capture_output=True, text=True, env=env, check=False)
        assert done.returncode == 0, f"{line}\n{done.stderr}"


def test_a_target_that_cannot_be_filled_is_said(cli: Cli) -> None:
    Image.new("RGB", (100, 100), (90, 120, 40)).save("flat.png")
    done = cli("encode flat.png --target-size 60k")
    assert done.code == 0
    assert "60,000 bytes were asked for" in done.err


def test_verify_has_the_limit_of_the_other_commands(cli: Cli) -> None:
    Image.new("RGB", (40, 30)).save("p.png")
    assert cli("encode p.png").code == 0
    assert cli("verify p.inr --max-pixels 100").code == 3
    assert cli("verify p.inr --max-pixels 3600").code == 0
