"""What may go wrong on the command line: one line that names the cause, the documented exit code, nothing lost."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest
from command_line import Cli, ok, sample
from PIL import Image

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
