"""Claims about the options of inrcodec encode."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import soundfile
from command_line import Cli, ok, pixels, process, quality, sample
from PIL import Image

import inrcodec


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
    line = re.search(r"codes: ([\d,]+) bytes, ([\d.]+) → ([\d.]+) → ([\d.]+) dB .* worth (\d+)%, in", said)
    assert line, said
    size, *steps, worth = line.groups()
    assert 0 <= int(size.replace(",", "")) - n <= 2  # before the quality was written into it
    assert steps == sorted(steps)
    assert 2 < int(worth) < 20


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
